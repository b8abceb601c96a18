// Walking a tensor row by row: the order of the work items, and the input rows behind one output row.
#if defined(CENOTE_CPU_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_ROWS_INL_H_
#undef CENOTE_CPU_ROWS_INL_H_
#else
#define CENOTE_CPU_ROWS_INL_H_
#endif

#include <array>
#include <cstdint>

#include "core/tensor5.h"
#include "cpu/axis-inl.h"
#include "cpu/scratch.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

using Axes = std::array<Axis, 3>;  // D, H, W

inline void tabulate_row_taps(Axes& axes) {
  axes[0].tabulate_taps();
  axes[1].tabulate_taps();
}

/// Tables of the readers of D and H, which every row looks up, for as long as they are small; for windows of
/// thousands of rows each thread computes the readers of its row.
inline void tabulate_row_readers(Axes& axes) {
  constexpr std::int64_t kMostReaders = 1 << 16;
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const std::int64_t per_input =
        std::min(axes[axis].out(), axes[axis].dilated_kernel() / axes[axis].stride() + 2);
    if (per_input <= kMostReaders / axes[axis].in()) axes[axis].tabulate_readers(0, axes[axis].in());
  }
}

/// Positions begin .. end - 1 of an axis.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  bool contains(std::int64_t position) const { return position >= begin && position < end; }
};

/// A position in a nested loop over up to five counts, the last one fastest.
class Cursor {
 public:
  using Index = std::array<std::int64_t, 5>;

  Cursor(const Index& counts, std::int64_t flat) : counts_(counts) {
    for (std::size_t level = 5; level-- > 0;) {
      index_[level] = flat % counts[level];
      flat /= counts[level];
    }
  }
  void next() {
    for (std::size_t level = 5; level-- > 0;) {
      if (++index_[level] < counts_[level]) return;
      index_[level] = 0;
    }
  }
  /// Moves on along one level, to no further than its last position.
  void skip(std::size_t level, std::int64_t count) { index_[level] += count; }
  std::int64_t operator[](std::size_t level) const { return index_[level]; }
  const Index& index() const { return index_; }

  static std::int64_t total(const Index& counts) {
    std::int64_t product = 1;
    for (const std::int64_t count : counts) product *= count;
    return product;
  }

 private:
  Index counts_;
  Index index_{};
};

template <class T, class Tensor>
T* plane_of(const Tensor& tensor, std::int64_t n, std::int64_t c) {
  return static_cast<T*>(tensor.data) + n * tensor.stride[0] + c * tensor.stride[1];
}

template <class T, class Tensor>
T* row_of(const Tensor& tensor, std::int64_t n, std::int64_t c, std::int64_t d, std::int64_t h) {
  return plane_of<T>(tensor, n, c) + d * tensor.stride[2] + h * tensor.stride[3];
}

/// The input rows that one output row reads, in row-major order, and their tap numbers (d * kernel_h + h).
template <class T>
class InputRows {
 public:
  InputRows() = default;
  InputRows(const InputRows&) = delete;
  InputRows& operator=(const InputRows&) = delete;

  void collect(const ConstTensor5& x, const T* plane, const Axes& axes, std::int64_t od, std::int64_t oh) {
    collect(x, plane, axes, axes[0].taps(od), axes[1].taps(oh));
  }
  void collect(const ConstTensor5& x, const T* plane, const Axes& axes, const Taps& d, const Taps& h) {
    count_ = d.count * h.count;
    slice_rows_ = h.count;
    new_rows_ = std::min(h.count, axes[1].stride());
    new_slices_ = std::min(d.count, axes[0].stride());
    const auto count = static_cast<std::size_t>(count_);
    rows_ = count <= few_.size() ? few_.data() : many_.resize(count);
    Row* next = rows_;
    for (std::int64_t i = 0; i < d.count; ++i) {
      const std::int64_t slice = d.position + i * axes[0].dilation();
      for (std::int64_t j = 0; j < h.count; ++j) {
        const std::int64_t line = h.position + j * axes[1].dilation();
        *next++ = {plane + slice * x.stride[2] + line * x.stride[3],
                   (d.first + i) * axes[1].kernel() + h.first + j, slice * axes[1].in() + line};
      }
    }
  }
  std::int64_t count() const { return count_; }
  /// Rows of each slice of D, and how many of them, the last ones, the output row before does not read.
  std::int64_t slice_rows() const { return slice_rows_; }
  std::int64_t new_rows() const { return new_rows_; }
  /// The last slices, which those before in D do not read.
  std::int64_t new_slices() const { return new_slices_; }
  const T* row(std::int64_t i) const { return rows_[i].data; }
  std::int64_t tap(std::int64_t i) const { return rows_[i].tap; }
  /// Number of the row in its plane, d * H + h.
  std::int64_t line(std::int64_t i) const { return rows_[i].line; }

