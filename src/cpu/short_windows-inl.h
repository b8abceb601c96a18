// Window pooling forward with windows of 2 or 3 columns and stride 1 or 2, or of one column and stride 1,
// over rows of unit stride, in registers: the rows of a window are reduced vertically, a vector at a time,
// and what the windows of one vector share with the vector before is carried over. Every input is loaded
// once, and nothing is stored but the output.
#if defined(CENOTE_CPU_SHORT_WINDOWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SHORT_WINDOWS_INL_H_
#undef CENOTE_CPU_SHORT_WINDOWS_INL_H_
#else
#define CENOTE_CPU_SHORT_WINDOWS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cpu/planar-inl.h"
#include "cpu/vector_windows-inl.h"

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
  return w.kernel() <= 3 && w.stride() <= std::min<std::int64_t>(w.kernel(), 2) && w.dilation() == 1 &&
         first_loaded_column(w) >= 0;
#endif
}

/// The input rows of an output row, for kRows of them (0: any number): held in registers, and moved down by
/// one output row at a time.
template <int kRows, class T>
class MovingRows {
 public:
  MovingRows(const InputRows<T>& rows, std::int64_t offset) {
    for (int i = 0; i < kRows; ++i) rows_[i] = rows.row(i) + offset;
  }
  static constexpr std::int64_t count() { return kRows; }
  const T* operator[](std::int64_t i) const { return rows_[i]; }
  void move(std::int64_t elements) {
    for (int i = 0; i < kRows; ++i) rows_[i] += elements;
  }

 private:
  const T* rows_[kRows];
};

template <class T>
class MovingRows<0, T> {
 public:
  MovingRows(const InputRows<T>& rows, std::int64_t offset) : rows_(rows), offset_(offset) {}
  std::int64_t count() const { return rows_.count(); }
  const T* operator[](std::int64_t i) const { return rows_.row(i) + offset_; }
  void move(std::int64_t elements) { offset_ += elements; }

 private:
  const InputRows<T>& rows_;
  std::int64_t offset_;
};

/// What ReduceShortRows takes columns for: the reduction of the rows of a window. Another such policy is in
/// short_records-inl.h.
template <class Reduction, class T>
class ReducedColumns {
 public:
  using Tag = WideTag<T>;
  using Item = VecOf<Tag>;
  using Indices = decltype(RotatingIndices(Tag(), 0));
  using Mask = hn::Mask<Tag>;
  static constexpr bool kLosesNaN = Reduction::kLosesNaN;

  HWY_INLINE Item identity() const { return hn::Set(Tag(), Reduction::template identity<LaneOf<T>>()); }
  /// One vector of columns: load(i) is that of row i.
  template <class Load>
  HWY_INLINE Item reduce(std::int64_t rows, const Load& load) const {
    return ReduceBlocked<Reduction>(Tag(), rows, load);
  }
  static HWY_INLINE Item moved(const Item& v, const Indices& from) { return hn::TableLookupLanes(v, from); }
  static HWY_INLINE Item select(const Mask& mask, const Item& yes, const Item& no) {
    return hn::IfThenElse(mask, yes, no);
  }
#if HWY_TARGET != HWY_SCALAR
  static HWY_INLINE Item even(const Item& high, const Item& low) { return hn::ConcatEven(Tag(), high, low); }
  static HWY_INLINE Item odd(const Item& high, const Item& low) { return hn::ConcatOdd(Tag(), high, low); }
#endif
  /// The windows whose columns are these, the first one first.
  HWY_INLINE Item join(const Item& first, const Item& second) const {
    return Reduction::combine(Tag(), first, second);
  }
  HWY_INLINE Item join(const Item& first, const Item& second, const Item& third) const {
    return Reduction::combine(Tag(), Reduction::combine(Tag(), first, second), third);
  }
  /// What was reduced of the columns before the first that is loaded for output 0, where there are some.
  static HWY_INLINE Item before_first(const Item& v) { return v; }
  template <class Emit>
  static HWY_INLINE void emit(const Emit& to, std::int64_t m, const Item& v) {
    to(Tag(), m, v);
  }
};

