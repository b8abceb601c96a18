// The vertical pass of several output rows at once, whose tall windows share input rows. 5x5
// stride 1 max, [32, 64, 112, 112] f32, two threads: 15.9 ms row by row, 13.8 ms so; [32, 128, 28, 28]: 2.9
// ms and 2.4 ms.
#if defined(CENOTE_CPU_SHARED_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SHARED_ROWS_INL_H_
#undef CENOTE_CPU_SHARED_ROWS_INL_H_
#else
#define CENOTE_CPU_SHARED_ROWS_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>

#include "cpu/row_buffer-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Output rows whose vertical passes run before the horizontal pass of the first of them: a horizontal pass
/// reads across the vectors that the vertical one has just stored, and would wait for each store.
/// 3x3 stride 2 on [1, 64, 112, 112] f32, AVX2: 0.27 ms one by one, 0.22 ms by four.
constexpr std::int64_t kRowBatch = 4;

/// Output rows and tiles, up to kRowBatch at a time: neighbours in memory, or rows below each other, then
/// from multiples of kRowBatch on, so that no sum depends on the number of threads.
class RowBatches {
 public:
  /// What begin and end count.
  static Cursor::Index items(Cursor::Index units, bool below) {
    if (below) units[3] = ceil_divide(units[3], kRowBatch);
    return units;
  }
  RowBatches(const Cursor::Index& units, bool below, std::int64_t begin, std::int64_t end)
      : height_(units[3]), below_(below), next_(items(units, below), begin), left_(end - begin) {}

  bool next() {
    if (left_ == 0) return false;
    size_ = below_ ? std::min(kRowBatch, height_ - next_[3] * kRowBatch) : std::min(kRowBatch, left_);
    for (std::int64_t i = 0; i < size_; ++i) {
      Cursor::Index& at = at_[static_cast<std::size_t>(i)];
      at = next_.index();
      if (below_) {
        at[3] = at[3] * kRowBatch + i;
      } else {
        next_.next();
      }
    }
    if (below_) next_.next();
    left_ -= below_ ? 1 : size_;
    return true;
  }
  std::size_t size() const { return static_cast<std::size_t>(size_); }
  const Cursor::Index& operator[](std::size_t i) const { return at_[i]; }
  /// Whether the batch is full, and no window leaves the input.
  bool whole(const Axis& h) const {
    return size_ == kRowBatch && h.taps(at_.front()[3]).count == h.kernel() &&
           h.taps(at_.back()[3]).count == h.kernel();
  }

 private:
  std::int64_t height_;
  bool below_;
  Cursor next_;
  std::int64_t left_;
  std::array<Cursor::Index, kRowBatch> at_{};
  std::int64_t size_ = 0;
};

/// Whether windows are such that pairs of input rows serve two output rows each.
inline bool pairs_rows(std::int64_t kernel, std::int64_t stride) { return kernel == 3 && stride == 1; }

/// Whether kRowBatch output rows below each other have input rows that all of them read, or pairs.
inline bool shares_rows(const Axis& h) {
  // Strides are small enough to multiply where there are several outputs.
  if (h.out() < kRowBatch || h.dilation() != 1) return false;
  return h.kernel() > (kRowBatch - 1) * h.stride() || pairs_rows(h.kernel(), h.stride());
}

/// The input rows of kRowBatch output rows whose windows are whole: slices of D, each of rows one pitch
/// apart.
template <class T>
struct SharedRows {
  const InputRows<T>& rows;  // of the first output row
  std::int64_t pitch;
  std::int64_t height;  // of a window
  std::int64_t step;    // rows from window to window

  std::int64_t slices() const { return rows.count() / height; }
  const T* slice(std::int64_t i) const { return rows.row(i * height); }
};

