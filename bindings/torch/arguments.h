// The arguments of an op on torch's stack: which ones a kind of op takes, in torch's order, as schema text
// and as values.
#pragma once

#include <ATen/core/stack.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cenote/registry.h"

namespace cenote::torch_ops {

using torch::jit::Stack;

/// One argument. In `schema` a % stands for the spatial rank.
struct Field {
  const char* schema;
  void (*pack)(Stack& stack, const OpArguments& arguments);
  void (*unpack)(const c10::IValue& value, const OpInfo& op, OpArguments& arguments);
};

/// All arguments of an op after its tensors.
class Signature {
 public:
  explicit Signature(const OpInfo& op);

  std::size_t count() const { return positional_.size() + keyword_.size(); }
  /// ", int[2] kernel_size, ..."
  std::string positional() const { return text_of(positional_); }
  std::string keyword() const { return text_of(keyword_); }
  void pack(Stack& stack, const OpArguments& arguments) const;
  OpArguments unpack(std::span<const c10::IValue> values) const;

 private:
  std::string text_of(const std::vector<const Field*>& fields) const;

  const OpInfo& op_;
  std::vector<const Field*> positional_;
  std::vector<const Field*> keyword_;
};

const Signature& signature_of(const OpInfo& op);

/// One value of an option that takes one for all axes or one per axis.
std::int64_t value_at(const Dims& values, int axis);
/// Padding at the begin of an axis of a window op, auto_pad resolved.
std::int64_t begin_padding(const OpArguments& arguments, int axis, std::int64_t in, std::int64_t out);

}  // namespace cenote::torch_ops
