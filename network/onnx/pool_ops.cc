// ONNX's defaults and rules where they differ from cenote's: a stride of 1, pads per end, any padding,
// auto_pad, and indices that count through the whole tensor.
#include "network/onnx/pool_ops.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "cenote/global.h"
#include "cenote/unpool.h"
#include "cenote/window.h"
#include "network/error_text.h"
#include "network/onnx/attributes.h"

namespace cenote::network::onnx {
namespace {

constexpr int kFirstSpatial = 2;

/// The number of spatial axes of x; cenote has its ops for 1 to 3.
int spatial_rank(const Call& call, const Value& x) {
  const int rank = x.sizes.size() - kFirstSpatial;
  if (rank < 1) {
    fail(ErrorCode::kBadFile, "[{}] X must be [N, C, spatial...], got sizes {}", call.name(),
         to_string(x.sizes));
  }
  if (rank > 3) {
    fail(ErrorCode::kUnsupported, "{} over {} spatial axes: cenote has 1 to 3", call.op.name, rank);
  }
  return rank;
}

/// A list of `count` values; `missing`, repeated, when the node does not have it.
Dims axes_attribute(const Call& call, std::string_view name, int count, std::int64_t missing) {
  const auto values = ints_attribute(call, name);
  if (!values) {
    Dims repeated;
    for (int axis = 0; axis < count; ++axis) repeated.push_back(missing);
    return repeated;
  }
  if (values->size() != static_cast<std::size_t>(count)) {
    fail(ErrorCode::kBadFile, "[{}] {} must have {} values for X of {} spatial axes, got {}", call.name(),
         name, count, call.inputs[0]->sizes.size() - kFirstSpatial, values->size());
  }
  return {values->data(), values->size()};
}

Dims positive_axes(const Call& call, std::string_view name, int count, std::int64_t missing) {
  Dims values = axes_attribute(call, name, count, missing);
  for (const std::int64_t value : values) {
    if (value < 1)
      fail(ErrorCode::kBadFile, "[{}] {} must be > 0, got {}", call.name(), name, to_string(values));
  }
  return values;
}

/// A window in cenote's words.
struct Window {
  Dims kernel;
  Dims stride;
  Dims padding;
  Dims padding_end;
  Dims dilation;
  bool ceil_mode = false;
  AutoPad auto_pad = AutoPad::kNotSet;
};

void read_pads(const Call& call, int rank, Window& window) {
  const Dims pads = axes_attribute(call, "pads", 2 * rank, 0);
  if (std::any_of(pads.begin(), pads.end(), [](std::int64_t pad) { return pad < 0; }))
    fail(ErrorCode::kBadFile, "[{}] pads must be >= 0, got {}", call.name(), to_string(pads));
  window.padding = Dims(pads.begin(), static_cast<std::size_t>(rank));
  window.padding_end = Dims(pads.begin() + rank, static_cast<std::size_t>(rank));
}

Window read_window(const Call& call, int rank) {
  if (!ints_attribute(call, "kernel_shape")) {
    fail(ErrorCode::kBadFile, "[{}] kernel_shape is required", call.name());
  }
  Window window;
  window.kernel = positive_axes(call, "kernel_shape", rank, 1);
  window.stride = positive_axes(call, "strides", rank, 1);
  window.dilation = positive_axes(call, "dilations", rank, 1);
  window.ceil_mode = bool_attribute(call, "ceil_mode");
  read_pads(call, rank, window);
  const std::string auto_pad = string_attribute(call, "auto_pad", "NOTSET");
  if (auto_pad == "NOTSET") return window;
  if (call.node.attributes.contains("pads")) {
    fail(ErrorCode::kBadFile, "[{}] pads and auto_pad {} exclude each other", call.name(), shown(auto_pad));
  }
  if (auto_pad == "VALID") {
    window.auto_pad = AutoPad::kValid;
  } else if (auto_pad == "SAME_UPPER") {
    window.auto_pad = AutoPad::kSameUpper;
  } else if (auto_pad == "SAME_LOWER") {
    window.auto_pad = AutoPad::kSameLower;
  } else {
    fail(ErrorCode::kBadFile, "[{}] auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got {}",
         call.name(), shown(auto_pad));
  }
  window.padding = 0;
  window.padding_end = {};
  return window;
}

ConstTensorView view_of(const Value& value, DType dtype) {
  return {value.bytes->data(), dtype, value.sizes, dense_strides(value.sizes)};
}

/// A value under construction: it is written through its view and then becomes a Value.
struct Output {
  Output(const Call& call, ElementType element, DType dtype, const Dims& sizes)
      : type(element),
        bytes(call.budget.take_value(call.name(), element, sizes)),
        view(bytes.data(), dtype, sizes, dense_strides(sizes)) {}

