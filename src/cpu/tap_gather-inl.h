// Max backward from compact taps for windows of 2 or 3 columns with stride 1 or 2, or of one column and
// stride 1, along rows of unit stride: each row of grad_x gathers, vector by vector, from the output rows
// that read it. Taps are compared with the few numbers that could mean the columns at hand, so that no
// address depends on data, and elements are written once, in order, with the additions in the order of the
// outputs.
#if defined(CENOTE_CPU_TAP_GATHER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TAP_GATHER_INL_H_
#undef CENOTE_CPU_TAP_GATHER_INL_H_
#else
#define CENOTE_CPU_TAP_GATHER_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "core/parallel.h"
#include "cpu/dense-inl.h"
#include "cpu/layout.h"
#include "cpu/past_caches-inl.h"
#include "cpu/rows-inl.h"
#include "cpu/vector-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The first n <= 8 bytes from `from`, in memory's order; the others are 0.
inline std::uint64_t first_bytes(const std::uint8_t* from, std::size_t n) {
  std::uint64_t bytes = 0;
  for (std::size_t size = 8, at = 0; size > 0; size /= 2) {
    if (n - at < size) continue;
    std::uint64_t some = 0;
    std::memcpy(&some, from + at, size);
    bytes |= some << (8 * at);
    at += size;
  }
  return bytes;
}

/// As PromoteTaps, of the first n.
template <class T, class DI>
HWY_INLINE VecOf<DI> PromoteFirstTaps(DI di, const std::uint8_t* from, std::size_t n) {
  if constexpr (kMaxLanes<T> > 8) {
    return hn::PromoteTo(di, LoadPart(hn::Rebind<std::uint8_t, DI>(), from, n));
  } else {
    HWY_ALIGN std::uint64_t bytes[2] = {first_bytes(from, n), 0};
    return PromoteTaps(di, reinterpret_cast<const std::uint8_t*>(bytes));
  }
}

/// One row of outputs as lanes, with room for reads of a vector before and some beyond.
template <class T>
struct WideRow {
  const LaneOf<T>* grads;
  const hwy::MakeSigned<LaneOf<T>>* taps;
  std::array<hwy::MakeSigned<LaneOf<T>>, 3> numbers;  // taps that mean the row of grad_x at hand
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
class RowGatherer {
 public:
  using D = WideTag<T>;
  using V = VecOf<D>;

  explicit RowGatherer(const Axis& w) : in_(w.in()), base_(w.padding() / kStride), lanes_(lanes_of<T>()) {}

  void operator()(const WideRow<T>* rows, std::size_t count, T* to) const {
    const std::int64_t step = kStride * lanes_;
    V sums[kStride];
    std::int64_t column = 0;
    for (; column + step <= in_; column += step) {
      add_up(rows, count, column / kStride, sums);
      store(sums, to + column);
    }
    if (column == in_) return;
    if (column > 0 && in_ % kStride == 0) {  // again, to the end
      column = in_ - step;
      add_up(rows, count, column / kStride, sums);
      return store(sums, to + column);
    }
    add_up(rows, count, column / kStride, sums);
    HWY_ALIGN T last[kStride * kMaxLanes<T>];
    store(sums, last);
    for (std::int64_t i = 0; column < in_; i += lanes_, column += lanes_) {
      const auto part = static_cast<std::size_t>(std::min(lanes_, in_ - column));
      StorePart(D(), LoadVector(D(), last + i), to + column, part);
    }
  }

