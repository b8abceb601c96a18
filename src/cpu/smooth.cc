// Pooling whose gradient depends on the elements, on the CPU. Rows of outputs take their taps from rows that
// vectors read at unit stride; single large or uneven windows are packed and read along their elements;
// channels-last pixels are read where they are, in vectors over the channels.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/smooth.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include <vector>

#include "backend.h"
#include "core/parallel.h"
#include "cpu/layout.h"
#include "cpu/planar-inl.h"
#include "cpu/scatter-inl.h"
#include "cpu/smooth_rules-inl.h"
#include "cpu/window_elements-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

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

// ---- rows of outputs ----------------------------------------------------------------------------

template <class Rule, class T>
void ForwardRows(const Tensor5& y, const ConstTensor5& x, const Axes& axes, const Parameters<T>& parameters) {
  const WideTag<T> d;
  const Axis& w = axes[2];
  const TapSlots slots(w);
  const std::vector<T> counts = column_counts<T>(w);
  const std::int64_t most = outs_per_stretch(axes, slots);
  const Cursor::Index units{y.size[0], y.size[1], y.size[2], y.size[3], ceil_divide(w.out(), most)};
  const std::int64_t grain = row_grain(bytes_per_output_row<T>(axes));
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    TapRows<T> tap_rows(axes, slots, most);
    const std::vector<T*> taps = tap_pointers(tap_rows, axes);
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const Stretch stretch{at[4] * most, std::min(most, w.out() - at[4] * most)};
      T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]) + stretch.first * y.stride[4];
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      if (rows.count() == 0) {
        fill_row(to, y.stride[4], stretch.count, static_cast<T>(Rule::kEmpty));
        continue;
      }
      tap_rows.fill(rows, x.stride[4], w, stretch, static_cast<T>(Rule::kPadding));
      const RowSink<T> sink(to, w.out() == 1 ? 1 : y.stride[4], stretch.count);
      Summary<WideTag<T>> s;
      parameters.set_one(d, at[1], s);
      const auto height = hn::Set(d, static_cast<T>(rows.count()));
      for (std::int64_t m = 0; m < stretch.count; m += lanes_of<T>()) {
        s.count = hn::Mul(height, hn::LoadU(d, counts.data() + stretch.first + m));
        Summarise<Rule>(
            d, rows.count() * w.kernel(),
            [&](std::int64_t i)
                CENOTE_VECTOR_LAMBDA { return hn::LoadU(d, taps[static_cast<std::size_t>(i)] + m); },
            s);
        sink.store(d, m, s.y);
      }
    }
  });
}

/// The rows of the taps of one stretch, and those that their gradients are added to.
template <class T>
struct TapMatrix {
  const std::vector<T*>& values;
  const std::vector<T*>& gradients;
  std::int64_t taps;
  std::int64_t outs;
};

/// `counts` are the real columns of each window; one summary per vector of outputs.
template <class Rule, class T>
void SummariseStretch(const TapMatrix<T>& matrix, const T* counts, std::int64_t rows,
                      Summary<WideTag<T>> summary, Summary<WideTag<T>>* summaries) {
  const WideTag<T> d;
  const auto height = hn::Set(d, static_cast<T>(rows));
  for (std::int64_t m = 0; m < matrix.outs; m += lanes_of<T>()) {
    summary.count = hn::Mul(height, hn::LoadU(d, counts + m));
    Summarise<Rule>(
        d, matrix.taps,
        [&](std::int64_t i)
            CENOTE_VECTOR_LAMBDA { return hn::LoadU(d, matrix.values[static_cast<std::size_t>(i)] + m); },
        summary);
    *summaries++ = summary;
  }
}

