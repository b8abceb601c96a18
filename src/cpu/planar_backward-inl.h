// Average backward over rows: each row of grad_x gathers from the output rows that read it, so that nothing
// is scattered, nothing is zero-filled first, and rows are independent. Column w = m * stride + r is read by
// tap j of output m - shift(j) where r = (j * dilation - padding) mod stride: for each phase r a unit-stride
// sum of shifted rows, which the phases then interleave.
#if defined(CENOTE_CPU_PLANAR_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PLANAR_BACKWARD_INL_H_
#undef CENOTE_CPU_PLANAR_BACKWARD_INL_H_
#else
#define CENOTE_CPU_PLANAR_BACKWARD_INL_H_
#endif

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "cpu/dense-inl.h"
#include "cpu/layout.h"
#include "cpu/planar-inl.h"
#include "cpu/scatter-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The taps of a phase, later taps (earlier outputs) first.
struct PhaseTap {
  std::int64_t tap;
  std::int64_t shift;
};

class PhasePlan {
 public:
  explicit PhasePlan(const Axis& w) : phases_(static_cast<std::size_t>(w.stride())) {
    for (std::int64_t j = w.kernel(); j-- > 0;) {
      const std::int64_t offset = j * w.dilation() - w.padding();
      const std::int64_t shift = floor_divide(offset, w.stride());
      phases_[static_cast<std::size_t>(offset - shift * w.stride())].push_back({j, shift});
      least_ = std::min(least_, shift);
      most_ = std::max(most_, shift);
    }
  }
  const std::vector<PhaseTap>& taps(std::int64_t phase) const {
    return phases_[static_cast<std::size_t>(phase)];
  }
  std::int64_t least_shift() const { return least_; }
  std::int64_t most_shift() const { return most_; }

 private:
  std::vector<std::vector<PhaseTap>> phases_;
  std::int64_t least_ = std::numeric_limits<std::int64_t>::max();
  std::int64_t most_ = std::numeric_limits<std::int64_t>::min();
};

/// A stretch of grad_x columns: groups first .. first + groups - 1 of `stride` columns each, and the outputs
/// that they read, from `first_out` on (outside of the row: zeros).
struct GradTile {
  std::int64_t first;
  std::int64_t groups;
  std::int64_t first_out;
  std::int64_t outs;
};

inline GradTile make_grad_tile(const PhasePlan& plan, std::int64_t index, std::int64_t per_tile,
                               std::int64_t groups) {
  GradTile tile;
  tile.first = index * per_tile;
  tile.groups = std::min(per_tile, groups - tile.first);
  tile.first_out = tile.first - plan.most_shift();
  tile.outs = tile.groups + plan.most_shift() - plan.least_shift();
  return tile;
}

/// The real outputs of a tile: positions begin .. end - 1 of its row, from output `output` on.
struct RealOutputs {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t output;
};

inline RealOutputs real_outputs(const GradTile& tile, std::int64_t out) {
  const std::int64_t begin = std::clamp<std::int64_t>(-tile.first_out, 0, tile.outs);
  return {begin, std::clamp<std::int64_t>(out - tile.first_out, begin, tile.outs), tile.first_out + begin};
}

/// What one phase adds up. bind(term) gives a functor: one vector of the term at column group m. kTerms is
/// the number of terms, bound once into registers, or 0 for any number, bound anew each time.
template <int kTerms, class T, class Terms, class Bind>
class TermSum {
 public:
  using Bound = decltype(std::declval<Bind>()(std::declval<Terms>()[0]));

  HWY_INLINE TermSum(const Terms& terms, const Bind& bind)
      : TermSum(terms, bind, std::make_index_sequence<kTerms>()) {}
  HWY_INLINE VecOf<RowTag<T>> operator()(std::int64_t m) const {
    return sum(m, std::make_index_sequence<kTerms>());
  }

 private:
  template <std::size_t... kIndex>
  HWY_INLINE TermSum(const Terms& terms, const Bind& bind, std::index_sequence<kIndex...>)
      : bound_{bind(terms[kIndex])...} {}
  template <std::size_t... kIndex>
  HWY_INLINE VecOf<RowTag<T>> sum(std::int64_t m, std::index_sequence<kIndex...>) const {
    auto total = hn::Zero(RowTag<T>());
    ((total = hn::Add(total, bound_[kIndex](m))), ...);
    return total;
  }

