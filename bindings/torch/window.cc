// Window pooling on torch's tensors.
#include "cenote/window.h"

#include "cenote/torch/ops.h"
#include "convert.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

template <class Options>
OpArguments windowed_arguments(const Options& options) {
  OpArguments arguments;
  arguments.kernel = options.kernel;
  arguments.stride = options.stride;
  arguments.padding = options.padding;
  arguments.padding_end = options.padding_end;
  arguments.dilation = options.dilation;
  arguments.ceil_mode = options.ceil_mode;
  arguments.convention = options.convention;
  arguments.auto_pad = options.auto_pad;
  return arguments;
}

OpArguments to_arguments(const MaxPoolOptions& options) {
  OpArguments arguments = windowed_arguments(options);
  arguments.index_order = options.index_order;
  return arguments;
}

OpArguments to_arguments(const SumPoolOptions& options) { return windowed_arguments(options); }

OpArguments to_arguments(const AvgPoolOptions& options) {
  OpArguments arguments = windowed_arguments(options);
  arguments.count_include_pad = options.count_include_pad;
  arguments.divisor_override = options.divisor_override;
  arguments.quantization = options.quantization;
  return arguments;
}

OpArguments to_arguments(const LpPoolOptions& options) {
  OpArguments arguments = windowed_arguments(options);
  arguments.norm_type = options.norm_type;
  return arguments;
}

OpArguments to_arguments(const LsePoolOptions& options) {
  OpArguments arguments = windowed_arguments(options);
  arguments.sharpness = options.sharpness;
  return arguments;
}

OpArguments to_arguments(const SoftPoolOptions& options) {
  OpArguments arguments = windowed_arguments(options);
  arguments.sharpness = options.sharpness;
  return arguments;
}

}  // namespace

at::Tensor max_pool1d(const at::Tensor& x, const MaxPoolOptions& options) {
  return pool(op_named("max_pool1d"), x, to_arguments(options));
}
at::Tensor max_pool2d(const at::Tensor& x, const MaxPoolOptions& options) {
  return pool(op_named("max_pool2d"), x, to_arguments(options));
}
at::Tensor max_pool3d(const at::Tensor& x, const MaxPoolOptions& options) {
  return pool(op_named("max_pool3d"), x, to_arguments(options));
}

ValuesAndIndices max_pool1d_with_indices(const at::Tensor& x, const MaxPoolOptions& options) {
  return pool_with_indices(op_named("max_pool1d"), x, to_arguments(options));
}
ValuesAndIndices max_pool2d_with_indices(const at::Tensor& x, const MaxPoolOptions& options) {
  return pool_with_indices(op_named("max_pool2d"), x, to_arguments(options));
}
ValuesAndIndices max_pool3d_with_indices(const at::Tensor& x, const MaxPoolOptions& options) {
  return pool_with_indices(op_named("max_pool3d"), x, to_arguments(options));
}

at::Tensor min_pool1d(const at::Tensor& x, const MinPoolOptions& options) {
  return pool(op_named("min_pool1d"), x, to_arguments(options));
}
at::Tensor min_pool2d(const at::Tensor& x, const MinPoolOptions& options) {
  return pool(op_named("min_pool2d"), x, to_arguments(options));
}
at::Tensor min_pool3d(const at::Tensor& x, const MinPoolOptions& options) {
  return pool(op_named("min_pool3d"), x, to_arguments(options));
}

ValuesAndIndices min_pool1d_with_indices(const at::Tensor& x, const MinPoolOptions& options) {
  return pool_with_indices(op_named("min_pool1d"), x, to_arguments(options));
}
ValuesAndIndices min_pool2d_with_indices(const at::Tensor& x, const MinPoolOptions& options) {
  return pool_with_indices(op_named("min_pool2d"), x, to_arguments(options));
}
ValuesAndIndices min_pool3d_with_indices(const at::Tensor& x, const MinPoolOptions& options) {
  return pool_with_indices(op_named("min_pool3d"), x, to_arguments(options));
}

at::Tensor avg_pool1d(const at::Tensor& x, const AvgPoolOptions& options) {
  return pool(op_named("avg_pool1d"), x, to_arguments(options));
}
at::Tensor avg_pool2d(const at::Tensor& x, const AvgPoolOptions& options) {
  return pool(op_named("avg_pool2d"), x, to_arguments(options));
}
at::Tensor avg_pool3d(const at::Tensor& x, const AvgPoolOptions& options) {
  return pool(op_named("avg_pool3d"), x, to_arguments(options));
}

