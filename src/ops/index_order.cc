// Positions are taken apart and put together plane by plane, in parallel.
#include "ops/index_order.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "core/check.h"
#include "core/parallel.h"

namespace cenote {

namespace {

using Spatial = std::array<std::int64_t, 3>;  // D, H, W

/// The two ways to count inside a plane.
struct Plane {
  Spatial size;

  std::int64_t count() const { return size[0] * size[1] * size[2]; }
  std::int64_t column_major(std::int64_t row_major) const {
    const std::int64_t w = row_major % size[2];
    const std::int64_t h = row_major / size[2] % size[1];
    return row_major / size[2] / size[1] + (h + w * size[1]) * size[0];
  }
  std::int64_t row_major(std::int64_t column_major) const {
    const std::int64_t d = column_major % size[0];
    const std::int64_t h = column_major / size[0] % size[1];
    return (d * size[1] + h) * size[2] + column_major / size[0] / size[1];
  }
};

/// to[...] = convert(number of the plane, from[...]) for all elements; planes in parallel.
template <class Convert>
void convert_elements(const Tensor5& to, const ConstTensor5& from, const Convert& convert) {
  const std::int64_t positions = to.size[2] * to.size[3] * to.size[4];
  constexpr std::int64_t kGrain = 1 << 13;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(positions, 1));
  const auto offset_of = [](const Array5& stride, std::int64_t n, std::int64_t c, std::int64_t d,
                            std::int64_t h) {
    return n * stride[0] + c * stride[1] + d * stride[2] + h * stride[3];
  };
  parallel_for(to.size[0] * to.size[1], grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const std::int64_t n = plane / to.size[1];
      const std::int64_t c = plane % to.size[1];
      for (std::int64_t d = 0; d < to.size[2]; ++d) {
        for (std::int64_t h = 0; h < to.size[3]; ++h) {
          auto* const row = static_cast<std::int64_t*>(to.data) + offset_of(to.stride, n, c, d, h);
          const auto* const source =
              static_cast<const std::int64_t*>(from.data) + offset_of(from.stride, n, c, d, h);
          for (std::int64_t w = 0; w < to.size[4]; ++w)
            row[w * to.stride[4]] = convert(plane, source[w * from.stride[4]]);
        }
      }
    }
  });
}

}  // namespace

void check_index_order(const OpName& op, DType indices_dtype, IndexOrder order) {
  require(order == IndexOrder::kPlane || indices_dtype == DType::i64, op.name,
          "index_order wants i64 indices, got ", name_of(indices_dtype));
}

void from_plane_positions(const OpName& op, const TensorView& indices, const Dims& x_sizes,
                          IndexOrder order) {
  if (order == IndexOrder::kPlane) return;
  const Plane plane{spatial_sizes(op, x_sizes)};
  const bool columns = order == IndexOrder::kTensorColumnMajor;
  convert_elements(written_argument(op, "indices", indices, indices.sizes),
                   read_argument(op, "indices", indices), [&](std::int64_t number, std::int64_t index) {
                     if (index < 0) return index;
                     return number * plane.count() + (columns ? plane.column_major(index) : index);
                   });
}

ConstTensorView to_plane_positions(const OpName& op, const ConstTensorView& indices, const Dims& x_sizes,
                                   IndexOrder order, NoElement none, Tensor& converted) {
  if (order == IndexOrder::kPlane) return indices;
  const Plane plane{spatial_sizes(op, x_sizes)};
  const bool columns = order == IndexOrder::kTensorColumnMajor;
  const ConstTensor5 from = read_argument(op, "indices", indices);
  converted = output_like(op, DType::i64, indices.sizes, indices);
  std::atomic<bool> outside{false};
  std::atomic<std::int64_t> bad{0};
  convert_elements(written_argument(op, "indices", converted, indices.sizes), from,
                   [&](std::int64_t number, std::int64_t index) -> std::int64_t {
                     if (index == -1 && none == NoElement::kLegal) return index;
                     const std::int64_t begin = number * plane.count();
                     if (index < begin || index - begin >= plane.count()) {
                       if (!outside.exchange(true)) bad = index;
                       return -1;
                     }
                     return columns ? plane.row_major(index - begin) : index - begin;
                   });
  require(!outside, op.name, "indices must point into their own planes of the tensor",
          none == NoElement::kLegal ? ", or be -1" : "", ", got ", bad.load());
  return converted;
}

}  // namespace cenote
