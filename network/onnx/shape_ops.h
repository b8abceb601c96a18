// The operators that give a tensor another form and compute nothing: their outputs share the bytes of the
// input.
#pragma once

#include <vector>

#include "network/onnx/ops.h"

namespace cenote::network::onnx {

std::vector<Value> constant(const Call& call);
std::vector<Value> identity(const Call& call);
std::vector<Value> reshape(const Call& call);
std::vector<Value> squeeze(const Call& call);
std::vector<Value> unsqueeze(const Call& call);

}  // namespace cenote::network::onnx
