// Gradients of windows over f16 and bf16 as they lie in memory, on the CPU target in use; see NarrowBackend.
#pragma once

#include "backend.h"

namespace cenote::cpu {

bool narrow_max_backward(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const WindowAxes& window);
bool narrow_avg_backward(const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& window,
                         const Divisor& divisor);

}  // namespace cenote::cpu