/// One vector of columns of one slice for each of the output rows: the rows that all windows have, once,
/// joined with those that only the first or only the last ones have.
template <class Reduction, bool kUnit, class T>
HWY_INLINE void ReduceSlice(const SharedRows<T>& shared, const T* slice, std::int64_t stride,
                            std::size_t part, VecOf<RowTag<T>>* outs) {
  static_assert(kRowBatch == 4);
  const RowTag<T> d;
  const std::int64_t step = shared.step;
  const auto reduce = [&](std::int64_t first, std::int64_t count) CENOTE_VECTOR_LAMBDA {
    return ReduceBlocked<Reduction>(d, count, [&](std::int64_t row) CENOTE_VECTOR_LAMBDA {
      return LoadLanes<kUnit>(d, slice + (first + row) * shared.pitch, stride, part);
    });
  };
  if (pairs_rows(shared.height, step)) {
    const auto row = [&](std::int64_t number) CENOTE_VECTOR_LAMBDA {
      return LoadLanes<kUnit>(d, slice + number * shared.pitch, stride, part);
    };
    const auto row2 = row(2);
    const auto row3 = row(3);
    const auto first = Reduction::combine(d, row(1), row2);
    const auto second = Reduction::combine(d, row3, row(4));
    outs[0] = Reduction::combine(d, row(0), first);
    outs[1] = Reduction::combine(d, first, row3);
    outs[2] = Reduction::combine(d, row2, second);
    outs[3] = Reduction::combine(d, second, row(5));
    return;
  }
  const auto core = reduce(3 * step, shared.height - 3 * step);
  const auto above2 = reduce(2 * step, step);
  const auto above1 = Reduction::combine(d, reduce(step, step), above2);
  const auto above0 = Reduction::combine(d, reduce(0, step), above1);
  const auto below1 = reduce(shared.height, step);
  const auto below2 = Reduction::combine(d, below1, reduce(shared.height + step, step));
  const auto below3 = Reduction::combine(d, below2, reduce(shared.height + 2 * step, step));
  outs[0] = Reduction::combine(d, above0, core);
  outs[1] = Reduction::combine(d, Reduction::combine(d, above1, core), below1);
  outs[2] = Reduction::combine(d, Reduction::combine(d, above2, core), below2);
  outs[3] = Reduction::combine(d, core, below3);
}

template <class Reduction, bool kUnit, class T>
HWY_INLINE void ReduceSharedColumns(const SharedRows<T>& shared, std::int64_t offset, std::int64_t stride,
                                    std::size_t part, VecOf<RowTag<T>>* outs) {
  const RowTag<T> d;
  ReduceSlice<Reduction, kUnit>(shared, shared.slice(0) + offset, stride, part, outs);
  for (std::int64_t i = 1; i < shared.slices(); ++i) {
    VecOf<RowTag<T>> more[kRowBatch];
    ReduceSlice<Reduction, kUnit>(shared, shared.slice(i) + offset, stride, part, more);
    for (std::size_t out = 0; out < kRowBatch; ++out) outs[out] = Reduction::combine(d, outs[out], more[out]);
  }
}

/// The vertical pass of kRowBatch output rows.
template <class Reduction, bool kUnit, class T>
HWY_NOINLINE void ReduceRowsTogether(const SharedRows<T>& shared, std::int64_t stride, const Tile& tile,
                                     const std::array<const PhaseBuffer<LaneOf<T>>*, kRowBatch>& buffers) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t origin = tile.first_col * stride;
  const auto reduce = [&](std::int64_t col, VecOf<RowTag<T>>* outs) CENOTE_VECTOR_LAMBDA {
    const auto part = static_cast<std::size_t>(col + lanes <= tile.cols ? 0 : tile.cols - col);
    ReduceSharedColumns<Reduction, kUnit>(shared, origin + col * stride, stride, part, outs);
  };
  // The rows that the next batch is the first to read, for each vector pair of columns.
  const T* const next = shared.slice(shared.slices() - 1) +
                        (shared.height + (kRowBatch - 1) * shared.step) * shared.pitch + origin;
  for (std::int64_t col = 0; col < tile.cols; col += 2 * lanes) {
    for (std::int64_t row = 0; row < kRowBatch * shared.step; ++row)
      prefetch_for_read(next + row * shared.pitch + col * stride);
    VecOf<RowTag<T>> low[kRowBatch];
    VecOf<RowTag<T>> high[kRowBatch];
    reduce(col, low);
    const bool two = col + lanes < tile.cols;
    reduce(two ? col + lanes : col, high);
    for (std::size_t i = 0; i < kRowBatch; ++i) {
      const PhaseBuffer<LaneOf<T>>& to = *buffers[i];
      if (to.split()) {
        StorePhases(d, low[i], high[i], to.at(tile.lead) + col / 2, to.at(tile.lead + 1) + col / 2);
      } else {
        hn::StoreU(low[i], d, to.at(tile.lead) + col);
        if (two) hn::StoreU(high[i], d, to.at(tile.lead) + col + lanes);
      }
    }
  }
  for (const PhaseBuffer<LaneOf<T>>* buffer : buffers) FillBeside<Reduction>(tile, *buffer);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
