// Output rows as tiles: each of as many outputs as the windows in kStride vectors of columns. Nothing is
// carried from one to the next, and what lies beside the row is masked.
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
constexpr bool kTilesRows =
    (HWY_TARGET == HWY_AVX3 && (std::is_same_v<LaneOf<T>, float> || sizeof(T) == 1)) ||
    (HWY_TARGET == HWY_AVX2 && std::is_same_v<T, float>);

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

/// The tiles of a row, as even as they can be; of a row of pixels with `channels` lanes each, if these lie
/// innermost.
template <int kStride, int kTaps, class T>
class RowTiles {
 public:
  static constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(TileTag<T>()));

  explicit RowTiles(const Axis& w, std::int64_t channels = 1) {
    const std::int64_t most_outs = (kStride * kLanes / channels - kTaps) / kStride + 1;
    const std::int64_t outs = ceil_divide(w.out(), ceil_divide(w.out(), most_outs));
    const auto inside = [&](std::int64_t lane) { return BitsInside(lane, w.in() * channels, kLanes); };
    tiles_.reserve(static_cast<std::size_t>(ceil_divide(w.out(), outs)));
    for (std::int64_t out = 0; out < w.out(); out += outs) {
      const std::int64_t lane = w.start(out) * channels;
      tiles_.push_back({lane, out * channels, inside(lane), inside(lane + kLanes),
                        BitsInside(0, std::min(outs, w.out() - out) * channels, kLanes)});
    }
  }
  std::span<const RowTile> all() const { return tiles_; }

 private:
  std::vector<RowTile> tiles_;
};

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
/// The lanes of a vector that are elements of a row; the others are loaded as 0.
template <class T>
class LanesInside {
 public:
  using D = WideTag<T>;
  /// Whether load() reads the memory of the others, too, which load_alone() never does.
  static constexpr bool kReadsAll = !kMasksAccess<T>;

  LanesInside() : LanesInside(0) {}
  explicit LanesInside(std::uint64_t bits) : bits_(bits), mask_(MaskOfBits(D(), bits)) {}
  HWY_INLINE VecOf<D> load(const T* from) const {
    const D d;
    if constexpr (kMasksAreBits) {
      return LoadBits(d, bits_, from);
    } else if constexpr (kReadsAll) {
      return hn::IfThenElseZero(mask_, LoadVector(d, from));
    } else {
      return hn::MaskedLoad(mask_, d, from);
    }
  }
  HWY_INLINE VecOf<D> load_alone(const T* from) const {
    if constexpr (!kReadsAll) return load(from);
    T some[kMaxLanes<T>] = {};
    for (std::size_t lane = 0; lane < kMaxLanes<T>; ++lane) {
      if ((bits_ >> lane & 1) != 0) some[lane] = from[lane];
    }
    return LoadVector(D(), some);
  }

 private:
  std::uint64_t bits_;
  hn::Mask<D> mask_;
};

/// The lane of tap kTap of each output of a tile.
template <int kStride, int kTap, class D>
HWY_INLINE VecOf<D> TapOfTile(D d, VecOf<D> low, [[maybe_unused]] VecOf<D> high) {
  if constexpr (kStride == 1 && kTap == 0) {
    return low;
  } else {
    const hn::RebindToSigned<D> di;
    using Number = hn::TFromD<decltype(di)>;
#if HWY_TARGET == HWY_AVX3
    const auto first = hn::ShiftLeft<kStride - 1>(hn::Iota(di, 0));
    return PickLanes(d, low, high, hn::Add(first, hn::Set(di, Number{kTap})));
#else  // lanes that come around belong to no output
    const auto rotate = [&](VecOf<D> v, Number by) CENOTE_VECTOR_LAMBDA {
      return VecOf<D>{_mm256_permutevar8x32_ps(v.raw, hn::Iota(di, by).raw)};
    };
    if constexpr (kStride == 1) {
      return rotate(low, kTap);
    } else if constexpr (kTap == 1) {
      return hn::ConcatOdd(d, high, low);
    } else {
      const auto even = hn::ConcatEven(d, high, low);
      return kTap == 0 ? even : rotate(even, kTap / 2);
    }
#endif
  }
}

