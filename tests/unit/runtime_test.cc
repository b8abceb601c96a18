// CPU targets, threads and the version.
#include "cenote/runtime.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <regex>

#include "cenote/window.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_error;
using cenote_test::expect_invalid;
using cenote_test::values_of;

TEST(Version, HasThreeNumbers) {
  EXPECT_TRUE(std::regex_match(version(), std::regex("[0-9]+\\.[0-9]+\\.[0-9]+")));
}

TEST(CpuTarget, ListEndsWithReference) {
  const auto targets = cpu_targets();
  ASSERT_GE(targets.size(), 2u);
  EXPECT_EQ(targets.back(), "reference");
  for (const std::string& name : targets)
    EXPECT_EQ(std::count(targets.begin(), targets.end(), name), 1) << name;
}

TEST(CpuTarget, EachCanBeForced) {
  const cenote_test::GuardedTensor x(DType::f32, Dims{1, 4}, {1, 4, 2, 3});
  for (const std::string& name : cpu_targets()) {
    set_cpu_target(name);
    EXPECT_EQ(cpu_target(), name);
    EXPECT_EQ(values_of(max_pool1d(x, {.kernel = 2})), (std::vector<double>{4, 3})) << name;
  }
  set_cpu_target("");
  EXPECT_EQ(cpu_target(), cpu_targets().front());
}

TEST(CpuTarget, UnknownIsAnErrorAndChangesNothing) {
  set_cpu_target("reference");
  expect_error([] { set_cpu_target("no_such_target"); }, ErrorCode::kUnsupported,
               {"[set_cpu_target]", "no_such_target", "reference"});
  EXPECT_EQ(cpu_target(), "reference");
  set_cpu_target("");
}

/// Calls `use` and exits with 0, or with 3 and the error's text.
template <class Use>
[[noreturn]] void exit_after(const Use& use) {
  try {
    use();
  } catch (const Error& error) {
    std::fputs(error.what(), stderr);
    std::exit(3);
  }
  std::exit(0);
}

// The environment is read once, so each of these needs a fresh process.
class EnvironmentDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(EnvironmentDeathTest, TargetIsForced) {
  const auto forced = [] {
    setenv("CENOTE_CPU_TARGET", "reference", 1);
    exit_after([] { std::exit(cpu_target() == "reference" ? 0 : 1); });
  };
  EXPECT_EXIT(forced(), ::testing::ExitedWithCode(0), "");
}

TEST_F(EnvironmentDeathTest, MissingTargetFailsLoudly) {
  const auto missing = [] {
    setenv("CENOTE_CPU_TARGET", "no_such_target", 1);
    exit_after([] {
      const float x[2] = {1, 2};
      max_pool1d(ConstTensorView(x, Dims{1, 2}), {.kernel = 2});
    });
  };
  EXPECT_EXIT(missing(), ::testing::ExitedWithCode(3), "CENOTE_CPU_TARGET.*reference.*no_such_target");
}

TEST_F(EnvironmentDeathTest, ThreadsAreSetOrRefused) {
  const auto three = [] {
    setenv("CENOTE_NUM_THREADS", "3", 1);
    exit_after([] { std::exit(num_threads() == 3 ? 0 : 1); });
  };
  EXPECT_EXIT(three(), ::testing::ExitedWithCode(0), "");
  const auto bad = [](const char* value) {
    setenv("CENOTE_NUM_THREADS", value, 1);
    exit_after([] { num_threads(); });
  };
  EXPECT_EXIT(bad("0"), ::testing::ExitedWithCode(3), "CENOTE_NUM_THREADS.*got 0");
  EXPECT_EXIT(bad("two"), ::testing::ExitedWithCode(3), "CENOTE_NUM_THREADS.*got two");
  EXPECT_EXIT(bad("99999999999"), ::testing::ExitedWithCode(3), "CENOTE_NUM_THREADS.*99999999999");
}

TEST_F(EnvironmentDeathTest, StoresPastCachesAreKnownOrRefused) {
  const auto pool = [](const char* value) {
    setenv("CENOTE_STORE_PAST_CACHES", value, 1);
    exit_after([] {
      const float x[2] = {1, 2};
      max_pool1d(ConstTensorView(x, Dims{1, 2}), {.kernel = 2});
    });
  };
  for (const char* value : {"auto", "always", "never"})
    EXPECT_EXIT(pool(value), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(pool("sometimes"), ::testing::ExitedWithCode(3),
              "CENOTE_STORE_PAST_CACHES.*never.*got sometimes");
}

TEST(Threads, CountIsKeptAndChecked) {
  const int before = num_threads();
  EXPECT_GE(before, 1);
  set_num_threads(3);
  EXPECT_EQ(num_threads(), 3);
  expect_invalid([] { set_num_threads(0); }, {"[set_num_threads]", "count", "0"});
  expect_invalid([] { set_num_threads(-4); }, {"[set_num_threads]", "count", "-4"});
  EXPECT_EQ(num_threads(), 3);
  set_num_threads(before);
}

}  // namespace
}  // namespace cenote
