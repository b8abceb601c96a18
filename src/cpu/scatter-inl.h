// Max backward from i64 indices, which may point anywhere in the plane: no vector work. Planes are
// independent and each is written by one thread, in the order of the outputs.
#if defined(CENOTE_CPU_SCATTER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SCATTER_INL_H_
#undef CENOTE_CPU_SCATTER_INL_H_
#else
#define CENOTE_CPU_SCATTER_INL_H_
#endif

#include <atomic>
#include <limits>
#include <optional>

#include "core/parallel.h"
#include "cpu/rows-inl.h"
#include "cpu/vector-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

template <class T>
void fill_row(T* to, std::int64_t stride, std::int64_t count, T value) {
  if (stride == 1) {
    std::fill(to, to + count, value);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) to[i * stride] = value;
}

/// Copies neighbours to elements `stride` apart, and asks for the memory beyond them, which is written next.
template <class T>
void copy_ahead(const T* from, T* to, std::int64_t stride, std::int64_t count) {
  if (stride == 1) {
    ask_ahead(to, count);
    std::copy_n(from, count, to);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) to[i * stride] = from[i];
}

template <class T>
void copy_row(const T* from, T* to, std::int64_t stride, std::int64_t count) {
  if (stride == 1) {
    std::copy_n(from, count, to);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) to[i * stride] = from[i * stride];
}

/// Positions begin .. end - 1 of an axis.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  bool contains(std::int64_t position) const { return position >= begin && position < end; }
};

/// The positions of a plane lie one after another.
template <class Tensor>
bool dense_planes(const Tensor& tensor) {
  const auto& size = tensor.size;
  const auto& stride = tensor.stride;
  return (size[4] == 1 || stride[4] == 1) && (size[3] == 1 || stride[3] == size[4]) &&
         (size[2] == 1 || stride[2] == size[3] * size[4]);
}

template <class T>
void zero_plane(const Tensor5& tensor, std::int64_t n, std::int64_t c) {
  const auto& size = tensor.size;
  if (dense_planes(tensor)) return fill_row(plane_of<T>(tensor, n, c), 1, size[2] * size[3] * size[4], T{0});
  for (std::int64_t d = 0; d < size[2]; ++d) {
    for (std::int64_t h = 0; h < size[3]; ++h) {
      fill_row(row_of<T>(tensor, n, c, d, h), tensor.stride[4], size[4], T{0});
    }
  }
}

/// grad_x of one plane from i64 indices; returns an index outside the plane, if there is one.
template <class T>
std::optional<std::int64_t> scatter_plane(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                          const ConstTensor5& indices, std::int64_t n, std::int64_t c) {
  const auto& size = grad_x.size;
  const std::int64_t positions = size[2] * size[3] * size[4];
  T* const plane = plane_of<T>(grad_x, n, c);
  const bool dense = dense_planes(grad_x);
  std::optional<std::int64_t> bad;
  zero_plane<T>(grad_x, n, c);
  const Cursor::Index outputs{1, 1, grad_y.size[2], grad_y.size[3], grad_y.size[4]};
  Cursor at(outputs, 0);
  for (std::int64_t left = Cursor::total(outputs); left > 0; --left, at.next()) {
    const std::int64_t index =
        row_of<const std::int64_t>(indices, n, c, at[2], at[3])[at[4] * indices.stride[4]];
    if (index < 0 || index >= positions) {
      if (index != -1) bad = index;
      continue;
    }
    if (dense) {
      plane[index] += row_of<const T>(grad_y, n, c, at[2], at[3])[at[4] * grad_y.stride[4]];
      continue;
    }
    const std::int64_t line = index / size[4];
    T* const row = row_of<T>(grad_x, n, c, line / size[3], line % size[3]);
    row[index % size[4] * grad_x.stride[4]] +=
        row_of<const T>(grad_y, n, c, at[2], at[3])[at[4] * grad_y.stride[4]];
  }
  return bad;
}

template <class T>
std::optional<std::int64_t> scatter_indices(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                            const ConstTensor5& indices) {
  constexpr std::int64_t kNoBadIndex = -1;  // -1 is legal
  std::atomic<std::int64_t> bad_index{kNoBadIndex};
  const std::int64_t channels = grad_x.size[1];
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * grad_x.size[2] * grad_x.size[3] * grad_x.size[4];
  parallel_for(grad_x.size[0] * channels, row_grain(bytes), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const auto bad = scatter_plane<T>(grad_x, grad_y, indices, plane / channels, plane % channels);
      if (bad) bad_index.store(*bad);
    }
  });
  const std::int64_t bad = bad_index.load();
  return bad == kNoBadIndex ? std::nullopt : std::optional(bad);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
