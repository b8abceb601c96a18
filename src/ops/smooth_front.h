// The calls of pooling whose gradient depends on the elements, the same for every family: a family resolves
// its options into a plan, the functions here check the tensors against it and run the loops.
#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include "core/check.h"
#include "ops/pool_front.h"

namespace cenote {

struct SmoothPlan {
  Dims y_sizes;
  std::optional<WindowAxes> window;  // none: adaptive or global
  SmoothKind kind;
  std::vector<double> parameters;
  double floor = 0;

  SmoothRule rule() const { return {kind, parameters, floor}; }
  const WindowAxes* axes() const { return window ? &*window : nullptr; }
};

/// p of an Lp pooling: above 0, infinity too.
inline double checked_norm_type(const OpName& op, double norm_type) {
  require(norm_type > 0, op.name, "norm_type must be > 0, got ", norm_type);
  return norm_type;
}

/// r of log-sum-exp or t of SoftPool: above 0 and finite.
inline double checked_sharpness(const OpName& op, double sharpness) {
  require(sharpness > 0 && std::isfinite(sharpness), op.name, "sharpness must be > 0 and finite, got ",
          sharpness);
  return sharpness;
}

inline void smooth_into(const OpName& op, const TensorView& y, const ConstTensorView& x,
                        const SmoothPlan& plan) {
  check_floating_dtype(op, "x", x.dtype);
  run_avg(op, y, x, plan.y_sizes, [&](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
    loops.smooth.forward(plan.rule(), to, from, plan.axes());
  });
}

inline Tensor smooth(const OpName& op, const ConstTensorView& x, const SmoothPlan& plan) {
  check_floating_dtype(op, "x", x.dtype);
  Tensor y = make_output(op, x, plan.y_sizes);
  smooth_into(op, y, x, plan);
  return y;
}

inline void smooth_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                                 const ConstTensorView& x, const SmoothPlan& plan) {
  check_floating_dtype(op, "x", x.dtype);
  check_same_dtype(op, "grad_x", grad_x.dtype, x.dtype);
  check_same_dtype(op, "grad_y", grad_y.dtype, x.dtype);
  check_sizes(op, "grad_y", grad_y.sizes, plan.y_sizes);
  const ConstTensor5 from = read_argument(op, "grad_y", grad_y);
  const ConstTensor5 values = read_argument(op, "x", x);
  const Tensor5 to = written_argument(op, "grad_x", grad_x, x.sizes);
  check_no_overlap(op, "grad_x", grad_x, "grad_y", grad_y);
  check_no_overlap(op, "grad_x", grad_x, "x", x);
  slopes_in_working_dtype(
      to, from, values,
      [&](const Backend& loops, const Tensor5& out, const ConstTensor5& gradient, const ConstTensor5& in) {
        loops.smooth.backward(plan.rule(), out, gradient, in, plan.axes());
      });
}

inline Tensor smooth_backward(const OpName& op, const ConstTensorView& grad_y, const ConstTensorView& x,
                              const SmoothPlan& plan) {
  Tensor grad_x = make_gradient(op, grad_y, plan.y_sizes, x.sizes);
  smooth_backward_into(op, grad_x, grad_y, x, plan);
  return grad_x;
}

// The public functions of one op, declared by CENOTE_SMOOTH_POOL in window.h. plan(op, x_sizes, options) is
// the family's.
#define CENOTE_SMOOTH(NAME, OPTIONS, RANK)                                                         \
  Dims NAME##RANK##d_shape(const Dims& x_sizes, const OPTIONS& options) {                          \
    return plan({#NAME #RANK "d", RANK}, x_sizes, options).y_sizes;                                \
  }                                                                                                \
  Tensor NAME##RANK##d(const ConstTensorView& x, const OPTIONS& options) {                         \
    const OpName op{#NAME #RANK "d", RANK};                                                        \
    return smooth(op, x, plan(op, x.sizes, options));                                              \
  }                                                                                                \
  void NAME##RANK##d_into(const TensorView& y, const ConstTensorView& x, const OPTIONS& options) { \
    const OpName op{#NAME #RANK "d", RANK};                                                        \
    smooth_into(op, y, x, plan(op, x.sizes, options));                                             \
  }                                                                                                \
  Tensor NAME##RANK##d_backward(const ConstTensorView& grad_y, const ConstTensorView& x,           \
                                const OPTIONS& options) {                                          \
    const OpName op{#NAME #RANK "d_backward", RANK};                                               \
    return smooth_backward(op, grad_y, x, plan(op, x.sizes, options));                             \
  }                                                                                                \
  void NAME##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,        \
                                   const ConstTensorView& x, const OPTIONS& options) {             \
    const OpName op{#NAME #RANK "d_backward", RANK};                                               \
    smooth_backward_into(op, grad_x, grad_y, x, plan(op, x.sizes, options));                       \
  }

}  // namespace cenote
