// Element types of ONNX tensors: their names and sizes.
#include "network/onnx/value.h"

#include <algorithm>
#include <array>
#include <bit>

#include "network/error_text.h"

namespace cenote::network::onnx {
namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian and is taken as it is");

struct TypeRow {
  ElementType type;
  std::size_t size;
  const char* name;
};

constexpr TypeRow kTypes[] = {
    {ElementType::kF32, 4, "f32"},   {ElementType::kU8, 1, "u8"},     {ElementType::kI8, 1, "i8"},
    {ElementType::kU16, 2, "u16"},   {ElementType::kI16, 2, "i16"},   {ElementType::kI32, 4, "i32"},
    {ElementType::kI64, 8, "i64"},   {ElementType::kBool, 1, "bool"}, {ElementType::kF16, 2, "f16"},
    {ElementType::kF64, 8, "f64"},   {ElementType::kU32, 4, "u32"},   {ElementType::kU64, 8, "u64"},
    {ElementType::kBF16, 2, "bf16"},
};

const TypeRow* find_type(ElementType type) {
  const auto* row = std::find_if(std::begin(kTypes), std::end(kTypes),
                                 [&](const TypeRow& candidate) { return candidate.type == type; });
  return row == std::end(kTypes) ? nullptr : row;
}

}  // namespace

std::size_t size_of(ElementType type) {
  const TypeRow* row = find_type(type);
  return row == nullptr ? 0 : row->size;
}

std::string name_of(ElementType type) {
  const TypeRow* row = find_type(type);
  return row == nullptr ? fmt::format("type {}", static_cast<int>(type)) : row->name;
}

Value make_value(ElementType type, const Dims& sizes, std::vector<std::byte> bytes) {
  return {type, sizes, std::make_shared<const std::vector<std::byte>>(std::move(bytes))};
}

std::string shown(std::string_view name) {
  constexpr std::size_t kLongest = 80;
  std::string text = "'";
  for (const char letter : name.substr(0, kLongest)) {
    if (letter >= ' ' && letter <= '~') {
      text += letter;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(letter));
    }
  }
  return text + (name.size() > kLongest ? "...'" : "'");
}

}  // namespace cenote::network::onnx
