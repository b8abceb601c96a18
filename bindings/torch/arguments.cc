// Names, defaults and order are those of torch's functions; what cenote adds are keywords.
#include "arguments.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <type_traits>

#include "convert.h"

namespace cenote::torch_ops {

namespace {

template <Dims OpArguments::* kMember>
void pack_dims(Stack& stack, const OpArguments& arguments) {
  stack.emplace_back(to_array_ref(arguments.*kMember));
}
template <Dims OpArguments::* kMember>
void unpack_dims(const c10::IValue& value, const OpInfo& /*op*/, OpArguments& arguments) {
  arguments.*kMember = to_dims(value.toDimVector());
}

template <auto kMember>
void pack_value(Stack& stack, const OpArguments& arguments) {
  stack.emplace_back(arguments.*kMember);
}
template <auto kMember>
void unpack_value(const c10::IValue& value, const OpInfo& /*op*/, OpArguments& arguments) {
  using Value = std::remove_reference_t<decltype(arguments.*kMember)>;
  arguments.*kMember = value.to<Value>();
}

template <Dims OpArguments::* kMember>
constexpr Field dims_field(const char* schema) {
  return {schema, pack_dims<kMember>, unpack_dims<kMember>};
}
template <auto kMember>
constexpr Field value_field(const char* schema) {
  return {schema, pack_value<kMember>, unpack_value<kMember>};
}

constexpr Field kKernel = dims_field<&OpArguments::kernel>("int[%] kernel_size");
constexpr Field kStride = dims_field<&OpArguments::stride>("int[%] stride=[]");
constexpr Field kPadding = dims_field<&OpArguments::padding>("int[%] padding=0");
constexpr Field kPaddingEnd = dims_field<&OpArguments::padding_end>("int[%] padding_end=[]");
constexpr Field kDilation = dims_field<&OpArguments::dilation>("int[%] dilation=1");
constexpr Field kOutputSize = dims_field<&OpArguments::output_size>("int[%] output_size");
constexpr Field kCeilMode = value_field<&OpArguments::ceil_mode>("bool ceil_mode=False");
constexpr Field kCountIncludePad =
    value_field<&OpArguments::count_include_pad>("bool count_include_pad=True");
constexpr Field kDivisorOverride = value_field<&OpArguments::divisor_override>("int? divisor_override=None");
constexpr Field kNormType = value_field<&OpArguments::norm_type>("float norm_type");
constexpr Field kNormTypeOrTwo = value_field<&OpArguments::norm_type>("float norm_type=2");
constexpr Field kSharpness = value_field<&OpArguments::sharpness>("float? sharpness=None");

Quantization& quantization_in(OpArguments& arguments) {
  return arguments.quantization ? *arguments.quantization : arguments.quantization.emplace();
}

/// A scale is None where there is no quantization.
template <double Quantization::* kMember>
constexpr Field scale_field(const char* schema) {
  return {schema,
          [](Stack& stack, const OpArguments& arguments) {
            if (arguments.quantization) {
              stack.emplace_back((*arguments.quantization).*kMember);
            } else {
              stack.emplace_back();
            }
          },
          [](const c10::IValue& value, const OpInfo& /*op*/, OpArguments& arguments) {
            if (!value.isNone()) quantization_in(arguments).*kMember = value.toDouble();
          }};
}
template <std::int64_t Quantization::* kMember>
constexpr Field zero_point_field(const char* schema) {
  return {schema,
          [](Stack& stack, const OpArguments& arguments) {
            stack.emplace_back(arguments.quantization ? (*arguments.quantization).*kMember : std::int64_t{0});
          },
          [](const c10::IValue& value, const OpInfo& /*op*/, OpArguments& arguments) {
            if (value.toInt() != 0) quantization_in(arguments).*kMember = value.toInt();
          }};
}
constexpr Field kXScale = scale_field<&Quantization::x_scale>("float? x_scale=None");
constexpr Field kXZeroPoint = zero_point_field<&Quantization::x_zero_point>("int x_zero_point=0");
constexpr Field kYScale = scale_field<&Quantization::y_scale>("float? y_scale=None");
constexpr Field kYZeroPoint = zero_point_field<&Quantization::y_zero_point>("int y_zero_point=0");

constexpr Field kP = value_field<&OpArguments::p>("float[] p=[3.]");
constexpr Field kEps = value_field<&OpArguments::eps>("float eps=1e-06");

/// An argument that is one of some names.
template <class Choice>
struct Named {
  const char* name;
  Choice choice;
};
template <class Choice, std::size_t kCount>
struct Choices {
  const char* argument;
  std::array<Named<Choice>, kCount> named;
};

constexpr Choices<Convention, 2> kConventions{
    "convention", {{{"pytorch", Convention::kPyTorch}, {"onnx", Convention::kOnnx}}}};
constexpr Choices<AutoPad, 4> kAutoPads{"auto_pad",
                                        {{{"NOTSET", AutoPad::kNotSet},
                                          {"SAME_UPPER", AutoPad::kSameUpper},
                                          {"SAME_LOWER", AutoPad::kSameLower},
                                          {"VALID", AutoPad::kValid}}}};
constexpr Choices<IndexOrder, 3> kIndexOrders{"index_order",
                                              {{{"plane", IndexOrder::kPlane},
                                                {"tensor", IndexOrder::kTensor},
                                                {"tensor_column_major", IndexOrder::kTensorColumnMajor}}}};

/// The name as torch's value; made once, since every call passes one.
template <const auto& kChoices, class Choice>
const c10::IValue& name_of(Choice choice) {
  static const std::vector<c10::IValue> names = [] {
    std::vector<c10::IValue> values;
    values.reserve(kChoices.named.size());
    for (const auto& named : kChoices.named) values.emplace_back(std::string(named.name));
    return values;
  }();
  std::size_t place = 0;
  while (place + 1 < names.size() && kChoices.named[place].choice != choice) ++place;
  return names[place];
}

template <const auto& kChoices>
auto choice_of(const OpInfo& op, const std::string& name) {
  std::string names;
  for (const auto& named : kChoices.named) {
    if (name == named.name) return named.choice;
    names += (names.empty() ? "" : ", ") + std::string(named.name);
  }
  TORCH_CHECK_VALUE(false, "[", op.name, "] ", kChoices.argument, " must be one of ", names, ", got '", name,
                    "'");
}

template <auto kMember, const auto& kChoices>
constexpr Field choice_field(const char* schema) {
  return {schema,
          [](Stack& stack, const OpArguments& arguments) {
            stack.emplace_back(name_of<kChoices>(arguments.*kMember));
          },
          [](const c10::IValue& value, const OpInfo& op, OpArguments& arguments) {
            arguments.*kMember = choice_of<kChoices>(op, value.toStringRef());
          }};
}

constexpr Field kConvention =
    choice_field<&OpArguments::convention, kConventions>("str convention='pytorch'");
constexpr Field kAutoPad = choice_field<&OpArguments::auto_pad, kAutoPads>("str auto_pad='NOTSET'");
constexpr Field kIndexOrder =
    choice_field<&OpArguments::index_order, kIndexOrders>("str index_order='plane'");

void pack_requested_size(Stack& stack, const OpArguments& arguments) {
  if (arguments.output_size.empty()) {
    stack.emplace_back();
  } else {
    stack.emplace_back(to_array_ref(arguments.output_size));
  }
}

/// As in torch: the spatial sizes alone, or all sizes of a batched result, the first two of which are not
/// looked at.
void unpack_requested_size(const c10::IValue& value, const OpInfo& op, OpArguments& arguments) {
  if (value.isNone()) return;
  const auto sizes = value.toDimVector();
  const auto rank = static_cast<std::size_t>(op.spatial_rank);
  // An empty list means the default size to cenote, and is a mistake here.
  TORCH_CHECK_VALUE(!sizes.empty(), "[", op.name, "] output_size must have 1, ", rank, " or ", rank + 2,
                    " values, got []");
  arguments.output_size = to_dims(at::IntArrayRef(sizes).slice(sizes.size() == rank + 2 ? 2 : 0));
}

constexpr Field kRequestedSize{"int[]? output_size=None", pack_requested_size, unpack_requested_size};

// Of fractional pooling: what is not given is None. From C++ the seed always is given. samples_for() reads
// the samples.
constexpr Field kFractionalSize{"int[%]? output_size=None", pack_requested_size,
                                [](const c10::IValue& value, const OpInfo& /*op*/, OpArguments& arguments) {
                                  if (!value.isNone()) arguments.output_size = to_dims(value.toDimVector());
                                }};
constexpr Field kOutputRatio{"float[%]? output_ratio=None",
                             [](Stack& stack, const OpArguments& arguments) {
                               if (arguments.output_ratio.empty()) {
                                 stack.emplace_back();
                               } else {
                                 stack.emplace_back(arguments.output_ratio);
                               }
                             },
                             [](const c10::IValue& value, const OpInfo& /*op*/, OpArguments& arguments) {
                               if (!value.isNone()) arguments.output_ratio = value.toDoubleVector();
                             }};
constexpr Field kSamples{"Tensor? _random_samples=None",
                         [](Stack& stack, const OpArguments& arguments) {
                           if (arguments.samples) {
                             stack.emplace_back(to_tensor(*arguments.samples, "samples"));
                           } else {
                             stack.emplace_back();
                           }
                         },
                         // Only where elements are read, which a wrapper of torch.func has not.
                         [](const c10::IValue& /*value*/, const OpInfo& /*op*/, OpArguments&) {}};
constexpr Field kSeed{"int? seed=None",
                      [](Stack& stack, const OpArguments& arguments) {
                        stack.emplace_back(static_cast<std::int64_t>(arguments.seed));
                      },
                      [](const c10::IValue& value, const OpInfo& /*op*/, OpArguments& arguments) {
                        if (!value.isNone()) arguments.seed = static_cast<std::uint64_t>(value.toInt());
                      }};

}  // namespace

Signature::Signature(const OpInfo& op) : op_(op) {
  const auto takes = [&](std::uint32_t parameters) { return (op.parameters & parameters) != 0; };
  const bool window = takes(kTakesWindow);
  if (takes(kTakesSamples)) {
    positional_ = {&kKernel, &kFractionalSize, &kOutputRatio};
    keyword_ = {&kSamples, &kSeed};  // in this order at the end: samples_for
  } else if (takes(kTakesUnpool)) {
    positional_ = {&kKernel, &kStride, &kPadding, &kRequestedSize};
  } else if (takes(kTakesDivisor)) {  // avg
    positional_ = {&kKernel, &kStride, &kPadding, &kCeilMode, &kCountIncludePad, &kDivisorOverride};
    keyword_ = {&kPaddingEnd, &kDilation};
  } else if (window && takes(kTakesNormType)) {  // lp
    positional_ = {&kNormType, &kKernel, &kStride, &kCeilMode};
    keyword_ = {&kPadding, &kPaddingEnd, &kDilation};
  } else if (window) {  // max and what takes the same
    positional_ = {&kKernel, &kStride, &kPadding, &kDilation, &kCeilMode};
    keyword_ = {&kPaddingEnd};
  } else if (takes(kTakesOutputSize)) {
    if (takes(kTakesNormType)) positional_ = {&kNormType};
    positional_.push_back(&kOutputSize);
  } else if (takes(kTakesNormType)) {  // global
    positional_ = {&kNormTypeOrTwo};
  } else if (takes(kTakesGem)) {
    positional_ = {&kP, &kEps};
  }
  if (takes(kTakesSharpness)) keyword_.push_back(&kSharpness);
  if (window) keyword_.insert(keyword_.end(), {&kConvention, &kAutoPad});
  if (takes(kTakesIndexOrder | kTakesUnpool)) keyword_.push_back(&kIndexOrder);
  if (takes(kTakesQuantization))
    keyword_.insert(keyword_.end(), {&kXScale, &kXZeroPoint, &kYScale, &kYZeroPoint});
}

std::string Signature::text_of(const std::vector<const Field*>& fields) const {
  std::string text;
  for (const Field* field : fields) {
    text += ", ";
    for (const char* letter = field->schema; *letter != '\0'; ++letter) {
      if (*letter == '%') {
        text += std::to_string(op_.spatial_rank);
      } else {
        text += *letter;
      }
    }
  }
  return text;
}

void Signature::pack(Stack& stack, const OpArguments& arguments) const {
  for (const auto* fields : {&positional_, &keyword_})
    for (const Field* field : *fields) field->pack(stack, arguments);
}

OpArguments Signature::unpack(std::span<const c10::IValue> values) const {
  OpArguments arguments;
  const c10::IValue* value = values.data();
  for (const auto* fields : {&positional_, &keyword_})
    for (const Field* field : *fields) field->unpack(*value++, op_, arguments);
  return arguments;
}

std::int64_t value_at(const Dims& values, int axis) { return values[values.size() == 1 ? 0 : axis]; }

std::int64_t begin_padding(const OpArguments& arguments, int axis, std::int64_t in, std::int64_t out) {
  const bool upper = arguments.auto_pad == AutoPad::kSameUpper;
  if (!upper && arguments.auto_pad != AutoPad::kSameLower) return value_at(arguments.padding, axis);
  const std::int64_t kernel = value_at(arguments.kernel, axis);
  const std::int64_t stride = arguments.stride.empty() ? kernel : value_at(arguments.stride, axis);
  const std::int64_t covered = (out - 1) * stride + (kernel - 1) * value_at(arguments.dilation, axis) + 1;
  const std::int64_t total = std::max<std::int64_t>(covered - in, 0);
  return upper ? total / 2 : total - total / 2;
}

const Signature& signature_of(const OpInfo& op) {
  static const std::vector<Signature> table(ops().begin(), ops().end());
  return table[static_cast<std::size_t>(&op - ops().data())];
}

}  // namespace cenote::torch_ops
