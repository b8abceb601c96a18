// Window pooling forward over dense planes of rows of up to some vectors, with windows of 2 or 3 columns and
// stride 1 or 2, tile by tile: each row costs the same few steps wherever it lies. Rows of pixels of a few
// channels, innermost, are such rows, too.
#if defined(CENOTE_CPU_TILED_PLANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TILED_PLANES_INL_H_
#undef CENOTE_CPU_TILED_PLANES_INL_H_
#else
#define CENOTE_CPU_TILED_PLANES_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "cpu/flat_rows-inl.h"
#include "cpu/plane_blocks-inl.h"
#include "cpu/row_tiles-inl.h"
#include "cpu/short_windows-inl.h"
#include "cpu/square_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether the rows that lines of outputs read are few enough for a table.
inline bool tabulates_reads(const Axes& axes) {
  constexpr std::int64_t kMostReads = 1 << 14;  // of rows by rows
  const auto reads = [](const Axis& axis) { return axis.out() * std::min(axis.kernel(), axis.in()); };
  const auto fits = [&](const Axis& axis) { return axis.out() <= kMostReads && reads(axis) <= kMostReads; };
  return fits(axes[0]) && fits(axes[1]) && reads(axes[0]) * reads(axes[1]) <= kMostReads;
}

/// Whether the functions below serve these planes and windows, EPYC (family 25), against the loops that
/// otherwise do. With windows of 2x2 and 3x3, max f32, in the caches, one thread: 3x3 stride 1 of [1, 64, 14,
/// 14] 7.0 and 2.8 us, [1, 64, 56, 56] 63 and 34 us, [1, 64, 147, 147] 379 and 323 us; stride 2 of [1, 64,
/// 28, 28] 6.8 and 4.0 us, [1, 64, 111, 111] 114 and 77 us; beyond the caches, two threads, stride 1 of [96,
/// 2048, 8, 8] 4.5 and 3.2 ms, [96, 480, 14, 14] 3.2 and 2.3 ms, [64, 64, 112, 112] 12.9 and 12.5 ms, [32,
/// 64, 147, 147] 11.5 and 15.3 ms; stride 2 of [256, 1024, 7, 7] 3.3 and 2.0 ms, [96, 192, 57, 57] 10.9
/// and 10.5 ms, [96, 192, 71, 71] 16.1 and 18.8 ms. Of u8, [1, 64, 14, 14] 22 and 2.7 us, [96, 832, 14,
/// 14] 16.0 and 1.7 ms. Xeon (Emerald Rapids) limited to AVX2, f32: in the caches, one thread, max 3x3 stride
/// 2 of [1, 16, 28, 28] 4.9 and 2.8 us, avg stride 1 of [1, 16, 35, 35] 20 and 8.8 us, of [1, 16, 112, 112]
/// 85 and 96 us; beyond, two threads, avg stride 1 of [96, 192, 35, 35] 16.1 and 10.3 ms, max stride 1 of
/// [96, 2048, 8, 8] 7.3 and 6.3 ms, of [64, 64, 112, 112] 24 and 37 ms, stride 2 of [96, 192, 57, 57] 14.2
/// and 12.9 ms; 1x3 stride 1 of [32, 64, 40, 40] 1.3 and 1.4 ms.
template <class T>
bool tiles_planes(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  const Axis& w = axes[2];
  if (!slides_along_blocks(w) || !dense_elements(x) || !dense_elements(y)) return false;
  const bool beyond = beyond_caches(x, y);
  if (square_windows(axes)) {
    constexpr bool kBytes = sizeof(T) == 1;
    const std::int64_t fewest = kBytes ? 1 : sizeof(T) == 2 || (w.stride() == 2 && !beyond) ? 9 : 6;
    const std::int64_t most_beyond = kBytes ? 224 : w.stride() == 1 ? 120 : 60;
    const std::int64_t most = !kMasksAreBits ? 60 : beyond ? most_beyond : kBytes ? 1024 : 160;
    return w.in() >= fewest && w.in() <= most;
  }
  if constexpr (sizeof(T) == 1) return false;
  if (!kMasksAreBits && (w.kernel() == 2 || (beyond && axes[0].kernel() * axes[1].kernel() == 1)))
    return false;
  if (!tabulates_reads(axes)) return false;
  const bool large = sizeof(T) == 4 && beyond;
  const std::int64_t fewest = w.stride() == 1 ? (large ? 20 : 28) : (large ? 13 : 23);
  return w.in() >= fewest && w.in() <= 60;
}

