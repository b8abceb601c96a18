// A position is taken apart from its last axis on, and put together from the first when column-major.
#include "network/onnx/indices.h"

namespace cenote::network::onnx {
namespace {

constexpr int kFirstSpatial = 2;

std::int64_t column_major_position(std::int64_t row_major, const Dims& x_sizes, std::int64_t plane) {
  std::int64_t position = 0;
  std::int64_t stride = plane;
  for (int axis = x_sizes.size() - 1; axis >= kFirstSpatial; --axis) {
    stride /= x_sizes[axis];
    position += row_major % x_sizes[axis] * stride;
    row_major /= x_sizes[axis];
  }
  return position;
}

std::int64_t plane_of(const Dims& sizes) {
  std::int64_t plane = 1;
  for (int axis = kFirstSpatial; axis < sizes.size(); ++axis) plane *= sizes[axis];
  return plane;
}

}  // namespace

void to_plane_positions(std::span<std::int64_t> indices, const Dims& y_sizes) {
  const std::int64_t planes = y_sizes[0] * y_sizes[1];
  if (planes == 0 || indices.empty()) return;
  const std::int64_t plane = plane_of(y_sizes);
  const auto per_plane = static_cast<std::int64_t>(indices.size()) / planes;
  std::int64_t number = 0;
  for (std::int64_t& index : indices) {
    const std::int64_t start = number++ / per_plane * plane;
    index = index >= start && index - start < plane ? index - start : -1;
  }
}

void to_tensor_positions(std::span<std::int64_t> indices, const Dims& x_sizes, bool column_major) {
  const std::int64_t planes = x_sizes[0] * x_sizes[1];
  if (planes == 0 || indices.empty()) return;
  const std::int64_t plane = plane_of(x_sizes);
  const auto per_plane = static_cast<std::int64_t>(indices.size()) / planes;
  std::int64_t number = 0;
  for (std::int64_t& index : indices) {
    const std::int64_t start = number++ / per_plane * plane;
    if (index >= 0) index = start + (column_major ? column_major_position(index, x_sizes, plane) : index);
  }
}

}  // namespace cenote::network::onnx
