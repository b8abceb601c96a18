// Error bounds by running error analysis: every number carries a bound of how far the computed one may be
// off, and every operation passes the bounds of its operands on and adds its own rounding.
//
// With u, half of the distance from 1 to the next number: +, -, *, / and sqrt round once, u of the result.
// exp, log, expm1 and log1p of Highway err by at most 4 ulp, and an ulp is at most 2 u of the number: 8 u. A
// sum of n terms in any order errs by at most n - 1 roundings of the sum of magnitudes. Results below the
// smallest normal number may become 0. f16 and bf16 are computed in f32 and rounded once more.
#include "conformance/smooth_bounds.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#include "conformance/plain_form.h"
#include "conformance/replay.h"

namespace cenote_test {
namespace {

using cenote::Dims;
using cenote::DType;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUlps = 8;  // roundings that the 4 ulp of exp, log and their kin are worth

/// of_each(x[i]), one after another.
template <class T, class OfEach>
auto each(const std::vector<T>& x, const OfEach& of_each) {
  std::vector<decltype(of_each(x.front()))> results;
  results.reserve(x.size());
  for (const T& value : x) results.push_back(of_each(value));
  return results;
}

/// A number and how far it may be off.
struct Rough {
  double value = 0;
  double error = 0;

  double largest() const { return std::abs(value) + error; }
};

/// The operations of one type.
class Arithmetic {
 public:
  explicit Arithmetic(DType dtype)
      : unit_(precision_of(dtype).epsilon / 2), smallest_(precision_of(dtype).smallest) {}

  Rough rounded(double value, double error, double roundings = 1) const {
    return {value, error + roundings * unit_ * (std::abs(value) + error) + smallest_};
  }
  Rough constant(double value) const {
    const bool exact = static_cast<double>(static_cast<float>(value)) == value;
    return {value, exact ? 0 : unit_ * std::abs(value)};
  }
  Rough add(Rough a, Rough b) const { return rounded(a.value + b.value, a.error + b.error); }
  Rough subtract(Rough a, Rough b) const { return rounded(a.value - b.value, a.error + b.error); }
  Rough multiply(Rough a, Rough b) const {
    return rounded(a.value * b.value, a.error * b.largest() + std::abs(a.value) * b.error);
  }
  Rough divide(Rough a, Rough b) const {
    const double quotient = a.value / b.value;
    const double least = std::abs(b.value) - b.error;
    if (!(least > 0)) return {quotient, kInfinity};
    return rounded(quotient, (a.error + std::abs(quotient) * b.error) / least);
  }
  Rough root(Rough a) const {
    const double value = std::sqrt(a.value);
    return rounded(value, std::min(std::sqrt(a.error), a.error / value));
  }
  Rough exponential(Rough a) const {
    const double value = std::exp(a.value);
    if (value == 0) return {0, smallest_};
    return rounded(value, value * std::expm1(a.error), kUlps);
  }
  Rough logarithm(Rough a) const {
    const double value = std::log(a.value);
    if (a.error >= a.value) return {value, kInfinity};
    return rounded(value, -std::log1p(-a.error / a.value), kUlps);
  }
  /// exp(a) - 1; what a is off by, it is off by times exp of that.
  Rough exponential_less_one(Rough a) const {
    return rounded(std::expm1(a.value), std::exp(a.value) * std::expm1(a.error), kUlps);
  }
  /// log(1 + a) as -log1p(-a / (1 + a)): both operations round, and log1p grows no faster than its argument.
  Rough logarithm_of_one_and(Rough a) const {
    const double value = std::log1p(a.value);
    if (a.error >= 1 + a.value) return {value, kInfinity};
    return rounded(value, -std::log1p(-a.error / (1 + a.value)), kUlps + 2);
  }
  /// q^p of q >= 0, as exp(p log q).
  Rough power(Rough q, Rough p) const {
    if (q.value == 0 && q.error == 0) return {0, 0};
    // The logarithm is lost, but a positive power of at most q + error is small.
    if (q.error >= q.value / 2) {
      return {std::pow(q.value, p.value), p.value > 0 ? 2 * std::pow(q.largest(), p.value) : kInfinity};
    }
    return exponential(multiply(p, logarithm(q)));
  }
  /// Where a is taken for exp(a) - 1 and log(1 + a), which are a but for less than a rounding.
  bool is_linear(Rough a) const { return a.largest() < (unit_ < 0x1p-50 ? 0x1p-60 : 0x1p-30); }
  Rough sum(const std::vector<Rough>& terms) const {
    Rough total;
    double magnitude = 0;
    for (const Rough& term : terms) {
      total.value += term.value;
      total.error += term.error;
      magnitude += term.largest();
    }
    total.error += static_cast<double>(terms.size()) * unit_ * magnitude;
    return total;
  }