  Bound bound_[kTerms];
};

template <class T, class Terms, class Bind>
class TermSum<0, T, Terms, Bind> {
 public:
  HWY_INLINE TermSum(const Terms& terms, const Bind& bind) : terms_(terms), bind_(bind) {}
  HWY_INLINE VecOf<RowTag<T>> operator()(std::int64_t m) const {
    auto total = hn::Zero(RowTag<T>());
    for (const auto& term : terms_) total = hn::Add(total, bind_(term)(m));
    return total;
  }

 private:
  const Terms& terms_;
  const Bind& bind_;
};

/// Stride 1: the one phase is the row.
template <int kTerms, class T, class Terms, class Bind>
HWY_INLINE void SumOnePhase(const Terms& terms, std::int64_t groups, const RowSink<T>& sink,
                            const Bind& bind) {
  const TermSum<kTerms, T, Terms, Bind> sum(terms, bind);
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t m = 0; m < groups; m += lanes) sink.store(d, m, sum(m));
}

/// Stride 2: both phases at once, interleaved on the way out.
template <int kEvenTerms, int kOddTerms, class T, class Terms, class Bind>
HWY_INLINE void SumTwoPhases(const Terms& even, const Terms& odd, std::int64_t columns, T* to,
                             std::int64_t to_stride, const Bind& bind) {
  const TermSum<kEvenTerms, T, Terms, Bind> even_terms(even, bind);
  const TermSum<kOddTerms, T, Terms, Bind> odd_terms(odd, bind);
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  // Rows of whole column pairs end in a full vector that overlaps the one before.
  const std::int64_t full_end = to_stride == 1 && columns % 2 == 0 && columns >= 2 * lanes ? columns / 2 : 0;
  for (std::int64_t m = 0; 2 * m < columns; m += lanes) {
    if (m < full_end && m + lanes > full_end) m = full_end - lanes;
    const auto even_sum = even_terms(m);
    const auto odd_sum = odd_terms(m);
    const std::int64_t left = columns - 2 * m;
    if (to_stride == 1 && left >= 2 * lanes) {
      hn::StoreInterleaved2(even_sum, odd_sum, d, to + 2 * m);
      continue;
    }
    HWY_ALIGN T last[2 * kMaxLanes<T>];
    hn::StoreInterleaved2(even_sum, odd_sum, d, last);
    const RowSink<T> sink(to + 2 * m * to_stride, to_stride, std::min(left, 2 * lanes));
    sink.store(d, 0, hn::Load(d, last));
    if (left > lanes) sink.store(d, lanes, hn::Load(d, last + lanes));
  }
}

/// One row of grad_x. terms(phase) is a span of what the columns of a phase add up.
template <class T, class Terms, class Bind>
HWY_INLINE void SumPhases(const Axis& w, const GradTile& tile, T* phase_row, T* to, std::int64_t to_stride,
                          const Terms& terms, const Bind& bind) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t stride = w.stride();
  const std::int64_t columns = std::min(w.in() - tile.first * stride, tile.groups * stride);
  if (stride == 1) {
    const RowSink<T> sink(to, to_stride, columns);
    const auto list = terms(0);
    if (list.size() == 3) return SumOnePhase<3, T>(list, tile.groups, sink, bind);
    return SumOnePhase<0, T>(list, tile.groups, sink, bind);
  }
  if (stride == 2) {
    const auto even = terms(0);
    const auto odd = terms(1);
    // Kernels of 2; of 3 with odd padding and without.
    if (even.size() == 1 && odd.size() == 1)
      return SumTwoPhases<1, 1>(even, odd, columns, to, to_stride, bind);
    if (even.size() == 1 && odd.size() == 2)
      return SumTwoPhases<1, 2>(even, odd, columns, to, to_stride, bind);
    if (even.size() == 2 && odd.size() == 1)
      return SumTwoPhases<2, 1>(even, odd, columns, to, to_stride, bind);
    return SumTwoPhases<0, 0>(even, odd, columns, to, to_stride, bind);
  }
  for (std::int64_t phase = 0; phase < stride; ++phase) {
    const auto list = terms(phase);
    const TermSum<0, T, decltype(list), Bind> sum(list, bind);
    for (std::int64_t m = 0; m < tile.groups; m += lanes) hn::StoreU(sum(m), d, phase_row + m);
    for (std::int64_t m = 0; m * stride + phase < columns; ++m)
      to[(m * stride + phase) * to_stride] = phase_row[m];
  }
}

