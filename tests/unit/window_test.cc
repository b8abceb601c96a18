// Window pooling on examples worked out by hand, forward and backward, on every CPU target.
#include "cenote/window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cenote/runtime.h"
#include "conformance/replay.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::GuardedTensor;
using cenote_test::integers_of;
using cenote_test::iota;
using cenote_test::values_of;
using Values = std::vector<double>;
using Integers = std::vector<std::int64_t>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

class OnEveryTarget : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, OnEveryTarget, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

TEST_P(OnEveryTarget, MaxPool1dWithIndicesTapsAndGradient) {
  const GuardedTensor x(DType::f32, Dims{1, 5}, {1, 3, 2, 5, 4});
  const MaxPoolOptions options{.kernel = 3, .stride = 2, .padding = 1};
  EXPECT_EQ(max_pool1d_shape(Dims{1, 5}, options), (Dims{1, 3}));
  EXPECT_EQ(values_of(max_pool1d(x, options)), (Values{3, 5, 5}));
  const MaxPoolResult indices = max_pool1d_with_indices(x, options);
  const MaxPoolResult taps = max_pool1d_with_indices(x, options, DType::u8);
  EXPECT_EQ(values_of(indices.values), (Values{3, 5, 5}));
  EXPECT_EQ(integers_of(indices.indices), (Integers{1, 3, 3}));
  EXPECT_EQ(integers_of(taps.indices), (Integers{2, 2, 0}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 3}, {1, 10, 100});
  const Values expected{0, 1, 0, 110, 0};
  EXPECT_EQ(values_of(max_pool1d_backward(grad_y, indices.indices, Dims{1, 5}, options)), expected);
  EXPECT_EQ(values_of(max_pool1d_backward(grad_y, taps.indices, Dims{1, 5}, options)), expected);
}

TEST_P(OnEveryTarget, MaxPool1dFindsANanAtEveryPlace) {
  for (const std::int64_t width : {1, 2, 3, 5, 16, 31, 33, 40, 67}) {
    for (std::int64_t kernel = 2; kernel <= 4; ++kernel) {
      for (std::int64_t stride = 1; stride <= 3; ++stride) {
        for (std::int64_t padding = 0; padding <= kernel / 2; ++padding) {
          if (width + 2 * padding < kernel) continue;
          const MaxPoolOptions options{.kernel = kernel, .stride = stride, .padding = padding};
          for (std::int64_t at = 0; at < width; ++at) {
            std::vector<double> values(static_cast<std::size_t>(width), -kInfinity);
            values.front() = kInfinity;
            values[static_cast<std::size_t>(at)] = kNan;
            const GuardedTensor x(DType::f32, Dims{1, width}, values);
            const Values y = values_of(max_pool1d(x, options));
            for (std::size_t o = 0; o < y.size(); ++o) {
              const std::int64_t start = static_cast<std::int64_t>(o) * stride - padding;
              EXPECT_EQ(std::isnan(y[o]), start <= at && at < start + kernel)
                  << "output " << o << ", NaN at " << at << ", width " << width << ", kernel " << kernel
                  << ", stride " << stride << ", padding " << padding;
            }
          }
        }
      }
    }
  }
}

TEST_P(OnEveryTarget, MaxPool2d) {
  const GuardedTensor x(DType::f64, Dims{1, 1, 3, 3}, {9, 2, 3, 4, 5, 6, 7, 8, 1});
  const MaxPoolOptions options{.kernel = 2, .stride = 1};
  const MaxPoolResult result = max_pool2d_with_indices(x, options);
  EXPECT_EQ(result.values.sizes(), (Dims{1, 1, 2, 2}));
  EXPECT_EQ(values_of(result.values), (Values{9, 6, 8, 8}));
  EXPECT_EQ(integers_of(result.indices), (Integers{0, 5, 7, 7}));
  EXPECT_EQ(integers_of(max_pool2d_with_indices(x, options, DType::u8).indices), (Integers{0, 3, 3, 2}));
}

TEST_P(OnEveryTarget, MaxPool3d) {
  const GuardedTensor x(DType::f32, Dims{1, 2, 2, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 11, 10});
  const MaxPoolOptions options{.kernel = {2, 2, 2}, .stride = 1};
  const MaxPoolResult result = max_pool3d_with_indices(x, options);
  EXPECT_EQ(values_of(result.values), (Values{12, 11}));
  EXPECT_EQ(integers_of(result.indices), (Integers{9, 10}));
  EXPECT_EQ(integers_of(max_pool3d_with_indices(x, options, DType::u16).indices), (Integers{6, 6}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 1, 2}, {2, 3});
  EXPECT_EQ(values_of(max_pool3d_backward(grad_y, result.indices, Dims{1, 2, 2, 3}, options)),
            (Values{0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 0}));
}

TEST_P(OnEveryTarget, MaxPoolOptionsPerAxis) {
  // Kernel 1x2, stride 1x2, dilation 1x2: row by row, columns {0, 2} and {2, 4}.
  const GuardedTensor x(DType::f32, Dims{1, 2, 5}, {5, 9, 1, 9, 3, 0, 9, 4, 9, 2});
  const MaxPoolOptions options{.kernel = {1, 2}, .stride = {1, 2}, .dilation = {1, 2}};
  EXPECT_EQ(values_of(max_pool2d(x, options)), (Values{5, 3, 4, 4}));
  EXPECT_EQ(integers_of(max_pool2d_with_indices(x, options).indices), (Integers{0, 4, 7, 7}));
}

TEST_P(OnEveryTarget, MaxPoolPaddingAtOneEndAndCeilMode) {
  const GuardedTensor x(DType::f32, Dims{1, 3}, {-3, -2, -1});
  EXPECT_EQ(values_of(max_pool1d(x, {.kernel = 2, .padding = 0, .padding_end = 1})), (Values{-2, -1}));
  EXPECT_EQ(values_of(max_pool1d(x, {.kernel = 2, .padding = 1, .padding_end = 0})), (Values{-3, -1}));
  EXPECT_EQ(values_of(max_pool1d(x, {.kernel = 2})), (Values{-2}));
  EXPECT_EQ(values_of(max_pool1d(x, {.kernel = 2, .ceil_mode = true})), (Values{-2, -1}));
}

