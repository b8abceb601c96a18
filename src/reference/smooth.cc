// Pooling whose gradient depends on the elements, as its formulas are written: the elements of each window
// in double, one after another.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend.h"
#include "reference/window_loops.h"
#include "reference/windows.h"

namespace cenote::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The elements of one window and where they lie in the plane.
struct Elements {
  std::vector<double> values;
  std::vector<std::size_t> positions;
};

/// What the formulas give for one window: y, and dy/dx of each element.
struct Pooled {
  double y = 0;
  std::vector<double> slopes;
};

/// The largest value; NaN where there is one; -inf of none.
double largest_of(const std::vector<double>& values) {
  double largest = -kInfinity;
  for (const double value : values)
    if (value > largest || std::isnan(value)) largest = value;
  for (const double value : values)
    if (std::isnan(value)) largest = value;
  return largest;
}

double sign_of(double value) { return value == 0 ? 0 : std::copysign(1.0, value); }

/// The first largest magnitude takes the gradient.
Pooled max_magnitude(const std::vector<double>& x) {
  Pooled pooled;
  pooled.slopes.assign(x.size(), 0.0);
  std::vector<double> magnitudes;
  magnitudes.reserve(x.size());
  for (const double value : x) magnitudes.push_back(std::abs(value));
  if (x.empty()) return pooled;
  pooled.y = largest_of(magnitudes);
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (magnitudes[i] != pooled.y && !(std::isnan(pooled.y) && std::isnan(x[i]))) continue;
    pooled.slopes[i] = sign_of(x[i]);
    break;
  }
  return pooled;
}

/// q^(p - 1); 0 at q = 0 unless p is 1.
double power_slope(double q, double p) { return q == 0 && p != 1 ? 0 : std::pow(q, p - 1); }

/// (sum |x|^p)^(1/p), scaled by the largest magnitude; dy/dx = sign(x) (|x| / y)^(p - 1), 0 at x = 0.
Pooled lp(const std::vector<double>& x, double p) {
  if (p == kInfinity) return max_magnitude(x);
  Pooled pooled;
  double largest = max_magnitude(x).y;
  if (std::isfinite(largest) && largest > 0) {
    double sum = 0;
    for (const double value : x) sum += std::pow(std::abs(value) / largest, p);
    largest *= std::pow(sum, 1 / p);
  }
  pooled.y = largest;
  for (const double value : x) {
    const double magnitude = power_slope(std::abs(value) / pooled.y, p);
    pooled.slopes.push_back(value == 0 ? 0 : std::copysign(magnitude, value));
  }
  return pooled;
}

/// exp(t (x - largest)) of each element and their sum. Infinite largest values leave no shift.
struct Weights {
  explicit Weights(const std::vector<double>& x, double t) : largest(largest_of(x)) {
    const double shift = std::isfinite(largest) ? largest : 0;
    for (const double value : x) {
      each.push_back(std::exp(t * (value - shift)));
      sum += each.back();
    }
  }
  /// NaN where a weight is that of inf or NaN; 0 where all are 0.
  double share(std::size_t i) const {
    if (!(largest < kInfinity)) return std::numeric_limits<double>::quiet_NaN();
    return sum == 0 ? 0 : each[i] / sum;
  }

  double largest;
  double sum = 0;
  std::vector<double> each;
};

/// (1 / r) log mean exp(r t) of t <= 0, the largest of them 0. Where the mean is near 1, its distance from 1
/// is summed instead, over r: where r is near 0, t itself.
double log_mean_exp(const std::vector<double>& t, double r) {
  constexpr double kLinear = 0x1p-60;  // exp(z) - 1 and log(1 + z) are z up to here
  double sum = 0;
  double distance = 0;
  for (const double value : t) {
    const double z = r * value;
    sum += std::exp(z);
    distance += std::abs(z) < kLinear ? value : std::expm1(z) / r;
  }
  const auto count = static_cast<double>(t.size());
  distance /= count;
  if (sum <= count / 2 || !std::isfinite(distance)) return std::log(sum / count) / r;
  const double z = r * distance;
  return std::abs(z) < kLinear ? distance : std::log1p(z) / r;
}