/// The taps come one after another over all outputs, since the next tap's additions would wait for the stores
/// of the one before.
template <class Rule, class T>
void AddStretchGradients(const TapMatrix<T>& matrix, const T* from, std::int64_t step,
                         Summary<WideTag<T>>* summaries) {
  const WideTag<T> d;
  for (std::int64_t i = 0; i < matrix.taps; ++i) {
    const T* const values = matrix.values[static_cast<std::size_t>(i)];
    T* const to = matrix.gradients[static_cast<std::size_t>(i)];
    Summary<WideTag<T>>* summary = summaries;
    for (std::int64_t m = 0; m < matrix.outs; m += lanes_of<T>(), ++summary) {
      const std::int64_t left = matrix.outs - m;
      const auto part = static_cast<std::size_t>(left >= lanes_of<T>() ? 0 : left);
      const auto incoming = step == 1 ? LoadLanes<true>(d, from + m, 1, part)
                                      : LoadLanes<false>(d, from + m * step, step, part);
      const auto slope = SlopeInOrder<Rule>(d, *summary, hn::LoadU(d, values + m));
      const auto live = hn::FirstN(d, static_cast<std::size_t>(std::min(left, lanes_of<T>())));
      const auto grad = hn::IfThenElseZero(live, hn::Mul(incoming, slope));
      hn::StoreU(hn::Add(hn::LoadU(d, to + m), grad), d, to + m);
    }
  }
}

template <class Rule, class T>
void BackwardRows(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& x, const Axes& axes,
                  const Parameters<T>& parameters) {
  const WideTag<T> d;
  const Axis& w = axes[2];
  const TapSlots slots(w);
  const std::vector<T> counts = column_counts<T>(w);
  const std::int64_t most = outs_per_stretch(axes, slots);
  const Cursor::Index rows_of_plane{1, 1, grad_y.size[2], grad_y.size[3], ceil_divide(w.out(), most)};
  const Cursor::Index units{1, 1, 1, grad_x.size[0], grad_x.size[1]};
  const std::int64_t grain = row_grain(bytes_per_output_row<T>(axes) * Cursor::total(rows_of_plane));
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    TapRows<T> values(axes, slots, most);
    TapRows<T> gradients(axes, slots, most);
    const std::vector<T*> taps = tap_pointers(values, axes);
    const std::vector<T*> grads = tap_pointers(gradients, axes);
    Scratch<Summary<WideTag<T>>> summaries;  // aligned for vectors
    summaries.resize(static_cast<std::size_t>(ceil_divide(most, lanes_of<T>())));
    std::vector<T*> targets;
    Cursor plane(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, plane.next()) {
      zero_plane<T>(grad_x, plane[3], plane[4]);
      Summary<WideTag<T>> s;
      parameters.set_one(d, plane[4], s);
      Cursor at(rows_of_plane, 0);
      for (std::int64_t left = Cursor::total(rows_of_plane); left > 0; --left, at.next()) {
        rows.collect(x, plane_of<const T>(x, plane[3], plane[4]), axes, at[2], at[3]);
        if (rows.count() == 0) continue;
        const Stretch stretch{at[4] * most, std::min(most, w.out() - at[4] * most)};
        values.fill(rows, x.stride[4], w, stretch, static_cast<T>(Rule::kPadding));
        gradients.clear();
        const T* const from =
            row_of<const T>(grad_y, plane[3], plane[4], at[2], at[3]) + stretch.first * grad_y.stride[4];
        const TapMatrix<T> matrix{taps, grads, rows.count() * w.kernel(), stretch.count};
        SummariseStretch<Rule>(matrix, counts.data() + stretch.first, rows.count(), s, summaries.get());
        AddStretchGradients<Rule>(matrix, from, grad_y.stride[4], summaries.get());
        targets.clear();
        for (std::int64_t i = 0; i < rows.count(); ++i) {
          const std::int64_t line = rows.line(i);
          targets.push_back(row_of<T>(grad_x, plane[3], plane[4], line / axes[1].in(), line % axes[1].in()));
        }
        gradients.add_to(targets.data(), rows.count(), grad_x.stride[4], w, stretch);
      }
    }
  });
}

// ---- single windows -----------------------------------------------------------------------------

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

