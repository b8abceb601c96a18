// Window pooling backward over rows: each row of grad_x gathers from the output rows that read it, so that
// nothing is scattered, nothing is zero-filled first, and rows are independent. Column w = m * stride + r is
// read by tap j of output m - shift(j) where r = (j * dilation - padding) mod stride: for each phase r a
// unit-stride sum of shifted rows, which the phases then interleave. Contributions are added in the order of
// the outputs, like a sequential scatter.
#if defined(CENOTE_CPU_PLANAR_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PLANAR_BACKWARD_INL_H_
#undef CENOTE_CPU_PLANAR_BACKWARD_INL_H_
#else
#define CENOTE_CPU_PLANAR_BACKWARD_INL_H_
#endif

#include <vector>

#include "cpu/planar-inl.h"

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

/// Interleaves `stride` phase rows into columns first .. of a row of grad_x.
template <class T>
void InterleavePhases(const T* phases, std::int64_t pitch, std::int64_t stride, std::int64_t columns, T* to,
                      std::int64_t to_stride) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  if (stride == 2 && to_stride == 1) {
    std::int64_t m = 0;
    for (; 2 * (m + lanes) <= columns; m += lanes) {
      hn::StoreInterleaved2(hn::Load(d, phases + m), hn::Load(d, phases + pitch + m), d, to + 2 * m);
    }
    if (2 * m < columns) {
      HWY_ALIGN T last[2 * kMaxLanes<T>];
      hn::StoreInterleaved2(hn::Load(d, phases + m), hn::Load(d, phases + pitch + m), d, last);
      const std::int64_t left = columns - 2 * m;
      const std::int64_t whole = std::min(left, lanes);
      StorePart(d, hn::Load(d, last), to + 2 * m, static_cast<std::size_t>(whole));
      if (left > whole) {
        StorePart(d, hn::Load(d, last + lanes), to + 2 * m + lanes, static_cast<std::size_t>(left - whole));
      }
    }
    return;
  }
  for (std::int64_t m = 0, column = 0; column < columns; ++m) {
    for (std::int64_t phase = 0; phase < stride && column < columns; ++phase, ++column) {
      to[column * to_stride] = phases[phase * pitch + m];
    }
  }
}

/// sum over the terms of value(term, m) for one phase; kTerms is their number, or 0 for any number.
template <int kTerms, class T, class Terms, class Value, class Store>
HWY_INLINE void SumTerms(const Terms& terms, std::int64_t groups, const Value& value, const Store& store) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::size_t count = kTerms > 0 ? kTerms : terms.size();
  for (std::int64_t m = 0; m < groups; m += lanes) {
    auto sum = hn::Zero(d);
    for (std::size_t i = 0; i < count; ++i) sum = hn::Add(sum, value(terms[i], m));
    store(m, sum);
  }
}

/// One row of grad_x. terms(phase) lists what its columns add up; value(term, m) is one vector of it.
template <class T, class Terms, class Value>
HWY_INLINE void SumPhases(const Axis& w, const GradTile& tile, T* phases, std::int64_t pitch, T* to,
                          std::int64_t to_stride, const Terms& terms, const Value& value) {
  const hn::ScalableTag<T> d;
  const std::int64_t stride = w.stride();
  const std::int64_t columns = std::min(w.in() - tile.first * stride, tile.groups * stride);
  const RowSink<T> sink(to, to_stride, columns);
  for (std::int64_t phase = 0; phase < stride; ++phase) {
    const auto store = [&](std::int64_t m, VecOf<decltype(d)> sum) HWY_ATTR {
      if (stride == 1) {
        sink.store(d, m, sum);
      } else {
        hn::Store(sum, d, phases + phase * pitch + m);
      }
    };
    const auto& list = terms(phase);
    switch (list.size()) {
      case 1:
        SumTerms<1, T>(list, tile.groups, value, store);
        break;
      case 2:
        SumTerms<2, T>(list, tile.groups, value, store);
        break;
      case 4:
        SumTerms<4, T>(list, tile.groups, value, store);
        break;
      default:
        SumTerms<0, T>(list, tile.groups, value, store);
    }
  }
  if (stride > 1) InterleavePhases(phases, pitch, stride, columns, to, to_stride);
}

