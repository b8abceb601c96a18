// Averages of i8 and u8 elements that stand for real numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "cenote/adaptive.h"
#include "cenote/global.h"
#include "cenote/runtime.h"
#include "cenote/window.h"
#include "conformance/replay.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::GuardedTensor;
using cenote_test::LayoutKind;
using cenote_test::values_of;
using Values = std::vector<double>;

class Quantized : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, Quantized, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

TEST_P(Quantized, RoundsHalfToEvenWherePlainIntegersRoundToZero) {
  const GuardedTensor x(DType::u8, Dims{1, 8}, {1, 2, 2, 3, 255, 255, 0, 1});
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 2})), (Values{1, 2, 255, 0}));
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 2, .quantization = Quantization{}})), (Values{2, 2, 255, 0}));
}

TEST_P(Quantized, PaddingStandsForZero) {
  // Real numbers 2 * (q - 10): 0 and 20, the padding 0.
  const GuardedTensor x(DType::i8, Dims{1, 2}, {10, 20});
  const Quantization quantization{.x_scale = 2, .x_zero_point = 10, .y_scale = 4, .y_zero_point = -5};
  AvgPoolOptions options{.kernel = 3, .stride = 2, .padding = 1, .quantization = quantization};
  EXPECT_EQ(values_of(avg_pool1d(x, options)), (Values{-5 + 2}));  // 20 / 3 / 4 = 1.67
  options.count_include_pad = false;
  EXPECT_EQ(values_of(avg_pool1d(x, options)), (Values{-5 + 2}));  // 20 / 2 / 4 = 2.5, half to even
}

TEST_P(Quantized, StaysWithinTheRangeOfTheType) {
  const GuardedTensor x(DType::i8, Dims{1, 2}, {-128, 127});
  for (const double scale : {1e-300, 1e-3}) {
    const Quantization quantization{.x_scale = 1, .x_zero_point = 0, .y_scale = scale, .y_zero_point = 7};
    EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 1, .quantization = quantization})), (Values{-128, 127}));
  }
  const Quantization coarse{.x_scale = 1e-300, .x_zero_point = 0, .y_scale = 1, .y_zero_point = 7};
  EXPECT_EQ(values_of(avg_pool1d(x, {.kernel = 1, .quantization = coarse})), (Values{7, 7}));
}

TEST_P(Quantized, EqualsTheDefinitionInEveryLayout) {
  const Dims sizes{2, 19, 7, 9};
  std::uint64_t state = 1;
  for (const DType dtype : {DType::i8, DType::u8}) {
    const double least = dtype == DType::i8 ? -128 : 0;
    for (const LayoutKind layout : cenote_test::kLayoutKinds) {
      const GuardedTensor x(dtype, sizes, layout, 2, 3);
      Values elements(static_cast<std::size_t>(element_count(sizes)));
      for (double& element : elements) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        element = least + static_cast<double>(state >> 56);
      }
      assign(x, elements);
      const Quantization q{.x_scale = 0.37,
                           .x_zero_point = least < 0 ? -3 : 120,
                           .y_scale = 0.21,
                           .y_zero_point = least < 0 ? 9 : 99};
      for (const bool count_include_pad : {true, false}) {
        const AvgPoolOptions options{.kernel = 3,
                                     .stride = 2,
                                     .padding = 1,
                                     .count_include_pad = count_include_pad,
                                     .quantization = q};
        // The real numbers, pooled as f64, are what the integers stand for.
        Values real = elements;
        for (double& value : real) value -= static_cast<double>(q.x_zero_point);
        AvgPoolOptions plain = options;
        plain.quantization.reset();
        Values expected = values_of(avg_pool2d(GuardedTensor(DType::f64, sizes, real), plain));
        for (double& value : expected) {
          value = std::clamp(
              std::nearbyint(value * (q.x_scale / q.y_scale)) + static_cast<double>(q.y_zero_point), least,
              least + 255);
        }
        EXPECT_EQ(values_of(avg_pool2d(x, options)), expected);
      }
    }
  }
}

