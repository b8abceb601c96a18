// Window pooling forward over rows whose neighbours along W lie `stride` elements apart (1 when
// channels-first). Separable: the rows of a window are reduced vertically, full vectors at a time, into a
// row buffer that already holds the padding (row_buffer-inl.h, shared_rows-inl.h); the buffer is reduced
// horizontally without a bounds check (tap_sources-inl.h).
// For stride 2 the buffer is split into even and odd columns on the way in, so that the horizontal pass is
// unit-stride too; larger strides gather from the buffer. Times below are of 3x3 windows, which were pooled
// here when they were measured; short_windows-inl.h has taken those of unit-stride rows since.
#if defined(CENOTE_CPU_PLANAR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PLANAR_INL_H_
#undef CENOTE_CPU_PLANAR_INL_H_
#else
#define CENOTE_CPU_PLANAR_INL_H_
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "backend.h"
#include "cpu/past_caches-inl.h"
#include "cpu/record-inl.h"
#include "cpu/rows-inl.h"
#include "cpu/scratch.h"
#include "cpu/shared_rows-inl.h"
#include "cpu/tap_sources-inl.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Horizontal pass: emit(d, m, vector) for each vector of outputs. kTaps is 0, or the number of taps.
template <class Reduction, int kTaps, bool kGather, class T, class Emit>
HWY_INLINE void ReduceTaps(const TapSources<T>& sources, std::int64_t outs, std::int64_t stride,
                           const Emit& emit) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t taps = kTaps > 0 ? kTaps : sources.count();
  for (std::int64_t m = 0; m < outs; m += lanes) {
    const VecOf<decltype(d)> reduced =
        ReduceBlocked<Reduction>(d, taps, [&](std::int64_t j) CENOTE_VECTOR_LAMBDA {
          if constexpr (kGather) {
            return GatherApart(d, sources[j] + m * stride, stride);
          } else {
            return hn::LoadU(d, sources[j] + m);
          }
        });
    emit(d, m, reduced);
  }
}

template <class Reduction, class T, class Emit>
HWY_INLINE void ReduceTapsOfAxis(const TapSources<T>& sources, std::int64_t outs, const Axis& w,
                                 const Emit& emit) {
  const std::int64_t stride = w.stride() >> halvings(w);
  if (stride == 1 && sources.count() == 1) return ReduceTaps<Reduction, 1, false>(sources, outs, 1, emit);
  if (doubles(w)) {
    if (stride > 1) return ReduceTaps<Reduction, 0, true>(sources, outs, stride, emit);
    return ReduceTaps<Reduction, 2, false>(sources, outs, 1, emit);
  }
  if (w.stride() > 2) return ReduceTaps<Reduction, 0, true>(sources, outs, stride, emit);
  if (w.kernel() == 2) return ReduceTaps<Reduction, 2, false>(sources, outs, 1, emit);
  if (w.kernel() == 3) return ReduceTaps<Reduction, 3, false>(sources, outs, 1, emit);
  return ReduceTaps<Reduction, 0, false>(sources, outs, 1, emit);
}

/// Stores output vectors to a row that may be strided.
template <class T>
class RowSink {
 public:
  RowSink(T* to, std::int64_t stride, std::int64_t count) : to_(to), stride_(stride), count_(count) {}

  template <class D>
  HWY_INLINE void store(D d, std::int64_t m, VecOf<D> v) const {
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const std::int64_t left = std::min(count_ - m, lanes);
    if (stride_ == 1) {
      if (left == lanes) {
        StoreVector(d, v, to_ + m);
      } else {
        StorePart(d, v, to_ + m, static_cast<std::size_t>(left));
      }
      return;
    }
    HWY_ALIGN LaneOf<T> values[kMaxLanes<T>];
    hn::Store(v, d, values);
    store_apart(values, m, left);
  }

 private:
  HWY_NOINLINE void store_apart(const LaneOf<T>* values, std::int64_t m, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) to_[(m + i) * stride_] = static_cast<T>(values[i]);
  }

  T* to_;
  std::int64_t stride_;
  std::int64_t count_;
};

/// Divisors of the outputs of one axis, at least 1 (an empty window sums to 0, and 0 / 1 is what it gives).
inline std::int64_t divisor_of(const Axis& axis, std::int64_t o, bool count_include_pad) {
  return std::max<std::int64_t>(count_include_pad ? axis.padded_taps(o) : axis.taps(o).count, 1);
}

/// Whether a product with 1 / value is the quotient, bit for bit. Divisors are normal numbers.
template <class T>
bool power_of_two(T value) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return (std::bit_cast<Bits>(value) << (std::numeric_limits<T>::digits == 24 ? 9 : 12)) == 0;
}