/// Rows of grad_x in parallel: row(state, at, tile, readers, phases, pitch).
template <class T, class State, class Row>
void ForEachGradRow(const Tensor5& grad_x, const Axes& axes, const PhasePlan& plan, const Row& row) {
  const Axis& w = axes[2];
  const std::int64_t groups = ceil_divide(w.in(), w.stride());
  const std::int64_t per_tile = std::clamp<std::int64_t>(kTilePositions / w.stride(), 1, groups);
  const Cursor::Index units{grad_x.size[0], grad_x.size[1], grad_x.size[2], grad_x.size[3],
                            ceil_divide(groups, per_tile)};
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * per_tile * w.stride();
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    constexpr std::int64_t kAlign = HWY_MAX_BYTES / static_cast<std::int64_t>(sizeof(T));
    const std::int64_t pitch = (per_tile + kAlign - 1) / kAlign * kAlign;
    ReaderRows readers;
    Scratch<T> phases;
    phases.resize(static_cast<std::size_t>(pitch * w.stride()));
    State state(axes);
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      readers.collect(axes, at[2], at[3]);
      const GradTile tile = make_grad_tile(plan, at[4], per_tile, groups);
      T* const to =
          row_of<T>(grad_x, at[0], at[1], at[2], at[3]) + tile.first * w.stride() * grad_x.stride[4];
      row(state, at, tile, readers, phases.get(), pitch, to);
    }
  });
}

/// Which output row lies in which slot of a buffer. Neighbouring rows of grad_x read overlapping ranges of
/// output rows; each is widened once and kept until its slot is needed again.
class RowSlots {
 public:
  explicit RowSlots(const Axes& axes) : depth_(range(axes[0])), height_(range(axes[1])) {
    owners_.resize(static_cast<std::size_t>(depth_ * height_), {-1, -1, -1, -1, -1});
  }
  std::int64_t count() const { return depth_ * height_; }
  std::int64_t slot(std::int64_t od, std::int64_t oh) const { return od % depth_ * height_ + oh % height_; }
  /// True when the slot held something else.
  bool claim(const Cursor& at, std::int64_t od, std::int64_t oh) {
    auto& owner = owners_[static_cast<std::size_t>(slot(od, oh))];
    const Cursor::Index wanted{at[0], at[1], od, oh, at[4]};
    if (owner == wanted) return false;
    owner = wanted;
    return true;
  }

 private:
  /// Outputs between the first and the last that read one input.
  static std::int64_t range(const Axis& axis) {
    return std::max<std::int64_t>(1, std::min(axis.out(), (axis.dilated_kernel() - 1) / axis.stride() + 1));
  }

  std::int64_t depth_;
  std::int64_t height_;
  std::vector<Cursor::Index> owners_;
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
  std::vector<MaxTerm<T>> terms;
};

template <class T, class Tap>
void PlanarMaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                       const Axes& axes) {
  using Key = hwy::MakeSigned<T>;
  using State = MaxBackwardState<T>;
  const Axis& w = axes[2];
  const PhasePlan plan(w);
  const auto row = [&](State& state, const Cursor& at, const GradTile& tile, const ReaderRows& readers,
                       T* phases, std::int64_t pitch, T* to) HWY_ATTR {
    const hn::ScalableTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    const std::int64_t length = tile.outs + PhaseBuffer<T>::kSlack;
    const RealOutputs real = real_outputs(tile, w.out());
    T* const grads = state.grads.resize(static_cast<std::size_t>(length * state.slots.count()));
    Key* const keys = state.keys.resize(static_cast<std::size_t>(length * state.slots.count()));
    for (std::int64_t i = 0; i < readers.count(); ++i) {
      const ReaderRow& reader = readers[i];
      if (!state.slots.claim(at, reader.od, reader.oh)) continue;
      const std::int64_t slot = state.slots.slot(reader.od, reader.oh) * length;
      PadRow(tile, real, row_of<const T>(grad_y, at[0], at[1], reader.od, reader.oh), grad_y.stride[4], T{0},
             grads + slot);
      PadRow(tile, real, row_of<const Tap>(taps, at[0], at[1], reader.od, reader.oh), taps.stride[4], Key{-1},
             keys + slot);
    }
    const auto terms = [&](std::int64_t phase) -> const std::vector<MaxTerm<T>>& {
      const std::vector<PhaseTap>& in_phase = plan.taps(phase);
      state.terms.resize(static_cast<std::size_t>(readers.count()) * in_phase.size());
      MaxTerm<T>* next = state.terms.data();
      for (std::int64_t i = 0; i < readers.count(); ++i) {
        const std::int64_t slot = state.slots.slot(readers[i].od, readers[i].oh) * length;
        for (const PhaseTap& tap : in_phase) {
          const std::int64_t offset = slot + tile.first - tap.shift - tile.first_out;
          *next++ = {grads + offset, keys + offset, static_cast<Key>(readers[i].tap * w.kernel() + tap.tap)};
        }
      }
      return state.terms;
    };
    const auto value = [&](const MaxTerm<T>& term, std::int64_t m) HWY_ATTR {
      const auto hit = hn::Eq(hn::LoadU(di, term.keys + m), hn::Set(di, term.key));
      return hn::IfThenElseZero(hn::RebindMask(d, hit), hn::LoadU(d, term.grads + m));
    };
    SumPhases<T>(w, tile, phases, pitch, to, grad_x.stride[4], terms, value);
  };
  ForEachGradRow<T, State>(grad_x, axes, plan, row);
}

