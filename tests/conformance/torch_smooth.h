// What torch's ops make of the ops whose gradient reads x: the elements of each window are gathered beside
// one another and reduced by expressions in f64, differentiated by torch's autograd.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "conformance/smooth_bounds.h"

namespace cenote_test {

class TorchSmooth {
 public:
  explicit TorchSmooth(const Case& one)
      : case_(one), windows_(windows_of(one)), y_sizes_(one.op->shape(one.sizes, one.arguments)) {
    std::size_t most = 1;
    for (const auto& window : windows_) most = std::max(most, window.size());
    std::vector<std::int64_t> positions;
    std::vector<double> real;
    for (const auto& window : windows_) {
      for (std::size_t i = 0; i < most; ++i) {
        positions.push_back(i < window.size() ? static_cast<std::int64_t>(window[i]) : 0);
        real.push_back(i < window.size() ? 1 : 0);
      }
    }
    const auto outputs = static_cast<std::int64_t>(windows_.size());
    positions_ = at::tensor(positions, at::kLong);
    real_ = at::tensor(real, at::kDouble).reshape({outputs, -1});
  }

  /// y of x, which is dense and of f64.
  at::Tensor pool(const at::Tensor& x) const {
    const int rank = case_.op->spatial_rank;
    const at::Tensor planes = x.flatten(-rank);
    const auto outputs = static_cast<std::int64_t>(windows_.size());
    std::vector<std::int64_t> sizes = planes.sizes().vec();
    sizes.back() = outputs;
    sizes.push_back(real_.size(1));
    const at::Tensor elements = planes.index_select(-1, positions_).reshape(sizes);
    return reduce(elements).reshape(at::IntArrayRef(y_sizes_.begin(), y_sizes_.end()));
  }

 private:
  at::Tensor reduce(const at::Tensor& e) const {
    const std::string name(case_.op->name);
    const auto is = [&](const char* kind) { return name.find(kind) != std::string::npos; };
    if (is("lp_pool")) return lp(e);
    if (is("lse_pool")) return log_sum_exp(e, case_.arguments.sharpness.value_or(10));
    if (is("soft_pool")) return soft(e, case_.arguments.sharpness.value_or(1));
    if (is("gem_pool")) return gem(e);
    if (is("std_pool")) return (e - e.mean(-1, true)).square().mean(-1).sqrt();
    const at::Tensor maximum = std::get<0>(e.max(-1));
    if (!is("catavgmax")) return (e.mean(-1) + maximum) / 2;
    return at::cat({e.mean(-1), maximum}, -2);
  }

  /// 1 where no element is infinite or NaN and one is not 0.
  static at::Tensor scale_of(const at::Tensor& magnitudes) {
    const at::Tensor largest = magnitudes.detach().amax(-1, true);
    return at::where(largest.isfinite().logical_and(largest > 0), largest, at::ones_like(largest));
  }

  /// Zeros take no part, which keeps their gradient 0.
  at::Tensor lp(const at::Tensor& e) const {
    const double p = case_.arguments.norm_type;
    const at::Tensor magnitudes = e.abs() * real_;
    if (std::isinf(p)) return std::get<0>((e.abs().masked_fill(real_ == 0, 0)).max(-1));
    const at::Tensor none = magnitudes.detach().eq(0).logical_or(real_ == 0);
    const at::Tensor scale = scale_of(magnitudes.masked_fill(none, 0));
    const at::Tensor sum = (magnitudes.masked_fill(none, 1) / scale).pow(p).masked_fill(none, 0).sum(-1);
    const at::Tensor empty = sum.detach().eq(0);
    return (scale.squeeze(-1) * sum.masked_fill(empty, 1).pow(1 / p)).masked_fill(empty, 0);
  }