/// Divisor factors of W for the outputs of a tile, as T; of all outputs at once where rows are not too long,
/// so that tiles do not compute them in turn.
template <class T>
class ColumnDivisors {
 public:
  void set(const Axis& w, const Divisor& divisor, std::int64_t first_out, std::int64_t outs) {
    constexpr std::int64_t kWholeRow = 1 << 15;
    const bool whole = w.out() <= kWholeRow;
    offset_ = whole ? first_out : 0;
    compute(w, divisor, whole ? 0 : first_out, whole ? w.out() : outs);
  }
  const T* get() const { return values_.get() + offset_; }
  const T* inverses() const { return inverses_.get() + offset_; }
  bool powers_of_two() const { return powers_of_two_; }
  /// Whether all are the same.
  bool alike() const { return alike_; }

 private:
  void compute(const Axis& w, const Divisor& divisor, std::int64_t first_out, std::int64_t outs) {
    if (first_out == first_out_ && outs == outs_) return;
    const bool own = divisor.override_value == 0;
    const auto divisor_at = [&](std::int64_t o) {
      return own ? divisor_of(w, o, divisor.count_include_pad) : 1;
    };
    // Divisors rise along the axis and fall again: those between two of the largest are as large.
    const std::int64_t most = own ? w.kernel() : 1;
    const bool alike = divisor_at(first_out) == most && divisor_at(first_out + outs - 1) == most;
    if (alike && alike_ && outs <= outs_) return;
    first_out_ = first_out;
    outs_ = outs;
    alike_ = alike;
    powers_of_two_ = power_of_two(static_cast<T>(most));
    const std::int64_t length = outs + PhaseBuffer<T>::kSlack;
    T* values = values_.resize(static_cast<std::size_t>(length));
    std::fill(values, values + outs, static_cast<T>(most));
    std::fill(values + outs, values + length, T{1});
    const auto compute_one = [&](std::int64_t o) {
      const std::int64_t value = divisor_at(first_out + o);
      values[o] = static_cast<T>(value);
      powers_of_two_ = powers_of_two_ && (value & (value - 1)) == 0;
      return value < most;
    };
    std::int64_t begin = 0;
    while (begin < outs && compute_one(begin)) ++begin;
    for (std::int64_t end = outs - 1; end > begin && compute_one(end);) --end;
    T* inverses = inverses_.resize(static_cast<std::size_t>(length));
    for (std::int64_t i = 0; i < length; ++i) inverses[i] = 1 / values[i];
  }

  Scratch<T> values_;
  Scratch<T> inverses_;
  bool alike_ = false;
  bool powers_of_two_ = false;
  std::int64_t first_out_ = -1;
  std::int64_t outs_ = -1;
  std::int64_t offset_ = 0;
};

/// The divisor factor of D and H, or the override.
template <class T>
T row_divisor(const Axes& axes, const Divisor& divisor, std::int64_t od, std::int64_t oh) {
  if (divisor.override_value != 0) return static_cast<T>(divisor.override_value);
  return static_cast<T>(divisor_of(axes[0], od, divisor.count_include_pad)) *
         static_cast<T>(divisor_of(axes[1], oh, divisor.count_include_pad));
}

/// Input rows that an output row is the first to read.
inline std::int64_t new_rows(const Axis& h) { return std::min(h.stride(), h.in()); }

inline Cursor::Index planar_units(const Tensor5& y, std::int64_t tiles) {
  return {y.size[0], y.size[1], y.size[2], y.size[3], tiles};
}

/// Pools every output row and tile; row.emitter(state, at, first_out, outs, step) says what happens to the
/// vectors of a row.
template <class Reduction, bool kUnit, class T, class Row>
void ForEachBufferedRow(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  const Axis& h = axes[1];
  const Axis& w = axes[2];
  const std::int64_t per_tile = outs_per_tile(w);
  const Cursor::Index units = planar_units(y, ceil_divide(w.out(), per_tile));
  const bool shares = kTuned && shares_rows(h);
  const std::int64_t bytes =
      static_cast<std::int64_t>(sizeof(T)) * (shares ? kRowBatch : 1) * per_tile * w.stride() * new_rows(h);
  const std::int64_t items = Cursor::total(RowBatches::items(units, shares));
  parallel_for(items, row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    std::array<RowBuffer<Reduction, LaneOf<T>>, kRowBatch> buffers;
    std::array<const PhaseBuffer<LaneOf<T>>*, kRowBatch> positions{};
    for (std::size_t i = 0; i < kRowBatch; ++i) {
      buffers[i].reserve(w, per_tile);
      positions[i] = &buffers[i].positions;
    }
    auto state = row.thread_state();
    Tile tile = make_tile(w, 0, per_tile);
    const auto move_to = [&](const Cursor::Index& at) {
      if (units[4] > 1) tile = make_tile(w, at[4], per_tile);
    };
    RowBatches batches(units, shares, begin, end);
    while (batches.next()) {
      move_to(batches[0]);
      const auto collect = [&](const Cursor::Index& at) {
        rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      };
      collect(batches[0]);
      if (shares && batches.whole(h) && rows.count() > 0 && tile.cols > 0) {
        const SharedRows<T> shared{rows, x.stride[3], h.kernel(), h.stride()};
        if constexpr (kTuned) ReduceRowsTogether<Reduction, kUnit>(shared, x.stride[4], tile, positions);
      } else {
        for (std::size_t i = 0; i < batches.size(); ++i) {
          move_to(batches[i]);
          if (i > 0) collect(batches[i]);
          ReduceRows<Reduction, kUnit>(rows, x.stride[4], tile, buffers[i].positions);
        }
      }
      for (std::size_t i = 0; i < batches.size(); ++i) {
        move_to(batches[i]);
        buffers[i].join_neighbours(w, tile.length);
      }
      for (std::size_t i = 0; i < batches.size(); ++i) {
        move_to(batches[i]);
        auto emit = row.emitter(state, batches[i], tile.first_out, tile.outs, y.stride[3]);
        ReduceTapsOfAxis<Reduction>(buffers[i].sources, tile.outs, w, emit);
        emit.complete_row();
      }
    }
  });
}

