// One row per op: what it is called, which options it reads, and how to call it without knowing it.
// The command line, the tests, the benchmark and the docs check walk this table.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "cenote/export.h"
#include "cenote/tensor.h"
#include "cenote/window.h"

namespace cenote {

/// The union of the options of all ops; each op reads those that its row names.
struct OpArguments {
  Dims kernel = {};
  Dims stride = {};
  Dims padding = 0;
  Dims padding_end = {};
  Dims dilation = 1;
  Dims output_size = {};
  bool ceil_mode = false;
  bool count_include_pad = true;
  std::optional<std::int64_t> divisor_override = {};
  Convention convention = Convention::kPyTorch;
  AutoPad auto_pad = AutoPad::kNotSet;
  IndexOrder index_order = IndexOrder::kPlane;
  std::optional<Quantization> quantization = {};
  double norm_type = 2;
  std::optional<double> sharpness = {};
  std::vector<double> p = {};  // empty: the default of the op
  double eps = 1e-6;
  std::vector<double> output_ratio = {};
  std::optional<ConstTensorView> samples = {};
  std::uint64_t seed = 0;
};

/// Bits of OpInfo::parameters.
enum OpParameter : std::uint32_t {
  kTakesWindow = 1,      // kernel, stride, padding, padding_end, dilation, ceil_mode, convention, auto_pad
  kTakesDivisor = 2,     // count_include_pad, divisor_override
  kTakesOutputSize = 4,  // output_size
  kTakesUnpool = 8,      // kernel, stride, padding; output_size, which may be empty
  kTakesNormType = 16,   // norm_type
  kTakesSharpness = 32,  // sharpness; by default that of the op
  kTakesGem = 64,        // p: one, or one per channel; eps
  kTakesIndexOrder = 128,
  kTakesQuantization = 256,
  kTakesSamples = 512,  // kernel; output_size or output_ratio; samples or seed. Floating types alone
};

struct OpInfo {
  std::string_view name;     // "max_pool2d"
  std::string_view family;   // "window", the stem of its files
  std::string_view summary;  // one line
  int spatial_rank;
  std::uint32_t parameters;
  bool records_indices;  // max: forward can write indices, backward needs them

  Dims (*shape)(const Dims& x_sizes, const OpArguments& arguments);
  /// Compact record for the backward; only where records_indices.
  DType (*tap_dtype)(const Dims& x_sizes, const OpArguments& arguments);
  /// `indices` may be null. Where reads_indices it must not be, is an input of the sizes of x, and nothing is
  /// written through it.
  void (*forward)(const TensorView& y, const TensorView* indices, const ConstTensorView& x,
                  const OpArguments& arguments);
  /// `kept` are the indices where uses_indices(), x where gradient_reads_x, else ignored.
  void (*backward)(const TensorView& grad_x, const ConstTensorView& grad_y, const ConstTensorView* kept,
                   const OpArguments& arguments);

  bool reads_indices = false;     // unpooling: forward and backward need i64 indices of the sizes of x
  bool gradient_reads_x = false;  // the gradient depends on the elements

  /// The backward needs indices.
  bool uses_indices() const { return records_indices || reads_indices; }
  /// x may be of integers.
  bool pools_integers() const { return !gradient_reads_x && (parameters & kTakesSamples) == 0; }
};

/// All ops, by family and name.
CENOTE_EXPORT std::span<const OpInfo> ops();
/// The row called `name`, or null.
CENOTE_EXPORT const OpInfo* find_op(std::string_view name);

}  // namespace cenote
