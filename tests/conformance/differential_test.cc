// Cases that nobody chose: more than 20,000 new ones in every run, each on every CPU target against what the
// reference makes of its plain form.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "cenote/runtime.h"
#include "conformance/comparison.h"
#include "conformance/shrink.h"

namespace cenote_test {
namespace {

constexpr int kParts = 4;                // which may run side by side
constexpr int kCases = 22'000 / kParts;  // each part begins with the fixed ones
constexpr int kOverlappingCases = 2'000 / kParts;
constexpr int kUnevenCases = 2'000 / kParts;

/// What differs on any target but the reference, in the layout of the case.
std::vector<std::string> problems_of(const Case& one) {
  const Comparison comparison(one);
  std::vector<std::string> found;
  for (const std::string& target : cenote::cpu_targets()) {
    if (target == "reference") continue;
    for (const std::string& problem : comparison.problems(target, one.layout)) found.push_back(problem);
  }
  return found;
}

class Differential : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Parts, Differential, ::testing::Range(0, kParts));

TEST_P(Differential, EveryTargetEqualsTheReference) {
  const std::uint64_t seed = random_seed() + static_cast<std::uint64_t>(GetParam());
  std::vector<Case> cases = generate_cases(kCases, seed);
  const std::vector<Case> overlapping = generate_overlapping_cases(kOverlappingCases, seed);
  cases.insert(cases.end(), overlapping.begin(), overlapping.end());
  const std::vector<Case> uneven = generate_uneven_cases(kUnevenCases, seed);
  cases.insert(cases.end(), uneven.begin(), uneven.end());
  vary_encodings(cases, seed);
  int compared = 0;
  for (const Case& one : cases) {
    ++compared;
    if (problems_of(one).empty()) continue;
    const Case small = shrink(one, [](const Case& smaller) { return !problems_of(smaller).empty(); });
    FAIL() << describe(one) << "\nshrinks to\n" << describe(small) << '\n' << problems_of(small).front();
  }
  EXPECT_EQ(compared, kCases + kOverlappingCases + kUnevenCases);
}

/// A failure of windows longer than 3: the smallest such window is 4 long.
TEST(Shrink, FindsTheSmallestFailingCase) {
  const auto fails = [](const Case& one) {
    const cenote::Dims& kernel = one.arguments.kernel;
    return std::any_of(kernel.begin(), kernel.end(), [](std::int64_t size) { return size > 3; });
  };
  int shrunk = 0;
  int reached = 0;
  for (const Case& one : generate_cases(2'000, 5)) {
    if (!fails(one)) continue;
    ++shrunk;
    const Case small = shrink(one, fails);
    SCOPED_TRACE(describe(one));
    ASSERT_TRUE(fails(small));
    reached += *std::max_element(small.arguments.kernel.begin(), small.arguments.kernel.end()) == 4 ? 1 : 0;
    EXPECT_EQ(small.layout, LayoutKind::kChannelsFirst);
    EXPECT_EQ(small.fill, Fill::kSmallIntegers);
    EXPECT_LE(cenote::element_count(small.sizes), cenote::element_count(one.sizes));
  }
  EXPECT_GE(shrunk, 100);
  EXPECT_GE(reached, shrunk * 19 / 20) << "a greedy search may get stuck, but seldom";
}

}  // namespace
}  // namespace cenote_test