  Value finish() { return make_value(type, view.sizes, std::move(bytes)); }

  ElementType type;
  std::vector<std::byte> bytes;
  TensorView view;
};

/// Elements that a window reads at most: its taps or the plane, whichever is fewer.
std::int64_t visits_per_window(const Dims& kernel, const Dims& x_sizes) {
  std::int64_t visits = 1;
  for (int axis = 0; axis < kernel.size(); ++axis) {
    visits *= std::min(kernel[axis], x_sizes[axis + kFirstSpatial]);  // at most the elements of x
  }
  return visits;
}

void take_visits(const Call& call, const Dims& y_sizes, const Dims& kernel) {
  call.budget.take_visits(call.name(), element_count(y_sizes),
                          visits_per_window(kernel, call.inputs[0]->sizes));
}

/// Global ops read each element of x once.
void take_visits_of_all(const Call& call) {
  call.budget.take_visits(call.name(), 1, element_count(call.inputs[0]->sizes));
}

template <class Function>
using PerRank = std::array<Function, 3>;

template <class Function>
Function for_rank(const PerRank<Function>& functions, int rank) {
  return functions[static_cast<std::size_t>(rank - 1)];
}

constexpr PerRank<Dims (*)(const Dims&, const MaxPoolOptions&)> kMaxShape{max_pool1d_shape, max_pool2d_shape,
                                                                          max_pool3d_shape};
constexpr PerRank<void (*)(const TensorView&, const ConstTensorView&, const MaxPoolOptions&,
                           const TensorView*)>
    kMaxInto{max_pool1d_into, max_pool2d_into, max_pool3d_into};
constexpr PerRank<Dims (*)(const Dims&, const AvgPoolOptions&)> kAvgShape{avg_pool1d_shape, avg_pool2d_shape,
                                                                          avg_pool3d_shape};
constexpr PerRank<void (*)(const TensorView&, const ConstTensorView&, const AvgPoolOptions&)> kAvgInto{
    avg_pool1d_into, avg_pool2d_into, avg_pool3d_into};
constexpr PerRank<Dims (*)(const Dims&, const LpPoolOptions&)> kLpShape{lp_pool1d_shape, lp_pool2d_shape,
                                                                        lp_pool3d_shape};
constexpr PerRank<void (*)(const TensorView&, const ConstTensorView&, const LpPoolOptions&)> kLpInto{
    lp_pool1d_into, lp_pool2d_into, lp_pool3d_into};
constexpr PerRank<Dims (*)(const Dims&, const GlobalLpPoolOptions&)> kGlobalLpShape{
    global_lp_pool1d_shape, global_lp_pool2d_shape, global_lp_pool3d_shape};
constexpr PerRank<void (*)(const TensorView&, const ConstTensorView&, const GlobalLpPoolOptions&)>
    kGlobalLpInto{global_lp_pool1d_into, global_lp_pool2d_into, global_lp_pool3d_into};
constexpr PerRank<Dims (*)(const Dims&)> kGlobalMaxShape{global_max_pool1d_shape, global_max_pool2d_shape,
                                                         global_max_pool3d_shape};
constexpr PerRank<void (*)(const TensorView&, const ConstTensorView&, const TensorView*)> kGlobalMaxInto{
    global_max_pool1d_into, global_max_pool2d_into, global_max_pool3d_into};
constexpr PerRank<Dims (*)(const Dims&, const GlobalAvgPoolOptions&)> kGlobalAvgShape{
    global_avg_pool1d_shape, global_avg_pool2d_shape, global_avg_pool3d_shape};
constexpr PerRank<void (*)(const TensorView&, const ConstTensorView&, const GlobalAvgPoolOptions&)>
    kGlobalAvgInto{global_avg_pool1d_into, global_avg_pool2d_into, global_avg_pool3d_into};

constexpr PerRank<void (*)(const TensorView&, const ConstTensorView&, const ConstTensorView&,
                           const MaxUnpoolOptions&)>
    kUnpoolInto{max_unpool1d_into, max_unpool2d_into, max_unpool3d_into};

/// The output_shape that is asked for: one size per axis of x, of which only the spatial ones may differ.
std::optional<Dims> requested_output(const Call& call, const Dims& x_sizes) {
  const auto shape = ints_input(call, 2, "output_shape");
  if (!shape) return std::nullopt;
  bool fits = shape->size() == static_cast<std::size_t>(x_sizes.size());
  for (int axis = 0; fits && axis < x_sizes.size(); ++axis) {
    const std::int64_t size = (*shape)[static_cast<std::size_t>(axis)];
    fits = axis < kFirstSpatial ? size == x_sizes[axis] : size > 0;
  }
  if (!fits) {
    fail(ErrorCode::kBadFile, "[{}] output_shape must be [{}, {}] and {} sizes > 0, got [{}]", call.name(),
         x_sizes[0], x_sizes[1], x_sizes.size() - kFirstSpatial, fmt::join(*shape, ", "));
  }
  return Dims{shape->data(), shape->size()};
}

/// The sizes of the tensor that the indices count in, and options that unpool to them. Beside an output_shape
/// ONNX ignores pads: they are those that lead to it, or none where it is larger than what is unpooled.
struct Unpooling {
  Dims sizes;
  MaxUnpoolOptions options;
};

Unpooling read_unpooling(const Call& call, const Dims& x_sizes, int rank,
                         const std::optional<Dims>& output_shape) {
  Window window;
  window.kernel = positive_axes(call, "kernel_shape", rank, 1);
  window.stride = positive_axes(call, "strides", rank, 1);
  read_pads(call, rank, window);
  Unpooling unpooling{x_sizes, {.kernel = {}, .stride = window.stride, .index_order = IndexOrder::kTensor}};
  unpooling.options.padding = {};
  for (int axis = 0; axis < rank; ++axis) {
    const int place = axis + kFirstSpatial;
    std::int64_t unpadded = 0;
    std::int64_t pads = 0;
    std::int64_t longer = 0;  // by one position, for odd pads
    if (__builtin_mul_overflow(x_sizes[place] - 1, window.stride[axis], &unpadded) ||
        __builtin_add_overflow(unpadded, window.kernel[axis], &unpadded) ||
        __builtin_add_overflow(unpadded, 1, &longer) ||
        __builtin_add_overflow(window.padding[axis], window.padding_end[axis], &pads)) {
      fail(ErrorCode::kBadFile, "[{}] the size of spatial axis {} exceeds 64 bits", call.name(), axis);
    }
    if (output_shape) pads = std::max<std::int64_t>(unpadded - (*output_shape)[place], 0);
    if (pads >= unpadded) {
      fail(ErrorCode::kBadFile, "[{}] the size of spatial axis {} must be > 0, got {} less pads {} and {}",
           call.name(), axis, unpadded, window.padding[axis], window.padding_end[axis]);
    }
    unpooling.sizes[place] = unpadded - pads;
    // cenote pads both ends alike: one position of the kernel more, and an odd sum of pads is even.
    unpooling.options.kernel.push_back(window.kernel[axis] + pads % 2);
    unpooling.options.padding.push_back(pads / 2 + pads % 2);
  }
  return unpooling;
}

}  // namespace

std::vector<Value> max_pool(const Call& call) {
  const Value& x = *call.inputs[0];
  const int rank = spatial_rank(call, x);
  const Window window = read_window(call, rank);
  const DType dtype = pooled_dtype(call, x.type);
  const MaxPoolOptions options{.kernel = window.kernel,
                               .stride = window.stride,
                               .padding = window.padding,
                               .padding_end = window.padding_end,
                               .dilation = window.dilation,
                               .ceil_mode = window.ceil_mode,
                               .convention = Convention::kOnnx,
                               .auto_pad = window.auto_pad,
                               .index_order = bool_attribute(call, "storage_order")
                                                  ? IndexOrder::kTensorColumnMajor
                                                  : IndexOrder::kTensor};
  const Dims y_sizes = for_rank(kMaxShape, rank)(x.sizes, options);
  take_visits(call, y_sizes, window.kernel);
  Output y(call, x.type, dtype, y_sizes);
  const bool wants_indices = call.node.outputs.size() > 1 && !call.node.outputs[1].empty();
  if (!wants_indices) {
    for_rank(kMaxInto, rank)(y.view, view_of(x, dtype), options, nullptr);
    return {y.finish()};
  }
  Output indices(call, ElementType::kI64, DType::i64, y_sizes);
  for_rank(kMaxInto, rank)(y.view, view_of(x, dtype), options, &indices.view);
  return {y.finish(), indices.finish()};
}

std::vector<Value> average_pool(const Call& call) {
  const Value& x = *call.inputs[0];
  const int rank = spatial_rank(call, x);
  const Window window = read_window(call, rank);
  const DType dtype = pooled_dtype(call, x.type);
  const AvgPoolOptions options{.kernel = window.kernel,
                               .stride = window.stride,
                               .padding = window.padding,
                               .padding_end = window.padding_end,
                               .dilation = window.dilation,
                               .ceil_mode = window.ceil_mode,
                               .count_include_pad = bool_attribute(call, "count_include_pad"),
                               .convention = Convention::kOnnx,
                               .auto_pad = window.auto_pad};
  const Dims y_sizes = for_rank(kAvgShape, rank)(x.sizes, options);
  take_visits(call, y_sizes, window.kernel);
  Output y(call, x.type, dtype, y_sizes);
  for_rank(kAvgInto, rank)(y.view, view_of(x, dtype), options);
  return {y.finish()};
}

std::vector<Value> lp_pool(const Call& call) {
  const Value& x = *call.inputs[0];
  const int rank = spatial_rank(call, x);
  const Window window = read_window(call, rank);
  const DType dtype = pooled_dtype(call, x.type);
  const LpPoolOptions options{.kernel = window.kernel,
                              .stride = window.stride,
                              .padding = window.padding,
                              .padding_end = window.padding_end,
                              .dilation = window.dilation,
                              .ceil_mode = window.ceil_mode,
                              .norm_type = number_attribute(call, "p", 2),
                              .convention = Convention::kOnnx,
                              .auto_pad = window.auto_pad};
  const Dims y_sizes = for_rank(kLpShape, rank)(x.sizes, options);
  take_visits(call, y_sizes, window.kernel);
  Output y(call, x.type, dtype, y_sizes);
  for_rank(kLpInto, rank)(y.view, view_of(x, dtype), options);
  return {y.finish()};
}

std::vector<Value> global_lp_pool(const Call& call) {
  const Value& x = *call.inputs[0];
  const int rank = spatial_rank(call, x);
  const DType dtype = pooled_dtype(call, x.type);
  const GlobalLpPoolOptions options{.norm_type = number_attribute(call, "p", 2)};
  take_visits_of_all(call);
  Output y(call, x.type, dtype, for_rank(kGlobalLpShape, rank)(x.sizes, options));
  for_rank(kGlobalLpInto, rank)(y.view, view_of(x, dtype), options);
  return {y.finish()};
}

/// The unpooled tensor lies at the begin of a larger output_shape, the rest of which is 0.
std::vector<Value> max_unpool(const Call& call) {
  const Value& x = *call.inputs[0];
  const Value& positions = *call.inputs[1];
  const int rank = spatial_rank(call, x);
  if (!ints_attribute(call, "kernel_shape")) {
    fail(ErrorCode::kBadFile, "[{}] kernel_shape is required", call.name());
  }
  if (positions.type != ElementType::kI64 || positions.sizes != x.sizes) {
    fail(ErrorCode::kBadFile, "[{}] I must be i64 of sizes {}, got {} of {}", call.name(), to_string(x.sizes),
         name_of(positions.type), to_string(positions.sizes));
  }
  const DType dtype = pooled_dtype(call, x.type);
  const std::optional<Dims> output_shape = requested_output(call, x.sizes);
  const Unpooling unpooling = read_unpooling(call, x.sizes, rank, output_shape);
  Output y(call, x.type, dtype, output_shape.value_or(unpooling.sizes));
  call.budget.take_value(call.name(), ElementType::kI64, positions.sizes);
  const TensorView corner(y.bytes.data(), dtype, unpooling.sizes, y.view.strides);
  for_rank(kUnpoolInto, rank)(corner, view_of(x, dtype), {positions.data<std::int64_t>(), positions.sizes},
                              unpooling.options);
  return {y.finish()};
}

std::vector<Value> global_max_pool(const Call& call) {
  const Value& x = *call.inputs[0];
  const int rank = spatial_rank(call, x);
  const DType dtype = pooled_dtype(call, x.type);
  take_visits_of_all(call);
  Output y(call, x.type, dtype, for_rank(kGlobalMaxShape, rank)(x.sizes));
  for_rank(kGlobalMaxInto, rank)(y.view, view_of(x, dtype), nullptr);
  return {y.finish()};
}

std::vector<Value> global_average_pool(const Call& call) {
  const Value& x = *call.inputs[0];
  const int rank = spatial_rank(call, x);
  const DType dtype = pooled_dtype(call, x.type);
  take_visits_of_all(call);
  Output y(call, x.type, dtype, for_rank(kGlobalAvgShape, rank)(x.sizes, {}));
  for_rank(kGlobalAvgInto, rank)(y.view, view_of(x, dtype), {});
  return {y.finish()};
}

}  // namespace cenote::network::onnx
