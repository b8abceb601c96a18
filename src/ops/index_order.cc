// Picks the loops that convert positions, and reports those outside.
#include "ops/index_order.h"

#include <cstdint>
#include <optional>

#include "core/check.h"

namespace cenote {

namespace {

TensorOrder tensor_order(const OpName& op, const Dims& x_sizes, IndexOrder order) {
  return {spatial_sizes(op, x_sizes), order == IndexOrder::kTensorColumnMajor};
}

/// Those of the target hold positions in f64.
const IndexOrderBackend& loops_for(const TensorOrder& order) {
  constexpr std::int64_t kBeyond = std::int64_t{1} << 52;
  return (order.positions() < kBeyond ? backend() : reference_backend()).index_order;
}

}  // namespace

void check_index_order(const OpName& op, DType indices_dtype, IndexOrder order) {
  require(order == IndexOrder::kPlane || indices_dtype == DType::i64, op.name,
          "index_order wants i64 indices, got ", name_of(indices_dtype));
}

void from_plane_positions(const OpName& op, const TensorView& indices, const Dims& x_sizes,
                          IndexOrder order) {
  if (order == IndexOrder::kPlane) return;
  const TensorOrder counted = tensor_order(op, x_sizes, order);
  loops_for(counted).to_tensor(written_argument(op, "indices", indices, indices.sizes),
                               read_argument(op, "indices", indices), counted);
}

ConstTensorView to_plane_positions(const OpName& op, const ConstTensorView& indices, const Dims& x_sizes,
                                   IndexOrder order, NoElement none, Tensor& converted) {
  if (order == IndexOrder::kPlane) return indices;
  const TensorOrder counted = tensor_order(op, x_sizes, order);
  const ConstTensor5 from = read_argument(op, "indices", indices);
  converted = output_like(op, DType::i64, indices.sizes, indices);
  const std::optional<std::int64_t> outside = loops_for(counted).to_planes(
      written_argument(op, "indices", converted, indices.sizes), from, counted, none);
  require(!outside, op.name, "indices must point into their own planes of the tensor",
          none == NoElement::kLegal ? ", or be -1" : "", ", got ", outside.value_or(0));
  return converted;
}

}  // namespace cenote
