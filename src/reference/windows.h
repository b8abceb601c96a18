// Where the windows of an output lie. Sliding: tap i of output o lies at o * stride - padding_begin +
// i * dilation. Adaptive: output o of out pools floor(o * n / out) .. ceil((o + 1) * n / out) - 1 of n.
#pragma once

#include <algorithm>

#include "backend.h"
#include "reference/window_loops.h"

namespace cenote::reference {

class SlidingWindows {
 public:
  explicit SlidingWindows(const WindowAxes& axes) : axes_(axes) {}

  Window operator()(const Array5& output) const {
    Window taps;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const WindowAxis& rule = axes_[axis];
      taps.axis[axis] = {output[axis + 2] * rule.stride - rule.padding_begin, rule.dilation, rule.kernel};
      taps.tap_grid[axis + 2] = rule.kernel;
    }
    return taps;
  }

 private:
  const WindowAxes& axes_;
};

class AdaptiveWindows {
 public:
  AdaptiveWindows(const Array5& input_size, const Array5& output_size)
      : input_size_(input_size), output_size_(output_size) {
    for (std::size_t axis = 2; axis < 5; ++axis) {
      for (std::int64_t o = 0; o < output_size[axis]; ++o) {
        largest_[axis] = std::max(largest_[axis], taps_of(axis, o).count);
      }
    }
  }

  Window operator()(const Array5& output) const {
    return {{taps_of(2, output[2]), taps_of(3, output[3]), taps_of(4, output[4])}, largest_};
  }

 private:
  /// With n = q * out + r, o * n / out is o * q + o * r / out, whose products stay small.
  AxisTaps taps_of(std::size_t axis, std::int64_t o) const {
    const std::int64_t out = output_size_[axis];
    const std::int64_t quotient = input_size_[axis] / out;
    const std::int64_t remainder = input_size_[axis] % out;
    const std::int64_t begin = o * quotient + o * remainder / out;
    const std::int64_t end = (o + 1) * quotient + ((o + 1) * remainder + out - 1) / out;
    return {begin, 1, end - begin};
  }

  const Array5& input_size_;
  const Array5& output_size_;
  Array5 largest_{};
};

}  // namespace cenote::reference