TEST_P(OnEveryTarget, MaxPoolTiesGoToTheFirst) {
  const GuardedTensor x(DType::f32, Dims{1, 2, 4}, {1, 7, 7, 0, 7, 7, 7, 7});
  const MaxPoolOptions options{.kernel = 2, .stride = {1, 1}};
  EXPECT_EQ(integers_of(max_pool2d_with_indices(x, options).indices), (Integers{1, 1, 2}));
  EXPECT_EQ(integers_of(max_pool2d_with_indices(x, options, DType::u8).indices), (Integers{1, 0, 0}));
}

TEST_P(OnEveryTarget, MaxPoolNanWinsAndTheLastGivesTheIndex) {
  const GuardedTensor x(DType::f64, Dims{1, 6}, {kNan, kInfinity, kNan, 0, 1, 2});
  const MaxPoolResult result = max_pool1d_with_indices(x, {.kernel = 3});
  const Values values = values_of(result.values);
  EXPECT_TRUE(std::isnan(values[0]));
  EXPECT_EQ(values[1], 2);
  EXPECT_EQ(integers_of(result.indices), (Integers{2, 5}));
  EXPECT_EQ(integers_of(max_pool1d_with_indices(x, {.kernel = 3}, DType::u8).indices), (Integers{2, 2}));
}

TEST_P(OnEveryTarget, MaxPoolOfMinusInfinityNamesTheFirstRealElement) {
  const GuardedTensor x(DType::f32, Dims{1, 2}, {-kInfinity, -kInfinity});
  const MaxPoolOptions options{.kernel = 3, .stride = 1, .padding = 1};
  const MaxPoolResult result = max_pool1d_with_indices(x, options);
  EXPECT_EQ(values_of(result.values), (Values{-kInfinity, -kInfinity}));
  EXPECT_EQ(integers_of(result.indices), (Integers{0, 0}));
  EXPECT_EQ(integers_of(max_pool1d_with_indices(x, options, DType::u8).indices), (Integers{1, 0}));
}

TEST_P(OnEveryTarget, MaxPoolWindowOfPaddingAlone) {
  const GuardedTensor x(DType::f32, Dims{1, 1}, {5});
  const MaxPoolOptions options{.kernel = 2, .padding = 1, .dilation = 2};
  const GuardedTensor grad_y(DType::f32, Dims{1, 1}, {3});
  const std::pair<DType, std::int64_t> rows[] = {{DType::i64, -1}, {DType::u8, 255}, {DType::u16, 65535}};
  for (const auto& [dtype, none] : rows) {
    const MaxPoolResult result = max_pool1d_with_indices(x, options, dtype);
    EXPECT_EQ(values_of(result.values), (Values{-kInfinity}));
    EXPECT_EQ(integers_of(result.indices), (Integers{none}));
    EXPECT_EQ(values_of(max_pool1d_backward(grad_y, result.indices, Dims{1, 1}, options)), (Values{0}));
  }
}

TEST_P(OnEveryTarget, MaxPoolBackwardTakesIndicesOutsideTheWindow) {
  // Any position of the plane is legal, whatever the forward would have recorded.
  const GuardedTensor grad_y(DType::f32, Dims{1, 2}, {1, 2});
  const GuardedTensor indices(DType::i64, Dims{1, 2}, {3, -1});
  EXPECT_EQ(values_of(max_pool1d_backward(grad_y, indices, Dims{1, 4}, {.kernel = 2})), (Values{0, 0, 0, 1}));
}

/// Stride 1 over short rows, which are pooled all together: several planes, whose paddings must not leak.
TEST_P(OnEveryTarget, MaxPoolOfSmallPlanes) {
  for (const std::int64_t kernel : {4, 5, 9, 13}) {
    for (const auto& [height, width] : {std::pair<std::int64_t, std::int64_t>{13, 13}, {7, 20}, {20, 7}}) {
      const std::int64_t padding = kernel / 2;
      const std::int64_t planes = 5;
      Values values(static_cast<std::size_t>(planes * height * width));
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<double>(i * 7'919 % 1'009) - 2'000;
      const Dims y_sizes{1, planes, height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1};
      Values expected;
      for (std::int64_t i = 0; i < element_count(y_sizes); ++i) {
        const std::int64_t row = i / y_sizes[3] % y_sizes[2] - padding;
        const std::int64_t column = i % y_sizes[3] - padding;
        const std::int64_t plane = i / y_sizes[3] / y_sizes[2] * height * width;
        double most = -kInfinity;
        for (std::int64_t h = std::max<std::int64_t>(row, 0); h < std::min(row + kernel, height); ++h) {
          for (std::int64_t w = std::max<std::int64_t>(column, 0); w < std::min(column + kernel, width); ++w)
            most = std::max(most, values[static_cast<std::size_t>(plane + h * width + w)]);
        }
        expected.push_back(most);
      }
      for (const cenote_test::LayoutKind layout : cenote_test::kLayoutKinds) {
        const GuardedTensor x(DType::f32, Dims{1, planes, height, width}, layout, 2, 3);
        const GuardedTensor y(DType::f32, y_sizes, layout, 2, 4);
        assign(x, values);
        max_pool2d_into(y, x, {.kernel = kernel, .stride = 1, .padding = padding});
        EXPECT_EQ(values_of(y), expected);
        EXPECT_TRUE(y.guards_intact());
      }
    }
  }
}

