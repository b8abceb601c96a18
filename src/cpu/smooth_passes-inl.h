// What smooth pooling forward and backward share: a rule's parameters, and the passes that summarise windows.
#if defined(CENOTE_CPU_SMOOTH_PASSES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SMOOTH_PASSES_INL_H_
#undef CENOTE_CPU_SMOOTH_PASSES_INL_H_
#else
#define CENOTE_CPU_SMOOTH_PASSES_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "backend.h"
#include "cpu/planar-inl.h"
#include "cpu/segments-inl.h"
#include "cpu/smooth_rules-inl.h"
#include "cpu/window_elements-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The parameters of a rule as elements of T, one or one per channel.
template <class T>
class Parameters {
 public:
  Parameters(const SmoothRule& rule, const ConstTensor5& x) : floor_(static_cast<T>(rule.floor)) {
    const std::size_t slack = kMaxLanes<T>;
    const auto channels = static_cast<std::size_t>(x.size[1]);
    const auto first = static_cast<std::size_t>(rule.parameters.size() > 1 ? x.first_channel : 0);
    values_.assign(channels + slack, T{1});
    for (std::size_t c = 0; c < channels; ++c) {
      const std::size_t at = rule.parameters.size() > 1 ? first + c : 0;
      values_[c] = nearest(rule.parameters[at]);
    }
  }

  /// Of one channel, or of as many as there are lanes from `c` on.
  template <class D>
  HWY_INLINE void set_one(D d, std::int64_t c, Summary<D>& s) const {
    s.parameter = hn::Set(d, values_[static_cast<std::size_t>(c)]);
    s.floor = hn::Set(d, floor_);
    s.scale = s.inverse = Constant(d, 1);
  }
  template <class D>
  HWY_INLINE void set_many(D d, std::int64_t c, Summary<D>& s) const {
    s.parameter = hn::LoadU(d, values_.data() + c);
    s.floor = hn::Set(d, floor_);
    s.scale = s.inverse = Constant(d, 1);
  }

