// The network that shows what global average pooling does:
//
//   conv 3x3 (64) - ReLU - conv 3x3 (128, stride 2) - ReLU - GAP - linear
//
// with the strided convolution or GAP replaced on request. M. Lin, Q. Chen, S. Yan, "Network In Network",
// 2013, introduced GAP in place of the fully connected head.
#pragma once

#include <torch/nn.h>

#include "network/model/spec.h"

namespace cenote::network {

/// Whose modules do the pooling; everything else is torch's.
enum class Engine { kCenote, kTorch };

/// Input [n, channels, height, width], output [n, classes]. Weights are drawn from torch's default generator
/// in an order that does not depend on the engine; convolution weights are channels-last, which torch's CPU
/// convolutions are faster in (16 images of 28x28 took 11.8 ms a step, 14.6 ms channels-first, on two cores).
/// Throws Error when the images are too small for the pooling.
torch::nn::Sequential build_network(const NetworkSpec& spec, Engine engine);

}  // namespace cenote::network