/// Outputs first_out .. first_out + outs - 1 of a row, and of the rows `step` elements beyond it, each of
/// which is to be completed. Where there are `lines`, rows that follow each other are collected in them; else
/// the memory of the next row is asked for: 3x3 stride 2, [32, 64, 112, 112] f32, two threads, 9.2 ms
/// without, 8.1 ms with.
template <class T>
class RowsSink {
 public:
  RowsSink(const Tensor5& y, const Cursor::Index& at, std::int64_t first_out, std::int64_t outs,
           std::int64_t step, OutputLines* lines = nullptr)
      : place_(row_of<T>(y, at[0], at[1], at[2], at[3]) + first_out * y.stride[4]),
        stride_(y.size[4] == 1 ? 1 : y.stride[4]),
        outs_(outs),
        step_(step),
        lines_(stride_ == 1 && step == outs ? lines : nullptr) {
    begin_row();
  }
  template <class D>
  HWY_INLINE void store(D d, std::int64_t m, VecOf<D> v) const {
    RowSink<T>(to_, stride_, outs_).store(d, m, v);
  }
  void complete_row() const {
    if (lines_ != nullptr) lines_->done(bytes());
  }
  void next_row() {
    complete_row();
    place_ += step_;
    begin_row();
  }

 private:
  std::int64_t bytes() const { return outs_ * static_cast<std::int64_t>(sizeof(T)); }
  void begin_row() {
    if (lines_ != nullptr) {
      to_ = reinterpret_cast<T*>(lines_->room(place_, bytes()));
    } else {
      to_ = place_;
      ask_ahead(to_, outs_);
    }
  }

  T* place_;  // where the row belongs
  T* to_;     // where it is stored
  std::int64_t stride_;
  std::int64_t outs_;
  std::int64_t step_;
  OutputLines* lines_;
};

/// What a thread keeps for rows of y.
struct RowsState {
  OutputLines lines;
  bool past;

  OutputLines* lines_to_fill() { return past ? &lines : nullptr; }
};

/// What becomes of the reduced vectors of an output row: maxima are stored.
template <class T>
struct MaxRow {
  using State = RowsState;
  State thread_state() const { return {{}, past}; }

  struct Emitter : RowsSink<T> {
    template <class D>
    HWY_INLINE void operator()(D d, std::int64_t m, VecOf<D> v) const {
      this->store(d, m, v);
    }
  };
  Emitter emitter(State& state, const Cursor::Index& at, std::int64_t first_out, std::int64_t outs,
                  std::int64_t step) const {
    return {{y, at, first_out, outs, step, state.lines_to_fill()}};
  }

  const Tensor5& y;
  bool past;  // the caches
};

/// Sums are divided and stored.
template <class T>
struct AvgRow {
  struct State : RowsState {
    ColumnDivisors<LaneOf<T>> columns;
  };
  State thread_state() const { return {{{}, past}, {}}; }

  struct Emitter : RowsSink<T> {
    template <class D>
    HWY_INLINE void operator()(D d, std::int64_t m, VecOf<D> v) const {
      const auto column = hn::LoadU(d, columns + (alike ? 0 : m));
      const auto row = hn::Set(d, factor);
      this->store(d, m, exact_inverses ? hn::Mul(v, hn::Mul(row, column)) : hn::Div(v, hn::Mul(row, column)));
    }
    const LaneOf<T>* columns;
    LaneOf<T> factor;
    bool exact_inverses;
    bool alike;  // then those of one vector are read, not a row of them
  };
  Emitter emitter(State& state, const Cursor::Index& at, std::int64_t first_out, std::int64_t outs,
                  std::int64_t step) const {
    ColumnDivisors<LaneOf<T>>& columns = state.columns;
    columns.set(axes[2], divisor, first_out, outs);
    const auto factor = row_divisor<LaneOf<T>>(axes, divisor, at[2], at[3]);
    const bool exact = columns.powers_of_two() && power_of_two(factor);
    return {{y, at, first_out, outs, step, state.lines_to_fill()},
            exact ? columns.inverses() : columns.get(),
            exact ? 1 / factor : factor,
            exact,
            columns.alike()};
  }

  const Tensor5& y;
  const Axes& axes;
  const Divisor& divisor;
  bool past;  // the caches
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
