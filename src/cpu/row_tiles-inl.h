// Output rows as tiles: each of as many outputs as the windows in kStride vectors of columns. Nothing is
// carried from one to the next, and what lies beside the row is masked. Where masks are bits.
#if defined(CENOTE_CPU_ROW_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_ROW_TILES_INL_H_
#undef CENOTE_CPU_ROW_TILES_INL_H_
#else
#define CENOTE_CPU_ROW_TILES_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/past_caches-inl.h"
#include "cpu/rows-inl.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether there are such loops for elements of T.
template <class T>
constexpr bool kTilesRows = kMasksAreBits && (std::is_same_v<LaneOf<T>, float> || sizeof(T) == 1);

/// Vectors of columns. Bytes are widened: there are no lanes of bytes to be picked.
template <class T>
using TileLane = std::conditional_t<sizeof(T) == 1, std::int16_t, LaneOf<T>>;
template <class T>
using TileTag = hn::ScalableTag<TileLane<T>>;

/// Some outputs of a row, and the vectors of columns that hold their windows.
struct RowTile {
  std::int64_t column;  // of the first lane; may lie before the row
  std::int64_t out;     // the first output
  std::uint64_t low;    // which lanes of the first vector are columns of the row,
  std::uint64_t high;   // and of the second
  std::uint64_t made;   // which lanes of the vector of outputs are made
};

/// The tiles of a row, as even as they can be.
template <int kStride, int kTaps, class T>
class RowTiles {
 public:
  static constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(TileTag<T>()));

  explicit RowTiles(const Axis& w) {
    constexpr std::int64_t kMostOuts = (kStride * kLanes - kTaps) / kStride + 1;
    outs_ = ceil_divide(w.out(), ceil_divide(w.out(), kMostOuts));
    const auto inside = [&](std::int64_t column) { return BitsInside(column, w.in(), kLanes); };
    tiles_.reserve(static_cast<std::size_t>(ceil_divide(w.out(), outs_)));
    for (std::int64_t out = 0; out < w.out(); out += outs_) {
      const std::int64_t column = w.start(out);
      tiles_.push_back({column, out, inside(column), inside(column + kLanes),
                        BitsInside(0, std::min(outs_, w.out() - out), kLanes)});
    }
  }
  std::span<const RowTile> all() const { return tiles_; }

 private:
  std::int64_t outs_;
  std::vector<RowTile> tiles_;
};

/// What becomes of reduced windows: they are the outputs.
template <class T>
struct WindowsAsTheyAre {
  using V = VecOf<TileTag<T>>;
  static constexpr bool kFactors = false;

  static HWY_INLINE V finish(V windows, V) { return windows; }
};

/// The same of sums: they are divided, or multiplied by the inverses where these are exact.
template <bool kInverses, class T>
class DividedWindows {
 public:
  using Lane = LaneOf<T>;
  using V = VecOf<WideTag<T>>;
  static constexpr bool kFactors = true;

  DividedWindows(std::vector<Lane> rows, std::vector<Lane> columns)
      : rows_(std::move(rows)), columns_(std::move(columns)) {
    columns_.resize(columns_.size() + kMaxLanes<T>, 1);  // what vectors read beyond
  }
  Lane row(std::int64_t line) const { return rows_[static_cast<std::size_t>(line)]; }
  /// Of the outputs of a tile.
  HWY_INLINE V factors(Lane row, const RowTile& tile) const {
    const WideTag<T> d;
    return hn::Mul(hn::Set(d, row), hn::LoadU(d, columns_.data() + tile.out));
  }
  static HWY_INLINE V finish(V windows, V factors) {
    if constexpr (kInverses) return hn::Mul(windows, factors);
    return hn::Div(windows, factors);
  }

 private:
  std::vector<Lane> rows_;  // of each line of outputs
  std::vector<Lane> columns_;
};

/// pool(finish) with a DividedWindows: for `lines` lines of outputs of divisors row(line) * column(output).
template <class T, class RowDivisor, class ColumnDivisor, class Pool>
void with_divisors(std::int64_t lines, const RowDivisor& row, std::int64_t outs, const ColumnDivisor& column,
                   const Pool& pool) {
  using Lane = LaneOf<T>;
  const auto tabulate = [](std::int64_t count, const auto& divisor) {
    std::vector<Lane> values(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
      values[static_cast<std::size_t>(i)] = static_cast<Lane>(divisor(i));
    return values;
  };
  std::vector<Lane> rows = tabulate(lines, row);
  std::vector<Lane> columns = tabulate(outs, column);
  const auto exact = [](const std::vector<Lane>& values) {
    return std::all_of(values.begin(), values.end(), power_of_two<Lane>);
  };
  if (!exact(rows) || !exact(columns))
    return pool(DividedWindows<false, T>(std::move(rows), std::move(columns)));
  for (Lane& value : rows) value = 1 / value;
  for (Lane& value : columns) value = 1 / value;
  pool(DividedWindows<true, T>(std::move(rows), std::move(columns)));
}

/// make(row, count, to, end) for all rows of a dense tensor, at least `fewest` at a time but for the last
/// ones: makes `count` of them, from number `row` on, at `to`. What lies beyond a row, up to `end`, is made
/// later or may be overwritten.
template <class T, class Make>
void ForEachStretch(const Tensor5& y, std::int64_t fewest, std::int64_t grain, bool past, const Make& make) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kBytesAtOnce = 4096;
  const std::int64_t columns = y.size[4];
  const std::int64_t rows_at_once = std::max(kBytesAtOnce / (columns * kSize), fewest);
  auto* const all = static_cast<T*>(y.data);
  parallel_for(y.size[0] * y.size[1] * y.size[2] * y.size[3], grain,
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 OutputLines out;
                 for (std::int64_t row = begin; row < end;) {
                   const std::int64_t count = std::min(rows_at_once, end - row);
                   T* const place = all + row * columns;
                   if (past) {
                     const std::int64_t bytes = count * columns * kSize;
                     auto* const to = reinterpret_cast<T*>(out.room(place, bytes));
                     make(row, count, to, to + count * columns + OutputLines::kBeyond / kSize);
                     out.done(bytes);
                   } else {
                     ask_ahead(place, count * columns);
                     make(row, count, place, all + end * columns);
                   }
                   row += count;
                 }
               });
}

/// The same for windows over x.
template <class T, class Pool>
void ForEachStretch(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Pool& pool) {
  const std::int64_t elements = axes[2].in() * new_rows(axes[1]) + axes[2].out();
  const std::int64_t grain = row_grain(elements * static_cast<std::int64_t>(sizeof(T)), kFastGrainBytes);
  ForEachStretch<T>(y, 1, grain, stores_past_caches(x, y), pool);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
