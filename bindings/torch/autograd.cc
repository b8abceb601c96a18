// Gradients and tangents. A recorded forward keeps the compact record (max), the indices it was given
// (unpooling), the input (ops whose gradient depends on it: derivatives.h) or nothing but sizes (avg). All
// but those that keep their input are linear once the record is fixed, and so are their gradients.
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "derivatives.h"
#include "expanded.h"
#include "kernels.h"

namespace cenote::torch_ops {

namespace {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using Values = std::vector<c10::IValue>;

void append(Stack& stack, std::span<const c10::IValue> values) {
  stack.insert(stack.end(), values.begin(), values.end());
}

at::Tensor call_one(const OpInfo& op, Form form, Stack& stack) {
  operator_of(op, form).callBoxed(&stack);
  return stack[0].toTensor();
}

/// What is common to the two nodes of an op that is linear but for its record.
class LinearNode : public Node {
 public:
  LinearNode(const OpInfo& op, const at::Tensor& differentiable, const at::Tensor& record, Values arguments)
      : Node(torch::autograd::collect_next_edges(differentiable)),
        op_(op),
        record_(record, /*is_output=*/false),
        arguments_(std::move(arguments)) {}

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    record_.reset_data();
  }

  variable_list apply(variable_list&& gradients) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!gradients[0].defined()) return {at::Tensor()};
    return {gradient_of(gradients[0], op_.uses_indices() ? record_.unpack() : at::Tensor())};
  }

 protected:
  virtual at::Tensor gradient_of(const at::Tensor& outer, const at::Tensor& record) = 0;

  const OpInfo& op_;
  SavedVariable record_;
  Values arguments_;
};

/// y = op(x).
class PoolNode : public LinearNode {
 public:
  PoolNode(const OpInfo& op, const at::Tensor& x, const at::Tensor& record, Values arguments)
      : LinearNode(op, x, record, std::move(arguments)),
        x_sizes_(sizes_of(x)),
        channels_last_(is_channels_last(x, op.spatial_rank)) {}
  std::string name() const override { return std::string(op_.name) + "_backward"; }

 protected:
  at::Tensor gradient_of(const at::Tensor& grad_y, const at::Tensor& record) override {
    Stack stack{grad_y};
    if (op_.uses_indices()) stack.emplace_back(record);
    stack.emplace_back(to_array_ref(x_sizes_));
    append(stack, arguments_);
    stack.emplace_back(channels_last_);
    return call_one(op_, Form::kBackward, stack);
  }

 private:
  Dims x_sizes_;
  bool channels_last_;
};

/// The derivative of grad_x = op_backward(grad_y), at `outer`.
at::Tensor adjoint_of_backward(const OpInfo& op, const at::Tensor& outer, const at::Tensor& record,
                               const Values& arguments) {
  if (op.records_indices) return gather_at_record(op, outer, record, signature_of(op).unpack(arguments));
  if (op.reads_indices) return scatter_at_indices(op, outer, record, signature_of(op).unpack(arguments));
  Stack stack{outer};
  append(stack, arguments);
  return call_one(op, Form::kForward, stack);
}

class PoolBackwardNode : public LinearNode {
 public:
  using LinearNode::LinearNode;
  std::string name() const override { return std::string(op_.name) + "_backward_backward"; }

 protected:
  at::Tensor gradient_of(const at::Tensor& outer, const at::Tensor& record) override {
    return adjoint_of_backward(op_, outer, record, arguments_);
  }
};

/// One call of an operator: its inputs, and how to compute below autograd.
struct Call {
  const OpInfo& op;
  Form form;
  c10::DispatchKeySet below_autograd;
  Values inputs;

  /// The outputs of another form of the op for the same inputs.
  Stack compute(Form other) const {
    Stack stack(inputs.begin(), inputs.end());
    operator_of(op, other).redispatchBoxed(below_autograd, &stack);
    return stack;
  }
  /// The arguments as they lie on the stack.
  Values arguments() const {
    const auto first = inputs.begin() + static_cast<std::ptrdiff_t>(leading_inputs(op, form));
    return {first, first + static_cast<std::ptrdiff_t>(signature_of(op).count())};
  }
};

