// Positions in planes and in the whole tensor as they are meant: taken apart and put together one by one.
#include "backend.h"
#include "reference/element_access.h"

namespace cenote::reference {
namespace {

std::int64_t column_major(const TensorOrder& order, std::int64_t row_major) {
  const std::int64_t w = row_major % order.size[2];
  const std::int64_t h = row_major / order.size[2] % order.size[1];
  const std::int64_t d = row_major / order.size[2] / order.size[1];
  return d + (h + w * order.size[1]) * order.size[0];
}

std::int64_t row_major(const TensorOrder& order, std::int64_t column_major) {
  const std::int64_t d = column_major % order.size[0];
  const std::int64_t h = column_major / order.size[0] % order.size[1];
  const std::int64_t w = column_major / order.size[0] / order.size[1];
  return (d * order.size[1] + h) * order.size[2] + w;
}

void to_tensor(const Tensor5& to, const ConstTensor5& from, const TensorOrder& order) {
  for_each_plane(from.size, [&](std::int64_t n, std::int64_t c) {
    const std::int64_t begin = (n * from.size[1] + c) * order.positions();
    for_each_in_plane(from.size, n, c, [&](const Array5& position) {
      const auto index = load<std::int64_t>(from, position);
      const std::int64_t own = order.column_major && index >= 0 ? column_major(order, index) : index;
      store(to, position, index < 0 ? index : begin + own);
    });
  });
}

std::optional<std::int64_t> to_planes(const Tensor5& to, const ConstTensor5& from, const TensorOrder& order,
                                      NoElement none) {
  std::optional<std::int64_t> bad;
  for_each_plane(from.size, [&](std::int64_t n, std::int64_t c) {
    const std::int64_t begin = (n * from.size[1] + c) * order.positions();
    for_each_in_plane(from.size, n, c, [&](const Array5& position) {
      const auto index = load<std::int64_t>(from, position);
      const bool inside = index >= begin && index - begin < order.positions();
      if (!inside && (index != kNoElement || none == NoElement::kRefused)) bad = index;
      const std::int64_t own = inside ? index - begin : 0;
      store(to, position, !inside ? kNoElement : order.column_major ? row_major(order, own) : own);
    });
  });
  return bad;
}

}  // namespace

const IndexOrderBackend index_order{to_tensor, to_planes};

}  // namespace cenote::reference
