// Window pooling backward over rows: each row of grad_x gathers from the output rows that read it, so that
// nothing is scattered, nothing is zero-filled first, and rows are independent. Column w = m * stride + r is
// read by tap j of output m - shift(j) where r = (j * dilation - padding) mod stride: for each phase r a
// unit-stride sum of shifted rows, which the phases then interleave. Contributions are added in the order of
// the outputs, like a sequential scatter; for strided max windows window.cc prefers the one in
// tap_scatter-inl.h.
#if defined(CENOTE_CPU_PLANAR_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PLANAR_BACKWARD_INL_H_
#undef CENOTE_CPU_PLANAR_BACKWARD_INL_H_
#else
#define CENOTE_CPU_PLANAR_BACKWARD_INL_H_
#endif

#include <array>
#include <bit>
#include <vector>

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

/// One output row as `To`, widened to a tile and a vector beyond by `outside`.
template <class To, class From>
HWY_INLINE void PadRow(const GradTile& tile, const RealOutputs& real, const From* from, std::int64_t stride,
                       To outside, To* to) {
  constexpr auto kBeyond = static_cast<std::int64_t>(kMaxLanes<To>);
  for (std::int64_t o = 0; o < real.begin; ++o) to[o] = outside;
  const From* const first = from + real.output * stride;
  const std::int64_t count = real.end - real.begin;
  if (stride == 1) {  // a loop of its own, so that it vectorises
    for (std::int64_t o = 0; o < count; ++o) to[real.begin + o] = static_cast<To>(first[o]);
  } else {
    for (std::int64_t o = 0; o < count; ++o) to[real.begin + o] = static_cast<To>(first[o * stride]);
  }
  for (std::int64_t o = real.end; o < tile.outs + kBeyond; ++o) to[o] = outside;
}

/// sum over the terms of value(term, m); kTerms is their number, or 0 for any.
template <int kTerms, class T, class Terms, class Value>
HWY_INLINE VecOf<RowTag<T>> SumTerms(const Terms& terms, std::int64_t m, const Value& value) {
  const RowTag<T> d;
  auto sum = hn::Zero(d);
  const std::size_t count = kTerms > 0 ? kTerms : terms.size();
  for (std::size_t i = 0; i < count; ++i) sum = hn::Add(sum, value(terms[i], m));
  return sum;
}

/// Stride 1: the one phase is the row.
template <int kTerms, class T, class Terms, class Value>
HWY_INLINE void SumOnePhase(const Terms& terms, std::int64_t groups, const RowSink<T>& sink,
                            const Value& value) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t m = 0; m < groups; m += lanes) sink.store(d, m, SumTerms<kTerms, T>(terms, m, value));
}

/// Stride 2: both phases at once, interleaved on the way out.
template <int kEvenTerms, int kOddTerms, class T, class Terms, class Value>
HWY_INLINE void SumTwoPhases(const Terms& even, const Terms& odd, std::int64_t columns, T* to,
                             std::int64_t to_stride, const Value& value) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t m = 0; 2 * m < columns; m += lanes) {
    const auto even_sum = SumTerms<kEvenTerms, T>(even, m, value);
    const auto odd_sum = SumTerms<kOddTerms, T>(odd, m, value);
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

/// One row of grad_x. terms(phase) lists what the columns of a phase add up and stays valid for two
/// phases; value(term, m) is one vector of a term.
template <class T, class Terms, class Value>
HWY_INLINE void SumPhases(const Axis& w, const GradTile& tile, T* phase_row, T* to, std::int64_t to_stride,
                          const Terms& terms, const Value& value) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t stride = w.stride();
  const std::int64_t columns = std::min(w.in() - tile.first * stride, tile.groups * stride);
  if (stride == 1) {
    const RowSink<T> sink(to, to_stride, columns);
    const auto& list = terms(0);
    if (list.size() == 9) return SumOnePhase<9, T>(list, tile.groups, sink, value);  // 3x3
    return SumOnePhase<0, T>(list, tile.groups, sink, value);
  }
  if (stride == 2) {
    const auto& even = terms(0);
    const auto& odd = terms(1);
    // 2x2; 3x3 in rows that one or two windows read, with odd padding and without.
    if (even.size() == 1 && odd.size() == 1)
      return SumTwoPhases<1, 1>(even, odd, columns, to, to_stride, value);
    if (even.size() == 1 && odd.size() == 2)
      return SumTwoPhases<1, 2>(even, odd, columns, to, to_stride, value);
    if (even.size() == 2 && odd.size() == 4)
      return SumTwoPhases<2, 4>(even, odd, columns, to, to_stride, value);
    if (even.size() == 2 && odd.size() == 1)
      return SumTwoPhases<2, 1>(even, odd, columns, to, to_stride, value);
    if (even.size() == 4 && odd.size() == 2)
      return SumTwoPhases<4, 2>(even, odd, columns, to, to_stride, value);
    return SumTwoPhases<0, 0>(even, odd, columns, to, to_stride, value);
  }
  for (std::int64_t phase = 0; phase < stride; ++phase) {
    const auto& list = terms(phase);
    for (std::int64_t m = 0; m < tile.groups; m += lanes) {
      hn::StoreU(SumTerms<0, T>(list, m, value), d, phase_row + m);
    }
    for (std::int64_t m = 0; m * stride + phase < columns; ++m)
      to[(m * stride + phase) * to_stride] = phase_row[m];
  }
}

