// Smooth pooling forward on the CPU target in use.
#pragma once

#include "backend.h"

namespace cenote::cpu {

void smooth_forward(const SmoothRule& rule, const Tensor5& y, const ConstTensor5& x,
                    const WindowAxes* window);

}  // namespace cenote::cpu
