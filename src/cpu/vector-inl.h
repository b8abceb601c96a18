// What every kernel needs beyond Highway: partial loads and stores that touch no byte outside, a maximum
// that propagates NaN on every target, and the two reductions as types.
#if defined(CENOTE_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_VECTOR_INL_H_
#undef CENOTE_CPU_VECTOR_INL_H_
#else
#define CENOTE_CPU_VECTOR_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "cenote/half.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class D>
using VecOf = hn::Vec<D>;

// For lambdas that take or return vectors. Left to themselves some become functions, and code between such
// calls may run with the upper vector halves in use, where baseline instructions stall.
#undef CENOTE_VECTOR_LAMBDA
#define CENOTE_VECTOR_LAMBDA HWY_ATTR __attribute__((always_inline))

template <class T>
constexpr bool kIsHalf = std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

/// What the lanes hold that elements of T are loaded to: f16 and bf16 are widened.
template <class T>
using LaneOf = std::conditional_t<kIsHalf<T>, float, T>;

/// Lanes of the widest vector of this target.
template <class T>
constexpr std::size_t kMaxLanes = HWY_MAX_BYTES / sizeof(LaneOf<T>);

/// Vectors as wide as they come.
template <class T>
using WideTag = hn::ScalableTag<LaneOf<T>>;

template <class T>
std::int64_t lanes_of() {
  return static_cast<std::int64_t>(hn::Lanes(WideTag<T>()));
}

/// Vectors along rows stay at 32 bytes: the shifted loads of a row buffer straddle cache lines, with 64 bytes
/// every one of them. [32, 64, 112, 112] f32, 3x3 stride 2 max, two threads: 10.0 ms with 64, 7.2 ms with 32.
template <class T>
using RowTag = hn::CappedTag<LaneOf<T>, 32 / sizeof(LaneOf<T>)>;

/// Whether the machine masks loads and stores of elements of so many bytes; elsewhere a small buffer does it.
template <class T>
constexpr bool kMasksAccess = HWY_TARGET == HWY_AVX3 || (HWY_TARGET == HWY_AVX2 && sizeof(T) >= 4);

/// Whether comparisons give masks of bits, so that one of bytes serves several vectors of lanes.
constexpr bool kMasksAreBits = HWY_TARGET == HWY_AVX3;

/// Whether loops for particular windows and layouts are compiled. Processors without AVX2, on x86-64 those of
/// before 2013 and some small ones, have the loops that serve every window, so that the build is shorter.
constexpr bool kTuned = HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_SSE4;

/// Whether the machine converts f16.
constexpr bool kConvertsHalf = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3;

/// step(0), step(1), .. of constants: arrays that they index stay in registers, which those that loops index
/// do not always.
template <int kCount, class Step>
HWY_INLINE void Unrolled(const Step& step) {
  [&]<int... kNumbers>(std::integer_sequence<int, kNumbers...>) CENOTE_VECTOR_LAMBDA {
    (step(std::integral_constant<int, kNumbers>()), ...);
  }(std::make_integer_sequence<int, kCount>());
}

/// Vectors in registers.
template <class V, std::size_t kCount>
HWY_INLINE void CopyVectors(const V (&from)[kCount], V (&to)[kCount]) {
  Unrolled<kCount>([&](auto v) CENOTE_VECTOR_LAMBDA { to[v] = from[v]; });
}

/// Hints: any address will do. (g++ 12 leaves out functions that do nothing but prefetch by intrinsics, if it
/// does not inline them. Compilers turn __builtin_prefetch for writing into one for reading where the
/// baseline lacks the other; processors that do lack it ignore the instruction.)
HWY_INLINE void prefetch_for_read(const void* address) {
#if HWY_ARCH_X86
  asm volatile("prefetcht0 (%0)" : : "r"(address));
#else
  __builtin_prefetch(address, 0);
#endif
}
HWY_INLINE void prefetch_for_write(const void* address) {
#if HWY_ARCH_X86
  asm volatile("prefetchw (%0)" : : "r"(address));
#else
  __builtin_prefetch(address, 1);
#endif
}

/// How far ahead of what is read memory is asked for.
template <class T>
constexpr std::int64_t kReadAhead = 4096 / static_cast<std::int64_t>(sizeof(T));

/// Asks for the memory that far beyond `count` elements that are read now.
template <class T>
HWY_INLINE void ask_ahead_of_reads(const T* from, std::int64_t count) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t i = 0; i < count; i += kLine) prefetch_for_read(from + i + kReadAhead<T>);
}

