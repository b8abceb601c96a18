// Pooling that draws random numbers.
//
//   fractional_max_pool2d/3d   y = max over windows that lie a fractional step apart (Graham, arXiv
//   1412.6071)
//
// Per plane and axis one u of [0, 1) places the windows: with a = (size - kernel) / (out - 1), window i
// begins at int((i + u) a) - int(u a), and the last one at size - kernel. All of this is computed in the
// dtype of x, so that the same u give PyTorch's windows; a window that rounding would move beyond the end
// begins at size - kernel. The u are `samples`, or are drawn from `seed` for each plane and axis on its own,
// so that neither the threads nor the layout change the result. Training and inference are alike, as in
// PyTorch.
//
// The forms and layouts are those of window.h, and so are NaN, ties and infinities; dtypes are f32, f64, f16
// and bf16. Indices are i64 positions inside the plane; every window has elements, so there is no -1. All
// throw cenote::Error on bad arguments, before any element is touched.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cenote/export.h"
#include "cenote/tensor.h"
#include "cenote/window.h"

namespace cenote {

struct FractionalMaxPoolOptions {
  Dims kernel;                            // required, >= 1; out + kernel - 1 <= size
  Dims output_size = {};                  // >= 1; either this
  std::vector<double> output_ratio = {};  // or this, in (0, 1): out = int(size * ratio)
  /// [N, C, 2 or 3] in the dtype of x, N = 1 without batch. The last axis is W, H for 2-D and D, H, W for
  /// 3-D, PyTorch's order.
  std::optional<ConstTensorView> samples = {};
  std::uint64_t seed = 0;  // where there are no samples
};

/// The samples that `seed` draws for an x of these sizes: u = floor(r 2^b) / 2^b of dtype's precision b (24
/// bits for f32, 53 for f64, 11 for f16, 8 for bf16). r are the bits of Philox4x32-10 (Salmon et al., SC
/// 2011) with the seed as key and the number of the plane and of the axis as counter.
CENOTE_EXPORT Tensor fractional_max_pool_samples(const Dims& x_sizes, int spatial_rank, DType dtype,
                                                 std::uint64_t seed);

CENOTE_EXPORT Dims fractional_max_pool2d_shape(const Dims& x_sizes, const FractionalMaxPoolOptions& options);
CENOTE_EXPORT Dims fractional_max_pool3d_shape(const Dims& x_sizes, const FractionalMaxPoolOptions& options);

CENOTE_EXPORT Tensor fractional_max_pool2d(const ConstTensorView& x, const FractionalMaxPoolOptions& options);
CENOTE_EXPORT Tensor fractional_max_pool3d(const ConstTensorView& x, const FractionalMaxPoolOptions& options);

CENOTE_EXPORT MaxPoolResult fractional_max_pool2d_with_indices(const ConstTensorView& x,
                                                               const FractionalMaxPoolOptions& options);
CENOTE_EXPORT MaxPoolResult fractional_max_pool3d_with_indices(const ConstTensorView& x,
                                                               const FractionalMaxPoolOptions& options);

CENOTE_EXPORT void fractional_max_pool2d_into(const TensorView& y, const ConstTensorView& x,
                                              const FractionalMaxPoolOptions& options,
                                              const TensorView* indices = nullptr);
CENOTE_EXPORT void fractional_max_pool3d_into(const TensorView& y, const ConstTensorView& x,
                                              const FractionalMaxPoolOptions& options,
                                              const TensorView* indices = nullptr);

/// The indices say where the gradient goes; samples and seed are not read.
CENOTE_EXPORT Tensor fractional_max_pool2d_backward(const ConstTensorView& grad_y,
                                                    const ConstTensorView& indices, const Dims& x_sizes,
                                                    const FractionalMaxPoolOptions& options);
CENOTE_EXPORT Tensor fractional_max_pool3d_backward(const ConstTensorView& grad_y,
                                                    const ConstTensorView& indices, const Dims& x_sizes,
                                                    const FractionalMaxPoolOptions& options);

CENOTE_EXPORT void fractional_max_pool2d_backward_into(const TensorView& grad_x,
                                                       const ConstTensorView& grad_y,
                                                       const ConstTensorView& indices,
                                                       const FractionalMaxPoolOptions& options);
CENOTE_EXPORT void fractional_max_pool3d_backward_into(const TensorView& grad_x,
                                                       const ConstTensorView& grad_y,
                                                       const ConstTensorView& indices,
                                                       const FractionalMaxPoolOptions& options);

}  // namespace cenote
