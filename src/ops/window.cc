// Window pooling, front: checks the arguments, infers the shapes, calls the backend.
#include "cenote/window.h"

#include <algorithm>
#include <type_traits>

#include "backend.h"
#include "core/check.h"
#include "ops/index_order.h"
#include "ops/last_call.h"
#include "ops/pool_front.h"
#include "ops/smooth_front.h"

namespace cenote {

namespace {

constexpr OpNames kMax{"max_pool1d", "max_pool2d", "max_pool3d"};
constexpr OpNames kMin{"min_pool1d", "min_pool2d", "min_pool3d"};
constexpr OpNames kMedian{"median_pool1d", "median_pool2d", "median_pool3d"};
constexpr OpNames kMode{"mode_pool1d", "mode_pool2d", "mode_pool3d"};
constexpr OpNames kAvg{"avg_pool1d", "avg_pool2d", "avg_pool3d"};
constexpr OpNames kSum{"sum_pool1d", "sum_pool2d", "sum_pool3d"};
constexpr OpNames kMaxBackward{"max_pool1d_backward", "max_pool2d_backward", "max_pool3d_backward"};
constexpr OpNames kMinBackward{"min_pool1d_backward", "min_pool2d_backward", "min_pool3d_backward"};
constexpr OpNames kMedianBackward{"median_pool1d_backward", "median_pool2d_backward",
                                  "median_pool3d_backward"};
constexpr OpNames kModeBackward{"mode_pool1d_backward", "mode_pool2d_backward", "mode_pool3d_backward"};
constexpr OpNames kAvgBackward{"avg_pool1d_backward", "avg_pool2d_backward", "avg_pool3d_backward"};
constexpr OpNames kSumBackward{"sum_pool1d_backward", "sum_pool2d_backward", "sum_pool3d_backward"};

std::int64_t floor_divide(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

void check_axis(std::string_view op, int index, const WindowAxis& axis) {
  const auto at_least = [&](std::string_view argument, std::int64_t value, std::int64_t least) {
    require(value >= least, op, argument, '[', index, "] must be ", least > 0 ? "> 0" : ">= 0", ", got ",
            value);
  };
  at_least("kernel", axis.kernel, 1);
  at_least("stride", axis.stride, 1);
  at_least("dilation", axis.dilation, 1);
  at_least("padding", axis.padding_begin, 0);
  at_least("padding_end", axis.padding_end, 0);
}

std::int64_t dilated_kernel(std::string_view op, const WindowAxis& axis) {
  return checked_add(checked_multiply(axis.dilation, axis.kernel - 1, op, "dilated kernel"), 1, op,
                     "dilated kernel");
}

std::int64_t output_size(std::string_view op, std::int64_t size, const WindowAxis& axis, bool ceil_mode) {
  const std::int64_t begin_padded = checked_add(size, axis.padding_begin, op, "padded size");
  const std::int64_t padded = checked_add(begin_padded, axis.padding_end, op, "padded size");
  const std::int64_t room = padded - dilated_kernel(op, axis);
  if (!ceil_mode) return floor_divide(room, axis.stride) + 1;
  const std::int64_t last = floor_divide(room, axis.stride) + (room % axis.stride != 0 ? 1 : 0);
  // A last window that would start in the end padding or beyond is dropped.
  const bool starts_outside = last > 0 && last > (begin_padded - 1) / axis.stride;
  return last + (starts_outside ? 0 : 1);
}

/// The padding that gives ceil(size / stride) outputs.
void pad_for_same_size(const OpName& op, std::int64_t size, bool upper, WindowAxis& axis) {
  const std::int64_t outputs = size / axis.stride + (size % axis.stride != 0 ? 1 : 0);
  const std::int64_t last = std::max<std::int64_t>(outputs - 1, 0) * axis.stride;  // at most size
  const std::int64_t total = std::max<std::int64_t>(
      checked_add(dilated_kernel(op.name, axis), last - size, op.name, "padding of auto_pad"), 0);
  axis.padding_begin = upper ? total / 2 : total - total / 2;
  axis.padding_end = total - axis.padding_begin;
}

bool is_same(AutoPad auto_pad) { return auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower; }

void check_auto_pad(const OpName& op, AutoPad auto_pad, const Dims& padding, const Dims& padding_end) {
  if (auto_pad == AutoPad::kNotSet) return;
  const auto is_zero = [](std::int64_t value) { return value == 0; };
  require(padding_end.empty() && std::all_of(padding.begin(), padding.end(), is_zero), op.name,
          "padding and padding_end must not be given beside auto_pad, got ", padding, " and ", padding_end);
}

/// The options as D, H, W axes, checked.
template <class Options>
WindowAxes resolve_axes(const OpName& op, const Dims& x_sizes, const Options& options) {
  check_auto_pad(op, options.auto_pad, options.padding, options.padding_end);
  const auto kernel = per_axis(op, "kernel", options.kernel, 1);
  const auto stride = options.stride.empty() ? kernel : per_axis(op, "stride", options.stride, 1);
  const auto padding = per_axis(op, "padding", options.padding, 0);
  const auto padding_end =
      options.padding_end.empty() ? padding : per_axis(op, "padding_end", options.padding_end, 0);
  const auto dilation = per_axis(op, "dilation", options.dilation, 1);
  WindowAxes axes;
  std::int64_t taps = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    axes[axis] = {kernel[axis], stride[axis], padding[axis], padding_end[axis], dilation[axis]};
    const int index = static_cast<int>(axis) - (3 - op.spatial_rank);
    check_axis(op.name, index, axes[axis]);
    if (is_same(options.auto_pad)) {
      check_input_sizes(op, x_sizes);
      pad_for_same_size(op, spatial_sizes(op, x_sizes)[axis], options.auto_pad == AutoPad::kSameUpper,
                        axes[axis]);
    }
    const std::int64_t limit = dilated_kernel(op.name, axes[axis]) / 2;
    const auto within = [&](std::string_view argument, std::int64_t value) {
      require(value <= limit, op.name, argument, '[', index, "] must be at most half of the dilated kernel, ",
              limit, ", got ", value);
    };
    if (options.convention == Convention::kPyTorch) {
      within("padding", axes[axis].padding_begin);
      within("padding_end", axes[axis].padding_end);
    }
    taps = checked_multiply(taps, kernel[axis], op.name, "number of taps");
  }
  return axes;
}

/// SAME rounds by its padding.
template <class Options>
bool rounds_up(const Options& options) {
  return options.ceil_mode && !is_same(options.auto_pad);
}

/// Sizes of y; throws when an axis has no output.
Dims infer_sizes(const OpName& op, const Dims& x_sizes, const WindowAxes& axes, bool ceil_mode) {
  check_input_sizes(op, x_sizes);
  std::array<std::int64_t, 3> spatial = spatial_sizes(op, x_sizes);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::int64_t out = output_size(op.name, spatial[axis], axes[axis], ceil_mode);
    require(out >= 1, op.name, "output size of spatial axis ", static_cast<int>(axis) - (3 - op.spatial_rank),
            " must be >= 1, got ", out, " for input size ", spatial[axis], ", kernel ", axes[axis].kernel,
            ", dilation ", axes[axis].dilation, ", padding ", axes[axis].padding_begin, " and ",
            axes[axis].padding_end);
    spatial[axis] = out;
  }
  return with_spatial_sizes(op, x_sizes, spatial);
}

DType tap_dtype(const OpName& op, const Dims& kernel) {
  std::int64_t taps = 1;
  for (const std::int64_t size : per_axis(op, "kernel", kernel, 1)) {
    require(size >= 1, op.name, "kernel must be > 0, got ", size);
    taps = checked_multiply(taps, size, op.name, "number of taps");
  }
  return tap_dtype_of(taps);
}

/// A sum is an average that divides by 1.
Divisor resolve_divisor(const OpName&, const SumPoolOptions&) { return {true, 1}; }

Divisor resolve_divisor(const OpName& op, const AvgPoolOptions& options) {
  require(!options.divisor_override || *options.divisor_override != 0, op.name,
          "divisor_override must not be 0, got 0");
  return {options.count_include_pad, options.divisor_override.value_or(0)};
}

template <class Options>
Dims shape(const OpName& op, const Dims& x_sizes, const Options& options) {
  return infer_sizes(op, x_sizes, resolve_axes(op, x_sizes, options), rounds_up(options));
}

/// How an op chooses one element of each window.
enum class Choice { kLargest, kSmallest, kMiddle, kMostFrequent };

void choose(Choice choice, const Backend& loops, const Tensor5& y, const Tensor5* record,
            const ConstTensor5& x, const WindowAxes& axes) {
  if (choice == Choice::kMiddle) return loops.select.median(y, record, x, axes);
  if (choice == Choice::kMostFrequent) return loops.select.mode(y, record, x, axes);
  loops.window.max(y, record, x, axes);
}

/// What a forward call means.
struct WindowCall : PoolTensors {
  WindowAxes axes;
};

void chosen_into(const OpName& op, Choice choice, const TensorView& y, const ConstTensorView& x,
                 const MaxPoolOptions& options, const TensorView* indices) {
  const auto call = checked_call<WindowCall>(op, y, indices, x, options, [&] {
    const WindowAxes axes = resolve_axes(op, x.sizes, options);
    const Dims y_sizes = infer_sizes(op, x.sizes, axes, rounds_up(options));
    if (indices != nullptr) check_index_order(op, indices->dtype, options.index_order);
    return WindowCall{check_max(op, y, indices, x, y_sizes, tap_dtype(op, options.kernel)), axes};
  });
  run_max(
      call, choice == Choice::kSmallest ? Order::kReversed : Order::kAscending,
      [&](const Backend& loops, const Tensor5& to, const Tensor5* record, const ConstTensor5& from) {
        choose(choice, loops, to, record, from, call.axes);
      },
      [&](const Backend& loops, const Tensor5& to, const Tensor5* record, const ConstTensor5& from) {
        return choice == Choice::kLargest && loops.narrow.max(to, record, from, call.axes);
      });
  if (indices != nullptr) from_plane_positions(op, *indices, x.sizes, options.index_order);
}

Tensor chosen(const OpName& op, Choice choice, const ConstTensorView& x, const MaxPoolOptions& options) {
  Tensor y = make_output(op, x, shape(op, x.sizes, options));
  chosen_into(op, choice, y, x, options, nullptr);
  return y;
}

MaxPoolResult chosen_with_indices(const OpName& op, Choice choice, const ConstTensorView& x,
                                  const MaxPoolOptions& options, DType indices_dtype) {
  const Dims y_sizes = shape(op, x.sizes, options);
  MaxPoolResult result = make_outputs(op, x, y_sizes, indices_dtype, tap_dtype(op, options.kernel));
  chosen_into(op, choice, result.values, x, options, &result.indices.view());
  return result;
}

void chosen_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                          const ConstTensorView& indices, const MaxPoolOptions& options) {
  const WindowAxes axes = resolve_axes(op, grad_x.sizes, options);
  const Dims y_sizes = infer_sizes(op, grad_x.sizes, axes, rounds_up(options));
  check_sizes(op, "indices", indices.sizes, y_sizes);
  check_index_order(op, indices.dtype, options.index_order);
  Tensor converted;
  run_max_backward(
      op, grad_x, grad_y,
      to_plane_positions(op, indices, grad_x.sizes, options.index_order, NoElement::kLegal, converted),
      y_sizes, tap_dtype(op, options.kernel),
      [&](const Backend& loops, const Tensor5& to, const ConstTensor5& from, const ConstTensor5& record) {
        return loops.window.max_backward(to, from, record, axes);
      },
      [&](const Backend& loops, const Tensor5& to, const ConstTensor5& from, const ConstTensor5& record) {
        return loops.narrow.max_backward(to, from, record, axes);
      });
}