/// Planes that are large enough to be cut into parts, where any output may lie in any of them, or in none.
TEST_P(OnEveryTarget, MaxPoolBackwardAddsUpWhereIndicesSay) {
  for (const Dims& sizes : {Dims{1, 1, 300, 300}, Dims{1, 3, 200, 200}, Dims{3, 40, 20, 20}}) {
    const Dims y_sizes{sizes[0], sizes[1], sizes[2] / 2, sizes[3] / 2};
    const std::int64_t positions = sizes[2] * sizes[3];
    const std::int64_t outputs = positions / 4;
    const auto count = static_cast<std::size_t>(element_count(y_sizes));
    Values grads(count);
    Values places(count);
    Values expected(static_cast<std::size_t>(element_count(sizes)));
    for (std::size_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::int64_t>(i);
      grads[i] = static_cast<double>(at % 7 + 1);
      const std::int64_t place = at * 7'919 % (outputs / 2 + 1) * 8 - 1;  // -1 is one of them, and all repeat
      places[i] = static_cast<double>(place);
      if (place >= 0) expected[static_cast<std::size_t>(at / outputs * positions + place)] += grads[i];
    }
    for (const cenote_test::LayoutKind layout : cenote_test::kLayoutKinds) {
      const GuardedTensor grad_y(DType::f32, y_sizes, layout, 2, 3);
      const GuardedTensor indices(DType::i64, y_sizes, layout, 2, 4);
      const GuardedTensor grad_x(DType::f32, sizes, layout, 2, 5);
      assign(grad_y, grads);
      assign(indices, places);
      max_pool2d_backward_into(grad_x, grad_y, indices, {.kernel = 2});
      EXPECT_EQ(values_of(grad_x), expected);
      EXPECT_TRUE(grad_x.guards_intact());
      for (const std::int64_t bad : {std::int64_t{-2}, positions, (std::int64_t{1} << 32) + 1}) {
        Values wrong = places;
        wrong[count / 2] = static_cast<double>(bad);
        wrong[count - 1] = -77;
        assign(indices, wrong);
        const std::string text = "or be -1, got " + std::to_string(bad);
        cenote_test::expect_invalid([&] { max_pool2d_backward_into(grad_x, grad_y, indices, {.kernel = 2}); },
                                    {"[max_pool2d_backward] indices must lie in [0, ", text.c_str()});
        EXPECT_TRUE(grad_x.guards_intact());
      }
    }
  }
}

