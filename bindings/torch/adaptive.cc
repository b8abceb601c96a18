// Adaptive pooling as torch operators. torch's None in output_size (keep the size of that axis) is -1 here,
// since a schema has no list of optional numbers.
#include "cenote/adaptive.h"

#include "cenote/torch/ops.h"
#include "convert.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

std::string positional(const std::string& rank) { return ", int[" + rank + "] output_size"; }
std::string keyword(const std::string& /*rank*/) { return {}; }

void pack(Stack& stack, const OpArguments& arguments) {
  stack.emplace_back(to_array_ref(arguments.output_size));
}

OpArguments unpack(std::span<const c10::IValue> values) {
  OpArguments arguments;
  arguments.output_size = to_dims(values[0].toDimVector());
  return arguments;
}

OpArguments to_arguments(const AdaptivePoolOptions& options) {
  OpArguments arguments;
  arguments.output_size = options.output_size;
  return arguments;
}

}  // namespace

constinit const Signature kOutputSizeSignature{1, positional, keyword, pack, unpack};

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

at::Tensor adaptive_avg_pool1d(const at::Tensor& x, const AdaptivePoolOptions& options) {
  return pool(op_named("adaptive_avg_pool1d"), x, to_arguments(options));
}
at::Tensor adaptive_avg_pool2d(const at::Tensor& x, const AdaptivePoolOptions& options) {
  return pool(op_named("adaptive_avg_pool2d"), x, to_arguments(options));
}
at::Tensor adaptive_avg_pool3d(const at::Tensor& x, const AdaptivePoolOptions& options) {
  return pool(op_named("adaptive_avg_pool3d"), x, to_arguments(options));
}

}  // namespace cenote::torch_ops
