// The kinds of pooling whose gradient depends on the elements, as formulas over vectors. A rule takes two
// passes over a window: `key` reduced by `First` gives a shift, with which `term` is summed, so that nothing
// overflows; some then sum again. `finish` makes y of both. Backward, `prepare_slopes` follows; `slope` is
// dy/dx of one element, to which rules that pick the first largest key add `picked_slope` there.
#if defined(CENOTE_CPU_SMOOTH_RULES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SMOOTH_RULES_INL_H_
#undef CENOTE_CPU_SMOOTH_RULES_INL_H_
#else
#define CENOTE_CPU_SMOOTH_RULES_INL_H_
#endif

#include <limits>

#include "cpu/smooth_math-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

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

/// Whether the mean of terms of up to 1 is above a half. The nearer it is to 1, the less exact its logarithm.
template <class D>
HWY_INLINE hn::Mask<D> MeanIsNearOne(D d, const Summary<D>& s) {
  return hn::Gt(s.sum, hn::Mul(Constant(d, 0.5), s.count));
}

/// log(1 + v) for v from -1/2 to 0, within the range that Highway states for its own.
template <class D>
HWY_INLINE VecOf<D> LogOfOneAnd(D d, VecOf<D> v) {
  return hn::Neg(hn::Log1p(d, hn::Neg(hn::Div(v, hn::Add(Constant(d, 1), v)))));
}

/// log mean exp(p t) / p of the `distance` t <= 0 of each element, where the rule is unsure. Not exp(p t),
/// which rounds near 1, but (exp(p t) - 1) / p is summed, and t itself where p t is tiny.
template <class Rule>
struct NearOne {
  static constexpr bool kTwoSums = true;

  template <class D>
  static HWY_INLINE VecOf<D> term(D d, const Summary<D>& s, VecOf<D> v) {
    const auto distance = hn::IfThenElseZero(counts(d, s, v), Rule::distance(d, s, v));
    const auto exponent = hn::Mul(s.parameter, distance);
    return if_linear(d, exponent, distance, hn::Div(hn::Expm1(d, exponent), s.parameter));
  }
  /// How many elements are above -inf, as padding is not.
  template <class D>
  static HWY_INLINE VecOf<D> second_term(D d, const Summary<D>& s, VecOf<D> v, VecOf<D>) {
    return hn::IfThenElseZero(counts(d, s, v), Constant(d, 1));
  }
  template <class D>
  static HWY_INLINE void finish(D d, Summary<D>& s) {
    // Elements of -inf have a term of -1 / p.
    const auto none = hn::Div(hn::Sub(s.second_sum, s.count), s.parameter);
    const auto mean = hn::Div(hn::Add(s.sum, none), s.count);
    s.sum = s.inverse;  // from before
    const auto near_one = hn::And(Rule::unsure(d, s), IsFinite(d, mean));
    const auto grown = hn::IfThenElseZero(near_one, hn::Mul(s.parameter, mean));
    const auto logarithm = if_linear(d, grown, mean, hn::Div(LogOfOneAnd(d, grown), s.parameter));
    Rule::finish_from(d, s, hn::IfThenElse(near_one, logarithm, Rule::logarithm(d, s)));
  }

 private:
  template <class D>
  static HWY_INLINE hn::Mask<D> counts(D d, const Summary<D>& s, VecOf<D> v) {
    return hn::Gt(Rule::distance(d, s, v), hn::Set(d, -std::numeric_limits<hn::TFromD<D>>::infinity()));
  }
  /// exp(v) - 1 and log(1 + v) are v, but for v^2 / 2.
  template <class D>
  static HWY_INLINE VecOf<D> if_linear(D d, VecOf<D> v, VecOf<D> yes, VecOf<D> no) {
    constexpr bool kDouble = sizeof(hn::TFromD<D>) == sizeof(double);
    return hn::IfThenElse(hn::Lt(hn::Abs(v), Constant(d, kDouble ? 0x1p-60 : 0x1p-30)), yes, no);
  }
};

/// Rules that end with log mean exp(p t) / p, made y by `finish_from`.
template <class Rule>
struct LogOfMean {
  using Again = NearOne<Rule>;

  template <class D>
  static HWY_INLINE void begin_again(D, Summary<D>& s) {
    s.inverse = s.sum;  // kept
  }
  template <class D>
  static HWY_INLINE VecOf<D> logarithm(D d, const Summary<D>& s) {
    return hn::Div(hn::Log(d, hn::Div(s.sum, s.count)), s.parameter);
  }
  template <class D>
  static HWY_INLINE void finish(D d, Summary<D>& s) {
    Rule::finish_from(d, s, logarithm(d, s));
  }
};