TEST_P(OnEveryTarget, MaxPoolWindowsTooLargeForTaps) {
  const std::int64_t length = 70'000;
  Values values = iota(length);
  values[12'345] = 1e6;
  const GuardedTensor x(DType::f32, Dims{1, length}, values);
  const DType dtype = max_pool_tap_dtype(length, 1);
  ASSERT_EQ(dtype, DType::i64);
  const MaxPoolResult result = max_pool1d_with_indices(x, {.kernel = length}, dtype);
  EXPECT_EQ(values_of(result.values), (Values{1e6}));
  EXPECT_EQ(integers_of(result.indices), (Integers{12'345}));
}

TEST_P(OnEveryTarget, MaxPoolBackwardSurvivesForeignTaps) {
  // Taps that no forward of these options wrote give some gradient or none, and harm no memory.
  for (const cenote_test::LayoutKind layout : cenote_test::kLayoutKinds) {
    for (const std::int64_t stride : {1, 2, 7}) {
      const Dims sizes{2, 9, 13, 11};
      const MaxPoolOptions options{.kernel = 3, .stride = stride, .padding = 1};
      const Dims y_sizes = max_pool2d_shape(sizes, options);
      const std::int64_t count = element_count(y_sizes);
      const GuardedTensor grad_y(DType::f32, y_sizes, Values(static_cast<std::size_t>(count), 1.0));
      const GuardedTensor taps(DType::u8, y_sizes, layout, 2, 0);
      Values foreign = iota(count);
      for (double& tap : foreign) tap = std::fmod(tap, 256);
      assign(taps, foreign);
      const GuardedTensor grad_x(DType::f32, sizes, layout, 2, 1);
      max_pool2d_backward_into(grad_x, grad_y, taps, options);
      EXPECT_TRUE(grad_x.guards_intact());
    }
  }
}

TEST_P(OnEveryTarget, I64IsExactWhereDoublesAreNot) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 53;
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  // One plane of small and one of large elements.
  const Integers elements{5, -7, 9, 8, kLarge, kLarge + 1, -kLarge - 1, kMost};
  Tensor x(DType::i64, Dims{2, 4});
  std::copy(elements.begin(), elements.end(), x.data<std::int64_t>());
  EXPECT_EQ(integers_of(max_pool1d(x, {.kernel = 2})), (Integers{5, 9, kLarge + 1, kMost}));
  EXPECT_EQ(integers_of(min_pool1d(x, {.kernel = 2})), (Integers{-7, 8, kLarge, -kLarge - 1}));
  EXPECT_EQ(integers_of(median_pool1d(x, {.kernel = 2})), (Integers{-7, 8, kLarge, -kLarge - 1}));
  EXPECT_EQ(integers_of(max_pool1d_with_indices(x, {.kernel = 2}).indices), (Integers{0, 2, 1, 3}));
  EXPECT_EQ(integers_of(sum_pool1d(x, {.kernel = 2})),
            (Integers{-2, 17, 2 * kLarge + 1, kMost - kLarge - 1}));
  EXPECT_EQ(integers_of(avg_pool1d(x, {.kernel = 2})), (Integers{-1, 8, kLarge, (kMost - kLarge - 1) / 2}));
  const MaxPoolOptions nothing_inside{.kernel = 2, .padding = 1, .dilation = 2};
  Tensor one(DType::i64, Dims{1, 1});
  *one.data<std::int64_t>() = 5;
  EXPECT_EQ(integers_of(max_pool1d(one, nothing_inside)),
            (Integers{std::numeric_limits<std::int64_t>::min()}));
  EXPECT_EQ(integers_of(min_pool1d(one, nothing_inside)), (Integers{kMost}));
}

TEST_P(OnEveryTarget, I64KeepsItsOrderToTheEndsOfItsRange) {
  constexpr auto kLeast = std::numeric_limits<std::int64_t>::min();
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t kHigh = std::int64_t{1} << 62;
  // Neighbours in order; those of the second list have no numbers of f64 to stand for all of them.
  for (const Integers& rising :
       {Integers{kLeast, -kHigh, -kHigh + 1, -2, -1, 0, 1, kHigh - 2, kHigh - 1, kMost},
        Integers{kLeast, kLeast + 1, -kHigh - 2, -kHigh - 1, -1, 0, kHigh, kHigh + 1, kMost - 1, kMost}}) {
    for (std::size_t a = 0; a < rising.size(); ++a) {
      for (std::size_t b = a; b < rising.size(); ++b) {
        // Two of them, and enough large ones in other windows that no plane is small.
        const Integers elements{rising[b], rising[a], rising[1], rising[2], rising[0], rising[9]};
        Tensor x(DType::i64, Dims{1, 6});
        std::copy(elements.begin(), elements.end(), x.data<std::int64_t>());
        EXPECT_EQ(integers_of(max_pool1d(x, {.kernel = 2})), (Integers{rising[b], rising[2], rising[9]}));
        EXPECT_EQ(integers_of(min_pool1d(x, {.kernel = 2})), (Integers{rising[a], rising[1], rising[0]}));
        EXPECT_EQ(integers_of(median_pool1d(x, {.kernel = 2})), (Integers{rising[a], rising[1], rising[0]}));
        EXPECT_EQ(integers_of(mode_pool1d(x, {.kernel = 2})), (Integers{rising[b], rising[1], rising[0]}));
        EXPECT_EQ(integers_of(max_pool1d_with_indices(x, {.kernel = 2}).indices), (Integers{0, 3, 5}));
        EXPECT_EQ(integers_of(min_pool1d_with_indices(x, {.kernel = 2}).indices),
                  (Integers{a == b ? 0 : 1, 2, 4}));
      }
    }
  }
  const MaxPoolOptions nothing_inside{.kernel = 2, .padding = 1, .dilation = 2};
  Tensor one(DType::i64, Dims{1, 1});
  *one.data<std::int64_t>() = kHigh - 1;
  EXPECT_EQ(integers_of(max_pool1d(one, nothing_inside)), (Integers{kLeast}));
  EXPECT_EQ(integers_of(min_pool1d(one, nothing_inside)), (Integers{kMost}));
  EXPECT_EQ(integers_of(median_pool1d(one, nothing_inside)), (Integers{0}));
}

TEST_P(OnEveryTarget, OneLargeI64IsFoundAnywhere) {
  const Dims sizes{19, 21};
  for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
    const Tensor x(DType::i64, sizes, layout, 0);
    const auto count = static_cast<std::size_t>(element_count(sizes));
    for (std::size_t i = 0; i < count; ++i) {
      std::fill_n(x.data<std::int64_t>(), count, 3);
      const std::int64_t large = (std::int64_t{1} << 53) + 1;
      x.data<std::int64_t>()[i] = i % 2 == 0 ? large : -large;
      ASSERT_EQ(integers_of(avg_pool1d(x, {.kernel = 1})), integers_of(x)) << "element " << i;
    }
  }
}

TEST_P(OnEveryTarget, I64AveragesRoundTowardsZeroUpToTheLastBit) {
  // Quotients just below a whole number, and sums just within what f64 holds.
  for (const std::int64_t taps : {3, 7, 127}) {
    for (std::int64_t bits = 1; bits <= 62 - 7; ++bits) {
      Tensor x(DType::i64, Dims{1, taps});
      std::fill_n(x.data<std::int64_t>(), taps, (std::int64_t{1} << bits) - 1);
      x.data<std::int64_t>()[taps - 1] -= 1;
      EXPECT_EQ(integers_of(avg_pool1d(x, {.kernel = taps})), (Integers{(std::int64_t{1} << bits) - 2}))
          << taps << " taps of " << bits << " bits";
    }
  }
}

TEST_P(OnEveryTarget, I64AveragesDivideByAnyDivisor) {
  constexpr auto kLeast = std::numeric_limits<std::int64_t>::min();
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t kLarge = (std::int64_t{1} << 53) + 3;
  const auto divided = [](std::int64_t value, std::int64_t divisor) {
    Tensor x(DType::i64, Dims{1, 1});
    *x.data<std::int64_t>() = value;
    return integers_of(avg_pool1d(x, {.kernel = 1, .divisor_override = divisor})).front();
  };
  EXPECT_EQ(divided(kLarge, kLarge), 1);
  EXPECT_EQ(divided(kLarge - 1, kLarge), 0);
  EXPECT_EQ(divided(kLeast, kMost), -1);
  EXPECT_EQ(divided(kMost, kLeast), 0);
  EXPECT_EQ(divided(kLeast, kLeast), 1);
  EXPECT_EQ(divided(kLeast, -1), kLeast);  // 2^63 wraps around
  EXPECT_EQ(divided(7, -2), -3);
}

TEST(MaxPoolTapDtype, LeavesOneNumberForNone) {
  EXPECT_EQ(max_pool_tap_dtype(Dims{3, 3}, 2), DType::u8);
  EXPECT_EQ(max_pool_tap_dtype(254, 1), DType::u8);
  EXPECT_EQ(max_pool_tap_dtype(255, 1), DType::u16);
  EXPECT_EQ(max_pool_tap_dtype(16, 2), DType::u16);
  EXPECT_EQ(max_pool_tap_dtype(65'534, 1), DType::u16);
  EXPECT_EQ(max_pool_tap_dtype(65'535, 1), DType::i64);
  EXPECT_EQ(max_pool_tap_dtype(41, 3), DType::i64);
}

TEST_P(OnEveryTarget, AvgPool1dAndItsDivisors) {
  const GuardedTensor x(DType::f64, Dims{1, 5}, {1, 2, 3, 4, 5});
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 2})), (Values{1.5, 3.5}));
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 3, .stride = 2, .padding = 1})), (Values{1, 3, 3}));
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 3, .stride = 2, .padding = 1, .count_include_pad = false})),
            (Values{1.5, 3, 4.5}));
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 2, .divisor_override = -2})), (Values{-1.5, -3.5}));
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 2, .stride = 1, .dilation = 3})), (Values{2.5, 3.5}));
}

