// Calls of the torch binding's ops by their rows, as several tests want them.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "cenote/torch/ops.h"
#include "conformance/cases.h"
#include "conformance/torch_oracle.h"

namespace cenote_test {

namespace torch_ops = cenote::torch_ops;
using cenote::Dims;
using cenote::OpArguments;
using cenote::OpInfo;

inline const OpInfo& row(const char* name) { return *cenote::find_op(name); }
inline at::IntArrayRef to_array_ref(const Dims& dims) { return {dims.begin(), dims.end()}; }

inline at::Tensor tensor_of(const GuardedTensor& guarded) {
  const cenote::TensorView& view = guarded.view();
  const at::ScalarType type = scalar_type_of(view.dtype);
  const auto x = at::empty_strided(to_array_ref(view.sizes), to_array_ref(view.strides), type);
  return x.copy_(at::from_blob(view.data, to_array_ref(view.sizes), to_array_ref(view.strides), type));
}

/// A tensor with the sizes, strides and dtype of the case.
inline at::Tensor random_input(const Case& one) { return tensor_of(make_input(one)); }

/// The indices that the op of the case reads, if it does.
inline at::Tensor read_indices(const Case& one) {
  return one.op->reads_indices ? tensor_of(make_indices(one, one.layout)) : at::Tensor();
}

/// Options under which every op of the registry makes sense.
inline OpArguments common_arguments() {
  OpArguments arguments;
  arguments.kernel = 3;
  arguments.stride = 2;
  arguments.padding = 1;
  arguments.output_size = 3;
  return arguments;
}

/// Those for this op.
inline OpArguments common_arguments(const OpInfo& op) {
  OpArguments arguments = common_arguments();
  if (op.reads_indices) arguments.output_size = {};
  return arguments;
}

/// What an op reads beside x: different indices, from the end of the plane backwards; else nothing.
inline at::Tensor indices_for(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments) {
  if (!op.reads_indices) return {};
  const Dims x_sizes(x.sizes().data(), x.sizes().size());
  const Dims y_sizes = op.shape(x_sizes, arguments);
  const std::int64_t planes = x.size(0) * x.size(1);
  const at::Tensor sources = at::arange(x.numel() / planes, at::kLong);
  return (element_count(y_sizes) / planes - 1 - sources)
      .expand({planes, -1})
      .reshape(x.sizes())
      .contiguous(x.suggest_memory_format());
}

/// Forward of any op; `indices` of those that read them.
inline at::Tensor run(const OpInfo& op, const at::Tensor& x, const at::Tensor& indices,
                      const OpArguments& arguments) {
  return op.reads_indices ? torch_ops::unpool(op, x, indices, arguments) : torch_ops::pool(op, x, arguments);
}

inline at::Tensor ramp(at::IntArrayRef sizes) {
  const at::Tensor line = at::arange(c10::multiply_integers(sizes), at::kDouble);
  return (line * 0.7548776662466927).frac().reshape(sizes);  // distinct, and in no order
}

inline at::Tensor input_for(const OpInfo& op) {
  std::vector<std::int64_t> sizes{2, 3};
  sizes.insert(sizes.end(), static_cast<std::size_t>(op.spatial_rank), 6);
  return ramp(sizes);
}

}  // namespace cenote_test
