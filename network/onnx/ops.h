// The operators that a graph may be made of: which attributes and element types each version has, and which
// function of cenote computes it. What cenote cannot compute is said here and nowhere else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "network/onnx/model.h"

namespace cenote::network::onnx {

constexpr std::int64_t kNewestOpset = 22;

/// What one run may use; a file that asks for more is refused (kUnsupported) before anything is allocated.
class Budget {
 public:
  Budget() = default;
  Budget(std::int64_t bytes, std::int64_t visits) : bytes_left_(bytes), visits_left_(visits) {}

  /// Takes the bytes of a new value and returns their number. Values of one run count until its end.
  std::size_t take_value(std::string_view what, ElementType type, const Dims& sizes);
  /// Takes the time of `outputs` windows that read `taps` elements each.
  void take_visits(std::string_view what, std::int64_t outputs, std::int64_t taps);

 private:
  std::int64_t bytes_left_ = std::int64_t{1} << 30;
  std::int64_t visits_left_ = std::int64_t{1} << 34;
};

struct Operator;

/// One node about to run. A null input is an optional one that was omitted.
struct Call {
  const Node& node;
  const Operator& op;
  std::vector<const Value*> inputs;
  Budget& budget;

  /// "MaxPool-12", as error texts name it.
  std::string name() const;
  /// The input, or null when it is omitted.
  const Value* input(std::size_t index) const { return index < inputs.size() ? inputs[index] : nullptr; }
};

/// One version of an operator, in force until the next.
struct Operator {
  std::string_view name;
  int since;
  std::string_view attributes;  // names, separated by spaces
  std::uint32_t types;          // element types of the first input, one bit per ElementType number
  std::size_t min_inputs;
  std::size_t max_inputs;
  std::size_t max_outputs;
};

/// The version of the node's operator that `opset` means. Throws kUnsupported for an operator, version or
/// domain that is not known here or that cenote cannot compute, with the reason.
const Operator& find_operator(const Node& node, std::int64_t opset);
/// Whether it is a pooling operator, and not one that only gives tensors another form.
bool is_pooling(const Operator& op);

/// Computes the outputs of the node. Checks inputs and attributes first: kBadFile when they break ONNX's
/// rules.
std::vector<Value> run_operator(const Call& call);

/// The dtype in which cenote pools these elements. Throws kUnsupported when there is none.
DType pooled_dtype(const Call& call, ElementType type);

}  // namespace cenote::network::onnx