at::Tensor sum_pool1d(const at::Tensor& x, const SumPoolOptions& options) {
  return pool(op_named("sum_pool1d"), x, to_arguments(options));
}
at::Tensor sum_pool2d(const at::Tensor& x, const SumPoolOptions& options) {
  return pool(op_named("sum_pool2d"), x, to_arguments(options));
}
at::Tensor sum_pool3d(const at::Tensor& x, const SumPoolOptions& options) {
  return pool(op_named("sum_pool3d"), x, to_arguments(options));
}

at::Tensor lp_pool1d(const at::Tensor& x, const LpPoolOptions& options) {
  return pool(op_named("lp_pool1d"), x, to_arguments(options));
}
at::Tensor lp_pool2d(const at::Tensor& x, const LpPoolOptions& options) {
  return pool(op_named("lp_pool2d"), x, to_arguments(options));
}
at::Tensor lp_pool3d(const at::Tensor& x, const LpPoolOptions& options) {
  return pool(op_named("lp_pool3d"), x, to_arguments(options));
}

at::Tensor lse_pool1d(const at::Tensor& x, const LsePoolOptions& options) {
  return pool(op_named("lse_pool1d"), x, to_arguments(options));
}
at::Tensor lse_pool2d(const at::Tensor& x, const LsePoolOptions& options) {
  return pool(op_named("lse_pool2d"), x, to_arguments(options));
}
at::Tensor lse_pool3d(const at::Tensor& x, const LsePoolOptions& options) {
  return pool(op_named("lse_pool3d"), x, to_arguments(options));
}

at::Tensor soft_pool1d(const at::Tensor& x, const SoftPoolOptions& options) {
  return pool(op_named("soft_pool1d"), x, to_arguments(options));
}
at::Tensor soft_pool2d(const at::Tensor& x, const SoftPoolOptions& options) {
  return pool(op_named("soft_pool2d"), x, to_arguments(options));
}
at::Tensor soft_pool3d(const at::Tensor& x, const SoftPoolOptions& options) {
  return pool(op_named("soft_pool3d"), x, to_arguments(options));
}

at::Tensor median_pool1d(const at::Tensor& x, const MedianPoolOptions& options) {
  return pool(op_named("median_pool1d"), x, to_arguments(options));
}
at::Tensor median_pool2d(const at::Tensor& x, const MedianPoolOptions& options) {
  return pool(op_named("median_pool2d"), x, to_arguments(options));
}
at::Tensor median_pool3d(const at::Tensor& x, const MedianPoolOptions& options) {
  return pool(op_named("median_pool3d"), x, to_arguments(options));
}

ValuesAndIndices median_pool1d_with_indices(const at::Tensor& x, const MedianPoolOptions& options) {
  return pool_with_indices(op_named("median_pool1d"), x, to_arguments(options));
}
ValuesAndIndices median_pool2d_with_indices(const at::Tensor& x, const MedianPoolOptions& options) {
  return pool_with_indices(op_named("median_pool2d"), x, to_arguments(options));
}
ValuesAndIndices median_pool3d_with_indices(const at::Tensor& x, const MedianPoolOptions& options) {
  return pool_with_indices(op_named("median_pool3d"), x, to_arguments(options));
}

at::Tensor mode_pool1d(const at::Tensor& x, const ModePoolOptions& options) {
  return pool(op_named("mode_pool1d"), x, to_arguments(options));
}
at::Tensor mode_pool2d(const at::Tensor& x, const ModePoolOptions& options) {
  return pool(op_named("mode_pool2d"), x, to_arguments(options));
}
at::Tensor mode_pool3d(const at::Tensor& x, const ModePoolOptions& options) {
  return pool(op_named("mode_pool3d"), x, to_arguments(options));
}

ValuesAndIndices mode_pool1d_with_indices(const at::Tensor& x, const ModePoolOptions& options) {
  return pool_with_indices(op_named("mode_pool1d"), x, to_arguments(options));
}
ValuesAndIndices mode_pool2d_with_indices(const at::Tensor& x, const ModePoolOptions& options) {
  return pool_with_indices(op_named("mode_pool2d"), x, to_arguments(options));
}
ValuesAndIndices mode_pool3d_with_indices(const at::Tensor& x, const ModePoolOptions& options) {
  return pool_with_indices(op_named("mode_pool3d"), x, to_arguments(options));
}

}  // namespace cenote::torch_ops