TEST_P(Quantized, AdaptiveAndGlobal) {
  const GuardedTensor x(DType::u8, Dims{1, 5}, {1, 2, 6, 4, 5});
  // Windows [0, 2), [1, 4), [3, 5): means 1.5, 4, 4.5, less 3, times 2, plus 10.
  const Quantization quantization{.x_scale = 1, .x_zero_point = 3, .y_scale = 0.5, .y_zero_point = 10};
  EXPECT_EQ(values_of(adaptive_avg_pool1d(x, {.output_size = 3, .quantization = quantization})),
            (Values{7, 12, 13}));
  EXPECT_EQ(values_of(global_avg_pool1d(x, {quantization})), (Values{11}));  // (3.6 - 3) * 2 = 1.2
  constexpr std::size_t kPlanes = 34;
  constexpr std::size_t kPixels = 24;
  const GuardedTensor pixels(DType::i8, Dims{2, 17, 4, 6}, Values(kPlanes * kPixels, -7.0));
  const Quantization halves{.x_scale = 1, .x_zero_point = 0, .y_scale = 2, .y_zero_point = 1};
  EXPECT_EQ(values_of(global_avg_pool2d(pixels, {halves})), Values(kPlanes, -4.0 + 1));  // -3.5, half to even
}

TEST(QuantizedErrors, NameTheArgument) {
  const GuardedTensor floats(DType::f32, Dims{1, 4}, {1, 2, 3, 4});
  const GuardedTensor bytes(DType::u8, Dims{1, 4}, {1, 2, 3, 4});
  const GuardedTensor signed_bytes(DType::i8, Dims{1, 4}, {1, 2, 3, 4});
  const auto pool = [](const GuardedTensor& x, const Quantization& quantization) {
    return [&x, quantization] { avg_pool1d(x, {.kernel = 2, .quantization = quantization}); };
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  expect_invalid(pool(floats, {}), {"[avg_pool1d]", "dtype", "i8 or u8", "got f32"});
  expect_invalid(pool(bytes, {.x_scale = 0}), {"[avg_pool1d]", "x_scale", "> 0", "got 0"});
  expect_invalid(pool(bytes, {.y_scale = -1}), {"y_scale", "> 0", "got -1"});
  expect_invalid(pool(bytes, {.x_scale = kInfinity}), {"x_scale", "finite", "got inf"});
  expect_invalid(pool(bytes, {.y_scale = std::nan("")}), {"y_scale", "finite", "got nan"});
  expect_invalid(pool(bytes, {.x_scale = 1e300, .y_scale = 1e-300}), {"x_scale / y_scale", "finite"});
  expect_invalid(pool(bytes, {.x_zero_point = -1}), {"x_zero_point", "[0, 255]", "got -1"});
  expect_invalid(pool(bytes, {.y_zero_point = 256}), {"y_zero_point", "[0, 255]", "got 256"});
  expect_invalid(pool(signed_bytes, {.y_zero_point = 128}), {"y_zero_point", "[-128, 127]", "got 128"});
  const GuardedTensor grad_y(DType::f32, Dims{1, 2}, {1, 2});
  expect_invalid(
      [&] { avg_pool1d_backward(grad_y, Dims{1, 4}, {.kernel = 2, .quantization = Quantization{}}); },
      {"[avg_pool1d_backward]", "quantization"});
  expect_invalid([&] { adaptive_avg_pool1d(floats, {.output_size = 2, .quantization = Quantization{}}); },
                 {"[adaptive_avg_pool1d]", "i8 or u8", "got f32"});
  expect_invalid(
      [&] {
        adaptive_avg_pool1d_backward(grad_y, Dims{1, 4}, {.output_size = 2, .quantization = Quantization{}});
      },
      {"[adaptive_avg_pool1d_backward]", "quantization"});
  const GuardedTensor grad_gap(DType::f32, Dims{1, 1}, {1});
  expect_invalid([&] { global_avg_pool1d_backward(grad_gap, Dims{1, 4}, {Quantization{}}); },
                 {"[global_avg_pool1d_backward]", "quantization"});
}

}  // namespace
}  // namespace cenote
