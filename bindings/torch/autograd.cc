// Gradients. A recorded forward keeps the compact record (max), the indices it was given (unpooling), the
// input (ops whose gradient depends on it) or nothing but sizes (avg). The recorded backward is
// differentiable again; for the ops that keep their input it is then an expression of torch's own operators.
// Tangents of forward mode pass through all of them.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "expanded.h"
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
    if (op.gradient_reads_x && at::GradMode::is_enabled())
      return {differentiable_gradient(context, op, gradients[0]), at::Tensor()};
    Stack stack{gradients[0]};
    if (keeps_tensor(op)) stack.emplace_back(context->get_saved_variables()[0]);
    stack.push_back(context->saved_data["input_size"]);
    append(stack, kept_arguments(context->saved_data["arguments"]));
    stack.push_back(context->saved_data["channels_last"]);
    return {call_one(op, Form::kBackward, stack), at::Tensor()};
  }

 private:
  /// For create_graph: the gradient of the op as an expression of torch's own operators.
  static at::Tensor differentiable_gradient(AutogradContext* context, const OpInfo& op,
                                            const at::Tensor& gradient) {
    const at::Tensor x = context->get_saved_variables()[0];
    const OpArguments arguments = signature_of(op).unpack(kept_arguments(context->saved_data["arguments"]));
    return torch::autograd::grad({expanded(op, x, arguments)}, {x}, {gradient}, /*retain_graph=*/true,
                                 /*create_graph=*/true)[0];
  }
};

/// grad_x = op_backward(grad_y), differentiable with respect to grad_y, unless the gradient depends on x.
class PoolBackward : public torch::autograd::Function<PoolBackward> {
 public:
  /// `kept` is on the graph so that a gradient through x cannot be lost. Ops that keep nothing pass none:
  /// torch takes no undefined tensor here.
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
                                "_backward] is not differentiable itself: differentiate ", op.name,
                                " with create_graph");
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

bool records_gradient(const at::Tensor& tensor) {
  return at::GradMode::is_enabled() && tensor.requires_grad();
}

/// The tangent of forward-mode differentiation, of which torch has one level.
at::Tensor tangent_of(const at::Tensor& tensor) { return tensor._fw_grad(/*level=*/0); }

/// The tangent of the first output. `inputs` are those of the call, the first one with its tangent.
at::Tensor output_tangent(const OpInfo& op, Form form, std::span<const c10::IValue> inputs) {
  const at::Tensor x = inputs[0].toTensor();
  Stack stack(inputs.begin(), inputs.end());
  stack[0] = tangent_of(x);
  if (form == Form::kBackward) {  // linear in grad_y
    TORCH_CHECK_NOT_IMPLEMENTED(!op.gradient_reads_x, "[", op.name, "_backward] has no forward mode");
    return call_one(op, form, stack);
  }
  const OpArguments arguments = signature_of(op).unpack(inputs.subspan(leading_inputs(op, form)));
  if (op.gradient_reads_x) return tangent_of(expanded(op, x, arguments));
  if (!op.records_indices) return call_one(op, form, stack);  // linear in x
  Stack primal(inputs.begin(), inputs.end());
  primal[0] = x._fw_primal(/*level=*/0).detach();
  operator_of(op, Form::kWithIndices).callBoxed(&primal);
  return gather_at_record(op, stack[0].toTensor(), primal[1].toTensor(), arguments);
}

}  // namespace

void AutogradKernel::operator()(const c10::OperatorHandle& self, c10::DispatchKeySet keys,
                                Stack* stack) const {
  const c10::DispatchKeySet below = keys & c10::after_autograd_keyset;
  const std::size_t count = self.schema().arguments().size();
  const std::size_t first = stack->size() - count;
  const at::Tensor differentiable = (*stack)[first].toTensor();
  const bool backward = form_ == Form::kBackward;
  if (tangent_of(differentiable).defined()) {
    const at::Tensor tangent =
        translate_errors([&] { return output_tangent(op_, form_, {stack->data() + first, count}); });
    (*stack)[first] = differentiable._fw_primal(/*level=*/0);
    (*this)(self, keys, stack);
    const std::size_t outputs = self.schema().returns().size();
    (*stack)[stack->size() - outputs].toTensor()._set_fw_grad(tangent, /*level=*/0, /*is_inplace_op=*/false);
    return;
  }
  std::optional<at::Tensor> kept;
  if (backward && keeps_tensor(op_)) kept = (*stack)[first + 1].toTensor();
  const bool through_kept = op_.gradient_reads_x && kept && kept->defined() && records_gradient(*kept);
  if (!records_gradient(differentiable) && !through_kept) {
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