 private:
  struct Row {
    const T* data;
    std::int64_t tap;
    std::int64_t line;
  };
  std::array<Row, 16> few_;
  Scratch<Row> many_;
  Row* rows_ = nullptr;
  std::int64_t count_ = 0;
  std::int64_t slice_rows_ = 0;
  std::int64_t new_rows_ = 0;
  std::int64_t new_slices_ = 0;
};

/// The output rows that read one input row, in row-major order, each with the tap number of that row.
struct ReaderRow {
  std::int64_t od;
  std::int64_t oh;
  std::int64_t tap;  // d * kernel_h + h
};

class ReaderRows {
 public:
  void collect(const Axes& axes, std::int64_t d, std::int64_t h) {
    const Axis& depth = *with_readers_of(&axes[0], d, own_depth_);
    const Axis& height = *with_readers_of(&axes[1], h, own_height_);
    const Reader* const d_end = depth.readers_end(d);
    const Reader* const h_begin = height.readers_begin(h);
    const Reader* const h_end = height.readers_end(h);
    count_ = (d_end - depth.readers_begin(d)) * (h_end - h_begin);
    ReaderRow* next = rows_.resize(static_cast<std::size_t>(count_));
    for (const Reader* in_d = depth.readers_begin(d); in_d != d_end; ++in_d) {
      for (const Reader* in_h = h_begin; in_h != h_end; ++in_h) {
        *next++ = {in_d->output, in_h->output, in_d->tap * axes[1].kernel() + in_h->tap};
      }
    }
  }
  std::int64_t count() const { return count_; }
  const ReaderRow& operator[](std::int64_t i) const { return rows_.get()[i]; }
  void copy(const ReaderRows& other) {
    count_ = other.count_;
    rows_.resize(static_cast<std::size_t>(count_));
    std::copy_n(other.begin(), count_, rows_.get());
  }
  bool same_outputs(const ReaderRows& other) const {
    return std::equal(begin(), begin() + count_, other.begin(), other.begin() + other.count_,
                      [](const ReaderRow& a, const ReaderRow& b) { return a.od == b.od && a.oh == b.oh; });
  }

 private:
  const ReaderRow* begin() const { return rows_.get(); }

  /// `axis` where it has its table, else this thread's copy with a table for one position.
  static const Axis* with_readers_of(const Axis* axis, std::int64_t position, Axis& own) {
    if (axis->tabulated_readers(0, axis->in())) return axis;
    if (own.in() != axis->in() || !own.tabulated_readers(position, position + 1)) {
      own = *axis;
      own.tabulate_readers(position, position + 1);
    }
    return &own;
  }

  Scratch<ReaderRow> rows_;
  std::int64_t count_ = 0;
  Axis own_depth_;
  Axis own_height_;
};

/// How many rows one thread should take at least: as many as take it about as long as waking it. In that
/// time most loops read and write the first number of bytes, those of a few operations per vector the second.
/// Max 3x3 stride 2 of [1, 64, 40, 40] f32 channels-last, Xeon (Emerald Rapids), took 6.2 us in one thread
/// and 8.5 us in two, which 64 KiB for each had let it take.
constexpr std::int64_t kGrainBytes = 64 << 10;
constexpr std::int64_t kFastGrainBytes = 256 << 10;
inline std::int64_t row_grain(std::int64_t bytes_per_row, std::int64_t grain_bytes = kGrainBytes) {
  return std::max<std::int64_t>(1, grain_bytes / std::max<std::int64_t>(bytes_per_row, 1));
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
