// One spatial axis of a pooling op, for window and adaptive families alike: which inputs an output reads,
// and which outputs read an input.
#if defined(CENOTE_CPU_AXIS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_AXIS_INL_H_
#undef CENOTE_CPU_AXIS_INL_H_
#else
#define CENOTE_CPU_AXIS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cenote/window.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

inline std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }
inline std::int64_t floor_divide(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

/// For products that may pass 64 bits.
__extension__ using Wide = __int128;

/// floor(a * b / c) for non-negative values whose product may pass 64 bits.
inline std::int64_t multiply_divide(std::int64_t a, std::int64_t b, std::int64_t c) {
  std::int64_t product = 0;
  if (!__builtin_mul_overflow(a, b, &product)) return product / c;
  return static_cast<std::int64_t>(static_cast<Wide>(a) * b / c);
}

/// The taps of one output that lie inside the input: tap numbers first .. first + count - 1 read the
/// positions position, position + dilation, ...
struct Taps {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t position = 0;
};

/// Outputs first .. last (none when last < first) may read an input.
struct Readers {
  std::int64_t first = 0;
  std::int64_t last = -1;
};

/// An output that reads an input, and through which tap.
struct Reader {
  std::int64_t output;
  std::int64_t tap;
};

class Axis {
 public:
  static Axis window(const WindowAxis& window, std::int64_t in, std::int64_t out) {
    Axis axis;
    axis.window_ = window;
    axis.in_ = in;
    axis.out_ = out;
    return axis;
  }
  static Axis adaptive(std::int64_t in, std::int64_t out) {
    Axis axis;
    axis.adaptive_ = true;
    axis.in_ = in;
    axis.out_ = out;
    axis.window_.kernel = out == 0 ? 1 : in / out + (in % out == 0 ? 0 : out % (in % out) == 0 ? 1 : 2);
    return axis;
  }

  std::int64_t in() const { return in_; }
  std::int64_t out() const { return out_; }
  /// Taps of the largest window; the radix of tap numbers.
  std::int64_t kernel() const { return window_.kernel; }
  std::int64_t stride() const { return window_.stride; }
  std::int64_t dilation() const { return window_.dilation; }
  std::int64_t padding() const { return window_.padding_begin; }
  std::int64_t dilated_kernel() const { return window_.dilation * (window_.kernel - 1) + 1; }

  /// Position of tap 0 of output o; may be negative.
  std::int64_t start(std::int64_t o) const {
    if (adaptive_) {
      return taps_.empty() ? multiply_divide(o, in_, out_) : taps_[static_cast<std::size_t>(o)].position;
    }
    return o * window_.stride - window_.padding_begin;
  }

  /// Computes all taps or readers once, where otherwise each call divides. For axes as long as a row is deep.
  void tabulate_taps() {
    if (!adaptive_ && window_.dilation == 1) return;  // no division
    std::vector<Taps> table(static_cast<std::size_t>(out_));
    for (std::int64_t o = 0; o < out_; ++o) table[static_cast<std::size_t>(o)] = taps(o);
    taps_ = std::move(table);
  }
  void tabulate_readers(std::int64_t begin, std::int64_t end) {
    readers_begin_ = begin;
    readers_end_ = end;
    readers_.clear();
    reader_begins_.assign(1, 0);
    for (std::int64_t t = begin; t < end; ++t) {
      const Readers range = readers(t);
      for (std::int64_t o = range.first; o <= range.last; ++o) {
        const std::int64_t tap = tap_of(o, t);
        if (tap >= 0) readers_.push_back({o, tap});
      }
      reader_begins_.push_back(readers_.size());
    }
  }
  bool tabulated_readers(std::int64_t begin, std::int64_t end) const {
    return begin == readers_begin_ && end == readers_end_;
  }
  /// From the table, which must hold t; in the order of the outputs.
  const Reader* readers_begin(std::int64_t t) const {
    return readers_.data() + reader_begins_[row_of_table(t)];
  }
  const Reader* readers_end(std::int64_t t) const {
    return readers_.data() + reader_begins_[row_of_table(t) + 1];
  }

  Taps taps(std::int64_t o) const {
    if (!taps_.empty()) return taps_[static_cast<std::size_t>(o)];
    const std::int64_t begin = start(o);
    if (adaptive_) {
      // The end is ceil((o + 1) * in / out): outputs mirror, so it is in less the start of out - 1 - o.
      return {0, in_ - multiply_divide(out_ - 1 - o, in_, out_) - begin, begin};
    }
    const std::int64_t step = window_.dilation;
    const std::int64_t first = begin >= 0 ? 0 : step == 1 ? -begin : ceil_divide(-begin, step);
    const std::int64_t room = in_ - 1 - begin;
    const std::int64_t end = room < 0 ? 0 : std::min(window_.kernel, (step == 1 ? room : room / step) + 1);
    return {first, std::max<std::int64_t>(end - first, 0), begin + first * step};
  }

  /// Window positions of output o that count for an average: those before the end of the end padding.
  std::int64_t padded_taps(std::int64_t o) const {
    const std::int64_t room = in_ + window_.padding_end - 1 - start(o);
    if (room < 0) return 0;
    return std::min(window_.kernel, (window_.dilation == 1 ? room : room / window_.dilation) + 1);
  }

  Readers readers(std::int64_t t) const {
    if (adaptive_) {
      return {multiply_divide(t, out_, in_), out_ - 1 - multiply_divide(in_ - 1 - t, out_, in_)};
    }
    const std::int64_t shifted = t + window_.padding_begin;
    const std::int64_t before = shifted - window_.dilation * (window_.kernel - 1);
    return {before <= 0 ? 0 : ceil_divide(before, window_.stride),
            std::min(out_ - 1, shifted / window_.stride)};
  }

  /// The tap through which output o (one of readers(t)) reads t, or -1 where the dilation steps over it.
  std::int64_t tap_of(std::int64_t o, std::int64_t t) const {
    const std::int64_t offset = t - start(o);
    return offset % window_.dilation == 0 ? offset / window_.dilation : -1;
  }

 private:
  std::size_t row_of_table(std::int64_t t) const { return static_cast<std::size_t>(t - readers_begin_); }

  WindowAxis window_;
  std::int64_t in_ = 1;
  std::int64_t out_ = 1;
  bool adaptive_ = false;
  std::vector<Taps> taps_;
  std::vector<Reader> readers_;
  std::vector<std::size_t> reader_begins_;
  std::int64_t readers_begin_ = 0;
  std::int64_t readers_end_ = -1;
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
