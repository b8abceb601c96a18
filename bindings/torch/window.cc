// Window pooling as torch operators: torch's argument names and defaults, with padding_end for both kinds
// and dilation for avg as keywords.
#include "cenote/window.h"

#include "cenote/torch/ops.h"
#include "convert.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

// ---- max: kernel_size, stride, padding, dilation, ceil_mode, *, padding_end

std::string max_positional(const std::string& rank) {
  const std::string ints = ", int[" + rank + "] ";
  return ints + "kernel_size" + ints + "stride=[]" + ints + "padding=0" + ints + "dilation=1" +
         ", bool ceil_mode=False";
}

std::string max_keyword(const std::string& rank) { return ", int[" + rank + "] padding_end=[]"; }

void pack_max(Stack& stack, const OpArguments& arguments) {
  for (const Dims* dims : {&arguments.kernel, &arguments.stride, &arguments.padding, &arguments.dilation}) {
    stack.emplace_back(to_array_ref(*dims));
  }
  stack.emplace_back(arguments.ceil_mode);
  stack.emplace_back(to_array_ref(arguments.padding_end));
}

OpArguments unpack_max(std::span<const c10::IValue> values) {
  OpArguments arguments;
  arguments.kernel = to_dims(values[0].toDimVector());
  arguments.stride = to_dims(values[1].toDimVector());
  arguments.padding = to_dims(values[2].toDimVector());
  arguments.dilation = to_dims(values[3].toDimVector());
  arguments.ceil_mode = values[4].toBool();
  arguments.padding_end = to_dims(values[5].toDimVector());
  return arguments;
}

OpArguments to_arguments(const MaxPoolOptions& options) {
  OpArguments arguments;
  arguments.kernel = options.kernel;
  arguments.stride = options.stride;
  arguments.padding = options.padding;
  arguments.padding_end = options.padding_end;
  arguments.dilation = options.dilation;
  arguments.ceil_mode = options.ceil_mode;
  return arguments;
}

// ---- avg: kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, *, padding_end,
// dilation

std::string avg_positional(const std::string& rank) {
  const std::string ints = ", int[" + rank + "] ";
  return ints + "kernel_size" + ints + "stride=[]" + ints + "padding=0" +
         ", bool ceil_mode=False, bool count_include_pad=True, int? divisor_override=None";
}

std::string avg_keyword(const std::string& rank) {
  return ", int[" + rank + "] padding_end=[], int[" + rank + "] dilation=1";
}

void pack_avg(Stack& stack, const OpArguments& arguments) {
  for (const Dims* dims : {&arguments.kernel, &arguments.stride, &arguments.padding}) {
    stack.emplace_back(to_array_ref(*dims));
  }
  stack.emplace_back(arguments.ceil_mode);
  stack.emplace_back(arguments.count_include_pad);
  stack.emplace_back(arguments.divisor_override);
  stack.emplace_back(to_array_ref(arguments.padding_end));
  stack.emplace_back(to_array_ref(arguments.dilation));
}

OpArguments unpack_avg(std::span<const c10::IValue> values) {
  OpArguments arguments;
  arguments.kernel = to_dims(values[0].toDimVector());
  arguments.stride = to_dims(values[1].toDimVector());
  arguments.padding = to_dims(values[2].toDimVector());
  arguments.ceil_mode = values[3].toBool();
  arguments.count_include_pad = values[4].toBool();
  if (!values[5].isNone()) arguments.divisor_override = values[5].toInt();
  arguments.padding_end = to_dims(values[6].toDimVector());
  arguments.dilation = to_dims(values[7].toDimVector());
  return arguments;
}

OpArguments to_arguments(const AvgPoolOptions& options) {
  OpArguments arguments;
  arguments.kernel = options.kernel;
  arguments.stride = options.stride;
  arguments.padding = options.padding;
  arguments.padding_end = options.padding_end;
  arguments.dilation = options.dilation;
  arguments.ceil_mode = options.ceil_mode;
  arguments.count_include_pad = options.count_include_pad;
  arguments.divisor_override = options.divisor_override;
  return arguments;
}

}  // namespace

constinit const Signature kWindowMaxSignature{6, max_positional, max_keyword, pack_max, unpack_max};
constinit const Signature kWindowAvgSignature{8, avg_positional, avg_keyword, pack_avg, unpack_avg};

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

}  // namespace cenote::torch_ops
