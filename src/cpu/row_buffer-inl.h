// The vertical pass of windows over rows: the input rows of a window are reduced, full vectors at a time,
// into a row buffer that already holds the padding.
#if defined(CENOTE_CPU_ROW_BUFFER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_ROW_BUFFER_INL_H_
#undef CENOTE_CPU_ROW_BUFFER_INL_H_
#else
#define CENOTE_CPU_ROW_BUFFER_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cpu/rows-inl.h"
#include "cpu/scratch.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Output columns of one tile and the padded input columns ("positions") that they read.
struct Tile {
  std::int64_t first_out;
  std::int64_t outs;
  std::int64_t length;     // positions in the buffer
  std::int64_t lead;       // positions before the first real column
  std::int64_t first_col;  // the first real column
  std::int64_t cols;       // real columns
};

inline Tile make_tile(const Axis& w, std::int64_t index, std::int64_t outs_per_tile) {
  Tile tile;
  tile.first_out = index * outs_per_tile;
  tile.outs = std::min(outs_per_tile, w.out() - tile.first_out);
  tile.length = (tile.outs - 1) * w.stride() + w.dilated_kernel();
  const std::int64_t origin = w.start(tile.first_out);
  tile.first_col = std::max<std::int64_t>(origin, 0);
  tile.lead = std::min(tile.first_col - origin, tile.length);
  tile.cols = std::max<std::int64_t>(std::min(w.in(), origin + tile.length) - tile.first_col, 0);
  return tile;
}

/// Row buffers stay within the first-level cache.
constexpr std::int64_t kTilePositions = 4096;

/// A multiple of `unit` outputs, but where a row has fewer.
inline std::int64_t outs_per_tile(const Axis& w, std::int64_t unit = 1) {
  const std::int64_t positions =
      std::max(kTilePositions, 4 * w.dilated_kernel());  // neighbours overlap by one window
  const std::int64_t units = (positions - w.dilated_kernel()) / w.stride() / unit;
  return std::clamp<std::int64_t>(units * unit, unit, w.out());
}

/// One row of positions, as one phase or as even and odd positions. The tail of each phase may be
/// overwritten by whole vectors.
template <class T>
class PhaseBuffer {
 public:
  static constexpr std::int64_t kSlack =
      std::int64_t{4} * HWY_MAX_BYTES / static_cast<std::int64_t>(sizeof(T));

  /// `split`: even and odd positions apart. Whole vectors are stored from position `lead` on, so those
  /// places are aligned.
  void reserve(std::int64_t length, bool split, std::int64_t lead, std::int64_t gather_slack) {
    constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
    split_ = split ? 1 : 0;
    pitch_ = ((length >> split_) + 1 + kSlack + gather_slack + 2 * kLine) / kLine * kLine;
    T* const data = data_.resize(static_cast<std::size_t>(pitch_ << split_));
    std::fill(data, data + (pitch_ << split_), T{0});  // what whole vectors may read beyond the end
    for (int phase = 0; phase <= split_; ++phase) {
      const std::int64_t first_stored = (lead + ((lead ^ phase) & split_)) >> split_;
      begin_[phase] = data + phase * pitch_ + (kLine - first_stored % kLine) % kLine;
    }
  }
  bool split() const { return split_ != 0; }
  T* at(std::int64_t position) const { return begin_[position & split_] + (position >> split_); }
  /// Positions begin .. end - 1.
  void fill(std::int64_t begin, std::int64_t end, T value) const {
    for (std::int64_t position = begin; position < end; ++position) *at(position) = value;
  }

 private:
  Scratch<T> data_;
  T* begin_[2] = {};
  std::int64_t pitch_ = 0;
  int split_ = 0;
};

/// Splits two vectors of neighbouring positions and stores them to the phases of their first position.
template <class D, class T>
HWY_INLINE void StorePhases(D d, VecOf<D> low, VecOf<D> high, T* first_phase, T* second_phase) {
#if HWY_TARGET == HWY_SCALAR  // one lane each: already split
  hn::StoreU(low, d, first_phase);
  hn::StoreU(high, d, second_phase);
#else
  hn::StoreU(hn::ConcatEven(d, high, low), d, first_phase);
  hn::StoreU(hn::ConcatOdd(d, high, low), d, second_phase);
#endif
}

/// One vector of columns of all rows. kRows is their number, or 0 for any; kFull: no lane is beyond the row.
template <class Reduction, int kRows, bool kUnit, bool kFull, class T>
HWY_INLINE VecOf<RowTag<T>> ReduceColumns(const InputRows<T>& rows, std::int64_t offset, std::int64_t stride,
                                          std::size_t part) {
  const RowTag<T> d;
  if constexpr (kRows > 0) {
    auto acc = LoadLanes<kUnit>(d, rows.row(0) + offset, stride, kFull ? 0 : part);
    for (std::int64_t i = 1; i < kRows; ++i) {
      acc = Reduction::combine(d, acc, LoadLanes<kUnit>(d, rows.row(i) + offset, stride, kFull ? 0 : part));
    }
    return acc;
  } else {
    return ReduceBlocked<Reduction>(d, rows.count(), [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
      return LoadLanes<kUnit>(d, rows.row(i) + offset, stride, kFull ? 0 : part);
    });
  }
}