inline std::int64_t grad_groups(const Axis& w) { return ceil_divide(w.in(), w.stride()); }
inline std::int64_t groups_per_tile(const Axis& w) {
  return std::clamp<std::int64_t>(kTilePositions / w.stride(), 1, grad_groups(w));
}
inline std::int64_t grad_tiles(const Axis& w) { return ceil_divide(grad_groups(w), groups_per_tile(w)); }

/// Rows of grad_x in parallel: row(state, at, tile, readers, phase_row, to).
template <class T, class State, class Row>
void ForEachGradRow(const Tensor5& grad_x, const Axes& axes, const PhasePlan& plan, const Row& row) {
  const Axis& w = axes[2];
  const std::int64_t per_tile = groups_per_tile(w);
  const Cursor::Index units{grad_x.size[0], grad_x.size[1], grad_x.size[2], grad_x.size[3], grad_tiles(w)};
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * per_tile * w.stride();
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    ReaderRows readers;
    Scratch<T> phase_row;
    phase_row.resize(static_cast<std::size_t>(per_tile) + kMaxLanes<T>);
    State state(axes);
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

/// Which output row lies in which slot of a buffer. Neighbouring rows of grad_x read overlapping ranges of
/// output rows; each is widened once and kept until its slot is needed again.
class RowSlots {
 public:
  explicit RowSlots(const Axes& axes) : depth_(slots_for(axes[0])), height_(slots_for(axes[1])) {
    owners_.resize(static_cast<std::size_t>(count()), -1);
  }
  std::int64_t count() const { return depth_ * height_; }
  std::int64_t slot(std::int64_t od, std::int64_t oh) const {
    return (od & (depth_ - 1)) * height_ + (oh & (height_ - 1));
  }
  /// True when the slot held something else. `row` numbers the output rows of all planes and tiles.
  bool claim(std::int64_t slot, std::int64_t row) {
    std::int64_t& owner = owners_[static_cast<std::size_t>(slot)];
    if (owner == row) return false;
    owner = row;
    return true;
  }

 private:
  /// As many as there are outputs between the first and the last that read one input, up to a power of two.
  static std::int64_t slots_for(const Axis& axis) {
    const std::int64_t range = std::min(axis.out(), (axis.dilated_kernel() - 1) / axis.stride() + 1);
    return static_cast<std::int64_t>(
        std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(range, 1))));
  }

  std::int64_t depth_;
  std::int64_t height_;
  std::vector<std::int64_t> owners_;
};

template <class T>
struct MaxTerm {
  const T* grads;
  const hwy::MakeSigned<T>* keys;
  hwy::MakeSigned<T> key;
};

/// Working memory of a thread for the max backward: widened rows of grad_y and of taps.
template <class T>
struct MaxBackwardState {
  explicit MaxBackwardState(const Axes& axes) : slots(axes) {}
  RowSlots slots;
  Scratch<T> grads;
  Scratch<hwy::MakeSigned<T>> keys;
  std::array<std::vector<MaxTerm<T>>, 2> terms;  // of even and odd phases
};

