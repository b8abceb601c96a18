// Window pooling forward over dense planes of rows of up to some vectors, with windows of 2 or 3 columns and
// stride 1 or 2, where masks are bits and lanes of two vectors are picked at once: an output row is some
// tiles, each of as many outputs as the windows in kStride vectors of columns; nothing is carried from one to
// the next, and what lies beside the row is masked. Each row costs the same few steps wherever it lies.
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
#include "cpu/plane_blocks-inl.h"
#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether there are such loops: where masks are bits, and lanes are f32.
template <class T>
constexpr bool kTilesPlanes = kMasksAreBits && std::is_same_v<LaneOf<T>, float>;

/// Whether the functions below serve these planes and windows. EPYC, against the loops that otherwise do, two
/// threads, beyond the caches, max 3x3 stride 2 f32: [96, 832, 14, 14] 2.4 and 1.8 ms, [256, 256, 27, 27] 5.7
/// and 3.5 ms, [96, 192, 57, 57] 6.8 and 6.8 ms, [96, 64, 71, 71] 3.4 and 3.7 ms; avg 3x3 stride 1 of [96,
/// 768, 17, 17] 5.8 and 6.1 ms, [96, 256, 28, 28] 5.5 and 4.1 ms; bf16 max of [96, 480, 28, 28] 3.4 and 2.0
/// ms, [96, 832, 14, 14] 1.1 and 2.2 ms. One thread, in the caches, max 3x3 stride 2 f32: [1, 64, 20, 20] 3.5
/// and 4.1 us, [1, 64, 28, 28] 6.9 and 5.3 us, [1, 16, 57, 57] 6.0 and 4.3 us, [1, 16, 64, 64] 5.0 and 6.4
/// us. Nothing was gained in f64.
template <class T>
bool tiles_planes(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  constexpr std::int64_t kMostReads = 1 << 14;  // of rows by rows
  constexpr std::int64_t kMostColumns = 60;
  const Axis& w = axes[2];
  const auto reads = [](const Axis& axis) { return axis.out() * std::min(axis.kernel(), axis.in()); };
  const auto fits = [&](const Axis& axis) { return axis.out() <= kMostReads && reads(axis) <= kMostReads; };
  if (!slides_along_blocks(w) || w.in() > kMostColumns || !fits(axes[0]) || !fits(axes[1])) return false;
  const bool past = sizeof(T) == 4 && stores_past_caches(x, y);
  const std::int64_t fewest_columns = w.stride() == 1 ? (past ? 20 : 28) : (past ? 13 : 23);
  return w.in() >= fewest_columns && reads(axes[0]) * reads(axes[1]) <= kMostReads && dense_elements(x) &&
         dense_elements(y);
}

#if HWY_TARGET == HWY_AVX3

/// Some outputs of a row, and the vectors of columns that hold their windows.
struct RowTile {
  std::int64_t column;  // of the first lane; may lie before the row
  std::int64_t out;     // the first output
  std::uint64_t low;    // which lanes of the first vector are columns of the row,
  std::uint64_t high;   // and of the second
};

/// The tiles of a row, as even as they can be.
template <int kStride, int kTaps, class T>
class RowTiles {
 public:
  static constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);

  explicit RowTiles(const Axis& w) {
    constexpr std::int64_t kMostOuts = (kStride * kLanes - kTaps) / kStride + 1;
    outs_ = ceil_divide(w.out(), ceil_divide(w.out(), kMostOuts));
    const auto first_bits = [](std::int64_t count) {
      return (std::uint64_t{1} << std::clamp<std::int64_t>(count, 0, kLanes)) - 1;
    };
    const auto inside = [&](std::int64_t column) {
      return first_bits(w.in() - column) & ~first_bits(-column);
    };
    tiles_.reserve(static_cast<std::size_t>(ceil_divide(w.out(), outs_)));
    for (std::int64_t out = 0; out < w.out(); out += outs_) {
      const std::int64_t column = w.start(out);
      tiles_.push_back({column, out, inside(column), inside(column + kLanes)});
    }
  }
  std::span<const RowTile> all() const { return tiles_; }
  std::int64_t outs() const { return outs_; }

 private:
  std::int64_t outs_;
  std::vector<RowTile> tiles_;
};