/// Asks for the memory a page beyond `count` elements that are written now.
template <class T>
void ask_ahead(T* to, std::int64_t count) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  constexpr std::int64_t kAhead = 4096 / sizeof(T);
  for (std::int64_t i = 0; i < count; i += kLine) prefetch_for_write(to + i + kAhead);
}

/// The halves of the lanes of D, as they lie in memory.
template <class D>
using HalvesTag = hn::Rebind<std::uint16_t, D>;

template <class T, class D>
HWY_INLINE VecOf<D> WidenHalves(D d, VecOf<HalvesTag<D>> halves) {
  static_assert(kIsHalf<T>);
  if constexpr (std::is_same_v<T, BFloat16>) {
    const hn::RebindToUnsigned<D> du;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, halves)));
  } else {
    return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), halves));
  }
}

/// f32 whose upper halves are rounded to bf16, to nearest, ties to even; NaN stays. Their lower halves mean
/// nothing.
template <class D>
HWY_INLINE VecOf<hn::RebindToUnsigned<D>> RoundedBits(D d, VecOf<D> v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF)));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000));
  (void)d;
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
}

/// Rounded to nearest, ties to even; NaN stays.
template <class T, class D>
HWY_INLINE VecOf<HalvesTag<D>> RoundToHalves(D d, VecOf<D> v) {
  static_assert(kIsHalf<T>);
  const HalvesTag<D> dh;
  if constexpr (std::is_same_v<T, BFloat16>) {
    return hn::TruncateTo(dh, hn::ShiftRight<16>(RoundedBits(d, v)));
  } else {
    return hn::BitCast(dh, hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), v));
  }
}

/// A vector from neighbours in memory.
template <class D, class T>
HWY_INLINE VecOf<D> LoadVector(D d, const T* from) {
  if constexpr (kIsHalf<T>) {
    return WidenHalves<T>(d, hn::LoadU(HalvesTag<D>(), &from->bits));
  } else {
    return hn::LoadU(d, from);
  }
}

template <class D, class T>
HWY_INLINE void StoreVector(D d, VecOf<D> v, T* to) {
  if constexpr (kIsHalf<T>) {
    hn::StoreU(RoundToHalves<T>(d, v), HalvesTag<D>(), &to->bits);
  } else if constexpr (sizeof(T) < sizeof(hn::TFromD<D>)) {
    const hn::Rebind<T, D> narrow;
    hn::StoreU(hn::DemoteTo(narrow, v), narrow, to);
  } else {
    hn::StoreU(v, d, to);
  }
}

/// The first n lanes from `from`; the others are 0.
template <class D, class T>
HWY_INLINE VecOf<D> LoadPart(D d, const T* from, std::size_t n) {
  if constexpr (kIsHalf<T>) {
    return WidenHalves<T>(d, LoadPart(HalvesTag<D>(), &from->bits, n));
  } else if constexpr (kMasksAccess<T>) {
    return hn::MaskedLoad(hn::FirstN(d, n), d, from);
  } else {
    HWY_ALIGN T lanes[kMaxLanes<T>] = {};
    for (std::size_t i = 0; i < n; ++i) lanes[i] = from[i];
    return hn::Load(d, lanes);
  }
}

template <class D, class T>
HWY_INLINE void StorePart(D d, VecOf<D> v, T* to, std::size_t n) {
  if constexpr (kIsHalf<T>) {
    StorePart(HalvesTag<D>(), RoundToHalves<T>(d, v), &to->bits, n);
  } else if constexpr (kMasksAccess<T>) {
    hn::BlendedStore(v, hn::FirstN(d, n), d, to);
  } else {
    HWY_ALIGN T lanes[kMaxLanes<T>] = {};
    hn::Store(v, d, lanes);
    std::copy_n(lanes, std::min(n, kMaxLanes<T>), to);  // the compiler does not see that n is small
  }
}

/// n lanes, `stride` elements apart; the others are 0.
template <class D, class T>
HWY_NOINLINE VecOf<D> LoadStrided(D d, const T* from, std::int64_t stride, std::size_t n) {
  using Lane = LaneOf<T>;
  HWY_ALIGN Lane lanes[kMaxLanes<T>] = {};
  for (std::size_t i = 0; i < n; ++i) {
    lanes[i] = static_cast<Lane>(from[static_cast<std::int64_t>(i) * stride]);
  }
  return hn::Load(d, lanes);
}

/// All lanes, `stride` elements apart.
template <class D, class T>
HWY_INLINE VecOf<D> GatherApart(D d, const T* from, std::int64_t stride) {
  if constexpr (sizeof(T) < 4) {
    return LoadStrided(d, from, stride, hn::Lanes(d));
  } else {
    const hn::RebindToSigned<D> di;
    const auto step = hn::Set(di, static_cast<hn::TFromD<decltype(di)>>(stride));
    return hn::GatherIndex(d, from, hn::Mul(hn::Iota(di, 0), step));
  }
}

