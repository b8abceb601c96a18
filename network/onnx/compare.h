// Comparing a computed tensor with the expected one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "network/onnx/value.h"

namespace cenote::network::onnx {

/// |got - expected| <= atol + rtol * |expected|, as the backend tests of ONNX have it.
struct Tolerance {
  double rtol = 1e-3;
  double atol = 1e-7;
};

/// The element that is farthest from what was expected.
struct Mismatch {
  std::int64_t count = 0;  // elements outside the tolerance
  std::int64_t of = 0;
  Dims where = {};
  double got = 0;
  double expected = 0;
  double error = 0;  // |got - expected|; infinity when only one is NaN or they are different infinities
};

/// Absent when all elements agree. Type and sizes must be the same. Integers and bools must be equal; a NaN
/// agrees with a NaN, an infinity with itself.
std::optional<Mismatch> compare(const Value& got, const Value& expected, const Tolerance& tolerance);

/// "3 of 9 elements differ, most at [0, 0, 2]: got 5.5, expected 5 (error 0.5)"
std::string to_string(const Mismatch& mismatch);

}  // namespace cenote::network::onnx
