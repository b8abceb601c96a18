// Global pooling, front: checks the arguments, infers the shapes, calls the backend.
#include "cenote/global.h"

#include <cmath>
#include <cstddef>
#include <limits>

#include "backend.h"
#include "cenote/half.h"
#include "ops/last_call.h"
#include "ops/pool_front.h"
#include "ops/smooth_front.h"

namespace cenote {

namespace {

constexpr OpNames kMax{"global_max_pool1d", "global_max_pool2d", "global_max_pool3d"};
constexpr OpNames kAvg{"global_avg_pool1d", "global_avg_pool2d", "global_avg_pool3d"};
constexpr OpNames kCatAvgMax{"global_catavgmax_pool1d", "global_catavgmax_pool2d", "global_catavgmax_pool3d"};
constexpr OpNames kMaxBackward{"global_max_pool1d_backward", "global_max_pool2d_backward",
                               "global_max_pool3d_backward"};
constexpr OpNames kAvgBackward{"global_avg_pool1d_backward", "global_avg_pool2d_backward",
                               "global_avg_pool3d_backward"};
constexpr OpNames kCatAvgMaxBackward{"global_catavgmax_pool1d_backward", "global_catavgmax_pool2d_backward",
                                     "global_catavgmax_pool3d_backward"};

Dims infer_sizes(const OpName& op, const Dims& x_sizes) {
  check_input_sizes(op, x_sizes);
  return with_spatial_sizes(op, x_sizes, {1, 1, 1});
}

void max_into(const OpName& op, const TensorView& y, const ConstTensorView& x, const TensorView* indices) {
  run_max(op, y, indices, x, infer_sizes(op, x.sizes), DType::i64, Order::kAscending,
          [](const Backend& loops, const Tensor5& to, const Tensor5* record, const ConstTensor5& from) {
            loops.global.max(to, record, from);
          });
}

Tensor max(const OpName& op, const ConstTensorView& x) {
  Tensor y = make_output(op, x, infer_sizes(op, x.sizes));
  max_into(op, y, x, nullptr);
  return y;
}

MaxPoolResult max_with_indices(const OpName& op, const ConstTensorView& x) {
  const Dims y_sizes = infer_sizes(op, x.sizes);
  MaxPoolResult result = make_outputs(op, x, y_sizes, DType::i64, DType::i64);
  max_into(op, result.values, x, &result.indices.view());
  return result;
}

void max_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                       const ConstTensorView& indices) {
  run_max_backward(op, grad_x, grad_y, indices, infer_sizes(op, grad_x.sizes), DType::i64,
                   [](const Backend& loops, const Tensor5& to, const ConstTensor5& from,
                      const ConstTensor5& record) { return loops.global.max_backward(to, from, record); });
}

Tensor max_backward(const OpName& op, const ConstTensorView& grad_y, const ConstTensorView& indices,
                    const Dims& x_sizes) {
  Tensor grad_x = make_gradient(op, grad_y, infer_sizes(op, x_sizes), x_sizes);
  max_backward_into(op, grad_x, grad_y, indices);
  return grad_x;
}

void avg_into(const OpName& op, const TensorView& y, const ConstTensorView& x,
              const GlobalAvgPoolOptions& options) {
  const auto run = [](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
    loops.global.avg(to, from);
  };
  if (options.quantization)
    return run_quantized_avg(op, y, x, infer_sizes(op, x.sizes), *options.quantization, run);
  run_avg(checked_call<PoolTensors>(op, y, nullptr, x, options,
                                    [&] { return check_pool(op, y, x, infer_sizes(op, x.sizes)); }),
          run);
}

Tensor avg(const OpName& op, const ConstTensorView& x, const GlobalAvgPoolOptions& options) {
  Tensor y = make_output(op, x, infer_sizes(op, x.sizes));
  avg_into(op, y, x, options);
  return y;
}

void avg_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                       const GlobalAvgPoolOptions& options) {
  check_differentiable(op, options.quantization);
  run_avg_backward(op, grad_x, grad_y, infer_sizes(op, grad_x.sizes),
                   [](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
                     loops.global.avg_backward(to, from);
                   });
}

Tensor avg_backward(const OpName& op, const ConstTensorView& grad_y, const Dims& x_sizes,
                    const GlobalAvgPoolOptions& options) {
  Tensor grad_x = make_gradient(op, grad_y, infer_sizes(op, x_sizes), x_sizes);
  avg_backward_into(op, grad_x, grad_y, options);
  return grad_x;
}

SmoothPlan plan(const OpName& op, const Dims& x_sizes, const GlobalLpPoolOptions& options) {
  const double norm_type = checked_norm_type(op, options.norm_type);
  return {infer_sizes(op, x_sizes), std::nullopt, SmoothKind::kLp, {norm_type}};
}