/// The mask of a vector, bit i for lane i.
template <class D>
HWY_INLINE hn::Mask<D> MaskOfBits([[maybe_unused]] D d, std::uint64_t bits) {
#if HWY_TARGET == HWY_AVX3
  hn::Mask<D> mask;
  mask.raw = static_cast<decltype(mask.raw)>(bits);
  return mask;
#else
  const hn::RebindToUnsigned<D> du;
  const auto of_lanes = hn::Shl(hn::Set(du, 1), hn::Iota(du, 0));
  const auto all = hn::Set(du, static_cast<hn::TFromD<decltype(du)>>(bits));
  return hn::RebindMask(d, hn::TestBit(all, of_lanes));
#endif
}
/// A bit for each of `lanes` lanes from position `first` on: whether it is one of the positions 0 .. count
/// - 1.
inline std::uint64_t BitsInside(std::int64_t first, std::int64_t count, std::int64_t lanes) {
  const auto first_bits = [&](std::int64_t number) {
    return (std::uint64_t{1} << std::clamp<std::int64_t>(number, 0, lanes)) - 1;
  };
  return first_bits(count - first) & ~first_bits(-first);
}

/// The lanes whose bits are set, the only ones that are read; the others are 0.
template <class D, class T>
HWY_INLINE VecOf<D> LoadBits(D d, std::uint64_t bits, const T* from) {
  if constexpr (kIsHalf<T>) {
    const HalvesTag<D> dh;
    return WidenHalves<T>(d, hn::MaskedLoad(MaskOfBits(dh, bits), dh, &from->bits));
  } else if constexpr (sizeof(T) < sizeof(hn::TFromD<D>)) {
    const hn::Rebind<T, D> narrow;
    return hn::PromoteTo(d, hn::MaskedLoad(MaskOfBits(narrow, bits), narrow, from));
  } else {
    return hn::MaskedLoad(MaskOfBits(d, bits), d, from);
  }
}

/// Stores the lanes whose bits are set.
template <class D, class T>
HWY_INLINE void StoreBits(D d, VecOf<D> v, std::uint64_t bits, T* to) {
  if constexpr (kIsHalf<T>) {
    const HalvesTag<D> dh;
    hn::BlendedStore(RoundToHalves<T>(d, v), MaskOfBits(dh, bits), dh, &to->bits);
  } else if constexpr (sizeof(T) < sizeof(hn::TFromD<D>)) {
    const hn::Rebind<T, D> narrow;
    hn::BlendedStore(hn::DemoteTo(narrow, v), MaskOfBits(narrow, bits), narrow, to);
  } else {
    hn::BlendedStore(v, MaskOfBits(d, bits), d, to);
  }
}

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
/// Lanes of two vectors by their numbers, those of `high` after those of `low`. (Highway 1.0 has no such
/// thing.)
template <class D>
HWY_INLINE VecOf<D> PickLanes([[maybe_unused]] D d, VecOf<D> low, VecOf<D> high,
                              VecOf<hn::RebindToSigned<D>> numbers) {
  using Lane = hn::TFromD<D>;
#if HWY_TARGET == HWY_AVX2
  static_assert(std::is_same_v<Lane, float>);
  const VecOf<D> of_low{_mm256_permutevar8x32_ps(low.raw, numbers.raw)};
  const VecOf<D> of_high{_mm256_permutevar8x32_ps(high.raw, numbers.raw)};
  constexpr int kNumberBits = 3;  // in the sign, which chooses, goes the next one
  return VecOf<D>{_mm256_blendv_ps(of_low.raw, of_high.raw,
                                   hn::BitCast(d, hn::ShiftLeft<31 - kNumberBits>(numbers)).raw)};
#else
  if constexpr (std::is_same_v<Lane, float>) {
    return VecOf<D>{_mm512_permutex2var_ps(low.raw, numbers.raw, high.raw)};
  } else if constexpr (std::is_same_v<Lane, double>) {
    return VecOf<D>{_mm512_permutex2var_pd(low.raw, numbers.raw, high.raw)};
  } else {
    static_assert(std::is_same_v<Lane, std::int16_t>);
    return VecOf<D>{_mm512_permutex2var_epi16(low.raw, numbers.raw, high.raw)};
  }
#endif
}
#endif