Tensor chosen_backward(const OpName& op, const ConstTensorView& grad_y, const ConstTensorView& indices,
                       const Dims& x_sizes, const MaxPoolOptions& options) {
  Tensor grad_x = make_gradient(op, grad_y, shape(op, x_sizes, options), x_sizes);
  chosen_backward_into(op, grad_x, grad_y, indices, options);
  return grad_x;
}

template <class Options>
void mean_into(const OpName& op, const TensorView& y, const ConstTensorView& x, const Options& options) {
  const auto call = checked_call<WindowCall>(op, y, nullptr, x, options, [&] {
    const WindowAxes axes = resolve_axes(op, x.sizes, options);
    resolve_divisor(op, options);
    const Dims y_sizes = infer_sizes(op, x.sizes, axes, rounds_up(options));
    if constexpr (std::is_same_v<Options, AvgPoolOptions>) {
      if (options.quantization) check_quantization(op, x.dtype, *options.quantization);
    }
    return WindowCall{check_pool(op, y, x, y_sizes), axes};
  });
  const Divisor divisor = resolve_divisor(op, options);
  const auto run = [&](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
    loops.window.avg(to, from, call.axes, divisor);
  };
  if constexpr (std::is_same_v<Options, AvgPoolOptions>) {
    if (options.quantization) return pool_quantized(call.y, call.x, *options.quantization, run);
  }
  run_avg(call, run, [&](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
    return loops.narrow.avg(to, from, call.axes, divisor);
  });
}

