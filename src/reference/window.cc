// Window pooling as it is meant: the loops are those of window_loops.h; here are the divisors of the average.
#include "backend.h"
#include "reference/window_loops.h"
#include "reference/windows.h"

namespace cenote::reference {
namespace {

/// Taps inside the padded input or inside the input, unless an override replaces both. A tap beyond the
/// end padding, which ceil_mode can give, never counts.
class DivisorOf {
 public:
  DivisorOf(const WindowAxes& axes, const Array5& input_size, const Divisor& divisor)
      : axes_(axes), input_size_(input_size), divisor_(divisor) {}

  Whole operator()(const Window& taps) const {
    if (divisor_.override_value != 0) return static_cast<Whole>(divisor_.override_value);
    Whole count = 1;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const AxisTaps& along = taps.axis[axis];
      const std::int64_t size = input_size_[axis + 2];
      const std::int64_t padded = along.count_below(size + axes_[axis].padding_end);
      const std::int64_t real = along.count_below(size) - along.count_below(0);
      count *= static_cast<Whole>(divisor_.count_include_pad ? padded : real);
    }
    return count;
  }

 private:
  const WindowAxes& axes_;
  const Array5& input_size_;
  const Divisor& divisor_;
};

void max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes) {
  max_forward(y, indices, x, SlidingWindows(axes));
}

std::optional<std::int64_t> max_backward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                         const ConstTensor5& indices, const WindowAxes& axes) {
  return max_gradient(grad_x, grad_y, indices, SlidingWindows(axes));
}

void avg(const Tensor5& y, const ConstTensor5& x, const WindowAxes& axes, const Divisor& divisor) {
  avg_forward(y, x, SlidingWindows(axes), DivisorOf(axes, x.size, divisor));
}

void avg_backward(const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& axes,
                  const Divisor& divisor) {
  avg_gradient(grad_x, grad_y, SlidingWindows(axes), DivisorOf(axes, grad_x.size, divisor));
}

}  // namespace

const WindowBackend window{max, max_backward, avg, avg_backward};

}  // namespace cenote::reference
