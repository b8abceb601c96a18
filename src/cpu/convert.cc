// Between dtypes on the CPU, and whether integers fit: rows along the axis whose elements are neighbours.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/convert.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include <bit>
#include <functional>
#include <limits>
#include <numeric>
#include <type_traits>

#include "backend.h"
#include "cpu/rows-inl.h"
#include "cpu/vector-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// An i64 that f64 stands for in order: sign and magnitude, as f64 has them, the magnitude moved past the
/// 2^52 numbers that are not normal, which some processes treat as 0. The ends of the range are infinite.
struct OrderedInteger {
  std::int64_t value;
};
constexpr std::uint64_t kSignBit = std::uint64_t{1} << 63;
constexpr std::uint64_t kFirstNormal = std::uint64_t{1} << 52;
constexpr auto kInfiniteBits = std::bit_cast<std::uint64_t>(std::numeric_limits<double>::infinity());

HWY_INLINE double in_order(std::int64_t value) {
  const auto negative = static_cast<std::uint64_t>(value >> 63);  // all bits or none
  const std::uint64_t magnitude = static_cast<std::uint64_t>(value) ^ negative;
  const std::uint64_t bits = magnitude == ~kSignBit ? kInfiniteBits : magnitude + kFirstNormal;
  return std::bit_cast<double>(bits | (negative & kSignBit));
}

HWY_INLINE std::int64_t from_order(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const auto negative = static_cast<std::uint64_t>(static_cast<std::int64_t>(bits) >> 63);
  const std::uint64_t rest = bits & ~kSignBit;
  const std::uint64_t magnitude = rest == kInfiniteBits ? ~kSignBit : rest - kFirstNormal;
  return static_cast<std::int64_t>(rest == 0 ? 0 : magnitude ^ negative);
}

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

/// Elements that the loop below converts by whole vectors; the rest is left to the caller.
template <class To, class From>
std::int64_t ConvertVectors([[maybe_unused]] const From* from, [[maybe_unused]] To* to,
                            [[maybe_unused]] std::int64_t count, [[maybe_unused]] bool reverse) {
  std::int64_t i = 0;
  constexpr bool kHalves = kIsHalf<From> != kIsHalf<To> && std::is_same_v<LaneOf<From>, LaneOf<To>>;
  constexpr bool kBrain = std::is_same_v<From, BFloat16> || std::is_same_v<To, BFloat16>;
  if constexpr (kHalves && (kBrain || kConvertsHalf)) {
    const WideTag<To> d;
    const auto flip = hn::Set(d, reverse ? -0.0F : 0.0F);
    for (; i + lanes_of<To>() <= count; i += lanes_of<To>()) {
      StoreVector(d, hn::Xor(LoadVector(d, from + i), flip), to + i);
    }
  }
  return i;
}

template <class To, class From>
void ConvertRow(const From* from, std::int64_t from_stride, To* to, std::int64_t to_stride,
                std::int64_t count, bool reverse) {
  const auto one = [reverse](From value) HWY_ATTR -> To {
    if constexpr (kIsHalf<From>) {
      const auto wide = static_cast<float>(value);
      return convert_one<To>(reverse ? -wide : wide);
    } else if constexpr (std::is_same_v<From, OrderedInteger>) {
      const double wide = in_order(value.value);
      return reverse ? -wide : wide;
    } else if constexpr (std::is_same_v<To, OrderedInteger>) {
      return {from_order(reverse ? -value : value)};
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

HWY_NOINLINE std::uint64_t MagnitudesOfRow(const std::int64_t* from, std::int64_t stride,
                                           std::int64_t count) {
  const WideTag<std::int64_t> d;
  auto bits = hn::Zero(d);
  for (std::int64_t i = 0; i < count; i += lanes_of<std::int64_t>()) {
    const std::int64_t left = count - i;
    const auto part = static_cast<std::size_t>(left >= lanes_of<std::int64_t>() ? 0 : left);
    const auto elements = stride == 1 ? LoadLanes<true>(d, from + i, 1, part)
                                      : LoadLanes<false>(d, from + i * stride, stride, part);
    const auto magnitude = hn::Xor(elements, hn::BroadcastSignBit(elements));
    const auto end = hn::Eq(magnitude, hn::Set(d, std::numeric_limits<std::int64_t>::max()));
    bits = hn::Or(bits, hn::IfThenElse(end, hn::SignBit(d), magnitude));
  }
  HWY_ALIGN std::int64_t lanes[kMaxLanes<std::int64_t>];
  hn::Store(bits, d, lanes);
  return static_cast<std::uint64_t>(
      std::accumulate(lanes, lanes + lanes_of<std::int64_t>(), std::int64_t{0}, std::bit_or<>()));
}

std::uint64_t Magnitudes(const ConstTensor5& x) {
  const auto& size = x.size;
  const bool across = x.stride[1] == 1 && size[1] > 1;
  const Cursor::Index rows{size[0], across ? 1 : size[1], size[2], size[3], across ? size[4] : 1};
  std::uint64_t bits = 0;
  Cursor at(rows, 0);
  for (std::int64_t left = Cursor::total(rows); left > 0; --left, at.next()) {
    const auto* const row = row_of<const std::int64_t>(x, at[0], at[1], at[2], at[3]) + at[4] * x.stride[4];
    bits |= MagnitudesOfRow(row, x.stride[across ? 1 : 4], size[across ? 1 : 4]);
  }
  return bits;
}

constexpr ConvertBackend kTable{
    [](const Tensor5& to, const ConstTensor5& from, bool reverse) {
      const bool wide = to.dtype == DType::f64 || from.dtype == DType::f64;
      return wide ? ConvertAny<double>(to, from, reverse) : ConvertAny<float>(to, from, reverse);
    },
};

constexpr WideIntegerBackend kWideIntegerTable{
    Magnitudes,
    [](const Tensor5& to, const ConstTensor5& from, bool reverse) {
      return to.dtype == DType::f64 ? ConvertTensor<double, OrderedInteger>(to, from, reverse)
                                    : ConvertTensor<OrderedInteger, double>(to, from, reverse);
    },
};

}  // namespace

const ConvertBackend* ConvertTable() { return &kTable; }
const WideIntegerBackend* WideIntegerTable() { return &kWideIntegerTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(ConvertTable);
HWY_EXPORT(WideIntegerTable);

const ConvertBackend& convert() { return *HWY_DYNAMIC_DISPATCH(ConvertTable)(); }
const WideIntegerBackend& wide_integer() { return *HWY_DYNAMIC_DISPATCH(WideIntegerTable)(); }

}  // namespace cenote::cpu
#endif
