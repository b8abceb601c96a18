// Where outputs of 32 MiB and more live. From there on the C library takes memory from the system for each
// tensor and gives it back with it, so that every output is faulted in and cleared again, which takes longer
// than the pooling that fills it. Here the memory of freed outputs is kept for later ones, in huge pages.
#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>

namespace cenote::torch_ops {

/// glibc's largest threshold for taking an allocation from the system.
constexpr std::size_t kLargeBytes = std::size_t{32} << 20;

/// For tensors of kLargeBytes or more.
c10::Allocator* large_memory();

}  // namespace cenote::torch_ops
