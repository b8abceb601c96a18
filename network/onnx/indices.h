// Where a maximum came from, as PyTorch and as ONNX say it.
//
//   plane    the flat row-major position inside the D*H*W plane of its channel (cenote, PyTorch)
//   tensor   the flat position inside the whole [N, C, spatial...] tensor; within a plane row-major
//            (storage_order 0) or column-major (storage_order 1, the first spatial axis runs fastest)
//
// -1, a window without a real element, stays -1.
#pragma once

#include <cstdint>
#include <span>

#include "cenote/tensor.h"

namespace cenote::network::onnx {

/// Rewrites plane positions as tensor positions. `indices` are those of all planes of x, one after the other,
/// equally many per plane; each must lie inside the plane or be -1.
void to_tensor_positions(std::span<std::int64_t> indices, const Dims& x_sizes, bool column_major);

/// The inverse for row-major tensor positions in a tensor of `y_sizes`. A position outside the plane that it
/// belongs to becomes one outside of every plane.
void to_plane_positions(std::span<std::int64_t> indices, const Dims& y_sizes);

}  // namespace cenote::network::onnx
