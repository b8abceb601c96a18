// Fractional max pooling on examples worked out by hand, its random numbers, long rows, and its errors.
#include "cenote/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cenote/registry.h"
#include "cenote/runtime.h"
#include "conformance/comparison.h"
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

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Fractional : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, Fractional, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

// 7 elements, windows of 2, 4 outputs: a = 5 / 3. int((i + u) a) - int(u a) is 0, 1, 3 for u = 0 and 0, 2, 3
// for u = 0.9; the last window begins at 5.
TEST_P(Fractional, WindowsLieWhereTheSamplesSay) {
  const GuardedTensor x(DType::f64, Dims{2, 1, 7}, iota(14));
  const GuardedTensor samples(DType::f64, Dims{1, 2, 2}, {0, 0, 0.9, 0});
  const FractionalMaxPoolOptions options{.kernel = {1, 2}, .output_size = {1, 4}, .samples = samples};
  EXPECT_EQ(fractional_max_pool2d_shape(x.view().sizes, options), (Dims{2, 1, 4}));
  const MaxPoolResult got = fractional_max_pool2d_with_indices(x, options);
  EXPECT_EQ(values_of(got.values), (Values{1, 2, 4, 6, 8, 10, 11, 13}));
  EXPECT_EQ(integers_of(got.indices), (Integers{1, 2, 4, 6, 1, 3, 4, 6}));
  EXPECT_EQ(values_of(fractional_max_pool2d(x, options)), values_of(got.values));
}

// In 2-D the first number is that of W, in 3-D the last.
TEST_P(Fractional, SamplesHaveTheOrderOfPyTorch) {
  const Values line = iota(7);
  const GuardedTensor flat_samples(DType::f32, Dims{1, 1, 2}, {0.9, 0});
  const FractionalMaxPoolOptions along_w{.kernel = {1, 2}, .output_size = {1, 4}, .samples = flat_samples};
  const FractionalMaxPoolOptions along_h{.kernel = {2, 1}, .output_size = {4, 1}, .samples = flat_samples};
  EXPECT_EQ(values_of(fractional_max_pool2d(GuardedTensor(DType::f32, Dims{1, 1, 7}, line), along_w)),
            (Values{1, 3, 4, 6}));
  EXPECT_EQ(values_of(fractional_max_pool2d(GuardedTensor(DType::f32, Dims{1, 7, 1}, line), along_h)),
            (Values{1, 2, 4, 6}));
  const GuardedTensor samples(DType::f32, Dims{1, 1, 3}, {0.9, 0, 0});
  const auto pool = [&](const Dims& sizes, const Dims& kernel, const Dims& outputs) {
    const GuardedTensor x(DType::f32, sizes, line);
    return values_of(
        fractional_max_pool3d(x, {.kernel = kernel, .output_size = outputs, .samples = samples}));
  };
  EXPECT_EQ(pool({1, 7, 1, 1}, {2, 1, 1}, {4, 1, 1}), (Values{1, 3, 4, 6}));
  EXPECT_EQ(pool({1, 1, 7, 1}, {1, 2, 1}, {1, 4, 1}), (Values{1, 2, 4, 6}));
  EXPECT_EQ(pool({1, 1, 1, 7}, {1, 1, 2}, {1, 1, 4}), (Values{1, 2, 4, 6}));
}

TEST_P(Fractional, TheRatioIsRoundedDown) {
  const FractionalMaxPoolOptions options{.kernel = 2, .output_ratio = {0.7, 0.5}};
  EXPECT_EQ(fractional_max_pool2d_shape(Dims{4, 3, 9, 9}, options), (Dims{4, 3, 6, 4}));
  EXPECT_EQ(fractional_max_pool3d_shape(Dims{3, 9, 10, 11}, {.kernel = 2, .output_ratio = {0.7}}),
            (Dims{3, 6, 7, 7}));
}

TEST_P(Fractional, NanWinsAndInfinitiesAreValues) {
  const double nan = std::nan("");
  const GuardedTensor x(DType::f32, Dims{1, 2, 4},
                        {nan, 1, -kInfinity, -kInfinity,  //
                         2, nan, -kInfinity, -kInfinity});
  const FractionalMaxPoolOptions options{.kernel = 2, .output_size = {1, 2}};
  const MaxPoolResult got = fractional_max_pool2d_with_indices(x, options);
  EXPECT_TRUE(std::isnan(values_of(got.values)[0]));
  EXPECT_EQ(values_of(got.values)[1], -kInfinity);
  EXPECT_EQ(integers_of(got.indices), (Integers{5, 2}));
}

