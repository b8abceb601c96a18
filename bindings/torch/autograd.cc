// Gradients. A recorded forward keeps the compact record (max) or nothing but sizes (avg); the recorded
// backward is differentiable again, since every op here is linear in its incoming gradient. An unpooling
// keeps the indices it was given.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "kernels.h"

namespace cenote::torch_ops {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// One dispatched call: the operator's inputs as they lie on the stack.
struct Call {
  const OpInfo& op;
  Form form;
  c10::DispatchKeySet below_autograd;
  std::span<const c10::IValue> inputs;
};

/// The trailing arguments of the op, kept as one list.
c10::IValue keep_arguments(std::span<const c10::IValue> values) {
  return c10::ivalue::Tuple::create(std::vector<c10::IValue>(values.begin(), values.end()));
}

std::span<const c10::IValue> kept_arguments(const c10::IValue& kept) {
  const auto elements = kept.toTupleRef().elements().asArrayRef();
  return {elements.data(), elements.size()};
}

void append(Stack& stack, std::span<const c10::IValue> values) {
  stack.insert(stack.end(), values.begin(), values.end());
}

at::Tensor call_one(const OpInfo& op, Form form, Stack& stack) {
  operator_of(op, form).callBoxed(&stack);
  return stack[0].toTensor();
}

const OpInfo& kept_op(AutogradContext* context) { return op_named(context->saved_data["op"].toStringRef()); }

/// y = op(x), and the record for the forms that return it.
class Pool : public torch::autograd::Function<Pool> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const Call& call) {
    const OpInfo& op = call.op;
    const Form form = op.records_indices && call.form == Form::kForward ? Form::kWithTaps : call.form;
    Stack stack(call.inputs.begin(), call.inputs.end());
    operator_of(op, form).redispatchBoxed(call.below_autograd, &stack);

    context->saved_data["op"] = std::string(op.name);
    context->saved_data["input_size"] = to_array_ref(sizes_of(x));
    context->saved_data["arguments"] = keep_arguments(call.inputs.subspan(leading_inputs(op, form)));
    context->saved_data["channels_last"] = is_channels_last(x, op.spatial_rank);
    if (op.records_indices) context->save_for_backward({stack[1].toTensor()});
    if (op.reads_indices) context->save_for_backward({call.inputs[1].toTensor()});
    if (op.gradient_reads_x) context->save_for_backward({x});
    if (call.form == Form::kForward) return {stack[0].toTensor()};
    context->mark_non_differentiable({stack[1].toTensor()});
    return {stack[0].toTensor(), stack[1].toTensor()};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const OpInfo& op = kept_op(context);
    Stack stack{gradients[0]};
    if (keeps_tensor(op)) stack.emplace_back(context->get_saved_variables()[0]);
    stack.push_back(context->saved_data["input_size"]);
    append(stack, kept_arguments(context->saved_data["arguments"]));
    stack.push_back(context->saved_data["channels_last"]);
    return {call_one(op, Form::kBackward, stack), at::Tensor()};
  }
};

/// grad_x = op_backward(grad_y), differentiable with respect to grad_y, unless the gradient depends on x.
class PoolBackward : public torch::autograd::Function<PoolBackward> {
 public:
  /// `kept`, where the op keeps a tensor, is on the graph so that a gradient through x cannot be lost.
  static variable_list forward(AutogradContext* context, const at::Tensor& /*grad_y*/,
                               const std::optional<at::Tensor>& /*kept*/, const Call& call) {
    const OpInfo& op = call.op;
    Stack stack(call.inputs.begin(), call.inputs.end());
    operator_of(op, Form::kBackward).redispatchBoxed(call.below_autograd, &stack);

    const std::size_t first = leading_inputs(op, Form::kBackward);
    context->saved_data["op"] = std::string(op.name);
    context->saved_data["arguments"] = keep_arguments(call.inputs.subspan(first, signature_of(op).count()));
    if (op.uses_indices()) context->save_for_backward({call.inputs[1].toTensor()});
    return {stack[0].toTensor()};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const OpInfo& op = kept_op(context);
    const auto arguments = kept_arguments(context->saved_data["arguments"]);
    TORCH_CHECK_NOT_IMPLEMENTED(!op.gradient_reads_x, "[", op.name,
                                "] has no double backward: its gradient depends on the input");
    if (op.records_indices) {
      const at::Tensor record = context->get_saved_variables()[0];
      return {gather_at_record(op, gradients[0], record, signature_of(op).unpack(arguments)), at::Tensor(),
              at::Tensor()};
    }
    if (op.reads_indices) {
      const at::Tensor indices = context->get_saved_variables()[0];
      return {scatter_at_indices(op, gradients[0], indices, signature_of(op).unpack(arguments)), at::Tensor(),
              at::Tensor()};
    }
    Stack stack{gradients[0]};
    append(stack, arguments);
    return {call_one(op, Form::kForward, stack), at::Tensor(), at::Tensor()};
  }
};

/// A forward-mode tangent goes through Function too, which refuses it; passing it by would lose it.
bool wants_gradient(const at::Tensor& tensor) {
  return (at::GradMode::is_enabled() && tensor.requires_grad()) || tensor._fw_grad(/*level=*/0).defined();
}

}  // namespace

void AutogradKernel::operator()(const c10::OperatorHandle& self, c10::DispatchKeySet keys,
                                Stack* stack) const {
  const c10::DispatchKeySet below = keys & c10::after_autograd_keyset;
  const std::size_t count = self.schema().arguments().size();
  const std::size_t first = stack->size() - count;
  const at::Tensor differentiable = (*stack)[first].toTensor();
  const bool backward = form_ == Form::kBackward;
  // Not an undefined tensor: autograd asks what it is given for its device.
  std::optional<at::Tensor> kept;
  if (backward && keeps_tensor(op_)) kept = (*stack)[first + 1].toTensor();
  const bool through_kept = op_.gradient_reads_x && kept && kept->defined() && wants_gradient(*kept);
  if (!wants_gradient(differentiable) && !through_kept) {
    self.redispatchBoxed(below, stack);
    return;
  }
  const variable_list outputs = translate_errors([&] {
    const Call call{op_, form_, below, {stack->data() + first, count}};
    return backward ? PoolBackward::apply(differentiable, kept, call) : Pool::apply(differentiable, call);
  });
  torch::jit::drop(*stack, count);
  for (const at::Tensor& output : outputs) stack->emplace_back(output);
}

}  // namespace cenote::torch_ops
