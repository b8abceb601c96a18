// ONNX's padding rule: any padding, so that whole windows may lie in it. Every CPU target must agree with the
// reference, and the reference with what is worked out by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "cenote/runtime.h"
#include "cenote/window.h"
#include "conformance/replay.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::GuardedTensor;
using cenote_test::integers_of;
using cenote_test::iota;
using cenote_test::LayoutKind;
using cenote_test::values_of;
using Values = std::vector<double>;
using Integers = std::vector<std::int64_t>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Convention : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, Convention, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

TEST_P(Convention, OnnxLetsWindowsLieInThePadding) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 3}, {5, 7, 6});
  const MaxPoolOptions max{
      .kernel = 2, .stride = 1, .padding = 3, .padding_end = 2, .convention = cenote::Convention::kOnnx};
  const MaxPoolResult result = max_pool1d_with_indices(x, max);
  EXPECT_EQ(values_of(result.values), (Values{-kInfinity, -kInfinity, 5, 7, 7, 6, -kInfinity}));
  EXPECT_EQ(integers_of(result.indices), (Integers{-1, -1, 0, 1, 1, 2, -1}));
  EXPECT_EQ(integers_of(max_pool1d_with_indices(x, max, DType::u8).indices),
            (Integers{255, 255, 1, 1, 0, 0, 255}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 7}, {1, 2, 4, 8, 16, 32, 64});
  EXPECT_EQ(values_of(max_pool1d_backward(grad_y, result.indices, x.view().sizes, max)), (Values{4, 24, 32}));

  AvgPoolOptions avg{.kernel = 2,
                     .stride = 1,
                     .padding = 3,
                     .padding_end = 2,
                     .count_include_pad = false,
                     .convention = cenote::Convention::kOnnx};
  EXPECT_EQ(values_of(avg_pool1d(x, avg)), (Values{0, 0, 5, 6, 6.5, 6, 0}));
  EXPECT_EQ(values_of(avg_pool1d_backward(grad_y, x.view().sizes, avg)), (Values{8, 12, 40}));
  avg.count_include_pad = true;
  EXPECT_EQ(values_of(avg_pool1d(x, avg)), (Values{0, 0, 2.5, 6, 6.5, 3, 0}));
}

TEST_P(Convention, OnnxStillRefusesNegativeAndOverflowingPadding) {
  MaxPoolOptions options{.kernel = 2, .padding = -1, .convention = cenote::Convention::kOnnx};
  cenote_test::expect_invalid([&] { max_pool1d_shape(Dims{1, 1, 4}, options); }, {"padding[0]", ">= 0"});
  options.padding = 0;
  options.padding_end = -1;
  cenote_test::expect_invalid([&] { max_pool1d_shape(Dims{1, 1, 4}, options); }, {"padding_end[0]", ">= 0"});
  options.padding = std::numeric_limits<std::int64_t>::max();
  options.padding_end = 1;
  cenote_test::expect_overflow([&] { max_pool1d_shape(Dims{1, 1, 4}, options); }, {"padded size"});
}

TEST_P(Convention, PaddingFarLargerThanTheInputWithAStrideAsLarge) {
  const std::int64_t far = std::int64_t{1} << 60;
  const GuardedTensor x(DType::f64, Dims{1, 1, 3}, {5, 7, 6});
  const MaxPoolOptions max{
      .kernel = 4, .stride = far, .padding = far, .convention = cenote::Convention::kOnnx};
  const MaxPoolResult result = max_pool1d_with_indices(x, max);
  EXPECT_EQ(values_of(result.values), (Values{-kInfinity, 7}));
  EXPECT_EQ(integers_of(result.indices), (Integers{-1, 1}));
  const AvgPoolOptions avg{
      .kernel = 4, .stride = far, .padding = far, .convention = cenote::Convention::kOnnx};
  EXPECT_EQ(values_of(avg_pool1d(x, avg)), (Values{0, 4.5}));
}

// ---- drawn ------------------------------------------------------------------------------------------

struct Drawn {
  int rank;
  Dims sizes;
  AvgPoolOptions avg;
  LayoutKind layout;
  std::uint64_t seed;

  MaxPoolOptions max() const {
    return {avg.kernel,   avg.stride,    avg.padding,   avg.padding_end,
            avg.dilation, avg.ceil_mode, avg.convention};
  }
};

