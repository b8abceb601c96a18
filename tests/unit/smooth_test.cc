// The ops whose gradient reads x on examples worked out by hand, forward and backward, on every CPU target,
// at the edges of the numbers, and what they refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cenote/adaptive.h"
#include "cenote/global.h"
#include "cenote/registry.h"
#include "cenote/runtime.h"
#include "cenote/window.h"
#include "conformance/replay.h"
#include "support/errors.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::expect_invalid;
using cenote_test::expect_overflow;
using cenote_test::GuardedTensor;
using cenote_test::iota;
using cenote_test::values_of;
using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::IsNan;
using ::testing::Pointwise;
using Values = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

/// Some roundings of numbers below 100 in f64.
auto near(const Values& expected) { return Pointwise(::testing::DoubleNear(1e-12), expected); }

class Smooth : public ::testing::TestWithParam<std::string> {
 private:
  cenote_test::TargetGuard target_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Targets, Smooth, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& param) { return param.param; });

// ---- lp -----------------------------------------------------------------------------------------

TEST_P(Smooth, LpOfKnownPowers) {
  const GuardedTensor x(DType::f64, Dims{1, 1, 4}, {3, -4, 0, 8});
  const GuardedTensor grad_y(DType::f64, Dims{1, 1, 2}, {10, 1});
  const LpPoolOptions one{.kernel = 2, .norm_type = 1};
  EXPECT_EQ(values_of(lp_pool1d(x, one)), (Values{7, 8}));
  EXPECT_EQ(values_of(lp_pool1d_backward(grad_y, x, one)), (Values{10, -10, 0, 1}));
  const LpPoolOptions two{.kernel = 2};
  EXPECT_THAT(values_of(lp_pool1d(x, two)), near({5, 8}));
  EXPECT_THAT(values_of(lp_pool1d_backward(grad_y, x, two)), near({6, -8, 0, 1}));
  const LpPoolOptions three{.kernel = 2, .norm_type = 3};
  const double y = std::cbrt(27 + 64);
  EXPECT_THAT(values_of(lp_pool1d(x, three)), near({y, 8}));
  EXPECT_THAT(values_of(lp_pool1d_backward(grad_y, x, three)), near({90 / y / y, -160 / y / y, 0, 1}));
  const LpPoolOptions half{.kernel = 4, .norm_type = 0.5};
  const GuardedTensor squares(DType::f64, Dims{1, 1, 4}, {1, -4, 9, 0});
  EXPECT_THAT(values_of(lp_pool1d(squares, half)), near({36}));
  const GuardedTensor grad(DType::f64, Dims{1, 1, 1}, {1});
  EXPECT_THAT(values_of(lp_pool1d_backward(grad, squares, half)), near({6, -3, 2, 0}));
}

TEST_P(Smooth, LpOfInfinityIsTheLargestMagnitude) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 2, 2}, {3, -4, 4, 1});
  const GuardedTensor grad_y(DType::f32, Dims{1, 1, 1, 1}, {5});
  const LpPoolOptions options{.kernel = 2, .norm_type = kInfinity};
  EXPECT_EQ(values_of(lp_pool2d(x, options)), (Values{4}));
  EXPECT_EQ(values_of(lp_pool2d_backward(grad_y, x, options)), (Values{0, -5, 0, 0})) << "the first of two";
  EXPECT_EQ(values_of(global_lp_pool2d(x, {kInfinity})), (Values{4}));
}

TEST_P(Smooth, LpIsTheSameInEveryFamily) {
  const GuardedTensor x(DType::f64, Dims{1, 6}, {1, 2, 2, -3, 4, 0});
  EXPECT_THAT(values_of(adaptive_lp_pool1d(x, {.output_size = 2})), near({3, 5}));
  const GuardedTensor grad_y(DType::f64, Dims{1, 2}, {3, 5});
  EXPECT_THAT(values_of(adaptive_lp_pool1d_backward(grad_y, x, {.output_size = 2})),
              near({1, 2, 2, -3, 4, 0}));
  EXPECT_THAT(values_of(global_lp_pool1d(x, {})), near({std::sqrt(34)}));
}

