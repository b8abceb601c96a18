// Adaptive pooling on torch's tensors. torch's None in output_size (keep the size of that axis) is -1 here,
// since a schema has no list of optional numbers.
#include "cenote/adaptive.h"

#include "cenote/torch/ops.h"
#include "convert.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

OpArguments to_arguments(const AdaptivePoolOptions& options) {
  OpArguments arguments;
  arguments.output_size = options.output_size;
  return arguments;
}

OpArguments to_arguments(const AdaptiveAvgPoolOptions& options) {
  OpArguments arguments;
  arguments.output_size = options.output_size;
  arguments.quantization = options.quantization;
  return arguments;
}

OpArguments to_arguments(const AdaptiveLpPoolOptions& options) {
  OpArguments arguments;
  arguments.output_size = options.output_size;
  arguments.norm_type = options.norm_type;
  return arguments;
}

}  // namespace

at::Tensor adaptive_max_pool1d(const at::Tensor& x, const AdaptivePoolOptions& options) {
  return pool(op_named("adaptive_max_pool1d"), x, to_arguments(options));
}
at::Tensor adaptive_max_pool2d(const at::Tensor& x, const AdaptivePoolOptions& options) {
  return pool(op_named("adaptive_max_pool2d"), x, to_arguments(options));
}
at::Tensor adaptive_max_pool3d(const at::Tensor& x, const AdaptivePoolOptions& options) {
  return pool(op_named("adaptive_max_pool3d"), x, to_arguments(options));
}

ValuesAndIndices adaptive_max_pool1d_with_indices(const at::Tensor& x, const AdaptivePoolOptions& options) {
  return pool_with_indices(op_named("adaptive_max_pool1d"), x, to_arguments(options));
}
ValuesAndIndices adaptive_max_pool2d_with_indices(const at::Tensor& x, const AdaptivePoolOptions& options) {
  return pool_with_indices(op_named("adaptive_max_pool2d"), x, to_arguments(options));
}
ValuesAndIndices adaptive_max_pool3d_with_indices(const at::Tensor& x, const AdaptivePoolOptions& options) {
  return pool_with_indices(op_named("adaptive_max_pool3d"), x, to_arguments(options));
}

at::Tensor adaptive_avg_pool1d(const at::Tensor& x, const AdaptiveAvgPoolOptions& options) {
  return pool(op_named("adaptive_avg_pool1d"), x, to_arguments(options));
}
at::Tensor adaptive_avg_pool2d(const at::Tensor& x, const AdaptiveAvgPoolOptions& options) {
  return pool(op_named("adaptive_avg_pool2d"), x, to_arguments(options));
}
at::Tensor adaptive_avg_pool3d(const at::Tensor& x, const AdaptiveAvgPoolOptions& options) {
  return pool(op_named("adaptive_avg_pool3d"), x, to_arguments(options));
}

at::Tensor adaptive_lp_pool1d(const at::Tensor& x, const AdaptiveLpPoolOptions& options) {
  return pool(op_named("adaptive_lp_pool1d"), x, to_arguments(options));
}
at::Tensor adaptive_lp_pool2d(const at::Tensor& x, const AdaptiveLpPoolOptions& options) {
  return pool(op_named("adaptive_lp_pool2d"), x, to_arguments(options));
}
at::Tensor adaptive_lp_pool3d(const at::Tensor& x, const AdaptiveLpPoolOptions& options) {
  return pool(op_named("adaptive_lp_pool3d"), x, to_arguments(options));
}

}  // namespace cenote::torch_ops