inline std::int64_t grad_groups(const Axis& w) { return ceil_divide(w.in(), w.stride()); }
inline std::int64_t groups_per_tile(const Axis& w) {
  return std::clamp<std::int64_t>(kTilePositions / w.stride(), 1, grad_groups(w));
}
inline std::int64_t grad_tiles(const Axis& w) { return ceil_divide(grad_groups(w), groups_per_tile(w)); }

template <class T>
struct BoundRow {
  HWY_INLINE VecOf<RowTag<T>> operator()(std::int64_t m) const { return hn::LoadU(RowTag<T>(), row + m); }

  const T* row;
};

template <class T>
struct AvgBackwardState {
  ReaderRows previous;    // of the row computed last,
  std::int64_t row = -1;  // which is this one
  Scratch<T> sums;
  ColumnDivisors<T> columns;
  std::array<std::vector<const T*>, 2> terms;  // of even and odd phases
};

/// sums = (kFirst) or += grad row / divisors, over the real outputs.
template <bool kFirst, class T>
HWY_INLINE void AddQuotients(const T* from, std::int64_t stride, std::int64_t count, LaneOf<T> row_factor,
                             const LaneOf<T>* divisors, LaneOf<T>* sums) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, row_factor);
  for (std::int64_t o = 0; o < count; o += lanes) {
    const auto part = static_cast<std::size_t>(count - o >= lanes ? 0 : count - o);
    const auto grads = stride == 1 ? LoadLanes<true>(d, from + o, 1, part)
                                   : LoadLanes<false>(d, from + o * stride, stride, part);
    auto sum = hn::Div(grads, hn::Mul(factor, hn::LoadU(d, divisors + o)));  // lanes beyond are 0
    if constexpr (!kFirst) sum = hn::Add(hn::LoadU(d, sums + o), sum);
    hn::StoreU(sum, d, sums + o);
  }
}

/// The number of a row of grad_x.
inline std::int64_t row_number(const Tensor5& grad_x, const Cursor& at) {
  const auto& size = grad_x.size;
  return ((at[0] * size[1] + at[1]) * size[2] + at[2]) * size[3] + at[3];
}

