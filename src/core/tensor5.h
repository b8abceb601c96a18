// What the backends work on: every tensor seen as [N, C, D, H, W], missing axes with size 1.
// Sizes and strides are checked before; the strides count elements.
#pragma once

#include <array>
#include <cstdint>

#include "cenote/tensor.h"

namespace cenote {

using Array5 = std::array<std::int64_t, 5>;

template <class Void>
struct BasicTensor5 {
  Void* data = nullptr;
  DType dtype = DType::f32;
  Array5 size{1, 1, 1, 1, 1};
  Array5 stride{0, 0, 0, 0, 0};
  std::int64_t first_channel = 0;  // in the tensor that this is a part of
  std::int64_t first_image = 0;    // likewise, along N
};

using Tensor5 = BasicTensor5<void>;
using ConstTensor5 = BasicTensor5<const void>;

}  // namespace cenote