/// One output row from kRows rows of a plane, or from any number. `to` has `room`, and what is stored beyond
/// the outputs means nothing. finish(tile, vector) makes outputs of windows. `seen` plus all elements.
template <class Reduction, int kStride, int kTaps, int kRows, class T, class Finish>
HWY_INLINE void PoolTiledRow(const T* plane, std::int64_t pitch, std::span<const LineReads::Line> reads,
                             const RowTiles<kStride, kTaps, T>& tiles, std::int64_t outs,
                             const Finish& finish, T* to, std::int64_t room, VecOf<WideTag<T>> (&seen)[2]) {
  using Lane = LaneOf<T>;
  const WideTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  using V = VecOf<decltype(d)>;
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  const V identity = hn::Set(d, Reduction::template identity<Lane>());
  const auto taps = hn::ShiftLeft<kStride - 1>(hn::Iota(di, 0));
  const std::int64_t count = kRows > 0 ? kRows : static_cast<std::int64_t>(reads.size());
  const T* rows[std::max(kRows, 1)];
  for (int i = 0; i < kRows; ++i) rows[i] = plane + reads[static_cast<std::size_t>(i)].number * pitch;
  const auto row = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
    return plane + reads[static_cast<std::size_t>(i)].number * pitch;
  };
  for (const RowTile& tile : tiles.all()) {
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
    const auto tap = [&](int number) CENOTE_VECTOR_LAMBDA {
      return PickLanes(d, low, high, hn::Add(taps, hn::Set(di, number)));
    };
    V window = Reduction::combine(d, tap(0), tap(1));
    if constexpr (kTaps == 3) window = Reduction::combine(d, window, tap(2));
    const V result = finish(tile, window);
    if (room - tile.out >= kLanes) {
      StoreVector(d, result, to + tile.out);
    } else {
      StorePart(d, result, to + tile.out, static_cast<std::size_t>(std::min(outs - tile.out, kLanes)));
    }
  }
}

/// Asks for what is read 4 KiB on, of planes whose rows are read one after the other.
template <class T>
class StreamAhead {
 public:
  static constexpr bool kSlices = false;

  explicit StreamAhead(const Axes& axes) : per_line_(axes[1].stride() * axes[2].in()) {}
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

  explicit SlicesAhead(const Axes& axes)
      : lines_(axes[1].out()),
        kernel_d_(axes[0].kernel()),
        kernel_h_(axes[1].kernel()),
        new_slices_(std::min(axes[0].stride(), kernel_d_)),
        new_rows_(std::min(axes[1].stride(), kernel_h_)),
        per_line_(axes[1].stride() * axes[2].in()),
        slice_(axes[1].in() * axes[2].in()),
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
template <class Reduction, int kStride, int kTaps, class T, class Ahead, class FinishOf>
HWY_NOINLINE bool PoolTiledRows(const T* plane, std::int64_t pitch, const LineReads& reads,
                                std::int64_t first, std::int64_t last,
                                const RowTiles<kStride, kTaps, T>& tiles, std::int64_t outs, Ahead ahead,
                                const FinishOf& finish_of, T* to, std::int64_t room) {
  const WideTag<T> d;
  VecOf<WideTag<T>> seen[2] = {hn::Zero(d), hn::Zero(d)};
  ahead.begin(plane, first);
  for (std::int64_t line = first; line < last; ++line, to += outs, room -= outs) {
    const auto of_line = reads[line];
    const auto finish = finish_of(line);
    const auto count = static_cast<std::int64_t>(of_line.size());
    ahead.ask(plane, line, of_line, pitch);
    constexpr int kRows = Ahead::kSlices ? kTaps * kTaps : 3;
    if (count == kRows) {
      PoolTiledRow<Reduction, kStride, kTaps, kRows>(plane, pitch, of_line, tiles, outs, finish, to, room,
                                                     seen);
    } else if (!Ahead::kSlices && count == 2) {
      PoolTiledRow<Reduction, kStride, kTaps, 2>(plane, pitch, of_line, tiles, outs, finish, to, room, seen);
    } else {
      PoolTiledRow<Reduction, kStride, kTaps, 0>(plane, pitch, of_line, tiles, outs, finish, to, room, seen);
    }
  }
  if constexpr (!Reduction::kLosesNaN) return true;
  return hn::AllFalse(d, hn::IsNaN(hn::Add(seen[0], seen[1])));
}

template <class Reduction, int kStride, int kTaps, class T, class Ahead, class FinishOf>
void PoolTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const FinishOf& finish_of) {
  using Fast = FirstTry<Reduction, LaneOf<T>>;
  const LineReads reads = LineReads::of_windows(axes);
  const RowTiles<kStride, kTaps, T> tiles(axes[2]);
  const std::int64_t lines = reads.count();
  const std::int64_t outs = axes[2].out();
  const std::int64_t pitch = axes[2].in();
  const std::int64_t elements = pitch * axes[0].in() * axes[1].in();
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kBytesAtOnce = 4096;
  const std::int64_t rows_at_once = std::max<std::int64_t>(kBytesAtOnce / (outs * kSize), 1);
  const Ahead ahead(axes);
  const bool past = stores_past_caches(x, y);
  const auto* const from = static_cast<const T*>(x.data);
  auto* const to = static_cast<T*>(y.data);
  parallel_for(y.size[0] * y.size[1] * lines, row_grain(pitch * new_rows(axes[1]) * kSize),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 OutputLines out;
                 const std::int64_t beyond = OutputLines::kBeyond / kSize;
                 std::int64_t plane = begin / lines;
                 std::int64_t line = begin % lines;
                 for (std::int64_t row = begin; row < end;) {
                   const std::int64_t count = std::min({rows_at_once, lines - line, end - row});
                   T* const place = to + row * outs;
                   const std::int64_t bytes = count * outs * kSize;
                   T* const made = past ? reinterpret_cast<T*>(out.room(place, bytes)) : place;
                   if (!past) ask_ahead(place, count * outs);
                   const std::int64_t room = past ? count * outs + beyond : (end - row) * outs;
                   const T* const read = from + plane * elements;
                   if (!PoolTiledRows<Fast, kStride, kTaps>(read, pitch, reads, line, line + count, tiles,
                                                            outs, ahead, finish_of, made, room)) {
                     PoolTiledRows<Reduction, kStride, kTaps>(read, pitch, reads, line, line + count, tiles,
                                                              outs, ahead, finish_of, made, room);
                   }
                   if (past) out.done(bytes);
                   row += count;
                   line += count;
                   if (line == lines) {
                     line = 0;
                     ++plane;
                   }
                 }
               });
}

