// Global pooling: each channel is reduced over all its spatial positions, which stay as size 1.
//
//   global_avg_pool1d/2d/3d      GAP, the mean         global_max_pool1d/2d/3d   the maximum
//   global_lp_pool1d/2d/3d       (sum |x|^p)^(1/p)     global_gem_pool1d/2d/3d   (mean max(x, eps)^p)^(1/p)
//   global_lse_pool1d/2d/3d      log-sum-exp           global_std_pool1d/2d/3d   sqrt(mean (x - mean)^2)
//   global_avgmax_pool1d/2d/3d   (mean + maximum) / 2  global_catavgmax_pool1d/2d/3d   both, 2 C channels
//
// [N, C, spatial...] -> [N, C, 1...], [C, spatial...] -> [C, 1...]. Source: ONNX GlobalAveragePool and
// GlobalMaxPool; equal to adaptive pooling with output size 1. The forms, layouts, dtypes and errors are
// those of window.h. The record of a maximum is the i64 position inside the plane (one per channel, so
// nothing is gained by a smaller one). Sums are blocked and finished in double, so that a plane of any
// size keeps the accuracy of its dtype.
#pragma once

#include <optional>
#include <vector>

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
// With `quantization`, forward alone, as avg_pool of window.h.

struct GlobalAvgPoolOptions {
  std::optional<Quantization> quantization = {};  // i8 and u8

  bool operator==(const GlobalAvgPoolOptions&) const = default;
};

CENOTE_EXPORT Dims global_avg_pool1d_shape(const Dims& x_sizes, const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT Dims global_avg_pool2d_shape(const Dims& x_sizes, const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT Dims global_avg_pool3d_shape(const Dims& x_sizes, const GlobalAvgPoolOptions& options = {});

CENOTE_EXPORT Tensor global_avg_pool1d(const ConstTensorView& x, const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT Tensor global_avg_pool2d(const ConstTensorView& x, const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT Tensor global_avg_pool3d(const ConstTensorView& x, const GlobalAvgPoolOptions& options = {});

CENOTE_EXPORT void global_avg_pool1d_into(const TensorView& y, const ConstTensorView& x,
                                          const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT void global_avg_pool2d_into(const TensorView& y, const ConstTensorView& x,
                                          const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT void global_avg_pool3d_into(const TensorView& y, const ConstTensorView& x,
                                          const GlobalAvgPoolOptions& options = {});

CENOTE_EXPORT Tensor global_avg_pool1d_backward(const ConstTensorView& grad_y, const Dims& x_sizes,
                                                const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT Tensor global_avg_pool2d_backward(const ConstTensorView& grad_y, const Dims& x_sizes,
                                                const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT Tensor global_avg_pool3d_backward(const ConstTensorView& grad_y, const Dims& x_sizes,
                                                const GlobalAvgPoolOptions& options = {});

CENOTE_EXPORT void global_avg_pool1d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                                   const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT void global_avg_pool2d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                                   const GlobalAvgPoolOptions& options = {});
CENOTE_EXPORT void global_avg_pool3d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,
                                                   const GlobalAvgPoolOptions& options = {});

// ---- lp, gem, lse, std, avgmax, catavgmax -------------------------------------------------------
// Of floating types alone. Lp and log-sum-exp are those of window.h. GeM: Radenovic et al., "Fine-tuning CNN
// image retrieval with no human annotation" (2018); a mean, unlike Lp. The deviation divides by the number of
// positions. avgmax is half the sum of mean and maximum, catavgmax gives the means of all channels and then
// their maxima (timm's names). The backward reads x; the gradient of a maximum goes to the first one.

struct GlobalLpPoolOptions {
  double norm_type = 2;  // p > 0; infinity: max |x|
};
struct GlobalLsePoolOptions {
  double sharpness = 10;  // r > 0
};
struct GlobalGemPoolOptions {
  std::vector<double> p = {3};  // > 0; one, or one per channel
  double eps = 1e-6;            // > 0; smaller elements count as this
};
struct GlobalStdPoolOptions {};
struct GlobalAvgMaxPoolOptions {};

#define CENOTE_GLOBAL_SMOOTH_POOL(RANK)                                  \
  CENOTE_SMOOTH_POOL(global_lp_pool##RANK, GlobalLpPoolOptions);         \
  CENOTE_SMOOTH_POOL(global_lse_pool##RANK, GlobalLsePoolOptions);       \
  CENOTE_SMOOTH_POOL(global_gem_pool##RANK, GlobalGemPoolOptions);       \
  CENOTE_SMOOTH_POOL(global_std_pool##RANK, GlobalStdPoolOptions);       \
  CENOTE_SMOOTH_POOL(global_avgmax_pool##RANK, GlobalAvgMaxPoolOptions); \
  CENOTE_SMOOTH_POOL(global_catavgmax_pool##RANK, GlobalAvgMaxPoolOptions)

CENOTE_GLOBAL_SMOOTH_POOL(1d);
CENOTE_GLOBAL_SMOOTH_POOL(2d);
CENOTE_GLOBAL_SMOOTH_POOL(3d);

/// The gradient of a loss with respect to the p of GeM, as many as `options.p`, from its gradient with
/// respect to y.
CENOTE_EXPORT std::vector<double> global_gem_pool_p_gradient(const ConstTensorView& grad_y,
                                                             const ConstTensorView& x, int spatial_rank,
                                                             const GlobalGemPoolOptions& options);

}  // namespace cenote