template <class T, class Tap>
void PlanarMaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                       const Axes& axes) {
  using Key = hwy::MakeSigned<T>;
  using State = MaxBackwardState<T>;
  const Axis& w = axes[2];
  const PhasePlan plan(w);
  const std::int64_t tiles = grad_tiles(w);
  const auto row = [&](State& state, const Cursor& at, const GradTile& tile, const ReaderRows& readers,
                       T* phase_row, T* to) HWY_ATTR {
    const RowTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    const std::int64_t length = tile.outs + PhaseBuffer<T>::kSlack;
    const RealOutputs real = real_outputs(tile, w.out());
    T* const grads = state.grads.resize(static_cast<std::size_t>(length * state.slots.count()));
    Key* const keys = state.keys.resize(static_cast<std::size_t>(length * state.slots.count()));
    for (std::int64_t i = 0; i < readers.count(); ++i) {
      const ReaderRow& reader = readers[i];
      const std::int64_t slot_index = state.slots.slot(reader.od, reader.oh);
      const std::int64_t plane = at[0] * grad_y.size[1] + at[1];
      const std::int64_t line = (plane * grad_y.size[2] + reader.od) * grad_y.size[3] + reader.oh;
      if (!state.slots.claim(slot_index, line * tiles + at[4])) continue;
      const std::int64_t slot = slot_index * length;
      PadRow(tile, real, row_of<const T>(grad_y, at[0], at[1], reader.od, reader.oh), grad_y.stride[4], T{0},
             grads + slot);
      PadRow(tile, real, row_of<const Tap>(taps, at[0], at[1], reader.od, reader.oh), taps.stride[4], Key{-1},
             keys + slot);
    }
    const auto terms = [&](std::int64_t phase) -> const std::vector<MaxTerm<T>>& {
      const std::vector<PhaseTap>& in_phase = plan.taps(phase);
      auto& list = state.terms[static_cast<std::size_t>(phase % 2)];
      list.resize(static_cast<std::size_t>(readers.count()) * in_phase.size());
      MaxTerm<T>* next = list.data();
      for (std::int64_t i = 0; i < readers.count(); ++i) {
        const std::int64_t slot = state.slots.slot(readers[i].od, readers[i].oh) * length;
        for (const PhaseTap& tap : in_phase) {
          const std::int64_t offset = slot + tile.first - tap.shift - tile.first_out;
          *next++ = {grads + offset, keys + offset, static_cast<Key>(readers[i].tap * w.kernel() + tap.tap)};
        }
      }
      return list;
    };
    const auto value = [&](const MaxTerm<T>& term, std::int64_t m) CENOTE_VECTOR_LAMBDA {
      const auto hit = hn::Eq(hn::LoadU(di, term.keys + m), hn::Set(di, term.key));
      return hn::IfThenElseZero(hn::RebindMask(d, hit), hn::LoadU(d, term.grads + m));
    };
    SumPhases<T>(w, tile, phase_row, to, grad_x.stride[4], terms, value);
  };
  ForEachGradRow<T, State>(grad_x, axes, plan, row);
}

template <class T>
struct AvgBackwardState {
  explicit AvgBackwardState(const Axes&) {}
  ReaderRows previous;    // of the row computed last,
  std::int64_t row = -1;  // which is this one
  Scratch<T> sums;
  ColumnDivisors<T> columns;
  std::array<std::vector<const T*>, 2> terms;  // of even and odd phases
};

/// sums = (kFirst) or += grad row / divisors, over the real outputs.
template <bool kFirst, class T>
HWY_INLINE void AddQuotients(const T* from, std::int64_t stride, std::int64_t count, T row_factor,
                             const T* divisors, T* sums) {
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
  using State = AvgBackwardState<T>;
  const Axis& w = axes[2];
  const PhasePlan plan(w);
  const bool repeats_allowed = grad_tiles(w) == 1;  // the unit before is the row before
  const auto row = [&](State& state, const Cursor& at, const GradTile& tile, const ReaderRows& readers,
                       T* phase_row, T* to) HWY_ATTR {
    const RowTag<T> d;
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
    const auto terms = [&](std::int64_t phase) -> const std::vector<const T*>& {
      const std::vector<PhaseTap>& in_phase = plan.taps(phase);
      auto& list = state.terms[static_cast<std::size_t>(phase % 2)];
      list.resize(in_phase.size());
      for (std::size_t i = 0; i < in_phase.size(); ++i) {
        list[i] = sums + tile.first - in_phase[i].shift - tile.first_out;
      }
      return list;
    };
    const auto value = [&](const T* term, std::int64_t m)
                           CENOTE_VECTOR_LAMBDA { return hn::LoadU(d, term + m); };
    SumPhases<T>(w, tile, phase_row, to, grad_x.stride[4], terms, value);
  };
  ForEachGradRow<T, State>(grad_x, axes, plan, row);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
