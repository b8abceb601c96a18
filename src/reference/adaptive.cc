// Adaptive pooling as it is meant: output o of out pools floor(o * n / out) .. ceil((o + 1) * n / out) - 1
// of an axis of n elements, and the average divides by the size of the window.
#include "backend.h"
#include "reference/window_loops.h"
#include "reference/windows.h"

namespace cenote::reference {
namespace {

void max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x) {
  max_forward(y, indices, x, AdaptiveWindows(x.size, y.size));
}

std::optional<std::int64_t> max_backward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                         const ConstTensor5& indices) {
  return max_gradient(grad_x, grad_y, indices, AdaptiveWindows(grad_x.size, grad_y.size));
}

void avg(const Tensor5& y, const ConstTensor5& x) {
  avg_forward(y, x, AdaptiveWindows(x.size, y.size), tap_count);
}

void avg_backward(const Tensor5& grad_x, const ConstTensor5& grad_y) {
  avg_gradient(grad_x, grad_y, AdaptiveWindows(grad_x.size, grad_y.size), tap_count);
}

}  // namespace

const AdaptiveBackend adaptive{max, max_backward, avg, avg_backward};

}  // namespace cenote::reference
