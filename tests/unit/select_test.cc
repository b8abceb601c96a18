// Median and mode pooling on examples worked out by hand, on every CPU target.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cenote/runtime.h"
#include "cenote/window.h"
#include "conformance/replay.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::GuardedTensor;
using cenote_test::integers_of;
using cenote_test::values_of;
using Values = std::vector<double>;
using Integers = std::vector<std::int64_t>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

class Select : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, Select, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

TEST_P(Select, MediansOfOddAndEvenWindows) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 6}, {5, 1, 4, 1, 3, 9});
  const MaxPoolResult odd = median_pool1d_with_indices(x, {.kernel = 3, .stride = 1});
  EXPECT_EQ(values_of(odd.values), (Values{4, 1, 3, 3}));
  EXPECT_EQ(integers_of(odd.indices), (Integers{2, 1, 4, 4}));
  // The lower one of two; padding takes no part.
  const MaxPoolResult even = median_pool1d_with_indices(x, {.kernel = 4, .stride = 2, .padding = 2});
  EXPECT_EQ(values_of(even.values), (Values{1, 1, 3, 3}));
  EXPECT_EQ(integers_of(even.indices), (Integers{1, 1, 4, 4}));
  EXPECT_EQ(values_of(median_pool1d(x, {.kernel = 6})), (Values{3}));
}

TEST_P(Select, ModesAndTheirTies) {
  const GuardedTensor labels(DType::u8, Dims{1, 1, 2, 6}, {7, 7, 2, 3, 9, 9, 2, 2, 3, 2, 4, 4});
  const MaxPoolResult result = mode_pool2d_with_indices(labels, {.kernel = 2});
  // 7 and 2 twice each: 7 comes first; 2 twice against 3 twice: 2 comes first; 9 before 4.
  EXPECT_EQ(values_of(result.values), (Values{7, 2, 9}));
  EXPECT_EQ(integers_of(result.indices), (Integers{0, 2, 4}));
  EXPECT_EQ(values_of(mode_pool2d(labels, {.kernel = {2, 6}})), (Values{2}));
}

TEST_P(Select, LargeIntegersStayExact) {
  constexpr std::int64_t kLarge = (std::int64_t{1} << 62) + 1;
  const std::int64_t labels[] = {kLarge + 1, kLarge, kLarge + 2, kLarge, kLarge + 3};
  const ConstTensorView x(labels, Dims{1, 5});
  EXPECT_EQ(integers_of(mode_pool1d(x, {.kernel = 5})), (Integers{kLarge}));
  EXPECT_EQ(integers_of(median_pool1d(x, {.kernel = 5})), (Integers{kLarge + 1}));
}

TEST_P(Select, NanWinsAndInfinitiesAreOrdered) {
  const GuardedTensor x(DType::f64, Dims{1, 1, 7}, {1, kNan, 2, kNan, kInfinity, -kInfinity, kInfinity});
  for (const auto pool : {median_pool1d_with_indices, mode_pool1d_with_indices}) {
    const MaxPoolResult result = pool(x, {.kernel = 4}, DType::i64);
    EXPECT_TRUE(std::isnan(values_of(result.values)[0]));
    EXPECT_EQ(integers_of(result.indices), (Integers{1}));
  }
  const GuardedTensor tail(DType::f64, Dims{1, 1, 3}, {kInfinity, -kInfinity, kInfinity});
  EXPECT_EQ(values_of(median_pool1d(tail, {.kernel = 3})), (Values{kInfinity}));
  EXPECT_EQ(integers_of(median_pool1d_with_indices(tail, {.kernel = 3, .padding = 1}).indices),
            (Integers{1}));
}

TEST_P(Select, WindowsWithoutElements) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 2}, {kInfinity, kInfinity});
  const MaxPoolOptions options{.kernel = 2, .stride = 1, .padding = 2, .convention = Convention::kOnnx};
  const MaxPoolResult median = median_pool1d_with_indices(x, options);
  EXPECT_EQ(values_of(median.values), (Values{0, kInfinity, kInfinity, kInfinity, 0}));
  EXPECT_EQ(integers_of(median.indices), (Integers{-1, 0, 0, 1, -1}));
  const MaxPoolResult mode = mode_pool1d_with_indices(x, options, DType::u8);
  EXPECT_EQ(values_of(mode.values), (Values{0, kInfinity, kInfinity, kInfinity, 0}));
  EXPECT_EQ(integers_of(mode.indices), (Integers{255, 1, 0, 0, 255}));
}

TEST_P(Select, LargeWindowsAreSorted) {
  std::vector<double> values;
  values.reserve(5001);
  for (std::int64_t i = 0; i < 5001; ++i) values.push_back(static_cast<double>(i * 7919 % 5001));
  values[17] = values[4000];
  const GuardedTensor x(DType::f32, Dims{1, 1, 5001}, values);
  EXPECT_EQ(integers_of(mode_pool1d_with_indices(x, {.kernel = 5001}).indices), (Integers{17}));
  const Values median = values_of(median_pool1d(x, {.kernel = 5001}));
  std::nth_element(values.begin(), values.begin() + 2500, values.end());
  EXPECT_EQ(median, (Values{values[2500]}));
}

TEST_P(Select, GradientsGoToTheElement) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 5}, {5, 1, 4, 1, 3});
  const MedianPoolOptions options{.kernel = 3, .stride = 2};
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 2}, {10, 20});
  for (const DType record : {DType::i64, DType::u8}) {
    const MaxPoolResult result = median_pool1d_with_indices(x, options, record);
    EXPECT_EQ(values_of(median_pool1d_backward(grad_y, result.indices, Dims{1, 1, 5}, options)),
              (Values{0, 0, 10, 0, 20}));
  }
}

TEST(SelectErrors, NameTheOp) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 4}, {1, 2, 3, 4});
  expect_invalid([&] { median_pool1d(x, {.kernel = 0}); }, {"[median_pool1d]", "kernel[0]", "got 0"});
  expect_invalid([&] { mode_pool1d(x, {.kernel = 5}); }, {"[mode_pool1d]", "output size"});
  expect_invalid([&] { mode_pool1d_backward(x, x, Dims{1, 1, 4}, {.kernel = 1}); },
                 {"[mode_pool1d_backward]", "indices"});
}

}  // namespace
}  // namespace cenote
