// GeM whose power is a tensor, and so may be learned: one p, or one per channel.
#include <ATen/ops/tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cenote/global.h"
#include "cenote/torch/ops.h"
#include "convert.h"
#include "derivatives.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

using TwoTensors = std::tuple<at::Tensor, at::Tensor>;
using Forward = at::Tensor(const at::Tensor& x, const at::Tensor& p, double eps);
using Backward = TwoTensors(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& p, double eps,
                            std::array<bool, 2> wanted);

/// "global_gem_pool2d"
std::string name_of(int rank) { return "global_gem_pool" + std::to_string(rank) + "d"; }

template <int kRank>
const OpInfo& gem() {
  static const OpInfo& op = op_named(name_of(kRank));
  return op;
}

template <int kRank>
const c10::TypedOperatorHandle<Forward>& forward_operator() {
  static const auto handle = c10::Dispatcher::singleton()
                                 .findSchemaOrThrow(("cenote::" + name_of(kRank)).c_str(), "tensor_p")
                                 .typed<Forward>();
  return handle;
}

template <int kRank>
const c10::TypedOperatorHandle<Backward>& backward_operator() {
  static const auto handle =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow(("cenote::" + name_of(kRank) + "_backward").c_str(), "tensor_p")
          .typed<Backward>();
  return handle;
}

GlobalGemPoolOptions options_of(const at::Tensor& p, double eps) {
  const at::Tensor powers = p.to(at::kDouble).contiguous();
  const auto* const first = powers.const_data_ptr<double>();
  return {.p = std::vector<double>(first, first + powers.numel()), .eps = eps};
}

OpArguments arguments_of(const GlobalGemPoolOptions& options) {
  OpArguments arguments;
  arguments.p = options.p;
  arguments.eps = options.eps;
  return arguments;
}

void check_power(const OpInfo& op, const at::Tensor& p) {
  TORCH_CHECK_VALUE(p.is_floating_point(), "[", op.name, "] p must be of a floating dtype, got ",
                    p.scalar_type());
  TORCH_CHECK_VALUE(p.dim() <= 1 && p.numel() > 0, "[", op.name,
                    "] p must be a number or a list of numbers, got sizes ", p.sizes());
}

template <int kRank>
at::Tensor run_forward(const at::Tensor& x, const at::Tensor& p, double eps) {
  check_power(gem<kRank>(), p);
  const at::AutoDispatchBelowAutograd recorded_already;
  if (x.is_meta()) return pool(gem<kRank>(), x);
  return pool(gem<kRank>(), x, arguments_of(options_of(p, eps)));
}

template <int kRank>
TwoTensors run_backward(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& p, double eps,
                        std::array<bool, 2> wanted) {
  const OpInfo& op = gem<kRank>();
  check_power(op, p);
  return translate_errors([&]() -> TwoTensors {
    at::Tensor grad_x, grad_p;
    if (wanted[0]) grad_x = empty_dense(sizes_of(x), x.scalar_type(), x, is_channels_last(x, kRank), kRank);
    if (x.is_meta()) return {grad_x, wanted[1] ? at::empty_like(p) : grad_p};
    const GlobalGemPoolOptions options = options_of(p, eps);
    const ConstTensorView gradient = const_view(grad_y, op, "grad_output");
    const ConstTensorView kept = const_view(x, op, "input");
    if (wanted[0])
      op.backward(mutable_view(grad_x, op, "grad_input"), gradient, &kept, arguments_of(options));
    if (wanted[1]) {
      const std::vector<double> slopes = global_gem_pool_p_gradient(gradient, kept, kRank, options);
      grad_p = at::tensor(slopes, p.options()).reshape(p.sizes());
    }
    return {grad_x, grad_p};
  });
}