/// The lanes where one of two f32 is a NaN, in one comparison where there is one.
template <class D>
HWY_INLINE hn::Mask<D> EitherIsNaN(D, VecOf<D> a, VecOf<D> b) {
#if HWY_TARGET == HWY_AVX3
  return hn::Mask<D>{_mm512_cmp_ps_mask(a.raw, b.raw, _CMP_UNORD_Q)};
#elif HWY_TARGET == HWY_AVX2
  return hn::Mask<D>{_mm256_cmp_ps(a.raw, b.raw, _CMP_UNORD_Q)};
#else
  return hn::Or(hn::IsNaN(a), hn::IsNaN(b));
#endif
}

/// Stores vectors of every kStride-th element, one for each phase, in the order of the elements.
template <class T, int kStride>
HWY_INLINE void StorePhases(const VecOf<WideTag<T>> (&phases)[kStride], T* to) {
  const WideTag<T> d;
  if constexpr (kStride == 1) {
    StoreVector(d, phases[0], to);
  } else if constexpr (std::is_same_v<T, BFloat16> && HWY_TARGET != HWY_SCALAR) {
    const hn::RebindToUnsigned<WideTag<T>> du;
    const hn::Repartition<std::uint16_t, WideTag<T>> dh;
    const auto pairs = hn::Or(hn::ShiftRight<16>(RoundedBits(d, phases[0])),
                              hn::And(RoundedBits(d, phases[1]), hn::Set(du, 0xFFFF0000)));
    hn::StoreU(hn::BitCast(dh, pairs), dh, &to->bits);
  } else if constexpr (kIsHalf<T>) {
    hn::StoreInterleaved2(RoundToHalves<T>(d, phases[0]), RoundToHalves<T>(d, phases[1]),
                          HalvesTag<WideTag<T>>(), &to->bits);
#if HWY_TARGET == HWY_AVX3
  } else if constexpr (kStride == 2) {  // one shuffle for each vector, of which Highway makes three
    using Number = hn::TFromD<hn::RebindToSigned<WideTag<T>>>;
    const hn::RebindToSigned<WideTag<T>> di;
    const auto lane = hn::Iota(di, 0);
    const auto half = hn::ShiftRight<1>(lane);
    const auto from_second = hn::Eq(hn::And(lane, hn::Set(di, 1)), hn::Set(di, 1));
    constexpr auto kLanes = static_cast<Number>(kMaxLanes<T>);
    const auto numbers = hn::Add(half, hn::IfThenElseZero(from_second, hn::Set(di, kLanes)));
    StoreVector(d, PickLanes(d, phases[0], phases[1], numbers), to);
    StoreVector(d, PickLanes(d, phases[0], phases[1], hn::Add(numbers, hn::Set(di, kLanes / 2))),
                to + kLanes);
#endif
  } else {
    hn::StoreInterleaved2(phases[0], phases[1], d, to);
  }
}

/// The first `count` of these elements.
template <class T, int kStride>
HWY_INLINE void StoreFirstPhases(const VecOf<WideTag<T>> (&phases)[kStride], T* to, std::int64_t count) {
  const WideTag<T> d;
  HWY_ALIGN T elements[kStride * kMaxLanes<T>];
  StorePhases<T>(phases, elements);
  for (std::int64_t i = 0; i < count; i += lanes_of<T>()) {
    const auto part = static_cast<std::size_t>(std::min(lanes_of<T>(), count - i));
    StorePart(d, LoadVector(d, elements + i), to + i, part);
  }
}

/// kUnit: neighbours in memory, else `stride` apart. n = 0 means a full vector.
template <bool kUnit, class D, class T>
HWY_INLINE VecOf<D> LoadLanes(D d, const T* from, std::int64_t stride, std::size_t n) {
  if constexpr (kUnit) {
    return n == 0 ? LoadVector(d, from) : LoadPart(d, from, n);
  } else {
    return LoadStrided(d, from, stride, n == 0 ? hn::Lanes(d) : n);
  }
}

/// The maximum; NaN when either is NaN. Whether the machine's own maximum keeps a NaN depends on the target
/// and the operand order, so the comparison is spelled out.
template <class D>
HWY_INLINE VecOf<D> MaxOrNaN(D, VecOf<D> acc, VecOf<D> v) {
  if constexpr (std::is_integral_v<hn::TFromD<D>>) {
    return hn::Max(v, acc);
  } else {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
    // maxps and maxpd return the second operand when either is NaN: acc stays NaN, v must be put back.
    return hn::IfThenElse(hn::IsNaN(v), v, hn::Max(v, acc));
#else
    return hn::IfThenElse(hn::Or(hn::Gt(v, acc), hn::IsNaN(v)), v, acc);
#endif
  }
}