template <class Options>
Tensor mean(const OpName& op, const ConstTensorView& x, const Options& options) {
  Tensor y = make_output(op, x, shape(op, x.sizes, options));
  mean_into(op, y, x, options);
  return y;
}

template <class Options>
void mean_backward_into(const OpName& op, const TensorView& grad_x, const ConstTensorView& grad_y,
                        const Options& options) {
  if constexpr (std::is_same_v<Options, AvgPoolOptions>) {
    check_differentiable(op, options.quantization);
  }
  const WindowAxes axes = resolve_axes(op, grad_x.sizes, options);
  const Divisor divisor = resolve_divisor(op, options);
  run_avg_backward(
      op, grad_x, grad_y, infer_sizes(op, grad_x.sizes, axes, rounds_up(options)),
      [&](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
        loops.window.avg_backward(to, from, axes, divisor);
      },
      [&](const Backend& loops, const Tensor5& to, const ConstTensor5& from) {
        return loops.narrow.avg_backward(to, from, axes, divisor);
      });
}

template <class Options>
Tensor mean_backward(const OpName& op, const ConstTensorView& grad_y, const Dims& x_sizes,
                     const Options& options) {
  Tensor grad_x = make_gradient(op, grad_y, shape(op, x_sizes, options), x_sizes);
  mean_backward_into(op, grad_x, grad_y, options);
  return grad_x;
}