 private:
  double unit_;
  double smallest_;
};

/// y of one window and dy/dx of each element.
struct Pooled {
  Rough y;
  std::vector<Rough> slopes;
};

double largest_of(const std::vector<double>& x) { return *std::max_element(x.begin(), x.end()); }

bool is_nan(double value) { return std::isnan(value); }

Pooled lp(const Arithmetic& t, const std::vector<double>& x, double norm_type) {
  const std::vector<double> magnitudes = each(x, [](double value) { return std::abs(value); });
  const double largest = largest_of(magnitudes);
  const auto term = [&](Rough ratio, Rough p) {
    return norm_type == 1 ? ratio : norm_type == 2 ? t.multiply(ratio, ratio) : t.power(ratio, p);
  };
  Pooled pooled{{largest, 0}, std::vector<Rough>(x.size())};
  if (norm_type == kInfinity || largest == 0) return pooled;  // the slopes are -1, 0 or 1
  const Rough p = t.constant(norm_type);
  if (std::isfinite(largest)) {
    Rough root =
        t.sum(each(magnitudes, [&](double value) { return term(t.divide({value, 0}, {largest, 0}), p); }));
    if (norm_type == 2) root = t.root(root);
    if (norm_type != 1 && norm_type != 2) root = t.power(root, t.divide({1, 0}, p));
    pooled.y = t.multiply({largest, 0}, root);
  }
  if (norm_type == 1) return pooled;
  const Rough less = t.subtract(p, {1, 0});
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == 0) continue;
    const Rough ratio = t.divide({magnitudes[i], 0}, pooled.y);
    pooled.slopes[i] = norm_type == 2 ? ratio : t.power(ratio, less);
  }
  return pooled;
}

/// exp(sharpness (x - largest))
std::vector<Rough> weights_of(const Arithmetic& t, const std::vector<double>& x, double sharpness) {
  const double largest = largest_of(x);
  std::vector<Rough> weights;
  for (const double value : x) {
    const bool none = value == -kInfinity;
    weights.push_back(
        none ? Rough{}
             : t.exponential(t.multiply(t.constant(sharpness), t.subtract({value, 0}, {largest, 0}))));
  }
  return weights;
}

/// log mean exp(r d) / r of distances d <= 0. `scale` says where rounding the mean, over r, is too much:
/// where r times it is below 1/4 and the mean above a half, (exp(r d) - 1) / r is summed, or d itself for
/// tiny r d.
Rough log_mean_exp(const Arithmetic& t, const std::vector<Rough>& distances, Rough r, Rough scale) {
  const Rough count = t.constant(static_cast<double>(distances.size()));
  std::vector<Rough> terms;
  std::vector<Rough> near_one;
  double none = 0;
  for (const Rough& d : distances) {
    const Rough exponent = t.multiply(r, d);
    if (d.value == -kInfinity) {
      ++none;
      continue;
    }
    terms.push_back(t.exponential(exponent));
    near_one.push_back(t.is_linear(exponent) ? t.rounded(d.value, d.error)
                                             : t.divide(t.exponential_less_one(exponent), r));
  }
  const Rough mean = t.divide(t.sum(terms), count);
  const Rough plain = t.divide(t.logarithm(mean), r);
  const Rough small = t.multiply(r, scale);
  if (small.value - small.error >= 0.25 || mean.largest() <= 0.5) return plain;
  const Rough near = t.divide(t.add(t.sum(near_one), t.divide({-none, 0}, r)), count);
  const Rough grown = t.multiply(r, near);
  const Rough other =
      t.is_linear(grown) ? t.rounded(near.value, near.error) : t.divide(t.logarithm_of_one_and(grown), r);
  if (small.largest() < 0.25 && mean.value - mean.error > 0.5) return other;
  return plain.error > other.error ? plain : other;  // rounding decides
}

