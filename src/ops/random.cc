// Pooling that draws random numbers, front: checks the arguments, infers the shapes, makes the numbers, calls
// the backend.
#include "cenote/random.h"

#include <string>

#include "backend.h"
#include "core/check.h"
#include "core/philox.h"
#include "ops/pool_front.h"

namespace cenote {

namespace {

constexpr OpNames kMax{"", "fractional_max_pool2d", "fractional_max_pool3d"};
constexpr OpNames kMaxBackward{"", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward"};

using Spatial = std::array<std::int64_t, 3>;  // D, H, W

int spatial_index(const OpName& op, std::size_t axis) {
  return static_cast<int>(axis) - (3 - op.spatial_rank);
}

/// int(size * ratio) per axis
Spatial scaled_sizes(const OpName& op, const Spatial& x_spatial, const std::vector<double>& ratio) {
  const auto rank = static_cast<std::size_t>(op.spatial_rank);
  require(ratio.size() == 1 || ratio.size() == rank, op.name, "output_ratio must have 1 or ", rank,
          " values, got ", ratio.size());
  Spatial sizes{1, 1, 1};
  for (std::size_t i = 0; i < rank; ++i) {
    const double share = ratio[ratio.size() == 1 ? 0 : i];
    require(share > 0 && share < 1, op.name, "output_ratio[", i, "] must lie in (0, 1), got ", share);
    const std::size_t axis = 3 - rank + i;
    sizes[axis] = static_cast<std::int64_t>(static_cast<double>(x_spatial[axis]) * share);
    require(sizes[axis] >= 1, op.name, "output_ratio[", i, "] must give at least one output, got ", share,
            " for input size ", x_spatial[axis]);
  }
  return sizes;
}

Dims infer_sizes(const OpName& op, const Dims& x_sizes, const FractionalMaxPoolOptions& options) {
  check_input_sizes(op, x_sizes);
  const auto kernel = per_axis(op, "kernel", options.kernel, 1);
  const bool by_size = !options.output_size.empty();
  require(by_size == options.output_ratio.empty(), op.name,
          "exactly one of output_size and output_ratio must be given, got ", by_size ? "both" : "neither");
  const Spatial x_spatial = spatial_sizes(op, x_sizes);
  const Spatial sizes = by_size ? per_axis(op, "output_size", options.output_size, 1)
                                : scaled_sizes(op, x_spatial, options.output_ratio);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const int index = spatial_index(op, axis);
    require(kernel[axis] >= 1, op.name, "kernel[", index, "] must be > 0, got ", kernel[axis]);
    require(sizes[axis] >= 1, op.name, "output_size[", index, "] must be > 0, got ", sizes[axis]);
    require(
        checked_add(sizes[axis], kernel[axis] - 1, op.name, "output size + kernel - 1") <= x_spatial[axis],
        op.name, "output size + kernel - 1 must be <= the input size ", x_spatial[axis],
        " along spatial axis ", index, ", got ", sizes[axis], " + ", kernel[axis], " - 1");
  }
  return with_spatial_sizes(op, x_sizes, sizes);
}

/// [N, C, spatial rank]; N is 1 without batch.
Dims samples_sizes(const OpName& op, const Dims& x_sizes) {
  const bool batched = x_sizes.size() == op.spatial_rank + 2;
  const Dims sizes{batched ? x_sizes[0] : 1, x_sizes[batched ? 1 : 0], op.spatial_rank};
  checked_multiply(checked_multiply(sizes[0], sizes[1], op.name, "number of samples"), sizes[2], op.name,
                   "number of samples");
  return sizes;
}

/// Bits of a u in [0, 1) that is a number of `dtype`.
int sample_bits(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 53;
    case DType::f16:
      return 11;
    case DType::bf16:
      return 8;
    default:
      return 24;
  }
}

Tensor draw_samples(const OpName& op, const Dims& x_sizes, DType dtype, std::uint64_t seed) {
  const Dims sizes = samples_sizes(op, x_sizes);
  Tensor drawn(DType::f64, sizes);
  const PhiloxKey key{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  const int bits = sample_bits(dtype);
  double* to = drawn.data<double>();
  for (std::int64_t plane = 0; plane < sizes[0] * sizes[1]; ++plane) {
    for (std::int64_t axis = 0; axis < sizes[2]; ++axis) {
      const PhiloxBlock block =
          philox(key, {static_cast<std::uint32_t>(plane), static_cast<std::uint32_t>(plane >> 32),
                       static_cast<std::uint32_t>(axis), 0});
      const std::uint64_t word = std::uint64_t{block[0]} << 32 | block[1];
      *to++ = std::ldexp(static_cast<double>(word >> (64 - bits)), -bits);
    }
  }
  return drawn;
}

void convert_samples(const OpName& op, const TensorView& to, const ConstTensorView& from) {
  const OpName rows{op.name, 1};  // [N, C, W]
  const ConstTensor5 source = read_argument(rows, "samples", from);
  reference_backend().convert.convert(written_argument(rows, "samples", to, from.sizes), source, false);
}

/// In f64, checked.
Tensor given_samples(const OpName& op, const Dims& x_sizes, DType dtype, const ConstTensorView& samples) {
  check_same_dtype(op, "samples", samples.dtype, dtype);
  const Dims sizes = samples_sizes(op, x_sizes);
  check_sizes(op, "samples", samples.sizes, sizes);
  Tensor wide(DType::f64, sizes);
  convert_samples(op, wide, samples);
  const double* const values = wide.data<double>();
  for (std::int64_t i = 0; i < element_count(sizes); ++i) {
    require(values[i] >= 0 && values[i] < 1, op.name, "samples must lie in [0, 1), got ", values[i]);
  }
  return wide;
}

/// The numbers of each plane, for D, H, W; those of an axis that x has not are 0.
std::vector<double> by_axes(const OpName& op, const Tensor& samples) {
  const auto rank = static_cast<std::size_t>(op.spatial_rank);
  const auto count = static_cast<std::size_t>(samples.size());
  const std::size_t missing = 3 - rank;
  std::vector<double> u(count / rank * 3);
  const double* const from = samples.data<double>();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t place = i % rank;  // W, H or D, H, W
    u[i / rank * 3 + missing + (rank == 2 ? 1 - place : place)] = from[i];
  }
  return u;
}

/// f16 ends at 65,504; where windows are placed within more than that, it says nothing.
void check_counts(const OpName& op, const ConstTensorView& x, const Spatial& kernel) {
  constexpr std::int64_t kMost = 65'504;
  if (x.dtype != DType::f16) return;
  const Spatial sizes = spatial_sizes(op, x.sizes);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    require(sizes[axis] - kernel[axis] <= kMost, op.name, "x sizes - kernel must be <= ", kMost,
            " along each axis in f16, got ", sizes[axis], " - ", kernel[axis], " along spatial axis ",
            spatial_index(op, axis));
  }
}