 private:
  /// The normal number of T next to a value > 0: infinities and zeros would multiply to NaN.
  static T nearest(double value) {
    return static_cast<T>(
        std::clamp<double>(value, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
  }

  T floor_;
  std::vector<T> values_;
};

/// What the keys of no element reduce to.
template <class Rule, class D>
HWY_INLINE VecOf<D> FirstOfNone(D d) {
  return hn::Set(d, Rule::First::template identity<hn::TFromD<D>>());
}

/// The keys of load(begin) .. load(end - 1), one block, joined to those of the blocks before.
template <class Rule, class D, class Load>
HWY_INLINE void ReduceKeys(D d, std::int64_t begin, std::int64_t end, const Load& load, Summary<D>& s) {
  using First = typename Rule::First;
  auto block = Rule::key(d, s, load(begin));
  for (std::int64_t i = begin + 1; i < end; ++i) block = First::combine(d, block, Rule::key(d, s, load(i)));
  s.first = First::combine(d, s.first, block);
}

/// The terms of one block.
template <class Rule, class D>
struct TermSums {
  VecOf<D> sum;
  VecOf<D> second;

  HWY_INLINE void clear(D d) { sum = second = hn::Zero(d); }

  /// The term of v, which is added.
  HWY_INLINE VecOf<D> add(D d, const Summary<D>& s, VecOf<D> v) {
    const auto term = Rule::term(d, s, v);
    sum = hn::Add(sum, term);
    if constexpr (Rule::kTwoSums) second = hn::Add(second, Rule::second_term(d, s, v, term));
    if constexpr (TriesUnscaled<Rule>) second = hn::Or(second, Rule::key(d, s, v));
    return term;
  }
  /// To those of the blocks before.
  HWY_INLINE void join(Summary<D>& s) const {
    s.sum = hn::Add(s.sum, sum);
    s.second_sum = TriesUnscaled<Rule> ? hn::Or(s.second_sum, second) : hn::Add(s.second_sum, second);
  }
};

/// The terms of one block, added to those of the blocks before; keep(i, term) may note them.
template <class Rule, class D, class Load, class Keep>
HWY_INLINE void AddTerms(D d, std::int64_t begin, std::int64_t end, const Load& load, const Keep& keep,
                         Summary<D>& s) {
  TermSums<Rule, D> sums;
  sums.clear(d);
  for (std::int64_t i = begin; i < end; ++i) keep(i, sums.add(d, s, load(i)));
  sums.join(s);
}

struct KeepNothing {
  template <class V>
  HWY_INLINE void operator()(std::int64_t, V) const {}
};

/// body(begin, end) for each block of taps.
template <class Body>
HWY_INLINE void ForEachBlock(std::int64_t taps, const Body& body) {
  for (std::int64_t begin = 0; begin < taps; begin += kSumBlock) {
    body(begin, std::min(taps, begin + kSumBlock));
  }
}

template <class D>
HWY_INLINE void ClearSums(D d, Summary<D>& s) {
  s.sum = s.second_sum = hn::Zero(d);
}

/// For sums without a shift.
template <class D>
HWY_INLINE void BeginUnscaled(D d, Summary<D>& s) {
  s.first = hn::Zero(d);
  s.shift = s.scale = Constant(d, 1);
  ClearSums(d, s);
}

/// The second pass over load(0) .. load(taps - 1).
template <class Rule, class D, class Load, class Keep>
HWY_INLINE void SumTerms(D d, std::int64_t taps, const Load& load, const Keep& keep, Summary<D>& s) {
  ClearSums(d, s);
  ForEachBlock(taps, [&](std::int64_t begin, std::int64_t end)
                         CENOTE_VECTOR_LAMBDA { AddTerms<Rule>(d, begin, end, load, keep, s); });
}

/// Whether the sums of some lane are unsure, and its elements are not all the same, such as those beyond the
/// outputs or zeros.
template <class Rule, class D, class Load>
HWY_INLINE bool MustSumAgain(D d, std::int64_t taps, const Load& load, const Summary<D>& s) {
  const auto unsure = Rule::unsure(d, s);
  if (HWY_LIKELY(hn::AllFalse(d, unsure))) return false;
  for (std::int64_t i = 0; i < taps; ++i)
    if (!hn::AllFalse(d, hn::And(unsure, Rule::differs(d, s, load(i))))) return true;
  return false;
}

/// The second pass, those that follow it, and y.
template <class Rule, class D, class Load, class Keep>
HWY_INLINE void SumAndFinish(D d, std::int64_t taps, const Load& load, const Keep& keep, Summary<D>& s) {
  SumTerms<Rule>(d, taps, load, keep, s);
  if constexpr (SumsAgain<Rule>) {
    if (MustSumAgain<Rule>(d, taps, load, s)) {
      Rule::begin_again(d, s);
      return SumAndFinish<typename Rule::Again>(d, taps, load, KeepNothing(), s);
    }
  }
  Rule::finish(d, s);
}

/// Both passes over load(0) .. load(taps - 1), taps > 0; parameter, floor and count are set.
template <class Rule, class D, class Load, class Keep>
HWY_INLINE void SummariseInTwoPasses(D d, std::int64_t taps, const Load& load, const Keep& keep,
                                     Summary<D>& s) {
  if constexpr (StartsFromFirst<Rule>) Rule::begin(d, load(0), s);
  if constexpr (!OnePass<Rule>) {
    s.first = FirstOfNone<Rule>(d);
    ForEachBlock(taps, [&](std::int64_t begin, std::int64_t end)
                           CENOTE_VECTOR_LAMBDA { ReduceKeys<Rule>(d, begin, end, load, s); });
    Rule::choose_shift(d, s);
  } else {
    s.first = s.shift = hn::Zero(d);
  }
  SumAndFinish<Rule>(d, taps, load, keep, s);
}

/// Whether the sums without a shift may stay.
template <class Rule, class D>
HWY_INLINE bool FinishUnscaled(D d, Summary<D>& s) {
  if (!SumIsSafe(d, s.sum, s.second_sum)) return false;
  Rule::finish(d, s);
  return true;
}

template <class Rule, class D, class Load, class Keep = KeepNothing>
HWY_INLINE void Summarise(D d, std::int64_t taps, const Load& load, Summary<D>& s, const Keep& keep = {}) {
  if constexpr (TriesUnscaled<Rule>) {
    BeginUnscaled(d, s);
    SumTerms<Rule>(d, taps, load, keep, s);
    if (FinishUnscaled<Rule>(d, s)) return;
  }
  SummariseInTwoPasses<Rule>(d, taps, load, keep, s);
}

/// As SumTerms, over neighbours; all lanes alike.
template <class Rule, class D, class T>
HWY_INLINE void SumTermsOfRun(D d, const T* from, std::int64_t count, Summary<D>& s) {
  s.sum = Constant(d, ReduceContiguous<SumReduction>(
                          from, count, [&](VecOf<D> v) CENOTE_VECTOR_LAMBDA { return Rule::term(d, s, v); }));
  s.second_sum = hn::Zero(d);
  if constexpr (Rule::kTwoSums) {
    s.second_sum =
        Constant(d, ReduceContiguous<SumReduction>(from, count, [&](VecOf<D> v) CENOTE_VECTOR_LAMBDA {
                   return Rule::second_term(d, s, v, Rule::term(d, s, v));
                 }));
  }
}

/// As SumAndFinish, over neighbours.
template <class Rule, class D, class T>
HWY_INLINE void SumAndFinishRun(D d, const T* from, std::int64_t count, Summary<D>& s) {
  SumTermsOfRun<Rule>(d, from, count, s);
  if constexpr (SumsAgain<Rule>) {
    const auto load = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA { return hn::Set(d, from[i]); };
    if (MustSumAgain<Rule>(d, count, load, s)) {
      Rule::begin_again(d, s);
      return SumAndFinishRun<typename Rule::Again>(d, from, count, s);
    }
  }
  Rule::finish(d, s);
}

/// As Summarise, over neighbours.
template <class Rule, class D, class T>
HWY_INLINE void SummariseRun(D d, const T* from, std::int64_t count, Summary<D>& s) {
  s.count = hn::Set(d, static_cast<T>(count));
  if constexpr (TriesUnscaled<Rule>) {
    BeginUnscaled(d, s);
    SumTermsOfRun<Rule>(d, from, count, s);
    if (SumIsSafe(d, s.sum, Constant(d, 1))) return Rule::finish(d, s);
  }
  if constexpr (StartsFromFirst<Rule>) Rule::begin(d, hn::Set(d, from[0]), s);
  if constexpr (!OnePass<Rule>) {
    s.first =
        Constant(d, ReduceContiguous<typename Rule::First>(
                        from, count, [&](VecOf<D> v) CENOTE_VECTOR_LAMBDA { return Rule::key(d, s, v); }));
    Rule::choose_shift(d, s);
  } else {
    s.first = s.shift = hn::Zero(d);
  }
  SumAndFinishRun<Rule>(d, from, count, s);
}

/// Rules that only whole planes have take no padding.
template <class Rule>
concept Slides = requires { Rule::kPadding; };

/// visit.operator()<Rule>()
template <class Visit>
void with_rule(const SmoothRule& rule, const Visit& visit) {
  const double parameter = rule.parameters[0];
  switch (rule.kind) {
    case SmoothKind::kLp:
      if (parameter == 1) return visit.template operator()<LpRule<1>>();
      if (parameter == 2) return visit.template operator()<LpRule<2>>();
      if (parameter == std::numeric_limits<double>::infinity())
        return visit.template operator()<MaxMagnitudeRule>();
      return visit.template operator()<LpRule<0>>();
    case SmoothKind::kLogSumExp:
      return visit.template operator()<LogSumExpRule>();
    case SmoothKind::kSoft:
      return visit.template operator()<SoftRule>();
    case SmoothKind::kGem:
      if (rule.parameters.size() == 1 && parameter == 3) return visit.template operator()<GemRule<3>>();
      return visit.template operator()<AnyGemRule>();
    case SmoothKind::kGemParameter:
      return visit.template operator()<GemParameterRule>();
    case SmoothKind::kStd:
      return visit.template operator()<StdRule>();
    case SmoothKind::kAvgMax:
      return visit.template operator()<AvgMaxRule>();
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