  /// e - largest, -inf for padding, and the shift.
  std::tuple<at::Tensor, at::Tensor> shifted(const at::Tensor& e) const {
    const at::Tensor real = e.masked_fill(real_ == 0, -std::numeric_limits<double>::infinity());
    const at::Tensor largest = real.detach().amax(-1, true);
    const at::Tensor shift = at::where(largest.isfinite(), largest, at::zeros_like(largest));
    return {real - shift, shift};
  }

  /// log mean exp(r d) / r of distances d <= 0. Where the mean is near 1, that of its distance from 1, with
  /// the softmax as gradient, which autograd would make of it but for what expm1 loses.
  static at::Tensor log_mean_exp(const at::Tensor& d, double r, const at::Tensor& real) {
    const at::Tensor count = real.sum(-1).clamp_min(1);
    const at::Tensor weights = (d * r).exp();
    const at::Tensor mean = weights.sum(-1) / count;
    const at::Tensor near_one = (mean > 0.5).logical_and(mean.isfinite()).detach();
    const at::Tensor plain = mean.masked_fill(near_one, 1).log() / r;
    const at::Tensor distance = ((d.detach() * r).expm1() * real).sum(-1) / count;
    const at::Tensor softmax =
        (weights / weights.sum(-1, true)).masked_fill(near_one.logical_not().unsqueeze(-1), 0).detach();
    const at::Tensor slope = (softmax * d.masked_fill(softmax == 0, 0)).sum(-1);
    return at::where(near_one, distance.log1p() / r + (slope - slope.detach()), plain);
  }

  at::Tensor log_sum_exp(const at::Tensor& e, double sharpness) const {
    const auto [real, shift] = shifted(e);
    return shift.squeeze(-1) + log_mean_exp(real, sharpness, real_);
  }

  at::Tensor soft(const at::Tensor& e, double sharpness) const {
    const auto [real, shift] = shifted(e);
    const at::Tensor w = (real * sharpness).exp();
    const at::Tensor without = w.detach().eq(0);
    const at::Tensor sum = w.sum(-1);
    const at::Tensor weighted = (w * (e - shift).masked_fill(without, 0)).sum(-1);
    const at::Tensor empty = sum.detach().eq(0);
    const at::Tensor y = shift.squeeze(-1) + weighted / sum.masked_fill(empty, 1);
    const at::Tensor lowest = at::full_like(y, -std::numeric_limits<double>::infinity());
    const at::Tensor of_none = at::where(real_.sum(-1) == 0, at::zeros_like(y), lowest);
    const at::Tensor infinite = (e.isposinf().logical_and(real_ != 0)).any(-1);
    const at::Tensor known =
        at::where(infinite, -lowest, y).masked_fill(e.isnan().logical_and(real_ != 0).any(-1), std::nan(""));
    return at::where(empty, of_none, known);
  }

  /// Channel by channel, as each has its p. Near 0 as the exponential of log-sum-exp of logarithms.
  at::Tensor gem(const at::Tensor& e) const {
    // Not clamp_min, which lets the gradient pass at eps.
    const double eps = case_.arguments.eps;
    const at::Tensor clamped = at::where(e <= eps, at::full_like(e, eps), e);
    const at::Tensor scale = scale_of(clamped);
    const at::Tensor ratio = clamped / scale;
    std::vector<at::Tensor> roots;
    for (std::int64_t c = 0; c < e.size(-3); ++c) {
      const double p = case_.arguments.p[case_.arguments.p.size() > 1 ? static_cast<std::size_t>(c) : 0];
      const at::Tensor q = ratio.select(-3, c);
      roots.push_back(p < 0.25 ? log_mean_exp(q.log(), p, at::ones_like(q)).exp()
                               : q.pow(p).mean(-1).pow(1 / p));
    }
    return scale.squeeze(-1) * at::stack(roots, -2);
  }

  const Case& case_;
  std::vector<std::vector<std::size_t>> windows_;
  cenote::Dims y_sizes_;
  at::Tensor positions_;
  at::Tensor real_;  // [outputs, taps], 1 where the window has an element
};

}  // namespace cenote_test
