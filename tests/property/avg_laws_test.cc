// Laws of the averages: linear, adjoint to their backward, equal to one another where their windows are.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <numeric>

#include "cenote/global.h"
#include "cenote/window.h"
#include "property/draw_case.h"

namespace cenote_test {
namespace {

// Elements are standard normal numbers (below 10 in magnitude) and windows hold at most 70 * 20 of them,
// divided by 1 or more: sums below 2e4, whose f64 rounding errors stay below 2e4 * 1400 * 1.2e-16 = 3e-9
// in the worst order, and far below in practice.
constexpr double kTolerance = 1e-9;

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

RC_GTEST_PROP(AvgLaws, BackwardIsTheAdjoint, ()) {
  const Case one = draw_case(false);
  const TargetGuard target(draw_target());
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  const std::vector<double> g = random_values(Fill::kNormal, y_sizes);
  const std::vector<double> y = pool(one, x);
  const GuardedTensor grad_y(one.dtype, y_sizes, one.layout, one.op->spatial_rank, one.seed + 2);
  assign(grad_y, g);
  const GuardedTensor grad_x(one.dtype, one.sizes, one.layout, one.op->spatial_rank, one.seed + 3);
  one.op->backward(grad_x, grad_y, nullptr, one.arguments);
  double magnitude = 1;
  for (std::size_t i = 0; i < y.size(); ++i) magnitude += std::abs(y[i] * g[i]);
  RC_ASSERT(std::abs(dot(y, g) - dot(x, values_of(grad_x))) <= 1e-11 * magnitude);
}

RC_GTEST_PROP(AvgLaws, Linear, ()) {
  const Case one = draw_case(false);
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  const std::vector<double> z = random_values(Fill::kNormal, one.sizes);
  const auto a = static_cast<double>(draw(-3, 3));
  std::vector<double> mixed(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) mixed[i] = a * x[i] + z[i];
  const std::vector<double> pooled_x = pool(one, x);
  std::vector<double> expected = pool(one, z);
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += a * pooled_x[i];
  RC_ASSERT(close(pool(one, mixed), expected, 4 * kTolerance));
}

RC_GTEST_PROP(AvgLaws, PlanesAreIndependent, ()) {
  const Case one = draw_case(false);
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  const std::vector<std::size_t> order = draw_plane_order(one.sizes);
  RC_ASSERT(close(pool(one, permute_planes(x, order)), permute_planes(pool(one, x), order), kTolerance));
}

RC_GTEST_PROP(AvgLaws, OfConstantsIsTheConstant, ()) {
  Case one = draw_case(false);
  RC_PRE(!one.op->name.starts_with("sum_"));
  const TargetGuard target(draw_target());
  one.arguments.divisor_override.reset();
  one.arguments.count_include_pad = false;
  const std::vector<double> y =
      pool(one, std::vector<double>(static_cast<std::size_t>(element_count(one.sizes)), 3.25));
  for (const double value : y) {
    // A window of padding alone gives 0.
    RC_ASSERT(std::abs(value - 3.25) <= kTolerance || value == 0);
  }
}

RC_GTEST_PROP(AvgLaws, AdaptiveOfDivisibleSizesIsAWindow, ()) {
  Case adaptive = draw_case(false);
  RC_PRE(adaptive.op->family == "adaptive");
  const TargetGuard target(draw_target());
  const int rank = adaptive.op->spatial_rank;
  Case window = adaptive;
  window.op = cenote::find_op("avg_pool" + std::to_string(rank) + "d");
  window.arguments = {};
  window.arguments.kernel = draw_axes(rank, [](int) { return draw(1, 4); });
  for (int axis = 0; axis < rank; ++axis) {
    adaptive.sizes[2 + axis] = adaptive.arguments.output_size[axis] * window.arguments.kernel[axis];
  }
  window.sizes = adaptive.sizes;
  const std::vector<double> x = random_values(Fill::kNormal, adaptive.sizes);
  RC_ASSERT(close(pool(adaptive, x), pool(window, x), kTolerance));
}

RC_GTEST_PROP(AvgLaws, AdaptiveToOneIsGlobal, ()) {
  Case adaptive = draw_case(false);
  RC_PRE(adaptive.op->family == "adaptive");
  const TargetGuard target(draw_target());
  adaptive.arguments.output_size = 1;
  Case global = adaptive;
  global.op = cenote::find_op("global_avg_pool" + std::to_string(adaptive.op->spatial_rank) + "d");
  const std::vector<double> x = random_values(Fill::kNormal, adaptive.sizes);
  RC_ASSERT(close(pool(adaptive, x), pool(global, x), kTolerance));
}

}  // namespace
}  // namespace cenote_test
