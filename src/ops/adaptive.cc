// Adaptive pooling, front: checks the arguments, infers the shapes, calls the backend.
#include "cenote/adaptive.h"

#include "backend.h"
#include "core/check.h"
#include "ops/pool_front.h"
#include "ops/smooth_front.h"

namespace cenote {

namespace {

constexpr OpNames kMax{"adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"};
constexpr OpNames kAvg{"adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"};
constexpr OpNames kMaxBackward{"adaptive_max_pool1d_backward", "adaptive_max_pool2d_backward",
                               "adaptive_max_pool3d_backward"};
constexpr OpNames kAvgBackward{"adaptive_avg_pool1d_backward", "adaptive_avg_pool2d_backward",
                               "adaptive_avg_pool3d_backward"};

template <class Options>
Dims infer_sizes(const OpName& op, const Dims& x_sizes, const Options& options) {
  check_input_sizes(op, x_sizes);
  auto sizes = per_axis(op, "output_size", options.output_size, 1);
  const auto x_spatial = spatial_sizes(op, x_sizes);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    require(sizes[axis] >= 0 || sizes[axis] == kKeepSize, op.name, "output_size[",
            static_cast<int>(axis) - (3 - op.spatial_rank), "] must be >= 0 or -1 (keep the size), got ",
            sizes[axis]);
    if (sizes[axis] == kKeepSize) sizes[axis] = x_spatial[axis];
  }
  return with_spatial_sizes(op, x_sizes, sizes);
}

/// Positions of the largest window of one axis. With n = quotient * out + remainder, window o covers
/// quotient + ceil(f + remainder / out) of them, f being the fraction of o * remainder / out. The largest f
/// is 1 - gcd(remainder, out) / out, so the ceiling reaches 2 unless the remainder divides out.
std::int64_t largest_window(std::int64_t size, std::int64_t out) {
  if (out == 0) return 1;
  const std::int64_t quotient = size / out;
  const std::int64_t remainder = size % out;
  if (remainder == 0) return quotient;
  return quotient + (out % remainder == 0 ? 1 : 2);
}

DType tap_dtype(const OpName& op, const Dims& x_sizes, const AdaptivePoolOptions& options) {
  const auto y_spatial = spatial_sizes(op, infer_sizes(op, x_sizes, options));  // checks x_sizes first
  const auto x_spatial = spatial_sizes(op, x_sizes);
  std::int64_t taps = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    taps =
        checked_multiply(taps, largest_window(x_spatial[axis], y_spatial[axis]), op.name, "number of taps");
  }
  return tap_dtype_of(taps);
}

void max_into(const OpName& op, const TensorView& y, const ConstTensorView& x,
              const AdaptivePoolOptions& options, const TensorView* indices) {
  run_max(op, y, indices, x, infer_sizes(op, x.sizes, options), tap_dtype(op, x.sizes, options),
          Order::kAscending,
          [](const Backend& loops, const Tensor5& to, const Tensor5* record, const ConstTensor5& from) {
            loops.adaptive.max(to, record, from);
          });
}

Tensor max(const OpName& op, const ConstTensorView& x, const AdaptivePoolOptions& options) {
  Tensor y = make_output(op, x, infer_sizes(op, x.sizes, options));
  max_into(op, y, x, options, nullptr);
  return y;
}

MaxPoolResult max_with_indices(const OpName& op, const ConstTensorView& x, const AdaptivePoolOptions& options,
                               DType indices_dtype) {
  const Dims y_sizes = infer_sizes(op, x.sizes, options);
  MaxPoolResult result = make_outputs(op, x, y_sizes, indices_dtype, tap_dtype(op, x.sizes, options));
  max_into(op, result.values, x, options, &result.indices.view());
  return result;
}

/// A gradient needs at least one output (PyTorch's rule).
void check_has_outputs(const OpName& op, const Dims& y_sizes) {
  for (const std::int64_t size : spatial_sizes(op, y_sizes)) {
    require(size > 0, op.name, "output_size must be > 0 for a gradient, got y sizes ", y_sizes);
  }
}

void max_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                       const ConstTensorView& indices, const AdaptivePoolOptions& options) {
  const Dims y_sizes = infer_sizes(op, grad_x.sizes, options);
  check_has_outputs(op, y_sizes);
  run_max_backward(op, grad_x, grad_y, indices, y_sizes, tap_dtype(op, grad_x.sizes, options),
                   [](const Backend& loops, const Tensor5& to, const ConstTensor5& from,
                      const ConstTensor5& record) { return loops.adaptive.max_backward(to, from, record); });
}

Tensor max_backward(const OpName& op, const ConstTensorView& grad_y, const ConstTensorView& indices,
                    const Dims& x_sizes, const AdaptivePoolOptions& options) {
  Tensor grad_x = make_gradient(op, grad_y, infer_sizes(op, x_sizes, options), x_sizes);
  max_backward_into(op, grad_x, grad_y, indices, options);
  return grad_x;
}

void avg_into(const OpName& op, const TensorView& y, const ConstTensorView& x,
              const AdaptiveAvgPoolOptions& options) {
  run_avg(op, y, x, infer_sizes(op, x.sizes, options), options.quantization,
          [](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
            loops.adaptive.avg(to, from);
          });
}