TEST_P(OnEveryTarget, AvgPoolNeverCountsTheCeilOverhang) {
  const GuardedTensor x(DType::f32, Dims{1, 4}, {1, 2, 3, 4});
  const AvgPoolOptions options{.kernel = 3, .stride = 2, .ceil_mode = true};
  EXPECT_EQ(values_of(avg_pool1d(x, options)), (Values{2, 3.5}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 2}, {6, 4});
  EXPECT_EQ(values_of(avg_pool1d_backward(grad_y, Dims{1, 4}, options)), (Values{2, 2, 4, 2}));
}

TEST_P(OnEveryTarget, AvgPoolPaddingAtOneEnd) {
  const GuardedTensor x(DType::f32, Dims{1, 3}, {1, 2, 3});
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 2, .padding = 0, .padding_end = 1})), (Values{1.5, 1.5}));
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 2, .padding = 1, .padding_end = 0})), (Values{0.5, 2.5}));
  const AvgPoolOptions excluded{.kernel = 2, .padding = 0, .padding_end = 1, .count_include_pad = false};
  EXPECT_EQ(values_of(avg_pool1d(x, excluded)), (Values{1.5, 3}));
}

TEST_P(OnEveryTarget, AvgPool2dCorner) {
  // 1..25 in a 5x5 plane: the corner window of a 5x5 kernel with padding 2 holds 1 2 3 6 7 8 11 12 13.
  Values values = iota(25);
  for (double& value : values) value += 1;
  const GuardedTensor x(DType::f64, Dims{1, 1, 5, 5}, values);
  EXPECT_DOUBLE_EQ(values_of(avg_pool2d(x, {.kernel = 5, .stride = 1, .padding = 2}))[0], 63.0 / 25);
  const AvgPoolOptions excluded{.kernel = 5, .stride = 1, .padding = 2, .count_include_pad = false};
  EXPECT_DOUBLE_EQ(values_of(avg_pool2d(x, excluded))[0], 7);
}

TEST_P(OnEveryTarget, AvgPool3dForwardAndBackward) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 2, 2, 2}, iota(8));
  EXPECT_EQ(values_of(avg_pool3d(x, {.kernel = 2})), (Values{3.5}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 1, 1, 1}, {16});
  EXPECT_EQ(values_of(avg_pool3d_backward(grad_y, Dims{1, 1, 2, 2, 2}, {.kernel = 2})), Values(8, 2.0));
}

TEST_P(OnEveryTarget, AvgPoolWindowOfPaddingAloneIsZero) {
  const GuardedTensor x(DType::f32, Dims{1, 1}, {5});
  const GuardedTensor grad_y(DType::f32, Dims{1, 1}, {3});
  for (const bool count_include_pad : {true, false}) {
    for (const std::int64_t divisor : {std::int64_t{-2}, std::int64_t{1}}) {
      const AvgPoolOptions options{.kernel = 2,
                                   .padding = 1,
                                   .dilation = 2,
                                   .count_include_pad = count_include_pad,
                                   .divisor_override = divisor};
      EXPECT_EQ(values_of(avg_pool1d(x, options)), (Values{0}));
      EXPECT_EQ(values_of(avg_pool1d_backward(grad_y, Dims{1, 1}, options)), (Values{0}));
    }
    const AvgPoolOptions options{
        .kernel = 2, .padding = 1, .dilation = 2, .count_include_pad = count_include_pad};
    EXPECT_EQ(values_of(avg_pool1d(x, options)), (Values{0}));
    EXPECT_EQ(values_of(avg_pool1d_backward(grad_y, Dims{1, 1}, options)), (Values{0}));
  }
}

TEST_P(OnEveryTarget, AvgPoolGradientsAreDividedBeforeTheyOverflow) {
  // The nine gradients of the middle add up to more than f32 holds, their quotients do not. The second plane
  // has an infinity, which the first must not see.
  Values gradients(18, 0x1p127);
  gradients[9] = -kInfinity;
  constexpr double kReaders[] = {4, 6, 4, 6, 9, 6, 4, 6, 4};
  for (const bool channels_last : {false, true}) {
    const auto layout =
        channels_last ? cenote_test::LayoutKind::kChannelsLast : cenote_test::LayoutKind::kChannelsFirst;
    const GuardedTensor grad_y(DType::f32, Dims{1, 2, 3, 3}, layout, 2, 0);
    assign(grad_y, gradients);
    const AvgPoolOptions options{.kernel = 3, .stride = 1, .padding = 1};
    const Values grad_x = values_of(avg_pool2d_backward(grad_y, Dims{1, 2, 3, 3}, options));
    for (std::size_t i = 0; i < 9; ++i) {
      EXPECT_NEAR(grad_x[i] / 0x1p127, kReaders[i] / 9, 1e-6);
      const bool reads_infinity = i % 3 < 2 && i / 3 < 2;
      EXPECT_EQ(grad_x[9 + i] == -kInfinity, reads_infinity) << i;
      if (!reads_infinity) {
        EXPECT_NEAR(grad_x[9 + i] / 0x1p127, kReaders[i] / 9, 1e-6);
      }
    }
  }
}

