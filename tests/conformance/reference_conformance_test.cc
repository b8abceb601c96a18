// Every CPU target against "reference": values, indices, taps and gradients of generated cases, in every
// layout. Maxima, indices, their gradients and unpooling must be equal (the sign of a zero aside); averages
// must lie within a rounding bound, and the ops whose gradient reads x within those of smooth_bounds.h.
// Nothing outside the outputs may be written.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <tuple>

#include "cenote/error.h"
#include "cenote/runtime.h"
#include "conformance/comparison.h"

namespace cenote_test {
namespace {

using cenote::Dims;

constexpr int kCases = 6650;
constexpr int kLargeCases = 266;
constexpr int kOverlappingCases = 266;
constexpr int kUnevenCases = 270;
constexpr std::uint64_t kSeed = 20240611;

/// Collects failing cases and reports the smallest ones, each with its first problem.
class FailureLog {
 public:
  void add(const Case& one, const std::vector<std::string>& problems) {
    ++comparisons_;
    if (problems.empty()) return;
    const std::string text = describe(one);
    if (!failures_.empty() && failures_.back().text == text) return;
    failures_.push_back({cenote::element_count(one.sizes), text, problems.front()});
  }

  ~FailureLog() {
    if (failures_.empty()) return;
    std::sort(failures_.begin(), failures_.end(), [](const Failure& a, const Failure& b) {
      return std::tie(a.size, a.text) < std::tie(b.size, b.text);
    });
    std::ostringstream text;
    text << "of " << comparisons_ << " comparisons, " << failures_.size() << " cases failed; the smallest:";
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

class ReferenceConformance : public ::testing::TestWithParam<std::string> {};

TEST_P(ReferenceConformance, EveryTargetAndLayoutAgrees) {
  FailureLog log;
  int compared = 0;
  double cases = 0;
  double bounded = 0;
  std::vector<Case> cases_of_all = generate_cases(kCases, kSeed);
  vary_encodings(cases_of_all, kSeed);
  for (const Case& one : cases_of_all) {
    if (one.op->name != GetParam()) continue;
    const Comparison comparison(one);
    cases += 1;
    bounded += comparison.bounded_share();
    for (const std::string& target : cenote::cpu_targets()) {
      for (const LayoutKind layout : kLayoutKinds) {
        // The reference's own loops know no layouts: one that is not dense is enough.
        if (target == "reference" && layout != LayoutKind::kStrided) continue;
        log.add(one, comparison.problems(target, layout));
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
  std::vector<Case> cases = generate_large_cases(kLargeCases, kSeed);
  const std::vector<Case> overlapping = generate_overlapping_cases(kOverlappingCases, kSeed);
  cases.insert(cases.end(), overlapping.begin(), overlapping.end());
  const std::vector<Case> uneven = generate_uneven_cases(kUnevenCases, kSeed);
  cases.insert(cases.end(), uneven.begin(), uneven.end());
  for (const Case& one : cases) {
    if (one.op->name != GetParam()) continue;
    const Comparison comparison(one);
    for (const std::string& target : cenote::cpu_targets()) {
      if (target == "reference") continue;
      for (const LayoutKind layout : kLayoutKinds) {
        log.add(one, comparison.problems(target, layout));
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 10);
}

// The gradients of windows of stride 1 are summed part by part where planes are large.
TEST(AvgBackward, OfPlanesInParts) {
  struct Plane {
    const char* op;
    Dims sizes;
    Dims kernel;
    Dims dilation;
    Dims padding;
    Dims padding_end;
  };
  const Plane planes[] = {{"avg_pool1d", {1, 2, 90'000}, 9, 3, 5, {}},
                          {"sum_pool1d", {1, 1, 80'000}, 300, 1, 150, 0},
                          {"avg_pool2d", {1, 2, 300, 251}, {3, 2}, 1, 1, {0, 1}},
                          {"avg_pool2d", {1, 3, 7, 12'000}, {6, 4}, {1, 2}, {2, 3}, {}},
                          {"avg_pool2d", {2, 12, 90, 70}, {5, 3}, 1, {2, 1}, {}},
                          {"avg_pool3d", {1, 1, 20, 61, 67}, {2, 3, 3}, {2, 1, 1}, {1, 1, 0}, {}}};
  FailureLog log;
  for (const Plane& plane : planes) {
    for (const bool count_include_pad : {false, true}) {
      Case one;
      one.op = cenote::find_op(plane.op);
      one.sizes = plane.sizes;
      one.arguments.kernel = plane.kernel;
      one.arguments.stride = 1;
      one.arguments.dilation = plane.dilation;
      one.arguments.padding = plane.padding;
      one.arguments.padding_end = plane.padding_end;
      one.arguments.count_include_pad = count_include_pad;
      one.seed = 11;
      const Comparison comparison(one);
      for (const std::string& target : cenote::cpu_targets()) {
        if (target == "reference") continue;
        for (const LayoutKind layout : kLayoutKinds) log.add(one, comparison.problems(target, layout));
      }
    }
  }
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

bool pads_beyond_half(const Case& one) {
  Case strict = one;
  strict.arguments.convention = cenote::Convention::kPyTorch;
  try {
    strict.op->shape(strict.sizes, strict.arguments);
    return false;
  } catch (const cenote::Error&) {
    return true;
  }
}

TEST(Cases, TakeEveryOption) {
  std::map<std::string, int> counts;
  std::vector<Case> cases = generate_cases(kCases, kSeed);
  vary_encodings(cases, kSeed);
  for (const Case& one : cases) {
    const std::string text = describe(one);
    for (const char* part :
         {"auto_pad=SAME_UPPER", "auto_pad=SAME_LOWER", "auto_pad=VALID", "index_order=tensor",
          "index_order=column_major", "x_scale=", "i64", "ceil_mode=1"})
      counts[part] += text.find(part) != std::string::npos ? 1 : 0;
    counts["padding beyond half"] += pads_beyond_half(one) ? 1 : 0;
    counts["ends of i64"] += one.dtype == cenote::DType::i64 && one.fill == Fill::kEnds ? 1 : 0;
  }
  for (const auto& [option, count] : counts) EXPECT_GE(count, 30) << option;
}

}  // namespace
}  // namespace cenote_test
