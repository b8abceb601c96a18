// Global pooling, front: checks the arguments, infers the shapes, calls the backend.
#include "cenote/global.h"

#include "backend.h"
#include "ops/pool_front.h"

namespace cenote {

namespace {

constexpr OpNames kMax{"global_max_pool1d", "global_max_pool2d", "global_max_pool3d"};
constexpr OpNames kAvg{"global_avg_pool1d", "global_avg_pool2d", "global_avg_pool3d"};
constexpr OpNames kMaxBackward{"global_max_pool1d_backward", "global_max_pool2d_backward",
                               "global_max_pool3d_backward"};
constexpr OpNames kAvgBackward{"global_avg_pool1d_backward", "global_avg_pool2d_backward",
                               "global_avg_pool3d_backward"};

Dims infer_sizes(const OpName& op, const Dims& x_sizes) {
  check_input_sizes(op, x_sizes);
  return with_spatial_sizes(op, x_sizes, {1, 1, 1});
}

void max_into(const OpName& op, const TensorView& y, const ConstTensorView& x, const TensorView* indices) {
  run_max(op, y, indices, x, infer_sizes(op, x.sizes), DType::i64, Order::kAscending,
          [](const Backend& loops, const Tensor5& to, const Tensor5* record, const ConstTensor5& from) {
            loops.global.max(to, record, from);
          });
}

Tensor max(const OpName& op, const ConstTensorView& x) {
  Tensor y = make_output(op, x, infer_sizes(op, x.sizes));
  max_into(op, y, x, nullptr);
  return y;
}

MaxPoolResult max_with_indices(const OpName& op, const ConstTensorView& x) {
  const Dims y_sizes = infer_sizes(op, x.sizes);
  MaxPoolResult result = make_outputs(op, x, y_sizes, DType::i64, DType::i64);
  max_into(op, result.values, x, &result.indices.view());
  return result;
}

void max_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                       const ConstTensorView& indices) {
  run_max_backward(op, grad_x, grad_y, indices, infer_sizes(op, grad_x.sizes), DType::i64,
                   [](const Backend& loops, const Tensor5& to, const ConstTensor5& from,
                      const ConstTensor5& record) { return loops.global.max_backward(to, from, record); });
}

Tensor max_backward(const OpName& op, const ConstTensorView& grad_y, const ConstTensorView& indices,
                    const Dims& x_sizes) {
  Tensor grad_x = make_gradient(op, grad_y, infer_sizes(op, x_sizes), x_sizes);
  max_backward_into(op, grad_x, grad_y, indices);
  return grad_x;
}

void avg_into(const OpName& op, const TensorView& y, const ConstTensorView& x) {
  run_avg(
      op, y, x, infer_sizes(op, x.sizes),
      [](const Backend& loops, const Tensor5& to, const ConstTensor5& from) { loops.global.avg(to, from); });
}

Tensor avg(const OpName& op, const ConstTensorView& x) {
  Tensor y = make_output(op, x, infer_sizes(op, x.sizes));
  avg_into(op, y, x);
  return y;
}

void avg_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y) {
  run_avg_backward(op, grad_x, grad_y, infer_sizes(op, grad_x.sizes),
                   [](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
                     loops.global.avg_backward(to, from);
                   });
}

Tensor avg_backward(const OpName& op, const ConstTensorView& grad_y, const Dims& x_sizes) {
  Tensor grad_x = make_gradient(op, grad_y, infer_sizes(op, x_sizes), x_sizes);
  avg_backward_into(op, grad_x, grad_y);
  return grad_x;
}

}  // namespace

// The public names differ in the spatial rank alone.
#define CENOTE_GLOBAL_OPS(RANK)                                                                           \
  Dims global_max_pool##RANK##d_shape(const Dims& x_sizes) {                                              \
    return infer_sizes(op_of(kMax, RANK), x_sizes);                                                       \
  }                                                                                                       \
  Tensor global_max_pool##RANK##d(const ConstTensorView& x) { return max(op_of(kMax, RANK), x); }         \
  MaxPoolResult global_max_pool##RANK##d_with_indices(const ConstTensorView& x) {                         \
    return max_with_indices(op_of(kMax, RANK), x);                                                        \
  }                                                                                                       \
  void global_max_pool##RANK##d_into(const TensorView& y, const ConstTensorView& x,                       \
                                     const TensorView* indices) {                                         \
    max_into(op_of(kMax, RANK), y, x, indices);                                                           \
  }                                                                                                       \
  Tensor global_max_pool##RANK##d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices, \
                                           const Dims& x_sizes) {                                         \
    return max_backward(op_of(kMaxBackward, RANK), grad_y, indices, x_sizes);                             \
  }                                                                                                       \
  void global_max_pool##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,    \
                                              const ConstTensorView& indices) {                           \
    max_backward_into(op_of(kMaxBackward, RANK), grad_x, grad_y, indices);                                \
  }                                                                                                       \
  Dims global_avg_pool##RANK##d_shape(const Dims& x_sizes) {                                              \
    return infer_sizes(op_of(kAvg, RANK), x_sizes);                                                       \
  }                                                                                                       \
  Tensor global_avg_pool##RANK##d(const ConstTensorView& x) { return avg(op_of(kAvg, RANK), x); }         \
  void global_avg_pool##RANK##d_into(const TensorView& y, const ConstTensorView& x) {                     \
    avg_into(op_of(kAvg, RANK), y, x);                                                                    \
  }                                                                                                       \
  Tensor global_avg_pool##RANK##d_backward(const ConstTensorView& grad_y, const Dims& x_sizes) {          \
    return avg_backward(op_of(kAvgBackward, RANK), grad_y, x_sizes);                                      \
  }                                                                                                       \
  void global_avg_pool##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y) {  \
    avg_backward_into(op_of(kAvgBackward, RANK), grad_x, grad_y);                                         \
  }

CENOTE_GLOBAL_OPS(1)
CENOTE_GLOBAL_OPS(2)
CENOTE_GLOBAL_OPS(3)
#undef CENOTE_GLOBAL_OPS

}  // namespace cenote
