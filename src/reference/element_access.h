// Reading and writing single elements of [N, C, D, H, W] tensors for the reference loops, in double
// whatever the dtype, and walking over all positions of a tensor in row-major order.
#pragma once

#include <cstdint>
#include <limits>

#include "core/tensor5.h"

namespace cenote::reference {

/// Record of a maximum that no element gave.
constexpr std::int64_t kNoElement = -1;

template <class Void>
std::int64_t offset_of(const BasicTensor5<Void>& tensor, const Array5& position) {
  std::int64_t offset = 0;
  for (std::size_t axis = 0; axis < position.size(); ++axis) offset += position[axis] * tensor.stride[axis];
  return offset;
}

inline double load(const ConstTensor5& tensor, const Array5& position) {
  const std::int64_t offset = offset_of(tensor, position);
  if (tensor.dtype == DType::f32) return static_cast<const float*>(tensor.data)[offset];
  return static_cast<const double*>(tensor.data)[offset];
}

inline void store(const Tensor5& tensor, const Array5& position, double value) {
  const std::int64_t offset = offset_of(tensor, position);
  if (tensor.dtype == DType::f32) {
    static_cast<float*>(tensor.data)[offset] = static_cast<float>(value);
  } else {
    static_cast<double*>(tensor.data)[offset] = value;
  }
}

/// A recorded index or tap; all bits set reads as kNoElement in every dtype.
inline std::int64_t load_record(const ConstTensor5& tensor, const Array5& position) {
  const std::int64_t offset = offset_of(tensor, position);
  if (tensor.dtype == DType::i64) return static_cast<const std::int64_t*>(tensor.data)[offset];
  if (tensor.dtype == DType::u8) {
    const std::uint8_t tap = static_cast<const std::uint8_t*>(tensor.data)[offset];
    return tap == std::numeric_limits<std::uint8_t>::max() ? kNoElement : tap;
  }
  const std::uint16_t tap = static_cast<const std::uint16_t*>(tensor.data)[offset];
  return tap == std::numeric_limits<std::uint16_t>::max() ? kNoElement : tap;
}

/// kNoElement becomes all bits set in every dtype.
inline void store_record(const Tensor5& tensor, const Array5& position, std::int64_t record) {
  const std::int64_t offset = offset_of(tensor, position);
  if (tensor.dtype == DType::i64) {
    static_cast<std::int64_t*>(tensor.data)[offset] = record;
  } else if (tensor.dtype == DType::u8) {
    static_cast<std::uint8_t*>(tensor.data)[offset] = static_cast<std::uint8_t>(record);
  } else {
    static_cast<std::uint16_t*>(tensor.data)[offset] = static_cast<std::uint16_t>(record);
  }
}

/// Calls visit(position) for every [n, c, d, h, w] with n, c as given and the rest below `size`.
template <class Visit>
void for_each_in_plane(const Array5& size, std::int64_t n, std::int64_t c, const Visit& visit) {
  for (std::int64_t d = 0; d < size[2]; ++d) {
    for (std::int64_t h = 0; h < size[3]; ++h) {
      for (std::int64_t w = 0; w < size[4]; ++w) visit(Array5{n, c, d, h, w});
    }
  }
}

/// Calls visit(n, c) for every plane.
template <class Visit>
void for_each_plane(const Array5& size, const Visit& visit) {
  for (std::int64_t n = 0; n < size[0]; ++n) {
    for (std::int64_t c = 0; c < size[1]; ++c) visit(n, c);
  }
}

}  // namespace cenote::reference