Tensor avg(const OpName& op, const ConstTensorView& x, const AdaptiveAvgPoolOptions& options) {
  Tensor y = make_output(op, x, infer_sizes(op, x.sizes, options));
  avg_into(op, y, x, options);
  return y;
}

void avg_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                       const AdaptiveAvgPoolOptions& options) {
  check_differentiable(op, options.quantization);
  const Dims y_sizes = infer_sizes(op, grad_x.sizes, options);
  check_has_outputs(op, y_sizes);
  run_avg_backward(op, grad_x, grad_y, y_sizes,
                   [](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
                     loops.adaptive.avg_backward(to, from);
                   });
}

Tensor avg_backward(const OpName& op, const ConstTensorView& grad_y, const Dims& x_sizes,
                    const AdaptiveAvgPoolOptions& options) {
  Tensor grad_x = make_gradient(op, grad_y, infer_sizes(op, x_sizes, options), x_sizes);
  avg_backward_into(op, grad_x, grad_y, options);
  return grad_x;
}

SmoothPlan plan(const OpName& op, const Dims& x_sizes, const AdaptiveLpPoolOptions& options) {
  const double norm_type = checked_norm_type(op, options.norm_type);
  return {infer_sizes(op, x_sizes, options), std::nullopt, SmoothKind::kLp, {norm_type}};
}

}  // namespace

DType adaptive_max_pool_tap_dtype(const Dims& x_sizes, const AdaptivePoolOptions& options, int spatial_rank) {
  require(spatial_rank >= 1 && spatial_rank <= 3, "adaptive_max_pool_tap_dtype",
          "spatial_rank must be 1, 2 or 3, got ", spatial_rank);
  return tap_dtype({"adaptive_max_pool_tap_dtype", spatial_rank}, x_sizes, options);
}

// The public names differ in the spatial rank alone.
#define CENOTE_ADAPTIVE_OPS(RANK)                                                                           \
  Dims adaptive_max_pool##RANK##d_shape(const Dims& x_sizes, const AdaptivePoolOptions& options) {          \
    return infer_sizes(op_of(kMax, RANK), x_sizes, options);                                                \
  }                                                                                                         \
  Tensor adaptive_max_pool##RANK##d(const ConstTensorView& x, const AdaptivePoolOptions& options) {         \
    return max(op_of(kMax, RANK), x, options);                                                              \
  }                                                                                                         \
  MaxPoolResult adaptive_max_pool##RANK##d_with_indices(                                                    \
      const ConstTensorView& x, const AdaptivePoolOptions& options, DType indices_dtype) {                  \
    return max_with_indices(op_of(kMax, RANK), x, options, indices_dtype);                                  \
  }                                                                                                         \
  void adaptive_max_pool##RANK##d_into(const TensorView& y, const ConstTensorView& x,                       \
                                       const AdaptivePoolOptions& options, const TensorView* indices) {     \
    max_into(op_of(kMax, RANK), y, x, options, indices);                                                    \
  }                                                                                                         \
  Tensor adaptive_max_pool##RANK##d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices, \
                                             const Dims& x_sizes, const AdaptivePoolOptions& options) {     \
    return max_backward(op_of(kMaxBackward, RANK), grad_y, indices, x_sizes, options);                      \
  }                                                                                                         \
  void adaptive_max_pool##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,    \
                                                const ConstTensorView& indices,                             \
                                                const AdaptivePoolOptions& options) {                       \
    max_backward_into(op_of(kMaxBackward, RANK), grad_x, grad_y, indices, options);                         \
  }                                                                                                         \
  Dims adaptive_avg_pool##RANK##d_shape(const Dims& x_sizes, const AdaptiveAvgPoolOptions& options) {       \
    return infer_sizes(op_of(kAvg, RANK), x_sizes, options);                                                \
  }                                                                                                         \
  Tensor adaptive_avg_pool##RANK##d(const ConstTensorView& x, const AdaptiveAvgPoolOptions& options) {      \
    return avg(op_of(kAvg, RANK), x, options);                                                              \
  }                                                                                                         \
  void adaptive_avg_pool##RANK##d_into(const TensorView& y, const ConstTensorView& x,                       \
                                       const AdaptiveAvgPoolOptions& options) {                             \
    avg_into(op_of(kAvg, RANK), y, x, options);                                                             \
  }                                                                                                         \
  Tensor adaptive_avg_pool##RANK##d_backward(const ConstTensorView& grad_y, const Dims& x_sizes,            \
                                             const AdaptiveAvgPoolOptions& options) {                       \
    return avg_backward(op_of(kAvgBackward, RANK), grad_y, x_sizes, options);                               \
  }                                                                                                         \
  void adaptive_avg_pool##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,    \
                                                const AdaptiveAvgPoolOptions& options) {                    \
    avg_backward_into(op_of(kAvgBackward, RANK), grad_x, grad_y, options);                                  \
  }                                                                                                         \
  CENOTE_SMOOTH(adaptive_lp_pool, AdaptiveLpPoolOptions, RANK)

CENOTE_ADAPTIVE_OPS(1)
CENOTE_ADAPTIVE_OPS(2)
CENOTE_ADAPTIVE_OPS(3)
#undef CENOTE_ADAPTIVE_OPS

}  // namespace cenote