/// Whether the functions for pixels do. Xeon (Emerald Rapids), f32, against a buffer of pixels: from memory,
/// two threads, max 3x3 stride 2 of [32, C, 224, 224] with C = 2 1.9 and 1.0 ms, 3 2.1 and 1.5 ms, 4 1.9
/// and 1.6 ms, 5 3.5 and 3.4 ms; in the caches, one thread, of [1, 3, 112, 112] 14.9 and 9.3 us; with AVX2 C
/// = 2 2.3 and 1.5 ms, in the caches C = 3 10.9 and 12.4 us.
template <class T>
bool tiles_pixels(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  constexpr std::int64_t kMostChannels = kMasksAreBits ? 5 : 2;
  const Axis& w = axes[2];
  return x.size[1] > 1 && x.size[1] <= kMostChannels && w.stride() == 2 && slides_along_blocks(w) &&
         dense_rows(x) && dense_rows(y) && dense_elements(flat_rows(x)) && dense_elements(flat_rows(y)) &&
         tabulates_reads(axes);
}

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2

/// One output row from kRows rows of a plane, or from any number. `seen` plus all elements.
template <class Reduction, int kStride, int kTaps, int kRows, class T, class TileTaps, class Finish>
HWY_INLINE void PoolTiledRow(const T* plane, std::int64_t pitch, std::span<const LineReads::Line> reads,
                             std::span<const RowTile> tiles, const TileTaps& taps, const Finish& finish,
                             std::int64_t line, T* to, VecOf<WideTag<T>> (&seen)[2]) {
  using Lane = LaneOf<T>;
  const WideTag<T> d;
  using V = VecOf<decltype(d)>;
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  const V identity = hn::Set(d, Reduction::template identity<Lane>());
  const std::int64_t count = kRows > 0 ? kRows : static_cast<std::int64_t>(reads.size());
  const T* rows[std::max(kRows, 1)];
  for (int i = 0; i < kRows; ++i) rows[i] = plane + reads[static_cast<std::size_t>(i)].number * pitch;
  const auto row = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
    return plane + reads[static_cast<std::size_t>(i)].number * pitch;
  };
  for (const RowTile& tile : tiles) {
    const auto reduce = [&](std::int64_t column, std::uint64_t bits,
                            [[maybe_unused]] V& sum) CENOTE_VECTOR_LAMBDA {
      V v = identity;
      if constexpr (kRows > 0) {
        V all = v = LoadBits(d, bits, rows[0] + column);
        for (int i = 1; i < kRows; ++i) {
          const V elements = LoadBits(d, bits, rows[i] + column);
          v = Reduction::combine(d, v, elements);
          if constexpr (Reduction::kLosesNaN) all = hn::Add(all, elements);
        }
        if constexpr (Reduction::kLosesNaN) sum = hn::Add(sum, all);
      } else if (count > 0) {
        v = ReduceBlocked<Reduction>(d, count, [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
          const V elements = LoadBits(d, bits, row(i) + column);
          if constexpr (Reduction::kLosesNaN) sum = hn::Add(sum, elements);
          return elements;
        });
      }
      return hn::IfThenElse(MaskOfBits(d, bits), v, identity);
    };
    const V low = reduce(tile.column, tile.low, seen[0]);
    const V high = kStride == 2 ? reduce(tile.column + kLanes, tile.high, seen[1]) : identity;
    V window = Reduction::combine(d, taps.template of<0>(d, low, high), taps.template of<1>(d, low, high));
    if constexpr (kTaps == 3) window = Reduction::combine(d, window, taps.template of<2>(d, low, high));
    V factors = hn::Zero(d);
    if constexpr (Finish::kFactors) factors = finish.factors(finish.row(line), tile);
    StoreBits(d, Finish::finish(window, factors), tile.made, to + tile.out);
  }
}

/// Asks for what is read 4 KiB on, of planes whose rows are read one after the other.
template <class T>
class StreamAhead {
 public:
  static constexpr bool kSlices = false;

  StreamAhead(const Axes& axes, std::int64_t columns) : per_line_(axes[1].stride() * columns) {}
  /// From that of the first line on.
  void begin(const T* plane, std::int64_t first) { asked_ = plane + kReadAhead<T> + first * per_line_; }
  HWY_INLINE void ask(const T* plane, std::int64_t line, std::span<const LineReads::Line>, std::int64_t) {
    for (const T* const end = plane + kReadAhead<T> + (line + 1) * per_line_; asked_ < end; asked_ += kLine)
      prefetch_for_read(asked_);
  }

 private:
  static constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));

  std::int64_t per_line_;
  const T* asked_ = nullptr;
};

/// The same of windows over slices: of the last rows of their last slices, which are met for the first time,
/// what lies 4 KiB on, or, beyond the end of a slice, in that which takes its place for the next outputs. Max
/// of [1, 64, 40, 56, 56] f32, 3x3x3 stride 2, two threads: 1.8 and 0.9 ms, as 4 KiB on was the slice that is
/// read beside it.
template <class T>
class SlicesAhead {
 public:
  static constexpr bool kSlices = true;

