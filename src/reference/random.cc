// Fractional max pooling as it is meant: window i of an axis begins at int((i + u) a) - int(u a) with
// a = (in - kernel) / (out - 1), the last one at in - kernel. Each operation is done in double, which is
// exact or rounds so little that rounding again gives what the dtype itself would have given.
#include <algorithm>
#include <cmath>

#include "backend.h"
#include "reference/window_loops.h"

namespace cenote::reference {
namespace {

/// `value` as a number of `dtype`.
double rounded(DType dtype, double value) {
  switch (dtype) {
    case DType::f64:
      return value;
    case DType::f16:
      return static_cast<float>(round_to<Float16>(value));
    case DType::bf16:
      return static_cast<float>(round_to<BFloat16>(value));
    default:
      return static_cast<float>(value);
  }
}

/// Integers become 16-bit numbers by way of float.
double rounded(DType dtype, std::int64_t value) {
  return dtype == DType::f64 ? static_cast<double>(value) : rounded(dtype, static_cast<float>(value));
}

class FractionalWindows {
 public:
  FractionalWindows(const FractionalRule& rule, const ConstTensor5& x, const Array5& output_size)
      : rule_(rule), x_(x), output_size_(output_size) {}

  Window operator()(const Array5& output) const {
    const std::int64_t plane = (x_.first_image + output[0]) * rule_.channels + x_.first_channel + output[1];
    Window taps;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const double u = rule_.u[static_cast<std::size_t>(plane) * 3 + axis];
      taps.axis[axis] = {start_of(axis, output[axis + 2], u), 1, rule_.kernel[axis]};
      taps.tap_grid[axis + 2] = rule_.kernel[axis];
    }
    return taps;
  }

 private:
  std::int64_t start_of(std::size_t axis, std::int64_t i, double u) const {
    const DType dtype = rule_.dtype;
    const std::int64_t last = x_.size[axis + 2] - rule_.kernel[axis];
    const std::int64_t steps = output_size_[axis + 2] - 1;
    if (i == steps) return last;
    const double a = rounded(dtype, rounded(dtype, last) / rounded(dtype, steps));
    const double shifted = rounded(dtype, rounded(dtype, i) + u);
    const double start = std::trunc(rounded(dtype, shifted * a)) - std::trunc(rounded(dtype, u * a));
    return start < static_cast<double>(last) ? static_cast<std::int64_t>(start) : last;
  }

  const FractionalRule& rule_;
  const ConstTensor5& x_;
  const Array5& output_size_;
};

void fractional_max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x,
                    const FractionalRule& rule) {
  max_forward(y, indices, x, FractionalWindows(rule, x, y.size));
}

}  // namespace

const RandomBackend random{fractional_max};

}  // namespace cenote::reference