/// Paddings up to several dilated kernels.
Drawn draw(std::mt19937_64& random) {
  const auto between = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  constexpr std::int64_t kLongest[] = {70, 19, 7};
  Drawn drawn{
      .rank = static_cast<int>(between(1, 3)), .sizes = {}, .avg = {}, .layout = {}, .seed = random()};
  drawn.layout = cenote_test::kLayoutKinds[between(0, 2)];
  drawn.sizes = {between(1, 2), between(1, 9)};
  drawn.avg = {.kernel = {},
               .stride = {},
               .padding = {},
               .padding_end = {},
               .dilation = {},
               .ceil_mode = between(0, 1) == 1,
               .count_include_pad = between(0, 1) == 1,
               .convention = cenote::Convention::kOnnx};
  for (int axis = 0; axis < drawn.rank; ++axis) {
    drawn.sizes.push_back(between(1, kLongest[drawn.rank - 1]));
    drawn.avg.kernel.push_back(between(1, 5));
    drawn.avg.stride.push_back(between(1, 4));
    drawn.avg.dilation.push_back(between(1, 3));
    const std::int64_t largest = 3 * drawn.avg.kernel[axis] * drawn.avg.dilation[axis];
    drawn.avg.padding.push_back(between(0, largest));
    drawn.avg.padding_end.push_back(between(0, largest));
  }
  return drawn;
}

struct Results {
  Values max, avg, grad_max, grad_taps, grad_avg;
  Integers indices, taps;
};

template <class Shape, class MaxInto, class MaxBackward, class AvgInto, class AvgBackward>
Results run(const Drawn& drawn, const Values& x_values, const Shape& shape, const MaxInto& max_into,
            const MaxBackward& max_backward, const AvgInto& avg_into, const AvgBackward& avg_backward) {
  const auto tensor = [&](DType dtype, const Dims& sizes) {
    return GuardedTensor(dtype, sizes, drawn.layout, drawn.rank, drawn.seed);
  };
  const MaxPoolOptions options = drawn.max();
  const Dims y_sizes = shape(drawn.sizes, options);
  const GuardedTensor x = tensor(DType::f32, drawn.sizes);
  assign(x, x_values);
  const GuardedTensor grad_y = tensor(DType::f32, y_sizes);
  Values gradients = iota(element_count(y_sizes));
  for (double& gradient : gradients) gradient = std::fmod(gradient * 7, 32) / 8;
  assign(grad_y, gradients);
  const GuardedTensor y = tensor(DType::f32, y_sizes);
  const GuardedTensor grad_x = tensor(DType::f32, drawn.sizes);
  const GuardedTensor indices = tensor(DType::i64, y_sizes);
  const GuardedTensor taps = tensor(DType::u8, y_sizes);
  Results results;
  max_into(y, x, options, &taps.view());
  results.taps = integers_of(taps);
  max_into(y, x, options, &indices.view());
  results.indices = integers_of(indices);
  max_into(y, x, options, nullptr);
  results.max = values_of(y);
  max_backward(grad_x, grad_y, indices, options);
  results.grad_max = values_of(grad_x);
  max_backward(grad_x, grad_y, taps, options);
  results.grad_taps = values_of(grad_x);
  avg_into(y, x, drawn.avg);
  results.avg = values_of(y);
  avg_backward(grad_x, grad_y, drawn.avg);
  results.grad_avg = values_of(grad_x);
  for (const GuardedTensor* one : {&y, &grad_x, &indices, &taps}) EXPECT_TRUE(one->guards_intact());
  return results;
}

Results run(const Drawn& drawn, const Values& x) {
  switch (drawn.rank) {
    case 1:
      return run(drawn, x, max_pool1d_shape, max_pool1d_into, max_pool1d_backward_into, avg_pool1d_into,
                 avg_pool1d_backward_into);
    case 2:
      return run(drawn, x, max_pool2d_shape, max_pool2d_into, max_pool2d_backward_into, avg_pool2d_into,
                 avg_pool2d_backward_into);
    default:
      return run(drawn, x, max_pool3d_shape, max_pool3d_into, max_pool3d_backward_into, avg_pool3d_into,
                 avg_pool3d_backward_into);
  }
}

/// Sums of at most 125 numbers below 100, in another order and rounded to f32.
void expect_near(const Values& got, const Values& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 125 * 100 * 0x1p-24) << i;
}

