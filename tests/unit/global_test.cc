// Global pooling on examples worked out by hand, forward and backward, on every CPU target.
#include "cenote/global.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cenote/runtime.h"
#include "conformance/replay.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::GuardedTensor;
using cenote_test::integers_of;
using cenote_test::iota;
using cenote_test::values_of;
using Values = std::vector<double>;
using Integers = std::vector<std::int64_t>;

class Global : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, Global, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

TEST_P(Global, AvgOfEveryRank) {
  const GuardedTensor x1(DType::f32, Dims{2, 1, 3}, {1, 2, 6, 4, 5, 6});
  EXPECT_EQ(global_avg_pool1d(x1).sizes(), (Dims{2, 1, 1}));
  EXPECT_EQ(values_of(global_avg_pool1d(x1)), (Values{3, 5}));
  const GuardedTensor x2(DType::f64, Dims{2, 2, 2}, iota(8));
  EXPECT_EQ(global_avg_pool2d(x2).sizes(), (Dims{2, 1, 1}));
  EXPECT_EQ(values_of(global_avg_pool2d(x2)), (Values{1.5, 5.5}));
  const GuardedTensor x3(DType::f32, Dims{1, 1, 2, 2, 2}, iota(8));
  EXPECT_EQ(values_of(global_avg_pool3d(x3)), (Values{3.5}));
}

TEST_P(Global, AvgBackwardSpreadsEvenly) {
  const GuardedTensor grad_y(DType::f32, Dims{2, 1, 1}, {8, 4});
  EXPECT_EQ(values_of(global_avg_pool2d_backward(grad_y, Dims{2, 2, 2})), (Values{2, 2, 2, 2, 1, 1, 1, 1}));
}

TEST_P(Global, MaxOfEveryRank) {
  const GuardedTensor x1(DType::f32, Dims{2, 3}, {1, 7, 7, -4, -5, -6});
  const MaxPoolResult one = global_max_pool1d_with_indices(x1);
  EXPECT_EQ(values_of(one.values), (Values{7, -4}));
  EXPECT_EQ(integers_of(one.indices), (Integers{1, 0}));
  const GuardedTensor x2(DType::f64, Dims{1, 1, 2, 2}, {0, 3, 2, 1});
  EXPECT_EQ(integers_of(global_max_pool2d_with_indices(x2).indices), (Integers{1}));
  const GuardedTensor x3(DType::f32, Dims{1, 2, 2, 2}, {0, 1, 2, 3, 4, 9, 6, 7});
  EXPECT_EQ(values_of(global_max_pool3d(x3)), (Values{9}));
  EXPECT_EQ(integers_of(global_max_pool3d_with_indices(x3).indices), (Integers{5}));
}

TEST_P(Global, MaxBackwardGoesToOnePlace) {
  const GuardedTensor grad_y(DType::f64, Dims{1, 2, 1, 1}, {3, 5});
  const GuardedTensor indices(DType::i64, Dims{1, 2, 1, 1}, {2, -1});
  EXPECT_EQ(values_of(global_max_pool2d_backward(grad_y, indices, Dims{1, 2, 2, 2})),
            (Values{0, 0, 3, 0, 0, 0, 0, 0}));
}

TEST_P(Global, NanAndMinusInfinity) {
  const double infinity = std::numeric_limits<double>::infinity();
  const GuardedTensor x(
      DType::f32, Dims{2, 4},
      {std::nan(""), 1, std::nan(""), infinity, -infinity, -infinity, -infinity, -infinity});
  const MaxPoolResult max = global_max_pool1d_with_indices(x);
  EXPECT_TRUE(std::isnan(values_of(max.values)[0]));
  EXPECT_EQ(values_of(max.values)[1], -infinity);
  EXPECT_EQ(integers_of(max.indices), (Integers{2, 0}));
  EXPECT_TRUE(std::isnan(values_of(global_avg_pool1d(x))[0]));
}

TEST_P(Global, LargePlanesKeepTheirAccuracy) {
  // A running f32 sum of 2^25 ones would stop at 2^24.
  const float one = 1;
  const ConstTensorView x(&one, Dims{1, 4096, 8192}, Dims{0, 0, 0});
  EXPECT_EQ(values_of(global_avg_pool2d(x)), (Values{1}));
}

TEST(GlobalErrors, RankSizesAndIndices) {
  expect_invalid([] { global_avg_pool2d_shape(Dims{3, 4}); }, {"[global_avg_pool2d]", "rank", "[3, 4]"});
  expect_invalid([] { global_avg_pool2d_shape(Dims{1, 3, 0, 4}); }, {"[global_avg_pool2d]", "[1, 3, 0, 4]"});
  const GuardedTensor grad_y(DType::f32, Dims{1, 1}, {1});
  const GuardedTensor taps(DType::u8, Dims{1, 1}, {0});
  expect_invalid([&] { global_max_pool1d_backward(grad_y, taps, Dims{1, 5}); },
                 {"[global_max_pool1d_backward]", "indices", "i64", "got u8"});
  const GuardedTensor outside(DType::i64, Dims{1, 1}, {5});
  expect_invalid([&] { global_max_pool1d_backward(grad_y, outside, Dims{1, 5}); },
                 {"[global_max_pool1d_backward]", "indices", "[0, 5)", "got 5"});
  const std::int64_t far = (std::int64_t{1} << 32) + 2;
  expect_invalid([&] { global_max_pool1d_backward(grad_y, ConstTensorView(&far, Dims{1, 1}), Dims{1, 5}); },
                 {"indices", "got 4294967298"});
}

}  // namespace
}  // namespace cenote
