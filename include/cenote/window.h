// Window pooling: a kernel slides over the spatial axes of [N, C, spatial...] or [C, spatial...].
//
//   max_pool1d/2d/3d   y = max over the window          (padding never wins; NaN propagates)
//   min_pool1d/2d/3d   y = min over the window          (the same)
//   avg_pool1d/2d/3d   y = sum over the window / divisor
//   sum_pool1d/2d/3d   y = sum over the window          (padding adds 0)
//   lp_pool1d/2d/3d    y = (sum |x|^p)^(1/p)            (padding adds 0)
//   lse_pool1d/2d/3d   y = (1 / r) log mean exp(r x)    (log-sum-exp, between the mean and the maximum)
//   soft_pool1d/2d/3d  y = sum w x, w = softmax(t x)    (SoftPool)
//   median_pool1d/2d/3d, mode_pool1d/2d/3d   the lower median, the most frequent value
//
// Semantics, names and defaults follow PyTorch, with two additions for every op: a separate padding at
// the end of each axis, and dilation (for avg too). Per-axis options take one value for all axes or one
// value per axis. x and y have one dtype: f32, f64, f16, bf16, i8, u8, i32 or i64. f16 and bf16 accumulate in
// f32; averages of integers round towards zero, as PyTorch's of i64 do, and sums stay within the range of the
// type (of i64 they wrap around). Lp, log-sum-exp and SoftPool are of floating types alone. Gradients are
// f32, f64, f16 or bf16. Each op has the forms
//   NAME_shape(x_sizes, options)                 sizes of y, no data needed
//   NAME(x, options)                             returns y in the layout of x
//   NAME_into(y, x, options)                     writes y, allocates no tensor
//   NAME_backward(grad_y, ..., options)          gradient with respect to x
//   NAME_backward_into(grad_x, grad_y, ..., options)
// All throw cenote::Error on bad arguments, before any element is touched.
#pragma once

#include <cstdint>
#include <optional>

#include "cenote/export.h"
#include "cenote/tensor.h"

namespace cenote {

/// Output size of one axis: floor((size + padding_begin + padding_end - dilation * (kernel - 1) - 1) /
/// stride) + 1, rounded up instead of down with ceil_mode, but never with a last window that starts beyond
/// size + padding_begin. Source: PyTorch pooling_output_shape, ONNX MaxPool-22.
struct WindowAxis {
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t padding_begin = 0;
  std::int64_t padding_end = 0;
  std::int64_t dilation = 1;
};
CENOTE_EXPORT std::int64_t pool_output_size(std::int64_t size, const WindowAxis& axis,
                                            bool ceil_mode = false);

/// Whose rule bounds the padding. kPyTorch: at most half of the kernel, so that without dilation every window
/// holds a real element; with dilation, half of the dilated kernel. kOnnx: any padding >= 0.
enum class Convention : std::uint8_t { kPyTorch, kOnnx };

/// Padding that follows from the sizes, as in ONNX. SAME gives ceil(size / stride) outputs and splits the
/// padding that this takes, the odd one at the end (kSameUpper: TensorFlow's and Keras' "same") or at the
/// begin (kSameLower); kValid pads nothing. All but kNotSet want padding and padding_end left alone, and SAME
/// ignores ceil_mode.
enum class AutoPad : std::uint8_t { kNotSet, kSameUpper, kSameLower, kValid };

/// What an i64 index counts. kPlane: positions inside the D*H*W plane of the channel, row-major, as PyTorch.
/// kTensor: positions inside the whole tensor, ONNX's storage_order 0. kTensorColumnMajor: the same with the
/// first spatial axis fastest inside each plane, ONNX's storage_order 1.
enum class IndexOrder : std::uint8_t { kPlane, kTensor, kTensorColumnMajor };

struct MaxPoolOptions {
  Dims kernel;            // required, >= 1
  Dims stride = {};       // default: kernel
  Dims padding = 0;       // at the begin of each axis, bounded by `convention`
  Dims padding_end = {};  // at the end of each axis; default: padding
  Dims dilation = 1;
  bool ceil_mode = false;
  Convention convention = Convention::kPyTorch;
  AutoPad auto_pad = AutoPad::kNotSet;
  IndexOrder index_order = IndexOrder::kPlane;  // of i64 indices; compact taps want kPlane

  bool operator==(const MaxPoolOptions&) const = default;
};

struct SumPoolOptions {
  Dims kernel;
  Dims stride = {};
  Dims padding = 0;
  Dims padding_end = {};
  Dims dilation = 1;
  bool ceil_mode = false;
  Convention convention = Convention::kPyTorch;
  AutoPad auto_pad = AutoPad::kNotSet;

  bool operator==(const SumPoolOptions&) const = default;
};

/// Real numbers behind i8 or u8 elements q: scale * (q - zero_point), of x and of y. The scales are > 0, the
/// zero points within the range of the type.
struct Quantization {
  double x_scale = 1;
  std::int64_t x_zero_point = 0;
  double y_scale = 1;
  std::int64_t y_zero_point = 0;

