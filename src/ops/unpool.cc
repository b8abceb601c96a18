// Max unpooling, front: checks the arguments, infers the size of y, calls the backend.
#include "cenote/unpool.h"

#include <cstdlib>

#include "backend.h"
#include "core/check.h"
#include "ops/index_order.h"
#include "ops/tensor_check.h"

namespace cenote {

namespace {

constexpr OpNames kMax{"max_unpool1d", "max_unpool2d", "max_unpool3d"};
constexpr OpNames kMaxBackward{"max_unpool1d_backward", "max_unpool2d_backward", "max_unpool3d_backward"};

using Spatial = std::array<std::int64_t, 3>;  // D, H, W

struct UnpoolAxis {
  std::int64_t kernel;
  std::int64_t stride;
  std::int64_t padding;
};

/// (size - 1) * stride + kernel - 2 * padding, which may be below 1.
std::int64_t default_size(std::string_view op, std::int64_t size, const UnpoolAxis& axis) {
  constexpr std::string_view kWhat = "default output size";
  const std::int64_t steps = checked_multiply(size - 1, axis.stride, op, kWhat);
  const std::int64_t unpadded = checked_add(steps, axis.kernel, op, kWhat);
  return checked_add(unpadded, -checked_multiply(2, axis.padding, op, kWhat), op, kWhat);
}

/// The options as D, H, W axes, checked.
std::array<UnpoolAxis, 3> resolve_axes(const OpName& op, const MaxUnpoolOptions& options) {
  const auto kernel = per_axis(op, "kernel", options.kernel, 1);
  const auto stride = options.stride.empty() ? kernel : per_axis(op, "stride", options.stride, 1);
  const auto padding = per_axis(op, "padding", options.padding, 0);
  std::array<UnpoolAxis, 3> axes{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const int index = static_cast<int>(axis) - (3 - op.spatial_rank);
    const auto at_least = [&](std::string_view argument, std::int64_t value, std::int64_t least) {
      require(value >= least, op.name, argument, '[', index, "] must be ", least > 0 ? "> 0" : ">= 0",
              ", got ", value);
    };
    axes[axis] = {kernel[axis], stride[axis], padding[axis]};
    at_least("kernel", axes[axis].kernel, 1);
    at_least("stride", axes[axis].stride, 1);
    at_least("padding", axes[axis].padding, 0);
  }
  return axes;
}

/// Sizes of y; throws when an axis has no output, or a requested one is too far from the default.
Dims infer_sizes(const OpName& op, const Dims& x_sizes, const MaxUnpoolOptions& options) {
  check_input_sizes(op, x_sizes);
  const std::array<UnpoolAxis, 3> axes = resolve_axes(op, options);
  const bool requested = !options.output_size.empty();
  const auto wanted = requested ? per_axis(op, "output_size", options.output_size, 1) : Spatial{};
  Spatial spatial = spatial_sizes(op, x_sizes);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const int index = static_cast<int>(axis) - (3 - op.spatial_rank);
    const UnpoolAxis& rule = axes[axis];
    const std::int64_t usual = default_size(op.name, spatial[axis], rule);
    if (!requested) {
      require(usual >= 1, op.name, "output size of spatial axis ", index, " must be >= 1, got ", usual,
              " for input size ", spatial[axis], ", kernel ", rule.kernel, ", stride ", rule.stride,
              ", padding ", rule.padding);
      spatial[axis] = usual;
      continue;
    }
    require(wanted[axis] >= 1, op.name, "output_size[", index, "] must be > 0, got ", wanted[axis]);
    const std::int64_t apart = checked_add(wanted[axis], -usual, op.name, "output_size");
    require(std::abs(apart) < rule.stride, op.name, "output_size[", index,
            "] must differ from the default size ", usual, " by less than the stride ", rule.stride, ", got ",
            wanted[axis]);
    spatial[axis] = wanted[axis];
  }
  return with_spatial_sizes(op, x_sizes, spatial);
}

/// i64, of the sizes of x.
void check_indices(const OpName& op, const ConstTensorView& indices, const Dims& x_sizes) {
  check_indices_dtype(op, indices.dtype, DType::i64);
  check_sizes(op, "indices", indices.sizes, x_sizes);
  read_argument(op, "indices", indices);
}

void check_index(const OpName& op, const std::optional<std::int64_t>& bad_index, const Dims& y_sizes) {
  if (!bad_index) return;
  const auto spatial = spatial_sizes(op, y_sizes);
  fail(ErrorCode::kInvalidArgument, op.name, "indices must lie in [0, ", spatial[0] * spatial[1] * spatial[2],
       "), the plane of y, got ", *bad_index);
}

void max_into(const OpName& op, const TensorView& y, const ConstTensorView& x, const ConstTensorView& indices,
              const MaxUnpoolOptions& options) {
  const Dims y_sizes = infer_sizes(op, x.sizes, options);
  check_pooled_dtype(op, "x", x.dtype);
  check_same_dtype(op, "y", y.dtype, x.dtype);
  const ConstTensor5 from = read_argument(op, "x", x);
  check_indices(op, indices, x.sizes);
  const Tensor5 to = written_argument(op, "y", y, y_sizes);
  check_no_overlap(op, "y", y, "x", x);
  check_no_overlap(op, "y", y, "indices", indices);
  Tensor converted;
  const ConstTensor5 record = read_argument(
      op, "indices",
      to_plane_positions(op, indices, y_sizes, options.index_order, NoElement::kRefused, converted));
  check_index(op, backend().unpool.max(to, from, record), y_sizes);
}

Tensor max(const OpName& op, const ConstTensorView& x, const ConstTensorView& indices,
           const MaxUnpoolOptions& options) {
  const Dims y_sizes = infer_sizes(op, x.sizes, options);
  check_pooled_dtype(op, "x", x.dtype);
  read_argument(op, "x", x);
  check_indices(op, indices, x.sizes);
  Tensor y = output_like(op, x.dtype, y_sizes, x);
  max_into(op, y, x, indices, options);
  return y;
}

void max_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                       const ConstTensorView& indices, const MaxUnpoolOptions& options) {
  const Dims y_sizes = infer_sizes(op, grad_x.sizes, options);
  check_floating_dtype(op, "grad_x", grad_x.dtype);
  check_same_dtype(op, "grad_y", grad_y.dtype, grad_x.dtype);
  check_sizes(op, "grad_y", grad_y.sizes, y_sizes);
  const ConstTensor5 from = read_argument(op, "grad_y", grad_y);
  check_indices(op, indices, grad_x.sizes);
  const Tensor5 to = written_argument(op, "grad_x", grad_x, grad_x.sizes);
  check_no_overlap(op, "grad_x", grad_x, "grad_y", grad_y);
  check_no_overlap(op, "grad_x", grad_x, "indices", indices);
  Tensor converted;
  const ConstTensor5 record = read_argument(
      op, "indices",
      to_plane_positions(op, indices, y_sizes, options.index_order, NoElement::kRefused, converted));
  check_index(op, backend().unpool.max_backward(to, from, record), y_sizes);
}