/// The op as torch's own operators. As in expanded.cc, the elements are divided by the largest, and f16 and
/// bf16 computed in f32.
at::Tensor expression(const at::Tensor& x, const at::Tensor& p, double eps, int rank) {
  if (at::isReducedFloatingType(x.scalar_type()))
    return expression(x.to(at::kFloat), p, eps, rank).to(x.scalar_type());
  const at::Tensor powers = (p.numel() == 1 ? p.reshape({}) : p.reshape({-1, 1})).to(x.scalar_type());
  const at::Tensor clamped = x.flatten(-rank).clamp_min(eps);
  const at::Tensor largest = clamped.detach().amax(-1, true);
  const at::Tensor scale = at::where(largest.isfinite(), largest, at::ones_like(largest));
  const at::Tensor mean = clamped.div(scale).log().mul(powers).expm1().mean(-1, true);
  std::vector<std::int64_t> sizes(x.sizes().begin(), x.sizes().end());
  std::fill(sizes.end() - rank, sizes.end(), 1);
  return mean.log1p().div(powers).exp().mul(scale).reshape(sizes);
}

template <int kRank>
std::shared_ptr<const Derivatives> derivatives_of(double eps) {
  return std::make_shared<Derivatives>(Derivatives{
      .name = name_of(kRank),
      .expression =
          [eps](const variable_list& inputs) { return expression(inputs[0], inputs[1], eps, kRank); },
      .gradients = [eps](const at::Tensor& grad_y, const variable_list& inputs,
                         const std::vector<bool>& wanted) -> variable_list {
        auto [grad_x, grad_p] =
            backward_operator<kRank>().call(grad_y, inputs[0], inputs[1], eps, {wanted[0], wanted[1]});
        return {grad_x, grad_p};
      }});
}

template <int kRank>
at::Tensor record_forward(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& p, double eps) {
  const at::Tensor y = forward_operator<kRank>().redispatch(keys & c10::after_autograd_keyset, x, p, eps);
  if (is_differentiated(x) || is_differentiated(p)) record_value(y, {x, p}, derivatives_of<kRank>(eps));
  return y;
}

template <int kRank>
TwoTensors record_backward(c10::DispatchKeySet keys, const at::Tensor& grad_y, const at::Tensor& x,
                           const at::Tensor& p, double eps, std::array<bool, 2> wanted) {
  const TwoTensors gradients =
      backward_operator<kRank>().redispatch(keys & c10::after_autograd_keyset, grad_y, x, p, eps, wanted);
  if (is_differentiated(grad_y) || is_differentiated(x) || is_differentiated(p)) {
    const auto& [grad_x, grad_p] = gradients;
    record_gradients({grad_x, grad_p}, grad_y, {x, p}, derivatives_of<kRank>(eps));
  }
  return gradients;
}

template <int kRank>
void add_gem(torch::Library& library) {
  const std::string forward = name_of(kRank) + ".tensor_p";
  const std::string backward = name_of(kRank) + "_backward.tensor_p";
  library.def((forward + "(Tensor input, Tensor p, float eps=1e-06) -> Tensor").c_str());
  library.def((backward + "(Tensor grad_output, Tensor input, Tensor p, float eps, bool[2] output_mask) -> "
                          "(Tensor, Tensor)")
                  .c_str());
  for (const auto key : {c10::DispatchKey::CPU, c10::DispatchKey::Meta}) {
    library.impl(forward.c_str(), torch::dispatch(key, TORCH_FN((run_forward<kRank>))));
    library.impl(backward.c_str(), torch::dispatch(key, TORCH_FN((run_backward<kRank>))));
  }
  library.impl(forward.c_str(),
               torch::dispatch(c10::DispatchKey::Autograd, TORCH_FN((record_forward<kRank>))));
  library.impl(backward.c_str(),
               torch::dispatch(c10::DispatchKey::Autograd, TORCH_FN((record_backward<kRank>))));
}

TORCH_LIBRARY_FRAGMENT(cenote, library) {
  add_gem<1>(library);
  add_gem<2>(library);
  add_gem<3>(library);
}

}  // namespace

at::Tensor global_gem_pool1d(const at::Tensor& x, const at::Tensor& p, double eps) {
  return forward_operator<1>().call(x, p, eps);
}
at::Tensor global_gem_pool2d(const at::Tensor& x, const at::Tensor& p, double eps) {
  return forward_operator<2>().call(x, p, eps);
}
at::Tensor global_gem_pool3d(const at::Tensor& x, const at::Tensor& p, double eps) {
  return forward_operator<3>().call(x, p, eps);
}

}  // namespace cenote::torch_ops