/// Asks for the columns from `column` on of what the next output rows will read: new rows, 4 KiB ahead.
/// [32, 64, 112, 112] f32 max, 3x3 stride 2, beyond the caches, EPYC: 6.5 ms without, 4.2 ms with.
template <int kRows, class T>
HWY_INLINE void PrefetchNewRows(const InputRows<T>& input, const MovingRows<kRows, T>& rows,
                                std::int64_t column, std::int64_t count) {
  constexpr std::int64_t kSize = sizeof(T);
  constexpr std::int64_t kAhead = 4096 / kSize;
  constexpr std::int64_t kLine = 64 / kSize;
  const auto ask = [&](std::int64_t row) CENOTE_VECTOR_LAMBDA {
    for (std::int64_t i = 0; i < count; i += kLine) prefetch_for_read(rows[row] + column + kAhead + i);
  };
  if constexpr (kRows == 2 || kRows == 3) {  // mostly of one slice, with stride 2
    ask(kRows - 2);
    ask(kRows - 1);
  } else {
    for (std::int64_t end = input.slice_rows(); end <= rows.count(); end += input.slice_rows()) {
      for (std::int64_t row = end - input.new_rows(); row < end; ++row) ask(row);
    }
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

/// `count` output rows whose input rows lie row_step elements apart: columns.emit(emitter, m, item) for each
/// vector of outputs of a row, and emitter.next_row() after it. Ends before a row whose outputs are wrong, as
/// a NaN got lost, or perhaps: the sum of all elements is NaN, which opposite infinities make, too. Returns
/// the number of rows that are right.
template <int kStride, int kTaps, int kRows, class Columns, class T, class Emit>
HWY_NOINLINE std::int64_t ReduceShortRows(const Columns& columns, const InputRows<T>& input,
                                          std::int64_t first_row, std::int64_t row_step, std::int64_t count,
                                          const Axis& w, Emit& emitter) {
  const WideTag<T> d;
  using Item = typename Columns::Item;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t step = kStride * lanes;
  const std::int64_t first = first_loaded_column(w);
  const std::int64_t full = std::clamp<std::int64_t>((w.in() - first) / step, 0, w.out() / lanes);
  const std::int64_t left = std::max<std::int64_t>(w.in() - first - full * step, 0);
  const auto left_low = static_cast<std::size_t>(std::min(left, lanes));
  const auto left_high = static_cast<std::size_t>(std::clamp<std::int64_t>(left - lanes, 0, lanes));
  const auto columns_before = static_cast<std::size_t>(std::min(first, w.in()));
  const Item identity = columns.identity();
  const auto by_one = RotatingIndices(d, -1);
  const auto by_two = RotatingIndices(d, -2);
  const auto first_by_one = RotatingIndices(d, first - 1);
  const auto first_by_two = RotatingIndices(d, first - 2);

  Emit emit = emitter;
  MovingRows<kRows, T> rows(input, first_row * row_step);
  for (std::int64_t row = 0; row < count; ++row) {
    auto seen_low = hn::Zero(d);
    auto seen_high = hn::Zero(d);
    // One vector of columns, from `column` on, and `seen` plus all of them.
    const auto reduce = [&](std::int64_t column, [[maybe_unused]] auto& seen) CENOTE_VECTOR_LAMBDA {
      return columns.reduce(rows.count(), [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
        const auto v = LoadVector(d, rows[i] + column);
        if constexpr (Columns::kLosesNaN) seen = hn::Add(seen, v);
        return v;
      });
    };
    // The same of the first `part` lanes, perhaps none of them; the identity in the others.
    const auto reduce_part = [&](std::int64_t column, std::size_t part,
                                 [[maybe_unused]] auto& seen) CENOTE_VECTOR_LAMBDA {
      if (part == 0) return identity;
      const Item reduced = columns.reduce(rows.count(), [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
        const auto v = LoadPart(d, rows[i] + column, part);
        if constexpr (Columns::kLosesNaN) seen = hn::Add(seen, v);
        return v;
      });
      return Columns::select(hn::FirstN(d, part), reduced, identity);
    };
    // What the windows of the first vector share with the columns before it.
    Item carried_one = identity;
    Item carried_two = identity;
    if (columns_before > 0) {
      const Item before = Columns::before_first(reduce_part(0, columns_before, seen_high));
      carried_one = Columns::moved(before, first_by_one);
      carried_two = Columns::moved(before, first_by_two);
    }
    const auto one_before = [&](const Item& v) CENOTE_VECTOR_LAMBDA {
      const Item rotated = Columns::moved(v, by_one);
      const Item moved = Columns::select(hn::FirstN(d, 1), carried_one, rotated);
      carried_one = rotated;
      return moved;
    };
    const auto two_before = [&](const Item& v) CENOTE_VECTOR_LAMBDA {
      const Item rotated = Columns::moved(v, by_two);
      const Item moved = Columns::select(hn::FirstN(d, 2), carried_two, rotated);
      carried_two = rotated;
      return moved;
    };
    const auto windows = [&](const Item& low, const Item& high) CENOTE_VECTOR_LAMBDA {
      if constexpr (kTaps == 1) {
        return low;
      } else if constexpr (kStride == 1) {
        if constexpr (kTaps == 2) return columns.join(one_before(low), low);
        const Item oldest = two_before(low);
        return columns.join(oldest, one_before(low), low);
      } else {
#if HWY_TARGET == HWY_SCALAR
        return columns.join(low, high);
#else
        const Item even = Columns::even(high, low);
        const Item odd = Columns::odd(high, low);
        if constexpr (kTaps == 2) return columns.join(even, odd);
        return columns.join(one_before(odd), even, odd);
#endif
      }
    };

    std::int64_t column = first;
    std::int64_t m = 0;
    for (; m < full * lanes; m += lanes, column += step) {
      PrefetchNewRows(input, rows, column, step);
      const Item low = reduce(column, seen_low);
      if constexpr (kStride == 1) {
        Columns::emit(emit, m, windows(low, low));
      } else {
        Columns::emit(emit, m, windows(low, reduce(column + lanes, seen_high)));
      }
    }
    if (m < w.out()) {
      PrefetchNewRows(input, rows, column, left);
      const Item low = reduce_part(column, left_low, seen_low);
      if constexpr (kStride == 1) {
        Columns::emit(emit, m, windows(low, low));
      } else {
        Columns::emit(emit, m, windows(low, reduce_part(column + lanes, left_high, seen_high)));
      }
      for (m += lanes; m < w.out(); m += lanes) Columns::emit(emit, m, windows(identity, identity));
    }
    if constexpr (Columns::kLosesNaN) {
      if (!hn::AllFalse(d, hn::IsNaN(hn::Add(seen_low, seen_high)))) {
        emitter = emit;
        return row;
      }
    }
    rows.move(row_step);
    emit.next_row();
  }
  emitter = emit;
  return count;
}

/// What to try first, where a faster reduction than the exact one is right for nearly all rows: there is no
/// NaN among integers, and sums keep it.
template <class Reduction, class Lane>
using FirstTry = std::conditional_t<std::is_same_v<Reduction, MaxReduction> && std::is_floating_point_v<Lane>,
                                    LargerNumber, Reduction>;

/// How rows are pooled: to reductions.
template <class Reduction, class T>
struct ReducedRows {
  template <bool kExact, int kStride, int kTaps, int kRows>
  auto columns(const InputRows<T>&) const {
    return ReducedColumns<std::conditional_t<kExact, Reduction, FirstTry<Reduction, LaneOf<T>>>, T>();
  }
};

template <int kStride, int kTaps, class How, class T, class Emit>
void ReduceRun(const How& how, const InputRows<T>& rows, std::int64_t row_step, std::int64_t count,
               const Axis& w, Emit emit) {
  if (rows.count() == 0) {
    const auto columns = how.template columns<true, kStride, kTaps, 0>(rows);
    for (std::int64_t i = 0; i < count; ++i, emit.next_row()) {
      for (std::int64_t m = 0; m < w.out(); m += lanes_of<T>()) columns.emit(emit, m, columns.identity());
    }
    return;
  }
  for (std::int64_t done = 0; done < count; ++done) {
    const auto reduce = [&](auto exact, auto known_rows, std::int64_t some) {
      constexpr int kRows = known_rows;
      return ReduceShortRows<kStride, kTaps, kRows>(how.template columns<exact, kStride, kTaps, kRows>(rows),
                                                    rows, done, row_step, some, w, emit);
    };
    const std::false_type fast;
    const auto rest = count - done;
    switch (rows.count()) {
      case 2:
        done += reduce(fast, std::integral_constant<int, 2>(), rest);
        break;
      case 3:
        done += reduce(fast, std::integral_constant<int, 3>(), rest);
        break;
      case 4:
        if constexpr (kStride == 2 && kTaps == 2) {  // 2x2x2
          done += reduce(fast, std::integral_constant<int, 4>(), rest);
          break;
        }
        [[fallthrough]];
      default:
        done += reduce(fast, std::integral_constant<int, 0>(), rest);
    }
    if (done < count) reduce(std::true_type(), std::integral_constant<int, 0>(), 1);
  }
}

/// The outputs whose windows lie inside of the input.
inline Range whole_windows(const Axis& axis) {
  const auto whole = [&](std::int64_t o) { return axis.taps(o).count == axis.kernel(); };
  Range range{0, axis.out()};
  while (range.begin < range.end && !whole(range.begin)) ++range.begin;
  while (range.begin < range.end && !whole(range.end - 1)) --range.end;
  return range;
}

/// Planes whose rows are pooled in turn, the first row of all of them before the second: some that together
/// fill a part of the first-level cache, where planes have one row or are so small that runs of rows inside
/// of them are short; else 1. [1, 16, 8, 8] f32 max 3x3 stride 2, one thread: 1.7 and 0.6 us.
inline std::int64_t planes_together(const ConstTensor5& x, const Axes& axes, std::int64_t element_bytes) {
  constexpr std::int64_t kSmallPlane = 512;
  constexpr std::int64_t kBytes = 16 << 10;
  const Wide plane = static_cast<Wide>(x.size[2]) * x.size[3] * x.size[4] * element_bytes;
  const bool one_row = axes[0].out() == 1 && axes[1].out() == 1;
  if (plane > (one_row ? kBytes : kSmallPlane)) return 1;
  return std::min(kBytes / static_cast<std::int64_t>(plane), x.size[1]);
}

/// Pools every output row, in runs that go the same way: reduce(rows, row_step, count, emitter) pools `count`
/// rows whose input rows lie row_step elements apart. row.emitter(state, at, first_out, outs, step) says what
/// happens to the vectors of a row and of the next ones.
template <class T, class Row, class Reduce>
void ForEachRun(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row,
                const Reduce& reduce) {
  const Axis& h = axes[1];
  const Axis& w = axes[2];
  const std::int64_t together = planes_together(x, axes, sizeof(T));
  const bool across = together > 1;
  Cursor::Index units = planar_units(y, 1);
  if (across) units[1] = ceil_divide(units[1], together);
  const std::int64_t row_step = across ? x.stride[1] : h.stride() * x.stride[3];
  const std::int64_t out_step = across ? y.stride[1] : y.stride[3];
  // Rows that go the same way: whole windows of a plane, or the same windows of some planes.
  const Range whole = whole_windows(h);
  const auto run_from = [&](const Cursor& at) {
    if (across) return std::min(together, y.size[1] - at[1] * together);
    return whole.contains(at[3]) ? whole.end - at[3] : 1;
  };
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * w.in() * new_rows(h) * together;
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    auto state = row.thread_state();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end;) {
      const std::int64_t run = across ? run_from(at) : std::min(run_from(at), end - unit);
      Cursor::Index first = at.index();
      first[1] *= together;
      rows.collect(x, plane_of<const T>(x, first[0], first[1]), axes, first[2], first[3]);
      reduce(rows, row_step, run, row.emitter(state, first, 0, w.out(), out_step));
      if (!across) {
        at.skip(3, run - 1);
        unit += run - 1;
      }
      at.next();
      ++unit;
    }
  });
}

template <int kStride, int kTaps, class T, class How, class Row>
void ForEachShortRow(const How& how, const ConstTensor5& x, const Tensor5& y, const Axes& axes,
                     const Row& row) {
  ForEachRun<T>(x, y, axes, row,
                [&](const InputRows<T>& rows, std::int64_t row_step, std::int64_t count, const auto& emit) {
                  ReduceRun<kStride, kTaps>(how, rows, row_step, count, axes[2], emit);
                });
}

template <class T, class How, class Row>
void PoolShortRows(const How& how, const ConstTensor5& x, const Tensor5& y, const Axes& axes,
                   const Row& row) {
  const Axis& w = axes[2];
  if (w.kernel() == 1) return ForEachShortRow<1, 1, T>(how, x, y, axes, row);
  if (w.stride() == 1) {
    if (w.kernel() == 2) return ForEachShortRow<1, 2, T>(how, x, y, axes, row);
    return ForEachShortRow<1, 3, T>(how, x, y, axes, row);
  }
  if (w.kernel() == 2) return ForEachShortRow<2, 2, T>(how, x, y, axes, row);
  return ForEachShortRow<2, 3, T>(how, x, y, axes, row);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
