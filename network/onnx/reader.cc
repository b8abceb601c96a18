// Protobuf messages grow when they are parsed (a message of two bytes becomes an object of hundreds), so a
// tensor file is scanned for the number of its fields before it is parsed; of a model the size is bounded
// tightly enough.
#include "network/onnx/reader.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/wire_format_lite.h>

#include <utility>

#include "network/error_text.h"
#include "network/io/file.h"
#include "network/onnx/tensor_proto.h"

namespace cenote::network::onnx {
namespace {

using ::onnx::AttributeProto;
using ::onnx::GraphProto;
using ::onnx::ModelProto;
using ::onnx::NodeProto;
using ::onnx::TensorProto;
using ::onnx::ValueInfoProto;

/// Protobuf writes its complaints to standard error; here they become one line of the caller.
void silence_protobuf() {
  [[maybe_unused]] static const auto previous = google::protobuf::SetLogHandler(nullptr);
}

template <class Message>
Message parse(const std::string& bytes, const std::string& where, const char* kind) {
  silence_protobuf();
  Message message;
  if (!message.ParseFromString(bytes)) {
    fail(ErrorCode::kBadFile, "{} is not {}: truncated, damaged or of another format", where, kind);
  }
  return message;
}

bool skip_short(google::protobuf::io::CodedInputStream& stream, int longest) {
  int length = 0;
  return stream.ReadVarintSizeAsInt(&length) && length <= longest && stream.Skip(length);
}

/// Elements come packed or one by one; every other field of a tensor is rare.
void scan_tensor(const std::string& bytes, const std::string& where) {
  using google::protobuf::internal::WireFormatLite;
  constexpr int kMaxOtherFields = 4096;
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  int others = 0;
  while (const std::uint32_t tag = stream.ReadTag()) {
    const int field = WireFormatLite::GetTagFieldNumber(tag);
    const auto wire = WireFormatLite::GetTagWireType(tag);
    const bool number = wire != WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    const bool element =
        number &&
        (field == TensorProto::kFloatDataFieldNumber || field == TensorProto::kInt32DataFieldNumber ||
         field == TensorProto::kInt64DataFieldNumber || field == TensorProto::kDoubleDataFieldNumber ||
         field == TensorProto::kUint64DataFieldNumber);
    others += element ? 0 : 1;
    const bool group = wire == WireFormatLite::WIRETYPE_START_GROUP;
    const bool packed_sizes = field == TensorProto::kDimsFieldNumber && !number;
    const bool skipped =
        packed_sizes ? skip_short(stream, kMaxOtherFields) : WireFormatLite::SkipField(&stream, tag);
    if (group || others > kMaxOtherFields || !skipped) {
      fail(ErrorCode::kBadFile, "{} is not an ONNX tensor: truncated, damaged or of another format", where);
    }
  }
}

AttributeProto::AttributeType kind_of(const AttributeProto& attribute) {
  if (attribute.type() != AttributeProto::UNDEFINED) return attribute.type();
  // The first versions of the format had no discriminator.
  if (attribute.has_i()) return AttributeProto::INT;
  if (attribute.has_f()) return AttributeProto::FLOAT;
  if (attribute.has_s()) return AttributeProto::STRING;
  if (attribute.has_t()) return AttributeProto::TENSOR;
  if (attribute.ints_size() > 0) return AttributeProto::INTS;
  if (attribute.floats_size() > 0) return AttributeProto::FLOATS;
  return AttributeProto::UNDEFINED;
}

Attribute decode_attribute(const AttributeProto& attribute, const std::string& where) {
  switch (kind_of(attribute)) {
    case AttributeProto::INT:
      return attribute.i();
    case AttributeProto::FLOAT:
      return attribute.f();
    case AttributeProto::STRING:
      return attribute.s();
    case AttributeProto::TENSOR:
      return decode_tensor(attribute.t(), fmt::format("attribute {} of {}", shown(attribute.name()), where));
    case AttributeProto::INTS:
      return std::vector<std::int64_t>(attribute.ints().begin(), attribute.ints().end());
    case AttributeProto::FLOATS:
      return std::vector<float>(attribute.floats().begin(), attribute.floats().end());
    default:
      return std::monostate();
  }
}

Node decode_node(const NodeProto& proto, int number, const std::string& where) {
  Node node{proto.op_type(), proto.domain(), {}, {}, {}};
  if (node.op.empty()) fail(ErrorCode::kBadFile, "node {} of {} has no operator", number, where);
  node.inputs.assign(proto.input().begin(), proto.input().end());
  node.outputs.assign(proto.output().begin(), proto.output().end());
  const std::string owner = fmt::format("node {} ({}) of {}", number, shown(node.op), where);
  for (const AttributeProto& attribute : proto.attribute()) {
    if (!node.attributes.emplace(attribute.name(), decode_attribute(attribute, owner)).second) {
      fail(ErrorCode::kBadFile, "{} has the attribute {} twice", owner, shown(attribute.name()));
    }
  }
  return node;
}

Declaration decode_declaration(const ValueInfoProto& proto, const std::string& where) {
  Declaration declaration{.name = proto.name()};
  if (declaration.name.empty()) {
    fail(ErrorCode::kBadFile, "{} declares an input or output without a name", where);
  }
  declaration.is_tensor = !proto.has_type() || proto.type().has_tensor_type();
  if (!proto.type().has_tensor_type()) return declaration;
  const auto& tensor = proto.type().tensor_type();
  declaration.type = static_cast<ElementType>(tensor.elem_type());
  if (!tensor.has_shape()) return declaration;
  std::vector<std::int64_t>& sizes = declaration.sizes.emplace();
  for (const auto& dimension : tensor.shape().dim()) {
    sizes.push_back(dimension.has_dim_value() ? dimension.dim_value() : kAnySize);
    if (dimension.has_dim_value() && dimension.dim_value() < 0) {
      fail(ErrorCode::kBadFile, "{} declares {} with the negative size {}", where, shown(declaration.name),
           dimension.dim_value());
    }
  }
  return declaration;
}

std::int64_t standard_opset(const ModelProto& model) {
  for (const auto& opset : model.opset_import()) {
    if (opset.domain().empty() || opset.domain() == "ai.onnx") return opset.version();
  }
  constexpr std::int64_t kFirstIrWithOpsets = 3;
  return model.ir_version() < kFirstIrWithOpsets ? 1 : kNoOpset;
}

void decode_initializers(const GraphProto& graph, Model& model, const std::string& where) {
  if (graph.sparse_initializer_size() > 0) {
    fail(ErrorCode::kUnsupported, "{} has sparse initializers", where);
  }
  for (const TensorProto& tensor : graph.initializer()) {
    Value value = decode_tensor(tensor, fmt::format("initializer {} of {}", shown(tensor.name()), where));
    if (!model.initializers.emplace(tensor.name(), std::move(value)).second) {
      fail(ErrorCode::kBadFile, "{} has the initializer {} twice", where, shown(tensor.name()));
    }
  }
}

}  // namespace

Model read_model(const std::filesystem::path& path) {
  const std::string where = path.string();
  const auto proto = parse<ModelProto>(read_file(path, kMaxModelBytes), where, "an ONNX model");
  if (!proto.has_ir_version() || !proto.has_graph()) {
    fail(ErrorCode::kBadFile, "{} is not an ONNX model: it has no {}", where,
         proto.has_graph() ? "ir_version" : "graph");
  }
  Model model;
  model.opset = standard_opset(proto);
  const GraphProto& graph = proto.graph();
  int number = 0;
  for (const NodeProto& node : graph.node()) model.nodes.push_back(decode_node(node, number++, where));
  for (const ValueInfoProto& input : graph.input()) model.inputs.push_back(decode_declaration(input, where));
  for (const ValueInfoProto& output : graph.output()) {
    model.outputs.push_back(decode_declaration(output, where));
  }
  decode_initializers(graph, model, where);
  return model;
}

Value read_tensor(const std::filesystem::path& path) {
  const std::string where = path.string();
  const std::string bytes = read_file(path, kMaxTensorBytes);
  scan_tensor(bytes, where);
  return decode_tensor(parse<TensorProto>(bytes, where, "an ONNX tensor"), where);
}

}  // namespace cenote::network::onnx
