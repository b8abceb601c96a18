// Max unpooling, the partial inverse of max pooling: each element of x goes to the position of its plane
// of y that its index names, and every other element of y is 0.
//
//   max_unpool1d/2d/3d   y[n, c, indices[n, c, i]] = x[n, c, i]
//
// `indices` are i64, have the sizes of x, and are positions in the requested y, counted as index_order says:
// by default inside its D*H*W plane, as max_pool2d_with_indices gives them for its input. Where several
// elements name one position, the last of them in row-major order wins, for any number of threads. An index
// outside the plane is an Error that names the first one; -1, max pooling's mark of a window without a real
// element, is outside too, since only dilation brings it about, which unpooling has not. Kernel, stride and
// padding are those of the pooling and serve to infer the size of y alone. x and y have one dtype, any that
// is pooled, and are [N, C, spatial...] or [C, spatial...]; N may be 0. Elements are copied bit by bit.
// Source: PyTorch MaxUnpool1d, MaxUnpool2d, MaxUnpool3d.
//
//   NAME_shape(x_sizes, options)                      sizes of y, no data needed
//   NAME(x, indices, options)                         returns y in the layout of x
//   NAME_into(y, x, indices, options)                 writes y
//   NAME_backward(grad_y, indices, options)           gradient with respect to x, of the sizes of indices
//   NAME_backward_into(grad_x, grad_y, indices, options)
//
// All throw cenote::Error on bad arguments before any element is touched, but for a bad index: it is met
// on the way, and what is written by then is not specified. No byte outside of the result is written.
#pragma once

#include "cenote/export.h"
#include "cenote/tensor.h"
#include "cenote/window.h"

namespace cenote {

/// One value for all axes or one per axis. The default size of an axis is
/// (size - 1) * stride + kernel - 2 * padding; a requested one must differ from it by less than the stride.
struct MaxUnpoolOptions {
  Dims kernel;                                  // required, >= 1
  Dims stride = {};                             // default: kernel
  Dims padding = 0;                             // >= 0
  Dims output_size = {};                        // spatial sizes of y, >= 1; default: the default size
  IndexOrder index_order = IndexOrder::kPlane;  // what the indices count, in y
};

CENOTE_EXPORT Dims max_unpool1d_shape(const Dims& x_sizes, const MaxUnpoolOptions& options);
CENOTE_EXPORT Dims max_unpool2d_shape(const Dims& x_sizes, const MaxUnpoolOptions& options);
CENOTE_EXPORT Dims max_unpool3d_shape(const Dims& x_sizes, const MaxUnpoolOptions& options);

CENOTE_EXPORT Tensor max_unpool1d(const ConstTensorView& x, const ConstTensorView& indices,
                                  const MaxUnpoolOptions& options);
CENOTE_EXPORT Tensor max_unpool2d(const ConstTensorView& x, const ConstTensorView& indices,
                                  const MaxUnpoolOptions& options);
CENOTE_EXPORT Tensor max_unpool3d(const ConstTensorView& x, const ConstTensorView& indices,
                                  const MaxUnpoolOptions& options);

/// y must not overlap x or indices.
CENOTE_EXPORT void max_unpool1d_into(const TensorView& y, const ConstTensorView& x,
                                     const ConstTensorView& indices, const MaxUnpoolOptions& options);
CENOTE_EXPORT void max_unpool2d_into(const TensorView& y, const ConstTensorView& x,
                                     const ConstTensorView& indices, const MaxUnpoolOptions& options);
CENOTE_EXPORT void max_unpool3d_into(const TensorView& y, const ConstTensorView& x,
                                     const ConstTensorView& indices, const MaxUnpoolOptions& options);

/// grad_x[n, c, i] = grad_y[n, c, indices[n, c, i]]. PyTorch's rule: of several elements that name one
/// position each gets the whole gradient, also those whose value was replaced.
CENOTE_EXPORT Tensor max_unpool1d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,
                                           const MaxUnpoolOptions& options);
CENOTE_EXPORT Tensor max_unpool2d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,
                                           const MaxUnpoolOptions& options);
CENOTE_EXPORT Tensor max_unpool3d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,
                                           const MaxUnpoolOptions& options);

CENOTE_EXPORT void max_unpool1d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                              const ConstTensorView& indices,
                                              const MaxUnpoolOptions& options);
CENOTE_EXPORT void max_unpool2d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                              const ConstTensorView& indices,
                                              const MaxUnpoolOptions& options);
CENOTE_EXPORT void max_unpool3d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                              const ConstTensorView& indices,
                                              const MaxUnpoolOptions& options);

}  // namespace cenote
