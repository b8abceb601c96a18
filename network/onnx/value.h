// Tensors as ONNX files hold them: an element type by ONNX's number, sizes, and dense row-major bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cenote/tensor.h"

namespace cenote::network::onnx {

/// The numbers are those of TensorProto.DataType; types that no Value holds (strings, complex numbers, 8-bit
/// floats, 4-bit integers) have none here.
enum class ElementType : std::int32_t {
  kUnknown = 0,
  kF32 = 1,
  kU8 = 2,
  kI8 = 3,
  kU16 = 4,
  kI16 = 5,
  kI32 = 6,
  kI64 = 7,
  kBool = 9,
  kF16 = 10,
  kF64 = 11,
  kU32 = 12,
  kU64 = 13,
  kBF16 = 16,
};

/// Bytes of one element; 0 for numbers that are no ElementType.
std::size_t size_of(ElementType type);
/// "f32", or "type 99" for numbers that are no ElementType.
std::string name_of(ElementType type);

/// Copies share the bytes.
struct Value {
  ElementType type = ElementType::kF32;
  Dims sizes;
  std::shared_ptr<const std::vector<std::byte>> bytes;

  std::int64_t count() const { return element_count(sizes); }
  template <class T>
  const T* data() const {
    return reinterpret_cast<const T*>(bytes->data());
  }
};

/// `bytes` must be those of `sizes` elements.
Value make_value(ElementType type, const Dims& sizes, std::vector<std::byte> bytes);

/// A name from a file, for an error text: quoted, bytes that are no printable ASCII escaped, cut when long.
std::string shown(std::string_view name);

}  // namespace cenote::network::onnx