template <class T>
struct AvgBackwardState {
  explicit AvgBackwardState(const Axes&) {}
  Scratch<T> sums;
  ColumnDivisors<T> columns;
  std::vector<const T*> terms;
};

/// sums += grad row / divisors, over the real outputs.
template <class T>
HWY_INLINE void AddQuotients(const T* from, std::int64_t stride, std::int64_t count, T row_factor,
                             const T* divisors, T* sums) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, row_factor);
  for (std::int64_t o = 0; o < count; o += lanes) {
    const auto part = static_cast<std::size_t>(count - o >= lanes ? 0 : count - o);
    const auto grads = stride == 1 ? LoadLanes<true>(d, from + o, 1, part)
                                   : LoadLanes<false>(d, from + o * stride, stride, part);
    const auto quotients = hn::Div(grads, hn::Mul(factor, hn::LoadU(d, divisors + o)));
    hn::StoreU(hn::Add(hn::LoadU(d, sums + o), quotients), d, sums + o);  // lanes beyond add 0
  }
}

template <class T>
void PlanarAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                       const Divisor& divisor) {
  using State = AvgBackwardState<T>;
  const Axis& w = axes[2];
  const PhasePlan plan(w);
  const auto row = [&](State& state, const Cursor& at, const GradTile& tile, const ReaderRows& readers,
                       T* phases, std::int64_t pitch, T* to) HWY_ATTR {
    const hn::ScalableTag<T> d;
    const std::int64_t length = tile.outs + PhaseBuffer<T>::kSlack;
    const RealOutputs real = real_outputs(tile, w.out());
    T* const sums = state.sums.resize(static_cast<std::size_t>(length));
    std::fill(sums, sums + tile.outs + kMaxLanes<T>, T{0});
    state.columns.set(w, divisor, tile.first_out, tile.outs);
    for (std::int64_t i = 0; i < readers.count(); ++i) {
      const T* const grads = row_of<const T>(grad_y, at[0], at[1], readers[i].od, readers[i].oh);
      AddQuotients(grads + real.output * grad_y.stride[4], grad_y.stride[4], real.end - real.begin,
                   row_divisor<T>(axes, divisor, readers[i].od, readers[i].oh),
                   state.columns.get() + real.begin, sums + real.begin);
    }
    const auto terms = [&](std::int64_t phase) -> const std::vector<const T*>& {
      const std::vector<PhaseTap>& in_phase = plan.taps(phase);
      state.terms.resize(in_phase.size());
      for (std::size_t i = 0; i < in_phase.size(); ++i) {
        state.terms[i] = sums + tile.first - in_phase[i].shift - tile.first_out;
      }
      return state.terms;
    };
    const auto value = [&](const T* term, std::int64_t m) HWY_ATTR { return hn::LoadU(d, term + m); };
    SumPhases<T>(w, tile, phases, pitch, to, grad_x.stride[4], terms, value);
  };
  ForEachGradRow<T, State>(grad_x, axes, plan, row);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
