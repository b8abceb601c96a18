// The ops as torch does them: its own kernels, or the expression that its users write where it has none.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <tuple>

#include "cases.h"

namespace cenote_bench {

/// Values, and indices where there are any.
using Output = std::tuple<at::Tensor, at::Tensor>;

struct Subject {
  using Backward =
      std::function<at::Tensor(const at::Tensor& grad_y, const at::Tensor& x, const at::Tensor& indices)>;

  /// Differentiable. Empty for an op that reads indices.
  std::function<at::Tensor(const at::Tensor& x)> forward;
  std::function<Output(const at::Tensor& x)> forward_indices = {};
  /// Empty for an expression, whose backward is autograd's.
  Backward backward = {};
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& indices)> unpool = {};

  bool is_expression() const { return forward && !backward; }
};

/// Throws std::logic_error for an op that torch is not compared on.
Subject subject_of(const Op& op);

}  // namespace cenote_bench