SmoothPlan plan(const OpName& op, const Dims& x_sizes, const GlobalLsePoolOptions& options) {
  const double sharpness = checked_sharpness(op, options.sharpness);
  return {infer_sizes(op, x_sizes), std::nullopt, SmoothKind::kLogSumExp, {sharpness}};
}

SmoothPlan plan(const OpName& op, const Dims& x_sizes, const GlobalGemPoolOptions& options) {
  const Dims y_sizes = infer_sizes(op, x_sizes);
  const auto count = static_cast<std::int64_t>(options.p.size());
  const std::int64_t channels = x_sizes[x_sizes.size() - op.spatial_rank - 1];
  require(count == 1 || count == channels, op.name, "p must have 1 value or one per channel, ", channels,
          ", got ", count);
  for (const double p : options.p)
    require(p > 0 && std::isfinite(p), op.name, "p must be > 0 and finite, got ", p);
  require(options.eps >= std::numeric_limits<float>::min() && std::isfinite(options.eps), op.name,
          "eps must be finite and a normal f32 > 0, got ", options.eps);
  return {y_sizes, std::nullopt, SmoothKind::kGem, options.p, options.eps};
}

SmoothPlan plan(const OpName& op, const Dims& x_sizes, const GlobalStdPoolOptions&) {
  return {infer_sizes(op, x_sizes), std::nullopt, SmoothKind::kStd, {0}};
}

SmoothPlan plan(const OpName& op, const Dims& x_sizes, const GlobalAvgMaxPoolOptions&) {
  return {infer_sizes(op, x_sizes), std::nullopt, SmoothKind::kAvgMax, {0}};
}

// ---- the means of all channels, then the maxima

Dims doubled_channels(const OpName& op, const Dims& x_sizes) {
  Dims sizes = infer_sizes(op, x_sizes);
  std::int64_t& channels = sizes[sizes.size() - op.spatial_rank - 1];
  channels = checked_multiply(channels, 2, op.name, "number of channels");
  return with_spatial_sizes(op, sizes, {1, 1, 1});
}

/// Channels 0 .. C - 1 or C .. 2C - 1 of a tensor of doubled_channels.
TensorView half_of(const OpName& op, const TensorView& view, bool second) {
  TensorView half = view;
  const int axis = view.sizes.size() - op.spatial_rank - 1;
  half.sizes[axis] = view.sizes[axis] / 2;
  if (second && half.data != nullptr) {
    half.data = static_cast<std::byte*>(half.data) +
                half.sizes[axis] * half.strides[axis] * static_cast<std::int64_t>(size_of(view.dtype));
  }
  return half;
}

void catavgmax_into(const OpName& op, const TensorView& y, const ConstTensorView& x) {
  check_floating_dtype(op, "x", x.dtype);
  check_same_dtype(op, "y", y.dtype, x.dtype);
  written_argument(op, "y", y, doubled_channels(op, x.sizes));
  avg_into(op, half_of(op, y, false), x, {});
  max_into(op, half_of(op, y, true), x, nullptr);
}

Tensor catavgmax(const OpName& op, const ConstTensorView& x) {
  check_floating_dtype(op, "x", x.dtype);
  Tensor y = make_output(op, x, doubled_channels(op, x.sizes));
  catavgmax_into(op, y, x);
  return y;
}

/// The gradients of the mean and of the maximum of a channel as a plane of two.
ConstTensor5 in_pairs(ConstTensor5 grad_y) {
  grad_y.size[1] /= 2;
  grad_y.size[2] = 2;
  grad_y.stride[2] = grad_y.size[1] * grad_y.stride[1];
  return grad_y;
}

/// Adds the gradient of each maximum, the second of a pair, to the element of grad_x that its index names.
template <class T>
void add_at(const Tensor5& grad_x, const ConstTensor5& pairs, const ConstTensor5& indices) {
  for (std::int64_t n = 0; n < grad_x.size[0]; ++n) {
    for (std::int64_t c = 0; c < grad_x.size[1]; ++c) {
      const auto offset = [&](const auto& tensor) { return n * tensor.stride[0] + c * tensor.stride[1]; };
      const std::int64_t index = static_cast<const std::int64_t*>(indices.data)[offset(indices)];
      const std::int64_t line = index / grad_x.size[4];
      static_cast<T*>(grad_x.data)[offset(grad_x) + line / grad_x.size[3] * grad_x.stride[2] +
                                   line % grad_x.size[3] * grad_x.stride[3] +
                                   index % grad_x.size[4] * grad_x.stride[4]] +=
          static_cast<const T*>(pairs.data)[offset(pairs) + pairs.stride[2]];
    }
  }
}

