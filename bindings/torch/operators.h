// What an op of the registry looks like to torch: the operators made of it, their schemas, and how its
// arguments travel on torch's stack. Each row of cenote::ops() becomes
//
//   NAME(input[, indices], arguments) -> Tensor                    with indices where the op reads them
//   NAME_with_indices(input, arguments) -> (Tensor, Tensor)       max only; i64 positions
//   _NAME_with_taps(input, arguments) -> (Tensor, Tensor)         max only; the compact record
//   NAME_backward(grad_output[, kept], input_size, arguments, *, channels_last=None) -> Tensor    kept: the
//                                 indices, or the input where the gradient depends on it
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "arguments.h"
#include "cenote/registry.h"

namespace cenote::torch_ops {

enum class Form { kForward, kWithIndices, kWithTaps, kBackward };

inline const OpInfo& op_named(std::string_view name) { return *find_op(name); }

/// The forms that `op` has.
std::vector<Form> forms_of(const OpInfo& op);

/// Whether the backward takes a tensor beside the gradient.
inline bool keeps_tensor(const OpInfo& op) { return op.uses_indices() || op.gradient_reads_x; }

/// How many inputs of a form come before its arguments.
inline std::size_t leading_inputs(const OpInfo& op, Form form) {
  if (form == Form::kBackward) return keeps_tensor(op) ? 3 : 2;  // grad_output, what is kept, input_size
  return op.reads_indices ? 2 : 1;
}

/// "cenote::max_pool2d_backward"
std::string operator_name(const OpInfo& op, Form form);
/// "max_pool2d_backward(Tensor grad_output, ...) -> Tensor"
std::string schema_of(const OpInfo& op, Form form);
/// The registered operator; found once, then from a table.
const c10::OperatorHandle& operator_of(const OpInfo& op, Form form);

}  // namespace cenote::torch_ops