struct MaxReduction {
  static constexpr bool kLosesNaN = false;
  static constexpr bool kIdempotent = true;  // an element may be met twice
  template <class T>
  static constexpr T identity() {
    using Limits = std::numeric_limits<T>;
    if constexpr (Limits::has_infinity) return -Limits::infinity();
    return Limits::lowest();
  }
  template <class D>
  static HWY_INLINE VecOf<D> combine(D d, VecOf<D> acc, VecOf<D> v) {
    return MaxOrNaN(d, acc, v);
  }
  template <class T>
  static HWY_INLINE T combine_scalar(T acc, T v) {
    if constexpr (std::is_integral_v<T>) return std::max(acc, v);
    return v > acc || __builtin_isnan(v) ? v : acc;
  }
};

struct SumReduction {
  static constexpr bool kLosesNaN = false;
  static constexpr bool kIdempotent = false;
  template <class T>
  static constexpr T identity() {
    return 0;
  }
  template <class D>
  static HWY_INLINE VecOf<D> combine(D, VecOf<D> acc, VecOf<D> v) {
    return hn::Add(acc, v);
  }
  template <class T>
  static HWY_INLINE T combine_scalar(T acc, T v) {
    return acc + v;
  }
};

/// Sums of more terms than this are sums of partial sums, so that rounding grows with 64 + n / 64 terms
/// instead of n.
constexpr std::int64_t kSumBlock = 64;

/// Reduces load(0) .. load(count - 1), count > 0.
template <class Reduction, class D, class Load>
HWY_INLINE VecOf<D> ReduceBlocked(D d, std::int64_t count, const Load& load) {
  VecOf<D> total = load(0);
  const std::int64_t head = HWY_MIN(count, kSumBlock);
  for (std::int64_t i = 1; i < head; ++i) total = Reduction::combine(d, total, load(i));
  for (std::int64_t begin = head; begin < count; begin += kSumBlock) {
    const std::int64_t end = HWY_MIN(count, begin + kSumBlock);
    VecOf<D> block = load(begin);
    for (std::int64_t i = begin + 1; i < end; ++i) block = Reduction::combine(d, block, load(i));
    total = Reduction::combine(d, total, block);
  }
  return total;
}

/// All lanes of v as one value, pairwise.
template <class Reduction, class D>
HWY_INLINE hn::TFromD<D> ReduceLanes(D, VecOf<D> v) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (hn::MaxLanes(D()) > 1) {
    const hn::Half<D> half;
    return ReduceLanes<Reduction>(half,
                                  Reduction::combine(half, hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
#endif
  return hn::GetLane(v);
}

/// Compact taps, widened to the lanes of T. u64 lanes take two steps.
template <class DI, class Tap>
HWY_INLINE VecOf<DI> PromoteTaps(DI di, const Tap* from) {
  if constexpr (sizeof(hn::TFromD<DI>) == 4) {
    return hn::PromoteTo(di, hn::LoadU(hn::Rebind<Tap, DI>(), from));
  } else {
    const hn::Rebind<std::uint32_t, DI> d32;
    const hn::Rebind<std::uint64_t, DI> d64;
    return hn::BitCast(di, hn::PromoteTo(d64, hn::PromoteTo(d32, hn::LoadU(hn::Rebind<Tap, DI>(), from))));
  }
}

/// The first n <= 8 bytes from `from`, in memory's order; the others are 0.
inline std::uint64_t first_bytes(const std::uint8_t* from, std::size_t n) {
  std::uint64_t bytes = 0;
  for (std::size_t size = 8, at = 0; size > 0; size /= 2) {
    if (n - at < size) continue;
    std::uint64_t some = 0;
    std::memcpy(&some, from + at, size);
    bytes |= some << (8 * at);
    at += size;
  }
  return bytes;
}

/// As PromoteTaps, of the first n; the others are 0.
template <class T, class DI, class Tap>
HWY_INLINE VecOf<DI> PromoteFirstTaps(DI di, const Tap* from, std::size_t n) {
  if constexpr (kMasksAreBits && sizeof(hn::TFromD<DI>) == 4) {
    return hn::PromoteTo(di, LoadBits(hn::Rebind<Tap, DI>(), (std::uint64_t{1} << n) - 1, from));
  } else if constexpr (sizeof(Tap) == 1 && kMaxLanes<T> <= 8) {
    HWY_ALIGN std::uint64_t bytes[2] = {first_bytes(from, n), 0};
    return PromoteTaps(di, reinterpret_cast<const std::uint8_t*>(bytes));
  } else {
    HWY_ALIGN Tap padded[kMaxLanes<T>] = {};
    std::copy_n(from, n, padded);
    return PromoteTaps(di, padded);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