/// Asks for what the next output rows will read, for two vectors of columns. The loads of several rows in
/// turn outrun the hardware's own guess: [32, 64, 112, 112] f32, 3x3 stride 2, AVX2, 17.4 ms without,
/// 13.9 ms with.
template <class T>
HWY_INLINE void PrefetchRows(const InputRows<T>& rows, std::int64_t offset) {
  constexpr std::int64_t kAhead = 4096 / static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(RowTag<T>()));
  constexpr std::int64_t kTall = 4;
  const bool tall = rows.count() >= kTall;  // then all of the next window, else new rows a page ahead
  const std::int64_t ahead =
      tall ? rows.row(rows.count() - 1) - rows.row(0) + (rows.row(1) - rows.row(0)) : kAhead;
  for (std::int64_t row = tall ? 0 : std::max<std::int64_t>(rows.count() - 2, 0); row < rows.count(); ++row) {
    for (std::int64_t line = 0; line < 2 * lanes; line += kLine) {
      prefetch_for_read(rows.row(row) + offset + ahead + line);
    }
  }
}

template <class Reduction, int kRows, bool kUnit, class T>
HWY_NOINLINE void ReduceSomeRows(const InputRows<T>& rows, std::int64_t stride, const Tile& tile,
                                 const PhaseBuffer<LaneOf<T>>& buffer) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t origin = tile.first_col * stride;
  std::int64_t col = 0;
  const auto full = [&](std::int64_t at) CENOTE_VECTOR_LAMBDA {
    return ReduceColumns<Reduction, kRows, kUnit, true>(rows, origin + at * stride, stride, 0);
  };
  const auto last = [&](std::int64_t at) CENOTE_VECTOR_LAMBDA {
    return ReduceColumns<Reduction, kRows, kUnit, false>(rows, origin + at * stride, stride,
                                                         static_cast<std::size_t>(tile.cols - at));
  };
  if (!buffer.split()) {
    auto* const to = buffer.at(tile.lead);
    for (; col + 2 * lanes <= tile.cols; col += 2 * lanes) {
      if (kRows == 0) PrefetchRows(rows, origin + col * stride);
      hn::StoreU(full(col), d, to + col);
      hn::StoreU(full(col + lanes), d, to + col + lanes);
    }
    for (; col + lanes <= tile.cols; col += lanes) hn::StoreU(full(col), d, to + col);
    if (col < tile.cols) hn::StoreU(last(col), d, to + col);
    return;
  }
  auto* const first = buffer.at(tile.lead);
  auto* const second = buffer.at(tile.lead + 1);
  for (; col + 2 * lanes <= tile.cols; col += 2 * lanes) {
    PrefetchRows(rows, origin + col * stride);
    StorePhases(d, full(col), full(col + lanes), first + col / 2, second + col / 2);
  }
  if (col + lanes < tile.cols) {
    StorePhases(d, full(col), last(col + lanes), first + col / 2, second + col / 2);
  } else if (col + lanes == tile.cols) {
    const auto low = full(col);
    StorePhases(d, low, low, first + col / 2, second + col / 2);
  } else if (col < tile.cols) {
    const auto low = last(col);
    StorePhases(d, low, low, first + col / 2, second + col / 2);
  }
}

/// The padding beside the columns.
template <class Reduction, class T>
void FillBeside(const Tile& tile, const PhaseBuffer<T>& buffer) {
  constexpr T kIdentity = Reduction::template identity<T>();
  buffer.fill(0, tile.lead, kIdentity);
  buffer.fill(tile.lead + tile.cols, tile.length, kIdentity);
}

/// Vertical pass: the reduction of all rows, column by column, into the buffer.
template <class Reduction, bool kUnit, class T>
void ReduceRows(const InputRows<T>& rows, std::int64_t stride, const Tile& tile,
                const PhaseBuffer<LaneOf<T>>& buffer) {
  if (rows.count() == 0 || tile.cols == 0) {
    buffer.fill(0, tile.length, Reduction::template identity<LaneOf<T>>());
    return;
  }
  switch (rows.count()) {
    case 1:
      ReduceSomeRows<Reduction, 1, kUnit>(rows, stride, tile, buffer);
      break;
    case 2:
      ReduceSomeRows<Reduction, 2, kUnit>(rows, stride, tile, buffer);
      break;
    case 3:
      ReduceSomeRows<Reduction, 3, kUnit>(rows, stride, tile, buffer);
      break;
    default:
      ReduceSomeRows<Reduction, 0, kUnit>(rows, stride, tile, buffer);
  }
  FillBeside<Reduction>(tile, buffer);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
