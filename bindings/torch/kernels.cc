// The CPU and Meta kernels: arguments from the stack, outputs in the layout of the input, one call into
// libcenote. On meta tensors everything happens but that call.
#include "kernels.h"

#include <optional>
#include <string>

#include "convert.h"

namespace cenote::torch_ops {

namespace {

DType record_dtype(const OpInfo& op, Form form, const Dims& x_sizes, const OpArguments& arguments) {
  return form == Form::kWithTaps ? op.tap_dtype(x_sizes, arguments) : DType::i64;
}

/// The indices that the forward of an op reads, by the pointer that other ops write through.
TensorView read_indices(const at::Tensor& indices, const OpInfo& op) {
  const ConstTensorView view = const_view(indices, op, "indices");
  return {const_cast<void*>(view.data), view.dtype, view.sizes, view.strides};
}

/// What the checks of a forward with indices look at, for meta tensors, which have no elements to check.
void check_read_indices(const OpInfo& op, const at::Tensor& indices, const Dims& x_sizes) {
  TORCH_CHECK_VALUE(indices.defined(), "[", op.name, "] indices must be given");
  const Dims sizes = sizes_of(indices);
  TORCH_CHECK_VALUE(indices.scalar_type() == at::kLong, "[", op.name, "] indices dtype must be i64, got ",
                    c10::toString(indices.scalar_type()));
  TORCH_CHECK_VALUE(sizes == x_sizes, "[", op.name, "] indices must have sizes ", to_string(x_sizes),
                    ", got ", to_string(sizes));
}

/// Forms with x: y, and the record where the form has one. `indices` of an op that reads them.
std::vector<at::Tensor> run_forward(const OpInfo& op, Form form, const at::Tensor& x,
                                    const at::Tensor& indices, const OpArguments& arguments) {
  if (op.pools_integers()) {
    require_pooled_dtype(x, op, "x");
  } else {
    require_gradient_dtype(x, op, "x");
  }
  const Dims x_sizes = sizes_of(x);
  const Dims y_sizes = op.shape(x_sizes, arguments);
  if (op.reads_indices) check_read_indices(op, indices, x_sizes);
  const bool channels_last = is_channels_last(x, op.spatial_rank);
  std::vector<at::Tensor> outputs{empty_dense(y_sizes, x.scalar_type(), x, channels_last, op.spatial_rank)};
  if (form != Form::kForward) {
    const at::ScalarType type = to_scalar_type(record_dtype(op, form, x_sizes, arguments));
    outputs.push_back(empty_dense(y_sizes, type, x, channels_last, op.spatial_rank));
  }
  if (x.is_meta()) return outputs;
  const TensorView y = mutable_view(outputs[0], op, "y");
  if (op.reads_indices) {
    const TensorView record = read_indices(indices, op);
    op.forward(y, &record, const_view(x, op, "x"), arguments);
  } else if (form == Form::kForward) {
    op.forward(y, nullptr, const_view(x, op, "x"), arguments);
  } else {
    const TensorView record = mutable_view(outputs[1], op, "indices");
    op.forward(y, &record, const_view(x, op, "x"), arguments);
  }
  return outputs;
}

struct BackwardCall {
  at::Tensor grad_y;
  at::Tensor kept;  // the indices or x, where the op keeps them
  Dims x_sizes;
  OpArguments arguments;
  std::optional<bool> channels_last;
};

BackwardCall unpack_backward(const OpInfo& op, const Stack& stack, std::size_t first) {
  const Signature& signature = signature_of(op);
  BackwardCall call;
  call.grad_y = stack[first++].toTensor();
  if (keeps_tensor(op)) call.kept = stack[first++].toTensor();
  call.x_sizes = to_dims(stack[first++].toDimVector());
  call.arguments = signature.unpack({stack.data() + first, signature.count()});
  call.channels_last = stack[first + signature.count()].toOptional<bool>();
  return call;
}

void check_sizes(const OpInfo& op, const char* argument, const at::Tensor& tensor, const Dims& expected) {
  const Dims sizes = sizes_of(tensor);
  if (sizes == expected) return;
  throw Error(ErrorCode::kInvalidArgument, "[" + std::string(op.name) + "_backward] " + argument +
                                               " must have sizes " + to_string(expected) + ", got " +
                                               to_string(sizes));
}

at::Tensor run_backward(const OpInfo& op, const BackwardCall& call) {
  require_gradient_dtype(call.grad_y, op, "grad_output");
  const Dims y_sizes = op.shape(call.x_sizes, call.arguments);
  check_sizes(op, "grad_output", call.grad_y, y_sizes);
  if (op.uses_indices()) {
    TORCH_CHECK_VALUE(call.kept.defined(), "[", op.name, "_backward] indices must be given");
    check_sizes(op, "indices", call.kept, op.reads_indices ? call.x_sizes : y_sizes);
  }
  if (op.gradient_reads_x) {
    TORCH_CHECK_VALUE(call.kept.defined(), "[", op.name, "_backward] input must be given");
    check_sizes(op, "input", call.kept, call.x_sizes);
  }
  const bool channels_last = call.channels_last.value_or(is_channels_last(call.grad_y, op.spatial_rank));
  const at::Tensor grad_x =
      empty_dense(call.x_sizes, call.grad_y.scalar_type(), call.grad_y, channels_last, op.spatial_rank);
  if (grad_x.is_meta()) return grad_x;
  const TensorView to = mutable_view(grad_x, op, "grad_input");
  const ConstTensorView from = const_view(call.grad_y, op, "grad_output");
  if (keeps_tensor(op)) {
    const ConstTensorView kept = const_view(call.kept, op, op.uses_indices() ? "indices" : "input");
    op.backward(to, from, &kept, call.arguments);
  } else {
    op.backward(to, from, nullptr, call.arguments);
  }
  return grad_x;
}

}  // namespace

void DeviceKernel::operator()(const c10::OperatorHandle& self, c10::DispatchKeySet /*keys*/,
                              Stack* stack) const {
  const std::size_t count = self.schema().arguments().size();
  const std::size_t first = stack->size() - count;
  const std::vector<at::Tensor> outputs = translate_errors([&]() -> std::vector<at::Tensor> {
    if (form_ == Form::kBackward) return {run_backward(op_, unpack_backward(op_, *stack, first))};
    const std::size_t leading = leading_inputs(op_, form_);
    OpArguments arguments = signature_of(op_).unpack({stack->data() + first + leading, count - leading});
    at::Tensor samples;
    if (op_.parameters & kTakesSamples) samples = samples_for(op_, {stack->data() + first, count});
    if (samples.defined() && !samples.is_meta()) arguments.samples = const_view(samples, op_, "samples");
    const at::Tensor indices = op_.reads_indices ? (*stack)[first + 1].toTensor() : at::Tensor();
    return run_forward(op_, form_, (*stack)[first].toTensor(), indices, arguments);
  });
  torch::jit::drop(*stack, count);
  for (const at::Tensor& output : outputs) stack->emplace_back(output);
}

}  // namespace cenote::torch_ops