template <class Rule, class T>
void ForwardWindows(const Tensor5& y, const ConstTensor5& x, const Axes& axes,
                    const Parameters<T>& parameters) {
  const WideTag<T> d;
  const Axis& w = axes[2];
  const Cursor::Index units{y.size[0], y.size[1], y.size[2], y.size[3], w.out()};
  parallel_for(Cursor::total(units), row_grain(bytes_per_window<T>(axes)),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 InputRows<T> rows;
                 PackedWindow<T> window;
                 Cursor at(units, begin);
                 for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
                   T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]) + at[4] * y.stride[4];
                   if (unit == begin || at[4] == 0)
                     rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
                   window.pack(rows, w.taps(at[4]), w.dilation(), x.stride[4]);
                   if (window.count() == 0) {
                     *to = static_cast<T>(Rule::kEmpty);
                     continue;
                   }
                   Summary<WideTag<T>> s;
                   parameters.set_one(d, at[1], s);
                   SummariseRun<Rule>(d, window.values(), window.count(), s);
                   *to = hn::GetLane(s.y);
                 }
               });
}

/// The first element that the rule picks; there is one.
template <class Rule, class D, class T>
std::int64_t FindPicked(D d, const T* from, std::int64_t count, const Summary<D>& s) {
  std::int64_t i = 0;
  while (i + lanes_of<T>() <= count && hn::AllFalse(d, IsPicked<Rule>(d, s, hn::LoadU(d, from + i))))
    i += lanes_of<T>();
  while (i + 1 < count && hn::AllFalse(d, IsPicked<Rule>(d, s, hn::Set(d, from[i])))) ++i;
  return i;
}

/// to[i] = gradient * slope of element i
template <class Rule, class T>
void SlopesOfWindow(const PackedWindow<T>& window, T gradient, Summary<WideTag<T>>& s, T* to) {
  const WideTag<T> d;
  const auto incoming = hn::Set(d, gradient);
  const auto lanes = lanes_of<T>();
  std::int64_t i = 0;
  for (; i + lanes <= window.count(); i += lanes)
    hn::StoreU(hn::Mul(incoming, Rule::slope(d, s, hn::LoadU(d, window.values() + i))), d, to + i);
  if (i < window.count()) {
    const auto left = static_cast<std::size_t>(window.count() - i);
    StorePart(d, hn::Mul(incoming, Rule::slope(d, s, LoadPart(d, window.values() + i, left))), to + i, left);
  }
  if constexpr (Rule::kPicksFirst) {
    const std::int64_t first = FindPicked<Rule>(d, window.values(), window.count(), s);
    const auto v = hn::Set(d, window.values()[first]);
    to[first] += hn::GetLane(hn::Mul(incoming, Rule::picked_slope(d, s, v)));
  }
}

/// The one window of each plane is the plane.
inline bool is_global(const Axes& axes) {
  return std::all_of(axes.begin(), axes.end(),
                     [](const Axis& axis) { return axis.out() == 1 && axis.taps(0).count == axis.in(); });
}

template <class Rule, class T>
void BackwardWindows(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& x,
                     const Axes& axes, const Parameters<T>& parameters) {
  const WideTag<T> d;
  const Axis& w = axes[2];
  const Cursor::Index outputs{1, 1, grad_y.size[2], grad_y.size[3], w.out()};
  const Cursor::Index units{1, 1, 1, grad_x.size[0], grad_x.size[1]};
  const std::int64_t grain = row_grain(bytes_per_window<T>(axes) * Cursor::total(outputs));
  const bool in_place = is_global(axes) && dense_planes(grad_x);
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    PackedWindow<T> window;
    Scratch<T> slopes;
    Cursor plane(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, plane.next()) {
      if (!in_place) zero_plane<T>(grad_x, plane[3], plane[4]);
      Cursor at(outputs, 0);
      for (std::int64_t left = Cursor::total(outputs); left > 0; --left, at.next()) {
        if (at[4] == 0) rows.collect(x, plane_of<const T>(x, plane[3], plane[4]), axes, at[2], at[3]);
        const Taps columns = w.taps(at[4]);
        window.pack(rows, columns, w.dilation(), x.stride[4]);
        if (window.count() == 0) continue;
        Summary<WideTag<T>> s;
        parameters.set_one(d, plane[4], s);
        SummariseRun<Rule>(d, window.values(), window.count(), s);
        const T gradient =
            row_of<const T>(grad_y, plane[3], plane[4], at[2], at[3])[at[4] * grad_y.stride[4]];
        T* const to_slopes = in_place ? plane_of<T>(grad_x, plane[3], plane[4])
                                      : slopes.resize(static_cast<std::size_t>(window.count()));
        SlopesOfWindow<Rule>(window, gradient, s, to_slopes);
        if (in_place) continue;
        const T* from = to_slopes;
        const std::int64_t step = w.dilation() * grad_x.stride[4];
        for (std::int64_t i = 0; i < rows.count(); ++i) {
          const std::int64_t line = rows.line(i);
          T* const to = row_of<T>(grad_x, plane[3], plane[4], line / axes[1].in(), line % axes[1].in()) +
                        columns.position * grad_x.stride[4];
          for (std::int64_t j = 0; j < columns.count; ++j) to[j * step] += *from++;
        }
      }
    }
  });
}