Pooled log_sum_exp(const Arithmetic& t, const std::vector<double>& x, double sharpness) {
  const double largest = largest_of(x);
  Pooled pooled{{largest, 0}, std::vector<Rough>(x.size())};
  if (!std::isfinite(largest)) return pooled;
  const std::vector<Rough> weights = weights_of(t, x, sharpness);
  const Rough sum = t.sum(weights);
  const auto distance = [&](double value) {
    return value == -kInfinity ? Rough{value, 0} : t.subtract({value, 0}, {largest, 0});
  };
  const Rough logarithm =
      log_mean_exp(t, each(x, distance), t.constant(sharpness), {4 * std::abs(largest), 0});
  pooled.y = t.add({largest, 0}, logarithm);
  for (std::size_t i = 0; i < x.size(); ++i) pooled.slopes[i] = t.divide(weights[i], sum);
  return pooled;
}

Pooled soft(const Arithmetic& t, const std::vector<double>& x, double sharpness) {
  const double largest = largest_of(x);
  Pooled pooled{{largest, 0}, std::vector<Rough>(x.size())};
  if (!std::isfinite(largest)) return pooled;
  const std::vector<Rough> weights = weights_of(t, x, sharpness);
  const Rough sum = t.sum(weights);
  std::vector<Rough> weighted;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == -kInfinity) continue;
    weighted.push_back(t.multiply(weights[i], t.subtract({x[i], 0}, {largest, 0})));
  }
  pooled.y = t.add({largest, 0}, t.divide(t.sum(weighted), sum));
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == -kInfinity) continue;
    const Rough distance = t.multiply(t.constant(sharpness), t.subtract({x[i], 0}, pooled.y));
    pooled.slopes[i] = t.multiply(t.divide(weights[i], sum), t.add({1, 0}, distance));
  }
  return pooled;
}

Pooled gem(const Arithmetic& t, const std::vector<double>& x, double parameter, double eps) {
  const Rough floor = t.constant(eps);
  const Rough p = t.constant(parameter);
  const Rough count = t.constant(static_cast<double>(x.size()));
  const auto clamped = [&](double value) { return value > eps ? Rough{value, 0} : floor; };
  const Rough largest = clamped(largest_of(x));
  Pooled pooled{largest, std::vector<Rough>(x.size())};
  const auto ratio = [&](double value) {
    return value == largest.value ? Rough{1, 0} : t.divide(clamped(value), largest);
  };
  if (parameter == 3) {  // a cube, or a power as any
    const Rough mean =
        t.divide(t.sum(each(x, [&](double value) { return t.power(ratio(value), p); })), count);
    pooled.y = t.multiply(largest, t.power(mean, t.divide({1, 0}, p)));
  } else {
    const auto logarithm = [&](double value) { return t.logarithm(ratio(value)); };
    pooled.y = t.multiply(largest, t.exponential(log_mean_exp(t, each(x, logarithm), p, {1, 0})));
  }
  const Rough less = t.subtract(p, {1, 0});
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] <= eps) continue;
    // Of power 1 the slopes are those of a mean, beside NaN too.
    const Rough power = parameter == 1 ? Rough{1, 0} : t.power(t.divide({x[i], 0}, pooled.y), less);
    pooled.slopes[i] = t.divide(power, count);
  }
  return pooled;
}

Rough mean_of(const Arithmetic& t, const std::vector<double>& x) {
  const std::vector<Rough> terms = each(x, [](double value) { return Rough{value, 0}; });
  return t.divide(t.sum(terms), t.constant(static_cast<double>(x.size())));
}

Pooled deviation(const Arithmetic& t, const std::vector<double>& x) {
  // Of equal elements nothing is left that could round.
  const auto is_first = [&](double value) { return value == x[0]; };
  if (std::all_of(x.begin(), x.end(), is_first)) return {{}, std::vector<Rough>(x.size())};
  const Rough count = t.constant(static_cast<double>(x.size()));
  const std::vector<Rough> from_first =
      each(x, [&](double value) { return t.subtract({value, 0}, {x[0], 0}); });
  const Rough mean = t.add({x[0], 0}, t.divide(t.sum(from_first), count));
  Pooled pooled;
  // Scaled by the largest distance, so that no square is lost.
  const std::vector<Rough> distances = each(x, [&](double value) { return t.subtract({value, 0}, mean); });
  double largest = 0;
  for (const Rough& distance : distances) largest = std::max(largest, distance.largest());
  std::vector<Rough> squares;
  for (const Rough& distance : distances) {
    const Rough scaled = t.divide(distance, {largest, 0});
    squares.push_back(t.multiply(scaled, scaled));
  }
  pooled.y = t.multiply({largest, 0}, t.root(t.divide(t.sum(squares), count)));
  pooled.slopes.resize(x.size());
  // However far mean and y are off, no distance is more than sqrt(n) of a deviation.
  const double most = 2 / std::sqrt(static_cast<double>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    pooled.slopes[i] = t.divide(t.divide(distances[i], pooled.y), count);
    pooled.slopes[i].error = std::min(pooled.slopes[i].error, most);
  }
  return pooled;
}