  SlicesAhead(const Axes& axes, std::int64_t columns)
      : lines_(axes[1].out()),
        kernel_d_(axes[0].kernel()),
        kernel_h_(axes[1].kernel()),
        new_slices_(std::min(axes[0].stride(), kernel_d_)),
        new_rows_(std::min(axes[1].stride(), kernel_h_)),
        per_line_(axes[1].stride() * columns),
        slice_(axes[1].in() * columns),
        skipped_((axes[0].stride() - 1) * slice_) {}
  void begin(const T*, std::int64_t first) { line_in_slice_ = first % lines_; }
  HWY_INLINE void ask(const T* plane, std::int64_t, std::span<const LineReads::Line> reads,
                      std::int64_t pitch) {
    const std::int64_t place = line_in_slice_ * per_line_ + kReadAhead<T>;
    line_in_slice_ = line_in_slice_ + 1 == lines_ ? 0 : line_in_slice_ + 1;
    const std::int64_t on = kReadAhead<T> + (place < slice_ ? 0 : place / slice_ * skipped_);
    const auto ask_last = [&](std::int64_t end) CENOTE_VECTOR_LAMBDA {  // of the rows up to that one
      for (std::int64_t i = std::max<std::int64_t>(end - new_rows_, 0); i < end; ++i) {
        const T* const from = plane + reads[static_cast<std::size_t>(i)].number * pitch + on;
        for (std::int64_t column = 0; column < pitch; column += kLine) prefetch_for_read(from + column);
      }
    };
    const auto count = static_cast<std::int64_t>(reads.size());
    if (count < kernel_d_ * kernel_h_) return ask_last(count);
    for (std::int64_t slice = kernel_d_ - new_slices_; slice < kernel_d_; ++slice)
      ask_last((slice + 1) * kernel_h_);
  }

 private:
  static constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));

  std::int64_t lines_;  // of outputs, to a slice
  std::int64_t kernel_d_;
  std::int64_t kernel_h_;
  std::int64_t new_slices_;
  std::int64_t new_rows_;
  std::int64_t per_line_;
  std::int64_t slice_;    // elements
  std::int64_t skipped_;  // between a slice and that which takes its place
  std::int64_t line_in_slice_ = 0;
};

/// Output rows first .. last - 1 of a plane, one after the other at `to`. Returns whether all are right.
template <class Reduction, int kStride, int kTaps, class T, class TileTaps, class Ahead, class Finish>
HWY_NOINLINE bool PoolTiledLines(const T* plane, std::int64_t pitch, const LineReads& reads,
                                 std::int64_t first, std::int64_t last, std::span<const RowTile> tiles,
                                 const TileTaps& taps, std::int64_t outs, Ahead ahead, const Finish& finish,
                                 T* to) {
  const WideTag<T> d;
  VecOf<WideTag<T>> seen[2] = {hn::Zero(d), hn::Zero(d)};
  ahead.begin(plane, first);
  for (std::int64_t line = first; line < last; ++line, to += outs) {
    const auto of_line = reads[line];
    const auto pool = [&](auto rows) CENOTE_VECTOR_LAMBDA {
      PoolTiledRow<Reduction, kStride, kTaps, rows>(plane, pitch, of_line, tiles, taps, finish, line, to,
                                                    seen);
    };
    const auto count = static_cast<std::int64_t>(of_line.size());
    ahead.ask(plane, line, of_line, pitch);
    constexpr int kRows = Ahead::kSlices ? kTaps * kTaps : 3;
    if (count == kRows) {
      pool(std::integral_constant<int, kRows>());
    } else if (!Ahead::kSlices && count == 2) {
      pool(std::integral_constant<int, 2>());
    } else {
      pool(std::integral_constant<int, 0>());
    }
  }
  if constexpr (!Reduction::kLosesNaN) return true;
  return hn::AllFalse(d, hn::IsNaN(hn::Add(seen[0], seen[1])));
}

/// Planes of rows with these tiles; of `axes` those of slices and of rows count.
template <class Reduction, int kStride, int kTaps, class T, class Ahead, class TileTaps, class Finish>
void PoolTiledRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes, std::span<const RowTile> tiles,
                   const TileTaps& taps, const Finish& finish) {
  using Fast = FirstTry<Reduction, LaneOf<T>>;
  const LineReads reads = LineReads::of_windows(axes);
  const std::int64_t lines = reads.count();
  const std::int64_t outs = y.size[4];
  const std::int64_t pitch = x.size[4];
  const std::int64_t elements = pitch * axes[0].in() * axes[1].in();
  const Ahead ahead(axes, pitch);
  const auto* const from = static_cast<const T*>(x.data);
  ForEachStretch<T>(x, y, axes[1], [&](std::int64_t row, std::int64_t count, T* to, const T*) HWY_ATTR {
    while (count > 0) {
      const T* const read = from + row / lines * elements;
      const std::int64_t first = row % lines;
      const std::int64_t last = std::min(first + count, lines);
      const auto pool = [&](auto reduction) HWY_ATTR {
        return PoolTiledLines<decltype(reduction), kStride, kTaps>(read, pitch, reads, first, last, tiles,
                                                                   taps, outs, ahead, finish, to);
      };
      if (!pool(Fast())) pool(Reduction());
      const std::int64_t done = last - first;
      row += done;
      count -= done;
      to += done * outs;
    }
  });
}

