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
      values_[c] = static_cast<T>(rule.parameters[at]);
    }
  }

  /// Of one channel, or of as many as there are lanes from `c` on.
  template <class D>
  HWY_INLINE void set_one(D d, std::int64_t c, Summary<D>& s) const {
    s.parameter = hn::Set(d, values_[static_cast<std::size_t>(c)]);
    s.floor = hn::Set(d, floor_);
    s.scale = Constant(d, 1);
  }
  template <class D>
  HWY_INLINE void set_many(D d, std::int64_t c, Summary<D>& s) const {
    s.parameter = hn::LoadU(d, values_.data() + c);
    s.floor = hn::Set(d, floor_);
    s.scale = Constant(d, 1);
  }

 private:
  T floor_;
  std::vector<T> values_;
};

/// The second pass over load(0) .. load(taps - 1).
template <class Rule, class D, class Load>
HWY_INLINE void SumTerms(D d, std::int64_t taps, const Load& load, Summary<D>& s) {
  s.sum = hn::Zero(d);
  s.second_sum = hn::Zero(d);
  for (std::int64_t begin = 0; begin < taps; begin += kSumBlock) {
    const std::int64_t end = std::min(taps, begin + kSumBlock);
    auto sum = hn::Zero(d);
    auto second = hn::Zero(d);
    for (std::int64_t i = begin; i < end; ++i) {
      const auto v = load(i);
      const auto term = Rule::term(d, s, v);
      sum = hn::Add(sum, term);
      if constexpr (Rule::kTwoSums) second = hn::Add(second, Rule::second_term(d, s, v, term));
    }
    s.sum = hn::Add(s.sum, sum);
    s.second_sum = hn::Add(s.second_sum, second);
  }
}

/// Both passes over load(0) .. load(taps - 1), taps > 0; parameter, floor and count are set.
template <class Rule, class D, class Load>
HWY_INLINE void Summarise(D d, std::int64_t taps, const Load& load, Summary<D>& s) {
  if constexpr (Rescales<Rule>) Rule::begin(d, load(0), s);
  if constexpr (!OnePass<Rule>) {
    s.first = ReduceBlocked<typename Rule::First>(
        d, taps, [&](std::int64_t i) CENOTE_VECTOR_LAMBDA { return Rule::key(d, s, load(i)); });
    Rule::choose_shift(d, s);
  } else {
    s.first = s.shift = hn::Zero(d);
  }
  SumTerms<Rule>(d, taps, load, s);
  if constexpr (Rescales<Rule>) {
    if (Rule::choose_scale(d, s)) SumTerms<Rule>(d, taps, load, s);
  }
  Rule::finish(d, s);
}

/// Reduces load(v of neighbours, lanes that are real) over a run; sums join in double, block by block.
template <class Reduction, class D, class T, class Load>
HWY_INLINE double ReduceAlong(D d, const T* from, std::int64_t count, const Load& load) {
  const auto lanes = lanes_of<T>();
  const auto identity = hn::Set(d, Reduction::template identity<T>());
  auto total = Reduction::template identity<double>();
  for (std::int64_t begin = 0; begin < count; begin += kSumBlock * lanes) {
    const std::int64_t end = std::min(count, begin + kSumBlock * lanes);
    auto block = identity;
    auto other = identity;  // so that one addition need not wait for the one before
    std::int64_t i = begin;
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      block = Reduction::combine(d, block, load(hn::LoadU(d, from + i)));
      other = Reduction::combine(d, other, load(hn::LoadU(d, from + i + lanes)));
    }
    for (; i + lanes <= end; i += lanes) block = Reduction::combine(d, block, load(hn::LoadU(d, from + i)));
    if (i < end) {
      const auto left = static_cast<std::size_t>(end - i);
      const auto last = load(LoadPart(d, from + i, left));
      block = Reduction::combine(d, block, hn::IfThenElse(hn::FirstN(d, left), last, identity));
    }
    block = Reduction::combine(d, block, other);
    total = Reduction::combine_scalar(total, static_cast<double>(ReduceLanes<Reduction>(d, block)));
  }
  return total;
}

/// As Summarise, over neighbours; all lanes alike.
template <class Rule, class D, class T>
HWY_INLINE void SummariseRun(D d, const T* from, std::int64_t count, Summary<D>& s) {
  s.count = hn::Set(d, static_cast<T>(count));
  if constexpr (Rescales<Rule>) Rule::begin(d, hn::Set(d, from[0]), s);
  if constexpr (!OnePass<Rule>) {
    s.first =
        Constant(d, ReduceAlong<typename Rule::First>(
                        d, from, count, [&](VecOf<D> v) CENOTE_VECTOR_LAMBDA { return Rule::key(d, s, v); }));
    Rule::choose_shift(d, s);
  } else {
    s.first = s.shift = hn::Zero(d);
  }
  const auto sum_terms = [&]() HWY_ATTR {
    s.sum = Constant(d, ReduceAlong<SumReduction>(d, from, count, [&](VecOf<D> v) CENOTE_VECTOR_LAMBDA {
                       return Rule::term(d, s, v);
                     }));
  };
  sum_terms();
  if constexpr (Rescales<Rule>) {
    if (Rule::choose_scale(d, s)) sum_terms();
  }
  s.second_sum = hn::Zero(d);
  if constexpr (Rule::kTwoSums) {
    s.second_sum =
        Constant(d, ReduceAlong<SumReduction>(d, from, count, [&](VecOf<D> v) CENOTE_VECTOR_LAMBDA {
                   return Rule::second_term(d, s, v, Rule::term(d, s, v));
                 }));
  }
  Rule::finish(d, s);
}

/// Summarises a vector of channels of one window.
template <class Rule, class T>
HWY_INLINE void SummarisePixels(const PixelOffsets& offsets, const T* from, std::size_t part,
                                Summary<WideTag<T>>& s) {
  const WideTag<T> d;
  s.count = hn::Set(d, static_cast<T>(offsets.count()));
  Summarise<Rule>(
      d, offsets.count(),
      [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
        return LoadLanes<true>(d, from + offsets.x[static_cast<std::size_t>(i)], 1, part);
      },
      s);
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
      return visit.template operator()<GemRule<0>>();
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
