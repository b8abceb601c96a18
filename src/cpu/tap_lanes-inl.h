// Max backward along a row from output rows that lie widened in the nearest cache: taps as lanes beside
// gradients, with zeros around them.
#if defined(CENOTE_CPU_TAP_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TAP_LANES_INL_H_
#undef CENOTE_CPU_TAP_LANES_INL_H_
#else
#define CENOTE_CPU_TAP_LANES_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "cpu/row_readers-inl.h"
#include "cpu/scratch.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// One row of outputs as lanes, with room for reads of a vector before and some beyond.
template <class T>
struct WideRow {
  const LaneOf<T>* grads;
  const hwy::MakeSigned<LaneOf<T>>* taps;
  std::int64_t first_tap;  // of those that mean the row of grad_x at hand
};

/// The last output rows that were widened, each in a slot of its own. Beside a row lie zeros.
template <class T>
class WideRows {
 public:
  using Lane = LaneOf<T>;
  using Key = hwy::MakeSigned<Lane>;

  /// Rows of `outputs`.
  WideRows(std::int64_t outputs, std::int64_t slots)
      : outputs_(outputs), room_(round_up(outputs) + 2 * kMargin), lines_(static_cast<std::size_t>(slots)) {
    const auto size = static_cast<std::size_t>(room_ * slots);
    std::fill_n(grads_.resize(size), size, Lane{0});
    std::fill_n(taps_.resize(size), size, Key{0});
    forget();
  }

  /// The rows of another plane follow.
  void forget() { std::fill(lines_.begin(), lines_.end(), std::int64_t{-1}); }

  /// Points `row` at the row in `slot`, which is widened unless it is still there. `line` tells the rows of a
  /// plane apart.
  void find(std::int64_t slot, std::int64_t line, const T* grads, const std::uint8_t* taps, WideRow<T>& row) {
    Lane* const wide_grads = grads_.get() + slot * room_ + kMargin;
    Key* const wide_taps = taps_.get() + slot * room_ + kMargin;
    if (lines_[static_cast<std::size_t>(slot)] != line) {
      lines_[static_cast<std::size_t>(slot)] = line;
      widen(grads, taps, wide_grads, wide_taps);
    }
    row.grads = wide_grads;
    row.taps = wide_taps;
  }

 private:
  static constexpr std::int64_t kMargin = HWY_MAX_BYTES / sizeof(Lane);

  static std::int64_t round_up(std::int64_t outputs) { return ceil_divide(outputs, kMargin) * kMargin; }

  void widen(const T* grads, const std::uint8_t* taps, Lane* wide_grads, Key* wide_taps) const {
    const WideTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    std::int64_t ow = 0;
    ask_ahead_of_reads(grads, outputs_);
    ask_ahead_of_reads(taps, outputs_);
    for (; ow + lanes <= outputs_; ow += lanes) {
      hn::Store(LoadVector(d, grads + ow), d, wide_grads + ow);
      hn::Store(PromoteTaps(di, taps + ow), di, wide_taps + ow);
    }
    if (ow == outputs_) return;
    const auto left = static_cast<std::size_t>(outputs_ - ow);
    hn::Store(LoadPart(d, grads + ow, left), d, wide_grads + ow);
    hn::Store(PromoteFirstTaps<T>(di, taps + ow, left), di, wide_taps + ow);
  }

  std::int64_t outputs_;
  std::int64_t room_;
  Scratch<Lane> grads_;
  Scratch<Key> taps_;
  std::vector<std::int64_t> lines_;
};

/// One row of grad_x. Vector m is of the columns kStride * m + phase, phase < kStride, lane by lane; column c
/// is read by the outputs (c + padding - tap) / kStride where that divides. kShift: padding % kStride.
template <int kStride, int kTaps, int kShift, class T>
class LanesGatherer {
 public:
  using D = WideTag<T>;
  using V = VecOf<D>;

  /// What one thread keeps.
  class State {
   public:
    explicit State(const Axes& axes)
        : wide_(axes[2].out(), most_reader_rows(axes)),
          rows_(static_cast<std::size_t>(most_reader_rows(axes))) {}
    void begin_plane() { wide_.forget(); }

   private:
    friend LanesGatherer;
    WideRows<T> wide_;
    std::vector<WideRow<T>> rows_;
  };

  explicit LanesGatherer(const Axis& w) : in_(w.in()), base_(w.padding() / kStride), lanes_(lanes_of<T>()) {}

  /// Makes rows first .. last - 1 of a plane one after the other at `to`, from the gradients and taps of the
  /// plane.
  void operator()(State& state, const PlaneReaders& readers, std::int64_t first, std::int64_t last,
                  const T* grads, const std::uint8_t* taps, T* to, std::int64_t /*room*/) const {
    for (std::int64_t line = first; line < last; ++line, to += in_) {
      std::size_t count = 0;
      for (const RowReading& reader : readers[line]) {
        WideRow<T>& row = state.rows_[count++];
        state.wide_.find(reader.slot, reader.line, grads + reader.grads, taps + reader.taps, row);
        row.first_tap = reader.first_tap;
      }
      gather(state.rows_.data(), count, to);
    }
  }

 private:
  void gather(const WideRow<T>* rows, std::size_t count, T* to) const {
    const std::int64_t step = kStride * lanes_;
    V sums[kStride];
    std::int64_t column = 0;
    for (; column + step <= in_; column += step) {
      add_up(rows, count, column / kStride, sums);
      StorePhases<T>(sums, to + column);
    }
    if (column == in_) return;
    if (column > 0 && in_ % kStride == 0) {  // again, to the end
      column = in_ - step;
      add_up(rows, count, column / kStride, sums);
      return StorePhases<T>(sums, to + column);
    }
    add_up(rows, count, column / kStride, sums);
    StoreFirstPhases<T>(sums, to + column, in_ - column);
  }

  HWY_INLINE void add_up(const WideRow<T>* rows, std::size_t count, std::int64_t m,
                         V (&sums)[kStride]) const {
    const D d;
    const hn::RebindToSigned<D> di;
    for (V& sum : sums) sum = hn::Zero(d);
    for (const WideRow<T>* row = rows; row != rows + count; ++row) {
      for (int tap = kTaps - 1; tap >= 0; --tap) {  // in the order of the outputs
        const auto number = hn::Set(di, static_cast<hn::TFromD<decltype(di)>>(row->first_tap + tap));
        for (int phase = 0; phase < kStride; ++phase) {
          if ((phase + kShift - tap) % kStride != 0) continue;
          const std::int64_t output = base_ + m + (phase + kShift - tap) / kStride;
          const auto hit = hn::RebindMask(d, hn::Eq(hn::LoadU(di, row->taps + output), number));
          const auto grads = hn::LoadU(d, row->grads + output);
          sums[phase] = hn::Add(sums[phase], hn::IfThenElseZero(hit, grads));
        }
      }
    }
  }

  std::int64_t in_;
  std::int64_t base_;  // output of column 0 through tap kShift
  std::int64_t lanes_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
