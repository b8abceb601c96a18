// Two nodes of torch's graph: of an operator, whose apply calls the operator for the gradients, and of that
// one, whose apply differentiates the expression twice.
#include "derivatives.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/alias.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <utility>

namespace cenote::torch_ops {

namespace {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using SharedDerivatives = std::shared_ptr<const Derivatives>;

/// A tensor that gradients can be taken of, with the history and the tangent that there are, and apart from
/// the others: the history of none leads through another, as that of grad_y does through x. Not by detach(),
/// which would also cut the levels of torch.func below this one.
at::Tensor as_variable(const at::Tensor& tensor) {
  const at::Tensor variable = at::alias(tensor);
  if (!variable.requires_grad()) variable.set_requires_grad(true);
  return variable;
}

/// The gradients as an expression of grad_y and the inputs, which are all as_variable.
variable_list gradients_expression(const Derivatives& derivatives, const at::Tensor& grad_y,
                                   const variable_list& inputs) {
  return torch::autograd::grad({derivatives.expression(inputs)}, inputs, {grad_y}, /*retain_graph=*/true,
                               /*create_graph=*/true, /*allow_unused=*/true);
}

/// Tensors that a node keeps.
class Kept {
 public:
  explicit Kept(const variable_list& tensors) {
    for (const at::Tensor& tensor : tensors) tensors_.emplace_back(tensor, /*is_output=*/false);
  }
  variable_list unpack() const {
    variable_list tensors;
    for (const SavedVariable& saved : tensors_) tensors.push_back(saved.unpack());
    return tensors;
  }
  void release() {
    for (SavedVariable& saved : tensors_) saved.reset_data();
  }

 private:
  std::vector<SavedVariable> tensors_;
};

/// The gradient of y = op(inputs).
class ValueNode : public Node {
 public:
  ValueNode(const variable_list& inputs, SharedDerivatives derivatives)
      : Node(torch::autograd::collect_next_edges(inputs)),
        kept_(inputs),
        derivatives_(std::move(derivatives)) {}

  std::string name() const override { return derivatives_->name + "_backward"; }
  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.release();
  }

  variable_list apply(variable_list&& grad_y) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!grad_y[0].defined()) return variable_list(num_outputs());
    std::vector<bool> wanted(num_outputs());
    for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = task_should_compute_output(i);
    return derivatives_->gradients(grad_y[0], kept_.unpack(), wanted);
  }

 private:
  Kept kept_;
  SharedDerivatives derivatives_;
};

/// The gradient of the gradients, which are functions of grad_y and the inputs.
class GradientsNode : public Node {
 public:
  GradientsNode(const variable_list& grad_y_and_inputs, SharedDerivatives derivatives)
      : Node(torch::autograd::collect_next_edges(grad_y_and_inputs)),
        kept_(grad_y_and_inputs),
        derivatives_(std::move(derivatives)) {}

  std::string name() const override { return derivatives_->name + "_backward_backward"; }
  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.release();
  }

  variable_list apply(variable_list&& outer) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool create_graph = at::GradMode::is_enabled();
    const at::AutoGradMode enabled(true);
    variable_list variables;
    for (const at::Tensor& tensor : kept_.unpack()) variables.push_back(as_variable(tensor));
    const variable_list inputs(variables.begin() + 1, variables.end());
    const variable_list gradients = gradients_expression(*derivatives_, variables[0], inputs);

    variable_list of, outer_of, wanted;
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (!outer[i].defined() || !gradients[i].defined()) continue;
      of.push_back(gradients[i]);
      outer_of.push_back(outer[i]);
    }
    for (std::size_t i = 0; i < num_outputs(); ++i)
      if (task_should_compute_output(i)) wanted.push_back(variables[i]);
    variable_list result(num_outputs());
    if (of.empty() || wanted.empty()) return result;
    const variable_list found = torch::autograd::grad(of, wanted, outer_of, /*retain_graph=*/create_graph,
                                                      create_graph, /*allow_unused=*/true);
    for (std::size_t i = 0, next = 0; i < num_outputs(); ++i)
      if (task_should_compute_output(i)) result[i] = found[next++];
    return result;
  }

 private:
  Kept kept_;
  SharedDerivatives derivatives_;
};

bool any_of(const variable_list& tensors, bool (*property)(const at::Tensor&)) {
  return std::any_of(tensors.begin(), tensors.end(), property);
}

bool has_tangent(const at::Tensor& tensor) { return tangent_of(tensor).defined(); }

}  // namespace

void record_value(const at::Tensor& y, const variable_list& inputs, const SharedDerivatives& derivatives) {
  if (any_of(inputs, records_gradient))
    torch::autograd::set_history(y, c10::make_intrusive<ValueNode>(inputs, derivatives));
  if (any_of(inputs, has_tangent)) set_tangent(y, tangent_of(derivatives->expression(inputs)));
}

void record_gradients(const variable_list& gradients, const at::Tensor& grad_y, const variable_list& inputs,
                      const SharedDerivatives& derivatives) {
  variable_list all{grad_y};
  all.insert(all.end(), inputs.begin(), inputs.end());
  const bool recorded = any_of(all, records_gradient);
  if (recorded) {
    const auto node = c10::make_intrusive<GradientsNode>(all, derivatives);
    for (const at::Tensor& gradient : gradients) torch::autograd::set_history(gradient, node);
  }
  if (!any_of(all, has_tangent)) return;
  const at::AutoGradMode enabled(true);
  for (at::Tensor& tensor : all) tensor = as_variable(tensor);
  const variable_list found =
      gradients_expression(*derivatives, all[0], variable_list(all.begin() + 1, all.end()));
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined() || !found[i].defined()) continue;
    const at::Tensor tangent = tangent_of(found[i]);
    if (!tangent.defined()) continue;
    const at::AutoGradMode history(recorded);
    set_tangent(gradients[i], recorded ? tangent : tangent.clone());
  }
}

}  // namespace cenote::torch_ops