TEST_P(Smooth, WindowsThatOverlapAddTheirGradients) {
  const GuardedTensor x(DType::f64, Dims{1, 3}, {3, 4, 3});
  const GuardedTensor grad_y(DType::f64, Dims{1, 2}, {5, 10});
  EXPECT_THAT(values_of(lp_pool1d_backward(grad_y, x, {.kernel = 2, .stride = 1})), near({3, 12, 6}));
}

// ---- exponentials -------------------------------------------------------------------------------

TEST_P(Smooth, LogSumExpOfKnownNumbers) {
  const GuardedTensor x(DType::f64, Dims{1, 2}, {0, std::log(3)});
  const GuardedTensor grad_y(DType::f64, Dims{1, 1}, {8});
  EXPECT_THAT(values_of(lse_pool1d(x, {.kernel = 2, .sharpness = 1})), near({std::log(2)}));
  EXPECT_THAT(values_of(lse_pool1d_backward(grad_y, x, {.kernel = 2, .sharpness = 1})), near({2, 6}));
  EXPECT_THAT(values_of(lse_pool1d(x, {.kernel = 2, .sharpness = 2})), near({std::log(5) / 2}));
  EXPECT_THAT(values_of(global_lse_pool1d_backward(grad_y, x, {2})), near({0.8, 7.2}));
  const double sharp = std::log((1 + std::pow(3, 10)) / 2) / 10;
  EXPECT_THAT(values_of(global_lse_pool1d(x, {})), near({sharp})) << "the default is 10";
}

TEST_P(Smooth, SoftPoolOfKnownNumbers) {
  const GuardedTensor x(DType::f64, Dims{1, 2}, {0, std::log(3)});
  const GuardedTensor grad_y(DType::f64, Dims{1, 1}, {1});
  const double y = 0.75 * std::log(3);
  EXPECT_THAT(values_of(soft_pool1d(x, {.kernel = 2})), near({y}));
  EXPECT_THAT(values_of(soft_pool1d_backward(grad_y, x, {.kernel = 2})),
              near({0.25 * (1 - y), 0.75 * (1 + std::log(3) - y)}));
  EXPECT_THAT(values_of(soft_pool1d(x, {.kernel = 2, .sharpness = 2})), near({0.9 * std::log(3)}));
}

TEST_P(Smooth, MinusInfinityHasNoWeight) {
  const GuardedTensor x(DType::f64, Dims{1, 4}, {-kInfinity, 2, -kInfinity, -kInfinity});
  const GuardedTensor grad_y(DType::f64, Dims{1, 2}, {3, 3});
  EXPECT_THAT(values_of(soft_pool1d(x, {.kernel = 2})), (Values{2, -kInfinity}));
  EXPECT_THAT(values_of(soft_pool1d_backward(grad_y, x, {.kernel = 2})), near({0, 3, 0, 0}));
  EXPECT_THAT(values_of(lse_pool1d(x, {.kernel = 2, .sharpness = 1}))[0], DoubleNear(2 - std::log(2), 1e-12));
  EXPECT_EQ(values_of(lse_pool1d(x, {.kernel = 2}))[1], -kInfinity);
  EXPECT_THAT(values_of(lse_pool1d_backward(grad_y, x, {.kernel = 2})), near({0, 3, 0, 0}));
}

/// Numbers of f32 in any layout, and the same in f64.
struct TwoTypes {
  TwoTypes(const Dims& sizes, cenote_test::LayoutKind layout, double least)
      : narrow(DType::f32, sizes, layout, 2, 5), wide(DType::f64, sizes, layout, 2, 5) {
    Values values = cenote_test::make_values(cenote_test::Fill::kNormal, element_count(sizes), 5);
    for (double& value : values) value = std::max<double>(static_cast<float>(value), least);
    cenote_test::assign(narrow, values);
    cenote_test::assign(wide, values);
  }
  const GuardedTensor& of(DType dtype) const { return dtype == DType::f32 ? narrow : wide; }

  GuardedTensor narrow;
  GuardedTensor wide;
};

