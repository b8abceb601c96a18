// torch has no one-dimensional backward: it, too, takes a row for a plane of height 1.
#include "subjects.h"

#include <ATen/ATen.h>
#include <torch/nn/functional/pooling.h>

#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cenote/random.h"

namespace cenote_bench {

namespace {

using Sizes = std::vector<std::int64_t>;

Sizes filled(const cenote::Dims& dims, int rank) {
  if (dims.size() == 1) return Sizes(static_cast<std::size_t>(rank), dims[0]);
  return {dims.begin(), dims.end()};
}

struct Axes {
  Sizes kernel, stride, padding, dilation;
  bool ceil_mode = false;
  bool include_padding = true;
};

Axes axes_of(const Op& op, int rank) {
  const cenote::OpArguments& from = op.arguments;
  return {filled(from.kernel, rank),
          filled(from.stride, rank),
          filled(from.padding, rank),
          filled(from.dilation, rank),
          from.ceil_mode,
          from.count_include_pad};
}

/// The same on a plane of height 1.
Axes as_plane(Axes axes) {
  axes.kernel.insert(axes.kernel.begin(), 1);
  axes.stride.insert(axes.stride.begin(), 1);
  axes.padding.insert(axes.padding.begin(), 0);
  axes.dilation.insert(axes.dilation.begin(), 1);
  return axes;
}

/// torch's functions for one rank.
template <class Forward, class WithIndices, class Backward>
Subject max_windows(const Axes& a, Forward forward, WithIndices with_indices, Backward backward) {
  return {
      [=](const at::Tensor& x) { return forward(x, a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode); },
      [=](const at::Tensor& x) {
        return with_indices(x, a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode);
      },
      [=](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& indices) {
        return backward(grad_y, x, a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode, indices);
      }};
}

template <class Forward, class Backward>
Subject avg_windows(const Axes& a, Forward forward, Backward backward) {
  return {[=](const at::Tensor& x) {
            return forward(x, a.kernel, a.stride, a.padding, a.ceil_mode, a.include_padding, std::nullopt);
          },
          {},
          [=](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor&) {
            return backward(grad_y, x, a.kernel, a.stride, a.padding, a.ceil_mode, a.include_padding,
                            std::nullopt);
          }};
}

Subject::Backward on_planes(const Subject::Backward& backward) {
  return [=](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& indices) {
    const at::Tensor record = indices.defined() ? indices.unsqueeze(2) : indices;
    return backward(grad_y.unsqueeze(2), x.unsqueeze(2), record).squeeze(2);
  };
}

Subject max_2d(const Axes& a) {
  return max_windows(a, at::max_pool2d, at::max_pool2d_with_indices, at::max_pool2d_with_indices_backward);
}

Subject avg_2d(const Axes& a) { return avg_windows(a, at::avg_pool2d, at::avg_pool2d_backward); }

Subject max_1d(const Axes& a) {
  Subject subject = max_2d(as_plane(a));
  subject.forward = [a](const at::Tensor& x) {
    return at::max_pool1d(x, a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode);
  };
  subject.forward_indices = [a](const at::Tensor& x) {
    return at::max_pool1d_with_indices(x, a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode);
  };
  subject.backward = on_planes(subject.backward);
  return subject;
}

Subject avg_1d(const Axes& a) {
  Subject subject = avg_2d(as_plane(a));
  subject.forward = [a](const at::Tensor& x) {
    return at::avg_pool1d(x, a.kernel, a.stride, a.padding, a.ceil_mode, a.include_padding);
  };
  subject.backward = on_planes(subject.backward);
  return subject;
}

Subject max_3d(const Axes& a) {
  return max_windows(a, at::max_pool3d, at::max_pool3d_with_indices, at::max_pool3d_with_indices_backward);
}

Subject avg_3d(const Axes& a) { return avg_windows(a, at::avg_pool3d, at::avg_pool3d_backward); }

/// torch's global average has no op of its own: its adaptive one turns into a mean, whose gradient is an
/// expanded quotient; written out here.
Subject global_average() {
  return {[](const at::Tensor& x) { return at::adaptive_avg_pool2d(x, {1, 1}); },
          {},
          [](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor&) {
            return grad_y.expand(x.sizes()) / static_cast<double>(x.size(2) * x.size(3));
          }};
}

Subject adaptive_average(const Sizes& size) {
  return {[size](const at::Tensor& x) { return at::adaptive_avg_pool2d(x, size); },
          {},
          [](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor&) {
            return at::_adaptive_avg_pool2d_backward(grad_y, x);
          }};
}

Subject adaptive_max(const Sizes& size) {
  return {[size](const at::Tensor& x) { return std::get<0>(at::adaptive_max_pool2d(x, size)); },
          [size](const at::Tensor& x) { return at::adaptive_max_pool2d(x, size); },
          [](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& indices) {
            return at::adaptive_max_pool2d_backward(grad_y, x, indices);
          }};
}

/// With the samples that cenote draws: both libraries make them in every call.
Subject fractional_max(const cenote::OpArguments& arguments) {
  const Sizes kernel = filled(arguments.kernel, 2);
  const auto outputs = [ratio = arguments.output_ratio.front()](const at::Tensor& x) {
    const auto scaled = [&](std::int64_t size) {
      return static_cast<std::int64_t>(static_cast<double>(size) * ratio);
    };
    return Sizes{scaled(x.size(2)), scaled(x.size(3))};
  };
  const auto forward = [kernel, outputs, seed = arguments.seed](const at::Tensor& x) {
    const cenote::Tensor drawn = cenote::fractional_max_pool_samples(
        {x.size(0), x.size(1), x.size(2), x.size(3)}, 2, cenote::DType::f32, seed);
    const at::Tensor samples = at::from_blob(drawn.data<float>(), {x.size(0), x.size(1), 2});
    return at::fractional_max_pool2d(x, kernel, outputs(x), samples);
  };
  // torch's own indices are contiguous, and its backward reads all others as if they were.
  const auto contiguous = std::make_shared<std::map<const void*, at::Tensor>>();
  return {[forward](const at::Tensor& x) { return std::get<0>(forward(x)); }, forward,
          [=](const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& indices) {
            at::Tensor& as_rows = (*contiguous)[indices.const_data_ptr()];
            if (!as_rows.defined()) as_rows = indices.contiguous();
            return at::fractional_max_pool2d_backward(grad_y, x, kernel, outputs(x), as_rows);
          }};
}

/// Of 2x2 windows at stride 2.
Subject max_unpool() {
  Subject subject;
  subject.unpool = [](const at::Tensor& x, const at::Tensor& indices) {
    return at::max_unpool2d(x, indices, {2 * x.size(2), 2 * x.size(3)});
  };
  subject.backward = [](const at::Tensor& grad_y, const at::Tensor&, const at::Tensor& indices) {
    // torch's autograd does the same
    return grad_y.flatten(2).gather(2, indices.flatten(2)).view(indices.sizes());
  };
  return subject;
}

at::Tensor lp2(const at::Tensor& x) {
  namespace functional = torch::nn::functional;
  return functional::lp_pool2d(x, functional::LPPool2dFuncOptions(2, 3).stride(2));
}

at::Tensor soft(const at::Tensor& x) {
  const at::Tensor weights = x.exp();
  return at::avg_pool2d(weights * x, {2, 2}) / at::avg_pool2d(weights, {2, 2});
}

at::Tensor log_sum_exp(const at::Tensor& x) {
  constexpr double kSharpness = 10;  // the op's default
  return at::avg_pool2d((x * kSharpness).exp(), {2, 2}).log() / kSharpness;
}

at::Tensor median(const at::Tensor& x) {
  return std::get<0>(x.unfold(2, 3, 2).unfold(3, 3, 2).flatten(-2).median(-1));
}

at::Tensor global_gem(const at::Tensor& x) {
  return x.clamp_min(1e-6).pow(3).mean({2, 3}, true).pow(1.0 / 3);
}

at::Tensor global_std(const at::Tensor& x) { return x.std({2, 3}, /*unbiased=*/false, /*keepdim=*/true); }

at::Tensor global_norm(const at::Tensor& x) { return at::linalg_vector_norm(x, 2, {2, 3}, true); }

}  // namespace

Subject subject_of(const Op& op) {
  const std::string& name = op.name;
  if (name == "max_pool1d") return max_1d(axes_of(op, 1));
  if (name == "max_pool2d") return max_2d(axes_of(op, 2));
  if (name == "max_pool3d") return max_3d(axes_of(op, 3));
  if (name == "avg_pool1d") return avg_1d(axes_of(op, 1));
  if (name == "avg_pool2d") return avg_2d(axes_of(op, 2));
  if (name == "avg_pool3d") return avg_3d(axes_of(op, 3));
  if (name == "global_avg_pool2d") return global_average();
  if (name == "adaptive_avg_pool2d") return adaptive_average(filled(op.arguments.output_size, 2));
  if (name == "adaptive_max_pool2d") return adaptive_max(filled(op.arguments.output_size, 2));
  if (name == "fractional_max_pool2d") return fractional_max(op.arguments);
  if (name == "max_unpool2d") return max_unpool();
  if (name == "lp_pool2d") return {lp2};
  if (name == "soft_pool2d") return {soft};
  if (name == "lse_pool2d") return {log_sum_exp};
  if (name == "median_pool2d") return {median};
  if (name == "global_gem_pool2d") return {global_gem};
  if (name == "global_std_pool2d") return {global_std};
  if (name == "global_lp_pool2d") return {global_norm};
  throw std::logic_error("no counterpart of " + name + " in torch");
}

}  // namespace cenote_bench
