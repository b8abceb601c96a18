// Integers are compared as such: a tolerance would let a wrong index pass.
#include "network/onnx/compare.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cenote/half.h"
#include "network/error_text.h"

namespace cenote::network::onnx {
namespace {

template <class T>
T plain(const Value& value, std::int64_t index) {
  T element;
  std::memcpy(&element, value.bytes->data() + static_cast<std::size_t>(index) * sizeof(T), sizeof(T));
  return element;
}

template <class Half>
double widened(const Value& value, std::int64_t index) {
  return static_cast<float>(plain<Half>(value, index));
}

Dims position_of(std::int64_t index, const Dims& sizes) {
  Dims position = sizes;
  for (int axis = sizes.size() - 1; axis >= 0; --axis) {
    position[axis] = index % sizes[axis];
    index /= sizes[axis];
  }
  return position;
}

double error_of(double got, double expected) {
  if (got == expected || (std::isnan(got) && std::isnan(expected))) return 0;
  const double error = std::abs(got - expected);
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

bool within(double got, double expected, const Tolerance& tolerance) {
  const double error = error_of(got, expected);
  // An infinite expectation would allow everything.
  return error == 0 ||
         error <= tolerance.atol + (std::isinf(expected) ? 0 : tolerance.rtol * std::abs(expected));
}

template <class T>
bool within(T got, T expected, const Tolerance&) {
  return got == expected;
}

template <class Load>
std::optional<Mismatch> compare_elements(const Value& got, const Value& expected, const Tolerance& tolerance,
                                         const Load& load) {
  Mismatch mismatch{.of = got.count()};
  for (std::int64_t i = 0; i < mismatch.of; ++i) {
    const auto a = load(got, i);
    const auto b = load(expected, i);
    if (within(a, b, tolerance)) continue;
    const double error = error_of(static_cast<double>(a), static_cast<double>(b));
    if (mismatch.count++ > 0 && !(error > mismatch.error)) continue;
    mismatch.where = position_of(i, got.sizes);
    mismatch.got = static_cast<double>(a);
    mismatch.expected = static_cast<double>(b);
    mismatch.error = error;
  }
  if (mismatch.count == 0) return std::nullopt;
  return mismatch;
}

}  // namespace

std::optional<Mismatch> compare(const Value& got, const Value& expected, const Tolerance& tolerance) {
  const auto with = [&](const auto& load) { return compare_elements(got, expected, tolerance, load); };
  const auto as_double = [](const auto& load) {
    return [load](const Value& value, std::int64_t i) { return static_cast<double>(load(value, i)); };
  };
  switch (got.type) {
    case ElementType::kF32:
      return with(as_double(plain<float>));
    case ElementType::kF64:
      return with(plain<double>);
    case ElementType::kF16:
      return with(widened<Float16>);
    case ElementType::kBF16:
      return with(widened<BFloat16>);
    case ElementType::kI8:
      return with(plain<std::int8_t>);
    case ElementType::kU8:
    case ElementType::kBool:
      return with(plain<std::uint8_t>);
    case ElementType::kI16:
      return with(plain<std::int16_t>);
    case ElementType::kU16:
      return with(plain<std::uint16_t>);
    case ElementType::kI32:
      return with(plain<std::int32_t>);
    case ElementType::kU32:
      return with(plain<std::uint32_t>);
    case ElementType::kI64:
      return with(plain<std::int64_t>);
    case ElementType::kU64:
      return with(plain<std::uint64_t>);
    case ElementType::kUnknown:
      break;
  }
  fail(ErrorCode::kInvalidArgument, "[compare] values must have an element type");
}

std::string to_string(const Mismatch& mismatch) {
  return fmt::format("{} of {} elements differ, most at {}: got {:.9g}, expected {:.9g} (error {:.3g})",
                     mismatch.count, mismatch.of, cenote::to_string(mismatch.where), mismatch.got,
                     mismatch.expected, mismatch.error);
}

}  // namespace cenote::network::onnx