// Windows 0 .. 2, 1 .. 3 and 2 .. 4 share their maximum, at 2.
TEST_P(Fractional, GradientsOfWindowsThatOverlapAddUp) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 5}, {0, 1, 9, 1, 0});
  const FractionalMaxPoolOptions options{.kernel = {1, 3}, .output_size = {1, 3}};
  const MaxPoolResult got = fractional_max_pool2d_with_indices(x, options);
  EXPECT_EQ(integers_of(got.indices), (Integers{2, 2, 2}));
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 3}, {1, 2, 4});
  EXPECT_EQ(values_of(fractional_max_pool2d_backward(grad_y, got.indices, Dims{1, 1, 5}, options)),
            (Values{0, 0, 7, 0, 0}));
}

TEST_P(Fractional, ABatchMayBeEmpty) {
  const Tensor x(DType::f32, Dims{0, 3, 5, 5});
  const FractionalMaxPoolOptions options{.kernel = 2, .output_size = 3};
  const MaxPoolResult got = fractional_max_pool2d_with_indices(x, options);
  EXPECT_EQ(got.values.sizes(), (Dims{0, 3, 3, 3}));
  const Tensor grad_x = fractional_max_pool2d_backward(got.values, got.indices, x.sizes(), options);
  EXPECT_EQ(grad_x.sizes(), x.sizes());
}

// 600 - 2 steps in bf16, which counts by 4 there: rounding would move windows beyond the end.
TEST_P(Fractional, NoWindowLeavesTheInput) {
  const GuardedTensor x(DType::bf16, Dims{1, 1, 600}, Values(600, 1.0));
  for (const std::int64_t outputs : {590, 595, 598, 599}) {
    const FractionalMaxPoolOptions options{.kernel = {1, 2}, .output_size = {1, outputs}};
    const Integers begins = integers_of(fractional_max_pool2d_with_indices(x, options).indices);
    for (std::size_t i = 0; i < begins.size(); ++i) {
      ASSERT_GE(begins[i], i == 0 ? 0 : begins[i - 1]);
      ASSERT_LE(begins[i], 598);
    }
    EXPECT_EQ(begins.back(), 598);
  }
}

// More than 2^29 taps have no 32-bit keys.
TEST(FractionalWindows, MayBeLargerThanKeysCount) {
  const float element = 3;
  const std::int64_t size = (std::int64_t{1} << 29) + 1;
  const ConstTensorView x(&element, Dims{1, 1, size}, Dims{0, 0, 0});
  const MaxPoolResult got =
      fractional_max_pool2d_with_indices(x, {.kernel = {1, size}, .output_size = {1, 1}});
  EXPECT_EQ(values_of(got.values), (Values{3}));
  EXPECT_EQ(integers_of(got.indices), (Integers{0}));
}

/// Every target and layout against the reference.
void expect_reference(const cenote_test::Case& one) {
  const cenote_test::Comparison comparison(one);
  for (const std::string& target : cpu_targets()) {
    for (const auto layout : cenote_test::kLayoutKinds) {
      for (const std::string& problem : comparison.problems(target, layout))
        ADD_FAILURE() << problem << '\n' << describe(one);
    }
  }
}