void max_into(const OpName& op, const TensorView& y, const ConstTensorView& x,
              const FractionalMaxPoolOptions& options, const TensorView* indices) {
  const Dims y_sizes = infer_sizes(op, x.sizes, options);
  check_floating_dtype(op, "x", x.dtype);
  const auto kernel = per_axis(op, "kernel", options.kernel, 1);
  check_counts(op, x, kernel);
  const std::vector<double> u =
      by_axes(op, options.samples ? given_samples(op, x.sizes, x.dtype, *options.samples)
                                  : draw_samples(op, x.sizes, x.dtype, options.seed));
  const std::int64_t channels = x.sizes[x.sizes.size() - op.spatial_rank - 1];
  const FractionalRule rule{kernel, x.dtype, channels, u};
  run_max(op, y, indices, x, y_sizes, DType::i64, Order::kAscending,
          [&](const Backend& loops, const Tensor5& to, const Tensor5* record, const ConstTensor5& from) {
            loops.random.fractional_max(to, record, from, rule);
          });
}

Tensor max(const OpName& op, const ConstTensorView& x, const FractionalMaxPoolOptions& options) {
  Tensor y = make_output(op, x, infer_sizes(op, x.sizes, options));
  max_into(op, y, x, options, nullptr);
  return y;
}