// ---- channels last ------------------------------------------------------------------------------

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

template <class Rule, class T>
void ForwardPixels(const Tensor5& y, const ConstTensor5& x, const Axes& axes,
                   const Parameters<T>& parameters) {
  const WideTag<T> d;
  const std::int64_t blocks = ceil_divide(x.size[1], kChannelBlock);
  const Cursor::Index units{y.size[0], y.size[2], y.size[3], y.size[4], blocks};
  const std::int64_t grain = row_grain(bytes_per_window<T>(axes) * kChannelBlock);
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    PixelOffsets offsets;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      if (unit == begin || at[4] == 0) offsets.collect(axes, {0, 0, at[1], at[2], at[3]}, x.stride, x.stride);
      const std::int64_t first = at[4] * kChannelBlock;
      T* const to = row_of<T>(y, at[0], 0, at[1], at[2]) + at[3] * y.stride[4];
      const T* const from = plane_of<const T>(x, at[0], 0);
      ForEachChannelVector<T>(first, std::min(x.size[1], first + kChannelBlock),
                              [&](std::int64_t c, std::size_t part) HWY_ATTR {
                                Summary<WideTag<T>> s;
                                s.y = Constant(d, Rule::kEmpty);
                                parameters.set_many(d, c, s);
                                if (offsets.count() > 0) SummarisePixels<Rule>(offsets, from + c, part, s);
                                if (part == 0) {
                                  hn::StoreU(s.y, d, to + c);
                                } else {
                                  StorePart(d, s.y, to + c, part);
                                }
                              });
    }
  });
}

/// Adds the gradients of one window to a vector of channels.
template <class Rule, class T>
HWY_INLINE void AddPixelGradients(const PixelOffsets& offsets, const T* from, T* to,
                                  VecOf<WideTag<T>> incoming, std::size_t part, Summary<WideTag<T>>& s) {
  const WideTag<T> d;
  for (std::int64_t i = 0; i < offsets.count(); ++i) {
    const auto pixel = static_cast<std::size_t>(i);
    const auto v = LoadLanes<true>(d, from + offsets.x[pixel], 1, part);
    const auto grad = hn::Mul(incoming, SlopeInOrder<Rule>(d, s, v));
    T* const target = to + offsets.grad_x[pixel];
    const auto sum = hn::Add(LoadLanes<true>(d, target, 1, part), grad);
    if (part == 0) {
      hn::StoreU(sum, d, target);
    } else {
      StorePart(d, sum, target, part);
    }
  }
}

