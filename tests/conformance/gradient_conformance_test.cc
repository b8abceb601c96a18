// Gradients against finite differences of the forward pass, in f64, on every CPU target. Most pooling is
// piecewise linear, so central differences are exact but for rounding as long as no maximum changes. The ops
// whose gradient reads x are smooth between their kinks and get differences of fourth order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <random>

#include "cenote/runtime.h"
#include "conformance/replay.h"

namespace cenote_test {
namespace {

constexpr int kCasesPerOp = 8;
constexpr std::int64_t kMaxElements = 400;
constexpr double kStep = 0.125;  // neighbouring values of x differ by 1

/// 0, 1, 2, ... in random order: no ties, and none within the step.
std::vector<double> distinct_values(std::int64_t count, std::uint64_t seed) {
  std::vector<double> values = iota(count);
  std::shuffle(values.begin(), values.end(), std::mt19937_64(seed));
  return values;
}

/// Different magnitudes between 0.5 and 1, 1/800 or more apart, of either sign: far from the kinks at equal
/// magnitudes, at 0 and, with eps up to 0.25, of GeM.
std::vector<double> smooth_values(std::int64_t count, std::uint64_t seed) {
  std::vector<double> values = distinct_values(count, seed);
  std::mt19937_64 random(seed + 1);
  for (double& value : values) {
    const double magnitude = 0.5 + value / static_cast<double>(2 * kMaxElements);
    value = random() % 2 == 0 ? magnitude : -magnitude;
  }
  return values;
}

/// Indices of a case for an op that reads them. Duplicates would not do: an element whose value was replaced
/// has no influence on y, but by PyTorch's rule it gets the gradient.
std::optional<GuardedTensor> read_indices(const Case& one) {
  if (!one.op->reads_indices) return std::nullopt;
  return make_distinct_indices(one, LayoutKind::kChannelsFirst);
}

std::vector<double> pooled(const Case& one, const std::vector<double>& x) {
  const GuardedTensor input(cenote::DType::f64, one.sizes, x);
  const cenote::Tensor y(cenote::DType::f64, one.op->shape(one.sizes, one.arguments));
  const std::optional<GuardedTensor> indices = read_indices(one);
  one.op->forward(y, indices ? &indices->view() : nullptr, input, one.arguments);
  return values_of(y);
}

/// sum(grad_y * pool(x)) with x[i] + step, less that with x[i] - step. Outputs that do not change, such as
/// the -inf of a window without an element, add nothing, hence do not round either.
double change(const Case& one, std::vector<double> x, std::size_t i, double step,
              const std::vector<double>& grad_y) {
  const double kept = x[i];
  x[i] = kept + step;
  const std::vector<double> above = pooled(one, x);
  x[i] = kept - step;
  const std::vector<double> below = pooled(one, x);
  double sum = 0;
  for (std::size_t out = 0; out < above.size(); ++out) {
    if (above[out] != below[out]) sum += (above[out] - below[out]) * grad_y[out];
  }
  return sum;
}

std::vector<double> gradient(const Case& one, const std::vector<double>& x,
                             const std::vector<double>& grad_y) {
  const cenote::Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  const GuardedTensor input(cenote::DType::f64, one.sizes, x);
  const GuardedTensor output_gradient(cenote::DType::f64, y_sizes, grad_y);
  const cenote::Tensor grad_x(cenote::DType::f64, one.sizes);
  if (!one.op->records_indices) {
    const std::optional<GuardedTensor> indices = read_indices(one);
    const cenote::ConstTensorView record = indices ? *indices : cenote::ConstTensorView(input);
    one.op->backward(grad_x, output_gradient, &record, one.arguments);
    return values_of(grad_x);
  }
  const cenote::Tensor y(cenote::DType::f64, y_sizes);
  const cenote::Tensor taps(one.op->tap_dtype(one.sizes, one.arguments), y_sizes);
  one.op->forward(y, &taps.view(), input, one.arguments);
  const cenote::ConstTensorView record = taps;
  one.op->backward(grad_x, output_gradient, &record, one.arguments);
  return values_of(grad_x);
}

/// An unpooling without duplicates needs room for every element.
bool usable(const Case& one) {
  const std::int64_t count = element_count(one.sizes);
  if (count == 0 || count > kMaxElements) return false;
  return !one.op->reads_indices || count <= element_count(one.op->shape(one.sizes, one.arguments));
}

/// Twice this is less than half of the least distance of two magnitudes.
constexpr double kSmoothStep = 0x1p-12;

/// A step for the standard deviation y of the plane of x[i]. As a function of u, the distance of x[i] from
/// the mean of the n - 1 others, y = sqrt(k (c^2 + u^2)) with k = (n - 1) / n^2: its singularities +-ic are
/// r = y / sqrt(k) away. On a circle of that radius it is at most 2 y, so by Cauchy its fifth derivative is
/// at most 240 y / r^5. The step is below r / 1024: fourth-order differences err by h^4 / 30 of that, 8
/// sqrt(k) / 2^40 < 4e-12, and the roundings of y by some 2^-53 y / h, which is as small.
double deviation_step(const Case& one, const std::vector<double>& x, std::size_t i) {
  std::size_t n = 1;
  for (int axis = one.sizes.size() - one.op->spatial_rank; axis < one.sizes.size(); ++axis)
    n *= static_cast<std::size_t>(one.sizes[axis]);
  if (n == 1) return kSmoothStep;  // y is 0
  const double count = static_cast<double>(n);
  const auto plane = x.begin() + static_cast<std::ptrdiff_t>(i / n * n);
  const double mean = std::accumulate(plane, plane + static_cast<std::ptrdiff_t>(n), 0.0) / count;
  double variance = 0;
  for (std::size_t j = 0; j < n; ++j) {
    const double distance = plane[static_cast<std::ptrdiff_t>(j)] - mean;
    variance += distance * distance / count;
  }
  const double radius = std::sqrt(variance / (count - 1)) * count;
  return std::min(kSmoothStep, std::exp2(std::floor(std::log2(radius / 1024))));
}

/// The derivative of the loss along x[i]: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h.
double fourth_order_difference(const Case& one, const std::vector<double>& x, std::size_t i,
                               const std::vector<double>& grad_y) {
  const bool deviation = one.op->name.find("std_pool") != std::string_view::npos;
  const double step = deviation ? deviation_step(one, x, i) : kSmoothStep;
  return (8 * change(one, x, i, step, grad_y) - change(one, x, i, 2 * step, grad_y)) / (12 * step);
}

/// The stencil errs by h^4 / 30 times the fifth derivative. That of one window is largest for powers of 17,
/// some 17^4 / |x|^4 <= 1.4e6 times the slope, and for exponentials of 20 x, some 24 * 20^4 = 4e6: 5e-10 of
/// slopes below 10; that of the deviation has a step of its own. Losses below 1e4 lose 1e-12 to rounding,
/// over the step 1e-8.
void check_smooth_gradient(const Case& one) {
  const std::int64_t outputs = element_count(one.op->shape(one.sizes, one.arguments));
  const std::vector<double> grad_y = make_values(Fill::kNormal, outputs, one.seed + 1);
  const std::vector<double> x = smooth_values(element_count(one.sizes), one.seed);
  const std::vector<double> got = gradient(one, x, grad_y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_NEAR(got[i], fourth_order_difference(one, x, i, grad_y), 2e-8 * (1 + std::abs(got[i])))
        << describe(one) << ", element " << i;
  }
}

void check_gradient(const Case& one) {
  if (one.op->gradient_reads_x) return check_smooth_gradient(one);
  const std::int64_t outputs = element_count(one.op->shape(one.sizes, one.arguments));
  const std::vector<double> grad_y = make_values(Fill::kNormal, outputs, one.seed + 1);
  const std::vector<double> x = distinct_values(element_count(one.sizes), one.seed);
  const std::vector<double> got = gradient(one, x, grad_y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    // The losses are sums of some hundred products of numbers below 400: they err by less than 1e-9.
    ASSERT_NEAR(got[i], change(one, x, i, kStep, grad_y) / (2 * kStep), 1e-8)
        << describe(one) << ", element " << i;
  }
}

TEST(Gradient, EqualsFiniteDifferences) {
  for (const cenote::OpInfo& op : cenote::ops()) {
    int checked = 0;
    for (const Case& one : generate_cases(8500, 77)) {
      if (one.op != &op || !usable(one) || checked == kCasesPerOp) continue;
      for (const std::string& target : cenote::cpu_targets()) {
        SCOPED_TRACE(target);
        const TargetGuard guard(target);
        ASSERT_NO_FATAL_FAILURE(check_gradient(one));
      }
      ++checked;
    }
    EXPECT_EQ(checked, kCasesPerOp) << op.name;
  }
}

}  // namespace
}  // namespace cenote_test
