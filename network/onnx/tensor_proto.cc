// A TensorProto keeps its elements as raw bytes or in one of five typed lists, chosen by the element type:
// small integers and 16-bit floats travel as int32. Everything that the message claims is checked against
// what it holds before the elements are copied.
#include "network/onnx/tensor_proto.h"

#include <cstring>
#include <limits>

#include "network/error_text.h"

namespace cenote::network::onnx {
namespace {

using ::onnx::TensorProto;

constexpr int kFirstUnknownType = 26;  // after float4, int2 and their kin of ONNX 1.20

ElementType element_type(const TensorProto& tensor, const std::string& where) {
  const auto type = static_cast<ElementType>(tensor.data_type());
  if (size_of(type) > 0) return type;
  const int number = tensor.data_type();
  if (number <= 0 || number > kFirstUnknownType) {
    fail(ErrorCode::kBadFile, "{} has the unknown element type {}", where, number);
  }
  fail(ErrorCode::kUnsupported, "{} has elements of ONNX type {}, strings, complex or smaller than a byte",
       where, number);
}

/// The sizes, and their product in `count`.
Dims tensor_sizes(const TensorProto& tensor, const std::string& where, std::int64_t& count) {
  if (tensor.dims_size() > Dims::kMaxRank) {
    fail(ErrorCode::kUnsupported, "{} has rank {}, at most {} is supported", where, tensor.dims_size(),
         Dims::kMaxRank);
  }
  Dims sizes;
  for (const std::int64_t size : tensor.dims()) {
    if (size < 0) fail(ErrorCode::kBadFile, "{} has the negative size {}", where, size);
    sizes.push_back(size);
  }
  count = 1;
  bool empty = false;
  for (const std::int64_t size : sizes) {
    empty = empty || size == 0;
    if (size > 0 && __builtin_mul_overflow(count, size, &count)) {
      fail(ErrorCode::kBadFile, "{} has sizes {}, whose product passes 64 bits", where, to_string(sizes));
    }
  }
  if (empty) count = 0;
  return sizes;
}

template <class T, class List>
std::vector<std::byte> convert(const List& list, const std::string& where) {
  std::vector<std::byte> bytes(sizeof(T) * static_cast<std::size_t>(list.size()));
  std::byte* to = bytes.data();
  for (const auto value : list) {
    const T narrow = static_cast<T>(value);
    if constexpr (std::numeric_limits<T>::is_integer) {
      if (static_cast<std::remove_const_t<decltype(value)>>(narrow) != value) {
        fail(ErrorCode::kBadFile, "{} has the element {}, which its type cannot hold", where, value);
      }
    }
    std::memcpy(to, &narrow, sizeof(T));
    to += sizeof(T);
  }
  return bytes;
}

/// The list that holds elements of this type, as bytes. Lists of other types must be empty.
std::vector<std::byte> typed_elements(const TensorProto& tensor, ElementType type, const std::string& where) {
  switch (type) {
    case ElementType::kF32:
      return convert<float>(tensor.float_data(), where);
    case ElementType::kF64:
      return convert<double>(tensor.double_data(), where);
    case ElementType::kI64:
      return convert<std::int64_t>(tensor.int64_data(), where);
    case ElementType::kU64:
      return convert<std::uint64_t>(tensor.uint64_data(), where);
    case ElementType::kU32:
      return convert<std::uint32_t>(tensor.uint64_data(), where);
    case ElementType::kI32:
      return convert<std::int32_t>(tensor.int32_data(), where);
    case ElementType::kI16:
      return convert<std::int16_t>(tensor.int32_data(), where);
    case ElementType::kU16:
    case ElementType::kF16:
    case ElementType::kBF16:
      return convert<std::uint16_t>(tensor.int32_data(), where);
    case ElementType::kI8:
      return convert<std::int8_t>(tensor.int32_data(), where);
    case ElementType::kU8:
    case ElementType::kBool:
      return convert<std::uint8_t>(tensor.int32_data(), where);
    case ElementType::kUnknown:
      break;
  }
  fail(ErrorCode::kBadFile, "{} has no element type", where);
}

std::int64_t listed_elements(const TensorProto& tensor) {
  return std::int64_t{tensor.float_data_size()} + tensor.int32_data_size() + tensor.int64_data_size() +
         tensor.double_data_size() + tensor.uint64_data_size() + tensor.string_data_size();
}

std::vector<std::byte> raw_elements(const TensorProto& tensor, ElementType type, const Dims& sizes,
                                    std::int64_t count, const std::string& where) {
  const std::string& raw = tensor.raw_data();
  const auto width = static_cast<std::int64_t>(size_of(type));
  std::int64_t expected = 0;
  const bool overflow = __builtin_mul_overflow(count, width, &expected);
  if (overflow || static_cast<std::uint64_t>(expected) != raw.size()) {
    fail(ErrorCode::kBadFile, "{} has {} bytes of raw_data, {} elements of {} need {}", where, raw.size(),
         to_string(sizes), name_of(type), overflow ? "more than 64 bits count" : std::to_string(expected));
  }
  std::vector<std::byte> bytes(raw.size());
  if (!raw.empty()) std::memcpy(bytes.data(), raw.data(), raw.size());
  return bytes;
}

}  // namespace

Value decode_tensor(const TensorProto& tensor, const std::string& where) {
  if (tensor.has_segment()) fail(ErrorCode::kUnsupported, "{} is one segment of a larger tensor", where);
  if (tensor.data_location() == TensorProto::EXTERNAL || tensor.external_data_size() > 0) {
    fail(ErrorCode::kUnsupported, "{} keeps its elements in another file (external data)", where);
  }
  const ElementType type = element_type(tensor, where);
  std::int64_t count = 0;
  const Dims sizes = tensor_sizes(tensor, where, count);
  const std::int64_t listed = listed_elements(tensor);
  if (tensor.has_raw_data()) {
    if (listed > 0) fail(ErrorCode::kBadFile, "{} holds both raw_data and a list of elements", where);
    return make_value(type, sizes, raw_elements(tensor, type, sizes, count, where));
  }
  if (listed != count) {
    fail(ErrorCode::kBadFile, "{} lists {} elements, its sizes {} need {}", where, listed, to_string(sizes),
         count);
  }
  std::vector<std::byte> bytes = typed_elements(tensor, type, where);
  if (bytes.size() != static_cast<std::size_t>(count) * size_of(type)) {
    fail(ErrorCode::kBadFile, "{} keeps its {} elements in the list of another type", where, name_of(type));
  }
  return make_value(type, sizes, std::move(bytes));
}

}  // namespace cenote::network::onnx
