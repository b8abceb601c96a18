// Adaptive pooling as it is meant: output o of out pools floor(o * n / out) .. ceil((o + 1) * n / out) - 1
// of an axis of n elements, and the average divides by the size of the window.
#include "backend.h"
#include "reference/window_loops.h"

namespace cenote::reference {
namespace {

class WindowOf {
 public:
  WindowOf(const Array5& input_size, const Array5& output_size)
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

void max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x) {
  max_forward(y, indices, x, WindowOf(x.size, y.size));
}

std::optional<std::int64_t> max_backward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                         const ConstTensor5& indices) {
  return max_gradient(grad_x, grad_y, indices, WindowOf(grad_x.size, grad_y.size));
}

void avg(const Tensor5& y, const ConstTensor5& x) { avg_forward(y, x, WindowOf(x.size, y.size), tap_count); }

void avg_backward(const Tensor5& grad_x, const ConstTensor5& grad_y) {
  avg_gradient(grad_x, grad_y, WindowOf(grad_x.size, grad_y.size), tap_count);
}

}  // namespace

const AdaptiveBackend adaptive{max, max_backward, avg, avg_backward};

}  // namespace cenote::reference
