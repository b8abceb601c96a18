// The kinds of pooling whose gradient depends on the elements, as formulas over vectors. A rule takes two
// passes over a window: `key` reduced by `First` gives a shift, with which `term` is summed, so that nothing
// overflows. `finish` makes y of both. Backward, `prepare_slopes` follows; `slope` is dy/dx of one element,
// to which rules that pick the first largest key add `picked_slope` there.
#if defined(CENOTE_CPU_SMOOTH_RULES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SMOOTH_RULES_INL_H_
#undef CENOTE_CPU_SMOOTH_RULES_INL_H_
#else
#define CENOTE_CPU_SMOOTH_RULES_INL_H_
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

/// Rules whose terms may leave the range of the type: they start from the first element, and may ask to sum
/// their terms again.
template <class Rule>
concept Rescales = requires { Rule::kRescales; };

/// Shifts and scales that are no finite numbers would turn the terms into NaN.
template <class D>
HWY_INLINE VecOf<D> FiniteOr(D d, VecOf<D> v, VecOf<D> otherwise) {
  return hn::IfThenElse(IsFinite(d, v), v, otherwise);
}

/// (sum |x|^p)^(1/p), the terms scaled by the largest magnitude where they need it.
template <int kPower>
struct LpRule {
  using First = MaxReduction;
  static constexpr bool kTwoSums = false;
  static constexpr bool kPicksFirst = false;
  static constexpr bool kOnePass = kPower == 1;
  static constexpr bool kTriesUnscaled = kPower == 2;
  static constexpr double kPadding = 0;
  static constexpr double kEmpty = 0;

  template <class D>
  static HWY_INLINE VecOf<D> key(D, const Summary<D>&, VecOf<D> v) {
    return hn::Abs(v);
  }
  template <class D>
  static HWY_INLINE void choose_shift(D d, Summary<D>& s) {
    if constexpr (kPower == 2) return ScaleByPowerOfTwo(d, s.first, s);
    const auto one = Constant(d, 1);
    s.shift = hn::IfThenElse(hn::Gt(s.first, hn::Zero(d)), FiniteOr(d, s.first, one), one);
  }
  template <class D>
  static HWY_INLINE VecOf<D> term(D d, const Summary<D>& s, VecOf<D> v) {
    if constexpr (kPower == 1) return hn::Abs(v);
    if constexpr (kPower == 2) return Power<2>(d, hn::Mul(v, s.scale), s.parameter);
    return Power<kPower>(d, hn::Div(hn::Abs(v), s.shift), s.parameter);
  }
  template <class D>
  static HWY_INLINE void finish(D d, Summary<D>& s) {
    if constexpr (kOnePass) {
      s.y = s.sum;
      return;
    }
    const auto root = Root<kPower>(d, s.sum, s.parameter);
    auto y = hn::Mul(s.shift, root);
    if constexpr (kPower == 0) {
      const auto beyond = hn::Not(IsFinite(d, root));
      if (!hn::AllFalse(d, beyond)) {  // y may be within the range of the type all the same
        const auto half = Root<0>(d, s.sum, hn::Add(s.parameter, s.parameter));
        y = hn::IfThenElse(beyond, hn::Mul(hn::Mul(s.shift, half), half), y);
      }
    }
    s.y = hn::IfThenElse(IsFinite(d, s.first), y, s.first);
  }
  template <class D>
  static HWY_INLINE void prepare_slopes(D d, Summary<D>& s) {
    if constexpr (kPower == 2) DivideSlopesBy(d, s.y, s);
  }
  /// 0 where x is 0.
  template <class D>
  static HWY_INLINE VecOf<D> slope(D d, Summary<D>& s, VecOf<D> v) {
    if constexpr (kPower == 2) {
      const auto slope = hn::Mul(hn::Mul(v, s.scale), s.inverse);
      return hn::IfThenZeroElse(hn::Eq(v, hn::Zero(d)), slope);
    }
    const auto ratio = hn::Div(hn::Abs(v), s.y);
    const auto magnitude = PowerSlope<kPower>(d, ratio, s.parameter);
    return hn::IfThenZeroElse(hn::Eq(v, hn::Zero(d)), hn::CopySign(magnitude, v));
  }
};

/// The limit of Lp for p = inf; the first of several largest magnitudes takes the gradient.
struct MaxMagnitudeRule {
  using First = MaxReduction;
  static constexpr bool kTwoSums = false;
  static constexpr bool kPicksFirst = true;
  static constexpr double kPadding = 0;
  static constexpr double kEmpty = 0;