template <class Options>
SmoothPlan windowed_plan(const OpName& op, const Dims& x_sizes, const Options& options, SmoothKind kind,
                         double parameter) {
  const WindowAxes axes = resolve_axes(op, x_sizes, options);
  return {infer_sizes(op, x_sizes, axes, rounds_up(options)), axes, kind, {parameter}};
}

SmoothPlan plan(const OpName& op, const Dims& x_sizes, const LpPoolOptions& options) {
  return windowed_plan(op, x_sizes, options, SmoothKind::kLp, checked_norm_type(op, options.norm_type));
}
SmoothPlan plan(const OpName& op, const Dims& x_sizes, const LsePoolOptions& options) {
  return windowed_plan(op, x_sizes, options, SmoothKind::kLogSumExp,
                       checked_sharpness(op, options.sharpness));
}
SmoothPlan plan(const OpName& op, const Dims& x_sizes, const SoftPoolOptions& options) {
  return windowed_plan(op, x_sizes, options, SmoothKind::kSoft, checked_sharpness(op, options.sharpness));
}

}  // namespace

std::int64_t pool_output_size(std::int64_t size, const WindowAxis& axis, bool ceil_mode) {
  constexpr std::string_view kName = "pool_output_size";
  require(size >= 0, kName, "size must be >= 0, got ", size);
  check_axis(kName, 0, axis);
  return std::max<std::int64_t>(output_size(kName, size, axis, ceil_mode), 0);
}

DType max_pool_tap_dtype(const Dims& kernel, int spatial_rank) {
  require(spatial_rank >= 1 && spatial_rank <= 3, "max_pool_tap_dtype",
          "spatial_rank must be 1, 2 or 3, got ", spatial_rank);
  return tap_dtype({"max_pool_tap_dtype", spatial_rank}, kernel);
}

