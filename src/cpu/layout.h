// Which loops fit the strides of a call.
#pragma once

#include "core/tensor5.h"

namespace cenote::cpu {

template <class Tensor>
bool unit_columns(const Tensor& tensor) {
  return tensor.size[4] == 1 || tensor.stride[4] == 1;
}

template <class Tensor>
bool unit_channels(const Tensor& tensor) {
  return tensor.size[1] == 1 || tensor.stride[1] == 1;
}

/// Vectors over C: where C is the unit-stride dimension of both and W is not.
template <class A, class B>
bool channels_last(const A& a, const B& b) {
  return unit_channels(a) && unit_channels(b) && a.size[1] > 1 &&
         !(unit_columns(a) && unit_columns(b) && a.size[4] > 1);
}

}  // namespace cenote::cpu
