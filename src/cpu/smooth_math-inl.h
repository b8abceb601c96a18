// What the rules of smooth pooling are made of: what is known of a window, and functions over vectors.
#if defined(CENOTE_CPU_SMOOTH_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SMOOTH_MATH_INL_H_
#undef CENOTE_CPU_SMOOTH_MATH_INL_H_
#else
#define CENOTE_CPU_SMOOTH_MATH_INL_H_
#endif

#include <limits>

#include "cpu/vector-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// e^v. Highway turns v into an integer on the way; where it does so without vector instructions, NaN must
/// not get there.
template <class D>
HWY_INLINE VecOf<D> ExpOrNaN(D d, VecOf<D> v) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  const auto nan = hn::IsNaN(v);
  return hn::IfThenElse(nan, v, hn::Exp(d, hn::IfThenZeroElse(nan, v)));
#else
  return hn::Exp(d, v);
#endif
}

/// What is known of a window, one per lane.
template <class D>
struct Summary {
  VecOf<D> parameter;
  VecOf<D> floor;  // of GeM
  VecOf<D> count;  // real elements
  VecOf<D> first;  // the keys, reduced
  VecOf<D> shift;
  VecOf<D> scale;  // of rules that rescale, or the inverse of shift
  VecOf<D> sum;
  VecOf<D> second_sum;  // where the rule has one; of rules that try unscaled, the bits of all keys
  VecOf<D> y;
  VecOf<D> inverse;  // of what slopes divide by
};

template <class D>
HWY_INLINE VecOf<D> Constant(D d, double value) {
  return hn::Set(d, static_cast<hn::TFromD<D>>(value));
}

/// False for NaN.
template <class D>
HWY_INLINE hn::Mask<D> IsFinite(D d, VecOf<D> v) {
  return hn::Lt(hn::Abs(v), hn::Set(d, std::numeric_limits<hn::TFromD<D>>::infinity()));
}

/// q^p for q >= 0; 0^p is 0 for any p, and NaN stays. kPower is p, or 0 for any.
template <int kPower, class D>
HWY_INLINE VecOf<D> Power(D d, VecOf<D> q, VecOf<D> p) {
  if constexpr (kPower == 1) return q;
  if constexpr (kPower == 2) return hn::Mul(q, q);
  if constexpr (kPower == 3) return hn::Mul(q, hn::Mul(q, q));
  // Highway's exponential is right up to a little more than the logarithm of the largest number.
  constexpr bool kDouble = sizeof(hn::TFromD<D>) == sizeof(double);
  const auto most = Constant(d, kDouble ? 706 : 104);
  const auto exponent = hn::Mul(p, hn::Log(d, q));
  const auto infinity = hn::Set(d, std::numeric_limits<hn::TFromD<D>>::infinity());
  const auto power = hn::IfThenElse(hn::Gt(exponent, most), infinity, ExpOrNaN(d, hn::Min(exponent, most)));
  return hn::IfThenElse(hn::Gt(q, hn::Zero(d)), power, q);
}

/// q^(1/p)
template <int kPower, class D>
HWY_INLINE VecOf<D> Root(D d, VecOf<D> q, VecOf<D> p) {
  if constexpr (kPower == 1) return q;
  if constexpr (kPower == 2) return hn::Sqrt(q);
  return Power<0>(d, q, hn::Div(Constant(d, 1), p));
}

/// One step of Newton's from a cube root of q >= 0: a power by logarithm is off the more, the further q is
/// from 1.
template <class D>
HWY_INLINE VecOf<D> NearerCubeRoot(D d, VecOf<D> root, VecOf<D> q) {
  const auto ratio = hn::Mul(hn::Mul(root, root), hn::Div(root, q));
  const auto nearer =
      hn::NegMulAdd(hn::Mul(root, Constant(d, 1.0 / 3)), hn::Sub(ratio, Constant(d, 1)), root);
  return hn::IfThenElse(hn::Gt(q, hn::Zero(d)), nearer, root);
}