TEST_P(OnEveryTarget, AvgPoolOfWholePlanesAndItsDivisors) {
  const Values values = iota(98);
  const GuardedTensor x(DType::f32, Dims{1, 2, 7, 7}, values);
  const GuardedTensor grad_y(DType::f32, Dims{1, 2, 1, 1}, {98, -49});
  const auto check = [&](const AvgPoolOptions& options, double divisor) {
    const Values y = values_of(avg_pool2d(x, options));
    ASSERT_EQ(y.size(), 2U);
    EXPECT_NEAR(y[0], 24 * 49 / divisor, 1e-4);
    EXPECT_NEAR(y[1], 73 * 49 / divisor, 1e-4);
    const Values grad_x = values_of(avg_pool2d_backward(grad_y, Dims{1, 2, 7, 7}, options));
    for (std::size_t i = 0; i < 49; ++i) {
      EXPECT_NEAR(grad_x[i], 98 / divisor, 1e-5);
      EXPECT_NEAR(grad_x[49 + i], -49 / divisor, 1e-5);
    }
  };
  check({.kernel = 7, .stride = 1}, 49);
  check({.kernel = 7, .stride = 1, .divisor_override = -5}, -5);
  check({.kernel = 9, .padding = 1}, 81);
  check({.kernel = 9, .padding = 1, .count_include_pad = false}, 49);
}

bool equal_or_both_nan(const Values& a, const Values& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); });
}

TEST_P(OnEveryTarget, WindowsThatSlideAlongManyChannels) {
  // Whole numbers, of which all sums are exact: both layouts must give the same averages.
  for (const std::int64_t channels : {80, 84}) {  // of f32, vectors of any length and a part of one
    const Dims sizes{2, channels, 5, 19};
    Values values = iota(element_count(sizes));
    for (double& value : values) value = std::fmod(value * 7, 23) - 11;
    values[1000] = std::nan("");
    values[3000] = kInfinity;  // whose sum is NaN, as nothing that is pooled
    values[3040] = -kInfinity;
    for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
      const GuardedTensor first(dtype, sizes, cenote_test::LayoutKind::kChannelsFirst, 2, 1);
      const GuardedTensor last(dtype, sizes, cenote_test::LayoutKind::kChannelsLast, 2, 1);
      assign(first, values);
      assign(last, values);
      for (const std::int64_t rows : {1, 2, 3, 4}) {
        for (const std::int64_t columns : {2, 3}) {
          for (const std::int64_t stride : {1, 2}) {
            const std::int64_t padding = (rows + columns + stride) % 2;
            const Dims kernel{rows, columns};
            const Dims around{rows > 1 ? padding : 0, padding};
            SCOPED_TRACE(::testing::Message() << name_of(dtype) << ' ' << channels << " channels " << rows
                                              << 'x' << columns << " s" << stride << " p" << padding);
            const MaxPoolOptions max{.kernel = kernel, .stride = stride, .padding = around};
            EXPECT_TRUE(
                equal_or_both_nan(values_of(max_pool2d(last, max)), values_of(max_pool2d(first, max))));
            const AvgPoolOptions avg{
                .kernel = kernel, .stride = stride, .padding = around, .count_include_pad = rows > 2};
            EXPECT_TRUE(
                equal_or_both_nan(values_of(avg_pool2d(last, avg)), values_of(avg_pool2d(first, avg))));
          }
        }
      }
    }
  }
}

TEST_P(OnEveryTarget, DensePlanesAsOneRow) {
  for (const Dims& sizes :
       {Dims{2, 3, 5, 7}, Dims{1, 1, 4, 4}, Dims{1, 2, 9, 32}, Dims{3, 2, 6, 40}, Dims{1, 5, 3, 2}}) {
    Values values = iota(element_count(sizes));
    for (double& value : values) value = std::fmod(value * 7, 23) - 11;
    values.front() = std::nan("");  // at the corner of a plane, beside the end of another
    values[values.size() / 2] = kInfinity;
    values.back() = -kInfinity;
    Values gradients = iota(element_count(sizes));
    for (double& value : gradients) value = std::fmod(value * 5, 17) - 8;
    for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
      for (const Dims& kernel : {Dims{3, 3}, Dims{1, 3}, Dims{3, 1}}) {
        SCOPED_TRACE(::testing::Message()
                     << name_of(dtype) << ' ' << to_string(sizes) << ' ' << to_string(kernel));
        const MaxPoolOptions options{
            .kernel = kernel, .stride = 1, .padding = Dims{kernel[0] / 2, kernel[1] / 2}};
        const GuardedTensor x(dtype, sizes, values);
        const GuardedTensor last(dtype, sizes, cenote_test::LayoutKind::kChannelsLast, 2, 1);
        const GuardedTensor grad_y(dtype, sizes, gradients);
        assign(x, values);
        assign(last, values);
        assign(grad_y, gradients);
        EXPECT_TRUE(
            equal_or_both_nan(values_of(max_pool2d(x, options)), values_of(max_pool2d(last, options))));
        const MaxPoolResult by_tap = max_pool2d_with_indices(x, options, DType::u8);
        const MaxPoolResult by_index = max_pool2d_with_indices(x, options, DType::i64);
        EXPECT_EQ(values_of(max_pool2d_backward(grad_y, by_tap.indices, sizes, options)),
                  values_of(max_pool2d_backward(grad_y, by_index.indices, sizes, options)));
      }
    }
  }
}