TEST_P(Convention, DrawnPaddingsAgreeWithTheReference) {
  constexpr std::uint64_t kSeed = 20261122;
  std::mt19937_64 random(kSeed);
  int drawn_cases = 0;
  int with_empty_windows = 0;
  while (drawn_cases < 400) {
    const Drawn drawn = draw(random);
    Values x(static_cast<std::size_t>(element_count(drawn.sizes)));
    for (double& value : x) value = static_cast<double>(static_cast<std::int64_t>(random() % 199) - 99);
    Results expected;
    try {
      const cenote_test::TargetGuard reference("reference");
      expected = run(drawn, x);
    } catch (const Error& error) {
      ASSERT_NE(std::string(error.what()).find("output size"), std::string::npos) << error.what();
      continue;
    }
    ++drawn_cases;
    SCOPED_TRACE(testing::Message() << "seed " << kSeed << ", case " << drawn_cases << ", sizes "
                                    << to_string(drawn.sizes) << ", kernel " << to_string(drawn.avg.kernel)
                                    << ", stride " << to_string(drawn.avg.stride) << ", padding "
                                    << to_string(drawn.avg.padding) << to_string(drawn.avg.padding_end)
                                    << ", dilation " << to_string(drawn.avg.dilation) << ", layout "
                                    << name_of(drawn.layout));
    const Results got = run(drawn, x);
    ASSERT_EQ(got.max, expected.max);
    ASSERT_EQ(got.indices, expected.indices);
    ASSERT_EQ(got.taps, expected.taps);
    ASSERT_EQ(got.grad_max, expected.grad_max);
    ASSERT_EQ(got.grad_taps, expected.grad_taps);
    ASSERT_EQ(got.grad_taps, got.grad_max);
    expect_near(got.avg, expected.avg);
    expect_near(got.grad_avg, expected.grad_avg);
    for (const std::int64_t index : expected.indices) {
      if (index < 0) {
        ++with_empty_windows;
        break;
      }
    }
  }
  EXPECT_GT(with_empty_windows, 100);
}

// ---- auto_pad -----------------------------------------------------------------------------------

TEST_P(Convention, SameGivesCeilOfSizeByStride) {
  for (std::int64_t size = 1; size <= 12; ++size) {
    const GuardedTensor x(DType::f32, Dims{1, 1, size}, iota(size));
    for (std::int64_t kernel = 1; kernel <= 5; ++kernel) {
      for (std::int64_t stride = 1; stride <= 4; ++stride) {
        for (const std::int64_t dilation : {1, 2}) {
          AvgPoolOptions same{.kernel = kernel, .stride = stride, .dilation = dilation};
          same.ceil_mode = kernel % 2 == 0;  // makes no difference
          same.auto_pad = AutoPad::kSameUpper;
          const std::int64_t outputs = (size + stride - 1) / stride;
          ASSERT_EQ(avg_pool1d_shape(x.view().sizes, same), (Dims{1, 1, outputs}));
          const std::int64_t total =
              std::max<std::int64_t>((outputs - 1) * stride + dilation * (kernel - 1) + 1 - size, 0);
          AvgPoolOptions padded{.kernel = kernel, .stride = stride, .dilation = dilation};
          padded.padding = total / 2;
          padded.padding_end = total - total / 2;
          EXPECT_EQ(values_of(avg_pool1d(x, same)), values_of(avg_pool1d(x, padded)));
          same.auto_pad = AutoPad::kSameLower;
          std::swap(padded.padding, padded.padding_end);
          EXPECT_EQ(values_of(avg_pool1d(x, same)), values_of(avg_pool1d(x, padded)));
          const GuardedTensor grad_y(DType::f32, Dims{1, 1, outputs}, iota(outputs));
          EXPECT_EQ(values_of(avg_pool1d_backward(grad_y, x.view().sizes, same)),
                    values_of(avg_pool1d_backward(grad_y, x.view().sizes, padded)));
        }
      }
    }
  }
}

TEST_P(Convention, ValidPadsNothing) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 5}, {1, 2, 3, 4, 5});
  EXPECT_EQ(values_of(sum_pool1d(x, {.kernel = 2, .auto_pad = AutoPad::kValid})), (Values{3, 7}));
}

TEST_P(Convention, AutoPadAndPaddingExcludeEachOther) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 5}, {1, 2, 3, 4, 5});
  cenote_test::expect_invalid(
      [&] { max_pool1d(x, {.kernel = 3, .padding = 1, .auto_pad = AutoPad::kSameUpper}); },
      {"[max_pool1d]", "auto_pad"});
  cenote_test::expect_invalid(
      [&] { lp_pool1d(x, {.kernel = 3, .padding_end = 0, .auto_pad = AutoPad::kValid}); },
      {"[lp_pool1d]", "auto_pad"});
}

}  // namespace
}  // namespace cenote
