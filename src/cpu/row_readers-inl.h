// Which output rows read each row of a plane, looked up once per call.
#if defined(CENOTE_CPU_ROW_READERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_ROW_READERS_INL_H_
#undef CENOTE_CPU_ROW_READERS_INL_H_
#else
#define CENOTE_CPU_ROW_READERS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The most consecutive outputs of which some read the same input.
inline std::int64_t most_readers(const Axis& axis) {
  return std::min(axis.out(), (axis.dilated_kernel() - 1) / axis.stride() + 1);
}
/// The most output rows that read the same row.
inline std::int64_t most_reader_rows(const Axes& axes) {
  return most_readers(axes[0]) * most_readers(axes[1]);
}

/// An output row that reads a row of a plane.
struct RowReading {
  std::int64_t slot;         // no two rows that read the same one share it
  std::int64_t line;         // its number in its plane
  std::int64_t grads, taps;  // elements from the begin of the plane
  std::int64_t first_tap;    // the number of the first tap that means the row
  bool is_new;               // it reads no row before
};

/// The output rows that read each row of a plane, in their order.
class PlaneReaders {
 public:
  PlaneReaders(const Axes& axes, const ConstTensor5& grad_y, const ConstTensor5& taps) {
    const std::int64_t lines = axes[0].in() * axes[1].in();
    begins_.reserve(static_cast<std::size_t>(lines + 1));
    entries_.reserve(static_cast<std::size_t>(lines * most_reader_rows(axes)));
    ReaderRows readers;
    std::int64_t known = -1;
    for (std::int64_t d = 0; d < axes[0].in(); ++d) {
      for (std::int64_t h = 0; h < axes[1].in(); ++h) {
        readers.collect(axes, d, h);
        for (std::int64_t i = 0; i < readers.count(); ++i) {
          const ReaderRow& row = readers[i];
          const std::int64_t line = row.od * axes[1].out() + row.oh;
          entries_.push_back(
              {row.od % most_readers(axes[0]) * most_readers(axes[1]) + row.oh % most_readers(axes[1]), line,
               row.od * grad_y.stride[2] + row.oh * grad_y.stride[3],
               row.od * taps.stride[2] + row.oh * taps.stride[3], row.tap * axes[2].kernel(), line > known});
          known = std::max(known, line);
        }
        begins_.push_back(entries_.size());
      }
    }
  }

  std::span<const RowReading> operator[](std::int64_t line) const {
    const auto i = static_cast<std::size_t>(line);
    return {entries_.data() + begins_[i], begins_[i + 1] - begins_[i]};
  }

 private:
  std::vector<RowReading> entries_;
  std::vector<std::size_t> begins_{0};
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
