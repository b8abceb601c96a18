// The kernels behind the operators, boxed: one class for all rows of the registry.
#pragma once

#include <ATen/core/boxing/OperatorKernel.h>

#include <span>

#include "operators.h"

namespace cenote::torch_ops {

/// CPU and Meta: checks, allocates, and computes unless the tensors are meta.
class DeviceKernel : public c10::OperatorKernel {
 public:
  DeviceKernel(const OpInfo& op, Form form) : op_(op), form_(form) {}
  void operator()(const c10::OperatorHandle& self, c10::DispatchKeySet keys, Stack* stack) const;

 private:
  const OpInfo& op_;
  Form form_;
};

/// Autograd: records the backward where a gradient is wanted, else passes straight on.
class AutogradKernel : public c10::OperatorKernel {
 public:
  AutogradKernel(const OpInfo& op, Form form) : op_(op), form_(form) {}
  void operator()(const c10::OperatorHandle& self, c10::DispatchKeySet keys, Stack* stack) const;

 private:
  const OpInfo& op_;
  Form form_;
};

/// The samples of a forward whose inputs end with them and with a seed: the given ones, without those of
/// images that x has not, or as torch draws them. Undefined where a seed takes their place.
at::Tensor samples_for(const OpInfo& op, std::span<const c10::IValue> inputs);

/// The derivative of a max backward: grad_grad_x gathered at the recorded positions, 0 where there is none.
/// Made of torch's own differentiable ops.
at::Tensor gather_at_record(const OpInfo& op, const at::Tensor& grad_grad_x, const at::Tensor& record,
                            const OpArguments& arguments);

/// i64 indices into planes of a tensor of `sizes` as positions inside their plane; -1 stays.
at::Tensor plane_positions(const OpInfo& op, const at::Tensor& indices, const Dims& sizes, IndexOrder order);

/// The derivative of the backward of an op that reads indices: grad_grad_x added up where they say.
at::Tensor scatter_at_indices(const OpInfo& op, const at::Tensor& grad_grad_x, const at::Tensor& indices,
                              const OpArguments& arguments);

}  // namespace cenote::torch_ops
