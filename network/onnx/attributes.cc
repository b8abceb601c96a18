// One template reads every kind of attribute; the names of the kinds are those of the ONNX specification.
#include "network/onnx/attributes.h"

#include <cstring>

#include "network/error_text.h"

namespace cenote::network::onnx {
namespace {

template <class T>
constexpr const char* kKind = "";
template <>
constexpr const char* kKind<std::int64_t> = "an integer";
template <>
constexpr const char* kKind<std::string> = "a string";
template <>
constexpr const char* kKind<std::vector<std::int64_t>> = "a list of integers";

/// Null when the node does not have it.
template <class T>
const T* find(const Call& call, std::string_view name) {
  const auto found = call.node.attributes.find(name);
  if (found == call.node.attributes.end()) return nullptr;
  const T* value = std::get_if<T>(&found->second);
  if (value == nullptr) fail(ErrorCode::kBadFile, "[{}] {} must be {}", call.name(), name, kKind<T>);
  return value;
}

}  // namespace

std::int64_t int_attribute(const Call& call, std::string_view name, std::int64_t missing) {
  const auto* value = find<std::int64_t>(call, name);
  return value == nullptr ? missing : *value;
}

double number_attribute(const Call& call, std::string_view name, double missing) {
  const auto found = call.node.attributes.find(name);
  if (found == call.node.attributes.end()) return missing;
  if (const auto* value = std::get_if<float>(&found->second)) return *value;
  return static_cast<double>(*find<std::int64_t>(call, name));
}

bool bool_attribute(const Call& call, std::string_view name) {
  const std::int64_t value = int_attribute(call, name, 0);
  if (value != 0 && value != 1) {
    fail(ErrorCode::kBadFile, "[{}] {} must be 0 or 1, got {}", call.name(), name, value);
  }
  return value == 1;
}

std::string string_attribute(const Call& call, std::string_view name, std::string_view missing) {
  const auto* value = find<std::string>(call, name);
  return value == nullptr ? std::string(missing) : *value;
}

std::optional<std::vector<std::int64_t>> ints_attribute(const Call& call, std::string_view name) {
  const auto* values = find<std::vector<std::int64_t>>(call, name);
  if (values == nullptr) return std::nullopt;
  return *values;
}

std::optional<std::vector<std::int64_t>> ints_input(const Call& call, std::size_t index,
                                                    std::string_view name) {
  const Value* value = call.input(index);
  if (value == nullptr) return std::nullopt;
  if (value->type != ElementType::kI64 || value->sizes.size() > 1) {
    fail(ErrorCode::kBadFile, "[{}] {} must be i64 of rank 1, got {} of sizes {}", call.name(), name,
         name_of(value->type), to_string(value->sizes));
  }
  std::vector<std::int64_t> values(static_cast<std::size_t>(value->count()));
  if (!values.empty()) std::memcpy(values.data(), value->bytes->data(), values.size() * sizeof(values[0]));
  return values;
}

}  // namespace cenote::network::onnx