template <class T>
void PlanarAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                       const Divisor& divisor) {
  const Axis& w = axes[2];
  const PhasePlan plan(w);
  const bool repeats_allowed = grad_tiles(w) == 1;  // the unit before is the row before
  const auto row = [&](AvgBackwardState<T>& state, const Cursor& at, const GradTile& tile,
                       const ReaderRows& readers, T* phase_row, T* to) HWY_ATTR {
    const std::int64_t length = tile.outs + PhaseBuffer<T>::kSlack;
    const RealOutputs real = real_outputs(tile, w.out());
    if (at[3] > 0 && readers.same_outputs(state.previous) && repeats_allowed &&
        state.row + 1 == row_number(grad_x, at)) {
      // Read by the same outputs as the row before: the same sums.
      const std::int64_t columns = std::min(w.in() - tile.first * w.stride(), tile.groups * w.stride());
      copy_row(to - grad_x.stride[3], to, grad_x.stride[4], columns);
      ++state.row;
      return;
    }
    state.row = row_number(grad_x, at);
    state.previous.copy(readers);
    T* const sums = state.sums.resize(static_cast<std::size_t>(length));
    state.columns.set(w, divisor, tile.first_out, tile.outs);
    for (std::int64_t o = 0; o < real.begin; ++o) sums[o] = 0;
    if (readers.count() == 0) std::fill(sums + real.begin, sums + real.end, T{0});
    for (std::int64_t i = 0; i < readers.count(); ++i) {
      const T* const grads = row_of<const T>(grad_y, at[0], at[1], readers[i].od, readers[i].oh) +
                             real.output * grad_y.stride[4];
      const T row_factor = row_divisor<T>(axes, divisor, readers[i].od, readers[i].oh);
      const T* const divisors = state.columns.get() + real.begin;
      if (i == 0) {
        AddQuotients<true>(grads, grad_y.stride[4], real.end - real.begin, row_factor, divisors,
                           sums + real.begin);
      } else {
        AddQuotients<false>(grads, grad_y.stride[4], real.end - real.begin, row_factor, divisors,
                            sums + real.begin);
      }
    }
    constexpr auto kBeyond = static_cast<std::int64_t>(kMaxLanes<T>);
    for (std::int64_t o = real.end; o < tile.outs + kBeyond; ++o) sums[o] = 0;
    const auto terms = [&](std::int64_t phase) -> std::span<const T* const> {
      const std::vector<PhaseTap>& in_phase = plan.taps(phase);
      auto& list = state.terms[static_cast<std::size_t>(phase % 2)];
      list.resize(in_phase.size());
      for (std::size_t i = 0; i < in_phase.size(); ++i) {
        list[i] = sums + tile.first - in_phase[i].shift - tile.first_out;
      }
      return list;
    };
    const auto bind = [](const T* term) { return BoundRow<T>{term}; };
    SumPhases<T>(w, tile, phase_row, to, grad_x.stride[4], terms, bind);
  };
  const std::int64_t per_tile = groups_per_tile(w);
  const Cursor::Index units{grad_x.size[0], grad_x.size[1], grad_x.size[2], grad_x.size[3], grad_tiles(w)};
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * per_tile * w.stride();
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    ReaderRows readers;
    Scratch<T> phase_row;
    phase_row.resize(static_cast<std::size_t>(per_tile) + kMaxLanes<T>);
    AvgBackwardState<T> state;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      readers.collect(axes, at[2], at[3]);
      const GradTile tile = make_grad_tile(plan, at[4], per_tile, grad_groups(w));
      T* const to =
          row_of<T>(grad_x, at[0], at[1], at[2], at[3]) + tile.first * w.stride() * grad_x.stride[4];
      row(state, at, tile, readers, phase_row.get(), to);
    }
  });
}

/// Windows that share no element.
inline bool disjoint(const Axes& axes) {
  for (const Axis& axis : axes)
    if (axis.stride() < axis.kernel() || (axis.dilation() > 1 && axis.kernel() > 1)) return false;
  return true;
}

/// One output row spread over the columns of grad_x: each quotient over its window, zeros between.
template <class T>
class SpreadRow {
 public:
  using Lane = LaneOf<T>;

  explicit SpreadRow(const Axis& w) : w_(w), length_(std::max(w.out() * w.stride(), w.in() + w.padding())) {
    const auto slack = static_cast<std::size_t>(w.stride() + PhaseBuffer<Lane>::kSlack);
    quotients_.resize(static_cast<std::size_t>(w.out()) + slack);
    Lane* const spread = spread_.resize(static_cast<std::size_t>(length_) + slack);
    std::fill(spread, spread + length_, Lane{0});
  }
  Lane* quotients() { return quotients_.get(); }
  /// Whether windows are pairs of columns, so that pairs() spreads gradients that are neighbours: 2x2 of [32,
  /// 64, 112, 112] bf16, AVX-512, two threads, 2.4 and 1.7 ms.
  bool has_pairs() const { return w_.kernel() == 2 && w_.stride() == 2; }
  /// As spread(), from gradients: quotient(d, gradients, output) is that of a vector of them.
  template <class Quotient>
  HWY_INLINE const T* pairs(const T* grads, const Quotient& quotient) {
    T* const to = elements_.resize(static_cast<std::size_t>(length_ + w_.stride()) + 2 * kMaxLanes<T>);
    store_pairs(grads, quotient, to);
    return to + w_.padding();
  }
  /// The same from the first window on at `to`, with room for two vectors beyond the row.
  template <class Quotient>
  HWY_INLINE void store_pairs(const T* grads, const Quotient& quotient, T* to) const {
    const WideTag<T> d;
    const auto lanes = lanes_of<T>();
    for (std::int64_t o = 0; o < w_.out(); o += lanes) {
      const auto part = static_cast<std::size_t>(w_.out() - o >= lanes ? 0 : w_.out() - o);
      const auto each = quotient(d, LoadLanes<true>(d, grads + o, 1, part), o);
      const VecOf<decltype(d)> both[2] = {each, each};
      StorePhases<T>(both, to + 2 * o);
    }
    const std::int64_t stored = 2 * ceil_divide(w_.out(), lanes) * lanes;  // lanes beyond are 0
    if (stored < length_) std::fill(to + stored, to + length_, T{});
  }
  /// Column 0, after all quotients have been spread.
  HWY_INLINE const T* spread() {
    spread_lanes();
    if constexpr (std::is_same_v<T, Lane>) {
      return spread_.get() + w_.padding();
    } else {
      const RowTag<T> d;
      const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
      T* const to = elements_.resize(static_cast<std::size_t>(length_ + lanes));
      for (std::int64_t i = 0; i < length_; i += lanes)
        StoreVector(d, hn::LoadU(d, spread_.get() + i), to + i);
      return to + w_.padding();
    }
  }