/// In f32 or f64.
void add_means_and_maxima(const Backend& loops, const Tensor5& grad_x, const ConstTensor5& pairs,
                          const ConstTensor5& indices) {
  ConstTensor5 means = pairs;
  means.size[2] = 1;
  loops.global.avg_backward(grad_x, means);
  grad_x.dtype == DType::f64 ? add_at<double>(grad_x, pairs, indices) : add_at<float>(grad_x, pairs, indices);
}

double element_of_plane(const ConstTensor5& tensor, std::int64_t n, std::int64_t c) {
  const std::int64_t offset = n * tensor.stride[0] + c * tensor.stride[1];
  switch (tensor.dtype) {
    case DType::f64:
      return static_cast<const double*>(tensor.data)[offset];
    case DType::f16:
      return static_cast<float>(static_cast<const Float16*>(tensor.data)[offset]);
    case DType::bf16:
      return static_cast<float>(static_cast<const BFloat16*>(tensor.data)[offset]);
    default:
      return static_cast<const float*>(tensor.data)[offset];
  }
}

void catavgmax_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                             const ConstTensorView& x) {
  check_floating_dtype(op, "x", x.dtype);
  check_same_dtype(op, "grad_x", grad_x.dtype, x.dtype);
  check_same_dtype(op, "grad_y", grad_y.dtype, x.dtype);
  check_sizes(op, "grad_y", grad_y.sizes, doubled_channels(op, x.sizes));
  check_sizes(op, "grad_x", grad_x.sizes, x.sizes);
  const ConstTensor5 from = read_argument(op, "grad_y", grad_y);
  check_no_overlap(op, "grad_x", grad_x, "x", x);
  check_no_overlap(op, "grad_x", grad_x, "grad_y", grad_y);
  const MaxPoolResult maxima = max_with_indices(op, x);
  const Tensor5 to = written_argument(op, "grad_x", grad_x, x.sizes);
  const ConstTensor5 indices = read_argument(op, "indices", maxima.indices.view());
  // In double where the loops take any dtype: mean and maximum are rounded together.
  const DType dtype = backend().any_dtype ? DType::f64 : working_dtype(x.dtype, true);
  gradient_in_dtype(dtype, to, in_pairs(from), &indices,
                    [](const Backend& loops, const Tensor5& out, const ConstTensor5& pairs,
                       const ConstTensor5* record) -> std::optional<std::int64_t> {
                      add_means_and_maxima(loops, out, pairs, *record);
                      return std::nullopt;
                    });
}

Tensor catavgmax_backward(const OpName& op, const ConstTensorView& grad_y, const ConstTensorView& x) {
  Tensor grad_x = make_gradient(op, grad_y, doubled_channels(op, x.sizes), x.sizes);
  catavgmax_backward_into(op, grad_x, grad_y, x);
  return grad_x;
}

}  // namespace

std::vector<double> global_gem_pool_p_gradient(const ConstTensorView& grad_y, const ConstTensorView& x,
                                               int spatial_rank, const GlobalGemPoolOptions& options) {
  const OpName op{"global_gem_pool_p_gradient", spatial_rank};
  require(spatial_rank >= 1 && spatial_rank <= 3, op.name, "spatial_rank must be 1, 2 or 3, got ",
          spatial_rank);
  SmoothPlan slopes = plan(op, x.sizes, options);
  check_sizes(op, "grad_y", grad_y.sizes, slopes.y_sizes);
  check_same_dtype(op, "grad_y", grad_y.dtype, x.dtype);
  slopes.kind = SmoothKind::kGemParameter;
  check_floating_dtype(op, "x", x.dtype);
  const ConstTensor5 from = read_argument(op, "x", x);
  const ConstTensor5 gradients = read_argument(op, "grad_y", grad_y);
  // Each slope is a term of a sum, and only the sum may be rounded to 16 bits.
  const Tensor dy_dp = output_like(op, working_dtype(x.dtype, true), slopes.y_sizes, x);
  const Tensor5 factors = written_argument(op, "y", dy_dp.view(), slopes.y_sizes);
  pool_in_working_dtype(
      factors, nullptr, from, true, Order::kAscending,
      [&](const Backend& loops, const Tensor5& to, const Tensor5*, const ConstTensor5& planes) {
        loops.smooth.forward(slopes.rule(), to, planes, slopes.axes());
      });
  std::vector<double> sums(options.p.size(), 0.0);
  for (std::int64_t n = 0; n < gradients.size[0]; ++n) {
    for (std::int64_t c = 0; c < gradients.size[1]; ++c) {
      const auto at = [&](const ConstTensor5& tensor) { return element_of_plane(tensor, n, c); };
      sums[sums.size() > 1 ? static_cast<std::size_t>(c) : 0] += at(gradients) * at(as_const(factors));
    }
  }
  return sums;
}

