// Max unpooling on torch's tensors.
#include "cenote/unpool.h"

#include <ATen/ops/zeros.h>

#include "cenote/torch/ops.h"
#include "convert.h"
#include "kernels.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

OpArguments to_arguments(const MaxUnpoolOptions& options) {
  OpArguments arguments;
  arguments.kernel = options.kernel;
  arguments.stride = options.stride;
  arguments.padding = options.padding;
  arguments.output_size = options.output_size;
  arguments.index_order = options.index_order;
  return arguments;
}

}  // namespace

at::Tensor scatter_at_indices(const OpInfo& op, const at::Tensor& grad_grad_x, const at::Tensor& indices,
                              const OpArguments& arguments) {
  const Dims y_sizes = op.shape(sizes_of(grad_grad_x), arguments);
  const at::Tensor plane = at::zeros(to_array_ref(y_sizes), grad_grad_x.options()).flatten(-op.spatial_rank);
  const at::Tensor positions = plane_positions(op, indices, y_sizes, arguments.index_order);
  return plane.scatter_add(-1, positions.flatten(-op.spatial_rank), grad_grad_x.flatten(-op.spatial_rank))
      .reshape(to_array_ref(y_sizes));
}

at::Tensor max_unpool1d(const at::Tensor& x, const at::Tensor& indices, const MaxUnpoolOptions& options) {
  return unpool(op_named("max_unpool1d"), x, indices, to_arguments(options));
}
at::Tensor max_unpool2d(const at::Tensor& x, const at::Tensor& indices, const MaxUnpoolOptions& options) {
  return unpool(op_named("max_unpool2d"), x, indices, to_arguments(options));
}
at::Tensor max_unpool3d(const at::Tensor& x, const at::Tensor& indices, const MaxUnpoolOptions& options) {
  return unpool(op_named("max_unpool3d"), x, indices, to_arguments(options));
}

}  // namespace cenote::torch_ops
