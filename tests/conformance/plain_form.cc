// Plain forms; see plain_form.h.
#include "conformance/plain_form.h"

#include <algorithm>
#include <cmath>

namespace cenote_test {

using cenote::AutoPad;
using cenote::Dims;

// ONNX: SAME gives ceil(size / stride) outputs, and pads as much as their windows need.
Case with_explicit_padding(Case one) {
  cenote::OpArguments& arguments = one.arguments;
  const bool upper = arguments.auto_pad == AutoPad::kSameUpper;
  const bool same = upper || arguments.auto_pad == AutoPad::kSameLower;
  arguments.auto_pad = AutoPad::kNotSet;
  if (!same) return one;
  arguments.ceil_mode = false;
  Dims begin;
  Dims end;
  for (int axis = 0; axis < one.op->spatial_rank; ++axis) {
    const auto of = [&](const Dims& dims) { return dims[dims.size() == 1 ? 0 : axis]; };
    const std::int64_t size = one.sizes[one.sizes.size() - one.op->spatial_rank + axis];
    const std::int64_t kernel = of(arguments.kernel);
    const std::int64_t stride = arguments.stride.empty() ? kernel : of(arguments.stride);
    const std::int64_t outputs = (size + stride - 1) / stride;
    const std::int64_t reach = (outputs - 1) * stride + of(arguments.dilation) * (kernel - 1) + 1;
    const std::int64_t cells = std::max<std::int64_t>(reach - size, 0);
    begin.push_back(upper ? cells / 2 : (cells + 1) / 2);
    end.push_back(cells - begin[axis]);
  }
  arguments.padding = begin;
  arguments.padding_end = end;
  return one;
}

Case plain_form(const Case& one) {
  Case plain = with_explicit_padding(one);
  plain.arguments.index_order = cenote::IndexOrder::kPlane;
  if (plain.arguments.quantization) {
    plain.arguments.quantization.reset();
    plain.dtype = cenote::DType::f64;
  }
  return plain;
}

std::vector<double> real_input(const Case& one) {
  std::vector<double> numbers = values_of(make_input(one));
  if (!one.arguments.quantization) return numbers;
  // Whole numbers, whose sums are exact: the scale comes in last.
  const auto zero_point = static_cast<double>(one.arguments.quantization->x_zero_point);
  for (double& number : numbers) number -= zero_point;
  return numbers;
}

std::vector<double> quantized(const cenote::Quantization& quantization, cenote::DType dtype,
                              std::vector<double> numbers) {
  const auto& [x_scale, x_zero_point, y_scale, y_zero_point] = quantization;
  const double least = dtype == cenote::DType::i8 ? -128 : 0;
  for (double& number : numbers) {
    const double rounded = std::nearbyint(number * (x_scale / y_scale)) + static_cast<double>(y_zero_point);
    number = std::clamp(rounded, least, least + 255);
  }
  return numbers;
}

std::vector<std::int64_t> in_index_order(std::vector<std::int64_t> positions, const Dims& sizes,
                                         int spatial_rank, cenote::IndexOrder order) {
  if (order == cenote::IndexOrder::kPlane || positions.empty()) return positions;
  const int first = sizes.size() - spatial_rank;
  std::int64_t plane = 1;
  for (int axis = first; axis < sizes.size(); ++axis) plane *= sizes[axis];
  const std::int64_t planes = element_count(sizes) / plane;
  const auto per_plane = static_cast<std::int64_t>(positions.size()) / planes;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    if (positions[i] < 0) continue;
    std::int64_t place = positions[i];
    if (order == cenote::IndexOrder::kTensorColumnMajor) {
      std::int64_t rest = place;
      std::int64_t step = plane;
      place = 0;
      for (int axis = sizes.size() - 1; axis >= first; --axis) {
        step /= sizes[axis];
        place += rest % sizes[axis] * step;
        rest /= sizes[axis];
      }
    }
    positions[i] = static_cast<std::int64_t>(i) / per_plane * plane + place;
  }
  return positions;
}

}  // namespace cenote_test