// The public names differ in the spatial rank alone.
#define CENOTE_GLOBAL_OPS(RANK)                                                                              \
  Dims global_max_pool##RANK##d_shape(const Dims& x_sizes) {                                                 \
    return infer_sizes(op_of(kMax, RANK), x_sizes);                                                          \
  }                                                                                                          \
  Tensor global_max_pool##RANK##d(const ConstTensorView& x) { return max(op_of(kMax, RANK), x); }            \
  MaxPoolResult global_max_pool##RANK##d_with_indices(const ConstTensorView& x) {                            \
    return max_with_indices(op_of(kMax, RANK), x);                                                           \
  }                                                                                                          \
  void global_max_pool##RANK##d_into(const TensorView& y, const ConstTensorView& x,                          \
                                     const TensorView* indices) {                                            \
    max_into(op_of(kMax, RANK), y, x, indices);                                                              \
  }                                                                                                          \
  Tensor global_max_pool##RANK##d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,    \
                                           const Dims& x_sizes) {                                            \
    return max_backward(op_of(kMaxBackward, RANK), grad_y, indices, x_sizes);                                \
  }                                                                                                          \
  void global_max_pool##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,       \
                                              const ConstTensorView& indices) {                              \
    max_backward_into(op_of(kMaxBackward, RANK), grad_x, grad_y, indices);                                   \
  }                                                                                                          \
  Dims global_avg_pool##RANK##d_shape(const Dims& x_sizes, const GlobalAvgPoolOptions&) {                    \
    return infer_sizes(op_of(kAvg, RANK), x_sizes);                                                          \
  }                                                                                                          \
  Tensor global_avg_pool##RANK##d(const ConstTensorView& x, const GlobalAvgPoolOptions& options) {           \
    return avg(op_of(kAvg, RANK), x, options);                                                               \
  }                                                                                                          \
  void global_avg_pool##RANK##d_into(const TensorView& y, const ConstTensorView& x,                          \
                                     const GlobalAvgPoolOptions& options) {                                  \
    avg_into(op_of(kAvg, RANK), y, x, options);                                                              \
  }                                                                                                          \
  Tensor global_avg_pool##RANK##d_backward(const ConstTensorView& grad_y, const Dims& x_sizes,               \
                                           const GlobalAvgPoolOptions& options) {                            \
    return avg_backward(op_of(kAvgBackward, RANK), grad_y, x_sizes, options);                                \
  }                                                                                                          \
  void global_avg_pool##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,       \
                                              const GlobalAvgPoolOptions& options) {                         \
    avg_backward_into(op_of(kAvgBackward, RANK), grad_x, grad_y, options);                                   \
  }                                                                                                          \
  CENOTE_SMOOTH(global_lp_pool, GlobalLpPoolOptions, RANK)                                                   \
  CENOTE_SMOOTH(global_lse_pool, GlobalLsePoolOptions, RANK)                                                 \
  CENOTE_SMOOTH(global_gem_pool, GlobalGemPoolOptions, RANK)                                                 \
  CENOTE_SMOOTH(global_std_pool, GlobalStdPoolOptions, RANK)                                                 \
  CENOTE_SMOOTH(global_avgmax_pool, GlobalAvgMaxPoolOptions, RANK)                                           \
  Dims global_catavgmax_pool##RANK##d_shape(const Dims& x_sizes, const GlobalAvgMaxPoolOptions&) {           \
    return doubled_channels(op_of(kCatAvgMax, RANK), x_sizes);                                               \
  }                                                                                                          \
  Tensor global_catavgmax_pool##RANK##d(const ConstTensorView& x, const GlobalAvgMaxPoolOptions&) {          \
    return catavgmax(op_of(kCatAvgMax, RANK), x);                                                            \
  }                                                                                                          \
  void global_catavgmax_pool##RANK##d_into(const TensorView& y, const ConstTensorView& x,                    \
                                           const GlobalAvgMaxPoolOptions&) {                                 \
    catavgmax_into(op_of(kCatAvgMax, RANK), y, x);                                                           \
  }                                                                                                          \
  Tensor global_catavgmax_pool##RANK##d_backward(const ConstTensorView& grad_y, const ConstTensorView& x,    \
                                                 const GlobalAvgMaxPoolOptions&) {                           \
    return catavgmax_backward(op_of(kCatAvgMaxBackward, RANK), grad_y, x);                                   \
  }                                                                                                          \
  void global_catavgmax_pool##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y, \
                                                    const ConstTensorView& x,                                \
                                                    const GlobalAvgMaxPoolOptions&) {                        \
    catavgmax_backward_into(op_of(kCatAvgMaxBackward, RANK), grad_x, grad_y, x);                             \
  }

CENOTE_GLOBAL_OPS(1)
CENOTE_GLOBAL_OPS(2)
CENOTE_GLOBAL_OPS(3)
#undef CENOTE_GLOBAL_OPS

}  // namespace cenote
