// Adaptive pooling on examples worked out by hand, forward and backward, on every CPU target.
#include "cenote/adaptive.h"

#include <gtest/gtest.h>

#include <limits>

#include "cenote/runtime.h"
#include "conformance/replay.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::expect_overflow;
using cenote_test::GuardedTensor;
using cenote_test::integers_of;
using cenote_test::iota;
using cenote_test::values_of;
using Values = std::vector<double>;
using Integers = std::vector<std::int64_t>;

class Adaptive : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, Adaptive, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

TEST_P(Adaptive, WindowsOverlapWhenTheSizeDoesNotDivide) {
  // 5 elements to 3 outputs: windows [0, 2), [1, 4), [3, 5).
  const GuardedTensor x(DType::f64, Dims{1, 5}, {1, 2, 6, 4, 5});
  const AdaptivePoolOptions options{.output_size = 3};
  EXPECT_EQ(values_of(adaptive_avg_pool1d(x, {.output_size = 3})), (Values{1.5, 4, 4.5}));
  const MaxPoolResult max = adaptive_max_pool1d_with_indices(x, options);
  EXPECT_EQ(values_of(max.values), (Values{2, 6, 5}));
  EXPECT_EQ(integers_of(max.indices), (Integers{1, 2, 4}));
  EXPECT_EQ(integers_of(adaptive_max_pool1d_with_indices(x, options, DType::u8).indices),
            (Integers{1, 1, 1}));
  const GuardedTensor grad_y(DType::f64, Dims{1, 3}, {2, 3, 4});
  EXPECT_EQ(values_of(adaptive_avg_pool1d_backward(grad_y, Dims{1, 5}, {.output_size = 3})),
            (Values{1, 2, 1, 3, 2}));
  EXPECT_EQ(values_of(adaptive_max_pool1d_backward(grad_y, max.indices, Dims{1, 5}, options)),
            (Values{0, 2, 3, 0, 4}));
}

TEST_P(Adaptive, TapsNumberThePositionsOfTheLargestWindow) {
  // 3x5 to 2x3: rows [0, 2), [1, 3); columns [0, 2), [1, 4), [3, 5). The largest window is 2x3, so the tap
  // of row 1, column 0 of a window is 3 even where the window has two columns.
  Values values(15, 0.0);
  values[5] = 9;  // row 1, column 0
  values[8] = 8;  // row 1, column 3
  const GuardedTensor x(DType::f32, Dims{1, 3, 5}, values);
  const AdaptivePoolOptions options{.output_size = {2, 3}};
  const MaxPoolResult max = adaptive_max_pool2d_with_indices(x, options, DType::u8);
  EXPECT_EQ(values_of(max.values), (Values{9, 8, 8, 9, 8, 8}));
  EXPECT_EQ(integers_of(max.indices), (Integers{3, 5, 3, 0, 2, 0}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 2, 3}, {1, 2, 4, 8, 16, 32});
  Values expected(15, 0.0);
  expected[5] = 1 + 8;
  expected[8] = 2 + 4 + 16 + 32;
  EXPECT_EQ(values_of(adaptive_max_pool2d_backward(grad_y, max.indices, Dims{1, 3, 5}, options)), expected);
}

TEST_P(Adaptive, MoreOutputsThanElements) {
  // 2 elements to 3 outputs: windows [0, 1), [0, 2), [1, 2).
  const GuardedTensor x(DType::f64, Dims{1, 2}, {1, 4});
  EXPECT_EQ(values_of(adaptive_avg_pool1d(x, {.output_size = 3})), (Values{1, 2.5, 4}));
  EXPECT_EQ(values_of(adaptive_max_pool1d(x, {.output_size = 3})), (Values{1, 4, 4}));
  const GuardedTensor grad_y(DType::f64, Dims{1, 3}, {1, 2, 4});
  EXPECT_EQ(values_of(adaptive_avg_pool1d_backward(grad_y, Dims{1, 2}, {.output_size = 3})), (Values{2, 5}));
}

TEST_P(Adaptive, KeepsASize) {
  const GuardedTensor x(DType::f32, Dims{1, 2, 4}, iota(8));
  EXPECT_EQ(values_of(adaptive_avg_pool2d(x, {.output_size = {kKeepSize, 2}})), (Values{0.5, 2.5, 4.5, 6.5}));
  EXPECT_EQ(values_of(adaptive_avg_pool2d(x, {.output_size = kKeepSize})), iota(8));
}

TEST_P(Adaptive, ThreeAxes) {
  const GuardedTensor x(DType::f32, Dims{1, 2, 2, 4}, iota(16));
  const AdaptiveAvgPoolOptions options{.output_size = {1, 2, 2}};
  EXPECT_EQ(values_of(adaptive_avg_pool3d(x, options)), (Values{4.5, 6.5, 8.5, 10.5}));
  EXPECT_EQ(values_of(adaptive_max_pool3d(x, {.output_size = {1, 2, 2}})), (Values{9, 11, 13, 15}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 2, 2}, {4, 8, 12, 16});
  EXPECT_EQ(values_of(adaptive_avg_pool3d_backward(grad_y, Dims{1, 2, 2, 4}, options)),
            (Values{1, 1, 2, 2, 3, 3, 4, 4, 1, 1, 2, 2, 3, 3, 4, 4}));
}

