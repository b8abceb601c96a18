// Schemas and dispatcher handles for every row of the registry, and the calls of ops.h by row.
#include "operators.h"

#include <array>
#include <optional>

#include "cenote/torch/ops.h"
#include "convert.h"

namespace cenote::torch_ops {

namespace {

constexpr std::array<Form, 4> kForms{Form::kForward, Form::kWithIndices, Form::kWithTaps, Form::kBackward};

/// All handles of one row, in the order of kForms; the forms that it lacks are empty.
using Handles = std::array<std::optional<c10::OperatorHandle>, kForms.size()>;

std::vector<Handles> find_handles() {
  std::vector<Handles> table;
  for (const OpInfo& op : ops()) {
    Handles handles;
    for (const Form form : forms_of(op)) {
      handles[static_cast<std::size_t>(form)] =
          c10::Dispatcher::singleton().findSchemaOrThrow(operator_name(op, form).c_str(), "");
    }
    table.push_back(handles);
  }
  return table;
}

std::string bare_name(const OpInfo& op, Form form) {
  std::string name(op.name);
  switch (form) {
    case Form::kForward:
      return name;
    case Form::kWithIndices:
      return name + "_with_indices";
    case Form::kWithTaps:
      return "_" + name + "_with_taps";
    case Form::kBackward:
      return name + "_backward";
  }
  TORCH_INTERNAL_ASSERT(false, "a form without a name");
}

ValuesAndIndices call_with_record(const OpInfo& op, Form form, const at::Tensor& x,
                                  const OpArguments& arguments) {
  Stack stack{x};
  signature_of(op).pack(stack, arguments);
  operator_of(op, form).callBoxed(&stack);
  return {stack[0].toTensor(), stack[1].toTensor()};
}

}  // namespace

std::vector<Form> forms_of(const OpInfo& op) {
  if (op.records_indices) return {kForms.begin(), kForms.end()};
  return {Form::kForward, Form::kBackward};
}

std::string operator_name(const OpInfo& op, Form form) { return "cenote::" + bare_name(op, form); }

std::string schema_of(const OpInfo& op, Form form) {
  const Signature& signature = signature_of(op);
  const bool backward = form == Form::kBackward;
  std::string text = bare_name(op, form) + "(";
  if (backward) {
    text += "Tensor grad_output";
    if (op.uses_indices()) text += ", Tensor indices";
    if (op.gradient_reads_x) text += ", Tensor input";
    text += ", int[] input_size";
  } else {
    text += op.reads_indices ? "Tensor input, Tensor indices" : "Tensor input";
  }
  text += signature.positional();
  const std::string keyword = signature.keyword() + (backward ? ", bool? channels_last=None" : "");
  if (!keyword.empty()) text += ", *" + keyword;
  const bool pair = form == Form::kWithIndices || form == Form::kWithTaps;
  return text + (pair ? ") -> (Tensor, Tensor)" : ") -> Tensor");
}

const c10::OperatorHandle& operator_of(const OpInfo& op, Form form) {
  static const std::vector<Handles> table = find_handles();
  const auto row = static_cast<std::size_t>(&op - ops().data());
  const auto& handle = table.at(row)[static_cast<std::size_t>(form)];
  TORCH_CHECK_VALUE(handle.has_value(), "[", op.name, "] records no indices");
  return *handle;
}

at::Tensor pool(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments) {
  TORCH_CHECK_VALUE(!op.reads_indices, "[", op.name, "] reads indices: call unpool");
  Stack stack{x};
  signature_of(op).pack(stack, arguments);
  operator_of(op, Form::kForward).callBoxed(&stack);
  return stack[0].toTensor();
}

at::Tensor unpool(const OpInfo& op, const at::Tensor& x, const at::Tensor& indices,
                  const OpArguments& arguments) {
  TORCH_CHECK_VALUE(op.reads_indices, "[", op.name, "] reads no indices: call pool");
  Stack stack{x, indices};
  signature_of(op).pack(stack, arguments);
  operator_of(op, Form::kForward).callBoxed(&stack);
  return stack[0].toTensor();
}

ValuesAndIndices pool_with_indices(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments) {
  return call_with_record(op, Form::kWithIndices, x, arguments);
}

ValuesAndIndices pool_with_taps(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments) {
  return call_with_record(op, Form::kWithTaps, x, arguments);
}

at::Tensor pool_backward(const OpInfo& op, const at::Tensor& grad_y, const at::Tensor& record,
                         const Dims& x_sizes, const OpArguments& arguments) {
  Stack stack{grad_y};
  if (keeps_tensor(op)) stack.emplace_back(record);
  stack.emplace_back(to_array_ref(x_sizes));
  signature_of(op).pack(stack, arguments);
  stack.emplace_back();  // channels_last: as grad_y
  operator_of(op, Form::kBackward).callBoxed(&stack);
  return stack[0].toTensor();
}

}  // namespace cenote::torch_ops
