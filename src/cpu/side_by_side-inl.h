// Window pooling forward with windows of 3 to 16 columns side by side, over rows of unit stride, in
// registers: as many vectors of columns as a window has columns hold one vector of windows. Neighbours are
// joined, which halves windows and vectors, until an odd number of columns is left; then each column of all
// windows is picked and they are reduced.
#if defined(CENOTE_CPU_SIDE_BY_SIDE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SIDE_BY_SIDE_INL_H_
#undef CENOTE_CPU_SIDE_BY_SIDE_INL_H_
#else
#define CENOTE_CPU_SIDE_BY_SIDE_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

constexpr std::int64_t kFewestSideBySide = 3;  // columns
constexpr std::int64_t kMostSideBySide = 16;
constexpr std::int64_t kMostOdd = 7;  // that may be left of them

/// What is left of a number of columns when it is halved as often as it can be.
constexpr std::int64_t odd_part(std::int64_t columns) {
  return columns >> std::countr_zero(static_cast<std::uint64_t>(columns));
}

/// Whether there are such loops: one lane holds no window.
constexpr bool kPoolsSideBySide = HWY_TARGET != HWY_SCALAR;

/// Whether PoolSideBySide serves windows along this axis. Max, f32, AVX-512, two threads, against a row
/// buffer read at a stride: 1-D of [32, 80, 4096] over 3 columns 2.8 and 1.2 ms, of [100, 10, 5905] over
/// 10 1.2 and 0.6 ms; 3x3 of [8, 64, 224, 224] 6.1 and 3.1 ms, 8x8 of [32, 64, 56, 56] 0.85 and 0.73 ms.
/// That the number of columns is a constant halved the time in the caches: 4 columns of [1, 128, 2014], one
/// thread, 77 and 40 us, with AVX2 252 and 111 us.
inline bool side_by_side(const Axis& w) {
  return w.kernel() == w.stride() && w.kernel() >= kFewestSideBySide && w.kernel() <= kMostSideBySide &&
         w.dilation() == 1 && odd_part(w.kernel()) <= kMostOdd;
}

#if HWY_TARGET != HWY_SCALAR

/// Picks columns of windows that lie side by side in vectors: those of one column have all numbers of lanes,
/// for the number of columns of a window is odd, so they are first brought into one vector, then into order.
template <int kColumns, class D>
class WindowColumns {
 public:
  explicit WindowColumns(D d) {
    const hn::RebindToSigned<D> di;
    using Number = hn::TFromD<decltype(di)>;
    constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
    for (int column = 0; column < kColumns; ++column) {
      HWY_ALIGN Number lane_of[kLanes];    // of each window
      HWY_ALIGN Number vector_of[kLanes];  // of each lane
      for (int window = 0; window < kLanes; ++window) {
        const int element = window * kColumns + column;
        lane_of[window] = element % kLanes;
        vector_of[element % kLanes] = element / kLanes;
      }
      order_[column] = hn::SetTableIndices(d, lane_of);
      for (int vector = 1; vector < kColumns; ++vector)
        from_[column][vector] =
            hn::RebindMask(d, hn::Eq(hn::Load(di, vector_of), hn::Set(di, static_cast<Number>(vector))));
    }
  }

  HWY_INLINE VecOf<D> operator()(int column, const VecOf<D>* vectors) const {
    VecOf<D> v = vectors[0];
    for (int vector = 1; vector < kColumns; ++vector)
      v = hn::IfThenElse(from_[column][vector], vectors[vector], v);
    return hn::TableLookupLanes(v, order_[column]);
  }

 private:
  decltype(hn::SetTableIndices(D(),
                               static_cast<hn::TFromD<hn::RebindToSigned<D>>*>(nullptr))) order_[kColumns];
  hn::Mask<D> from_[kColumns][kColumns];
};

/// The columns from `column` on, of which only those of the row, 0 .. in - 1, are read; the identity in the
/// others.
template <class Reduction, class T>
HWY_NOINLINE VecOf<WideTag<T>> ReduceColumnsAtEdge(const InputRows<T>& rows, std::int64_t offset,
                                                   std::int64_t column, std::int64_t in) {
  const WideTag<T> d;
  const auto lanes = lanes_of<T>();
  const auto identity = hn::Set(d, Reduction::template identity<LaneOf<T>>());
  const std::int64_t begin = std::clamp<std::int64_t>(-column, 0, lanes);
  const std::int64_t end = std::clamp<std::int64_t>(in - column, 0, lanes);
  if (begin >= end) return identity;
  const auto inside = hn::AndNot(hn::FirstN(d, static_cast<std::size_t>(begin)),
                                 hn::FirstN(d, static_cast<std::size_t>(end)));
  const auto reduced = ReduceBlocked<Reduction>(d, rows.count(), [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
    const T* const from = rows.row(i) + offset + column;
    if (begin == 0) return LoadPart(d, from, static_cast<std::size_t>(end));
    HWY_ALIGN T elements[kMaxLanes<T>] = {};
    std::copy(from + begin, from + end, elements + begin);
    return LoadVector(d, elements);
  });
  return hn::IfThenElse(inside, reduced, identity);
}

