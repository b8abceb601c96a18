// Window pooling forward over dense planes with windows of 2x2 or 3x3 and stride 1 or 2, a strip of columns
// at a time: what they share with the windows of the next output row stays in registers.
#if defined(CENOTE_CPU_SQUARE_WINDOWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SQUARE_WINDOWS_INL_H_
#undef CENOTE_CPU_SQUARE_WINDOWS_INL_H_
#else
#define CENOTE_CPU_SQUARE_WINDOWS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>

#include "cpu/row_tiles-inl.h"
#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether PoolSquareWindows serves these windows.
inline bool square_windows(const Axes& axes) {
  const Axis& h = axes[1];
  const Axis& w = axes[2];
  return axes[0].kernel() == 1 && axes[0].stride() == 1 && axes[0].padding() == 0 &&
         h.kernel() == w.kernel() && h.stride() == w.stride() && h.dilation() == 1;
}

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2

/// What their planes have in common.
struct SquarePlanes {
  explicit SquarePlanes(const Axes& axes)
      : rows(axes[1].in()),
        columns(axes[2].in()),
        lines(axes[1].out()),
        outs(axes[2].out()),
        padding(axes[1].padding()),
        whole(whole_windows(axes[1])) {}

  std::int64_t rows;
  std::int64_t columns;
  std::int64_t lines;  // of outputs
  std::int64_t outs;   // of a line
  std::int64_t padding;
  Range whole;  // lines whose windows lie inside
};

/// Some tiles of `count` output lines, the lines one after the other at `to`: from line `first` of a plane
/// on, and then of the planes after it. Whole vectors may be stored up to `end`. Returns whether all are
/// right.
template <class Reduction, int kStride, int kTaps, int kTiles, int kParts, class T, class Finish>
HWY_NOINLINE bool PoolStrip(const T* plane, const SquarePlanes& planes, std::int64_t first,
                            std::int64_t count, const RowTile* tiles, const Finish& finish, T* to,
                            const T* end) {
  const TileTag<T> d;
  using V = VecOf<decltype(d)>;
  constexpr auto kLanes = RowTiles<kStride, kTaps, T>::kLanes;
  constexpr int kVectors = kTiles * kParts;
  constexpr int kKept = kTaps - kStride;  // rows that the next windows read, too
  const V identity = hn::Set(d, Reduction::template identity<TileLane<T>>());

  std::uint64_t bits[kVectors];
  std::int64_t columns[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const RowTile& tile = tiles[v / kParts];
    bits[v] = v % kParts == 0 ? tile.low : tile.high;
    columns[v] = tile.column + v % kParts * kLanes;
  }

  const std::int64_t pitch = planes.columns;
  hn::Mask<decltype(d)> nans = hn::FirstN(d, 0);
  V kept[std::max(kKept, 1)][kVectors];
  V factors[kTiles];
  for (V& factor : factors) factor = hn::Zero(d);
  const auto set_factors = [&]([[maybe_unused]] std::int64_t line) CENOTE_VECTOR_LAMBDA {
    if constexpr (Finish::kFactors) {
      for (int t = 0; t < kTiles; ++t) factors[t] = finish.factors(finish.row(line), tiles[t]);
    }
  };
  // Vector v of row r of the plane, or identities beside it.
  const auto load = [&](std::int64_t r, int v) CENOTE_VECTOR_LAMBDA {
    if (r < 0 || r >= planes.rows) return identity;
    return LoadBits(d, bits[v], plane + r * pitch + columns[v]);
  };
  // A line from the rows kept and kStride others, of which fresh(i, v) loads a vector.
  const auto pool_line = [&](const auto& fresh) CENOTE_VECTOR_LAMBDA {
    V reduced[kVectors];
    V last = identity;
    for (int v = 0; v < kVectors; ++v) {
      V rows[kTaps];
      for (int i = 0; i < kTaps; ++i) rows[i] = i < kKept ? kept[i][v] : fresh(i - kKept, v);
      for (int i = 0; i < kKept; ++i) kept[i][v] = rows[i + kStride];
      V sum = rows[0];
      for (int i = 1; i < kTaps; ++i) sum = Reduction::combine(d, sum, rows[i]);
      reduced[v] = hn::IfThenElse(MaskOfBits(d, bits[v]), sum, identity);
      if constexpr (Reduction::kLosesNaN) {  // rows kept have been seen
        if (kStride == 2) {
          nans = hn::Or(nans, EitherIsNaN(d, rows[kTaps - 2], rows[kTaps - 1]));
        } else if (v % 2 == 1 || v == kVectors - 1) {
          nans = hn::Or(nans, EitherIsNaN(d, last, rows[kTaps - 1]));
        }
        last = rows[kTaps - 1];
      }
    }
    for (int t = 0; t < kTiles; ++t) {
      const V low = reduced[t * kParts];
      const V high = kParts == kStride ? reduced[t * kParts + kParts - 1] : identity;
      V window =
          Reduction::combine(d, TapOfTile<kStride, 0>(d, low, high), TapOfTile<kStride, 1>(d, low, high));
      if constexpr (kTaps == 3) window = Reduction::combine(d, window, TapOfTile<kStride, 2>(d, low, high));
      const V result = Finish::finish(window, factors[t]);
      T* const place = to + tiles[t].out;
      if (HWY_LIKELY(place + kLanes <= end)) {
        StoreVector(d, result, place);
      } else {
        StoreBits(d, result, tiles[t].made, place);
      }
    }
    to += planes.outs;
  };
  const auto ask_ahead_of_rows = [&](const T* from) CENOTE_VECTOR_LAMBDA {
    constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < kStride * kVectors * kLanes; i += kLine)
      prefetch_for_read(from + kReadAhead<T> + i);
  };
  // Lines whose windows may lie beside the plane.
  const auto pool_edge = [&](std::int64_t line, std::int64_t last) CENOTE_VECTOR_LAMBDA {
    for (; line < last; ++line) {
      const std::int64_t row = line * kStride - planes.padding + kKept;
      set_factors(line);
      ask_ahead_of_rows(plane + row * pitch);
      pool_line([&](int i, int v) CENOTE_VECTOR_LAMBDA { return load(row + i, v); });
    }
  };

  for (; count > 0; plane += planes.rows * pitch, first = 0) {
    const std::int64_t last = std::min(planes.lines, first + count);
    count -= last - first;
    const std::int64_t top = std::clamp(planes.whole.begin, first, last);
    const std::int64_t bottom = std::clamp(planes.whole.end, top, last);
    for (int i = 0; i < kKept; ++i) {
      for (int v = 0; v < kVectors; ++v) {
        kept[i][v] = load(first * kStride - planes.padding + i, v);
        if constexpr (Reduction::kLosesNaN) nans = hn::Or(nans, hn::IsNaN(kept[i][v]));
      }
    }
    pool_edge(first, top);
    if (top < bottom) set_factors(top);
    const T* from = plane + (top * kStride - planes.padding + kKept) * pitch;
    for (std::int64_t left = bottom - top; left > 0; --left) {
      ask_ahead_of_rows(from);
      pool_line([&](int i, int v)
                    CENOTE_VECTOR_LAMBDA { return LoadBits(d, bits[v], from + i * pitch + columns[v]); });
      from += kStride * pitch;
    }
    pool_edge(bottom, last);
  }
  return hn::AllFalse(d, nans);
}

