// Max unpooling as torch operators: torch's argument names and defaults. As in torch, output_size may hold
// the spatial sizes alone or all sizes of a batched result, of which the first two are not looked at.
#include "cenote/unpool.h"

#include <ATen/ops/zeros.h>

#include "cenote/torch/ops.h"
#include "convert.h"
#include "kernels.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

std::string positional(const std::string& rank) {
  const std::string ints = ", int[" + rank + "] ";
  return ints + "kernel_size" + ints + "stride=[]" + ints + "padding=0, int[]? output_size=None";
}
std::string keyword(const std::string& /*rank*/) { return {}; }

void pack(Stack& stack, const OpArguments& arguments) {
  for (const Dims* dims : {&arguments.kernel, &arguments.stride, &arguments.padding}) {
    stack.emplace_back(to_array_ref(*dims));
  }
  if (arguments.output_size.empty()) {
    stack.emplace_back();
  } else {
    stack.emplace_back(to_array_ref(arguments.output_size));
  }
}

template <int kRank>
OpArguments unpack(std::span<const c10::IValue> values) {
  OpArguments arguments;
  arguments.kernel = to_dims(values[0].toDimVector());
  arguments.stride = to_dims(values[1].toDimVector());
  arguments.padding = to_dims(values[2].toDimVector());
  if (values[3].isNone()) return arguments;
  const auto sizes = values[3].toDimVector();
  // An empty list means the default size to cenote, and is a mistake here.
  TORCH_CHECK_VALUE(!sizes.empty(), "[max_unpool", kRank, "d] output_size must have 1, ", kRank, " or ",
                    kRank + 2, " values, got []");
  arguments.output_size = to_dims(at::IntArrayRef(sizes).slice(sizes.size() == kRank + 2 ? 2 : 0));
  return arguments;
}

OpArguments to_arguments(const MaxUnpoolOptions& options) {
  OpArguments arguments;
  arguments.kernel = options.kernel;
  arguments.stride = options.stride;
  arguments.padding = options.padding;
  arguments.output_size = options.output_size;
  return arguments;
}

}  // namespace

constinit const std::array<Signature, 3> kUnpoolSignatures{{{4, positional, keyword, pack, unpack<1>},
                                                            {4, positional, keyword, pack, unpack<2>},
                                                            {4, positional, keyword, pack, unpack<3>}}};

at::Tensor scatter_at_indices(const OpInfo& op, const at::Tensor& grad_grad_x, const at::Tensor& indices,
                              const OpArguments& arguments) {
  const Dims y_sizes = op.shape(sizes_of(grad_grad_x), arguments);
  const at::Tensor plane = at::zeros(to_array_ref(y_sizes), grad_grad_x.options()).flatten(-op.spatial_rank);
  return plane.scatter_add(-1, indices.flatten(-op.spatial_rank), grad_grad_x.flatten(-op.spatial_rank))
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
