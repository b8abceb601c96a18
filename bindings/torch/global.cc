// Global pooling on torch's tensors.
#include "cenote/global.h"

#include "cenote/torch/ops.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

OpArguments to_arguments(const GlobalAvgPoolOptions& options) {
  OpArguments arguments;
  arguments.quantization = options.quantization;
  return arguments;
}

OpArguments to_arguments(const GlobalLpPoolOptions& options) {
  OpArguments arguments;
  arguments.norm_type = options.norm_type;
  return arguments;
}

OpArguments to_arguments(const GlobalLsePoolOptions& options) {
  OpArguments arguments;
  arguments.sharpness = options.sharpness;
  return arguments;
}

OpArguments to_arguments(const GlobalGemPoolOptions& options) {
  OpArguments arguments;
  arguments.p = options.p;
  arguments.eps = options.eps;
  return arguments;
}

OpArguments to_arguments(const GlobalStdPoolOptions& /*options*/) { return {}; }
OpArguments to_arguments(const GlobalAvgMaxPoolOptions& /*options*/) { return {}; }

}  // namespace

at::Tensor global_max_pool1d(const at::Tensor& x) { return pool(op_named("global_max_pool1d"), x); }
at::Tensor global_max_pool2d(const at::Tensor& x) { return pool(op_named("global_max_pool2d"), x); }
at::Tensor global_max_pool3d(const at::Tensor& x) { return pool(op_named("global_max_pool3d"), x); }

ValuesAndIndices global_max_pool1d_with_indices(const at::Tensor& x) {
  return pool_with_indices(op_named("global_max_pool1d"), x);
}
ValuesAndIndices global_max_pool2d_with_indices(const at::Tensor& x) {
  return pool_with_indices(op_named("global_max_pool2d"), x);
}
ValuesAndIndices global_max_pool3d_with_indices(const at::Tensor& x) {
  return pool_with_indices(op_named("global_max_pool3d"), x);
}

at::Tensor global_avg_pool1d(const at::Tensor& x, const GlobalAvgPoolOptions& options) {
  return pool(op_named("global_avg_pool1d"), x, to_arguments(options));
}
at::Tensor global_avg_pool2d(const at::Tensor& x, const GlobalAvgPoolOptions& options) {
  return pool(op_named("global_avg_pool2d"), x, to_arguments(options));
}
at::Tensor global_avg_pool3d(const at::Tensor& x, const GlobalAvgPoolOptions& options) {
  return pool(op_named("global_avg_pool3d"), x, to_arguments(options));
}

at::Tensor global_lp_pool1d(const at::Tensor& x, const GlobalLpPoolOptions& options) {
  return pool(op_named("global_lp_pool1d"), x, to_arguments(options));
}
at::Tensor global_lp_pool2d(const at::Tensor& x, const GlobalLpPoolOptions& options) {
  return pool(op_named("global_lp_pool2d"), x, to_arguments(options));
}
at::Tensor global_lp_pool3d(const at::Tensor& x, const GlobalLpPoolOptions& options) {
  return pool(op_named("global_lp_pool3d"), x, to_arguments(options));
}

at::Tensor global_lse_pool1d(const at::Tensor& x, const GlobalLsePoolOptions& options) {
  return pool(op_named("global_lse_pool1d"), x, to_arguments(options));
}
at::Tensor global_lse_pool2d(const at::Tensor& x, const GlobalLsePoolOptions& options) {
  return pool(op_named("global_lse_pool2d"), x, to_arguments(options));
}
at::Tensor global_lse_pool3d(const at::Tensor& x, const GlobalLsePoolOptions& options) {
  return pool(op_named("global_lse_pool3d"), x, to_arguments(options));
}

at::Tensor global_gem_pool1d(const at::Tensor& x, const GlobalGemPoolOptions& options) {
  return pool(op_named("global_gem_pool1d"), x, to_arguments(options));
}
at::Tensor global_gem_pool2d(const at::Tensor& x, const GlobalGemPoolOptions& options) {
  return pool(op_named("global_gem_pool2d"), x, to_arguments(options));
}
at::Tensor global_gem_pool3d(const at::Tensor& x, const GlobalGemPoolOptions& options) {
  return pool(op_named("global_gem_pool3d"), x, to_arguments(options));
}

at::Tensor global_std_pool1d(const at::Tensor& x, const GlobalStdPoolOptions& options) {
  return pool(op_named("global_std_pool1d"), x, to_arguments(options));
}
at::Tensor global_std_pool2d(const at::Tensor& x, const GlobalStdPoolOptions& options) {
  return pool(op_named("global_std_pool2d"), x, to_arguments(options));
}
at::Tensor global_std_pool3d(const at::Tensor& x, const GlobalStdPoolOptions& options) {
  return pool(op_named("global_std_pool3d"), x, to_arguments(options));
}

at::Tensor global_avgmax_pool1d(const at::Tensor& x, const GlobalAvgMaxPoolOptions& options) {
  return pool(op_named("global_avgmax_pool1d"), x, to_arguments(options));
}
at::Tensor global_avgmax_pool2d(const at::Tensor& x, const GlobalAvgMaxPoolOptions& options) {
  return pool(op_named("global_avgmax_pool2d"), x, to_arguments(options));
}
at::Tensor global_avgmax_pool3d(const at::Tensor& x, const GlobalAvgMaxPoolOptions& options) {
  return pool(op_named("global_avgmax_pool3d"), x, to_arguments(options));
}

at::Tensor global_catavgmax_pool1d(const at::Tensor& x, const GlobalAvgMaxPoolOptions& options) {
  return pool(op_named("global_catavgmax_pool1d"), x, to_arguments(options));
}
at::Tensor global_catavgmax_pool2d(const at::Tensor& x, const GlobalAvgMaxPoolOptions& options) {
  return pool(op_named("global_catavgmax_pool2d"), x, to_arguments(options));
}
at::Tensor global_catavgmax_pool3d(const at::Tensor& x, const GlobalAvgMaxPoolOptions& options) {
  return pool(op_named("global_catavgmax_pool3d"), x, to_arguments(options));
}

}  // namespace cenote::torch_ops
