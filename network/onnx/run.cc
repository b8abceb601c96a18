// A graph lists its nodes in an order in which they can run, so a name that no earlier node gives is an
// error: it is missing, comes later, or lies on a cycle.
#include "network/onnx/run.h"

#include <algorithm>

#include "network/error_text.h"

namespace cenote::network::onnx {
namespace {

using Names = std::map<std::string, Value, std::less<>>;

void define(Names& values, const std::string& name, const Value& value, const std::string& by) {
  if (!values.emplace(name, value).second) {
    fail(ErrorCode::kBadFile, "{} gives the name {}, which is taken", by, shown(name));
  }
}

/// The declarations that `count` given inputs belong to.
std::vector<const Declaration*> given_inputs(const Model& model, std::size_t count) {
  std::vector<const Declaration*> all;
  std::vector<const Declaration*> required;
  for (const Declaration& input : model.inputs) {
    all.push_back(&input);
    if (!model.initializers.contains(input.name)) required.push_back(&input);
  }
  if (count == required.size()) return required;
  if (count == all.size()) return all;
  fail(ErrorCode::kBadFile, "the graph has {} inputs without a value of their own, got {}", required.size(),
       count);
}

Names graph_values(const Model& model, const std::vector<Value>& inputs) {
  Names values;
  const auto declarations = given_inputs(model, inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    require_declared(*declarations[i], inputs[i], "input");
    define(values, declarations[i]->name, inputs[i], "the list of inputs");
  }
  for (const auto& [name, value] : model.initializers) values.emplace(name, value);  // unless given
  return values;
}

/// What a name stands for; a null is an omitted input.
const Value* value_of(const Names& values, const std::string& name, const std::string& reader) {
  if (name.empty()) return nullptr;
  const auto found = values.find(name);
  if (found == values.end()) {
    fail(ErrorCode::kBadFile, "{} reads {}, which nothing before it gives", reader, shown(name));
  }
  return &found->second;
}

void run_node(const Node& node, std::size_t number, const Model& model, Names& values, Budget& budget) {
  const std::string who = fmt::format("node {} ({})", number, shown(node.op));
  Call call{node, find_operator(node, model.opset), {}, budget};
  for (const std::string& name : node.inputs) call.inputs.push_back(value_of(values, name, who));
  const std::vector<Value> outputs = run_operator(call);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!node.outputs[i].empty()) define(values, node.outputs[i], outputs[i], who);
  }
}

}  // namespace

void require_supported(const Model& model) {
  for (const Declaration& input : model.inputs) {
    if (!input.is_tensor) fail(ErrorCode::kUnsupported, "the input {} is no tensor", shown(input.name));
  }
  for (const Node& node : model.nodes) find_operator(node, model.opset);
}

bool has_pooling(const Model& model) {
  return std::any_of(model.nodes.begin(), model.nodes.end(),
                     [&](const Node& node) { return is_pooling(find_operator(node, model.opset)); });
}

void require_declared(const Declaration& declaration, const Value& value, const char* role) {
  bool fits = declaration.type == ElementType::kUnknown || declaration.type == value.type;
  if (declaration.sizes) {
    const auto same = [](std::int64_t wanted, std::int64_t size) {
      return wanted == kAnySize || wanted == size;
    };
    fits = fits && std::equal(declaration.sizes->begin(), declaration.sizes->end(), value.sizes.begin(),
                              value.sizes.end(), same);
  }
  if (fits) return;
  fail(ErrorCode::kBadFile, "the {} {} is declared as {} of sizes [{}], got {} of {}", role,
       shown(declaration.name), name_of(declaration.type),
       fmt::join(declaration.sizes.value_or(std::vector<std::int64_t>()), ", "), name_of(value.type),
       to_string(value.sizes));
}

std::vector<Value> run_model(const Model& model, const std::vector<Value>& inputs, Budget& budget) {
  for (const Value& input : inputs) budget.take_value("the input", input.type, input.sizes);
  Names values = graph_values(model, inputs);
  for (std::size_t i = 0; i < model.nodes.size(); ++i) run_node(model.nodes[i], i, model, values, budget);
  std::vector<Value> outputs;
  outputs.reserve(model.outputs.size());
  for (const Declaration& output : model.outputs) {
    outputs.push_back(*value_of(values, output.name, "the list of outputs"));
  }
  return outputs;
}

}  // namespace cenote::network::onnx