  template <class D>
  static HWY_INLINE VecOf<D> key(D, const Summary<D>&, VecOf<D> v) {
    return hn::Abs(v);
  }
  template <class D>
  static HWY_INLINE void choose_shift(D d, Summary<D>& s) {
    s.shift = hn::Zero(d);
  }
  template <class D>
  static HWY_INLINE VecOf<D> term(D d, const Summary<D>&, VecOf<D>) {
    return hn::Zero(d);
  }
  template <class D>
  static HWY_INLINE void finish(D, Summary<D>& s) {
    s.y = s.first;
  }
  template <class D>
  static HWY_INLINE void prepare_slopes(D, Summary<D>&) {}
  template <class D>
  static HWY_INLINE VecOf<D> slope(D d, Summary<D>&, VecOf<D>) {
    return hn::Zero(d);
  }
  template <class D>
  static HWY_INLINE VecOf<D> picked_slope(D d, const Summary<D>&, VecOf<D> v) {
    return hn::IfThenZeroElse(hn::Eq(v, hn::Zero(d)), hn::CopySign(Constant(d, 1), v));
  }
};

/// (1 / r) log mean exp(r x)
struct LogSumExpRule {
  using First = MaxReduction;
  static constexpr bool kTwoSums = false;
  static constexpr bool kPicksFirst = false;
  static constexpr double kPadding = -std::numeric_limits<double>::infinity();
  static constexpr double kEmpty = -std::numeric_limits<double>::infinity();

  template <class D>
  static HWY_INLINE VecOf<D> key(D, const Summary<D>&, VecOf<D> v) {
    return v;
  }
  template <class D>
  static HWY_INLINE void choose_shift(D d, Summary<D>& s) {
    s.shift = FiniteOr(d, s.first, hn::Zero(d));
  }
  template <class D>
  static HWY_INLINE VecOf<D> term(D d, const Summary<D>& s, VecOf<D> v) {
    return ExpOrNaN(d, hn::Mul(s.parameter, hn::Sub(v, s.shift)));
  }
  template <class D>
  static HWY_INLINE void finish(D d, Summary<D>& s) {
    const auto mean = hn::Div(hn::Log(d, hn::Div(s.sum, s.count)), s.parameter);
    s.y = hn::IfThenElse(IsFinite(d, s.first), hn::Add(s.shift, mean), s.first);
  }
  template <class D>
  static HWY_INLINE void prepare_slopes(D d, Summary<D>& s) {
    s.inverse = hn::IfThenElseZero(hn::Gt(s.sum, hn::Zero(d)), hn::Div(Constant(d, 1), s.sum));
  }
  template <class D>
  static HWY_INLINE VecOf<D> slope(D d, Summary<D>& s, VecOf<D> v) {
    return slope_of_term(d, s, v, term(d, s, v));
  }
  template <class D>
  static HWY_INLINE VecOf<D> slope_of_term(D d, Summary<D>& s, VecOf<D>, VecOf<D> term) {
    return IfBelowInfinity(d, s.first, hn::Mul(term, s.inverse));
  }
};

/// sum w x / sum w with w = exp(t x)
struct SoftRule {
  using First = MaxReduction;
  static constexpr bool kTwoSums = true;
  static constexpr bool kPicksFirst = false;
  static constexpr double kPadding = -std::numeric_limits<double>::infinity();
  static constexpr double kEmpty = 0;

  template <class D>
  static HWY_INLINE VecOf<D> key(D, const Summary<D>&, VecOf<D> v) {
    return v;
  }
  template <class D>
  static HWY_INLINE void choose_shift(D d, Summary<D>& s) {
    s.shift = FiniteOr(d, s.first, hn::Zero(d));
  }
  template <class D>
  static HWY_INLINE VecOf<D> term(D d, const Summary<D>& s, VecOf<D> v) {
    return ExpOrNaN(d, hn::Mul(s.parameter, hn::Sub(v, s.shift)));
  }
  /// What has no weight adds nothing, -inf too.
  template <class D>
  static HWY_INLINE VecOf<D> second_term(D d, const Summary<D>& s, VecOf<D> v, VecOf<D> weight) {
    return hn::IfThenElseZero(hn::Gt(weight, hn::Zero(d)), hn::Mul(weight, hn::Sub(v, s.shift)));
  }
  template <class D>
  static HWY_INLINE void finish(D d, Summary<D>& s) {
    const auto y = hn::Add(s.shift, hn::Div(s.second_sum, s.sum));
    s.y = hn::IfThenElse(IsFinite(d, s.first), y, s.first);
    s.y = hn::IfThenElseZero(hn::Gt(s.count, hn::Zero(d)), s.y);
  }
  template <class D>
  static HWY_INLINE void prepare_slopes(D d, Summary<D>& s) {
    s.inverse = hn::Div(Constant(d, 1), s.sum);
  }
  template <class D>
  static HWY_INLINE VecOf<D> slope(D d, Summary<D>& s, VecOf<D> v) {
    return slope_of_term(d, s, v, term(d, s, v));
  }
  template <class D>
  static HWY_INLINE VecOf<D> slope_of_term(D d, Summary<D>& s, VecOf<D> v, VecOf<D> term) {
    const auto weight = hn::Mul(term, s.inverse);
    const auto slope = hn::Mul(weight, hn::MulAdd(s.parameter, hn::Sub(v, s.y), Constant(d, 1)));
    const auto real = hn::IfThenElseZero(hn::Gt(weight, hn::Zero(d)), slope);
    return IfBelowInfinity(d, s.first, real);
  }
};