/// The columns from `from` on, which lie inside the row.
template <class Reduction, class T>
HWY_INLINE VecOf<WideTag<T>> ReduceColumns(const InputRows<T>& rows, std::int64_t from) {
  const WideTag<T> d;
  const auto load = [&](std::int64_t row) CENOTE_VECTOR_LAMBDA {
    ask_ahead_of_reads(rows.row(row) + from, lanes_of<T>());
    return LoadVector(d, rows.row(row) + from);
  };
  return rows.count() == 1 ? load(0) : ReduceBlocked<Reduction>(d, rows.count(), load);
}

/// The first kCount vectors, each pair of neighbours joined, as long as there are pairs.
template <class Reduction, int kCount, class D, std::size_t kMost>
HWY_INLINE void JoinNeighbours(D d, VecOf<D> (&v)[kMost]) {
  if constexpr (kCount % 2 == 0) {
    Unrolled<kCount / 2>([&](auto i) CENOTE_VECTOR_LAMBDA {
      v[i] = Reduction::combine(d, hn::ConcatEven(d, v[2 * i + 1], v[2 * i]),
                                hn::ConcatOdd(d, v[2 * i + 1], v[2 * i]));
    });
    JoinNeighbours<Reduction, kCount / 2>(d, v);
  }
}

/// `count` output rows whose input rows lie row_step elements apart.
template <class Reduction, int kColumns, class T, class Emit>
HWY_NOINLINE void ReduceSideBySide(const InputRows<T>& rows, std::int64_t row_step, std::int64_t count,
                                   const Axis& w, Emit emit) {
  const WideTag<T> d;
  using V = VecOf<decltype(d)>;
  constexpr int kOdd = static_cast<int>(odd_part(kColumns));
  const auto lanes = lanes_of<T>();
  const WindowColumns<kOdd, WideTag<T>> picked(d);
  for (std::int64_t offset = 0; count > 0; --count, offset += row_step) {
    for (std::int64_t m = 0; m < w.out(); m += lanes) {
      const std::int64_t column = w.start(m);
      V v[kColumns];
      if (HWY_UNLIKELY(rows.count() == 0)) {
        emit(d, m, hn::Set(d, Reduction::template identity<LaneOf<T>>()));
        continue;
      }
      if (HWY_LIKELY(column >= 0 && column + kColumns * lanes <= w.in())) {
        Unrolled<kColumns>([&](auto i) CENOTE_VECTOR_LAMBDA {
          v[i] = ReduceColumns<Reduction>(rows, offset + column + i * lanes);
        });
      } else {
        for (int i = 0; i < kColumns; ++i) {
          const std::int64_t from = column + i * lanes;
          v[i] = from >= 0 && from + lanes <= w.in()
                     ? ReduceColumns<Reduction>(rows, offset + from)
                     : ReduceColumnsAtEdge<Reduction>(rows, offset, from, w.in());
        }
      }
      JoinNeighbours<Reduction, kColumns>(d, v);
      V window = v[0];
      if constexpr (kOdd > 1) {
        window = picked(0, v);
        for (int i = 1; i < kOdd; ++i) window = Reduction::combine(d, window, picked(i, v));
      }
      emit(d, m, window);
    }
    emit.next_row();
  }
}

template <class Reduction, int kColumns, class T, class Row>
void ForEachRowSideBySide(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  if constexpr (odd_part(kColumns) <= kMostOdd) {
    if (axes[2].kernel() == kColumns) {
      return ForEachRun<T>(
          x, y, axes, row,
          [&](const InputRows<T>& rows, std::int64_t row_step, std::int64_t count, const auto& emit) {
            ReduceSideBySide<Reduction, kColumns>(rows, row_step, count, axes[2], emit);
          });
    }
  }
  if constexpr (kColumns < kMostSideBySide) ForEachRowSideBySide<Reduction, kColumns + 1, T>(x, y, axes, row);
}

template <class Reduction, class T, class Row>
void PoolSideBySide(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  ForEachRowSideBySide<Reduction, kFewestSideBySide, T>(x, y, axes, row);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
