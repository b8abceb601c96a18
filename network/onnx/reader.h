// Reads .onnx models and .pb tensors. The only part of cenote that knows protobuf.
//
// Files are hostile: the size of a file is bounded before it is read, and what a tensor announces must match
// the bytes that are there before anything of that size is allocated. Both functions throw cenote::Error:
// kBadFile for what is damaged or breaks the format, kUnsupported for what is legal but not read here
// (strings, complex numbers, segments, data in other files, sparse tensors), kIo when reading fails.
#pragma once

#include <cstdint>
#include <filesystem>

#include "network/onnx/model.h"

namespace cenote::network::onnx {

/// A pooling graph is small; the limit also bounds what protobuf makes of it, up to 130 times the file.
constexpr std::uint64_t kMaxModelBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kMaxTensorBytes = std::uint64_t{64} << 20;

Model read_model(const std::filesystem::path& path);
Value read_tensor(const std::filesystem::path& path);

}  // namespace cenote::network::onnx