/// (mean max(x, floor)^p)^(1/p)
template <int kPower>
struct GemRule {
  using First = MaxReduction;
  static constexpr bool kTriesUnscaled = kPower == 3;
  static constexpr bool kTwoSums = false;
  static constexpr bool kPicksFirst = false;
  static constexpr double kEmpty = 0;

  /// The maximum that keeps a NaN.
  template <class D>
  static HWY_INLINE VecOf<D> key(D d, const Summary<D>& s, VecOf<D> v) {
    return MaxOrNaN(d, s.floor, v);
  }
  template <class D>
  static HWY_INLINE void choose_shift(D d, Summary<D>& s) {
    if constexpr (kPower == 3) return ScaleByPowerOfTwo(d, s.first, s);
    s.shift = FiniteOr(d, s.first, Constant(d, 1));
  }
  template <class D>
  static HWY_INLINE VecOf<D> term(D d, const Summary<D>& s, VecOf<D> v) {
    if constexpr (kPower == 3) return Power<3>(d, hn::Mul(key(d, s, v), s.scale), s.parameter);
    return Power<0>(d, hn::Div(key(d, s, v), s.shift), s.parameter);
  }
  template <class D>
  static HWY_INLINE void finish(D d, Summary<D>& s) {
    const auto mean = hn::Div(s.sum, s.count);
    const auto root = Root<0>(d, mean, s.parameter);
    const auto y = hn::Mul(s.shift, kPower == 3 ? NearerCubeRoot(d, root, mean) : root);
    s.y = hn::IfThenElse(IsFinite(d, s.first), y, s.first);
  }
  template <class D>
  static HWY_INLINE void prepare_slopes(D d, Summary<D>& s) {
    DivideSlopesBy(d, s.y, s);
    s.sum = hn::Div(Constant(d, 1), s.count);  // has served
  }
  template <class D>
  static HWY_INLINE VecOf<D> slope(D d, Summary<D>& s, VecOf<D> v) {
    const auto ratio = hn::Mul(hn::Mul(key(d, s, v), s.scale), s.inverse);
    const auto slope = hn::Mul(PowerSlope<kPower>(d, ratio, s.parameter), s.sum);
    return hn::IfThenZeroElse(hn::Le(v, s.floor), slope);
  }
};

/// dy/dp of GeM: (y / p) (sum c^p log c / sum c^p - log y) with c = max(x, floor)
struct GemParameterRule : GemRule<0> {
  static constexpr bool kTwoSums = true;

  template <class D>
  static HWY_INLINE VecOf<D> second_term(D d, const Summary<D>& s, VecOf<D> v, VecOf<D> weight) {
    return hn::Mul(weight, hn::Log(d, hn::Div(key(d, s, v), s.shift)));
  }
  template <class D>
  static HWY_INLINE void finish(D d, Summary<D>& s) {
    GemRule<0>::finish(d, s);
    const auto logarithm = hn::Sub(hn::Div(s.second_sum, s.sum), hn::Log(d, hn::Div(s.y, s.shift)));
    s.y = hn::Mul(hn::Div(s.y, s.parameter), logarithm);
  }
};

/// sqrt(mean (x - mean)^2). The mean is found from the first element on, so that of equal elements nothing is
/// left; squares that leave the range of the type are summed again with a scale.
struct StdRule {
  using First = SumReduction;
  static constexpr bool kTwoSums = false;
  static constexpr bool kPicksFirst = false;
  static constexpr bool kRescales = true;
  static constexpr double kEmpty = 0;