 private:
  HWY_INLINE void add_up(const WideRow<T>* rows, std::size_t count, std::int64_t m,
                         V (&sums)[kStride]) const {
    const D d;
    const hn::RebindToSigned<D> di;
    for (V& sum : sums) sum = hn::Zero(d);
    for (const WideRow<T>* row = rows; row != rows + count; ++row) {
      for (int tap = kTaps - 1; tap >= 0; --tap) {  // in the order of the outputs
        const auto number = hn::Set(di, row->numbers[static_cast<std::size_t>(tap)]);
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

  static HWY_INLINE void store(const V (&sums)[kStride], T* to) {
    const D d;
    if constexpr (kStride == 1) {
      StoreVector(d, sums[0], to);
    } else if constexpr (std::is_same_v<T, BFloat16> && HWY_TARGET != HWY_SCALAR) {
      const hn::RebindToUnsigned<D> du;
      const hn::Repartition<std::uint16_t, D> dh;
      const auto pairs = hn::Or(hn::ShiftRight<16>(RoundedBits(d, sums[0])),
                                hn::And(RoundedBits(d, sums[1]), hn::Set(du, 0xFFFF0000)));
      hn::StoreU(hn::BitCast(dh, pairs), dh, &to->bits);
    } else if constexpr (kIsHalf<T>) {
      hn::StoreInterleaved2(RoundToHalves<T>(d, sums[0]), RoundToHalves<T>(d, sums[1]), HalvesTag<D>(),
                            &to->bits);
    } else {
      hn::StoreInterleaved2(sums[0], sums[1], d, to);
    }
  }

  std::int64_t in_;
  std::int64_t base_;  // output of column 0 through tap kShift
  std::int64_t lanes_;
};

/// The most consecutive outputs of which some read the same input.
inline std::int64_t most_readers(const Axis& axis) {
  return std::min(axis.out(), (axis.dilated_kernel() - 1) / axis.stride() + 1);
}

/// The output rows that read each row of a plane, with their places.
class PlaneReaders {
 public:
  struct Entry {
    std::int64_t slot;
    std::int64_t line;
    std::int64_t grads, taps;  // elements from the begin of the plane
    std::int64_t first_tap;
  };

  PlaneReaders(const Axes& axes, const ConstTensor5& grad_y, const ConstTensor5& taps) {
    const std::int64_t lines = axes[0].in() * axes[1].in();
    begins_.reserve(static_cast<std::size_t>(lines + 1));
    entries_.reserve(static_cast<std::size_t>(lines * most_readers(axes[0]) * most_readers(axes[1])));
    ReaderRows readers;
    for (std::int64_t d = 0; d < axes[0].in(); ++d) {
      for (std::int64_t h = 0; h < axes[1].in(); ++h) {
        readers.collect(axes, d, h);
        for (std::int64_t i = 0; i < readers.count(); ++i) {
          const ReaderRow& row = readers[i];
          entries_.push_back(
              {row.od % most_readers(axes[0]) * most_readers(axes[1]) + row.oh % most_readers(axes[1]),
               row.od * axes[1].out() + row.oh, row.od * grad_y.stride[2] + row.oh * grad_y.stride[3],
               row.od * taps.stride[2] + row.oh * taps.stride[3], row.tap * axes[2].kernel()});
        }
        begins_.push_back(entries_.size());
      }
    }
  }

  std::span<const Entry> operator[](std::int64_t line) const {
    const auto i = static_cast<std::size_t>(line);
    return {entries_.data() + begins_[i], begins_[i + 1] - begins_[i]};
  }

 private:
  std::vector<Entry> entries_;
  std::vector<std::size_t> begins_{0};
};

template <int kStride, int kTaps, int kShift, class T>
void GatherRows(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                const Axes& axes) {
  using Key = typename WideRows<T>::Key;
  const RowGatherer<kStride, kTaps, kShift, T> gather(axes[2]);
  const PlaneReaders readers(axes, grad_y, taps);
  const Cursor::Index units{1, grad_x.size[0], grad_x.size[1], grad_x.size[2], grad_x.size[3]};
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * grad_x.size[4];
  // [96, 64, 147, 147] 3x3 stride 2, EPYC, two threads: f32 28.0 ms at once, 24.1 ms so, but bf16 18.6
  // and 20.2 ms.
  const bool past = sizeof(T) == 4 && dense_elements(grad_x) && stores_past_caches(grad_x, grad_y, taps);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    OutputLines lines;
    WideRows<T> wide(axes[2].out(), most_readers(axes[0]) * most_readers(axes[1]));
    std::vector<WideRow<T>> rows(static_cast<std::size_t>(most_readers(axes[0]) * most_readers(axes[1])));
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const std::int64_t line = at[3] * grad_x.size[3] + at[4];
      if (line == 0) wide.forget();
      const T* const grads = plane_of<const T>(grad_y, at[1], at[2]);
      const auto* const plane_taps = plane_of<const std::uint8_t>(taps, at[1], at[2]);
      std::size_t count = 0;
      for (const PlaneReaders::Entry& reader : readers[line]) {
        WideRow<T>& row = rows[count++];
        wide.find(reader.slot, reader.line, grads + reader.grads, plane_taps + reader.taps, row);
        for (int tap = 0; tap < kTaps; ++tap)
          row.numbers[static_cast<std::size_t>(tap)] = static_cast<Key>(reader.first_tap + tap);
      }
      T* const to = row_of<T>(grad_x, at[1], at[2], at[3], at[4]);
      if (past) {
        gather(rows.data(), count, reinterpret_cast<T*>(lines.room(to, bytes)));
        lines.done(bytes);
        continue;
      }
      ask_ahead(to, axes[2].in());
      gather(rows.data(), count, to);
    }
  });
}

/// Whether GatherTaps serves these windows and strides; taps are u8.
inline bool gathers_taps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes) {
  constexpr std::int64_t kMostOutputs = 4096;  // of a row, since rows are widened whole
  const Axis& w = axes[2];
  return HWY_TARGET != HWY_SCALAR &&  // one lane gathers no faster than it scatters
         unit_columns(grad_x) && unit_columns(grad_y) && unit_columns(taps) && w.kernel() <= 3 &&
         w.stride() <= std::min<std::int64_t>(w.kernel(), 2) && w.dilation() == 1 && w.out() <= kMostOutputs;
}

template <class T>
void GatherTaps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                const Axes& axes) {
  const bool odd = axes[2].padding() % 2 != 0;
  if (axes[2].kernel() == 1) return GatherRows<1, 1, 0, T>(grad_x, grad_y, taps, axes);
  if (axes[2].stride() == 1) {
    if (axes[2].kernel() == 2) return GatherRows<1, 2, 0, T>(grad_x, grad_y, taps, axes);
    return GatherRows<1, 3, 0, T>(grad_x, grad_y, taps, axes);
  }
  if (axes[2].kernel() == 2) {
    if (odd) return GatherRows<2, 2, 1, T>(grad_x, grad_y, taps, axes);
    return GatherRows<2, 2, 0, T>(grad_x, grad_y, taps, axes);
  }
  if (odd) return GatherRows<2, 3, 1, T>(grad_x, grad_y, taps, axes);
  GatherRows<2, 3, 0, T>(grad_x, grad_y, taps, axes);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