/// q^(p - 1), 1 of any q where p is 1
template <int kPower, class D>
HWY_INLINE VecOf<D> PowerSlope(D d, VecOf<D> q, VecOf<D> p) {
  if constexpr (kPower == 1) return Constant(d, 1);
  if constexpr (kPower == 2) return q;
  if constexpr (kPower == 3) return hn::Mul(q, q);
  const auto power = Power<0>(d, q, hn::Sub(p, Constant(d, 1)));
  return hn::IfThenElse(hn::Eq(p, Constant(d, 1)), Constant(d, 1), power);
}

/// `slope` where the largest key is less than inf; NaN where it is inf or NaN.
template <class D>
HWY_INLINE VecOf<D> IfBelowInfinity(D d, VecOf<D> largest, VecOf<D> slope) {
  const auto infinity = hn::Set(d, std::numeric_limits<hn::TFromD<D>>::infinity());
  return hn::IfThenElse(hn::Lt(largest, infinity), slope, hn::Sub(largest, largest));
}

/// Rules that sum as they go, and need to know nothing of the window before.
template <class Rule>
concept OnePass = requires { requires Rule::kOnePass; };

/// The power of two at or below v >= 0, within the range whose inverses are normal numbers.
template <class D>
HWY_INLINE VecOf<D> PowerOfTwoBelow(D d, VecOf<D> v) {
  using T = hn::TFromD<D>;
  const hn::RebindToUnsigned<D> bits;
  const T infinity = std::numeric_limits<T>::infinity();  // all bits of the exponent
  const auto exponent = hn::And(hn::BitCast(bits, v), hn::BitCast(bits, hn::Set(d, infinity)));
  const auto smallest = hn::Set(d, std::numeric_limits<T>::min());
  const auto most = hn::Set(d, 1 / std::numeric_limits<T>::min());
  return hn::Max(hn::Min(hn::BitCast(d, exponent), most), smallest);
}

/// Makes terms of small whole powers safe: scaling by a power of two is exact, and no division.
template <class D>
HWY_INLINE void ScaleByPowerOfTwo(D d, VecOf<D> largest, Summary<D>& s) {
  s.shift = PowerOfTwoBelow(d, largest);
  s.scale = hn::Div(Constant(d, 1), s.shift);
}

/// Slopes divide by `divisor` >= 0 as (v * scale) * inverse, which leaves the range of the type nowhere that
/// v / divisor does not.
template <class D>
HWY_INLINE void DivideSlopesBy(D d, VecOf<D> divisor, Summary<D>& s) {
  s.scale = hn::Div(Constant(d, 1), PowerOfTwoBelow(d, divisor));
  s.inverse = hn::Div(Constant(d, 1), hn::Mul(divisor, s.scale));
}

/// Rules that first sum their terms without a shift, which is right unless SumIsSafe denies it.
template <class Rule>
concept TriesUnscaled = requires { requires Rule::kTriesUnscaled; };

/// Whether sums of small whole powers, none negative, have lost nothing in any lane: they are finite and not
/// tiny, or of nothing but zeros. `keys` are the bits of all keys.
template <class D>
HWY_INLINE bool SumIsSafe(D d, VecOf<D> sum, VecOf<D> keys) {
  constexpr bool kDouble = sizeof(hn::TFromD<D>) == sizeof(double);
  const auto tiny = hn::Lt(sum, Constant(d, kDouble ? 0x1p-900 : 0x1p-60));
  const auto zeros = hn::Eq(keys, hn::Zero(d));
  return hn::AllFalse(d, hn::Or(hn::AndNot(zeros, tiny), hn::Not(IsFinite(d, sum))));
}

/// Rules whose keys are distances from the first element.
template <class Rule>
concept StartsFromFirst = requires { requires Rule::kStartsFromFirst; };

/// Rules whose sums may not do. Where they are `unsure` and an element `differs` from the others, another
/// pass follows, with the terms of the rule Again, which then finishes.
template <class Rule>
concept SumsAgain = requires { typename Rule::Again; };

/// Shifts and scales that are no finite numbers would turn the terms into NaN.
template <class D>
HWY_INLINE VecOf<D> FiniteOr(D d, VecOf<D> v, VecOf<D> otherwise) {
  return hn::IfThenElse(IsFinite(d, v), v, otherwise);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
