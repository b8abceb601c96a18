// Double backward of max: a max backward sends each gradient to one recorded position, so its derivative
// reads grad_grad_x at that position. Compact taps become positions in the plane first, with
//   position on an axis = start of the window + tap on that axis * dilation.
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "convert.h"
#include "kernels.h"

namespace cenote::torch_ops {

namespace {

/// How taps number the positions of one axis.
struct TapAxis {
  std::int64_t taps;
  std::int64_t dilation;
  std::vector<std::int64_t> starts;  // per output
};

TapAxis window_axis(const OpArguments& arguments, int axis, std::int64_t size, std::int64_t outputs) {
  TapAxis result{value_at(arguments.kernel, axis), value_at(arguments.dilation, axis), {}};
  const std::int64_t stride = arguments.stride.empty() ? result.taps : value_at(arguments.stride, axis);
  for (std::int64_t o = 0; o < outputs; ++o) {
    result.starts.push_back(o * stride - begin_padding(arguments, axis, size, outputs));
  }
  return result;
}

TapAxis adaptive_axis(std::int64_t size, std::int64_t outputs) {
  TapAxis result{0, 1, {}};
  for (std::int64_t o = 0; o < outputs; ++o) {
    const std::int64_t start = o * size / outputs;
    const std::int64_t end = ((o + 1) * size - 1) / outputs + 1;
    result.starts.push_back(start);
    result.taps = std::max(result.taps, end - start);
  }
  return result;
}

/// Positions in the plane, -1 where there is none, in the sizes of the record.
at::Tensor positions_of(const OpInfo& op, const at::Tensor& record, const Dims& x_sizes,
                        const OpArguments& arguments) {
  if (record.scalar_type() == at::kLong) return plane_positions(op, record, x_sizes, arguments.index_order);
  const Dims y_sizes = sizes_of(record);
  const std::int64_t none = record.scalar_type() == at::kByte ? 0xff : 0xffff;
  at::Tensor rest = record.to(at::kLong);
  const at::Tensor empty = rest == none;
  at::Tensor positions = at::zeros_like(rest);
  std::int64_t step = 1;
  for (int axis = op.spatial_rank - 1; axis >= 0; --axis) {
    const int place = x_sizes.size() - op.spatial_rank + axis;
    const TapAxis taps = op.parameters & kTakesWindow
                             ? window_axis(arguments, axis, x_sizes[place], y_sizes[place])
                             : adaptive_axis(x_sizes[place], y_sizes[place]);
    std::vector<std::int64_t> broadcast(static_cast<std::size_t>(y_sizes.size()), 1);
    broadcast[static_cast<std::size_t>(place)] = y_sizes[place];
    const at::Tensor starts = constant(taps.starts, rest).reshape(broadcast);
    positions = positions + (starts + rest.remainder(taps.taps) * taps.dilation) * step;
    rest = rest.div(taps.taps, "floor");
    step *= x_sizes[place];
  }
  return positions.masked_fill(empty, -1);
}

}  // namespace

at::Tensor plane_positions(const OpInfo& op, const at::Tensor& indices, const Dims& sizes, IndexOrder order) {
  if (order == IndexOrder::kPlane) return indices;
  std::int64_t count = 1;
  for (int i = sizes.size() - op.spatial_rank; i < sizes.size(); ++i) count *= sizes[i];
  const at::Tensor inside = indices.remainder(count);
  at::Tensor positions = inside;
  if (order == IndexOrder::kTensorColumnMajor) {  // the first axis is the fastest
    at::Tensor rest = inside;
    positions = at::zeros_like(inside);
    for (int i = sizes.size() - op.spatial_rank; i < sizes.size(); ++i) {
      positions = positions * sizes[i] + rest.remainder(sizes[i]);
      rest = rest.div(sizes[i], "floor");
    }
  }
  return at::where(indices < 0, indices, positions);
}

at::Tensor gather_at_record(const OpInfo& op, const at::Tensor& grad_grad_x, const at::Tensor& record,
                            const OpArguments& arguments) {
  const at::Tensor positions =
      positions_of(op, record, sizes_of(grad_grad_x), arguments).flatten(-op.spatial_rank);
  const at::Tensor plane = grad_grad_x.flatten(-op.spatial_rank);
  const at::Tensor picked = plane.gather(-1, positions.clamp_min(0)).masked_fill(positions < 0, 0);
  return picked.reshape(record.sizes());
}

}  // namespace cenote::torch_ops