Tensor max_backward(const OpName& op, const ConstTensorView& grad_y, const ConstTensorView& indices,
                    const MaxUnpoolOptions& options) {
  check_sizes(op, "grad_y", grad_y.sizes, infer_sizes(op, indices.sizes, options));
  check_floating_dtype(op, "grad_y", grad_y.dtype);
  read_argument(op, "grad_y", grad_y);
  check_indices(op, indices, indices.sizes);
  Tensor grad_x = output_like(op, grad_y.dtype, indices.sizes, grad_y);
  max_backward_into(op, grad_x, grad_y, indices, options);
  return grad_x;
}

}  // namespace

// The public names differ in the spatial rank alone.
#define CENOTE_UNPOOL_OPS(RANK)                                                                             \
  Dims max_unpool##RANK##d_shape(const Dims& x_sizes, const MaxUnpoolOptions& options) {                    \
    return infer_sizes(op_of(kMax, RANK), x_sizes, options);                                                \
  }                                                                                                         \
  Tensor max_unpool##RANK##d(const ConstTensorView& x, const ConstTensorView& indices,                      \
                             const MaxUnpoolOptions& options) {                                             \
    return max(op_of(kMax, RANK), x, indices, options);                                                     \
  }                                                                                                         \
  void max_unpool##RANK##d_into(const TensorView& y, const ConstTensorView& x,                              \
                                const ConstTensorView& indices, const MaxUnpoolOptions& options) {          \
    max_into(op_of(kMax, RANK), y, x, indices, options);                                                    \
  }                                                                                                         \
  Tensor max_unpool##RANK##d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,        \
                                      const MaxUnpoolOptions& options) {                                    \
    return max_backward(op_of(kMaxBackward, RANK), grad_y, indices, options);                               \
  }                                                                                                         \
  void max_unpool##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,           \
                                         const ConstTensorView& indices, const MaxUnpoolOptions& options) { \
    max_backward_into(op_of(kMaxBackward, RANK), grad_x, grad_y, indices, options);                         \
  }

CENOTE_UNPOOL_OPS(1)
CENOTE_UNPOOL_OPS(2)
CENOTE_UNPOOL_OPS(3)
#undef CENOTE_UNPOOL_OPS

}  // namespace cenote
