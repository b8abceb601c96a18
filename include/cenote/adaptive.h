// Adaptive pooling: the output size is given, the windows follow from it.
//
// Output o of an axis of size n pools the elements floor(o * n / out) .. ceil((o + 1) * n / out) - 1;
// windows differ in size by one and may overlap when out does not divide n. Source: PyTorch
// AdaptiveAvgPool / AdaptiveMaxPool. `output_size` takes one value for all axes or one per axis;
// kKeepSize keeps the size of that axis (PyTorch's None). The forms, layouts, dtypes, the meaning of
// `indices` and the errors are those of window.h; compact taps number the positions of the largest
// window, row-major.
#pragma once

#include <optional>

#include "cenote/export.h"
#include "cenote/tensor.h"
#include "cenote/window.h"

namespace cenote {

constexpr std::int64_t kKeepSize = -1;

struct AdaptivePoolOptions {
  Dims output_size;  // required, >= 0 or kKeepSize; 0 gives an empty tensor
};

struct AdaptiveAvgPoolOptions {
  Dims output_size;
  std::optional<Quantization> quantization = {};  // i8 and u8, forward alone
};

struct AdaptiveLpPoolOptions {
  Dims output_size;
  double norm_type = 2;  // p > 0; infinity: max |x|
};

// ---- max ----------------------------------------------------------------------------------------

/// u8, u16, or i64 when the largest window has too many taps for both.
CENOTE_EXPORT DType adaptive_max_pool_tap_dtype(const Dims& x_sizes, const AdaptivePoolOptions& options,
                                                int spatial_rank);

CENOTE_EXPORT Dims adaptive_max_pool1d_shape(const Dims& x_sizes, const AdaptivePoolOptions& options);
CENOTE_EXPORT Dims adaptive_max_pool2d_shape(const Dims& x_sizes, const AdaptivePoolOptions& options);
CENOTE_EXPORT Dims adaptive_max_pool3d_shape(const Dims& x_sizes, const AdaptivePoolOptions& options);

CENOTE_EXPORT Tensor adaptive_max_pool1d(const ConstTensorView& x, const AdaptivePoolOptions& options);
CENOTE_EXPORT Tensor adaptive_max_pool2d(const ConstTensorView& x, const AdaptivePoolOptions& options);
CENOTE_EXPORT Tensor adaptive_max_pool3d(const ConstTensorView& x, const AdaptivePoolOptions& options);

CENOTE_EXPORT MaxPoolResult adaptive_max_pool1d_with_indices(const ConstTensorView& x,
                                                             const AdaptivePoolOptions& options,
                                                             DType indices_dtype = DType::i64);
CENOTE_EXPORT MaxPoolResult adaptive_max_pool2d_with_indices(const ConstTensorView& x,
                                                             const AdaptivePoolOptions& options,
                                                             DType indices_dtype = DType::i64);
CENOTE_EXPORT MaxPoolResult adaptive_max_pool3d_with_indices(const ConstTensorView& x,
                                                             const AdaptivePoolOptions& options,
                                                             DType indices_dtype = DType::i64);

CENOTE_EXPORT void adaptive_max_pool1d_into(const TensorView& y, const ConstTensorView& x,
                                            const AdaptivePoolOptions& options,
                                            const TensorView* indices = nullptr);
CENOTE_EXPORT void adaptive_max_pool2d_into(const TensorView& y, const ConstTensorView& x,
                                            const AdaptivePoolOptions& options,
                                            const TensorView* indices = nullptr);
CENOTE_EXPORT void adaptive_max_pool3d_into(const TensorView& y, const ConstTensorView& x,
                                            const AdaptivePoolOptions& options,
                                            const TensorView* indices = nullptr);

CENOTE_EXPORT Tensor adaptive_max_pool1d_backward(const ConstTensorView& grad_y,
                                                  const ConstTensorView& indices, const Dims& x_sizes,
                                                  const AdaptivePoolOptions& options);
CENOTE_EXPORT Tensor adaptive_max_pool2d_backward(const ConstTensorView& grad_y,
                                                  const ConstTensorView& indices, const Dims& x_sizes,
                                                  const AdaptivePoolOptions& options);
CENOTE_EXPORT Tensor adaptive_max_pool3d_backward(const ConstTensorView& grad_y,
                                                  const ConstTensorView& indices, const Dims& x_sizes,
                                                  const AdaptivePoolOptions& options);

CENOTE_EXPORT void adaptive_max_pool1d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                                     const ConstTensorView& indices,
                                                     const AdaptivePoolOptions& options);
CENOTE_EXPORT void adaptive_max_pool2d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                                     const ConstTensorView& indices,
                                                     const AdaptivePoolOptions& options);
CENOTE_EXPORT void adaptive_max_pool3d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                                     const ConstTensorView& indices,
                                                     const AdaptivePoolOptions& options);

// ---- avg ----------------------------------------------------------------------------------------
// With `quantization`, forward alone, as avg_pool of window.h.

CENOTE_MEAN_POOL(adaptive_avg_pool1d, AdaptiveAvgPoolOptions);
CENOTE_MEAN_POOL(adaptive_avg_pool2d, AdaptiveAvgPoolOptions);
CENOTE_MEAN_POOL(adaptive_avg_pool3d, AdaptiveAvgPoolOptions);

// ---- lp -----------------------------------------------------------------------------------------
// y = (sum |x|^p)^(1/p), as lp_pool of window.h.

CENOTE_SMOOTH_POOL(adaptive_lp_pool1d, AdaptiveLpPoolOptions);
CENOTE_SMOOTH_POOL(adaptive_lp_pool2d, AdaptiveLpPoolOptions);
CENOTE_SMOOTH_POOL(adaptive_lp_pool3d, AdaptiveLpPoolOptions);

}  // namespace cenote
