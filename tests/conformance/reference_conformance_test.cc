// Every CPU target against "reference": values, indices, taps and gradients of generated cases, in every
// layout. Maxima, indices, their gradients and unpooling must be equal (the sign of a zero aside); averages
// must lie within a rounding bound, and the ops whose gradient reads x within those of smooth_bounds.h.
// Nothing outside the outputs may be written.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <tuple>
#include <type_traits>

#include "cenote/runtime.h"
#include "conformance/replay.h"
#include "conformance/smooth_bounds.h"

namespace cenote_test {
namespace {

constexpr int kCases = 6650;
constexpr int kLargeCases = 266;
constexpr std::uint64_t kSeed = 20240611;

/// Collects failing cases and reports the smallest ones, each with its first problem.
class FailureLog {
 public:
  void add(const Case& one, const std::string& what) {
    ++comparisons_;
    const std::string text = describe(one);
    if (!failures_.empty() && failures_.back().text == text) return;
    failures_.push_back({cenote::element_count(one.sizes), text, what});
  }

  ~FailureLog() {
    if (failures_.empty()) return;
    std::sort(failures_.begin(), failures_.end(), [](const Failure& a, const Failure& b) {
      return std::tie(a.size, a.text) < std::tie(b.size, b.text);
    });
    std::ostringstream text;
    text << comparisons_ << " comparisons of " << failures_.size() << " cases failed; the smallest:";
    for (std::size_t i = 0; i < std::min<std::size_t>(failures_.size(), 5); ++i) {
      text << "\n  " << failures_[i].text << "\n    " << failures_[i].what;
    }
    ADD_FAILURE() << text.str();
  }

 private:
  struct Failure {
    std::int64_t size;
    std::string text;
    std::string what;
  };
  int comparisons_ = 0;
  std::vector<Failure> failures_;
};

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

class Comparison {
 public:
  explicit Comparison(const Case& one) : case_(one), expected_(replay_reference(one)) {
    if (one.op->gradient_reads_x) {
      bounds_ = smooth_bounds(one);
    } else if (!one.op->uses_indices()) {
      set_avg_bounds();
    }
  }

  /// Of the elements of grad_x that are finite, how many are held to a bound.
  double bounded_share() const {
    double finite = 1;
    double bounded = 1;
    for (std::size_t i = 0; i < bounds_.grad_x.size() && i < expected_.grad_x.size(); ++i) {
      if (!std::isfinite(expected_.grad_x[i])) continue;
      finite += 1;
      bounded += std::isfinite(bounds_.grad_x[i]) ? 1 : 0;
    }
    return bounded / finite;
  }

  void run(const std::string& target, LayoutKind layout, FailureLog& log) const {
    const TargetGuard guard(target);
    const Outcome got = replay(case_, layout);
    const auto check = [&](const char* what, const std::string& problem) {
      if (!problem.empty()) log.add(case_, target + " " + name_of(layout) + ", " + what + ": " + problem);
    };
    check("outputs", got.guards_intact ? "" : "bytes outside were written");
    if (case_.op->records_indices) {
      check_max(got, check);
    } else if (case_.op->reads_indices) {
      check("y", difference(got.y, expected_.y));
      check("grad_x", difference(got.grad_x, expected_.grad_x));
    } else {
      check("y", difference_beyond(got.y, expected_.y, bounds_.y));
      check("grad_x", difference_beyond(got.grad_x, expected_.grad_x, bounds_.grad_x));
    }
  }

 private:
  static Outcome replay_reference(const Case& one) {
    const TargetGuard guard("reference");
    return replay(one, LayoutKind::kChannelsFirst);
  }

