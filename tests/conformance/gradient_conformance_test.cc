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

/// sum(grad_y * pool(x))
double loss(const Case& one, const std::vector<double>& x, const std::vector<double>& grad_y) {
  const GuardedTensor input(cenote::DType::f64, one.sizes, x);
  const cenote::Tensor y(cenote::DType::f64, one.op->shape(one.sizes, one.arguments));
  const std::optional<GuardedTensor> indices = read_indices(one);
  one.op->forward(y, indices ? &indices->view() : nullptr, input, one.arguments);
  const std::vector<double> values = values_of(y);
  // A window without a real element is constant (-inf for a maximum).
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) sum += values[i] * grad_y[i];
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

/// The derivative of the loss along x[i]: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h.
double fourth_order_difference(const Case& one, std::vector<double> x, std::size_t i,
                               const std::vector<double>& grad_y) {
  const double kept = x[i];
  const auto at = [&](double step) {
    x[i] = kept + step;
    return loss(one, x, grad_y);
  };
  constexpr double kSmoothStep = 0x1p-12;  // twice this is less than half of the least distance
  const double near = at(kSmoothStep) - at(-kSmoothStep);
  const double far = at(2 * kSmoothStep) - at(-2 * kSmoothStep);
  return (8 * near - far) / (12 * kSmoothStep);
}

/// The stencil errs by h^4 / 30 times the fifth derivative. That of one window is largest for powers of 17,
/// some 17^4 / |x|^4 <= 1.4e6 times the slope, and for exponentials of 20 x, some 24 * 20^4 = 4e6: 5e-10 of
/// slopes below 10. Losses below 1e4 lose 1e-12 to rounding, over the step 1e-8.
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
  std::vector<double> x = distinct_values(element_count(one.sizes), one.seed);
  const std::vector<double> got = gradient(one, x, grad_y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i];
    x[i] = kept + kStep;
    const double above = loss(one, x, grad_y);
    x[i] = kept - kStep;
    const double below = loss(one, x, grad_y);
    x[i] = kept;
    // The losses are sums of some hundred products of numbers below 400: they err by less than 1e-9.
    ASSERT_NEAR(got[i], (above - below) / (2 * kStep), 1e-8) << describe(one) << ", element " << i;
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