/// The lanes of a tap in tiles of single columns.
template <int kStride>
struct TapsOfColumns {
  template <int kTap, class D>
  HWY_INLINE VecOf<D> of(D d, VecOf<D> low, VecOf<D> high) const {
    return TapOfTile<kStride, kTap>(d, low, high);
  }
};

/// The same in tiles of pixels.
template <int kStride, int kTaps>
class TapsOfPixels {
 public:
  explicit TapsOfPixels(std::int64_t channels) {
    for (int tap = 0; tap < kTaps; ++tap) {
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        const std::int64_t number = (lane / channels * kStride + tap) * channels + lane % channels;
        numbers_[tap][lane] =
            static_cast<std::int32_t>(number % (2 * kLanes));  // of no output where it is more
      }
    }
  }
  template <int kTap, class D>
  HWY_INLINE VecOf<D> of(D d, VecOf<D> low, VecOf<D> high) const {
    return PickLanes(d, low, high, hn::Load(hn::RebindToSigned<D>(), numbers_[kTap]));
  }

 private:
  static constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<float>);

  HWY_ALIGN std::int32_t numbers_[kTaps][kLanes];
};
#endif

/// What becomes of reduced windows: they are the outputs.
template <class T>
struct WindowsAsTheyAre {
  using V = VecOf<TileTag<T>>;
  static constexpr bool kFactors = false;

  static HWY_INLINE V finish(V windows, V) { return windows; }
};

/// What divides sums, a factor of their line and one of their column, or the inverses, if all of them are
/// exact.
template <class Lane>
struct DivisorTables {
  std::vector<Lane> rows;  // of each line of outputs
  std::vector<Lane> columns;
  bool inverses;
};

/// Of `lines` lines of outputs of divisors row(line) * column(output).
template <class Lane, class RowDivisor, class ColumnDivisor>
DivisorTables<Lane> tabulate_divisors(std::int64_t lines, const RowDivisor& row, std::int64_t outs,
                                      const ColumnDivisor& column) {
  const auto tabulate = [](std::int64_t count, const auto& divisor) {
    std::vector<Lane> values(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
      values[static_cast<std::size_t>(i)] = static_cast<Lane>(divisor(i));
    return values;
  };
  const auto exact = [](const std::vector<Lane>& values) {
    return std::all_of(values.begin(), values.end(), power_of_two<Lane>);
  };
  DivisorTables<Lane> tables{tabulate(lines, row), tabulate(outs, column), false};
  if (!exact(tables.rows) || !exact(tables.columns)) return tables;
  for (auto* const values : {&tables.rows, &tables.columns}) {
    for (Lane& value : *values) value = 1 / value;
  }
  tables.inverses = true;
  return tables;
}

/// Sums: they are divided, or multiplied by the inverses.
template <bool kInverses, class T>
class DividedWindows {
 public:
  using Lane = LaneOf<T>;
  using V = VecOf<WideTag<T>>;
  static constexpr bool kFactors = true;

  explicit DividedWindows(DivisorTables<Lane> tables)
      : rows_(std::move(tables.rows)), columns_(std::move(tables.columns)) {
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
  std::vector<Lane> rows_;
  std::vector<Lane> columns_;
};

/// pool(finish) with a DividedWindows of these divisors.
template <class T, class RowDivisor, class ColumnDivisor, class Pool>
void with_divisors(std::int64_t lines, const RowDivisor& row, std::int64_t outs, const ColumnDivisor& column,
                   const Pool& pool) {
  auto tables = tabulate_divisors<LaneOf<T>>(lines, row, outs, column);
  if (tables.inverses) return pool(DividedWindows<true, T>(std::move(tables)));
  pool(DividedWindows<false, T>(std::move(tables)));
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

/// The same for windows over x with these rows.
template <class T, class Pool>
void ForEachStretch(const ConstTensor5& x, const Tensor5& y, const Axis& h, const Pool& pool) {
  const std::int64_t elements = x.size[4] * new_rows(h) + y.size[4];
  const std::int64_t grain = row_grain(elements * static_cast<std::int64_t>(sizeof(T)), kFastGrainBytes);
  ForEachStretch<T>(y, 1, grain, stores_past_caches(x, y), pool);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