/// (1 / r) log mean exp(r x); dy/dx = softmax(r x)
Pooled log_sum_exp(const std::vector<double>& x, double r) {
  const Weights weights(x, r);
  Pooled pooled;
  pooled.y = weights.largest;
  if (std::isfinite(pooled.y)) {
    std::vector<double> distances;
    distances.reserve(x.size());
    for (const double value : x) distances.push_back(value - pooled.y);
    pooled.y += log_mean_exp(distances, r);
  }
  for (std::size_t i = 0; i < x.size(); ++i) pooled.slopes.push_back(weights.share(i));
  return pooled;
}

/// sum w x, w = softmax(t x); dy/dx = w (1 + t (x - y)). An element without weight adds nothing, -inf too.
Pooled soft(const std::vector<double>& x, double t) {
  const Weights weights(x, t);
  Pooled pooled;
  if (x.empty()) return pooled;
  pooled.y = weights.largest;
  if (std::isfinite(pooled.y)) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
      if (weights.each[i] > 0) sum += weights.each[i] * (x[i] - weights.largest);
    pooled.y += sum / weights.sum;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double share = weights.share(i);
    pooled.slopes.push_back(share == 0 ? 0 : share * (1 + t * (x[i] - pooled.y)));
  }
  return pooled;
}

/// (mean c^p)^(1/p), c = max(x, floor); dy/dx = (c / y)^(p - 1) / n for x > floor.
Pooled gem(const std::vector<double>& x, double p, double floor) {
  std::vector<double> clamped;
  clamped.reserve(x.size());
  for (const double value : x) clamped.push_back(value < floor ? floor : value);
  const double largest = largest_of(clamped);
  const auto count = static_cast<double>(x.size());
  Pooled pooled;
  pooled.y = largest;
  if (std::isfinite(largest)) {
    std::vector<double> logarithms;
    logarithms.reserve(x.size());
    for (const double value : clamped) logarithms.push_back(std::log(value / largest));
    pooled.y = largest * std::exp(log_mean_exp(logarithms, p));
  }
  for (std::size_t i = 0; i < x.size(); ++i)
    pooled.slopes.push_back(x[i] <= floor ? 0 : power_slope(clamped[i] / pooled.y, p) / count);
  return pooled;
}

/// dy/dp = (y / p) (sum c^p log c / sum c^p - log y)
Pooled gem_parameter(const std::vector<double>& x, double p, double floor) {
  const double y = gem(x, p, floor).y;
  double sum = 0;
  double logarithms = 0;
  for (const double value : x) {
    const double clamped = value < floor ? floor : value;
    const double term = std::pow(clamped / y, p);
    sum += term;
    logarithms += term * std::log(clamped / y);
  }
  return {y / p * (logarithms / sum), {}};
}

/// sqrt(mean (x - mean)^2); dy/dx = (x - mean) / (n y), 0 at y = 0. The mean is found from the first element
/// on, so that of equal elements nothing is left, and the squares are scaled by the largest.
Pooled standard_deviation(const std::vector<double>& x) {
  const auto count = static_cast<double>(x.size());
  double mean = x.empty() ? 0 : x[0];
  for (const double value : x) mean += (value - x[0]) / count;
  double largest = 0;
  for (const double value : x) largest = std::max(largest, std::abs(value - mean));
  const double scale = std::isfinite(largest) && largest > 0 ? largest : 1;
  double variance = 0;
  for (const double value : x) variance += (value - mean) / scale * ((value - mean) / scale) / count;
  Pooled pooled;
  pooled.y = scale * std::sqrt(variance);
  for (const double value : x) pooled.slopes.push_back(pooled.y == 0 ? 0 : (value - mean) / pooled.y / count);
  return pooled;
}

