// Pooling whose gradient depends on the elements as an expression of torch's own operators, over a table of
// the elements of every window. Slower than the op and of more memory, but torch differentiates it any number
// of times, forward and backward.
#include "expanded.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <vector>

#include "arguments.h"
#include "cenote/global.h"
#include "cenote/window.h"
#include "convert.h"

namespace cenote::torch_ops {

namespace {

/// Positions of the elements of each window along one axis, row by row; -1 outside of the input.
at::Tensor positions_along(const OpInfo& op, int axis, std::int64_t in, std::int64_t out,
                           const OpArguments& a) {
  std::vector<std::vector<std::int64_t>> windows(static_cast<std::size_t>(out));
  if (op.parameters & kTakesWindow) {
    const std::int64_t kernel = value_at(a.kernel, axis);
    const std::int64_t stride = a.stride.empty() ? kernel : value_at(a.stride, axis);
    const std::int64_t dilation = value_at(a.dilation, axis);
    const std::int64_t padding = begin_padding(a, axis, in, out);
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t j = 0; j < kernel; ++j) {
        const std::int64_t position = o * stride - padding + j * dilation;
        windows[static_cast<std::size_t>(o)].push_back(position >= 0 && position < in ? position : -1);
      }
    }
  } else {  // adaptive, or global with one output
    for (std::int64_t o = 0; o < out; ++o)
      for (std::int64_t i = o * in / out; i < ((o + 1) * in + out - 1) / out; ++i)
        windows[static_cast<std::size_t>(o)].push_back(i);
  }
  std::size_t longest = 0;
  for (const auto& window : windows) longest = std::max(longest, window.size());
  std::vector<std::int64_t> table;
  for (auto& window : windows) {
    window.resize(longest, -1);
    table.insert(table.end(), window.begin(), window.end());
  }
  return at::tensor(table, at::kLong).view({out, static_cast<std::int64_t>(longest)});
}

/// All windows: values [..., outputs, taps], and which of them are elements of the input.
struct Windows {
  at::Tensor values;
  at::Tensor real;
  Dims spatial;  // of y
};

Windows expand(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments) {
  const int rank = op.spatial_rank;
  const Dims x_sizes = sizes_of(x);
  const Dims y_sizes = op.shape(x_sizes, arguments);
  const int first = x_sizes.size() - rank;
  Windows windows;
  at::Tensor flat = at::zeros({1, 1}, at::kLong);
  at::Tensor real = at::ones({1, 1}, at::kBool);
  for (int axis = 0; axis < rank; ++axis) {
    const std::int64_t in = x_sizes[first + axis];
    const std::int64_t out = y_sizes[first + axis];
    windows.spatial.push_back(out);
    const at::Tensor along = positions_along(op, axis, in, out, arguments);
    // [outputs so far, 1, taps so far, 1] with [1, outputs, 1, taps]
    const at::Tensor next = along.view({1, out, 1, along.size(1)});
    real = real.view({real.size(0), 1, real.size(1), 1}).logical_and(next >= 0);
    flat = flat.view({flat.size(0), 1, flat.size(1), 1}) * in + next.clamp_min(0);
    real = real.reshape({real.size(0) * real.size(1), -1});
    flat = flat.reshape({flat.size(0) * flat.size(1), -1});
  }
  std::vector<std::int64_t> sizes(x.sizes().begin(), x.sizes().end() - rank);
  sizes.push_back(flat.size(0));
  sizes.push_back(flat.size(1));
  windows.values = x.flatten(-rank).index_select(-1, flat.flatten()).view(sizes);
  windows.real = real;
  return windows;
}

/// Whether x^p is |x|^p, and as often differentiable.
bool is_even(double p) { return std::fmod(p, 2) == 0; }

