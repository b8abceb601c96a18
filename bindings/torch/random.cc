// Pooling that draws random numbers, on torch's tensors.
#include "cenote/random.h"

#include <ATen/ops/rand.h>

#include "cenote/torch/ops.h"
#include "convert.h"
#include "kernels.h"
#include "operators.h"

namespace cenote::torch_ops {

namespace {

OpArguments to_arguments(const FractionalMaxPoolOptions& options) {
  OpArguments arguments;
  arguments.kernel = options.kernel;
  arguments.output_size = options.output_size;
  arguments.output_ratio = options.output_ratio;
  arguments.samples = options.samples;
  arguments.seed = options.seed;
  return arguments;
}

}  // namespace

at::Tensor samples_for(const OpInfo& op, std::span<const c10::IValue> inputs) {
  const at::Tensor x = inputs.front().toTensor();
  const Dims x_sizes = sizes_of(x);
  const c10::IValue& samples = inputs[inputs.size() - 2];
  const c10::IValue& seed = inputs[inputs.size() - 1];
  const bool batched = x_sizes.size() == op.spatial_rank + 2;
  if (!batched && x_sizes.size() != op.spatial_rank + 1) return {};  // refused later
  const std::int64_t images = batched ? x_sizes[0] : 1;
  if (!samples.isNone()) {
    const at::Tensor given = samples.toTensor();
    return given.dim() == 3 && given.size(0) > images ? given.narrow(0, 0, images) : given;
  }
  if (!seed.isNone() || !x.is_floating_point()) return {};
  return at::rand({images, x_sizes[batched ? 1 : 0], op.spatial_rank}, x.options());
}

at::Tensor fractional_max_pool2d(const at::Tensor& x, const FractionalMaxPoolOptions& options) {
  return pool(op_named("fractional_max_pool2d"), x, to_arguments(options));
}
at::Tensor fractional_max_pool3d(const at::Tensor& x, const FractionalMaxPoolOptions& options) {
  return pool(op_named("fractional_max_pool3d"), x, to_arguments(options));
}

ValuesAndIndices fractional_max_pool2d_with_indices(const at::Tensor& x,
                                                    const FractionalMaxPoolOptions& options) {
  return pool_with_indices(op_named("fractional_max_pool2d"), x, to_arguments(options));
}
ValuesAndIndices fractional_max_pool3d_with_indices(const at::Tensor& x,
                                                    const FractionalMaxPoolOptions& options) {
  return pool_with_indices(op_named("fractional_max_pool3d"), x, to_arguments(options));
}

}  // namespace cenote::torch_ops
