// The taps of a row of outputs as rows of their own: element m of a tap's row is what output m reads through
// it, so that loops over the taps of many outputs at once load at unit stride, whatever the stride and the
// dilation of the window. Taps whose columns differ by a multiple of the stride share their memory.
#if defined(CENOTE_CPU_TAP_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TAP_ROWS_INL_H_
#undef CENOTE_CPU_TAP_ROWS_INL_H_
#else
#define CENOTE_CPU_TAP_ROWS_INL_H_
#endif

#include <vector>

#include "cpu/rows-inl.h"
#include "cpu/vector-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Where the taps of an axis lie: tap j of output m is element shift(j) + m of slot slot(j), and that element
/// i of a slot is column start + phase + i * stride of the input.
class TapSlots {
 public:
  explicit TapSlots(const Axis& w) : stride_(w.stride()) {
    std::vector<std::int64_t> slot_of_phase;  // by the order of their first tap
    for (std::int64_t j = 0; j < w.kernel(); ++j) {
      const std::int64_t column = j * w.dilation();
      const std::int64_t phase = column % stride_;
      const auto found = std::find(phases_.begin(), phases_.end(), phase);
      slots_.push_back(found - phases_.begin());
      if (found == phases_.end()) phases_.push_back(phase);
      shifts_.push_back(column / stride_);
    }
    longest_shift_ = shifts_.back();
  }

  std::int64_t taps() const { return static_cast<std::int64_t>(shifts_.size()); }
  std::int64_t count() const { return static_cast<std::int64_t>(phases_.size()); }
  std::int64_t stride() const { return stride_; }
  std::int64_t longest_shift() const { return longest_shift_; }
  std::int64_t slot(std::int64_t tap) const { return slots_[static_cast<std::size_t>(tap)]; }
  std::int64_t shift(std::int64_t tap) const { return shifts_[static_cast<std::size_t>(tap)]; }
  std::int64_t phase(std::int64_t slot) const { return phases_[static_cast<std::size_t>(slot)]; }

 private:
  std::int64_t stride_;
  std::int64_t longest_shift_ = 0;
  std::vector<std::int64_t> slots_;
  std::vector<std::int64_t> shifts_;
  std::vector<std::int64_t> phases_;
};

/// Outputs first .. first + count - 1 of a row.
struct Stretch {
  std::int64_t first;
  std::int64_t count;
};

/// Elements of working memory that one stretch may take.
constexpr std::int64_t kTapRowElements = 16 << 10;

/// Windows whose taps fit working memory, in rows long enough to fill vectors.
inline bool fits_tap_rows(const Axes& axes) {
  constexpr std::int64_t kFewestOutputs = 4;
  constexpr std::int64_t kMostTaps = 1 << 12;
  const Axis& w = axes[2];
  if (w.out() < kFewestOutputs || axes[0].kernel() > kMostTaps || axes[1].kernel() > kMostTaps) return false;
  const std::int64_t rows = axes[0].kernel() * axes[1].kernel();
  if (w.kernel() > kMostTaps / rows) return false;
  const std::int64_t slots = std::min(w.stride(), w.kernel());
  return rows * slots * (w.dilated_kernel() / w.stride() + 64) <= 4 * kTapRowElements;
}

/// How many outputs a stretch has.
inline std::int64_t outs_per_stretch(const Axes& axes, const TapSlots& slots) {
  const std::int64_t rows = axes[0].kernel() * axes[1].kernel() * slots.count();
  return std::clamp<std::int64_t>(kTapRowElements / rows - slots.longest_shift(), 64,
                                  std::max<std::int64_t>(axes[2].out(), 64));
}

template <class T>
class TapRows {
 public:
  TapRows(const Axes& axes, const TapSlots& slots, std::int64_t most_outs) : slots_(slots) {
    constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
    const std::int64_t slack = static_cast<std::int64_t>(kMaxLanes<T>);
    pitch_ = (most_outs + slots.longest_shift() + slack + kLine - 1) / kLine * kLine;
    const std::int64_t rows = axes[0].kernel() * axes[1].kernel();
    length_ = static_cast<std::size_t>(rows * slots.count() * pitch_);
    std::fill_n(data_.resize(length_), length_, T{0});  // what whole vectors read beyond the outputs
  }

  /// Every row at every slot: the elements that `stretch` reads; `padding` outside of the input.
  void fill(const InputRows<T>& rows, std::int64_t step, const Axis& w, const Stretch& stretch, T padding) {
    for_each_slot(rows.count(), w, stretch, [&](std::int64_t row, const Span& span, T* to) {
      std::fill_n(to, span.begin, padding);
      const T* const from = rows.row(row) + span.column * step;
      const std::int64_t next = slots_.stride() * step;
      if (next == 1) {
        std::copy_n(from, span.end - span.begin, to + span.begin);
      } else {
        for (std::int64_t i = span.begin; i < span.end; ++i) to[i] = from[(i - span.begin) * next];
      }
      std::fill(to + span.end, to + span.length, padding);
    });
  }
  void clear() { std::fill_n(data_.get(), length_, T{0}); }
  /// Adds each element to the one it stands for: rows.row(i) is row i of a tensor.
  void add_to(T* const* rows, std::int64_t count, std::int64_t step, const Axis& w,
              const Stretch& stretch) const {
    for_each_slot(count, w, stretch, [&](std::int64_t row, const Span& span, const T* from) {
      T* const to = rows[row] + span.column * step;
      const std::int64_t next = slots_.stride() * step;
      for (std::int64_t i = span.begin; i < span.end; ++i) to[(i - span.begin) * next] += from[i];
    });
  }

  /// The row of tap j of input row `row`.
  T* at(std::int64_t row, std::int64_t j) const {
    return data_.get() + (row * slots_.count() + slots_.slot(j)) * pitch_ + slots_.shift(j);
  }

 private:
  /// Elements begin .. end - 1 of `length` are inside the input, from `column` on.
  struct Span {
    std::int64_t begin;
    std::int64_t end;
    std::int64_t length;
    std::int64_t column;
  };

  template <class Visit>
  void for_each_slot(std::int64_t rows, const Axis& w, const Stretch& stretch, const Visit& visit) const {
    const std::int64_t length = stretch.count + slots_.longest_shift();
    for (std::int64_t slot = 0; slot < slots_.count(); ++slot) {
      const std::int64_t first = w.start(stretch.first) + slots_.phase(slot);  // column of element 0
      const std::int64_t stride = slots_.stride();
      const std::int64_t begin = std::min(length, first >= 0 ? 0 : ceil_divide(-first, stride));
      const std::int64_t room = w.in() - 1 - first;
      const std::int64_t end = std::clamp(room < 0 ? 0 : room / stride + 1, begin, length);
      const Span span{begin, end, length, begin == end ? 0 : first + begin * stride};
      for (std::int64_t row = 0; row < rows; ++row)
        visit(row, span, data_.get() + (row * slots_.count() + slot) * pitch_);
    }
  }

  const TapSlots& slots_;
  std::int64_t pitch_ = 0;
  std::size_t length_ = 0;
  Scratch<T> data_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