  bool operator==(const Quantization&) const = default;
};

struct AvgPoolOptions {
  Dims kernel;
  Dims stride = {};
  Dims padding = 0;
  Dims padding_end = {};
  Dims dilation = 1;
  bool ceil_mode = false;
  bool count_include_pad = true;  // padding counts in the divisor, ceil overhang never does
  std::optional<std::int64_t> divisor_override = {};  // replaces the divisor; not 0
  Convention convention = Convention::kPyTorch;
  AutoPad auto_pad = AutoPad::kNotSet;
  std::optional<Quantization> quantization = {};  // i8 and u8, forward alone

  bool operator==(const AvgPoolOptions&) const = default;
};

struct LpPoolOptions {
  Dims kernel;
  Dims stride = {};
  Dims padding = 0;
  Dims padding_end = {};
  Dims dilation = 1;
  bool ceil_mode = false;
  double norm_type = 2;  // p > 0; infinity: max |x|
  Convention convention = Convention::kPyTorch;
  AutoPad auto_pad = AutoPad::kNotSet;
};

struct LsePoolOptions {
  Dims kernel;
  Dims stride = {};
  Dims padding = 0;
  Dims padding_end = {};
  Dims dilation = 1;
  bool ceil_mode = false;
  double sharpness = 10;  // r > 0: towards 0 the mean, towards infinity the maximum
  Convention convention = Convention::kPyTorch;
  AutoPad auto_pad = AutoPad::kNotSet;
};

struct SoftPoolOptions {
  Dims kernel;
  Dims stride = {};
  Dims padding = 0;
  Dims padding_end = {};
  Dims dilation = 1;
  bool ceil_mode = false;
  double sharpness = 1;  // t > 0
  Convention convention = Convention::kPyTorch;
  AutoPad auto_pad = AutoPad::kNotSet;
};

using MinPoolOptions = MaxPoolOptions;
using MedianPoolOptions = MaxPoolOptions;
using ModePoolOptions = MaxPoolOptions;

/// y and where each maximum, or minimum, came from.
struct MaxPoolResult {
  Tensor values;
  Tensor indices;
};

// ---- max ----------------------------------------------------------------------------------------
// Ties go to the first element in row-major order, a NaN wins over everything (the last one gives the
// index), a window without a real element gives -inf (integers: their lowest value) and index -1, through
// which no gradient flows.
//
// `indices` records where each maximum came from, in one of two forms chosen by its dtype:
//   i64       a position, counted as index_order says: PyTorch's return_indices by default;
//   u8, u16   a compact tap number inside the window, row-major; all bits set means none. 8 or 4 times
//             smaller, and what the fast backward wants. max_pool_tap_dtype says which fits.
// The backward takes either.

/// u8, u16, or i64 when the kernel has too many taps for both (the record is then the i64 index).
CENOTE_EXPORT DType max_pool_tap_dtype(const Dims& kernel, int spatial_rank);

// In the backward the index -1 is legal, and no gradient flows through it; one outside of its plane throws.
// `indices` of NAME_into may be null; y and indices must not overlap x or each other.

#define CENOTE_CHOICE_POOL(NAME, OPTIONS)                                                               \
  CENOTE_EXPORT Dims NAME##_shape(const Dims& x_sizes, const OPTIONS& options);                         \
  CENOTE_EXPORT Tensor NAME(const ConstTensorView& x, const OPTIONS& options);                          \
  /* values and indices; `indices_dtype` is i64, or the dtype of compact taps */                        \
  CENOTE_EXPORT MaxPoolResult NAME##_with_indices(const ConstTensorView& x, const OPTIONS& options,     \
                                                  DType indices_dtype = DType::i64);                    \
  CENOTE_EXPORT void NAME##_into(const TensorView& y, const ConstTensorView& x, const OPTIONS& options, \
                                 const TensorView* indices = nullptr);                                  \
  CENOTE_EXPORT Tensor NAME##_backward(const ConstTensorView& grad_y, const ConstTensorView& indices,   \
                                       const Dims& x_sizes, const OPTIONS& options);                    \
  CENOTE_EXPORT void NAME##_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,      \
                                          const ConstTensorView& indices, const OPTIONS& options)

CENOTE_CHOICE_POOL(max_pool1d, MaxPoolOptions);
CENOTE_CHOICE_POOL(max_pool2d, MaxPoolOptions);
CENOTE_CHOICE_POOL(max_pool3d, MaxPoolOptions);

// ---- min ----------------------------------------------------------------------------------------
// As max with the order reversed: ties go to the first element, a NaN wins, a window without a real element
// gives +inf, or the highest value of an integer type. Taps are those of max_pool_tap_dtype.

CENOTE_CHOICE_POOL(min_pool1d, MinPoolOptions);
CENOTE_CHOICE_POOL(min_pool2d, MinPoolOptions);
CENOTE_CHOICE_POOL(min_pool3d, MinPoolOptions);

