// What an op of the registry looks like to torch: the operators made of it, their schemas, and how its
// arguments travel on torch's stack. Each row of cenote::ops() becomes
//
//   NAME(input[, indices], arguments) -> Tensor                    with indices where the op reads them
//   NAME_with_indices(input, arguments) -> (Tensor, Tensor)       max only; i64 positions
//   _NAME_with_taps(input, arguments) -> (Tensor, Tensor)         max only; the compact record
//   NAME_backward(grad_output[, indices], input_size, arguments, *, channels_last=None) -> Tensor
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cenote/registry.h"

namespace cenote::torch_ops {

using torch::jit::Stack;

enum class Form { kForward, kWithIndices, kWithTaps, kBackward };

inline const OpInfo& op_named(std::string_view name) { return *find_op(name); }

/// The forms that `op` has.
std::vector<Form> forms_of(const OpInfo& op);

/// The arguments of a kind of op, as schema text and on the stack. `count` values, keywords included.
struct Signature {
  std::size_t count;
  std::string (*positional)(const std::string& rank);
  std::string (*keyword)(const std::string& rank);
  void (*pack)(Stack& stack, const OpArguments& arguments);
  OpArguments (*unpack)(std::span<const c10::IValue> values);
};

// Defined by the family that uses them first.
extern const Signature kWindowMaxSignature;
extern const Signature kWindowAvgSignature;
extern const Signature kOutputSizeSignature;
extern const Signature kEmptySignature;
extern const std::array<Signature, 3> kUnpoolSignatures;  // by spatial rank

const Signature& signature_of(const OpInfo& op);

/// How many inputs of a form come before its arguments.
inline std::size_t leading_inputs(const OpInfo& op, Form form) {
  if (form == Form::kBackward) return op.uses_indices() ? 3 : 2;  // grad_output, the indices, input_size
  return op.reads_indices ? 2 : 1;
}

/// "cenote::max_pool2d_backward"
std::string operator_name(const OpInfo& op, Form form);
/// "max_pool2d_backward(Tensor grad_output, ...) -> Tensor"
std::string schema_of(const OpInfo& op, Form form);
/// The registered operator; found once, then from a table.
const c10::OperatorHandle& operator_of(const OpInfo& op, Form form);

}  // namespace cenote::torch_ops