// Rows of many tiles, windows longer than a tile, and gaps between windows longer than one.
TEST(FractionalRows, MayBeLong) {
  cenote_test::Case one;
  one.op = find_op("fractional_max_pool2d");
  one.seed = 3;
  const auto expect_row = [&](std::int64_t kernel, std::int64_t outputs) {
    one.sizes = {2, 2, 9'100};
    one.arguments.kernel = {2, kernel};
    one.arguments.output_size = {1, outputs};
    one.dtype = DType::f32;
    one.fill = cenote_test::Fill::kNormal;
    expect_reference(one);
    one.dtype = DType::f64;
    one.fill = cenote_test::Fill::kWithNan;
    expect_reference(one);
  };
  expect_row(3, 6'000);
  expect_row(5'000, 9);
  expect_row(2, 2);
  expect_row(2, 9'099);
  one.dtype = DType::bf16;
  expect_reference(one);
}

TEST(FractionalSamples, AreTheBitsOfPhilox) {
  // The known answer for key 0 and counter 0 begins with the words 6627e8d5 e169c58d.
  const std::uint64_t word = 0x6627e8d5e169c58d;
  const auto first = [](DType dtype) {
    return values_of(fractional_max_pool_samples(Dims{1, 1, 1, 1}, 2, dtype, 0))[0];
  };
  EXPECT_EQ(first(DType::f64), std::ldexp(static_cast<double>(word >> 11), -53));
  EXPECT_EQ(first(DType::f32), std::ldexp(static_cast<double>(word >> 40), -24));
  EXPECT_EQ(first(DType::f16), std::ldexp(static_cast<double>(word >> 53), -11));
  EXPECT_EQ(first(DType::bf16), std::ldexp(static_cast<double>(word >> 56), -8));
  // Plane 5, axis 1 of another key.
  const Tensor samples = fractional_max_pool_samples(Dims{2, 3, 4, 4}, 2, DType::f64, 0x299f31d0a4093822);
  EXPECT_EQ(samples.sizes(), (Dims{2, 3, 2}));
  EXPECT_EQ(values_of(samples)[11], std::ldexp(static_cast<double>(0x354fbc398c2d368a >> 11), -53));
}

TEST(FractionalSamples, LieEvenlyInTheUnitInterval) {
  const std::int64_t count = 4'000;
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    const Values u = values_of(fractional_max_pool_samples(Dims{count, 1, 1, 1}, 3, dtype, 1));
    ASSERT_EQ(u.size(), 12'000u);
    std::vector<int> shares(8, 0);
    for (const double value : u) {
      ASSERT_TRUE(value >= 0 && value < 1);
      ++shares[static_cast<std::size_t>(value * 8)];
    }
    for (const int share : shares) EXPECT_NEAR(share, 1'500, 6 * std::sqrt(1'500.0 * 7 / 8));
  }
}

TEST(FractionalSamples, ErrorsNameTheRule) {
  expect_invalid([] { fractional_max_pool_samples(Dims{1, 1, 1}, 1, DType::f32, 0); },
                 {"[fractional_max_pool_samples]", "spatial_rank must be 2 or 3, got 1"});
  expect_invalid([] { fractional_max_pool_samples(Dims{1, 1, 1}, 2, DType::i32, 0); }, {"dtype must be f32"});
}

class FractionalErrors : public ::testing::Test {
 protected:
  void expect(const FractionalMaxPoolOptions& options, std::initializer_list<const char*> fragments) {
    expect_invalid([&] { fractional_max_pool2d_shape(x_.view().sizes, options); }, fragments);
    expect_invalid([&] { fractional_max_pool2d(x_, options); }, fragments);
  }
  GuardedTensor x_{DType::f32, Dims{2, 5, 6}, iota(60)};
};

TEST_F(FractionalErrors, OfSizes) {
  expect({.kernel = {}, .output_size = 2}, {"[fractional_max_pool2d]", "kernel must have 1 or 2 values"});
  expect({.kernel = {1, 1, 1}, .output_size = 2}, {"kernel must have 1 or 2 values"});
  expect({.kernel = {2, 0}, .output_size = 2}, {"kernel[1] must be > 0, got 0"});
  expect({.kernel = -1, .output_size = 2}, {"kernel[0] must be > 0, got -1"});
  expect({.kernel = 2, .output_size = {0, 1}}, {"output_size[0] must be > 0, got 0"});
  expect({.kernel = 2, .output_size = {1, -1}}, {"output_size[1] must be > 0, got -1"});
  expect({.kernel = 2, .output_size = {1, 2, 3}}, {"output_size must have 1 or 2 values"});
  expect({.kernel = 2, .output_size = 5},
         {"must be <= the input size 5 along spatial axis 0, got 5 + 2 - 1"});
  expect({.kernel = {1, 3}, .output_size = 5}, {"the input size 6 along spatial axis 1, got 5 + 3 - 1"});
  expect_overflow(
      [&] {
        fractional_max_pool2d(x_, {.kernel = std::numeric_limits<std::int64_t>::max(), .output_size = 2});
      },
      {"output size + kernel - 1 overflows 64 bits"});
}

TEST_F(FractionalErrors, OfTheRatio) {
  expect({.kernel = 2}, {"exactly one of output_size and output_ratio must be given, got neither"});
  expect({.kernel = 2, .output_size = 2, .output_ratio = {0.5}}, {"output_ratio must be given, got both"});
  expect({.kernel = 2, .output_ratio = {0.5, 0.5, 0.5}}, {"output_ratio must have 1 or 2 values, got 3"});
  expect({.kernel = 2, .output_ratio = {1}}, {"output_ratio[0] must lie in (0, 1), got 1"});
  expect({.kernel = 2, .output_ratio = {0.5, -0.5}}, {"output_ratio[1] must lie in (0, 1), got -0.5"});
  expect({.kernel = 2, .output_ratio = {std::nan("")}}, {"output_ratio[0] must lie in (0, 1), got nan"});
  expect({.kernel = 2, .output_ratio = {0.1}}, {"output_ratio[0] must give at least one output"});
}

TEST_F(FractionalErrors, OfTheSamples) {
  const auto expect_samples = [&](const GuardedTensor& samples,
                                  std::initializer_list<const char*> fragments) {
    expect_invalid([&] { fractional_max_pool2d(x_, {.kernel = 2, .output_size = 2, .samples = samples}); },
                   fragments);
  };
  expect_samples({DType::f64, Dims{1, 2, 2}, Values(4, 0.5)}, {"samples dtype must be f32, got f64"});
  expect_samples({DType::f32, Dims{2, 2, 2}, Values(8, 0.5)}, {"samples must have sizes [1, 2, 2]"});
  expect_samples({DType::f32, Dims{2, 2}, Values(4, 0.5)}, {"samples must have sizes [1, 2, 2], got [2, 2]"});
  expect_samples({DType::f32, Dims{1, 2, 2}, {0, 0, 1, 0}}, {"samples must lie in [0, 1), got 1"});
  expect_samples({DType::f32, Dims{1, 2, 2}, {0, 0, 0, -0.25}}, {"samples must lie in [0, 1), got -0.25"});
  expect_samples({DType::f32, Dims{1, 2, 2}, {0, std::nan(""), 0, 0}},
                 {"samples must lie in [0, 1), got nan"});
  const ConstTensorView null(nullptr, DType::f32, Dims{1, 2, 2}, Dims{4, 2, 1});
  expect_invalid([&] { fractional_max_pool2d(x_, {.kernel = 2, .output_size = 2, .samples = null}); },
                 {"samples data must not be null"});
}

TEST_F(FractionalErrors, OfTensors) {
  const FractionalMaxPoolOptions options{.kernel = 2, .output_size = 2};
  const GuardedTensor bytes(DType::u8, Dims{1, 5, 5}, iota(25));
  expect_invalid([&] { fractional_max_pool2d(bytes, options); }, {"x dtype must be f32, f64, f16 or bf16"});
  expect_invalid([&] { fractional_max_pool3d(x_, options); }, {"[fractional_max_pool3d] x must have rank 4"});
  const Tensor y(DType::f32, Dims{2, 2, 2});
  const Tensor taps(DType::u8, Dims{2, 2, 2});
  expect_invalid([&] { fractional_max_pool2d_into(y, x_, options, &taps.view()); },
                 {"indices dtype must be i64"});
  const Tensor wrong(DType::f32, Dims{2, 2, 3});
  expect_invalid([&] { fractional_max_pool2d_into(wrong, x_, options); }, {"y must have sizes [2, 2, 2]"});
  const GuardedTensor indices(DType::i64, Dims{2, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 30});
  expect_invalid([&] { fractional_max_pool2d_backward(y, indices, Dims{2, 5, 6}, options); },
                 {"[fractional_max_pool2d_backward] indices must lie in [0, 30)", "got 30"});
  const std::uint16_t half = 0;
  const ConstTensorView wide(&half, DType::f16, Dims{1, 1, 70'000}, Dims{0, 0, 0});
  expect_invalid(
      [&] { fractional_max_pool2d(wide, {.kernel = 1, .output_size = {1, 2}}); },
      {"x sizes - kernel must be <= 65504 along each axis in f16", "70000 - 1 along spatial axis 1"});
}

}  // namespace
}  // namespace cenote