/// (mean + maximum) / 2; the first maximum takes half of the gradient beside its share of the mean.
Pooled mean_and_maximum(const std::vector<double>& x) {
  const auto count = static_cast<double>(x.size());
  const double largest = largest_of(x);
  double sum = 0;
  for (const double value : x) sum += value;
  Pooled pooled{(sum / count + largest) / 2, std::vector<double>(x.size(), 0.5 / count)};
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] != largest && !(std::isnan(largest) && std::isnan(x[i]))) continue;
    pooled.slopes[i] += 0.5;
    break;
  }
  return pooled;
}

Pooled pool(const SmoothRule& rule, std::int64_t channel, const std::vector<double>& x) {
  const double parameter =
      rule.parameters[rule.parameters.size() > 1 ? static_cast<std::size_t>(channel) : 0];
  switch (rule.kind) {
    case SmoothKind::kLp:
      return lp(x, parameter);
    case SmoothKind::kLogSumExp:
      return log_sum_exp(x, parameter);
    case SmoothKind::kSoft:
      return soft(x, parameter);
    case SmoothKind::kGem:
      return gem(x, parameter, rule.floor);
    case SmoothKind::kGemParameter:
      return gem_parameter(x, parameter, rule.floor);
    case SmoothKind::kStd:
      return standard_deviation(x);
    case SmoothKind::kAvgMax:
      return mean_and_maximum(x);
  }
  return {};
}

template <class WindowOf>
Elements elements_of(const ConstTensor5& x, const Array5& output, const WindowOf& window_of) {
  Elements elements;
  for_each_tap(window_of(output), x.size, output, [&](const Array5& position, std::int64_t) {
    elements.values.push_back(load<double>(x, position));
    elements.positions.push_back(static_cast<std::size_t>(plane_position(x.size, position)));
  });
  return elements;
}

template <class WindowOf>
void pool_all(const SmoothRule& rule, const Tensor5& y, const ConstTensor5& x, const WindowOf& window_of) {
  for_each_plane(y.size, [&](std::int64_t n, std::int64_t c) {
    for_each_in_plane(y.size, n, c, [&](const Array5& output) {
      store(y, output, pool(rule, x.first_channel + c, elements_of(x, output, window_of).values).y);
    });
  });
}

template <class WindowOf>
void gradient_of_all(const SmoothRule& rule, const Tensor5& grad_x, const ConstTensor5& grad_y,
                     const ConstTensor5& x, const WindowOf& window_of) {
  write_gradients(grad_x, [&](std::int64_t n, std::int64_t c, std::vector<double>& sums) {
    for_each_in_plane(grad_y.size, n, c, [&](const Array5& output) {
      const Elements elements = elements_of(x, output, window_of);
      const Pooled pooled = pool(rule, x.first_channel + c, elements.values);
      const auto gradient = load<double>(grad_y, output);
      for (std::size_t i = 0; i < elements.values.size(); ++i)
        sums[elements.positions[i]] += gradient * pooled.slopes[i];
    });
  });
}

void forward(const SmoothRule& rule, const Tensor5& y, const ConstTensor5& x, const WindowAxes* window) {
  if (window != nullptr) return pool_all(rule, y, x, SlidingWindows(*window));
  pool_all(rule, y, x, AdaptiveWindows(x.size, y.size));
}

void backward(const SmoothRule& rule, const Tensor5& grad_x, const ConstTensor5& grad_y,
              const ConstTensor5& x, const WindowAxes* window) {
  if (window != nullptr) return gradient_of_all(rule, grad_x, grad_y, x, SlidingWindows(*window));
  gradient_of_all(rule, grad_x, grad_y, x, AdaptiveWindows(x.size, grad_y.size));
}

}  // namespace

const SmoothBackend smooth{forward, backward};

}  // namespace cenote::reference
