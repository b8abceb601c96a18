// Axes that can be seen as one. Windows of one row and one column, as of 3-D pooling along D alone: what lies
// in a slice is pooled alike, wherever, so a slice can be one long row. Windows of one slice: each slice is
// pooled by itself, as if it were a channel or an image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "backend.h"
#include "core/tensor5.h"

namespace cenote::cpu {

/// Whether windows along this axis are the elements.
inline bool single_elements(const WindowAxis& axis) {
  return axis.kernel == 1 && axis.stride == 1 && axis.padding_begin == 0 && axis.padding_end == 0;
}

/// Whether the windows have one row and one column, and the rows of each tensor follow each other in memory.
template <class... Tensors>
bool merges_rows(const WindowAxes& window, const Tensors&... tensors) {
  constexpr std::int64_t kMostColumns = 4096;
  const auto merges = [](const auto& tensor) {
    return tensor.size[3] > 1 && tensor.size[4] > 1 && tensor.size[4] <= kMostColumns / tensor.size[3] &&
           tensor.stride[3] == tensor.size[4] * tensor.stride[4];
  };
  return single_elements(window[1]) && single_elements(window[2]) && (merges(tensors) && ...);
}

/// The tensor with the rows of each slice as one.
template <class Tensor>
Tensor with_merged_rows(Tensor tensor) {
  tensor.size[4] *= tensor.size[3];
  tensor.size[3] = 1;
  tensor.stride[3] = tensor.size[4] * tensor.stride[4];
  return tensor;
}

/// Where windows have one slice: the axis along which slices lie as far apart as channels (1) or images (0)
/// in each tensor, if there is one.
template <class... Tensors>
std::optional<std::size_t> axis_of_slices(const WindowAxes& window, const Tensors&... tensors) {
  const auto continues = [](std::size_t axis, const auto& tensor) {
    return tensor.size[2] > 1 &&
           (tensor.size[axis] == 1 || tensor.stride[axis] == tensor.size[2] * tensor.stride[2]);
  };
  if (!single_elements(window[0])) return std::nullopt;
  for (const std::size_t axis : {1, 0}) {
    if ((continues(axis, tensors) && ...)) return axis;
  }
  return std::nullopt;
}

/// The tensor with slices as channels or images.
template <class Tensor>
Tensor with_slices_along(std::size_t axis, Tensor tensor) {
  tensor.size[axis] *= tensor.size[2];
  tensor.stride[axis] = tensor.stride[2];
  tensor.size[2] = 1;
  return tensor;
}

}  // namespace cenote::cpu
