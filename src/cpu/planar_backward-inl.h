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

/// One output row, widened by zeros to a tile; `convert(from, to, count)` copies the real part.
template <class To, class Convert>
void PadRow(const GradTile& tile, std::int64_t out, std::int64_t slack, To outside, To* to,
            const Convert& convert) {
  const std::int64_t begin = std::clamp<std::int64_t>(-tile.first_out, 0, tile.outs);
  const std::int64_t end = std::clamp<std::int64_t>(out - tile.first_out, begin, tile.outs);
  std::fill(to, to + begin, outside);
  convert(tile.first_out + begin, to + begin, end - begin);
  std::fill(to + end, to + tile.outs + slack, outside);
}

/// Interleaves `stride` phase rows into columns first .. of a row of grad_x.
template <class T>
void InterleavePhases(const T* phases, std::int64_t pitch, std::int64_t stride, std::int64_t columns, T* to,
                      std::int64_t to_stride) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t m = 0;
  if (stride == 2 && to_stride == 1) {
    for (; 2 * (m + lanes) <= columns; m += lanes) {
      hn::StoreInterleaved2(hn::Load(d, phases + m), hn::Load(d, phases + pitch + m), d, to + 2 * m);
    }
  }
  for (std::int64_t column = m * stride; column < columns; ++m) {
    for (std::int64_t phase = 0; phase < stride && column < columns; ++phase, ++column) {
      to[column * to_stride] = phases[phase * pitch + m];
    }
  }
}

/// Sums the shifted rows of every phase: load(row, o, tap) is the contribution of outputs o .. to tap `tap`.
template <class T, class Load>
HWY_INLINE void SumPhases(const PhasePlan& plan, const Axis& w, const GradTile& tile, std::int64_t rows,
                          T* phases, std::int64_t pitch, T* to, std::int64_t to_stride, const Load& load) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t stride = w.stride();
  const std::int64_t columns = std::min(w.in() - tile.first * stride, tile.groups * stride);
  const RowSink<T> sink(to, to_stride, columns);
  for (std::int64_t phase = 0; phase < stride; ++phase) {
    const std::vector<PhaseTap>& taps = plan.taps(phase);
    for (std::int64_t m = 0; m < tile.groups; m += lanes) {
      auto sum = hn::Zero(d);
      for (std::int64_t row = 0; row < rows; ++row) {
        for (const PhaseTap& tap : taps) {
          sum = hn::Add(sum, load(row, tile.first + m - tap.shift - tile.first_out, tap.tap));
        }
      }
      if (stride == 1) {
        sink.store(d, m, sum);
      } else {
        hn::Store(sum, d, phases + phase * pitch + m);
      }
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
    State state;
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

template <class T>
void CopyStrided(const T* from, std::int64_t stride, T* to, std::int64_t count) {
  if (stride == 1) {
    std::copy_n(from, count, to);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
}

/// Taps as the integers of T's lanes; the mark for none stays a number that no tap has.
template <class Key, class Tap>
void WidenTaps(const Tap* from, std::int64_t stride, Key* to, std::int64_t count) {
  if (stride == 1) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<Key>(from[i]);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<Key>(from[i * stride]);
}

template <class T, class Tap>
void PlanarMaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                       const Axes& axes) {
  using Key = hwy::MakeSigned<T>;
  struct State {
    Scratch<T> grads;
    Scratch<Key> keys;
  };
  const Axis& w = axes[2];
  const PhasePlan plan(w);
  ForEachGradRow<T, State>(
      grad_x, axes, plan,
      [&](State& state, const Cursor& at, const GradTile& tile, const ReaderRows& readers, T* phases,
          std::int64_t pitch, T* to) HWY_ATTR {
        const hn::ScalableTag<T> d;
        const hn::RebindToSigned<decltype(d)> di;
        constexpr std::int64_t kSlack = PhaseBuffer<T>::kSlack;
        const std::int64_t length = tile.outs + kSlack;
        T* const grads = state.grads.resize(static_cast<std::size_t>(length * readers.count()));
        Key* const keys = state.keys.resize(static_cast<std::size_t>(length * readers.count()));
        for (std::int64_t i = 0; i < readers.count(); ++i) {
          const T* const grad_row = row_of<const T>(grad_y, at[0], at[1], readers[i].od, readers[i].oh);
          const Tap* const tap_row = row_of<const Tap>(taps, at[0], at[1], readers[i].od, readers[i].oh);
          PadRow(tile, w.out(), kSlack, T{0}, grads + i * length,
                 [&](std::int64_t from, T* out, std::int64_t count) {
                   CopyStrided(grad_row + from * grad_y.stride[4], grad_y.stride[4], out, count);
                 });
          PadRow(tile, w.out(), kSlack, Key{-1}, keys + i * length,
                 [&](std::int64_t from, Key* out, std::int64_t count) {
                   WidenTaps(tap_row + from * taps.stride[4], taps.stride[4], out, count);
                 });
        }
        SumPhases(plan, w, tile, readers.count(), phases, pitch, to, grad_x.stride[4],
                  [&](std::int64_t row, std::int64_t o, std::int64_t tap) HWY_ATTR {
                    const auto wanted = hn::Set(di, static_cast<Key>(readers[row].tap * w.kernel() + tap));
                    const auto hit = hn::Eq(hn::LoadU(di, keys + row * length + o), wanted);
                    return hn::IfThenElseZero(hn::RebindMask(d, hit), hn::LoadU(d, grads + row * length + o));
                  });
      });
}

template <class T>
void PlanarAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                       const Divisor& divisor) {
  struct State {
    Scratch<T> sums;
    Scratch<T> row;
    ColumnDivisors<T> columns;
  };
  const Axis& w = axes[2];
  const PhasePlan plan(w);
  ForEachGradRow<T, State>(
      grad_x, axes, plan,
      [&](State& state, const Cursor& at, const GradTile& tile, const ReaderRows& readers, T* phases,
          std::int64_t pitch, T* to) HWY_ATTR {
        const hn::ScalableTag<T> d;
        const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
        constexpr std::int64_t kSlack = PhaseBuffer<T>::kSlack;
        const std::int64_t length = tile.outs + kSlack;
        T* const sums = state.sums.resize(static_cast<std::size_t>(length));
        T* const row = state.row.resize(static_cast<std::size_t>(length));
        std::fill(sums, sums + length, T{0});
        state.columns.set(w, divisor, tile.first_out, tile.outs);
        for (std::int64_t i = 0; i < readers.count(); ++i) {
          const T* const grad_row = row_of<const T>(grad_y, at[0], at[1], readers[i].od, readers[i].oh);
          PadRow(tile, w.out(), kSlack, T{0}, row, [&](std::int64_t from, T* out, std::int64_t count) {
            CopyStrided(grad_row + from * grad_y.stride[4], grad_y.stride[4], out, count);
          });
          const auto row_factor = hn::Set(d, row_divisor<T>(axes, divisor, readers[i].od, readers[i].oh));
          for (std::int64_t o = 0; o < tile.outs; o += lanes) {
            const auto divisors = hn::Mul(row_factor, hn::LoadU(d, state.columns.get() + o));
            hn::StoreU(hn::Add(hn::LoadU(d, sums + o), hn::Div(hn::LoadU(d, row + o), divisors)), d,
                       sums + o);
          }
        }
        SumPhases(plan, w, tile, readers.count() > 0 ? 1 : 0, phases, pitch, to, grad_x.stride[4],
                  [&](std::int64_t, std::int64_t o, std::int64_t)
                      HWY_ATTR { return hn::LoadU(d, sums + o); });
      });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