MaxPoolResult max_with_indices(const OpName& op, const ConstTensorView& x,
                               const FractionalMaxPoolOptions& options) {
  MaxPoolResult result = make_outputs(op, x, infer_sizes(op, x.sizes, options), DType::i64, DType::i64);
  max_into(op, result.values, x, options, &result.indices.view());
  return result;
}

void max_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                       const ConstTensorView& indices, const FractionalMaxPoolOptions& options) {
  // From positions in the plane, whatever windows they come from.
  run_max_backward(op, grad_x, grad_y, indices, infer_sizes(op, grad_x.sizes, options), DType::i64,
                   [](const Backend& loops, const Tensor5& to, const ConstTensor5& from,
                      const ConstTensor5& record) { return loops.adaptive.max_backward(to, from, record); });
}

Tensor max_backward(const OpName& op, const ConstTensorView& grad_y, const ConstTensorView& indices,
                    const Dims& x_sizes, const FractionalMaxPoolOptions& options) {
  Tensor grad_x = make_gradient(op, grad_y, infer_sizes(op, x_sizes, options), x_sizes);
  max_backward_into(op, grad_x, grad_y, indices, options);
  return grad_x;
}

}  // namespace

Tensor fractional_max_pool_samples(const Dims& x_sizes, int spatial_rank, DType dtype, std::uint64_t seed) {
  constexpr std::string_view kName = "fractional_max_pool_samples";
  require(spatial_rank == 2 || spatial_rank == 3, kName, "spatial_rank must be 2 or 3, got ", spatial_rank);
  const OpName op{kName, spatial_rank};
  check_input_sizes(op, x_sizes);
  check_floating_dtype(op, "x", dtype);
  const Tensor drawn = draw_samples(op, x_sizes, dtype, seed);
  Tensor samples(dtype, drawn.sizes());
  convert_samples(op, samples, drawn);
  return samples;
}

// The public names differ in the spatial rank alone.
#define CENOTE_FRACTIONAL_OPS(RANK)                                                                        \
  Dims fractional_max_pool##RANK##d_shape(const Dims& x_sizes, const FractionalMaxPoolOptions& options) {  \
    return infer_sizes(op_of(kMax, RANK), x_sizes, options);                                               \
  }                                                                                                        \
  Tensor fractional_max_pool##RANK##d(const ConstTensorView& x, const FractionalMaxPoolOptions& options) { \
    return max(op_of(kMax, RANK), x, options);                                                             \
  }                                                                                                        \
  MaxPoolResult fractional_max_pool##RANK##d_with_indices(const ConstTensorView& x,                        \
                                                          const FractionalMaxPoolOptions& options) {       \
    return max_with_indices(op_of(kMax, RANK), x, options);                                                \
  }                                                                                                        \
  void fractional_max_pool##RANK##d_into(const TensorView& y, const ConstTensorView& x,                    \
                                         const FractionalMaxPoolOptions& options,                          \
                                         const TensorView* indices) {                                      \
    max_into(op_of(kMax, RANK), y, x, options, indices);                                                   \
  }                                                                                                        \
  Tensor fractional_max_pool##RANK##d_backward(const ConstTensorView& grad_y,                              \
                                               const ConstTensorView& indices, const Dims& x_sizes,        \
                                               const FractionalMaxPoolOptions& options) {                  \
    return max_backward(op_of(kMaxBackward, RANK), grad_y, indices, x_sizes, options);                     \
  }                                                                                                        \
  void fractional_max_pool##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y, \
                                                  const ConstTensorView& indices,                          \
                                                  const FractionalMaxPoolOptions& options) {               \
    max_backward_into(op_of(kMaxBackward, RANK), grad_x, grad_y, indices, options);                        \
  }

CENOTE_FRACTIONAL_OPS(2)
CENOTE_FRACTIONAL_OPS(3)
#undef CENOTE_FRACTIONAL_OPS

}  // namespace cenote
