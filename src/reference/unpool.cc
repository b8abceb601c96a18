// Max unpooling as it is meant: y is 0, then every element of x is stored where its index says, in row-major
// order, so that the last of those that name one position stays. The backward reads where the forward wrote.
// Elements are moved as bytes, whatever the dtype.
#include <cstring>
#include <optional>

#include "backend.h"
#include "reference/element_access.h"

namespace cenote::reference {
namespace {

/// The first index that names no element of its plane of `size`.
std::optional<std::int64_t> find_outside(const ConstTensor5& indices, const Array5& size) {
  std::optional<std::int64_t> outside;
  const std::int64_t positions = size[2] * size[3] * size[4];
  for_each_plane(indices.size, [&](std::int64_t n, std::int64_t c) {
    for_each_in_plane(indices.size, n, c, [&](const Array5& at) {
      const std::int64_t index = load_record(indices, at);
      if (!outside && (index < 0 || index >= positions)) outside = index;
    });
  });
  return outside;
}

template <class Void>
auto* bytes_of(const BasicTensor5<Void>& tensor, const Array5& position) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
  return static_cast<Byte*>(tensor.data) +
         offset_of(tensor, position) * static_cast<std::int64_t>(size_of(tensor.dtype));
}

void copy(const Tensor5& to, const Array5& at, const ConstTensor5& from, const Array5& from_at) {
  std::memcpy(bytes_of(to, at), bytes_of(from, from_at), size_of(to.dtype));
}

/// The element of the plane that holds `at` whose flat position is `index`.
Array5 element_named(const Array5& size, const Array5& at, std::int64_t index) {
  return {at[0], at[1], index / size[4] / size[3], index / size[4] % size[3], index % size[4]};
}

std::optional<std::int64_t> max(const Tensor5& y, const ConstTensor5& x, const ConstTensor5& indices) {
  if (const auto outside = find_outside(indices, y.size)) return outside;
  for_each_plane(y.size, [&](std::int64_t n, std::int64_t c) {
    for_each_in_plane(y.size, n, c,
                      [&](const Array5& at) { std::memset(bytes_of(y, at), 0, size_of(y.dtype)); });
    for_each_in_plane(x.size, n, c, [&](const Array5& at) {
      copy(y, element_named(y.size, at, load_record(indices, at)), x, at);
    });
  });
  return std::nullopt;
}

std::optional<std::int64_t> max_backward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                         const ConstTensor5& indices) {
  if (const auto outside = find_outside(indices, grad_y.size)) return outside;
  for_each_plane(grad_x.size, [&](std::int64_t n, std::int64_t c) {
    for_each_in_plane(grad_x.size, n, c, [&](const Array5& at) {
      copy(grad_x, at, grad_y, element_named(grad_y.size, at, load_record(indices, at)));
    });
  });
  return std::nullopt;
}

}  // namespace

const UnpoolBackend unpool{max, max_backward};

}  // namespace cenote::reference
