// Reading and writing single elements of [N, C, D, H, W] tensors for the reference loops, in double (i64
// as it is) whatever the dtype, and walking over all positions of a tensor in row-major order.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/tensor5.h"

namespace cenote::reference {

/// Record of a maximum that no element gave.
constexpr std::int64_t kNoElement = -1;

/// One rounding from double: a float that lies halfway between two 16-bit values moves to the side of
/// `value`.
template <class Half>
Half round_to(double value) {
  auto rounded = static_cast<float>(value);
  const double back = rounded;
  if (back != value && !std::isnan(value) && !std::isinf(rounded)) {
    const auto bits = std::bit_cast<std::uint32_t>(rounded);
    // Round to odd: the last bit records that something was cut off.
    const bool beyond = std::abs(back) > std::abs(value);
    rounded = std::bit_cast<float>((beyond ? bits - 1 : bits) | 1U);
  }
  return Half(rounded);
}

template <class Void>
std::int64_t offset_of(const BasicTensor5<Void>& tensor, const Array5& position) {
  std::int64_t offset = 0;
  for (std::size_t axis = 0; axis < position.size(); ++axis) offset += position[axis] * tensor.stride[axis];
  return offset;
}

/// Calls visit(pointer to the element at `position`), typed.
template <class Void, class Visit>
auto visit_element(const BasicTensor5<Void>& tensor, const Array5& position, const Visit& visit) {
  const std::int64_t offset = offset_of(tensor, position);
  const auto at = [&]<class T>(T*) {
    using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;
    return visit(static_cast<Element*>(tensor.data) + offset);
  };
  switch (tensor.dtype) {
    case DType::f64:
      return at(static_cast<double*>(nullptr));
    case DType::f16:
      return at(static_cast<Float16*>(nullptr));
    case DType::bf16:
      return at(static_cast<BFloat16*>(nullptr));
    case DType::i8:
      return at(static_cast<std::int8_t*>(nullptr));
    case DType::u8:
      return at(static_cast<std::uint8_t*>(nullptr));
    case DType::i32:
      return at(static_cast<std::int32_t*>(nullptr));
    case DType::i64:
      return at(static_cast<std::int64_t*>(nullptr));
    default:
      return at(static_cast<float*>(nullptr));
  }
}

/// As Value: double, or std::int64_t for i64, which double does not hold exactly.
template <class Value>
Value load(const ConstTensor5& tensor, const Array5& position) {
  return visit_element(tensor, position, []<class T>(const T* element) {
    if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>) {
      return static_cast<Value>(static_cast<float>(*element));
    } else {
      return static_cast<Value>(*element);  // NOLINT(bugprone-signed-char-misuse): i8 is a number
    }
  });
}

/// Rounded to the dtype: to nearest for floating types; towards zero and to the ends of the range for
/// integers.
template <class Value>
void store(const Tensor5& tensor, const Array5& position, Value value) {
  visit_element(tensor, position, [&]<class T>(T* element) {
    if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>) {
      *element = round_to<T>(static_cast<double>(value));
    } else if constexpr (std::is_floating_point_v<T> || std::is_same_v<T, Value>) {
      *element = static_cast<T>(value);
    } else {
      // NOLINTNEXTLINE(bugprone-signed-char-misuse): i8 is a number
      constexpr auto kLowest = static_cast<Value>(std::numeric_limits<T>::lowest());
      constexpr auto kHighest = static_cast<Value>(std::numeric_limits<T>::max());
      *element = static_cast<T>(std::clamp(value, kLowest, kHighest));
    }
  });
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