TEST_P(Smooth, LogSumExpTendsToTheMean) {
  // Padding, -inf inside of the loops, is not in the mean. Windows of 81 taps take other loops than those
  // of 9.
  for (const cenote_test::LayoutKind layout : cenote_test::kLayoutKinds) {
    const TwoTypes x(Dims{2, 5, 23, 37}, layout, -kInfinity);
    const auto expect_mean = [&](DType dtype, double sharpness, std::int64_t kernel) {
      const LsePoolOptions options{.kernel = kernel, .stride = 2, .padding = 1, .sharpness = sharpness};
      const AvgPoolOptions mean{.kernel = kernel, .stride = 2, .padding = 1, .count_include_pad = false};
      // A rounding per term, of distances from the maximum that are below 8, and sharpness / 2 times a
      // variance below 4.
      const double rounding = dtype == DType::f32 ? 0x1p-21 : 0x1p-50;
      const double bound = static_cast<double>(kernel * kernel) * rounding + 2 * sharpness;
      EXPECT_THAT(values_of(lse_pool2d(x.of(dtype), options)),
                  Pointwise(DoubleNear(bound), values_of(avg_pool2d(x.wide, mean))))
          << name_of(layout) << " " << cenote::name_of(dtype) << " " << sharpness << " " << kernel;
    };
    for (const std::int64_t kernel : {3, 9}) {
      for (const double sharpness : {1e-300, 1e-37, 1e-20, 1e-8}) expect_mean(DType::f32, sharpness, kernel);
      for (const double sharpness : {5e-324, 1e-300, 1e-37, 1e-17})
        expect_mean(DType::f64, sharpness, kernel);
    }
    EXPECT_THAT(values_of(global_lse_pool2d(x.narrow, {1e-30})),
                Pointwise(DoubleNear(851 * 0x1p-21), values_of(global_avg_pool2d(x.wide))));
  }
}

TEST_P(Smooth, LogSumExpOfLittleSharpness) {
  const GuardedTensor grad_y(DType::f32, Dims{1, 1}, {1});
  for (const double r : {0x1p-3, 0x1p-10, 0x1p-20, 0x1p-40}) {
    const GuardedTensor x(DType::f32, Dims{1, 4}, {0.5, 0.25, 0.75, 0.375});
    double sum = 0;
    for (const double value : values_of(x)) sum += std::expm1(r * value);
    EXPECT_THAT(values_of(global_lse_pool1d(x, {r}))[0], DoubleNear(std::log1p(sum / 4) / r, 0x1p-22)) << r;
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_THAT(values_of(global_lse_pool1d_backward(grad_y, x, {r}))[i],
                  DoubleNear(std::exp(r * values_of(x)[i]) / (4 + sum), 0x1p-22));
    }
  }
}

TEST_P(Smooth, MinusInfinityIsNotLeftOutOfAFlatWindow) {
  // A fifth of the elements has no weight: log(4/5) / r.
  const GuardedTensor x(DType::f32, Dims{1, 5}, {0.125, 0.125, -kInfinity, 0.125, 0.125});
  const double r = 0x1p-6;
  const Values expected{0.125 + std::log(0.8) / r};
  EXPECT_THAT(values_of(global_lse_pool1d(x, {r})), Pointwise(DoubleNear(0x1p-18), expected));
  EXPECT_THAT(values_of(lse_pool1d(x, {.kernel = 6, .padding = 1, .sharpness = r})),
              Pointwise(DoubleNear(0x1p-18), expected));
}

// ---- whole planes -------------------------------------------------------------------------------

TEST_P(Smooth, GeneralisedMean) {
  const GuardedTensor x(DType::f64, Dims{2, 2}, {1, 7, 3, -1});
  const GuardedTensor grad_y(DType::f64, Dims{2, 1}, {10, 1});
  EXPECT_THAT(values_of(global_gem_pool1d(x, {.p = {2, 1}, .eps = 1})), near({5, 2}));
  EXPECT_THAT(values_of(global_gem_pool1d_backward(grad_y, x, {.p = {2, 1}, .eps = 0.5})),
              near({1, 7, 0.5, 0}));
  EXPECT_THAT(values_of(global_gem_pool1d(x, {})), near({std::cbrt(172), std::cbrt((27 + 1e-18) / 2)}))
      << "p is 3 and eps 1e-6";
}

