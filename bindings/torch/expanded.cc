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

/// Positions of the elements of each window along one axis, row by row, those of smaller windows followed by
/// -1.
at::Tensor positions_along(const OpInfo& op, int axis, std::int64_t in, std::int64_t out,
                           const OpArguments& a, const at::Tensor& x) {
  std::vector<std::vector<std::int64_t>> windows(static_cast<std::size_t>(out));
  if (op.parameters & kTakesWindow) {
    const std::int64_t kernel = value_at(a.kernel, axis);
    const std::int64_t stride = a.stride.empty() ? kernel : value_at(a.stride, axis);
    const std::int64_t dilation = value_at(a.dilation, axis);
    const std::int64_t padding = begin_padding(a, axis, in, out);
    for (std::int64_t o = 0; o < out; ++o) {
      const std::int64_t start = o * stride - padding;
      const std::int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
      for (std::int64_t j = first; j < kernel && start + j * dilation < in; ++j)
        windows[static_cast<std::size_t>(o)].push_back(start + j * dilation);
    }
  } else {  // adaptive, or global with one output
    for (std::int64_t o = 0; o < out; ++o)
      for (std::int64_t i = o * in / out; i < ((o + 1) * in + out - 1) / out; ++i)
        windows[static_cast<std::size_t>(o)].push_back(i);
  }
  std::size_t longest = 1;
  for (const auto& window : windows) longest = std::max(longest, window.size());
  std::vector<std::int64_t> table;
  for (auto& window : windows) {
    window.resize(longest, -1);
    table.insert(table.end(), window.begin(), window.end());
  }
  return constant(table, x).view({out, static_cast<std::int64_t>(longest)});
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
  at::Tensor flat = at::zeros({1, 1}, x.options().dtype(at::kLong));
  at::Tensor real = at::ones({1, 1}, x.options().dtype(at::kBool));
  for (int axis = 0; axis < rank; ++axis) {
    const std::int64_t in = x_sizes[first + axis];
    const std::int64_t out = y_sizes[first + axis];
    windows.spatial.push_back(out);
    const at::Tensor along = positions_along(op, axis, in, out, arguments, x);
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

at::Tensor scalar(const at::Tensor& like, double value) { return at::full({}, value, like.options()); }

/// What terms are divided by: a constant for derivatives, which a homogeneous function does not notice.
at::Tensor scale_of(const at::Tensor& magnitudes) {
  const at::Tensor largest = magnitudes.detach().amax(-1, true);
  return at::where(largest.isfinite().logical_and(largest > 0), largest, scalar(largest, 1));
}

/// (sum |x|^p)^(1/p), the terms scaled by the largest. Where |x|^p has no derivatives, at 0, they are 0.
at::Tensor lp(const Windows& windows, double p) {
  const at::Tensor& x = windows.values;
  const at::Tensor zero = scalar(x, 0);
  const at::Tensor one = scalar(x, 1);
  const at::Tensor counted = is_even(p) ? windows.real : windows.real.logical_and(x != 0);
  const at::Tensor magnitudes = at::where(counted, x.abs(), zero);
  if (p == std::numeric_limits<double>::infinity()) return std::get<0>(magnitudes.max(-1));
  if (p == 1) return magnitudes.sum(-1);
  const at::Tensor scale = scale_of(magnitudes);
  const at::Tensor base = at::where(counted, is_even(p) ? x : x.abs(), one).div(scale);
  const at::Tensor sum = at::where(counted, base.pow(p), zero).sum(-1);
  const at::Tensor y = at::where(sum != 0, sum, one).pow(1 / p) * scale.squeeze(-1);
  return at::where(sum != 0, y, zero);
}

/// Elements with weights exp(sharpness x). Windows without one whose weight is above 0 are `empty`; they get
/// weights all the same, since torch's softmax of nothing is NaN, and so is its derivative.
struct Weighted {
  at::Tensor values;  // 0 where there is no weight
  at::Tensor logits;  // of the values less the largest
  at::Tensor largest;
  at::Tensor empty;
};

Weighted weigh(const Windows& windows, double sharpness) {
  const double infinity = std::numeric_limits<double>::infinity();
  const at::Tensor& x = windows.values;
  const at::Tensor counted = windows.real.logical_and(x != -infinity);
  Weighted weighted;
  weighted.values = at::where(counted, x, scalar(x, 0));
  weighted.empty = counted.any(-1, true).logical_not();
  const at::Tensor largest = at::where(counted, x, scalar(x, -infinity)).detach().amax(-1, true);
  weighted.largest = at::where(weighted.empty, scalar(x, 0), largest);
  weighted.logits = at::where(counted.logical_or(weighted.empty),
                              (weighted.values - weighted.largest) * sharpness, scalar(x, -infinity));
  return weighted;
}

/// From the mean of exponentials less 1, which r near 0 does not round away.
at::Tensor log_sum_exp(const Windows& windows, double r) {
  const Weighted weighted = weigh(windows, r);
  const at::Tensor count = windows.real.sum(-1).to(windows.values.scalar_type()).clamp_min(1);
  const at::Tensor less_one = at::where(windows.real, weighted.logits.expm1(), scalar(windows.values, 0));
  const at::Tensor y = weighted.largest.squeeze(-1) + (less_one.sum(-1) / count).log1p() / r;
  return y.masked_fill(weighted.empty.squeeze(-1), -std::numeric_limits<double>::infinity());
}

at::Tensor soft(const Windows& windows, double t) {
  const Weighted weighted = weigh(windows, t);
  const at::Tensor y = (weighted.logits.softmax(-1) * weighted.values).sum(-1);
  const at::Tensor no_elements = windows.real.any(-1).logical_not();
  const at::Tensor lowest =
      y.masked_fill(weighted.empty.squeeze(-1), -std::numeric_limits<double>::infinity());
  return lowest.masked_fill(no_elements, 0);
}

/// From mean(ratio^p) - 1, which p near 0 does not round away.
at::Tensor gem(const Windows& windows, const OpArguments& arguments) {
  const std::vector<double> powers = arguments.p.empty() ? GlobalGemPoolOptions{}.p : arguments.p;
  at::Tensor p = constant(powers, windows.values).to(windows.values.scalar_type());
  if (powers.size() > 1) p = p.view({-1, 1, 1});
  const at::Tensor clamped = windows.values.clamp_min(arguments.eps);
  const at::Tensor scale = scale_of(clamped);
  const at::Tensor mean = clamped.div(scale).log().mul(p).expm1().mean(-1, true);
  return mean.log1p().div(p).exp().mul(scale).squeeze(-1);
}

/// With derivatives of 0 where the deviation is 0.
at::Tensor deviation(const Windows& windows) {
  const at::Tensor apart = windows.values - windows.values.mean(-1, true);
  const at::Tensor scale = scale_of(apart.abs());
  const at::Tensor ratio = apart.div(scale);
  const at::Tensor variance = ratio.mul(ratio).mean(-1);
  const at::Tensor root = at::where(variance != 0, variance, scalar(variance, 1)).sqrt();
  return at::where(variance != 0, root * scale.squeeze(-1), scalar(variance, 0));
}

/// The largest element of each window, a NaN if there is one; the last of several NaN, as max pooling has it,
/// but the first of several equal elements.
at::Tensor largest_or_last_nan(const at::Tensor& values) {
  const at::Tensor nan = values.detach().isnan();
  const at::Tensor from_end = nan.flip(-1).to(at::kByte).argmax(-1, true);
  const at::Tensor last_nan = values.size(-1) - 1 - from_end;
  const at::Tensor chosen = at::where(nan.any(-1, true), last_nan, values.detach().argmax(-1, true));
  return values.gather(-1, chosen).squeeze(-1);
}

}  // namespace

at::Tensor expanded(const OpInfo& op, const at::Tensor& x, const OpArguments& arguments) {
  // As the kernels do: in f32, and rounded once.
  if (at::isReducedFloatingType(x.scalar_type()))
    return expanded(op, x.to(at::kFloat), arguments).to(x.scalar_type());
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
    y = named("catavgmax") ? at::cat({mean, largest_or_last_nan(windows.values)}, -2)
                           : (mean + std::get<0>(windows.values.max(-1))) / 2;
  }
  std::vector<std::int64_t> sizes(y.sizes().begin(), y.sizes().end() - 1);
  sizes.insert(sizes.end(), windows.spatial.begin(), windows.spatial.end());
  return y.reshape(sizes);
}

}  // namespace cenote::torch_ops
