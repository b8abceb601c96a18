// Windows of one row and one column, as of 3-D pooling along D alone: what lies in a slice is pooled alike,
// wherever, so a slice can be one long row.
#pragma once

#include <cstdint>

#include "backend.h"
#include "core/tensor5.h"

namespace cenote::cpu {

/// Whether the windows have one row and one column, and the rows of each tensor follow each other in memory.
template <class... Tensors>
bool merges_rows(const WindowAxes& window, const Tensors&... tensors) {
  constexpr std::int64_t kMostColumns = 4096;
  const auto single = [](const WindowAxis& axis) {
    return axis.kernel == 1 && axis.stride == 1 && axis.padding_begin == 0 && axis.padding_end == 0;
  };
  const auto merges = [](const auto& tensor) {
    return tensor.size[3] > 1 && tensor.size[4] > 1 && tensor.size[4] <= kMostColumns / tensor.size[3] &&
           tensor.stride[3] == tensor.size[4] * tensor.stride[4];
  };
  return single(window[1]) && single(window[2]) && (merges(tensors) && ...);
}

/// The tensor with the rows of each slice as one.
template <class Tensor>
Tensor with_merged_rows(Tensor tensor) {
  tensor.size[4] *= tensor.size[3];
  tensor.size[3] = 1;
  tensor.stride[3] = tensor.size[4] * tensor.stride[4];
  return tensor;
}

}  // namespace cenote::cpu