TEST_P(Smooth, GemTendsToTheGeometricMean) {
  for (const cenote_test::LayoutKind layout : cenote_test::kLayoutKinds) {
    const TwoTypes x(Dims{2, 5, 11, 13}, layout, 0.125);
    const Values elements = values_of(x.wide);
    Values means;
    for (std::size_t plane = 0; plane < 10; ++plane) {
      double sum = 0;
      for (std::size_t i = 0; i < 143; ++i) sum += std::log(elements[plane * 143 + i]);
      means.push_back(std::exp(sum / 143));
    }
    const GuardedTensor grad_y(DType::f32, Dims{2, 5, 1, 1}, Values(10, 143));
    for (const double p : {1e-300, 1e-30, 1e-10}) {
      const GlobalGemPoolOptions options{.p = {p}, .eps = 0.125};
      EXPECT_THAT(values_of(global_gem_pool2d(x.narrow, options)), Pointwise(DoubleNear(0x1p-20), means))
          << p;
      const Values slopes = values_of(global_gem_pool2d_backward(grad_y, x.narrow, options));
      for (std::size_t i = 0; i < slopes.size(); ++i) {
        const double slope = elements[i] > 0.125 ? means[i / 143] / elements[i] : 0;
        ASSERT_NEAR(slopes[i], slope, 143 * 0x1p-20) << p << " " << i;
      }
    }
    EXPECT_THAT(values_of(global_gem_pool2d(x.wide, {.p = {1e-30}, .eps = 0.125})),
                Pointwise(DoubleNear(143 * 0x1p-51), means));
  }
}

TEST_P(Smooth, GemOfElementsAtEpsHasNoGradient) {
  const GuardedTensor x(DType::f64, Dims{1, 3}, {0.25, 0.125, -5});
  const GuardedTensor grad_y(DType::f64, Dims{1, 1}, {1});
  EXPECT_THAT(values_of(global_gem_pool1d(x, {.eps = 0.25})), near({0.25}));
  EXPECT_EQ(values_of(global_gem_pool1d_backward(grad_y, x, {.eps = 0.25})), (Values{0, 0, 0}));
}

TEST_P(Smooth, GemOfPowerOneIsAMean) {
  const GuardedTensor x(DType::f32, Dims{1, 4}, {1, kInfinity, 2, kNan});
  const GuardedTensor grad_y(DType::f32, Dims{1, 1}, {4});
  EXPECT_EQ(values_of(global_gem_pool1d_backward(grad_y, x, {.p = {1}})), (Values{1, 1, 1, 1}));
}

TEST_P(Smooth, GradientOfTheParameterOfGem) {
  const Dims sizes{2, 3, 2, 2};
  const GuardedTensor x(DType::f64, sizes, cenote_test::make_values(cenote_test::Fill::kNormal, 24, 3));
  const GuardedTensor grad_y(DType::f64, Dims{2, 3, 1, 1}, {1, -2, 0.5, 3, 1, -1});
  const auto loss = [&](const GlobalGemPoolOptions& options) {
    const Values y = values_of(global_gem_pool2d(x, options));
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * values_of(grad_y)[i];
    return sum;
  };
  for (const Values& p : {Values{3}, Values{1, 2.5, 4}}) {
    const Values got = global_gem_pool_p_gradient(grad_y, x, 2, {.p = p, .eps = 0.125});
    ASSERT_EQ(got.size(), p.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      constexpr double kStep = 0x1p-16;
      GlobalGemPoolOptions above{.p = p, .eps = 0.125};
      GlobalGemPoolOptions below = above;
      above.p[i] += kStep;
      below.p[i] -= kStep;
      // h^2 / 6 = 4e-11 times third derivatives below 10, and roundings of 1e-15 over 3e-5.
      EXPECT_NEAR(got[i], (loss(above) - loss(below)) / (2 * kStep), 1e-9) << i;
    }
  }
}