/// (sum |x|^p)^(1/p), the terms scaled by the largest. Where |x|^p has no derivatives, at 0, they are 0.
at::Tensor lp(const Windows& windows, double p) {
  const at::Tensor& x = windows.values;
  const at::Tensor zero = at::zeros({}, x.options());
  const at::Tensor one = at::ones({}, x.options());
  const at::Tensor counted = is_even(p) ? windows.real : windows.real.logical_and(x != 0);
  const at::Tensor magnitudes = at::where(counted, x.abs(), zero);
  if (p == std::numeric_limits<double>::infinity()) return std::get<0>(magnitudes.max(-1));
  at::Tensor largest = magnitudes.detach().amax(-1, true);
  largest = at::where(largest > 0, largest, one);
  const at::Tensor base = at::where(counted, is_even(p) ? x : x.abs(), one).div(largest);
  const at::Tensor sum = at::where(counted, base.pow(p), zero).sum(-1);
  const at::Tensor y = at::where(sum > 0, sum, one).pow(1 / p) * largest.squeeze(-1);
  return at::where(sum > 0, y, zero);
}

/// Logits of the elements of each window, -inf outside; windows without elements count as full, since torch's
/// softmax of nothing is NaN, and so is its derivative.
at::Tensor logits(const Windows& windows, double sharpness) {
  const at::Tensor counted = windows.real.logical_or(windows.real.any(-1, true).logical_not());
  const at::Tensor outside = at::full({}, -std::numeric_limits<double>::infinity(), windows.values.options());
  return at::where(counted, windows.values * sharpness, outside);
}

at::Tensor log_sum_exp(const Windows& windows, double r) {
  const at::Tensor count = windows.real.sum(-1).to(windows.values.scalar_type());
  const at::Tensor y = (logits(windows, r).logsumexp(-1) - count.clamp_min(1).log()) / r;
  return y.masked_fill(count == 0, -std::numeric_limits<double>::infinity());
}

at::Tensor soft(const Windows& windows, double t) {
  const at::Tensor weights = logits(windows, t).softmax(-1);
  const at::Tensor zero = at::zeros({}, windows.values.options());
  return at::where(windows.real, weights * windows.values, zero).sum(-1);
}

at::Tensor gem(const Windows& windows, const OpArguments& arguments) {
  const std::vector<double> powers = arguments.p.empty() ? GlobalGemPoolOptions{}.p : arguments.p;
  at::Tensor p = at::tensor(powers, windows.values.options());
  if (powers.size() > 1) p = p.view({-1, 1, 1});
  const at::Tensor mean = windows.values.clamp_min(arguments.eps).pow(p).mean(-1, true);
  return mean.pow(1 / p).squeeze(-1);
}

/// With derivatives of 0 where the deviation is 0.
at::Tensor deviation(const Windows& windows) {
  const at::Tensor apart = windows.values - windows.values.mean(-1, true);
  const at::Tensor variance = apart.mul(apart).mean(-1);
  const at::Tensor one = at::ones({}, variance.options());
  return at::where(variance > 0, at::where(variance > 0, variance, one).sqrt(), at::zeros_like(one));
}

}  // namespace

at::Tensor expanded(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments) {
  const Windows windows = expand(op, x, arguments);
  const auto named = [&](const char* part) { return op.name.find(part) != std::string_view::npos; };
  at::Tensor y;
  if (op.parameters & kTakesNormType) {
    y = lp(windows, arguments.norm_type);
  } else if (named("lse_pool")) {
    y = log_sum_exp(windows, arguments.sharpness.value_or(LsePoolOptions{}.sharpness));
  } else if (named("soft_pool")) {
    y = soft(windows, arguments.sharpness.value_or(SoftPoolOptions{}.sharpness));
  } else if (named("gem_pool")) {
    y = gem(windows, arguments);
  } else if (named("std_pool")) {
    y = deviation(windows);
  } else {
    const at::Tensor mean = windows.values.mean(-1);
    const at::Tensor largest = std::get<0>(windows.values.max(-1));
    y = named("catavgmax") ? at::cat({mean, largest}, -2) : (mean + largest) / 2;
  }
  std::vector<std::int64_t> sizes(y.sizes().begin(), y.sizes().end() - 1);
  sizes.insert(sizes.end(), windows.spatial.begin(), windows.spatial.end());
  return y.reshape(sizes);
}

}  // namespace cenote::torch_ops
