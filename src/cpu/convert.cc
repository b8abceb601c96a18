// Between dtypes on the CPU: rows along the axis whose elements are neighbours.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/convert.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include <limits>
#include <type_traits>

#include "backend.h"
#include "cpu/rows-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Vectors of binary16: AVX2 and later convert in hardware.
#undef CENOTE_HALF_VECTORS
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
#define CENOTE_HALF_VECTORS 1
#else
#define CENOTE_HALF_VECTORS 0
#endif

template <class T>
constexpr bool kIsHalf = std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

/// One element; integers towards zero and to the ends of their range.
template <class To, class From>
HWY_INLINE To convert_one(From value) {
  if constexpr (kIsHalf<To>) {
    return To(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, std::int64_t> && std::is_floating_point_v<From>) {
    constexpr From kBeyond = 0x1p63;  // the highest value and 1
    if (value >= kBeyond) return std::numeric_limits<To>::max();
    return value < -kBeyond ? std::numeric_limits<To>::lowest() : static_cast<To>(value);
  } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    constexpr auto kLowest = static_cast<From>(std::numeric_limits<To>::lowest());
    constexpr auto kHighest = static_cast<From>(std::numeric_limits<To>::max());
    const From least = value < kLowest ? kLowest : value;
    return static_cast<To>(static_cast<std::int32_t>(least > kHighest ? kHighest : least));
  } else {
    return static_cast<To>(value);
  }
}

/// bfloat16 in integers, so that the loop vectorises.
HWY_INLINE std::uint16_t upper_half(float value) {
  const auto wide = std::bit_cast<std::uint32_t>(value);
  const bool nan = (wide & 0x7FFFFFFFU) > 0x7F800000U;
  const std::uint32_t rounded = wide + 0x7FFFU + ((wide >> 16) & 1U);
  return static_cast<std::uint16_t>((nan ? wide | 0x400000U : rounded) >> 16);
}

/// Elements that the loop below converts by whole vectors; the rest is left to the caller.
template <class To, class From>
std::int64_t ConvertVectors([[maybe_unused]] const From* from, [[maybe_unused]] To* to,
                            [[maybe_unused]] std::int64_t count, [[maybe_unused]] bool reverse) {
  std::int64_t i = 0;
#if CENOTE_HALF_VECTORS
  const hn::CappedTag<float, 8> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> dh;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto flip = hn::Set(d, reverse ? -0.0F : 0.0F);
  if constexpr (std::is_same_v<From, Float16> && std::is_same_v<To, float>) {
    for (; i + lanes <= count; i += lanes) {
      const auto halves = hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(from + i));
      hn::StoreU(hn::Xor(hn::PromoteTo(d, halves), flip), d, to + i);
    }
  }
  if constexpr (std::is_same_v<To, Float16> && std::is_same_v<From, float>) {
    for (; i + lanes <= count; i += lanes) {
      const auto halves = hn::DemoteTo(dh, hn::Xor(hn::LoadU(d, from + i), flip));
      hn::StoreU(halves, dh, reinterpret_cast<hwy::float16_t*>(to + i));
    }
  }
#endif
  return i;
}

template <class To, class From>
void ConvertRow(const From* from, std::int64_t from_stride, To* to, std::int64_t to_stride,
                std::int64_t count, bool reverse) {
  const auto one = [reverse](From value) HWY_ATTR -> To {
    if constexpr (kIsHalf<From>) {
      const auto wide = static_cast<float>(value);
      return convert_one<To>(reverse ? -wide : wide);
    } else if constexpr (std::is_integral_v<From>) {
      const auto wide = static_cast<To>(value);
      return reverse ? -wide : wide;
    } else {
      return convert_one<To>(reverse ? -value : value);
    }
  };
  if (from_stride != 1 || to_stride != 1) {
    for (std::int64_t i = 0; i < count; ++i) to[i * to_stride] = one(from[i * from_stride]);
    return;
  }
  if constexpr (std::is_same_v<To, BFloat16> && std::is_same_v<From, float>) {
    for (std::int64_t i = 0; i < count; ++i) to[i].bits = upper_half(reverse ? -from[i] : from[i]);
    return;
  }
  for (std::int64_t i = ConvertVectors(from, to, count, reverse); i < count; ++i) to[i] = one(from[i]);
}

template <class To, class From>
void ConvertTensor(const Tensor5& to, const ConstTensor5& from, bool reverse) {
  const auto& size = to.size;
  if (to.stride[1] == 1 && size[1] > 1) {
    for (std::int64_t n = 0; n < size[0]; ++n)
      for (std::int64_t d = 0; d < size[2]; ++d)
        for (std::int64_t h = 0; h < size[3]; ++h)
          for (std::int64_t w = 0; w < size[4]; ++w)
            ConvertRow(row_of<const From>(from, n, 0, d, h) + w * from.stride[4], from.stride[1],
                       row_of<To>(to, n, 0, d, h) + w * to.stride[4], to.stride[1], size[1], reverse);
    return;
  }
  for (std::int64_t n = 0; n < size[0]; ++n)
    for (std::int64_t c = 0; c < size[1]; ++c)
      for (std::int64_t d = 0; d < size[2]; ++d)
        for (std::int64_t h = 0; h < size[3]; ++h)
          ConvertRow(row_of<const From>(from, n, c, d, h), from.stride[4], row_of<To>(to, n, c, d, h),
                     to.stride[4], size[4], reverse);
}

/// Both ways between T and the other dtype.
template <class T>
void ConvertAny(const Tensor5& to, const ConstTensor5& from, bool reverse) {
  constexpr DType kOwn = DTypeOf<T>::value;
  const bool widening = to.dtype == kOwn;
  switch (widening ? from.dtype : to.dtype) {
    case DType::f16:
      return widening ? ConvertTensor<T, Float16>(to, from, reverse)
                      : ConvertTensor<Float16, T>(to, from, reverse);
    case DType::bf16:
      return widening ? ConvertTensor<T, BFloat16>(to, from, reverse)
                      : ConvertTensor<BFloat16, T>(to, from, reverse);
    case DType::i8:
      return widening ? ConvertTensor<T, std::int8_t>(to, from, reverse)
                      : ConvertTensor<std::int8_t, T>(to, from, reverse);
    case DType::u8:
      return widening ? ConvertTensor<T, std::uint8_t>(to, from, reverse)
                      : ConvertTensor<std::uint8_t, T>(to, from, reverse);
    case DType::i32:
      return widening ? ConvertTensor<T, std::int32_t>(to, from, reverse)
                      : ConvertTensor<std::int32_t, T>(to, from, reverse);
    case DType::i64:
      return widening ? ConvertTensor<T, std::int64_t>(to, from, reverse)
                      : ConvertTensor<std::int64_t, T>(to, from, reverse);
    default:
      return ConvertTensor<T, T>(to, from, reverse);
  }
}

constexpr ConvertBackend kTable{
    [](const Tensor5& to, const ConstTensor5& from, bool reverse) {
      const bool wide = to.dtype == DType::f64 || from.dtype == DType::f64;
      return wide ? ConvertAny<double>(to, from, reverse) : ConvertAny<float>(to, from, reverse);
    },
};

}  // namespace

const ConvertBackend* ConvertTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(ConvertTable);

const ConvertBackend& convert() { return *HWY_DYNAMIC_DISPATCH(ConvertTable)(); }

}  // namespace cenote::cpu
#endif