TEST_P(Smooth, GradientOfTheParameterOfGemIsNotRoundedTo16Bits) {
  constexpr std::int64_t kPlanes = 50;
  Values values;
  for (std::int64_t plane = 0; plane < kPlanes; ++plane) values.insert(values.end(), {1, 2, 7});
  const auto gradient = [&](DType dtype) {
    const GuardedTensor x(dtype, Dims{kPlanes, 1, 3}, values);
    const GuardedTensor grad_y(dtype, Dims{kPlanes, 1, 1}, Values(kPlanes, 1));
    return global_gem_pool_p_gradient(grad_y, x, 1, {.p = {2}}).at(0);
  };
  const double exact = gradient(DType::f64);
  // The slope of a plane is that in f32, a difference of logarithms below 2 that are some ulp off.
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    EXPECT_NEAR(gradient(dtype), exact, 0x1p-20 * exact) << cenote::name_of(dtype);
}

TEST_P(Smooth, Deviation) {
  const GuardedTensor x(DType::f64, Dims{2, 4}, {1, 3, 3, 1, 8, 8, 8, 8});
  const GuardedTensor grad_y(DType::f64, Dims{2, 1}, {4, 4});
  EXPECT_EQ(values_of(global_std_pool1d(x, {})), (Values{1, 0}));
  EXPECT_EQ(values_of(global_std_pool1d_backward(grad_y, x, {})), (Values{-1, 1, 1, -1, 0, 0, 0, 0}));
}

TEST_P(Smooth, DeviationOfEqualElementsIsZero) {
  // Sums of thirds and tenths round, which must not look like a deviation.
  for (const DType dtype : {DType::f32, DType::f64, DType::f16}) {
    for (const double value : {1.0 / 3, 0.1, 1e-30, 1e30}) {
      const Values values(77, dtype == DType::f16 ? 0.1 : value);
      const GuardedTensor x(dtype, Dims{1, 7, 11}, values);
      const GuardedTensor grad_y(dtype, Dims{1, 1, 1}, {1});
      EXPECT_EQ(values_of(global_std_pool2d(x, {})), (Values{0}));
      EXPECT_THAT(values_of(global_std_pool2d_backward(grad_y, x, {})), Each(0));
    }
  }
}

TEST_P(Smooth, MeanAndMaximum) {
  const GuardedTensor x(DType::f64, Dims{1, 4}, {2, 6, 6, 2});
  const GuardedTensor grad_y(DType::f64, Dims{1, 1}, {8});
  EXPECT_EQ(values_of(global_avgmax_pool1d(x, {})), (Values{5}));
  EXPECT_EQ(values_of(global_avgmax_pool1d_backward(grad_y, x, {})), (Values{1, 5, 1, 1}));
}

TEST_P(Smooth, MeansThenMaximaOfAllChannels) {
  const GuardedTensor x(DType::f32, Dims{2, 2, 2}, {1, 3, 10, 20, -1, -3, 5, 5});
  const Tensor y = global_catavgmax_pool1d(x, {});
  EXPECT_EQ(y.sizes(), (Dims{2, 4, 1}));
  EXPECT_EQ(values_of(y), (Values{2, 15, 3, 20, -2, 5, -1, 5}));
  const GuardedTensor grad_y(DType::f32, Dims{2, 4, 1}, {2, 4, 1, 3, 6, 8, 5, 7});
  EXPECT_EQ(values_of(global_catavgmax_pool1d_backward(grad_y, x, {})), (Values{1, 2, 2, 5, 8, 3, 11, 4}));
  const GuardedTensor image(DType::f64, Dims{1, 2, 2, 2}, iota(8));
  EXPECT_EQ(values_of(global_catavgmax_pool3d(image, {})), (Values{3.5, 7}));
  EXPECT_EQ(global_catavgmax_pool2d_shape({3, 5, 4, 4}, {}), (Dims{3, 10, 1, 1}));
}

TEST_P(Smooth, MeanAndMaximumOf16BitsRoundTheirSumOnce) {
  // 2 / 3 + 1 = 1.66666, next to 1.66699 in f16; 2 / 3 rounds to 0.66650, whose sum with 1 is next
  // to 1.66602.
  const GuardedTensor x(DType::f16, Dims{1, 3}, {1, 2, 1});
  const GuardedTensor grad_y(DType::f16, Dims{2, 1}, {2, 1});
  EXPECT_EQ(values_of(global_catavgmax_pool1d_backward(grad_y, x, {}))[1], 1.6669921875);
}