// ---- avg, sum -----------------------------------------------------------------------------------
// The divisor of an average is divisor_override, or the number of window positions inside the padded input
// (count_include_pad), or the number of real elements. A window without a real element gives 0.
//
// With `quantization` the elements of an average stand for real numbers, padding for 0, and
// y = round(mean / y_scale) + y_zero_point, half to even, within the range of the type. Source: ONNX
// DequantizeLinear, QuantizeLinear.

#define CENOTE_MEAN_POOL(NAME, OPTIONS)                                                                  \
  CENOTE_EXPORT Dims NAME##_shape(const Dims& x_sizes, const OPTIONS& options);                          \
  CENOTE_EXPORT Tensor NAME(const ConstTensorView& x, const OPTIONS& options);                           \
  CENOTE_EXPORT void NAME##_into(const TensorView& y, const ConstTensorView& x, const OPTIONS& options); \
  CENOTE_EXPORT Tensor NAME##_backward(const ConstTensorView& grad_y, const Dims& x_sizes,               \
                                       const OPTIONS& options);                                          \
  CENOTE_EXPORT void NAME##_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,       \
                                          const OPTIONS& options)

CENOTE_MEAN_POOL(avg_pool1d, AvgPoolOptions);
CENOTE_MEAN_POOL(avg_pool2d, AvgPoolOptions);
CENOTE_MEAN_POOL(avg_pool3d, AvgPoolOptions);

CENOTE_MEAN_POOL(sum_pool1d, SumPoolOptions);
CENOTE_MEAN_POOL(sum_pool2d, SumPoolOptions);
CENOTE_MEAN_POOL(sum_pool3d, SumPoolOptions);

// ---- median, mode -------------------------------------------------------------------------------
// One element of each window, with indices and taps as max. The median is the lower one, of rank
// floor((n - 1) / 2) among the n real elements; the mode is the most frequent value, of equally frequent ones
// that which comes first: what label volumes need. Of equal elements the first gives the index, and a NaN,
// the first, wins over everything. A window without a real element gives 0 and index -1.

CENOTE_CHOICE_POOL(median_pool1d, MedianPoolOptions);
CENOTE_CHOICE_POOL(median_pool2d, MedianPoolOptions);
CENOTE_CHOICE_POOL(median_pool3d, MedianPoolOptions);

CENOTE_CHOICE_POOL(mode_pool1d, ModePoolOptions);
CENOTE_CHOICE_POOL(mode_pool2d, ModePoolOptions);
CENOTE_CHOICE_POOL(mode_pool3d, ModePoolOptions);

// ---- lp, lse, soft ------------------------------------------------------------------------------
// The elements of a window are real ones alone. Terms are scaled or shifted by the largest, so that nothing
// overflows on the way. A window without a real element gives 0, -inf with lse. The gradient of Lp is 0 where
// x is 0; with an infinite norm_type it goes to the first largest magnitude. SoftPool: Stergiou et al.,
// "Refining activation downsampling with SoftPool" (2021); -inf has no weight. NaN propagates. The backward
// reads x.

#define CENOTE_SMOOTH_POOL(NAME, OPTIONS)                                                                \
  CENOTE_EXPORT Dims NAME##_shape(const Dims& x_sizes, const OPTIONS& options);                          \
  CENOTE_EXPORT Tensor NAME(const ConstTensorView& x, const OPTIONS& options);                           \
  CENOTE_EXPORT void NAME##_into(const TensorView& y, const ConstTensorView& x, const OPTIONS& options); \
  CENOTE_EXPORT Tensor NAME##_backward(const ConstTensorView& grad_y, const ConstTensorView& x,          \
                                       const OPTIONS& options);                                          \
  CENOTE_EXPORT void NAME##_backward_into(const TensorView& grad_x, const ConstTensorView& grad_y,       \
                                          const ConstTensorView& x, const OPTIONS& options)

CENOTE_SMOOTH_POOL(lp_pool1d, LpPoolOptions);
CENOTE_SMOOTH_POOL(lp_pool2d, LpPoolOptions);
CENOTE_SMOOTH_POOL(lp_pool3d, LpPoolOptions);

CENOTE_SMOOTH_POOL(lse_pool1d, LsePoolOptions);
CENOTE_SMOOTH_POOL(lse_pool2d, LsePoolOptions);
CENOTE_SMOOTH_POOL(lse_pool3d, LsePoolOptions);

CENOTE_SMOOTH_POOL(soft_pool1d, SoftPoolOptions);
CENOTE_SMOOTH_POOL(soft_pool2d, SoftPoolOptions);
CENOTE_SMOOTH_POOL(soft_pool3d, SoftPoolOptions);

#undef CENOTE_CHOICE_POOL
// CENOTE_MEAN_POOL and CENOTE_SMOOTH_POOL serve adaptive.h and global.h, too.

}  // namespace cenote