/// All tiles, up to kMostTiles at a time.
template <class Reduction, int kStride, int kTaps, int kMostTiles, class T, class Finish>
bool PoolStrips(const T* plane, const SquarePlanes& planes, std::int64_t first, std::int64_t count,
                std::span<const RowTile> tiles, const Finish& finish, T* to) {
  const T* const end = tiles.size() <= kMostTiles ? to + count * planes.outs : to;
  bool right = true;
  while (!tiles.empty()) {
    const std::size_t some = std::min<std::size_t>(tiles.size(), kMostTiles);
    const auto pool = [&](auto number, auto parts) {
      if constexpr (number <= kMostTiles) {
        right &= PoolStrip<Reduction, kStride, kTaps, number, parts>(plane, planes, first, count,
                                                                     tiles.data(), finish, to, end);
      }
    };
    using std::integral_constant;
    const integral_constant<int, kStride> all;
    if (some == 4) {
      pool(integral_constant<int, 4>(), all);
    } else if (some == 3) {
      pool(integral_constant<int, 3>(), all);
    } else if (some == 2) {
      pool(integral_constant<int, 2>(), all);
    } else if (kMostTiles > 1 && tiles[0].high == 0) {
      pool(integral_constant<int, 1>(), integral_constant<int, 1>());
    } else {
      pool(integral_constant<int, 1>(), all);
    }
    tiles = tiles.subspan(some);
  }
  return right;
}

template <class Reduction, int kStride, int kTaps, class T, class Finish>
void PoolSquareWindows(const ConstTensor5& x, const Tensor5& y, const Axes& axes,
                       const RowTiles<kStride, kTaps, T>& tiles, const Finish& finish) {
  // Whose vectors stay in registers. With AVX2 some of four tiles do not, with stride 2, but fewer strips
  // read the memory again: max 3x3 of [96, 192, 57, 57] f32, Xeon (Emerald Rapids), 16.7 ms by two and 12.9
  // ms by four.
  constexpr int kMostTiles = kMasksAreBits ? 4 / kStride : 4;
  using Fast = FirstTry<Reduction, TileLane<T>>;
  const SquarePlanes planes(axes);
  const auto* const from = static_cast<const T*>(x.data);
  ForEachStretch<T>(x, y, axes[1], [&](std::int64_t row, std::int64_t count, T* to, const T*) HWY_ATTR {
    const T* const plane = from + row / planes.lines * planes.rows * planes.columns;
    const std::int64_t first = row % planes.lines;
    const auto pool = [&](auto reduction, auto most) {
      return PoolStrips<decltype(reduction), kStride, kTaps, most>(plane, planes, first, count, tiles.all(),
                                                                   finish, to);
    };
    const bool right = pool(Fast(), std::integral_constant<int, kMostTiles>());
    if constexpr (Fast::kLosesNaN) {
      if (!right) pool(Reduction(), std::integral_constant<int, 1>());
    }
  });
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
