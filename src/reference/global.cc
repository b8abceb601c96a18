// Global pooling as it is meant: one window that covers the plane of each channel.
#include "backend.h"
#include "reference/window_loops.h"

namespace cenote::reference {
namespace {

class WholePlane {
 public:
  explicit WholePlane(const Array5& input_size)
      : window_{{AxisTaps{0, 1, input_size[2]}, {0, 1, input_size[3]}, {0, 1, input_size[4]}}, input_size} {}

  Window operator()(const Array5&) const { return window_; }

 private:
  Window window_;
};

void max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x) {
  max_forward(y, indices, x, WholePlane(x.size));
}

std::optional<std::int64_t> max_backward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                         const ConstTensor5& indices) {
  return max_gradient(grad_x, grad_y, indices, WholePlane(grad_x.size));
}

void avg(const Tensor5& y, const ConstTensor5& x) { avg_forward(y, x, WholePlane(x.size), tap_count); }

void avg_backward(const Tensor5& grad_x, const ConstTensor5& grad_y) {
  avg_gradient(grad_x, grad_y, WholePlane(grad_x.size), tap_count);
}

}  // namespace

const GlobalBackend global{max, max_backward, avg, avg_backward};

}  // namespace cenote::reference