TEST_P(OnEveryTarget, DensePlanesInBlocks) {
  // Planes that end inside of a block, some of fewer positions than it has planes, or of more than fit at
  // once.
  struct Windows {
    std::int64_t kernel, stride, padding, dilation;
  };
  for (const Dims& sizes : {Dims{1, 17, 1, 13, 13}, Dims{3, 7, 1, 5, 5}, Dims{1, 33, 1, 3, 4},
                            Dims{2, 9, 1, 70, 24}, Dims{1, 18, 4, 7, 7}, Dims{1, 16, 9, 8, 27}}) {
    Values values = iota(element_count(sizes));
    for (double& value : values) value = std::fmod(value * 7, 23) - 11;
    values[values.size() / 3] = std::nan("");
    values[values.size() / 2] = kInfinity;
    values.back() = -kInfinity;
    const std::int64_t depth = sizes[2] > 1 ? 2 : 1;
    for (const Windows& windows : {Windows{2, 2, 0, 1}, Windows{2, 1, 1, 1}, Windows{3, 2, 1, 1},
                                   Windows{3, 2, 0, 1}, Windows{3, 1, 0, 1}, Windows{3, 1, 1, 1},
                                   Windows{5, 2, 2, 1}, Windows{3, 1, 1, 2}, Windows{4, 3, 1, 1}}) {
      const auto [kernel, stride, padding, dilation] = windows;
      if (2 * padding + sizes[3] < dilation * (kernel - 1) + 1) continue;
      const MaxPoolOptions max{.kernel = Dims{depth, kernel, kernel},
                               .stride = Dims{depth, stride, stride},
                               .padding = Dims{0, padding, padding},
                               .dilation = Dims{1, dilation, dilation}};
      const AvgPoolOptions avg{.kernel = max.kernel,
                               .stride = max.stride,
                               .padding = max.padding,
                               .dilation = max.dilation,
                               .count_include_pad = false};
      AvgPoolOptions exact = avg;  // no gradient is rounded
      exact.divisor_override = 4;
      for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
        SCOPED_TRACE(::testing::Message() << name_of(dtype) << ' ' << to_string(sizes) << " k" << kernel
                                          << " s" << stride << " p" << padding << " d" << dilation);
        const GuardedTensor first(dtype, sizes, values);
        const GuardedTensor last(dtype, sizes, cenote_test::LayoutKind::kChannelsLast, 3, 1);
        assign(first, values);
        assign(last, values);
        const MaxPoolResult by_tap = max_pool3d_with_indices(first, max, DType::u8);
        EXPECT_TRUE(equal_or_both_nan(values_of(max_pool3d(first, max)), values_of(max_pool3d(last, max))));
        const Dims outputs = by_tap.values.sizes();
        Values gradients = iota(element_count(outputs));
        for (double& value : gradients) value = std::fmod(value * 5, 17) - 8;
        const GuardedTensor grad_y(dtype, outputs, gradients);
        const GuardedTensor last_grad_y(dtype, outputs, cenote_test::LayoutKind::kChannelsLast, 3, 1);
        assign(grad_y, gradients);
        assign(last_grad_y, gradients);
        const MaxPoolResult by_index = max_pool3d_with_indices(first, max, DType::i64);
        EXPECT_EQ(values_of(max_pool3d_backward(grad_y, by_tap.indices, sizes, max)),
                  values_of(max_pool3d_backward(grad_y, by_index.indices, sizes, max)));
        EXPECT_TRUE(equal_or_both_nan(values_of(avg_pool3d(first, avg)), values_of(avg_pool3d(last, avg))));
        EXPECT_EQ(values_of(avg_pool3d_backward(grad_y, sizes, exact)),
                  values_of(avg_pool3d_backward(last_grad_y, sizes, exact)));
      }
    }
  }
}

/// Every window of one plane after the other, by its definition: reduce(accumulated, element).
template <class Reduce>
Values windows_of_planes(const Values& x, const Dims& sizes, const Dims& kernel, const Dims& padding,
                         double identity, const Reduce& reduce) {
  const std::int64_t planes = sizes[0] * sizes[1];
  const std::int64_t out_h = sizes[2] + 2 * padding[0] - kernel[0] + 1;
  const std::int64_t out_w = sizes[3] + 2 * padding[1] - kernel[1] + 1;
  Values y;
  for (std::int64_t i = 0; i < planes * out_h * out_w; ++i) {
    const std::int64_t plane = i / out_w / out_h;
    const std::int64_t top = i / out_w % out_h - padding[0];
    const std::int64_t left = i % out_w - padding[1];
    double value = identity;
    for (std::int64_t h = std::max<std::int64_t>(top, 0); h < std::min(top + kernel[0], sizes[2]); ++h) {
      for (std::int64_t w = std::max<std::int64_t>(left, 0); w < std::min(left + kernel[1], sizes[3]); ++w)
        value = reduce(value, x[static_cast<std::size_t>((plane * sizes[2] + h) * sizes[3] + w)]);
    }
    y.push_back(value);
  }
  return y;
}

TEST_P(OnEveryTarget, WindowsOfManyRowsOrColumns) {
  struct Case {
    Dims sizes, kernel, padding;
  };
  const auto larger = [](double a, double b) { return std::isnan(a) || a > b ? a : b; };
  // Kernels of one binary digit and of several; planes that are cut into bands of rows and rows that are cut
  // into tiles; planes that end with the padding of their last rows; columns that are whole vectors, or not.
  for (const auto& [sizes, kernel, padding] :
       {Case{{1, 3, 20, 37}, {13, 13}, {6, 6}}, Case{{1, 1, 50, 41}, {4, 7}, {2, 3}},
        Case{{2, 70, 9, 9}, {5, 5}, {2, 2}}, Case{{1, 1, 9, 4300}, {7, 2}, {3, 1}},
        Case{{1, 9, 8, 45}, {8, 1}, {0, 0}}, Case{{1, 1, 6, 33}, {11, 6}, {5, 3}},
        Case{{1, 1, 4, 30}, {1, 4}, {0, 2}}, Case{{1, 2, 5, 80}, {3, 5}, {1, 2}},
        Case{{1, 2, 3, 150}, {1, 40}, {0, 13}}, Case{{1, 3, 2, 75}, {1, 64}, {0, 0}},
        Case{{1, 1, 1, 17000}, {1, 100}, {0, 50}}}) {
    Values values = iota(element_count(sizes));
    for (double& value : values) value = std::fmod(value * 7, 23) - 11;
    const AvgPoolOptions avg{
        .kernel = kernel, .stride = 1, .padding = padding, .divisor_override = 64};  // exact
    Values averages = windows_of_planes(values, sizes, kernel, padding, 0, std::plus<>());
    for (double& value : averages) value /= 64;
    const MaxPoolOptions max{.kernel = kernel, .stride = 1, .padding = padding};
    for (const bool special : {false, true}) {
      if (special) {
        values[values.size() / 5] = std::nan("");
        values[values.size() / 2] = kInfinity;
        values.back() = -kInfinity;
      }
      const Values maxima = windows_of_planes(values, sizes, kernel, padding, -kInfinity, larger);
      for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8}) {
        if (dtype == DType::i8 && special) continue;
        SCOPED_TRACE(::testing::Message() << name_of(dtype) << ' ' << to_string(sizes) << ' '
                                          << to_string(kernel) << (special ? " special" : ""));
        const GuardedTensor first(dtype, sizes, values);
        const GuardedTensor last(dtype, sizes, cenote_test::LayoutKind::kChannelsLast, 2, 1);
        assign(last, values);
        EXPECT_TRUE(equal_or_both_nan(values_of(max_pool2d(first, max)), maxima));
        EXPECT_TRUE(equal_or_both_nan(values_of(max_pool2d(last, max)), maxima));
        if (special || (dtype != DType::f32 && dtype != DType::f64)) continue;
        EXPECT_EQ(values_of(avg_pool2d(first, avg)), averages);
        EXPECT_EQ(values_of(avg_pool2d(last, avg)), averages);
      }
    }
  }
}