template <class Reduction, int kStride, int kTaps, class T, class FinishOf>
void PoolTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const FinishOf& finish_of) {
  if (axes[0].kernel() == 1 && axes[0].stride() == 1)
    return PoolTiledPlanes<Reduction, kStride, kTaps, T, StreamAhead<T>>(x, y, axes, finish_of);
  PoolTiledPlanes<Reduction, kStride, kTaps, T, SlicesAhead<T>>(x, y, axes, finish_of);
}

template <class Reduction, class T, class FinishOf>
void PoolTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const FinishOf& finish_of) {
  const Axis& w = axes[2];
  if (w.stride() == 1) {
    if (w.kernel() == 2) return PoolTiledPlanes<Reduction, 1, 2, T>(x, y, axes, finish_of);
    return PoolTiledPlanes<Reduction, 1, 3, T>(x, y, axes, finish_of);
  }
  if (w.kernel() == 2) return PoolTiledPlanes<Reduction, 2, 2, T>(x, y, axes, finish_of);
  PoolTiledPlanes<Reduction, 2, 3, T>(x, y, axes, finish_of);
}

template <class T>
void MaxOfTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  PoolTiledPlanes<MaxReduction, T>(
      x, y, axes, [](std::int64_t) { return [](const RowTile&, auto v) CENOTE_VECTOR_LAMBDA { return v; }; });
}

template <class T, class Divisors>
void AvgOfTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors) {
  using Lane = LaneOf<T>;
  const WideTag<T> d;
  std::vector<Lane> rows;
  std::vector<Lane> columns;
  rows.reserve(static_cast<std::size_t>(axes[0].out() * axes[1].out()));
  columns.reserve(static_cast<std::size_t>(axes[2].out()) + kMaxLanes<T>);
  for (std::int64_t od = 0; od < axes[0].out(); ++od) {
    for (std::int64_t oh = 0; oh < axes[1].out(); ++oh)
      rows.push_back(static_cast<Lane>(divisors.row(od, oh)));
  }
  for (std::int64_t ow = 0; ow < axes[2].out(); ++ow)
    columns.push_back(static_cast<Lane>(divisors.column(ow)));
  const auto exact = [](const std::vector<Lane>& values) {
    return std::all_of(values.begin(), values.end(), power_of_two<Lane>);
  };
  const bool inverses = exact(rows) && exact(columns);
  if (inverses) {
    for (Lane& value : rows) value = 1 / value;
    for (Lane& value : columns) value = 1 / value;
  }
  columns.resize(columns.size() + kMaxLanes<T>, 1);  // what vectors read beyond
  const auto factors = [&](std::int64_t line, const RowTile& tile) CENOTE_VECTOR_LAMBDA {
    return hn::Mul(hn::Set(d, rows[static_cast<std::size_t>(line)]), hn::LoadU(d, columns.data() + tile.out));
  };
  if (inverses) {
    return PoolTiledPlanes<SumReduction, T>(x, y, axes, [&](std::int64_t line) {
      return [&factors, line](const RowTile& tile, auto v)
                 CENOTE_VECTOR_LAMBDA { return hn::Mul(v, factors(line, tile)); };
    });
  }
  PoolTiledPlanes<SumReduction, T>(x, y, axes, [&](std::int64_t line) {
    return [&factors, line](const RowTile& tile, auto v)
               CENOTE_VECTOR_LAMBDA { return hn::Div(v, factors(line, tile)); };
  });
}

#else

template <class T>
void MaxOfTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes);
template <class T, class Divisors>
void AvgOfTiledPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors);

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