  template <class D>
  static HWY_INLINE void begin(D d, VecOf<D> first, Summary<D>& s) {
    s.shift = first;
    s.scale = Constant(d, 1);
  }
  template <class D>
  static HWY_INLINE VecOf<D> key(D, const Summary<D>& s, VecOf<D> v) {
    return hn::Sub(v, s.shift);
  }
  template <class D>
  static HWY_INLINE void choose_shift(D, Summary<D>& s) {
    s.shift = hn::Add(s.shift, hn::Div(s.first, s.count));
  }
  /// False where no scale is needed. Sums of squares that are neither huge nor tiny have lost nothing.
  template <class D>
  static HWY_INLINE bool choose_scale(D d, Summary<D>& s) {
    constexpr bool kDouble = sizeof(hn::TFromD<D>) == sizeof(double);
    const auto huge = hn::Gt(s.sum, Constant(d, kDouble ? 0x1p1000 : 0x1p120));
    const auto tiny = hn::Lt(s.sum, Constant(d, kDouble ? 0x1p-900 : 0x1p-100));
    if (hn::AllFalse(d, hn::Or(huge, tiny))) return false;
    s.scale = hn::IfThenElse(huge, Constant(d, kDouble ? 0x1p-800 : 0x1p-100), s.scale);
    s.scale = hn::IfThenElse(tiny, Constant(d, kDouble ? 0x1p800 : 0x1p100), s.scale);
    return true;
  }
  template <class D>
  static HWY_INLINE VecOf<D> term(D, const Summary<D>& s, VecOf<D> v) {
    const auto apart = hn::Mul(hn::Sub(v, s.shift), s.scale);
    return hn::Mul(apart, apart);
  }
  template <class D>
  static HWY_INLINE void finish(D, Summary<D>& s) {
    s.y = hn::Div(hn::Sqrt(hn::Div(s.sum, s.count)), s.scale);
  }
  template <class D>
  static HWY_INLINE void prepare_slopes(D d, Summary<D>& s) {
    DivideSlopesBy(d, s.y, s);
    s.inverse = hn::Div(s.inverse, s.count);
  }
  /// 0 where y is 0.
  template <class D>
  static HWY_INLINE VecOf<D> slope(D d, Summary<D>& s, VecOf<D> v) {
    const auto slope = hn::Mul(hn::Mul(hn::Sub(v, s.shift), s.scale), s.inverse);
    return hn::IfThenZeroElse(hn::Eq(s.y, hn::Zero(d)), slope);
  }
};

/// (mean + maximum) / 2; the first maximum takes half of the gradient beside its share of the mean.
struct AvgMaxRule {
  using First = MaxReduction;
  static constexpr bool kTwoSums = false;
  static constexpr bool kPicksFirst = true;
  static constexpr double kEmpty = 0;

  template <class D>
  static HWY_INLINE VecOf<D> key(D, const Summary<D>&, VecOf<D> v) {
    return v;
  }
  template <class D>
  static HWY_INLINE void choose_shift(D d, Summary<D>& s) {
    s.shift = hn::Zero(d);
  }
  template <class D>
  static HWY_INLINE VecOf<D> term(D, const Summary<D>&, VecOf<D> v) {
    return v;
  }
  template <class D>
  static HWY_INLINE void finish(D d, Summary<D>& s) {
    s.y = hn::Mul(Constant(d, 0.5), hn::Add(hn::Div(s.sum, s.count), s.first));
  }
  template <class D>
  static HWY_INLINE void prepare_slopes(D d, Summary<D>& s) {
    s.inverse = hn::Div(Constant(d, 0.5), s.count);
  }
  template <class D>
  static HWY_INLINE VecOf<D> slope(D, Summary<D>& s, VecOf<D>) {
    return s.inverse;
  }
  template <class D>
  static HWY_INLINE VecOf<D> picked_slope(D d, const Summary<D>&, VecOf<D>) {
    return Constant(d, 0.5);
  }
};

/// Where the key of v is the one that `first` kept; NaN equals NaN.
template <class Rule, class D>
HWY_INLINE hn::Mask<D> IsPicked(D d, const Summary<D>& s, VecOf<D> v) {
  const auto key = Rule::key(d, s, v);
  return hn::Or(hn::Eq(key, s.first), hn::And(hn::IsNaN(key), hn::IsNaN(s.first)));
}

/// dy/dx of one element per lane, the elements in order. Rules that pick the first of several elements mark
/// in `shift`, which they do not use, that they have.
template <class Rule, class D>
HWY_INLINE VecOf<D> SlopeInOrder(D d, Summary<D>& s, VecOf<D> v) {
  auto slope = Rule::slope(d, s, v);
  if constexpr (Rule::kPicksFirst) {
    const auto picked = hn::And(IsPicked<Rule>(d, s, v), hn::Eq(s.shift, hn::Zero(d)));
    s.shift = hn::IfThenElse(picked, Constant(d, 1), s.shift);
    slope = hn::Add(slope, hn::IfThenElseZero(picked, Rule::picked_slope(d, s, v)));
  }
  return slope;
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