/// An op, or its backward, whose gradient depends on x.
Stack run_smooth(const Call& call) {
  const OpInfo& op = call.op;
  const bool backward = call.form == Form::kBackward;
  const at::Tensor x = call.inputs[backward ? 1 : 0].toTensor();
  const Values arguments = call.arguments();
  const auto derivatives = std::make_shared<Derivatives>();
  derivatives->name = std::string(op.name);
  derivatives->expression = [&op, arguments](const variable_list& inputs) {
    return expanded(op, inputs[0], signature_of(op).unpack(arguments));
  };
  derivatives->gradients = [&op, arguments](const at::Tensor& grad_y, const variable_list& inputs,
                                            const std::vector<bool>& /*wanted*/) -> variable_list {
    const Dims x_sizes = sizes_of(inputs[0]);
    Stack stack{grad_y, inputs[0], to_array_ref(x_sizes)};
    append(stack, arguments);
    stack.emplace_back(is_channels_last(inputs[0], op.spatial_rank));
    return {call_one(op, Form::kBackward, stack)};
  };
  Stack outputs = call.compute(call.form);
  if (backward) {
    record_gradients({outputs[0].toTensor()}, call.inputs[0].toTensor(), {x}, derivatives);
  } else {
    record_value(outputs[0].toTensor(), {x}, derivatives);
  }
  return outputs;
}

/// The backward of an op that is linear but for its record.
Stack run_linear_backward(const Call& call) {
  const OpInfo& op = call.op;
  const at::Tensor grad_y = call.inputs[0].toTensor();
  Stack outputs = call.compute(Form::kBackward);
  const at::Tensor grad_x = outputs[0].toTensor();
  if (records_gradient(grad_y)) {
    const at::Tensor record = op.uses_indices() ? call.inputs[1].toTensor() : at::Tensor();
    torch::autograd::set_history(grad_x,
                                 c10::make_intrusive<PoolBackwardNode>(op, grad_y, record, call.arguments()));
  }
  if (const at::Tensor tangent = tangent_of(grad_y); tangent.defined()) {
    Stack stack(call.inputs.begin(), call.inputs.end());
    stack[0] = tangent;
    set_tangent(grad_x, call_one(op, Form::kBackward, stack));
  }
  return outputs;
}

/// An op that is linear but for its record. The call without one makes one for its own use, compact if it
/// can.
Stack run_linear(const Call& call) {
  const OpInfo& op = call.op;
  const at::Tensor x = call.inputs[0].toTensor();
  const OpArguments arguments = signature_of(op).unpack(call.arguments());
  const bool own_record = op.records_indices && call.form == Form::kForward;
  const Form record_form = arguments.index_order == IndexOrder::kPlane ? Form::kWithTaps : Form::kWithIndices;
  Stack outputs = call.compute(own_record ? record_form : call.form);
  const at::Tensor y = outputs[0].toTensor();
  at::Tensor record;
  if (op.records_indices) record = outputs[1].toTensor();
  if (op.reads_indices) record = call.inputs[1].toTensor();
  if (records_gradient(x))
    torch::autograd::set_history(y, c10::make_intrusive<PoolNode>(op, x, record, call.arguments()));
  if (const at::Tensor tangent = tangent_of(x); tangent.defined()) {
    if (op.records_indices) {
      set_tangent(y, gather_at_record(op, tangent, record, arguments));
    } else {
      Stack stack(call.inputs.begin(), call.inputs.end());
      stack[0] = tangent;
      set_tangent(y, call_one(op, call.form, stack));
    }
  }
  if (own_record) outputs.pop_back();
  return outputs;
}

}  // namespace

void AutogradKernel::operator()(const c10::OperatorHandle& self, c10::DispatchKeySet keys,
                                Stack* stack) const {
  const c10::DispatchKeySet below = keys & c10::after_autograd_keyset;
  const std::size_t count = self.schema().arguments().size();
  const auto first = stack->end() - static_cast<std::ptrdiff_t>(count);
  if ((op_.parameters & kTakesSamples) != 0 && form_ != Form::kBackward) {
    // Drawn here already, a graph shows torch's own operator, of which two are not taken for one.
    const at::Tensor samples = samples_for(op_, {first, stack->end()});
    if (samples.defined()) *(stack->end() - 2) = samples;
  }
  const bool through_x = op_.gradient_reads_x && form_ == Form::kBackward;
  if (!is_differentiated(first[0].toTensor()) && !(through_x && is_differentiated(first[1].toTensor()))) {
    self.redispatchBoxed(below, stack);
    return;
  }
  const Call call{op_, form_, below, {first, stack->end()}};
  const Stack outputs = translate_errors([&] {
    if (op_.gradient_reads_x) return run_smooth(call);
    return form_ == Form::kBackward ? run_linear_backward(call) : run_linear(call);
  });
  torch::jit::drop(*stack, count);
  append(*stack, outputs);
}

}  // namespace cenote::torch_ops
