// Three tables: the versions of each operator as the ONNX specification lists them, the function that
// computes it or the reason why there is none, and the element types that cenote pools.
#include "network/onnx/ops.h"

#include <algorithm>
#include <ranges>

#include "network/error_text.h"
#include "network/onnx/pool_ops.h"
#include "network/onnx/shape_ops.h"

namespace cenote::network::onnx {
namespace {

// ---- what cenote can compute ------------------------------------------------------------------------

using Handler = std::vector<Value> (*)(const Call& call);

struct Support {
  std::string_view name;
  bool pooling;
  Handler handler;           // null: not computed,
  std::string_view missing;  // for this reason
};

constexpr Support kSupport[] = {
    {"MaxPool", true, max_pool, ""},
    {"AveragePool", true, average_pool, ""},
    {"LpPool", true, lp_pool, ""},
    {"GlobalMaxPool", true, global_max_pool, ""},
    {"GlobalAveragePool", true, global_average_pool, ""},
    {"GlobalLpPool", true, global_lp_pool, ""},
    {"MaxUnpool", true, max_unpool, ""},
    {"MaxRoiPool", true, nullptr, "cenote has no roi_pool"},
    {"RoiAlign", true, nullptr, "cenote has no roi_align"},
    {"Constant", false, constant, ""},
    {"Identity", false, identity, ""},
    {"Reshape", false, reshape, ""},
    {"Squeeze", false, squeeze, ""},
    {"Unsqueeze", false, unsqueeze, ""},
};

struct PooledType {
  ElementType element;
  DType dtype;
};

constexpr PooledType kPooledTypes[] = {
    {ElementType::kF32, DType::f32},   {ElementType::kF64, DType::f64}, {ElementType::kF16, DType::f16},
    {ElementType::kBF16, DType::bf16}, {ElementType::kI8, DType::i8},   {ElementType::kU8, DType::u8},
};

// ---- what ONNX defines ------------------------------------------------------------------------------

constexpr std::uint32_t bit(ElementType type) { return 1U << static_cast<unsigned>(type); }

constexpr std::uint32_t kFloats = bit(ElementType::kF16) | bit(ElementType::kF32) | bit(ElementType::kF64);
constexpr std::uint32_t kFloatsB = kFloats | bit(ElementType::kBF16);
constexpr std::uint32_t kFloatsBytes = kFloats | bit(ElementType::kI8) | bit(ElementType::kU8);
constexpr std::uint32_t kAny = ~0U;

// Versions ascend within an operator. LpPool, MaxUnpool and their kin are listed in full, so that a handler
// is all that they lack.
constexpr Operator kOperators[] = {
    {"MaxPool", 1, "auto_pad kernel_shape pads strides", kFloats, 1, 1, 1},
    {"MaxPool", 8, "auto_pad kernel_shape pads storage_order strides", kFloats, 1, 1, 2},
    {"MaxPool", 10, "auto_pad ceil_mode dilations kernel_shape pads storage_order strides", kFloats, 1, 1, 2},
    {"MaxPool", 11, "auto_pad ceil_mode dilations kernel_shape pads storage_order strides", kFloats, 1, 1, 2},
    {"MaxPool", 12, "auto_pad ceil_mode dilations kernel_shape pads storage_order strides", kFloatsBytes, 1,
     1, 2},
    {"MaxPool", 22, "auto_pad ceil_mode dilations kernel_shape pads storage_order strides",
     kFloatsBytes | kFloatsB, 1, 1, 2},
    {"AveragePool", 1, "auto_pad kernel_shape pads strides", kFloats, 1, 1, 1},
    {"AveragePool", 7, "auto_pad count_include_pad kernel_shape pads strides", kFloats, 1, 1, 1},
    {"AveragePool", 10, "auto_pad ceil_mode count_include_pad kernel_shape pads strides", kFloats, 1, 1, 1},
    {"AveragePool", 11, "auto_pad ceil_mode count_include_pad kernel_shape pads strides", kFloats, 1, 1, 1},
    {"AveragePool", 19, "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides", kFloats,
     1, 1, 1},
    {"AveragePool", 22, "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides", kFloatsB,
     1, 1, 1},
    {"LpPool", 1, "auto_pad kernel_shape p pads strides", kFloats, 1, 1, 1},
    {"LpPool", 2, "auto_pad kernel_shape p pads strides", kFloats, 1, 1, 1},
    {"LpPool", 11, "auto_pad kernel_shape p pads strides", kFloats, 1, 1, 1},
    {"LpPool", 18, "auto_pad ceil_mode dilations kernel_shape p pads strides", kFloats, 1, 1, 1},
    {"LpPool", 22, "auto_pad ceil_mode dilations kernel_shape p pads strides", kFloatsB, 1, 1, 1},
    {"GlobalMaxPool", 1, "", kFloats, 1, 1, 1},
    {"GlobalMaxPool", 22, "", kFloatsB, 1, 1, 1},
    {"GlobalAveragePool", 1, "", kFloats, 1, 1, 1},
    {"GlobalAveragePool", 22, "", kFloatsB, 1, 1, 1},
    {"GlobalLpPool", 1, "p", kFloats, 1, 1, 1},
    {"GlobalLpPool", 2, "p", kFloats, 1, 1, 1},
    {"GlobalLpPool", 22, "p", kFloatsB, 1, 1, 1},
    {"MaxUnpool", 9, "kernel_shape pads strides", kFloats, 2, 3, 1},
    {"MaxUnpool", 11, "kernel_shape pads strides", kFloats, 2, 3, 1},
    {"MaxUnpool", 22, "kernel_shape pads strides", kFloatsB, 2, 3, 1},
    {"MaxRoiPool", 1, "pooled_shape spatial_scale", kFloats, 2, 2, 1},
    {"MaxRoiPool", 22, "pooled_shape spatial_scale", kFloatsB, 2, 2, 1},
    {"RoiAlign", 10, "mode output_height output_width sampling_ratio spatial_scale", kFloats, 3, 3, 1},
    {"RoiAlign", 16,
     "coordinate_transformation_mode mode output_height output_width sampling_ratio spatial_scale", kFloats,
     3, 3, 1},
    {"RoiAlign", 22,
     "coordinate_transformation_mode mode output_height output_width sampling_ratio spatial_scale", kFloatsB,
     3, 3, 1},
    {"Constant", 1, "value", kAny, 0, 0, 1},
    {"Constant", 11, "sparse_value value", kAny, 0, 0, 1},
    {"Constant", 12,
     "sparse_value value value_float value_floats value_int value_ints value_string value_strings", kAny, 0,
     0, 1},
    {"Identity", 1, "", kAny, 1, 1, 1},
    {"Reshape", 1, "consumed_inputs shape", kAny, 1, 1, 1},
    {"Reshape", 5, "", kAny, 2, 2, 1},
    {"Reshape", 14, "allowzero", kAny, 2, 2, 1},
    {"Squeeze", 1, "axes", kAny, 1, 1, 1},
    {"Squeeze", 13, "", kAny, 1, 2, 1},
    {"Unsqueeze", 1, "axes", kAny, 1, 1, 1},
    {"Unsqueeze", 13, "", kAny, 2, 2, 1},
};

// ---- looking them up --------------------------------------------------------------------------------

const Support& support_of(std::string_view name) {
  const auto* row = std::find_if(std::begin(kSupport), std::end(kSupport),
                                 [&](const Support& candidate) { return candidate.name == name; });
  if (row == std::end(kSupport)) {
    fail(ErrorCode::kUnsupported, "the operator {} is neither pooling nor one that only reshapes",
         shown(name));
  }
  return *row;
}

bool has_word(std::string_view words, std::string_view word) {
  return std::ranges::any_of(std::views::split(words, ' '), [&](const auto& part) {
    return std::string_view(part.begin(), part.end()) == word;
  });
}

void check_attributes(const Call& call) {
  for (const auto& [name, value] : call.node.attributes) {
    if (!has_word(call.op.attributes, name)) {
      fail(ErrorCode::kBadFile, "[{}] it has no attribute {}", call.name(), shown(name));
    }
  }
}

void check_inputs(const Call& call) {
  const std::size_t given = call.inputs.size();
  if (given < call.op.min_inputs || given > call.op.max_inputs) {
    fail(ErrorCode::kBadFile, "[{}] it takes {} to {} inputs, got {}", call.name(), call.op.min_inputs,
         call.op.max_inputs, given);
  }
  for (std::size_t i = 0; i < call.op.min_inputs; ++i) {
    if (call.inputs[i] == nullptr) {
      fail(ErrorCode::kBadFile, "[{}] input {} must not be omitted", call.name(), i);
    }
  }
  if (given > 0 && (call.op.types & bit(call.inputs[0]->type)) == 0) {
    fail(ErrorCode::kBadFile, "[{}] it does not take {}", call.name(), name_of(call.inputs[0]->type));
  }
  const std::size_t outputs = call.node.outputs.size();
  if (outputs < 1 || outputs > call.op.max_outputs) {
    fail(ErrorCode::kBadFile, "[{}] it has at most {} outputs, got {}", call.name(), call.op.max_outputs,
         outputs);
  }
}

}  // namespace

std::string Call::name() const { return fmt::format("{}-{}", op.name, op.since); }

const Operator& find_operator(const Node& node, std::int64_t opset) {
  if (!node.domain.empty() && node.domain != "ai.onnx") {
    fail(ErrorCode::kUnsupported, "the operator {} belongs to the domain {}", shown(node.op),
         shown(node.domain));
  }
  const Support& support = support_of(node.op);
  if (support.handler == nullptr) fail(ErrorCode::kUnsupported, "{}: {}", support.name, support.missing);
  if (opset == kNoOpset) {
    fail(ErrorCode::kBadFile, "{} is a standard operator, but the model imports no version of these",
         support.name);
  }
  if (opset < 1 || opset > kNewestOpset) {
    fail(ErrorCode::kUnsupported, "opset {}, versions 1 to {} are known", opset, kNewestOpset);
  }
  const Operator* found = nullptr;
  for (const Operator& candidate : kOperators) {
    if (candidate.name == node.op && candidate.since <= opset) found = &candidate;
  }
  if (found == nullptr) fail(ErrorCode::kBadFile, "{} does not exist in opset {}", support.name, opset);
  return *found;
}

bool is_pooling(const Operator& op) { return support_of(op.name).pooling; }

std::vector<Value> run_operator(const Call& call) {
  check_attributes(call);
  check_inputs(call);
  return support_of(call.op.name).handler(call);
}

DType pooled_dtype(const Call& call, ElementType type) {
  for (const PooledType& row : kPooledTypes) {
    if (row.element == type) return row.dtype;
  }
  fail(ErrorCode::kUnsupported, "{} of {}: cenote does not pool this type", call.op.name, name_of(type));
}

std::size_t Budget::take_value(std::string_view what, ElementType type, const Dims& sizes) {
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(element_count(sizes), static_cast<std::int64_t>(size_of(type)), &bytes) ||
      bytes > bytes_left_) {
    fail(ErrorCode::kUnsupported, "{} would be {} of {}, more than the 1 GiB that one run may hold", what,
         to_string(sizes), name_of(type));
  }
  bytes_left_ -= bytes;
  return static_cast<std::size_t>(bytes);
}

void Budget::take_visits(std::string_view what, std::int64_t outputs, std::int64_t taps) {
  std::int64_t visits = 0;
  if (__builtin_mul_overflow(outputs, taps, &visits) || visits > visits_left_) {
    fail(ErrorCode::kUnsupported, "{} would read {} windows of {} elements, more than one run may", what,
         outputs, taps);
  }
  visits_left_ -= visits;
}

}  // namespace cenote::network::onnx
