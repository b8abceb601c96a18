// Laws of the maxima, all exact: they pick an element, keep order, commute with shifts, compose, and
// their backward loses and invents no gradient.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <numeric>

#include "property/draw_case.h"

namespace cenote_test {
namespace {

struct Picked {
  std::vector<double> y;
  std::vector<std::int64_t> indices;
};

Picked pool_with_indices(const Case& one, const std::vector<double>& values) {
  const GuardedTensor x(one.dtype, one.sizes, one.layout, one.op->spatial_rank, one.seed);
  assign(x, values);
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const GuardedTensor y(one.dtype, y_sizes, one.layout, one.op->spatial_rank, one.seed + 1);
  const GuardedTensor indices(cenote::DType::i64, y_sizes, one.layout, one.op->spatial_rank, one.seed + 2);
  one.op->forward(y, &indices.view(), x, one.arguments);
  return {values_of(y), integers_of(indices)};
}

RC_GTEST_PROP(MaxLaws, PicksTheElementThatTheIndexNames, ()) {
  const Case one = draw_case(true);
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  const Picked picked = pool_with_indices(one, x);
  const std::size_t planes = static_cast<std::size_t>(one.sizes[0] * one.sizes[1]);
  const std::size_t outputs = picked.y.size() / planes;
  const std::size_t inputs = x.size() / planes;
  for (std::size_t i = 0; i < picked.y.size(); ++i) {
    if (picked.indices[i] == -1) {
      RC_ASSERT(std::isinf(picked.y[i]));
      continue;
    }
    RC_ASSERT(picked.indices[i] >= 0 && picked.indices[i] < static_cast<std::int64_t>(inputs));
    RC_ASSERT(picked.y[i] == x[i / outputs * inputs + static_cast<std::size_t>(picked.indices[i])]);
  }
}

RC_GTEST_PROP(MaxLaws, KeepsOrder, ()) {
  const Case one = draw_case(true);
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kNormal, one.sizes);
  std::vector<double> larger = random_values(Fill::kNormal, one.sizes);
  for (std::size_t i = 0; i < x.size(); ++i) larger[i] = x[i] + std::abs(larger[i]);
  const std::vector<double> y = pool(one, x);
  const std::vector<double> larger_y = pool(one, larger);
  for (std::size_t i = 0; i < y.size(); ++i) RC_ASSERT(y[i] <= larger_y[i]);
}

RC_GTEST_PROP(MaxLaws, CommutesWithShiftsAndScales, ()) {
  const Case one = draw_case(true);
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  const auto shift = static_cast<double>(draw(-1000, 1000));
  const auto scale = static_cast<double>(draw(1, 8));
  std::vector<double> moved(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) moved[i] = scale * x[i] + shift;
  const Picked before = pool_with_indices(one, x);
  const Picked after = pool_with_indices(one, moved);
  RC_ASSERT(after.indices == before.indices);
  for (std::size_t i = 0; i < before.y.size(); ++i) RC_ASSERT(after.y[i] == scale * before.y[i] + shift);
}

RC_GTEST_PROP(MaxLaws, WindowsCompose, ()) {
  const int rank = static_cast<int>(draw(1, 3));
  Case first;
  first.op = cenote::find_op("max_pool" + std::to_string(rank) + "d");
  first.dtype = cenote::DType::f64;
  first.layout =
      *rc::gen::elementOf(std::vector<LayoutKind>(std::begin(kLayoutKinds), std::end(kLayoutKinds)));
  first.arguments.stride = 1;
  Case second = first;
  Case both = first;
  first.arguments.kernel = draw_axes(rank, [](int) { return draw(1, 4); });
  second.arguments.kernel = draw_axes(rank, [](int) { return draw(1, 4); });
  first.sizes = draw_sizes(rank);
  both.arguments.kernel = first.arguments.kernel;
  for (int axis = 0; axis < rank; ++axis) {
    both.arguments.kernel[axis] += second.arguments.kernel[axis] - 1;
    first.sizes[2 + axis] += both.arguments.kernel[axis];
  }
  both.sizes = first.sizes;
  second.sizes = first.op->shape(first.sizes, first.arguments);
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kWithNegativeInfinity, first.sizes);
  RC_ASSERT(pool(second, pool(first, x)) == pool(both, x));
}

RC_GTEST_PROP(MaxLaws, PlanesAreIndependent, ()) {
  const Case one = draw_case(true);
  RC_PRE((one.op->parameters & cenote::kTakesSamples) == 0);  // planes have windows of their own
  const TargetGuard target(draw_target());
  const std::vector<double> x = random_values(Fill::kSmallIntegers, one.sizes);
  const std::vector<std::size_t> order = draw_plane_order(one.sizes);
  RC_ASSERT(pool(one, permute_planes(x, order)) == permute_planes(pool(one, x), order));
}

RC_GTEST_PROP(MaxLaws, AdaptiveOfDivisibleSizesIsAWindow, ()) {
  Case adaptive = draw_case(true);
  RC_PRE(adaptive.op->family == "adaptive");
  const TargetGuard target(draw_target());
  const int rank = adaptive.op->spatial_rank;
  Case window = adaptive;
  window.op = cenote::find_op("max_pool" + std::to_string(rank) + "d");
  window.arguments = {};
  window.arguments.kernel = draw_axes(rank, [](int) { return draw(1, 4); });
  for (int axis = 0; axis < rank; ++axis) {
    adaptive.sizes[2 + axis] = adaptive.arguments.output_size[axis] * window.arguments.kernel[axis];
  }
  window.sizes = adaptive.sizes;
  const std::vector<double> x = random_values(Fill::kSmallIntegers, adaptive.sizes);
  const Picked expected = pool_with_indices(window, x);
  const Picked got = pool_with_indices(adaptive, x);
  RC_ASSERT(got.y == expected.y);
  RC_ASSERT(got.indices == expected.indices);
}

RC_GTEST_PROP(MaxLaws, AdaptiveToOneIsGlobal, ()) {
  Case adaptive = draw_case(true);
  RC_PRE(adaptive.op->family == "adaptive");
  const TargetGuard target(draw_target());
  adaptive.arguments.output_size = 1;
  Case global = adaptive;
  global.op = cenote::find_op("global_max_pool" + std::to_string(adaptive.op->spatial_rank) + "d");
  const std::vector<double> x = random_values(Fill::kSmallIntegers, adaptive.sizes);
  const Picked expected = pool_with_indices(global, x);
  const Picked got = pool_with_indices(adaptive, x);
  RC_ASSERT(got.y == expected.y);
  RC_ASSERT(got.indices == expected.indices);
}

RC_GTEST_PROP(MaxLaws, BackwardKeepsTheSumOfGradients, ()) {
  Case one = draw_case(true);
  one.fill = Fill::kSmallIntegers;
  const TargetGuard target(draw_target());
  const Outcome outcome = replay(one);
  // The gradients are multiples of 1/8, so their sums are exact.
  const std::vector<double> gradient = values_of(make_exact_output_gradient(one));
  double expected = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) expected += outcome.indices[i] == -1 ? 0 : gradient[i];
  RC_ASSERT(std::accumulate(outcome.grad_x.begin(), outcome.grad_x.end(), 0.0) == expected);
  RC_ASSERT(outcome.grad_x_from_taps == outcome.grad_x);
}

}  // namespace
}  // namespace cenote_test