// ---- the edges of the numbers ---------------------------------------------------------------------

OpArguments valid_arguments(const OpInfo& op) {
  OpArguments arguments;
  if (op.parameters & kTakesWindow) arguments.kernel = 4;
  if (op.parameters & kTakesOutputSize) arguments.output_size = 1;
  return arguments;
}

struct Result {
  Values y;
  Values grad_x;
};

/// Forward, and backward with a gradient of ones, of one window of four elements.
Result pool_one_window(const OpInfo& op, DType dtype, const Values& values, const OpArguments& arguments) {
  const GuardedTensor x(dtype, Dims{1, 4}, values);
  const Dims y_sizes = op.shape(x.view().sizes, arguments);
  const Tensor y(dtype, y_sizes);
  const Tensor grad_x(dtype, x.view().sizes);
  const GuardedTensor grad_y(dtype, y_sizes, Values(static_cast<std::size_t>(element_count(y_sizes)), 1.0));
  const ConstTensorView kept = x;
  op.forward(y, nullptr, x, arguments);
  op.backward(grad_x, grad_y, &kept, arguments);
  return {values_of(y), values_of(grad_x)};
}

template <class Visit>
void for_each_smooth_op(const Visit& visit) {
  for (const OpInfo& op : ops()) {
    if (!op.gradient_reads_x || op.spatial_rank != 1) continue;
    SCOPED_TRACE(op.name);
    visit(op, valid_arguments(op));
    OpArguments other = valid_arguments(op);
    other.sharpness = 20;
    for (const double norm_type : {1.0, 2.5, kInfinity}) {
      other.norm_type = norm_type;
      if (op.parameters & kTakesNormType) visit(op, other);
    }
    if (op.parameters & kTakesSharpness) visit(op, other);
  }
}

TEST_P(Smooth, ZerosHaveFiniteGradients) {
  for_each_smooth_op([](const OpInfo& op, const OpArguments& arguments) {
    for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
      const Result result = pool_one_window(op, dtype, {0, -0.0, 0, 0}, arguments);
      EXPECT_THAT(result.grad_x, Each(::testing::Truly([](double v) { return std::isfinite(v); })));
      if (op.parameters & kTakesNormType) {
        EXPECT_EQ(result.y, (Values{0}));
        EXPECT_THAT(result.grad_x, Each(0));
      }
    }
  });
}

TEST_P(Smooth, NanIsKept) {
  for_each_smooth_op([](const OpInfo& op, const OpArguments& arguments) {
    for (const DType dtype : {DType::f32, DType::f16}) {
      for (const Values& x : {Values{1, kNan, 2, 3}, Values{kNan, kNan, kNan, kNan}}) {
        EXPECT_THAT(pool_one_window(op, dtype, x, arguments).y, Each(IsNan()));
      }
    }
  });
}

TEST_P(Smooth, InfinityIsKept) {
  for_each_smooth_op([](const OpInfo& op, const OpArguments& arguments) {
    const Result result = pool_one_window(op, DType::f32, {1, kInfinity, 2, 3}, arguments);
    if (op.name.find("std") != std::string_view::npos) {
      EXPECT_THAT(result.y, Each(IsNan()));
    } else {
      EXPECT_THAT(result.y, Each(kInfinity));
    }
  });
}

TEST_P(Smooth, LargeAndSmallMagnitudesStayInRange) {
  for_each_smooth_op([](const OpInfo& op, const OpArguments& arguments) {
    for (const double scale : {0x1p100, 0x1p-100}) {
      if (scale < 1 && op.name.find("gem") != std::string_view::npos) continue;  // below eps
      const Result result = pool_one_window(op, DType::f32, {scale, 3 * scale, 2 * scale, scale}, arguments);
      for (const double y : result.y) {
        EXPECT_GT(y, 0.5 * scale);
        EXPECT_LT(y, 8 * scale);
      }
    }
  });
}

