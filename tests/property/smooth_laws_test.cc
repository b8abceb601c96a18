// Laws of the ops whose gradient reads x: how y follows scaled and shifted input, Euler's identity of the
// homogeneous ones, and between which bounds y lies.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <numeric>

#include "property/draw_case.h"

namespace cenote_test {
namespace {

const std::vector<std::string> kAll = {"lp_pool", "lse_pool", "soft_pool", "gem_pool", "std_pool", "avgmax"};

// y of one window errs by less than n + 100 roundings of f64 times the largest element, n <= 70 * 20, which
// is 2e-13, but for Lp with p = 0.5: (sum |x|^0.5)^2 is up to n^2 = 2e6 times as large as the largest.
double tolerance(const std::vector<double>& y) {
  double largest = 10;  // of x
  for (const double value : y)
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  return 1e-12 * largest;
}

/// |a - b| <= tolerance, or both infinite.
void expect_alike(const std::vector<double>& a, const std::vector<double>& b) {
  RC_ASSERT(a.size() == b.size());
  const double allowed = tolerance(b);
  for (std::size_t i = 0; i < a.size(); ++i) RC_ASSERT(a[i] == b[i] || std::abs(a[i] - b[i]) <= allowed);
}

std::vector<double> gradient(const Case& one, const std::vector<double>& x, const std::vector<double>& g) {
  const int rank = one.op->spatial_rank;
  const GuardedTensor values(one.dtype, one.sizes, one.layout, rank, one.seed);
  assign(values, x);
  const GuardedTensor grad_y(one.dtype, one.op->shape(one.sizes, one.arguments), one.layout, rank,
                             one.seed + 2);
  assign(grad_y, g);
  const GuardedTensor grad_x(one.dtype, one.sizes, one.layout, rank, one.seed + 3);
  const cenote::ConstTensorView kept = values;
  one.op->backward(grad_x, grad_y, &kept, one.arguments);
  return values_of(grad_x);
}

/// The same window of another op.
std::vector<double> pool_with(const Case& one, const std::string& op, const std::vector<double>& x) {
  Case other = one;
  other.op = cenote::find_op(op + std::to_string(one.op->spatial_rank) + "d");
  other.arguments.count_include_pad = false;
  return pool(other, x);
}

std::string prefix_of(const Case& one) { return one.op->family == "global" ? "global_" : ""; }

RC_GTEST_PROP(SmoothLaws, ScaledInputScalesY, ()) {
  const Case one = draw_smooth_case({"lp_pool", "gem_pool", "std_pool", "avgmax"});
  const TargetGuard target(draw_target());
  const bool gem = (one.op->parameters & cenote::kTakesGem) != 0;
  std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  if (gem)  // above eps
    for (double& value : x) value = 0.5 + std::abs(value);
  const double factor = *rc::gen::element<double>(0.5, 3, 1e100, 1e-100);
  RC_PRE(!gem || factor > 0.25);
  std::vector<double> scaled = x;
  for (double& value : scaled) value *= factor;
  std::vector<double> back = pool(one, scaled);
  for (double& value : back) value /= factor;
  expect_alike(back, pool(one, x));
}

// Of degree 1: sum x_i dy/dx_i = y, with a gradient of ones and summed over all windows.
RC_GTEST_PROP(SmoothLaws, EulersIdentity, ()) {
  const Case one = draw_smooth_case({"lp_pool", "gem_pool", "std_pool", "avgmax"});
  const TargetGuard target(draw_target());
  std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  if (one.op->parameters & cenote::kTakesGem)
    for (double& value : x) value = 0.5 + std::abs(value);
  const std::vector<double> y = pool(one, x);
  const std::vector<double> grad_x = gradient(one, x, std::vector<double>(y.size(), 1.0));
  double magnitude = 1;
  for (std::size_t i = 0; i < x.size(); ++i) magnitude += std::abs(x[i] * grad_x[i]);
  const double left = std::inner_product(x.begin(), x.end(), grad_x.begin(), 0.0);
  const double right = std::accumulate(y.begin(), y.end(), 0.0);
  // 84000 products at most, each of a slope with some (n + 100) roundings.
  RC_ASSERT(std::abs(left - right) <= 1e-10 * magnitude);
}

RC_GTEST_PROP(SmoothLaws, ShiftedInputShiftsY, ()) {
  const Case one = draw_smooth_case({"lse_pool", "soft_pool"});
  const TargetGuard target(draw_target());
  const auto shift = static_cast<double>(draw(-5, 5));
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  std::vector<double> shifted = x;
  for (double& value : shifted) value += shift;
  std::vector<double> expected = pool(one, x);
  // Windows without an element stay what they are.
  const std::vector<double> counts =
      pool_with(one, prefix_of(one) + "avg_pool", std::vector<double>(x.size(), 1.0));
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += counts[i] == 0 ? 0 : shift;
  expect_alike(pool(one, shifted), expected);
}

RC_GTEST_PROP(SmoothLaws, DeviationIgnoresShifts, ()) {
  const Case one = draw_smooth_case({"std_pool"});
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  std::vector<double> shifted = x;
  for (double& value : shifted) value += 7;
  expect_alike(pool(one, shifted), pool(one, x));
}

RC_GTEST_PROP(SmoothLaws, LogSumExpLiesBetweenMeanAndMaximumAndGrows, ()) {
  Case one = draw_smooth_case({"lse_pool"});
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  const std::vector<double> mean = pool_with(one, prefix_of(one) + "avg_pool", x);
  const std::vector<double> maximum = pool_with(one, prefix_of(one) + "max_pool", x);
  const std::vector<double> y = pool(one, x);
  one.arguments.sharpness = one.arguments.sharpness.value_or(10) * 2;
  const std::vector<double> sharper = pool(one, x);
  for (std::size_t i = 0; i < y.size(); ++i) {
    RC_ASSERT(y[i] <= maximum[i] + 1e-11);
    RC_ASSERT(std::isinf(maximum[i]) || y[i] >= mean[i] - 1e-11);
    RC_ASSERT(std::isinf(maximum[i]) || sharper[i] >= y[i] - 1e-11);
  }
}

RC_GTEST_PROP(SmoothLaws, SoftPoolLiesWithinItsWindow, ()) {
  const Case one = draw_smooth_case({"soft_pool"});
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  const std::vector<double> least = pool_with(one, "min_pool", x);
  const std::vector<double> mean = pool_with(one, "avg_pool", x);
  const std::vector<double> most = pool_with(one, "max_pool", x);
  const std::vector<double> y = pool(one, x);
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (std::isinf(most[i])) {
      RC_ASSERT(y[i] == 0.0);
    } else {
      RC_ASSERT(y[i] >= least[i] - 1e-11 && y[i] >= mean[i] - 1e-11 && y[i] <= most[i] + 1e-11);
    }
  }
}

RC_GTEST_PROP(SmoothLaws, NormsFallWithThePower, ()) {
  Case one = draw_smooth_case({"lp_pool"});
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  one.arguments.norm_type = *rc::gen::element<double>(0.5, 1, 2, 3, 17);
  const std::vector<double> wide = pool(one, x);
  one.arguments.norm_type = *rc::gen::element<double>(18, std::numeric_limits<double>::infinity());
  const std::vector<double> narrow = pool(one, x);
  const double allowed = tolerance(wide);
  for (std::size_t i = 0; i < wide.size(); ++i) RC_ASSERT(narrow[i] <= wide[i] + allowed);
}

// For lse and soft the slopes of one window add up to 1, as those of a mean do.
RC_GTEST_PROP(SmoothLaws, SlopesOfWeightsAddUpToOne, ()) {
  const Case one = draw_smooth_case({"global_lse_pool", "lse_pool", "soft_pool"});
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  const std::vector<double> y = pool(one, x);
  const std::vector<double> grad_x = gradient(one, x, std::vector<double>(y.size(), 1.0));
  const std::vector<double> counts =
      pool_with(one, prefix_of(one) + "avg_pool", std::vector<double>(x.size(), 1.0));
  const double windows = std::accumulate(counts.begin(), counts.end(), 0.0);
  RC_ASSERT(std::abs(std::accumulate(grad_x.begin(), grad_x.end(), 0.0) - windows) <= 1e-10 * (1 + windows));
}

RC_GTEST_PROP(SmoothLaws, PlanesAreIndependent, ()) {
  Case one = draw_smooth_case(kAll);
  RC_PRE(one.op->name.find("catavgmax") == std::string_view::npos);  // its planes of y are twice as many
  if (one.op->parameters & cenote::kTakesGem) one.arguments.p.resize(1);
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  const std::vector<std::size_t> order = draw_plane_order(one.sizes);
  expect_alike(pool(one, permute_planes(x, order)), permute_planes(pool(one, x), order));
}

RC_GTEST_PROP(SmoothLaws, AdaptiveToOneIsGlobal, ()) {
  Case adaptive = draw_smooth_case({"adaptive_lp_pool"});
  const TargetGuard target(draw_target());
  adaptive.arguments.output_size = 1;
  const std::vector<double> x = random_values(Fill::kNormal, adaptive.sizes);
  expect_alike(pool(adaptive, x), pool_with(adaptive, "global_lp_pool", x));
}

}  // namespace
}  // namespace cenote_test