template <class Reduction, int kStride, int kTaps, class T, class TileTaps, class Finish>
void PoolTiledRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes,
                   const RowTiles<kStride, kTaps, T>& tiles, const TileTaps& taps, const Finish& finish) {
  if (axes[0].kernel() == 1 && axes[0].stride() == 1)
    return PoolTiledRows<Reduction, kStride, kTaps, T, StreamAhead<T>>(x, y, axes, tiles.all(), taps, finish);
  PoolTiledRows<Reduction, kStride, kTaps, T, SlicesAhead<T>>(x, y, axes, tiles.all(), taps, finish);
}

template <class Reduction, int kStride, int kTaps, class T, class Finish>
void PoolTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Finish& finish) {
  const RowTiles<kStride, kTaps, T> tiles(axes[2]);
  if (square_windows(axes)) return PoolSquareWindows<Reduction, kStride, kTaps>(x, y, axes, tiles, finish);
  if constexpr (sizeof(T) > 1)
    PoolTiledRows<Reduction, kStride, kTaps>(x, y, axes, tiles, TapsOfColumns<kStride>(), finish);
}

template <class Reduction, int kTaps, class T, class Finish>
void PoolTiledPixels(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Finish& finish) {
  const std::int64_t channels = x.size[1];
  const RowTiles<2, kTaps, T> tiles(axes[2], channels);
  PoolTiledRows<Reduction, 2, kTaps>(flat_rows(x), flat_rows(y), axes, tiles,
                                     TapsOfPixels<2, kTaps>(channels), finish);
}

template <class Reduction, class T, class Finish>
void PoolTiledPixels(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Finish& finish) {
  if (axes[2].kernel() == 2) return PoolTiledPixels<Reduction, 2, T>(x, y, axes, finish);
  PoolTiledPixels<Reduction, 3, T>(x, y, axes, finish);
}

template <class Reduction, class T, class Finish>
void PoolTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Finish& finish) {
  const Axis& w = axes[2];
  if (w.stride() == 1) {
    if (w.kernel() == 2) return PoolTiledPlanes<Reduction, 1, 2, T>(x, y, axes, finish);
    return PoolTiledPlanes<Reduction, 1, 3, T>(x, y, axes, finish);
  }
  if (w.kernel() == 2) return PoolTiledPlanes<Reduction, 2, 2, T>(x, y, axes, finish);
  PoolTiledPlanes<Reduction, 2, 3, T>(x, y, axes, finish);
}

template <class T>
void MaxOfTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  PoolTiledPlanes<MaxReduction, T>(x, y, axes, WindowsAsTheyAre<T>());
}

template <class T>
void MaxOfTiledPixels(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  PoolTiledPixels<MaxReduction, T>(x, y, axes, WindowsAsTheyAre<T>());
}

/// pool(finish) for rows of columns of `channels` elements.
template <class T, class Divisors, class Pool>
void with_divisors_of_rows(const Axes& axes, std::int64_t channels, const Divisors& divisors,
                           const Pool& pool) {
  const std::int64_t lines = axes[1].out();
  with_divisors<T>(
      axes[0].out() * lines, [&](std::int64_t i) { return divisors.row(i / lines, i % lines); },
      axes[2].out() * channels, [&](std::int64_t i) { return divisors.column(i / channels); }, pool);
}

template <class T, class Divisors>
void AvgOfTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors) {
  with_divisors_of_rows<T>(axes, 1, divisors,
                           [&](const auto& finish) { PoolTiledPlanes<SumReduction, T>(x, y, axes, finish); });
}

template <class T, class Divisors>
void AvgOfTiledPixels(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors) {
  with_divisors_of_rows<T>(axes, x.size[1], divisors,
                           [&](const auto& finish) { PoolTiledPixels<SumReduction, T>(x, y, axes, finish); });
}

#else

template <class T>
void MaxOfTiledPixels(const ConstTensor5& x, const Tensor5& y, const Axes& axes);
template <class T, class Divisors>
void AvgOfTiledPixels(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors);

template <class T>
void MaxOfTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes);
template <class T, class Divisors>
void AvgOfTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors);

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
