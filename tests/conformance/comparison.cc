// The bounds of averages are derived here, those of the ops whose gradient reads x in smooth_bounds.cc.
#include "conformance/comparison.h"

#include <cmath>
#include <sstream>
#include <type_traits>

#include "cenote/runtime.h"
#include "conformance/plain_form.h"

namespace cenote_test {
namespace {

template <class T>
bool is_nan(T value) {
  if constexpr (std::is_floating_point_v<T>) return std::isnan(value);
  return false;
}

/// Equal, NaN to NaN; 0 and -0 are equal.
template <class T>
std::string difference(const std::vector<T>& got, const std::vector<T>& expected) {
  if (got.size() != expected.size()) return "different number of elements";
  for (std::size_t i = 0; i < got.size(); ++i) {
    const bool both_nan = is_nan(got[i]) && is_nan(expected[i]);
    if (got[i] == expected[i] || both_nan) continue;
    std::ostringstream text;
    text.precision(17);
    text << "element " << i << " is " << got[i] << ", expected " << expected[i];
    return text.str();
  }
  return "";
}

/// |got - expected| <= bound; NaN and infinities alike.
std::string difference_beyond(const std::vector<double>& got, const std::vector<double>& expected,
                              const std::vector<double>& bounds) {
  if (got.size() != expected.size()) return "different number of elements";
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == expected[i] || (std::isnan(got[i]) && std::isnan(expected[i]))) continue;
    if (std::isfinite(expected[i]) && std::abs(got[i] - expected[i]) <= bounds[i]) continue;
    std::ostringstream text;
    text.precision(17);
    text << "element " << i << " is " << got[i] << ", expected " << expected[i] << " within " << bounds[i];
    return text.str();
  }
  return "";
}

/// terms * epsilon * magnitude
std::vector<double> rounding_bounds(const std::vector<double>& magnitudes, double terms,
                                    cenote::DType dtype) {
  const auto [epsilon, smallest] = precision_of(dtype);
  std::vector<double> bounds;
  bounds.reserve(magnitudes.size());
  for (const double magnitude : magnitudes) bounds.push_back(terms * epsilon * magnitude + smallest);
  return bounds;
}

struct Terms {
  double forward = 1;   // elements of the largest window
  double backward = 1;  // windows that hold one element, at most
};

Terms count_terms(const Case& one) {
  Terms terms;
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const cenote::Dims& kernel = one.arguments.kernel;
  for (int axis = 0; axis < one.op->spatial_rank; ++axis) {
    const int place = one.sizes.size() - one.op->spatial_rank + axis;
    const std::int64_t size = one.sizes[place];
    const std::int64_t out = y_sizes[place];
    if (one.op->parameters & cenote::kTakesWindow) {
      const auto taps = static_cast<double>(kernel.size() == 1 ? kernel[0] : kernel[axis]);
      terms.forward *= taps;
      terms.backward *= taps;
    } else {
      const std::int64_t taps = size / out + 2;
      const std::int64_t readers = std::min(out, out / size + 2);
      terms.forward *= static_cast<double>(taps);
      terms.backward *= static_cast<double>(readers);
    }
  }
  return terms;
}

/// Of ops that choose elements everything must be equal.
template <class Check>
void check_chosen(const Outcome& got, const Outcome& expected, const Check& check) {
  check("y", difference(got.y, expected.y));
  check("y with indices", difference(got.y_with_indices, expected.y));
  check("y with taps", difference(got.y_with_taps, expected.y));
  check("indices", difference(got.indices, expected.indices));
  check("taps", difference(got.taps, expected.taps));
  check("u16 taps", difference(got.wide_taps, expected.wide_taps));
  check("grad_x from indices", difference(got.grad_x, expected.grad_x));
  check("grad_x from taps", difference(got.grad_x_from_taps, expected.grad_x));
  if (!got.wide_taps.empty()) {
    check("grad_x from u16 taps", difference(got.grad_x_from_wide_taps, expected.grad_x));
  }
}

}  // namespace

Comparison::Comparison(const Case& one) : case_(one), expected_(replay_meaning(one)) {
  if (one.op->gradient_reads_x) {
    bounds_ = smooth_bounds(one);
  } else if (!one.op->uses_indices()) {
    set_avg_bounds();
  }
  // Sums of bytes are exact and their quotients rounded once, on every target.
  if (one.arguments.quantization)
    expected_.y = quantized(*one.arguments.quantization, one.dtype, expected_.y);
}

double Comparison::bounded_share() const {
  double finite = 1;
  double bounded = 1;
  for (std::size_t i = 0; i < bounds_.grad_x.size() && i < expected_.grad_x.size(); ++i) {
    if (!std::isfinite(expected_.grad_x[i])) continue;
    finite += 1;
    bounded += std::isfinite(bounds_.grad_x[i]) ? 1 : 0;
  }
  return bounded / finite;
}

std::vector<std::string> Comparison::problems(const std::string& target, LayoutKind layout) const {
  const TargetGuard guard(target);
  const Outcome got = replay(case_, layout);
  std::vector<std::string> found;
  const auto check = [&](const char* what, const std::string& problem) {
    if (!problem.empty()) found.push_back(target + " " + name_of(layout) + ", " + what + ": " + problem);
  };
  check("outputs", got.guards_intact ? "" : "bytes outside were written");
  check("y of i64", difference(got.whole, expected_.whole));
  if (case_.op->records_indices) {
    check_chosen(got, expected_, check);
  } else if (case_.op->reads_indices) {
    check("y", difference(got.y, expected_.y));
    check("grad_x", difference(got.grad_x, expected_.grad_x));
  } else {
    check("y", difference_beyond(got.y, expected_.y, bounds_.y));
    check("grad_x", difference_beyond(got.grad_x, expected_.grad_x, bounds_.grad_x));
  }
  return found;
}

// A sum of n terms in any order errs by at most (n - 1) roundings of the sum of magnitudes, to first
// order. Dividing adds one rounding, or two as a product with a rounded reciprocal, and the reference
// itself rounds once to the dtype; one more covers the higher orders. Backward, each term is first
// divided, which is bounded likewise.
void Comparison::set_avg_bounds() {
  const Terms terms = count_terms(case_);
  const Outcome magnitudes = replay_magnitudes(case_);
  bounds_.y = rounding_bounds(magnitudes.y, terms.forward + 4, case_.dtype);
  bounds_.grad_x = rounding_bounds(magnitudes.grad_x, terms.backward + 4, case_.dtype);
}

}  // namespace cenote_test