template <class Rule, class T>
void BackwardPixels(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& x,
                    const Axes& axes, const Parameters<T>& parameters) {
  const WideTag<T> d;
  const std::int64_t blocks = ceil_divide(x.size[1], kChannelBlock);
  const Cursor::Index outputs{1, 1, grad_y.size[2], grad_y.size[3], grad_y.size[4]};
  const Cursor::Index units{1, 1, 1, x.size[0], blocks};
  parallel_for(Cursor::total(units), 1, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    PixelOffsets offsets;
    Cursor block(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, block.next()) {
      const std::int64_t n = block[3];
      const std::int64_t first = block[4] * kChannelBlock;
      const std::int64_t last = std::min(x.size[1], first + kChannelBlock);
      const Cursor::Index pixels{1, 1, x.size[2], x.size[3], x.size[4]};
      Cursor pixel(pixels, 0);
      for (std::int64_t left = Cursor::total(pixels); left > 0; --left, pixel.next()) {
        T* const row = row_of<T>(grad_x, n, 0, pixel[2], pixel[3]) + pixel[4] * grad_x.stride[4];
        std::fill(row + first, row + last, T{0});
      }
      Cursor at(outputs, 0);
      for (std::int64_t left = Cursor::total(outputs); left > 0; --left, at.next()) {
        offsets.collect(axes, {0, 0, at[2], at[3], at[4]}, x.stride, grad_x.stride);
        if (offsets.count() == 0) continue;
        const T* const gradients = row_of<const T>(grad_y, n, 0, at[2], at[3]) + at[4] * grad_y.stride[4];
        ForEachChannelVector<T>(first, last, [&](std::int64_t c, std::size_t part) HWY_ATTR {
          Summary<WideTag<T>> s;
          parameters.set_many(d, c, s);
          const T* const from = plane_of<const T>(x, n, 0) + c;
          SummarisePixels<Rule>(offsets, from, part, s);
          AddPixelGradients<Rule>(offsets, from, plane_of<T>(grad_x, n, 0) + c,
                                  LoadLanes<true>(d, gradients + c, 1, part), part, s);
        });
      }
    }
  });
}

// ---- choosing -----------------------------------------------------------------------------------

/// Rules that only whole planes have take no padding.
template <class Rule>
concept Slides = requires { Rule::kPadding; };

template <class Rule, class T>
void Forward(const SmoothRule& rule, const Tensor5& y, const ConstTensor5& x, const WindowAxes* window) {
  const Windows windows = windows_of(window, x.size, y.size);
  const Parameters<T> parameters(rule, x);
  if (channels_last(x, y)) return ForwardPixels<Rule, T>(y, x, windows.axes, parameters);
  if constexpr (Slides<Rule>) {
    if (windows.sliding && fits_tap_rows(windows.axes))
      return ForwardRows<Rule, T>(y, x, windows.axes, parameters);
  }
  ForwardWindows<Rule, T>(y, x, windows.axes, parameters);
}

template <class Rule, class T>
void Backward(const SmoothRule& rule, const Tensor5& grad_x, const ConstTensor5& grad_y,
              const ConstTensor5& x, const WindowAxes* window) {
  const Windows windows = windows_of(window, x.size, grad_y.size);
  const Parameters<T> parameters(rule, x);
  if (channels_last(x, grad_y) && channels_last(grad_x, grad_y))
    return BackwardPixels<Rule, T>(grad_x, grad_y, x, windows.axes, parameters);
  if constexpr (Slides<Rule>) {
    if (windows.sliding && fits_tap_rows(windows.axes))
      return BackwardRows<Rule, T>(grad_x, grad_y, x, windows.axes, parameters);
  }
  BackwardWindows<Rule, T>(grad_x, grad_y, x, windows.axes, parameters);
}

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

constexpr SmoothBackend kTable{
    [](const SmoothRule& rule, const Tensor5& y, const ConstTensor5& x, const WindowAxes* window) {
      with_rule(rule, [&]<class Rule>() {
        x.dtype == DType::f32 ? Forward<Rule, float>(rule, y, x, window)
                              : Forward<Rule, double>(rule, y, x, window);
      });
    },
    [](const SmoothRule& rule, const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& x,
       const WindowAxes* window) {
      with_rule(rule, [&]<class Rule>() {
        x.dtype == DType::f32 ? Backward<Rule, float>(rule, grad_x, grad_y, x, window)
                              : Backward<Rule, double>(rule, grad_x, grad_y, x, window);
      });
    },
};

}  // namespace

const SmoothBackend* SmoothTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(SmoothTable);

const SmoothBackend& smooth() { return *HWY_DYNAMIC_DISPATCH(SmoothTable)(); }

}  // namespace cenote::cpu
#endif