TEST_P(Smooth, SmallPowersLeaveTheRangeOnlyWhereTheNormDoes) {
  const auto norm = [](const Values& x, double norm_type) {
    const GuardedTensor of(DType::f32, Dims{1, 1, static_cast<std::int64_t>(x.size())}, x);
    return values_of(global_lp_pool1d(of, {.norm_type = norm_type})).front();
  };
  EXPECT_EQ(norm(Values(12544, 1.0), 0.05), kInfinity);  // 12544^20
  EXPECT_EQ(norm({1, 2, 3, 0}, 0.001), kInfinity);
  const double small = norm(Values(256, 1e-30), 0.05);  // 256^20 is no f32, 1e-30 times it is
  EXPECT_NEAR(small / std::pow(2.0, 160) / 1e-30, 1, 1e-3);
}

TEST_P(Smooth, ParametersBeyondTheTypeStandForItsLimits) {
  const GuardedTensor x(DType::f32, Dims{1, 1, 3}, {1, 3, 2});
  EXPECT_EQ(values_of(soft_pool1d(x, {.kernel = 3, .sharpness = 1e39})), (Values{3}));
  EXPECT_EQ(values_of(lse_pool1d(x, {.kernel = 3, .sharpness = 1e39})), (Values{3}));
  EXPECT_EQ(values_of(lp_pool1d(x, {.kernel = 3, .norm_type = 1e39})), (Values{3}));
}

TEST_P(Smooth, WindowsOfPaddingAlone) {
  // The one window has its two taps on either side of the one element.
  const GuardedTensor x(DType::f64, Dims{1, 1}, {7});
  const GuardedTensor grad_y(DType::f64, Dims{1, 1}, {1});
  const LpPoolOptions lp{.kernel = 2, .padding = 1, .dilation = 2};
  const LsePoolOptions lse{.kernel = 2, .padding = 1, .dilation = 2};
  const SoftPoolOptions soft{.kernel = 2, .padding = 1, .dilation = 2};
  EXPECT_EQ(values_of(lp_pool1d(x, lp)), (Values{0}));
  EXPECT_EQ(values_of(lse_pool1d(x, lse)), (Values{-kInfinity}));
  EXPECT_EQ(values_of(soft_pool1d(x, soft)), (Values{0}));
  EXPECT_EQ(values_of(lp_pool1d_backward(grad_y, x, lp)), (Values{0}));
  EXPECT_EQ(values_of(lse_pool1d_backward(grad_y, x, lse)), (Values{0}));
  EXPECT_EQ(values_of(soft_pool1d_backward(grad_y, x, soft)), (Values{0}));
}

TEST_P(Smooth, PaddingIsNoElement) {
  const GuardedTensor x(DType::f64, Dims{1, 2}, {-3, -4});
  const Values mean{-3, -3 - std::log(2 / (1 + std::exp(-1))), -4};
  EXPECT_THAT(values_of(lse_pool1d(x, {.kernel = 2, .stride = 1, .padding = 1, .sharpness = 1})), near(mean));
  const double w = 1 / (1 + std::exp(-1));
  EXPECT_THAT(values_of(soft_pool1d(x, {.kernel = 2, .stride = 1, .padding = 1})),
              near({-3, -3 * w - 4 * (1 - w), -4}));
  EXPECT_THAT(values_of(lp_pool1d(x, {.kernel = 2, .stride = 1, .padding = 1})), near({3, 5, 4}));
}

// ---- what is refused ----------------------------------------------------------------------------