 private:
  HWY_INLINE void spread_lanes() {
    const RowTag<T> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const Lane* const from = quotients_.get();
    Lane* const to = spread_.get();  // at the first window, which may begin in the padding
    if (w_.kernel() == 2 && w_.stride() == 2) {
      for (std::int64_t o = 0; o < w_.out(); o += lanes) {
        const auto both = hn::LoadU(d, from + o);
        hn::StoreInterleaved2(both, both, d, to + 2 * o);
      }
      std::fill(to + 2 * w_.out(), to + std::max(length_, 2 * w_.out()), Lane{0});
    } else if (w_.kernel() == w_.stride()) {
      for (std::int64_t o = 0; o < w_.out(); ++o) {
        const auto all = hn::Set(d, from[o]);
        for (std::int64_t j = 0; j < w_.kernel(); j += lanes) hn::StoreU(all, d, to + o * w_.stride() + j);
      }
      const std::int64_t end = w_.out() * w_.stride();
      std::fill(to + end, to + std::max(length_, end), Lane{0});
    } else {
      for (std::int64_t o = 0; o < w_.out(); ++o) std::fill_n(to + o * w_.stride(), w_.kernel(), from[o]);
    }
  }

  const Axis& w_;
  std::int64_t length_;
  Scratch<Lane> quotients_;
  Scratch<Lane> spread_;
  Scratch<T> elements_;  // where they are not lanes
};

/// The inputs from the window of output o up to that of the next one, and before the first and after the
/// last.
inline Range owned_by(const Axis& axis, std::int64_t o) {
  const auto inside = [&](std::int64_t position) { return std::clamp<std::int64_t>(position, 0, axis.in()); };
  return {o == 0 ? 0 : inside(axis.start(o)), o + 1 == axis.out() ? axis.in() : inside(axis.start(o + 1))};
}

