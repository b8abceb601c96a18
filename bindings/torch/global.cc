// Global pooling as torch operators: the input is the only argument.
#include "cenote/global.h"

#include "cenote/torch/ops.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

std::string no_text(const std::string& /*rank*/) { return {}; }
void pack_nothing(Stack& /*stack*/, const OpArguments& /*arguments*/) {}
OpArguments unpack_nothing(std::span<const c10::IValue> /*values*/) { return {}; }

}  // namespace

constinit const Signature kEmptySignature{0, no_text, no_text, pack_nothing, unpack_nothing};

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

at::Tensor global_avg_pool1d(const at::Tensor& x) { return pool(op_named("global_avg_pool1d"), x); }
at::Tensor global_avg_pool2d(const at::Tensor& x) { return pool(op_named("global_avg_pool2d"), x); }
at::Tensor global_avg_pool3d(const at::Tensor& x) { return pool(op_named("global_avg_pool3d"), x); }

}  // namespace cenote::torch_ops