TEST(SmoothErrors, ParametersOutsideTheRules) {
  const GuardedTensor x(DType::f32, Dims{2, 2}, {1, 2, 3, 4});
  for (const double bad : {0.0, -1.0, kNan, -kInfinity}) {
    expect_invalid([&] { lp_pool1d(x, {.kernel = 2, .norm_type = bad}); },
                   {"[lp_pool1d]", "norm_type must be > 0"});
    expect_invalid([&] { adaptive_lp_pool1d(x, {.output_size = 1, .norm_type = bad}); },
                   {"[adaptive_lp_pool1d]", "norm_type"});
    expect_invalid([&] { global_lp_pool1d(x, {bad}); }, {"[global_lp_pool1d]", "norm_type"});
  }
  for (const double bad : {0.0, -1.0, kNan, kInfinity}) {
    expect_invalid([&] { lse_pool1d(x, {.kernel = 2, .sharpness = bad}); },
                   {"[lse_pool1d]", "sharpness must be"});
    expect_invalid([&] { soft_pool1d(x, {.kernel = 2, .sharpness = bad}); }, {"[soft_pool1d]", "sharpness"});
    expect_invalid([&] { global_lse_pool1d(x, {bad}); }, {"[global_lse_pool1d]", "sharpness"});
    expect_invalid([&] { global_gem_pool1d(x, {.p = {bad}}); }, {"[global_gem_pool1d]", "p must be > 0"});
    expect_invalid([&] { global_gem_pool1d(x, {.p = {2, bad}}); }, {"p must be > 0"});
    expect_invalid([&] { global_gem_pool1d(x, {.eps = bad}); }, {"[global_gem_pool1d]", "eps must be"});
  }
  expect_invalid([&] { global_gem_pool1d(x, {.eps = 1e-40}); }, {"eps"});
  for (const Values& p : {Values{}, Values{1, 2, 3}}) {
    expect_invalid([&] { global_gem_pool1d(x, {.p = p}); },
                   {"p must have 1 value or one per channel, 2, got"});
  }
}

TEST(SmoothErrors, BackwardsCheckTheSame) {
  const GuardedTensor x(DType::f32, Dims{2, 2}, {1, 2, 3, 4});
  const GuardedTensor grad_y(DType::f32, Dims{2, 1}, {1, 2});
  expect_invalid([&] { lp_pool1d_backward(grad_y, x, {.kernel = 2, .norm_type = 0}); },
                 {"[lp_pool1d_backward]", "norm_type"});
  expect_invalid([&] { global_gem_pool1d_backward(grad_y, x, {.p = {1, 2, 3}}); },
                 {"[global_gem_pool1d_backward]", "p must have"});
  const GuardedTensor other(DType::f64, Dims{2, 2}, {1, 2, 3, 4});
  expect_invalid([&] { lp_pool1d_backward(grad_y, other, {.kernel = 2}); }, {"dtype must be f64, got f32"});
  expect_invalid([&] { global_catavgmax_pool1d_backward(grad_y, x, {}); }, {"[4, 1]", "[2, 1]"});
  expect_invalid([&] { global_gem_pool_p_gradient(x, x, 1, {}); }, {"[2, 1]", "[2, 2]"});
  expect_invalid([&] { global_gem_pool_p_gradient(grad_y, x, 4, {}); },
                 {"spatial_rank must be 1, 2 or 3, got 4"});
}

TEST(SmoothErrors, BackwardOfTheRegistryNeedsX) {
  const GuardedTensor grad_y(DType::f32, Dims{1, 1}, {1});
  const GuardedTensor grad_x(DType::f32, Dims{1, 4}, {1, 2, 3, 4});
  for (const OpInfo& op : ops()) {
    if (!op.gradient_reads_x) continue;
    expect_invalid([&] { op.backward(grad_x, grad_y, nullptr, valid_arguments(op)); },
                   {"x must not be null"});
  }
}

TEST(SmoothErrors, IntegersAreRefused) {
  for (const OpInfo& op : ops()) {
    if (!op.gradient_reads_x || op.spatial_rank != 1) continue;
    SCOPED_TRACE(op.name);
    for (const DType dtype : {DType::i8, DType::u8, DType::i32, DType::i64}) {
      const GuardedTensor x(dtype, Dims{1, 4}, {1, 2, 3, 4});
      const Tensor y(dtype, op.shape({1, 4}, valid_arguments(op)));
      expect_invalid([&] { op.forward(y, nullptr, x, valid_arguments(op)); },
                     {"x dtype must be f32, f64, f16 or bf16, got", name_of(dtype)});
    }
  }
}

TEST(SmoothErrors, TwiceTheChannelsMustFit) {
  expect_overflow([] { global_catavgmax_pool1d_shape({std::int64_t{1} << 59, 1}, {}); },
                  {"[global_catavgmax_pool1d]", "size in bytes of y [1152921504606846976, 1]"});
}

}  // namespace
}  // namespace cenote