TEST_P(OnEveryTarget, HugeKernelsCostNoMoreThanTheInput) {
  // The padding rule allows a kernel far beyond the input; its taps outside must not be walked.
  const std::int64_t huge = (std::int64_t{1} << 40) + 1;
  const GuardedTensor x(DType::f64, Dims{1, 3}, {1, 7, 4});
  const std::int64_t half = huge / 2;
  const MaxPoolOptions options{.kernel = huge, .stride = huge, .padding = half};
  EXPECT_EQ(values_of(max_pool1d(x, options)), (Values{7}));
  const AvgPoolOptions average{.kernel = huge, .stride = huge, .padding = half, .count_include_pad = false};
  EXPECT_EQ(values_of(avg_pool1d(x, average)), (Values{4}));
}

TEST_P(OnEveryTarget, AllocatingFormsKeepTheLayout) {
  const GuardedTensor x(DType::f32, Dims{2, 3, 4, 6}, cenote_test::LayoutKind::kChannelsLast, 2, 0);
  assign(x, iota(std::int64_t{2} * 3 * 4 * 6));
  const MaxPoolResult max = max_pool2d_with_indices(x, {.kernel = 2});
  EXPECT_EQ(max.values.strides(), (Dims{18, 1, 9, 3}));
  EXPECT_EQ(max.indices.strides(), (Dims{18, 1, 9, 3}));
  EXPECT_EQ(avg_pool2d(x, {.kernel = 2}).strides(), (Dims{18, 1, 9, 3}));
  EXPECT_EQ(values_of(max.values)[0], 7);
}

TEST_P(OnEveryTarget, ManyChannelsOfFewPixels) {
  const Dims sizes{1, 1040, 6, 6};
  const GuardedTensor last(DType::f32, sizes, cenote_test::LayoutKind::kChannelsLast, 2, 0);
  assign(last, iota(element_count(sizes)));
  const GuardedTensor first(DType::f32, sizes, iota(element_count(sizes)));
  for (const std::int64_t kernel : {3, 5, 6}) {
    const AvgPoolOptions options{.kernel = kernel, .stride = 3};
    EXPECT_EQ(values_of(avg_pool2d(last, options)), values_of(avg_pool2d(first, options)));
    const MaxPoolOptions maxima{.kernel = kernel, .stride = 3};
    EXPECT_EQ(values_of(max_pool2d(last, maxima)), values_of(max_pool2d(first, maxima)));
  }
}

TEST_P(OnEveryTarget, ViewsMayRunBackwardsOrRepeat) {
  const float x[6] = {1, 2, 3, 4, 5, 6};
  float y[3] = {};
  const ConstTensorView reversed(x + 5, Dims{1, 6}, Dims{6, -1});
  max_pool1d_into(TensorView(y, Dims{1, 3}), reversed, {.kernel = 2});
  EXPECT_EQ(Values(y, y + 3), (Values{6, 4, 2}));
  avg_pool1d_into(TensorView(y + 2, Dims{1, 3}, Dims{3, -1}), ConstTensorView(x, Dims{1, 6}), {.kernel = 2});
  EXPECT_EQ(Values(y, y + 3), (Values{5.5, 3.5, 1.5}));
  const ConstTensorView repeated(x, Dims{2, 6}, Dims{0, 1});  // two channels in the same memory
  EXPECT_EQ(values_of(max_pool1d(repeated, {.kernel = 3})), (Values{3, 6, 3, 6}));
  const ConstTensorView constant(x + 3, Dims{1, 6}, Dims{0, 0});
  EXPECT_EQ(values_of(avg_pool1d(constant, {.kernel = 3})), (Values{4, 4}));
}

TEST_P(OnEveryTarget, EmptyBatch) {
  const ConstTensorView x(nullptr, DType::f32, Dims{0, 3, 4, 4}, dense_strides(Dims{0, 3, 4, 4}));
  const MaxPoolResult max = max_pool2d_with_indices(x, {.kernel = 2});
  EXPECT_EQ(max.values.sizes(), (Dims{0, 3, 2, 2}));
  EXPECT_EQ(max_pool2d_backward(max.values, max.indices, x.sizes, {.kernel = 2}).sizes(), x.sizes);
  EXPECT_EQ(avg_pool2d(x, {.kernel = 2}).sizes(), (Dims{0, 3, 2, 2}));
  EXPECT_EQ(avg_pool2d_backward(max.values, x.sizes, {.kernel = 2}).sizes(), x.sizes);
}

TEST(WindowShapes, BeyondThirtyTwoBits) {
  const std::int64_t large = (std::int64_t{1} << 32) + 2;
  EXPECT_EQ(max_pool1d_shape(Dims{1, 1, large}, {.kernel = 2}), (Dims{1, 1, large / 2}));
  EXPECT_EQ(avg_pool2d_shape(Dims{1, 70'000, 70'000}, {.kernel = 2}), (Dims{1, 35'000, 35'000}));
}

}  // namespace
}  // namespace cenote