  template <class Check>
  void check_max(const Outcome& got, const Check& check) const {
    check("y", difference(got.y, expected_.y));
    check("y with indices", difference(got.y_with_indices, expected_.y));
    check("y with taps", difference(got.y_with_taps, expected_.y));
    check("indices", difference(got.indices, expected_.indices));
    check("taps", difference(got.taps, expected_.taps));
    check("u16 taps", difference(got.wide_taps, expected_.wide_taps));
    check("grad_x from indices", difference(got.grad_x, expected_.grad_x));
    check("grad_x from taps", difference(got.grad_x_from_taps, expected_.grad_x));
    if (!got.wide_taps.empty()) {
      check("grad_x from u16 taps", difference(got.grad_x_from_wide_taps, expected_.grad_x));
    }
  }

  // A sum of n terms in any order errs by at most (n - 1) roundings of the sum of magnitudes, to first
  // order. Dividing adds one rounding, or two as a product with a rounded reciprocal, and the reference
  // itself rounds once to the dtype; one more covers the higher orders. Backward, each term is first
  // divided, which is bounded likewise.
  // A sum of n terms in any order errs by at most (n - 1) roundings of the sum of magnitudes, to first
  // order. Dividing adds one rounding, or two as a product with a rounded reciprocal, and the reference
  // itself rounds once to the dtype; one more covers the higher orders. Backward, each term is first
  // divided, which is bounded likewise.
  void set_avg_bounds() {
    const Terms terms = count_terms(case_);
    const Outcome magnitudes = replay_magnitudes(case_);
    bounds_.y = rounding_bounds(magnitudes.y, terms.forward + 4, case_.dtype);
    bounds_.grad_x = rounding_bounds(magnitudes.grad_x, terms.backward + 4, case_.dtype);
  }

  const Case& case_;
  Outcome expected_;
  SmoothBounds bounds_;  // where results need not be equal
};

class ReferenceConformance : public ::testing::TestWithParam<std::string> {};

TEST_P(ReferenceConformance, EveryTargetAndLayoutAgrees) {
  FailureLog log;
  int compared = 0;
  double cases = 0;
  double bounded = 0;
  for (const Case& one : generate_cases(kCases, kSeed)) {
    if (one.op->name != GetParam()) continue;
    const Comparison comparison(one);
    cases += 1;
    bounded += comparison.bounded_share();
    for (const std::string& target : cenote::cpu_targets()) {
      for (const LayoutKind layout : kLayoutKinds) {
        // The reference's own loops know no layouts: one that is not dense is enough.
        if (target == "reference" && layout != LayoutKind::kStrided) continue;
        comparison.run(target, layout, log);
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 100);
  EXPECT_GE(bounded / cases, 0.95) << "too many bounds say nothing";
  RecordProperty("comparisons", compared);
}

TEST_P(ReferenceConformance, EveryTargetAgreesOnLargeCases) {
  FailureLog log;
  int compared = 0;
  for (const Case& one : generate_large_cases(kLargeCases, kSeed)) {
    if (one.op->name != GetParam()) continue;
    const Comparison comparison(one);
    for (const std::string& target : cenote::cpu_targets()) {
      if (target == "reference") continue;
      for (const LayoutKind layout : kLayoutKinds) {
        comparison.run(target, layout, log);
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 10);
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const cenote::OpInfo& op : cenote::ops()) names.emplace_back(op.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Ops, ReferenceConformance, ::testing::ValuesIn(op_names()),
                         [](const auto& param) { return param.param; });

TEST(Cases, AreManyValidAndRepeatable) {
  const std::vector<Case> cases = generate_cases(kCases, kSeed);
  const std::vector<Case> again = generate_cases(kCases, kSeed);
  ASSERT_EQ(cases.size(), static_cast<std::size_t>(kCases));
  for (std::size_t i = 0; i < cases.size(); ++i) {
    ASSERT_EQ(describe(cases[i]), describe(again[i]));
    ASSERT_NO_THROW(cases[i].op->shape(cases[i].sizes, cases[i].arguments)) << cases[i];
  }
  EXPECT_NE(describe(cases.back()), describe(generate_cases(kCases, kSeed + 1).back()));
}

}  // namespace
}  // namespace cenote_test