template <class T>
void DisjointAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                         const Divisor& divisor) {
  const Axis& w = axes[2];
  const Cursor::Index units{1, grad_y.size[0], grad_y.size[1], grad_y.size[2], grad_y.size[3]};
  const std::int64_t row_bytes = static_cast<std::int64_t>(sizeof(T)) * w.in();
  const std::int64_t bytes = row_bytes * new_rows(axes[1]);
  const bool past = dense_elements(grad_x) && stores_past_caches(grad_x, grad_y);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    OutputLines lines;
    SpreadRow<T> row(w);
    ColumnDivisors<LaneOf<T>> columns;
    columns.set(w, divisor, 0, w.out());
    const bool pairs = row.has_pairs() && unit_columns(grad_y);
    const bool direct = pairs && past && w.padding() == 0;  // to where rows are collected
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const T* const grads = row_of<const T>(grad_y, at[1], at[2], at[3], at[4]);
      const auto factor = row_divisor<LaneOf<T>>(axes, divisor, at[3], at[4]);
      if (grad_y.stride[4] == 1) ask_ahead_of_reads(grads, w.out());
      const bool exact = columns.powers_of_two() && power_of_two(factor);
      const LaneOf<T>* const of_columns = exact ? columns.inverses() : columns.get();
      const T* spread = nullptr;
      const auto quotient = [&](auto d, auto v, std::int64_t o) CENOTE_VECTOR_LAMBDA {
        const auto column = hn::LoadU(d, of_columns + o);
        return exact ? hn::Mul(v, hn::Mul(hn::Set(d, 1 / factor), column))
                     : hn::Div(v, hn::Mul(hn::Set(d, factor), column));
      };
      if (pairs && !direct) {
        spread = row.pairs(grads, quotient);
      } else if (!pairs) {
        AddQuotients<true>(grads, grad_y.stride[4], w.out(), factor, columns.get(), row.quotients());
        spread = row.spread();
      }
      const Range depth = owned_by(axes[0], at[3]);
      const Range height = owned_by(axes[1], at[4]);
      for (std::int64_t d = depth.begin; d < depth.end; ++d) {
        const bool in_depth = d >= axes[0].start(at[3]) && d < axes[0].start(at[3]) + axes[0].kernel();
        for (std::int64_t h = height.begin; h < height.end; ++h) {
          T* const to = row_of<T>(grad_x, at[1], at[2], d, h);
          const bool read =
              in_depth && h >= axes[1].start(at[4]) && h < axes[1].start(at[4]) + axes[1].kernel();
          if (past) {
            T* const near = reinterpret_cast<T*>(lines.room(to, row_bytes));
            if (!read) {
              fill_row(near, 1, w.in(), T{0});
            } else if (direct) {
              row.store_pairs(grads, quotient, near);
            } else {
              copy_row(spread, near, 1, w.in());
            }
            lines.done(row_bytes);
          } else if (read) {
            copy_ahead(spread, to, grad_x.stride[4], w.in());
          } else {
            fill_row(to, grad_x.stride[4], w.in(), T{0});
          }
        }
      }
    }
  });
}

/// Adds a value to neighbours.
template <class T>
void AddToRun(T* to, std::int64_t count, T value) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto added = hn::Set(d, value);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::Add(hn::LoadU(d, to + i), added), d, to + i);
  if (i == count) return;
  const auto part = static_cast<std::size_t>(count - i);
  StorePart(d, hn::Add(LoadPart(d, to + i, part), added), to + i, part);
}

/// Windows without dilation that are too long or too far apart for phases: each quotient is added to the run
/// of columns that its output reads.
template <class T>
void RunsAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                     const Divisor& divisor) {
  const Axis& w = axes[2];
  const Cursor::Index units{grad_x.size[0], grad_x.size[1], grad_x.size[2], grad_x.size[3], 1};
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * w.in();
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    ReaderRows readers;
    ReaderRows previous;
    ColumnDivisors<T> columns;
    columns.set(w, divisor, 0, w.out());
    Scratch<T> scratch;
    T* const sums = scratch.resize(static_cast<std::size_t>(w.out() + PhaseBuffer<T>::kSlack));
    Scratch<T> neighbours;  // a row whose elements are none
    const std::int64_t step = grad_x.stride[4];
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      readers.collect(axes, at[2], at[3]);
      T* const to = row_of<T>(grad_x, at[0], at[1], at[2], at[3]);
      if (unit > begin && at[3] > 0 && readers.same_outputs(previous)) {
        copy_row(to - grad_x.stride[3], to, step, w.in());
        continue;
      }
      previous.copy(readers);
      T* const row = step == 1 ? to : neighbours.resize(static_cast<std::size_t>(w.in()));
      std::fill(row, row + w.in(), T{0});
      for (std::int64_t i = 0; i < readers.count(); ++i) {
        const T* const grads = row_of<const T>(grad_y, at[0], at[1], readers[i].od, readers[i].oh);
        const T factor = row_divisor<T>(axes, divisor, readers[i].od, readers[i].oh);
        if (i == 0) {
          AddQuotients<true>(grads, grad_y.stride[4], w.out(), factor, columns.get(), sums);
        } else {
          AddQuotients<false>(grads, grad_y.stride[4], w.out(), factor, columns.get(), sums);
        }
      }
      for (std::int64_t ow = 0; readers.count() > 0 && ow < w.out(); ++ow) {
        const Taps taps = w.taps(ow);
        AddToRun(row + taps.position, taps.count, sums[ow]);
      }
      if (row != to) copy_ahead(row, to, step, w.in());
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
