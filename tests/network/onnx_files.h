// ONNX messages for the tests, and case folders made of them.
#pragma once

#include <fmt/format.h>
#include <onnx/onnx_pb.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "files.h"
#include "network/onnx/conformance.h"

namespace cenote::network::onnx {

using Sizes = std::vector<std::int64_t>;

inline ::onnx::TensorProto floats(const Sizes& sizes, const std::vector<float>& values) {
  ::onnx::TensorProto tensor;
  tensor.set_data_type(::onnx::TensorProto::FLOAT);
  for (const std::int64_t size : sizes) tensor.add_dims(size);
  tensor.set_raw_data(values.data(), values.size() * sizeof(float));
  return tensor;
}

inline ::onnx::TensorProto integers(const Sizes& sizes, const Sizes& values) {
  ::onnx::TensorProto tensor;
  tensor.set_data_type(::onnx::TensorProto::INT64);
  for (const std::int64_t size : sizes) tensor.add_dims(size);
  for (const std::int64_t value : values) tensor.add_int64_data(value);
  return tensor;
}

inline void add_attribute(::onnx::NodeProto& node, const std::string& name, std::int64_t value) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(::onnx::AttributeProto::INT);
  attribute.set_i(value);
}

inline void add_float(::onnx::NodeProto& node, const std::string& name, float value) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(::onnx::AttributeProto::FLOAT);
  attribute.set_f(value);
}

inline void add_attribute(::onnx::NodeProto& node, const std::string& name, const char* value) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(::onnx::AttributeProto::STRING);
  attribute.set_s(value);
}

inline void add_attribute(::onnx::NodeProto& node, const std::string& name, const Sizes& values) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(::onnx::AttributeProto::INTS);
  for (const std::int64_t value : values) attribute.add_ints(value);
}

inline ::onnx::NodeProto& add_node(::onnx::ModelProto& model, const std::string& op,
                                   const std::vector<std::string>& inputs,
                                   const std::vector<std::string>& outputs) {
  auto& node = *model.mutable_graph()->add_node();
  node.set_op_type(op);
  for (const std::string& name : inputs) node.add_input(name);
  for (const std::string& name : outputs) node.add_output(name);
  return node;
}

inline ::onnx::ModelProto empty_model(std::int64_t opset, const std::vector<std::string>& inputs = {"x"},
                                      const std::vector<std::string>& outputs = {"y"}) {
  ::onnx::ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(opset);
  for (const std::string& name : inputs) model.mutable_graph()->add_input()->set_name(name);
  for (const std::string& name : outputs) model.mutable_graph()->add_output()->set_name(name);
  return model;
}

/// y = op(x), and the node to put attributes on.
inline ::onnx::ModelProto one_node(const std::string& op, std::int64_t opset,
                                   const std::function<void(::onnx::NodeProto&)>& edit = {}) {
  ::onnx::ModelProto model = empty_model(opset);
  auto& node = add_node(model, op, {"x"}, {"y"});
  if (edit) edit(node);
  return model;
}

/// A case folder with one data set.
class CaseFolder {
 public:
  CaseFolder(const ::onnx::ModelProto& model, const std::vector<::onnx::TensorProto>& inputs,
             const std::vector<::onnx::TensorProto>& outputs) {
    std::filesystem::create_directory(data_set());
    write_bytes(folder_ / "model.onnx", model.SerializeAsString());
    for (std::size_t i = 0; i < inputs.size(); ++i) write("input", i, inputs[i].SerializeAsString());
    for (std::size_t i = 0; i < outputs.size(); ++i) write("output", i, outputs[i].SerializeAsString());
  }

  void write(const std::string& start, std::size_t number, const std::string& bytes) const {
    write_bytes(data_set() / fmt::format("{}_{}.pb", start, number), bytes);
  }
  std::filesystem::path data_set() const { return folder_ / "test_data_set_0"; }
  std::filesystem::path path() const { return folder_.path(); }
  CaseResult run(const Tolerance& tolerance = {}) const { return run_case(path(), tolerance); }

 private:
  TemporaryFolder folder_;
};

}  // namespace cenote::network::onnx
