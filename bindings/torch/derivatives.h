// Derivatives of operators whose gradient depends on their inputs. The gradient is an operator of its own,
// with a kernel; its derivatives and all tangents are those of an expression of torch's operators.
#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cenote::torch_ops {

using torch::autograd::variable_list;

/// What torch has to know of y = op(inputs).
struct Derivatives {
  std::string name;
  /// y as torch differentiates it any number of times.
  std::function<at::Tensor(const variable_list& inputs)> expression;
  /// The operator for the gradients of the inputs. Those not wanted may be undefined.
  std::function<variable_list(const at::Tensor& grad_y, const variable_list& inputs,
                              const std::vector<bool>& wanted)>
      gradients;
};

/// Gives y = op(inputs), computed below autograd, its history and its tangent.
void record_value(const at::Tensor& y, const variable_list& inputs,
                  const std::shared_ptr<const Derivatives>& derivatives);

/// The same for the gradients of the inputs, of which some may be undefined.
void record_gradients(const variable_list& gradients, const at::Tensor& grad_y, const variable_list& inputs,
                      const std::shared_ptr<const Derivatives>& derivatives);

/// Whether torch records the history of what is computed from the tensor.
inline bool records_gradient(const at::Tensor& tensor) {
  return at::GradMode::is_enabled() && tensor.requires_grad();
}

/// The tangent of forward-mode differentiation, of which torch has one level.
inline at::Tensor tangent_of(const at::Tensor& tensor) { return tensor._fw_grad(/*level=*/0); }
inline void set_tangent(const at::Tensor& tensor, const at::Tensor& tangent) {
  tensor._set_fw_grad(tangent, /*level=*/0, /*is_inplace_op=*/false);
}

/// Whether a call with the tensor has to be recorded, or has a tangent.
inline bool is_differentiated(const at::Tensor& tensor) {
  return records_gradient(tensor) || tangent_of(tensor).defined();
}

}  // namespace cenote::torch_ops