Pooled mean_and_maximum(const Arithmetic& t, const std::vector<double>& x) {
  const double largest = largest_of(x);
  const Rough share = t.divide({0.5, 0}, t.constant(static_cast<double>(x.size())));
  Pooled pooled;
  pooled.y = t.multiply({0.5, 0}, t.add(mean_of(t, x), {largest, 0}));
  pooled.slopes.assign(x.size(), share);
  auto picked = std::find_if(x.begin(), x.end(), is_nan);
  if (picked == x.end()) picked = std::find(x.begin(), x.end(), largest);
  Rough& slope = pooled.slopes[static_cast<std::size_t>(picked - x.begin())];
  slope = t.add(slope, {0.5, 0});
  return pooled;
}

Pooled pool(const Arithmetic& t, const Case& one, std::int64_t channel, const std::vector<double>& x) {
  const std::string name(one.op->name);
  const auto is = [&](const char* kind) { return name.find(kind) != std::string::npos; };
  const cenote::OpArguments& a = one.arguments;
  if (is("lp_pool")) return lp(t, x, a.norm_type);
  if (is("lse_pool")) return log_sum_exp(t, x, a.sharpness.value_or(10));
  if (is("soft_pool")) return soft(t, x, a.sharpness.value_or(1));
  if (is("gem_pool")) return gem(t, x, a.p[a.p.size() == 1 ? 0 : static_cast<std::size_t>(channel)], a.eps);
  return is("std_pool") ? deviation(t, x) : mean_and_maximum(t, x);
}

/// The real taps of every output of one axis.
std::vector<std::vector<std::int64_t>> taps_of_axis(const Case& one, const Dims& y_sizes, int axis) {
  const int place = one.sizes.size() - one.op->spatial_rank + axis;
  const std::int64_t size = one.sizes[place];
  const std::int64_t outs = y_sizes[place];
  const auto of = [&](const Dims& dims, std::int64_t otherwise) {
    return dims.empty() ? otherwise : dims[dims.size() == 1 ? 0 : axis];
  };
  const std::int64_t kernel = of(one.arguments.kernel, 1);
  const std::int64_t stride = of(one.arguments.stride, kernel);
  std::vector<std::vector<std::int64_t>> all(static_cast<std::size_t>(outs));
  for (std::int64_t out = 0; out < outs; ++out) {
    auto& taps = all[static_cast<std::size_t>(out)];
    if (one.op->parameters & cenote::kTakesWindow) {
      for (std::int64_t tap = 0; tap < kernel; ++tap) {
        const std::int64_t at =
            out * stride - of(one.arguments.padding, 0) + tap * of(one.arguments.dilation, 1);
        if (at >= 0 && at < size) taps.push_back(at);
      }
    } else {
      for (std::int64_t at = out * size / outs; at < ((out + 1) * size + outs - 1) / outs; ++at)
        taps.push_back(at);
    }
  }
  return all;
}

}  // namespace

std::vector<std::vector<std::size_t>> windows_of(const Case& given) {
  const Case one = with_explicit_padding(given);
  const Dims y_sizes = one.op->shape(one.sizes, one.arguments);
  std::vector<std::vector<std::size_t>> windows{{0}};
  for (int axis = 0; axis < one.op->spatial_rank; ++axis) {
    const auto size = static_cast<std::size_t>(one.sizes[one.sizes.size() - one.op->spatial_rank + axis]);
    std::vector<std::vector<std::size_t>> finer;
    for (const auto& window : windows) {
      for (const auto& taps : taps_of_axis(one, y_sizes, axis)) {
        finer.emplace_back();
        for (const std::size_t line : window)
          for (const std::int64_t tap : taps)
            finer.back().push_back(line * size + static_cast<std::size_t>(tap));
      }
    }
    windows = std::move(finer);
  }
  return windows;
}

namespace {

class Bounding {
 public:
  explicit Bounding(const Case& one)
      : case_(one),
        y_sizes_(one.op->shape(one.sizes, one.arguments)),
        working_(one.dtype == DType::f64 ? DType::f64 : DType::f32),
        own_(one.dtype),
        x_(values_of(make_input(one))),
        grad_y_(values_of(make_output_gradient(one))),
        windows_(windows_of(one)),
        channels_(static_cast<std::size_t>(one.sizes[one.sizes.size() - one.op->spatial_rank - 1])) {
    for (int axis = 0; axis < one.op->spatial_rank; ++axis)
      plane_ *= static_cast<std::size_t>(one.sizes[one.sizes.size() - one.op->spatial_rank + axis]);
    bounds_.y.resize(grad_y_.size());
    bounds_.grad_x.resize(x_.size());
  }

