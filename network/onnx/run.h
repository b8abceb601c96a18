// Runs a model on cenote, node after node.
#pragma once

#include <vector>

#include "network/onnx/model.h"
#include "network/onnx/ops.h"

namespace cenote::network::onnx {

/// Throws kUnsupported, with the reason, when a node cannot be computed; reads no data.
void require_supported(const Model& model);
/// Whether any node pools; require_supported must have passed.
bool has_pooling(const Model& model);

/// The outputs of the graph, in its order. `inputs` are those of the graph without an initializer, or all, in
/// its order; they must be as declared. Throws cenote::Error: kBadFile where the graph or the inputs break
/// ONNX's rules (kinds, sizes, order of the nodes), and what the operators throw.
std::vector<Value> run_model(const Model& model, const std::vector<Value>& inputs, Budget& budget);

/// Throws kBadFile unless `value` has the declared type and sizes.
void require_declared(const Declaration& declaration, const Value& value, const char* role);

}  // namespace cenote::network::onnx
