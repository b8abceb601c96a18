// Smooth pooling backward on the CPU target in use.
#pragma once

#include "backend.h"

namespace cenote::cpu {

void smooth_backward(const SmoothRule& rule, const Tensor5& grad_x, const ConstTensor5& grad_y,
                     const ConstTensor5& x, const WindowAxes* window);

}  // namespace cenote::cpu
