// GeM whose power is a tensor, and so may be learned: one p, or one per channel.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cenote/global.h"
#include "cenote/torch/ops.h"
#include "convert.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

GlobalGemPoolOptions options_of(const at::Tensor& p, double eps) {
  const at::Tensor powers = p.detach().to(at::kDouble).contiguous();
  const auto* const first = powers.const_data_ptr<double>();
  return {.p = std::vector<double>(first, first + powers.numel()), .eps = eps};
}

OpArguments arguments_of(const GlobalGemPoolOptions& options) {
  OpArguments arguments;
  arguments.p = options.p;
  arguments.eps = options.eps;
  return arguments;
}

/// For second derivatives: the op as torch's own operators. As in expanded.cc, the elements are divided by
/// the largest, and f16 and bf16 computed in f32.
at::Tensor expression(const at::Tensor& x, const at::Tensor& p, double eps, int rank) {
  if (at::isReducedFloatingType(x.scalar_type()))
    return expression(x.to(at::kFloat), p, eps, rank).to(x.scalar_type());
  const at::Tensor powers = (p.numel() == 1 ? p.reshape({}) : p.reshape({-1, 1})).to(x.scalar_type());
  const at::Tensor clamped = x.flatten(-rank).clamp_min(eps);
  const at::Tensor largest = clamped.detach().amax(-1, true);
  const at::Tensor scale = at::where(largest.isfinite(), largest, at::ones_like(largest));
  const at::Tensor mean = clamped.div(scale).pow(powers).mean(-1, true);
  std::vector<std::int64_t> sizes(x.sizes().begin(), x.sizes().end());
  std::fill(sizes.end() - rank, sizes.end(), 1);
  return mean.pow(powers.reciprocal()).mul(scale).reshape(sizes);
}

class Gem : public torch::autograd::Function<Gem> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& p, double eps,
                            const OpInfo* op) {
    context->save_for_backward({x, p});
    context->saved_data["eps"] = eps;
    context->saved_data["rank"] = static_cast<std::int64_t>(op->spatial_rank);
    context->saved_data["op"] = std::string(op->name);
    return pool(*op, x, arguments_of(options_of(p, eps)));
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& p = saved[1];
    const double eps = context->saved_data["eps"].toDouble();
    const int rank = static_cast<int>(context->saved_data["rank"].toInt());
    const OpInfo& op = op_named(context->saved_data["op"].toStringRef());
    variable_list result(4);
    if (at::GradMode::is_enabled()) {
      variable_list wanted;
      for (const std::size_t i : {0, 1})
        if (context->needs_input_grad(i)) wanted.push_back(saved[i]);
      const variable_list found =
          torch::autograd::grad({expression(x, p, eps, rank)}, wanted, {gradients[0]}, /*retain_graph=*/true,
                                /*create_graph=*/true);
      std::size_t next = 0;
      for (const std::size_t i : {0, 1})
        if (context->needs_input_grad(i)) result[i] = found[next++];
      return result;
    }
    const GlobalGemPoolOptions options = options_of(p, eps);
    const at::Tensor gradient = gradients[0].contiguous();
    if (context->needs_input_grad(0)) {
      const at::Tensor grad_x = empty_dense(sizes_of(x), x.scalar_type(), x, is_channels_last(x, rank), rank);
      const ConstTensorView kept = const_view(x, op, "input");
      op.backward(mutable_view(grad_x, op, "grad_input"), const_view(gradient, op, "grad_output"), &kept,
                  arguments_of(options));
      result[0] = grad_x;
    }
    if (context->needs_input_grad(1)) {
      const std::vector<double> slopes = global_gem_pool_p_gradient(
          const_view(gradient, op, "grad_output"), const_view(x, op, "input"), rank, options);
      result[1] = at::tensor(slopes, p.options().requires_grad(false)).reshape(p.sizes());
    }
    return result;
  }
};

at::Tensor gem_with(const OpInfo& op, const at::Tensor& x, const at::Tensor& p, double eps) {
  TORCH_CHECK_VALUE(p.is_floating_point(), "[", op.name, "] p must be of a floating dtype, got ",
                    p.scalar_type());
  TORCH_CHECK_VALUE(p.dim() <= 1 && p.numel() > 0, "[", op.name,
                    "] p must be a number or a list of numbers, got sizes ", p.sizes());
  if (x.is_meta()) return pool(op, x);
  return translate_errors([&] { return Gem::apply(x, p, eps, &op); });
}

}  // namespace

at::Tensor global_gem_pool1d(const at::Tensor& x, const at::Tensor& p, double eps) {
  return gem_with(op_named("global_gem_pool1d"), x, p, eps);
}
at::Tensor global_gem_pool2d(const at::Tensor& x, const at::Tensor& p, double eps) {
  return gem_with(op_named("global_gem_pool2d"), x, p, eps);
}
at::Tensor global_gem_pool3d(const at::Tensor& x, const at::Tensor& p, double eps) {
  return gem_with(op_named("global_gem_pool3d"), x, p, eps);
}

}  // namespace cenote::torch_ops