/// (1 / r) log mean exp(r x)
struct LogSumExpRule : LogOfMean<LogSumExpRule> {
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
  static HWY_INLINE VecOf<D> distance(D, const Summary<D>& s, VecOf<D> v) {
    return hn::Sub(v, s.shift);
  }
  template <class D>
  static HWY_INLINE VecOf<D> term(D d, const Summary<D>& s, VecOf<D> v) {
    return ExpOrNaN(d, hn::Mul(s.parameter, distance(d, s, v)));
  }
  template <class D>
  static HWY_INLINE hn::Mask<D> differs(D, const Summary<D>& s, VecOf<D> v) {
    return hn::Ne(v, s.shift);
  }
  /// Where the roundings of the mean, over r, are more than some of the shift.
  template <class D>
  static HWY_INLINE hn::Mask<D> unsure(D d, const Summary<D>& s) {
    const auto small = hn::Lt(hn::Mul(s.parameter, hn::Abs(s.shift)), Constant(d, 0.0625));
    return hn::And(small, MeanIsNearOne(d, s));
  }
  template <class D>
  static HWY_INLINE void finish_from(D d, Summary<D>& s, VecOf<D> logarithm) {
    s.y = hn::IfThenElse(IsFinite(d, s.first), hn::Add(s.shift, logarithm), s.first);
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
    finish_from_root(d, s, kPower == 3 ? NearerCubeRoot(d, root, mean) : root);
  }
  template <class D>
  static HWY_INLINE void finish_from_root(D d, Summary<D>& s, VecOf<D> root) {
    s.y = hn::IfThenElse(IsFinite(d, s.first), hn::Mul(s.shift, root), s.first);
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

/// GeM of any p: the exponential of log-sum-exp over the logarithms of the elements.
struct AnyGemRule : GemRule<0>, LogOfMean<AnyGemRule> {
  using LogOfMean<AnyGemRule>::finish;

  template <class D>
  static HWY_INLINE VecOf<D> distance(D d, const Summary<D>& s, VecOf<D> v) {
    return hn::Log(d, hn::Div(key(d, s, v), s.shift));
  }
  template <class D>
  static HWY_INLINE hn::Mask<D> differs(D d, const Summary<D>& s, VecOf<D> v) {
    return hn::Ne(key(d, s, v), s.shift);
  }
  /// Where the roundings of the mean, over p, are more than some of y.
  template <class D>
  static HWY_INLINE hn::Mask<D> unsure(D d, const Summary<D>& s) {
    return hn::And(hn::Lt(s.parameter, Constant(d, 0.25)), MeanIsNearOne(d, s));
  }
  template <class D>
  static HWY_INLINE void finish_from(D d, Summary<D>& s, VecOf<D> logarithm) {
    finish_from_root(d, s, ExpOrNaN(d, logarithm));
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

/// The sum of squares of the deviation, and its end.
struct SquaresRule {
  static constexpr bool kTwoSums = false;

  template <class D>
  static HWY_INLINE VecOf<D> term(D, const Summary<D>& s, VecOf<D> v) {
    const auto apart = hn::Mul(hn::Sub(v, s.shift), s.scale);
    return hn::Mul(apart, apart);
  }
  template <class D>
  static HWY_INLINE void finish(D, Summary<D>& s) {
    s.y = hn::Div(hn::Sqrt(hn::Div(s.sum, s.count)), s.scale);
  }
};

/// sqrt(mean (x - mean)^2). The mean is found from the first element on, so that of equal elements nothing is
/// left; squares that leave the range of the type are summed again with a scale.
struct StdRule : SquaresRule {
  using First = SumReduction;
  using Again = SquaresRule;
  static constexpr bool kPicksFirst = false;
  static constexpr bool kStartsFromFirst = true;
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
  template <class D>
  static HWY_INLINE hn::Mask<D> differs(D, const Summary<D>& s, VecOf<D> v) {
    return hn::Ne(v, s.shift);
  }
  /// Sums of squares that are neither huge nor tiny have lost nothing.
  template <class D>
  static HWY_INLINE hn::Mask<D> unsure(D d, const Summary<D>& s) {
    return hn::Or(is_huge(d, s.sum), is_tiny(d, s.sum));
  }
  template <class D>
  static HWY_INLINE void begin_again(D d, Summary<D>& s) {
    constexpr bool kDouble = sizeof(hn::TFromD<D>) == sizeof(double);
    const auto less = Constant(d, kDouble ? 0x1p-800 : 0x1p-100);
    const auto more = Constant(d, kDouble ? 0x1p800 : 0x1p100);
    s.scale = hn::IfThenElse(is_huge(d, s.sum), less, s.scale);
    s.scale = hn::IfThenElse(is_tiny(d, s.sum), more, s.scale);
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

 private:
  template <class D>
  static HWY_INLINE hn::Mask<D> is_huge(D d, VecOf<D> sum) {
    return hn::Gt(sum, Constant(d, sizeof(hn::TFromD<D>) == sizeof(double) ? 0x1p1000 : 0x1p120));
  }
  template <class D>
  static HWY_INLINE hn::Mask<D> is_tiny(D d, VecOf<D> sum) {
    return hn::Lt(sum, Constant(d, sizeof(hn::TFromD<D>) == sizeof(double) ? 0x1p-900 : 0x1p-100));
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
