// An ONNX model without protobuf: what the runner needs of it, already checked for form.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "network/onnx/value.h"

namespace cenote::network::onnx {

/// std::monostate stands for kinds that no supported operator has (graphs, sparse tensors, ...).
using Attribute = std::variant<std::monostate, std::int64_t, float, std::string, Value,
                               std::vector<std::int64_t>, std::vector<float>>;

struct Node {
  std::string op;  // "MaxPool"
  std::string domain;
  std::vector<std::string> inputs;  // an empty name is an omitted optional input
  std::vector<std::string> outputs;
  std::map<std::string, Attribute, std::less<>> attributes;
};

/// An input or output of the graph.
struct Declaration {
  std::string name;
  bool is_tensor = false;
  ElementType type = ElementType::kUnknown;             // kUnknown: not said
  std::optional<std::vector<std::int64_t>> sizes = {};  // kAnySize for a symbol; absent: not said
};
constexpr std::int64_t kAnySize = -1;

constexpr std::int64_t kNoOpset = 0;

struct Model {
  std::int64_t opset = kNoOpset;  // of the standard domain; kNoOpset: not imported
  std::vector<Declaration> inputs;
  std::vector<Declaration> outputs;
  std::map<std::string, Value, std::less<>> initializers;
  std::vector<Node> nodes;
};

}  // namespace cenote::network::onnx
