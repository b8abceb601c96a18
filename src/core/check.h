// Error text and overflow-checked arithmetic.
#pragma once

#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>

#include "cenote/error.h"
#include "cenote/tensor.h"

namespace cenote {

// For the parts of an error text, which are put together only when there is an error.
inline std::ostream& operator<<(std::ostream& out, const Dims& dims) { return out << to_string(dims); }
inline std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }

/// Throws Error("[op] part part part...").
template <class... Parts>
[[noreturn]] void fail(ErrorCode code, std::string_view op, const Parts&... parts) {
  std::ostringstream text;
  text << '[' << op << "] ";
  (text << ... << parts);
  throw Error(code, text.str());
}

/// Throws Error (kInvalidArgument) unless `holds`.
template <class... Parts>
void require(bool holds, std::string_view op, const Parts&... parts) {
  if (!holds) fail(ErrorCode::kInvalidArgument, op, parts...);
}

/// `what` names the sum, in parts.
template <class... What>
std::int64_t checked_add(std::int64_t a, std::int64_t b, std::string_view op, const What&... what) {
  std::int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum))
    fail(ErrorCode::kOverflow, op, what..., " overflows 64 bits: ", a, " + ", b);
  return sum;
}

template <class... What>
std::int64_t checked_multiply(std::int64_t a, std::int64_t b, std::string_view op, const What&... what) {
  std::int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product))
    fail(ErrorCode::kOverflow, op, what..., " overflows 64 bits: ", a, " * ", b);
  return product;
}

}  // namespace cenote
