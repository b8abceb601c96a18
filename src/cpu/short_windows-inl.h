// Window pooling forward with windows of 2 or 3 columns and stride 1 or 2 over rows of unit stride, in
// registers: the rows of a window are reduced vertically, a vector at a time, and what the windows of one
// vector share with the vector before is carried over. Every input is loaded once, and nothing is stored but
// the output.
#if defined(CENOTE_CPU_SHORT_WINDOWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SHORT_WINDOWS_INL_H_
#undef CENOTE_CPU_SHORT_WINDOWS_INL_H_
#else
#define CENOTE_CPU_SHORT_WINDOWS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cpu/planar-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The column that lane 0 of output 0 loads, chosen so that the last tap of a window is a loaded lane and the
/// others are it, its pair (stride 2) and carried ones.
inline std::int64_t first_loaded_column(const Axis& w) { return w.kernel() - w.stride() - w.padding(); }

/// Whether ForEachShortRow serves windows along this axis.
inline bool short_windows(const Axis& w) {
#if HWY_TARGET == HWY_SCALAR
  (void)w;
  return false;  // one lane carries nothing
#else
  return (w.kernel() == 2 || w.kernel() == 3) && w.stride() <= 2 && w.dilation() == 1 &&
         first_loaded_column(w) >= 0;
#endif
}

/// Column `column` of all rows as one value; loses no NaN.
template <class Reduction, class T>
T ReduceColumn(const InputRows<T>& rows, std::int64_t column) {
  T total = rows.row(0)[column];
  for (std::int64_t i = 1; i < rows.count(); ++i) {
    total = Reduction::combine_scalar(total, rows.row(i)[column]);
  }
  return total;
}

/// One vector of columns of all rows, from `column` on, and `seen` plus all of them. kRows is the number of
/// rows, or 0 for any.
template <class Reduction, int kRows, class D, class T>
HWY_INLINE VecOf<D> ReduceFullColumns(D d, const InputRows<T>& rows, std::int64_t column, VecOf<D>& seen) {
  return ReduceBlocked<Reduction>(d, kRows > 0 ? kRows : rows.count(),
                                  [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
                                    const auto v = hn::LoadU(d, rows.row(i) + column);
                                    if constexpr (Reduction::kLosesNaN) seen = hn::Add(seen, v);
                                    return v;
                                  });
}

/// The same with the identity in the lanes beyond the end of the row, all of them perhaps.
template <class Reduction, int kRows, class D, class T>
HWY_INLINE VecOf<D> ReduceLastColumns(D d, const InputRows<T>& rows, std::int64_t column, std::int64_t end,
                                      VecOf<D>& seen) {
  const auto identity = hn::Set(d, Reduction::template identity<T>());
  if (column >= end) return identity;
  const auto part = std::min<std::size_t>(static_cast<std::size_t>(end - column), hn::Lanes(d));
  const VecOf<D> reduced =
      ReduceBlocked<Reduction>(d, kRows > 0 ? kRows : rows.count(), [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
        const auto v = LoadPart(d, rows.row(i) + column, part);
        if constexpr (Reduction::kLosesNaN) seen = hn::Add(seen, v);
        return v;
      });
  return hn::IfThenElse(hn::FirstN(d, part), reduced, identity);
}

/// Asks for the columns from `column` on of what the next output rows will read: new rows, 2 KiB ahead.
/// [32, 64, 112, 112] f32 max, 3x3 stride 2, beyond the caches: 7.2 ms without, 5.9 ms with.
template <class T>
HWY_INLINE void PrefetchNewRows(const InputRows<T>& rows, std::int64_t column, std::int64_t count) {
  constexpr std::int64_t kAhead = 2048 / static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t row = std::max<std::int64_t>(rows.count() - 2, 0); row < rows.count(); ++row) {
    for (std::int64_t i = 0; i < count; i += kLine) hwy::Prefetch(rows.row(row) + column + kAhead + i);
  }
}

/// The larger of two numbers; a NaN may get lost.
struct LargerNumber : MaxReduction {
  static constexpr bool kLosesNaN = true;
  template <class D>
  static HWY_INLINE VecOf<D> combine(D, VecOf<D> acc, VecOf<D> v) {
    return hn::Max(v, acc);
  }
};

/// Indices that move every lane up by kBy, the last ones to the front.
template <int kBy, class D>
HWY_INLINE auto RotatingIndices(D d) {
  using Index = hwy::MakeSigned<hn::TFromD<D>>;
  const hn::Rebind<Index, D> di;
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  return hn::IndicesFromVec(
      d, hn::And(hn::Iota(di, static_cast<Index>(lanes - kBy)), hn::Set(di, static_cast<Index>(lanes - 1))));
}

