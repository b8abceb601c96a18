// Positions of indices: inside the plane of a channel, which is what the loops know, and inside the whole
// tensor.
#pragma once

#include "backend.h"
#include "cenote/window.h"
#include "ops/tensor_check.h"

namespace cenote {

/// Throws Error for compact taps that are to count positions of the whole tensor.
void check_index_order(const OpName& op, DType indices_dtype, IndexOrder order);

/// Positions inside planes of x become what `order` counts; -1 stays.
void from_plane_positions(const OpName& op, const TensorView& indices, const Dims& x_sizes, IndexOrder order);

/// Indices as positions inside planes: a view of themselves, or of what `converted` then holds. x_sizes are
/// the sizes of the tensor that they point into. Throws Error for an index outside of its own plane.
ConstTensorView to_plane_positions(const OpName& op, const ConstTensorView& indices, const Dims& x_sizes,
                                   IndexOrder order, NoElement none, Tensor& converted);

}  // namespace cenote