  SmoothBounds run() {
    const bool both = case_.op->name.find("catavgmax") != std::string_view::npos;
    for (std::size_t plane = 0; plane * plane_ < x_.size(); ++plane) both ? bound_both(plane) : bound(plane);
    return bounds_;
  }

 private:
  /// The distance of two results that are off by `number.error` in f64; else one of them is exact. Both round
  /// to the dtype of the case.
  double stored(const Rough& number) const {
    const double error = case_.dtype == DType::f64 ? 2 * number.error : number.error;
    return std::isnan(error) ? kInfinity : own_.rounded(number.value, error, 2).error;
  }

  std::vector<double> elements(std::size_t plane, const std::vector<std::size_t>& window) const {
    return each(window, [&](std::size_t at) { return x_[plane * plane_ + at]; });
  }

  void bound(std::size_t plane) {
    const bool of_means = case_.op->name.find("avgmax") != std::string_view::npos ||
                          (case_.op->parameters & cenote::kTakesGem) != 0;
    std::vector<std::vector<Rough>> terms(plane_);
    for (std::size_t out = 0; out < windows_.size(); ++out) {
      const std::vector<double> x = elements(plane, windows_[out]);
      // Without an element nothing is rounded. NaN leaves no number but in the slopes of means and powers
      // of 1.
      if (x.empty() || (!of_means && std::any_of(x.begin(), x.end(), is_nan))) continue;
      const auto channel = static_cast<std::int64_t>(plane % channels_);
      const std::size_t place = plane * windows_.size() + out;
      const Pooled pooled = pool(working_, case_, channel, x);
      bounds_.y[place] = stored(pooled.y);
      for (std::size_t i = 0; i < x.size(); ++i) {
        terms[windows_[out][i]].push_back(working_.multiply({grad_y_[place], 0}, pooled.slopes[i]));
      }
    }
    add_exact_slopes(plane, terms);
    for (std::size_t i = 0; i < plane_; ++i)
      bounds_.grad_x[plane * plane_ + i] = stored(working_.sum(terms[i]));
  }

  /// The slopes of norm_type 1 and infinity are -1, 0 or 1, of NaN too: only their sums round.
  void add_exact_slopes(std::size_t plane, std::vector<std::vector<Rough>>& terms) const {
    const double norm_type = case_.arguments.norm_type;
    if ((case_.op->parameters & cenote::kTakesNormType) == 0 || (norm_type != 1 && norm_type != kInfinity))
      return;
    for (auto& of_element : terms) of_element.clear();
    for (std::size_t out = 0; out < windows_.size(); ++out) {
      for (const std::size_t at : windows_[out])
        terms[at].push_back({grad_y_[plane * windows_.size() + out], 0});
    }
  }

  /// Means and maxima of all channels one after another.
  void bound_both(std::size_t plane) {
    const std::vector<double> x = elements(plane, windows_[0]);
    const std::size_t n = plane / channels_;
    const std::size_t first = n * 2 * channels_ + plane % channels_;
    bounds_.y[first] = stored(mean_of(working_, x));
    const Rough share =
        working_.divide({grad_y_[first], 0}, working_.constant(static_cast<double>(x.size())));
    const Rough both = working_.add(share, {grad_y_[first + channels_], 0});
    const double largest = largest_of(x);
    const bool has_nan = std::any_of(x.begin(), x.end(), is_nan);
    for (std::size_t i = 0; i < plane_; ++i) {
      const bool may_be_picked = has_nan ? is_nan(x[i]) : x[i] == largest;
      bounds_.grad_x[plane * plane_ + i] = std::max(stored(share), may_be_picked ? stored(both) : 0);
    }
  }

  const Case& case_;
  Dims y_sizes_;
  Arithmetic working_;
  Arithmetic own_;
  std::vector<double> x_;
  std::vector<double> grad_y_;
  std::vector<std::vector<std::size_t>> windows_;
  std::size_t channels_;
  std::size_t plane_ = 1;
  SmoothBounds bounds_;
};

}  // namespace

SmoothBounds smooth_bounds(const Case& one) { return Bounding(one).run(); }

}  // namespace cenote_test