/// The outputs of one row: emit(d, m, vector) for each vector of outputs. False when they are wrong, as a NaN
/// got lost, or perhaps: the sum of all elements is NaN, which opposite infinities make, too.
template <class Reduction, int kStride, int kTaps, int kRows, class T, class Emit>
HWY_NOINLINE bool ReduceShortRow(const InputRows<T>& rows, const Axis& w, const Emit& emit) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t first = first_loaded_column(w);
  const std::int64_t columns = w.in();

  // The columns before the first loaded one, as the last lanes of a vector.
  HWY_ALIGN T before[kMaxLanes<T>];
  std::fill(before, before + lanes, Reduction::template identity<T>());
  T seen_before = 0;
  for (std::int64_t i = 1; i < kTaps && i <= first; ++i) {
    if (first - i >= columns) continue;
    before[lanes - i] = ReduceColumn<Reduction>(rows, first - i);
    seen_before += before[lanes - i];
  }
  const auto by_one = RotatingIndices<1>(d);
  const auto by_two = RotatingIndices<2>(d);
  auto carried_one = hn::TableLookupLanes(hn::Load(d, before), by_one);
  auto carried_two = hn::TableLookupLanes(hn::Load(d, before), by_two);
  const auto one_before = [&](VecOf<decltype(d)> v) CENOTE_VECTOR_LAMBDA {
    const auto rotated = hn::TableLookupLanes(v, by_one);
    const auto moved = hn::IfThenElse(hn::FirstN(d, 1), carried_one, rotated);
    carried_one = rotated;
    return moved;
  };
  const auto two_before = [&](VecOf<decltype(d)> v) CENOTE_VECTOR_LAMBDA {
    const auto rotated = hn::TableLookupLanes(v, by_two);
    const auto moved = hn::IfThenElse(hn::FirstN(d, 2), carried_two, rotated);
    carried_two = rotated;
    return moved;
  };
  const auto windows = [&](VecOf<decltype(d)> low, VecOf<decltype(d)> high) CENOTE_VECTOR_LAMBDA {
    if constexpr (kStride == 1) {
      if constexpr (kTaps == 2) return Reduction::combine(d, one_before(low), low);
      const auto oldest = two_before(low);
      return Reduction::combine(d, Reduction::combine(d, oldest, one_before(low)), low);
    } else {
#if HWY_TARGET == HWY_SCALAR
      return Reduction::combine(d, low, high);
#else
      const auto even = hn::ConcatEven(d, high, low);
      const auto odd = hn::ConcatOdd(d, high, low);
      if constexpr (kTaps == 2) return Reduction::combine(d, even, odd);
      return Reduction::combine(d, Reduction::combine(d, one_before(odd), even), odd);
#endif
    }
  };

  auto seen_low = hn::Set(d, seen_before);
  auto seen_high = hn::Zero(d);
  std::int64_t m = 0;
  std::int64_t column = first;
  for (; column + kStride * lanes <= columns && m < w.out(); m += lanes, column += kStride * lanes) {
    PrefetchNewRows(rows, column, kStride * lanes);
    const auto low = ReduceFullColumns<Reduction, kRows>(d, rows, column, seen_low);
    if constexpr (kStride == 1) {
      emit(d, m, windows(low, low));
    } else {
      emit(d, m, windows(low, ReduceFullColumns<Reduction, kRows>(d, rows, column + lanes, seen_high)));
    }
  }
  for (; m < w.out(); m += lanes, column += kStride * lanes) {
    PrefetchNewRows(rows, column, kStride * lanes);
    const auto low = ReduceLastColumns<Reduction, kRows>(d, rows, column, columns, seen_low);
    if constexpr (kStride == 1) {
      emit(d, m, windows(low, low));
    } else {
      emit(d, m,
           windows(low, ReduceLastColumns<Reduction, kRows>(d, rows, column + lanes, columns, seen_high)));
    }
  }
  if constexpr (Reduction::kLosesNaN) return hn::AllFalse(d, hn::IsNaN(hn::Add(seen_low, seen_high)));
  return true;
}

template <class Reduction, int kStride, int kTaps, class T, class Emit>
HWY_INLINE bool ReduceShortRowOf(const InputRows<T>& rows, const Axis& w, const Emit& emit) {
  switch (rows.count()) {
    case 2:
      return ReduceShortRow<Reduction, kStride, kTaps, 2>(rows, w, emit);
    case 3:
      return ReduceShortRow<Reduction, kStride, kTaps, 3>(rows, w, emit);
    default:
      return ReduceShortRow<Reduction, kStride, kTaps, 0>(rows, w, emit);
  }
}

/// What to try first, where a faster reduction than the exact one is right for nearly all rows.
template <class Reduction>
struct FirstTry {
  using Type = Reduction;
};
template <>
struct FirstTry<MaxReduction> {
  using Type = LargerNumber;
};

/// Pools every output row; row.emitter(state, at, first_out, outs) says what happens to the vectors of a row.
template <class Reduction, int kStride, int kTaps, class T, class Row>
void ForEachShortRow(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  const Axis& w = axes[2];
  const Cursor::Index units = planar_units(y, 1);
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * w.in() * axes[1].stride();
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    auto state = row.thread_state();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      const auto emit = row.emitter(state, at, 0, w.out());
      if (rows.count() > 0) {
        using Fast = typename FirstTry<Reduction>::Type;
        const bool right = ReduceShortRowOf<Fast, kStride, kTaps>(rows, w, emit);
        if (!right) ReduceShortRow<Reduction, kStride, kTaps, 0>(rows, w, emit);
      } else {
        const hn::ScalableTag<T> d;
        const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
        for (std::int64_t m = 0; m < w.out(); m += lanes) {
          emit(d, m, hn::Set(d, Reduction::template identity<T>()));
        }
      }
    }
  });
}

template <class Reduction, class T, class Row>
void PoolShortRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  const Axis& w = axes[2];
  if (w.stride() == 1) {
    if (w.kernel() == 2) return ForEachShortRow<Reduction, 1, 2, T>(x, y, axes, row);
    return ForEachShortRow<Reduction, 1, 3, T>(x, y, axes, row);
  }
  if (w.kernel() == 2) return ForEachShortRow<Reduction, 2, 2, T>(x, y, axes, row);
  return ForEachShortRow<Reduction, 2, 3, T>(x, y, axes, row);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
