// Global pooling: each channel is reduced over all its spatial positions, which stay as size 1.
//
//   global_avg_pool1d/2d/3d   GAP, the mean         global_max_pool1d/2d/3d   the maximum
//
// [N, C, spatial...] -> [N, C, 1...], [C, spatial...] -> [C, 1...]. Source: ONNX GlobalAveragePool and
// GlobalMaxPool; equal to adaptive pooling with output size 1. The forms, layouts, dtypes and errors are
// those of window.h. The record of a maximum is the i64 position inside the plane (one per channel, so
// nothing is gained by a smaller one). Sums are blocked and finished in double, so that a plane of any
// size keeps the accuracy of its dtype.
#pragma once

#include "cenote/export.h"
#include "cenote/tensor.h"
#include "cenote/window.h"

namespace cenote {

// ---- max ----------------------------------------------------------------------------------------

CENOTE_EXPORT Dims global_max_pool1d_shape(const Dims& x_sizes);
CENOTE_EXPORT Dims global_max_pool2d_shape(const Dims& x_sizes);
CENOTE_EXPORT Dims global_max_pool3d_shape(const Dims& x_sizes);

CENOTE_EXPORT Tensor global_max_pool1d(const ConstTensorView& x);
CENOTE_EXPORT Tensor global_max_pool2d(const ConstTensorView& x);
CENOTE_EXPORT Tensor global_max_pool3d(const ConstTensorView& x);

CENOTE_EXPORT MaxPoolResult global_max_pool1d_with_indices(const ConstTensorView& x);
CENOTE_EXPORT MaxPoolResult global_max_pool2d_with_indices(const ConstTensorView& x);
CENOTE_EXPORT MaxPoolResult global_max_pool3d_with_indices(const ConstTensorView& x);

CENOTE_EXPORT void global_max_pool1d_into(const TensorView& y, const ConstTensorView& x,
                                          const TensorView* indices = nullptr);
CENOTE_EXPORT void global_max_pool2d_into(const TensorView& y, const ConstTensorView& x,
                                          const TensorView* indices = nullptr);
CENOTE_EXPORT void global_max_pool3d_into(const TensorView& y, const ConstTensorView& x,
                                          const TensorView* indices = nullptr);

CENOTE_EXPORT Tensor global_max_pool1d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,
                                                const Dims& x_sizes);
CENOTE_EXPORT Tensor global_max_pool2d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,
                                                const Dims& x_sizes);
CENOTE_EXPORT Tensor global_max_pool3d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,
                                                const Dims& x_sizes);

CENOTE_EXPORT void global_max_pool1d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                                   const ConstTensorView& indices);
CENOTE_EXPORT void global_max_pool2d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                                   const ConstTensorView& indices);
CENOTE_EXPORT void global_max_pool3d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                                   const ConstTensorView& indices);

// ---- avg ----------------------------------------------------------------------------------------

CENOTE_EXPORT Dims global_avg_pool1d_shape(const Dims& x_sizes);
CENOTE_EXPORT Dims global_avg_pool2d_shape(const Dims& x_sizes);
CENOTE_EXPORT Dims global_avg_pool3d_shape(const Dims& x_sizes);

CENOTE_EXPORT Tensor global_avg_pool1d(const ConstTensorView& x);
CENOTE_EXPORT Tensor global_avg_pool2d(const ConstTensorView& x);
CENOTE_EXPORT Tensor global_avg_pool3d(const ConstTensorView& x);

CENOTE_EXPORT void global_avg_pool1d_into(const TensorView& y, const ConstTensorView& x);
CENOTE_EXPORT void global_avg_pool2d_into(const TensorView& y, const ConstTensorView& x);
CENOTE_EXPORT void global_avg_pool3d_into(const TensorView& y, const ConstTensorView& x);

CENOTE_EXPORT Tensor global_avg_pool1d_backward(const ConstTensorView& grad_y, const Dims& x_sizes);
CENOTE_EXPORT Tensor global_avg_pool2d_backward(const ConstTensorView& grad_y, const Dims& x_sizes);
CENOTE_EXPORT Tensor global_avg_pool3d_backward(const ConstTensorView& grad_y, const Dims& x_sizes);

CENOTE_EXPORT void global_avg_pool1d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y);
CENOTE_EXPORT void global_avg_pool2d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y);
CENOTE_EXPORT void global_avg_pool3d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y);

}  // namespace cenote
