// The two 16-bit floating-point types, as storage: they convert to and from float and compute nothing.
#pragma once

#include <bit>
#include <cstdint>

namespace cenote {

/// IEEE 754 binary16. Conversion from float rounds to nearest, ties to even.
struct Float16 {
  std::uint16_t bits = 0;

  Float16() = default;
  explicit Float16(float value) {
    const auto wide = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (wide >> 16) & 0x8000U;
    const std::uint32_t magnitude = wide & 0x7FFFFFFFU;
    std::uint32_t half = 0;
    if (magnitude > 0x7F800000U) {  // NaN: quiet, the upper part of the payload
      half = 0x7E00U | ((magnitude >> 13) & 0x3FFU);
    } else if (magnitude >= 0x47800000U) {  // 2^16 and more
      half = 0x7C00U;
    } else if (magnitude >= 0x38800000U) {  // normal; rounding up may carry into the exponent, or to infinity
      const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
      half = (rounded - 0x38000000U) >> 13;
    } else {  // subnormal: adding 1/2 aligns the last bit kept with float's last bit, and rounds
      const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
      half = std::bit_cast<std::uint32_t>(aligned) - 0x3F000000U;
    }
    bits = static_cast<std::uint16_t>(sign | half);
  }

  explicit operator float() const {
    const std::uint32_t sign = (bits & 0x8000U) << 16;
    const std::uint32_t magnitude = bits & 0x7FFFU;
    if (magnitude >= 0x7C00U) return std::bit_cast<float>(sign | 0x7F800000U | ((magnitude & 0x3FFU) << 13));
    if (magnitude >= 0x0400U) return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000U));
    const float value = static_cast<float>(magnitude) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
};

/// The upper half of a float. Conversion from float rounds to nearest, ties to even.
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto wide = std::bit_cast<std::uint32_t>(value);
    const bool nan = (wide & 0x7FFFFFFFU) > 0x7F800000U;
    const std::uint32_t rounded = wide + 0x7FFFU + ((wide >> 16) & 1U);
    bits = static_cast<std::uint16_t>(nan ? (wide >> 16) | 0x40U : rounded >> 16);
  }

  explicit operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
};

}  // namespace cenote