TEST_P(Adaptive, OutputSizeZeroIsEmptyAndHasNoGradient) {
  const GuardedTensor x(DType::f32, Dims{2, 3, 4, 4}, iota(96));
  const AdaptivePoolOptions options{.output_size = {0, 2}};
  EXPECT_EQ(adaptive_avg_pool2d(x, {.output_size = {0, 2}}).sizes(), (Dims{2, 3, 0, 2}));
  const MaxPoolResult max = adaptive_max_pool2d_with_indices(x, options);
  EXPECT_EQ(max.values.sizes(), (Dims{2, 3, 0, 2}));
  expect_invalid([&] { adaptive_avg_pool2d_backward(max.values, x.view().sizes, {.output_size = {0, 2}}); },
                 {"[adaptive_avg_pool2d_backward]", "output_size", "> 0", "[2, 3, 0, 2]"});
  expect_invalid([&] { adaptive_max_pool2d_backward(max.values, max.indices, x.view().sizes, options); },
                 {"[adaptive_max_pool2d_backward]", "output_size", "> 0", "[2, 3, 0, 2]"});
}

TEST_P(Adaptive, NoOutputsOfAnySizeBeside) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const GuardedTensor x(DType::f32, Dims{1, 2, 2}, {1, 2, 3, 4});
  EXPECT_EQ(adaptive_avg_pool2d(x, {.output_size = {kMost, 0}}).sizes(), (Dims{1, kMost, 0}));
  EXPECT_EQ(adaptive_max_pool2d(x, {.output_size = {0, kMost}}).sizes(), (Dims{1, 0, kMost}));
  EXPECT_EQ(adaptive_lp_pool2d(x, {.output_size = {0, kMost}}).sizes(), (Dims{1, 0, kMost}));
}

TEST_P(Adaptive, LongAxesNeedNoFloatingPoint) {
  // 2^24 + 1 is no f32; the boundaries must be exact all the same.
  const std::int64_t length = 16'777'217;
  const float one = 1;
  const ConstTensorView x(&one, Dims{1, length}, Dims{0, 0});
  EXPECT_EQ(values_of(adaptive_avg_pool1d(x, {.output_size = 2})), (Values{1, 1}));
  EXPECT_EQ(integers_of(adaptive_max_pool1d_with_indices(x, {.output_size = 2}).indices),
            (Integers{0, length / 2}));
}

TEST(AdaptiveTapDtype, FollowsTheLargestWindow) {
  EXPECT_EQ(adaptive_max_pool_tap_dtype(Dims{1, 508}, {.output_size = 2}, 1), DType::u8);   // 254
  EXPECT_EQ(adaptive_max_pool_tap_dtype(Dims{1, 509}, {.output_size = 2}, 1), DType::u16);  // 255
  EXPECT_EQ(adaptive_max_pool_tap_dtype(Dims{1, 32, 32}, {.output_size = 2}, 2), DType::u16);
  EXPECT_EQ(adaptive_max_pool_tap_dtype(Dims{1, 512, 512}, {.output_size = 1}, 2), DType::i64);
}

TEST(AdaptiveErrors, OutputSize) {
  const Dims sizes{1, 1, 4, 4};
  expect_invalid([&] { adaptive_avg_pool2d_shape(sizes, {.output_size = {2, -2}}); },
                 {"[adaptive_avg_pool2d]", "output_size[1]", ">= 0", "-2"});
  expect_invalid([&] { adaptive_max_pool2d_shape(sizes, {.output_size = -7}); },
                 {"[adaptive_max_pool2d]", "output_size[0]", "-7"});
  expect_invalid([&] { adaptive_max_pool2d_shape(sizes, {}); }, {"output_size", "1 or 2 values", "[]"});
  expect_invalid([&] { adaptive_avg_pool2d_shape(sizes, {.output_size = {1, 2, 3}}); },
                 {"output_size", "1 or 2 values", "[1, 2, 3]"});
  const std::int64_t large = std::int64_t{1} << 32;
  expect_overflow([&] { adaptive_avg_pool2d_shape(sizes, {.output_size = large}); },
                  {"[adaptive_avg_pool2d]", "number of elements of y", "4294967296"});
}

TEST(AdaptiveErrors, TapsThatDoNotFit) {
  const GuardedTensor x(DType::f32, Dims{1, 600}, iota(600));
  expect_invalid([&] { adaptive_max_pool1d_with_indices(x, {.output_size = 2}, DType::u8); },
                 {"[adaptive_max_pool1d]", "indices", "i64", "u16", "got u8"});
}

TEST(AdaptiveErrors, IndexOutsideThePlane) {
  const GuardedTensor grad_y(DType::f32, Dims{1, 2}, {1, 1});
  const auto backward = [&](std::int64_t index) {
    const std::int64_t indices[2] = {0, index};
    adaptive_max_pool1d_backward(grad_y, ConstTensorView(indices, Dims{1, 2}), Dims{1, 5},
                                 {.output_size = 2});
  };
  EXPECT_NO_THROW(backward(4));
  EXPECT_NO_THROW(backward(-1));
  expect_invalid([&] { backward(5); }, {"[adaptive_max_pool1d_backward]", "indices", "[0, 5)", "got 5"});
  expect_invalid([&] { backward(-2); }, {"indices", "got -2"});
  expect_invalid([&] { backward((std::int64_t{1} << 32) + 1); }, {"indices", "got 4294967297"});
}

}  // namespace
}  // namespace cenote