// The public names differ in the spatial rank alone.
#define CENOTE_CHOICE(NAME, OPTIONS, NAMES, CHOICE, RANK)                                        \
  Dims NAME##RANK##d_shape(const Dims& x_sizes, const OPTIONS& options) {                        \
    return shape(op_of(NAMES, RANK), x_sizes, options);                                          \
  }                                                                                              \
  Tensor NAME##RANK##d(const ConstTensorView& x, const OPTIONS& options) {                       \
    return chosen(op_of(NAMES, RANK), CHOICE, x, options);                                       \
  }                                                                                              \
  MaxPoolResult NAME##RANK##d_with_indices(const ConstTensorView& x, const OPTIONS& options,     \
                                           DType indices_dtype) {                                \
    return chosen_with_indices(op_of(NAMES, RANK), CHOICE, x, options, indices_dtype);           \
  }                                                                                              \
  void NAME##RANK##d_into(const TensorView& y, const ConstTensorView& x, const OPTIONS& options, \
                          const TensorView* indices) {                                           \
    chosen_into(op_of(NAMES, RANK), CHOICE, y, x, options, indices);                             \
  }                                                                                              \
  Tensor NAME##RANK##d_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,   \
                                const Dims& x_sizes, const OPTIONS& options) {                   \
    return chosen_backward(op_of(NAMES##Backward, RANK), grad_y, indices, x_sizes, options);     \
  }                                                                                              \
  void NAME##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,      \
                                   const ConstTensorView& indices, const OPTIONS& options) {     \
    chosen_backward_into(op_of(NAMES##Backward, RANK), grad_x, grad_y, indices, options);        \
  }

#define CENOTE_MEAN(NAME, OPTIONS, NAMES, RANK)                                                    \
  Dims NAME##RANK##d_shape(const Dims& x_sizes, const OPTIONS& options) {                          \
    return shape(op_of(NAMES, RANK), x_sizes, options);                                            \
  }                                                                                                \
  Tensor NAME##RANK##d(const ConstTensorView& x, const OPTIONS& options) {                         \
    return mean(op_of(NAMES, RANK), x, options);                                                   \
  }                                                                                                \
  void NAME##RANK##d_into(const TensorView& y, const ConstTensorView& x, const OPTIONS& options) { \
    mean_into(op_of(NAMES, RANK), y, x, options);                                                  \
  }                                                                                                \
  Tensor NAME##RANK##d_backward(const ConstTensorView& grad_y, const Dims& x_sizes,                \
                                const OPTIONS& options) {                                          \
    return mean_backward(op_of(NAMES##Backward, RANK), grad_y, x_sizes, options);                  \
  }                                                                                                \
  void NAME##RANK##d_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,        \
                                   const OPTIONS& options) {                                       \
    mean_backward_into(op_of(NAMES##Backward, RANK), grad_x, grad_y, options);                     \
  }

#define CENOTE_WINDOW_OPS(RANK)                                                 \
  CENOTE_CHOICE(max_pool, MaxPoolOptions, kMax, Choice::kLargest, RANK)         \
  CENOTE_CHOICE(min_pool, MinPoolOptions, kMin, Choice::kSmallest, RANK)        \
  CENOTE_CHOICE(median_pool, MedianPoolOptions, kMedian, Choice::kMiddle, RANK) \
  CENOTE_CHOICE(mode_pool, ModePoolOptions, kMode, Choice::kMostFrequent, RANK) \
  CENOTE_MEAN(avg_pool, AvgPoolOptions, kAvg, RANK)                             \
  CENOTE_MEAN(sum_pool, SumPoolOptions, kSum, RANK)                             \
  CENOTE_SMOOTH(lp_pool, LpPoolOptions, RANK)                                   \
  CENOTE_SMOOTH(lse_pool, LsePoolOptions, RANK)                                 \
  CENOTE_SMOOTH(soft_pool, SoftPoolOptions, RANK)

CENOTE_WINDOW_OPS(1)
CENOTE_WINDOW_OPS(2)
CENOTE_WINDOW_OPS(3)
#undef CENOTE_WINDOW_OPS
#undef CENOTE_MEAN
#undef CENOTE_CHOICE

}  // namespace cenote
