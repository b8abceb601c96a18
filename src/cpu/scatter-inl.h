// Rows and planes filled and copied element by element, whatever their strides.
#if defined(CENOTE_CPU_SCATTER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SCATTER_INL_H_
#undef CENOTE_CPU_SCATTER_INL_H_
#else
#define CENOTE_CPU_SCATTER_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cpu/past_caches-inl.h"
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

/// The positions of a plane lie one after another.
template <class Tensor>
bool dense_planes(const Tensor& tensor) {
  const auto& size = tensor.size;
  const auto& stride = tensor.stride;
  return (size[4] == 1 || stride[4] == 1) && (size[3] == 1 || stride[3] == size[4]) &&
         (size[2] == 1 || stride[2] == size[3] * size[4]);
}

/// Whether planes of so many bytes, to which elements are scattered, are stored past the caches: by way of a
/// plane that stays in them.
template <class... Sources>
bool scatters_past_caches(const Tensor5& to, std::int64_t plane_bytes, const Sources&... sources) {
  constexpr std::int64_t kNearBytes = 256 << 10;
  return plane_bytes <= kNearBytes && dense_planes(to) && stores_past_caches(to, sources...);
}

/// All planes of a tensor as one of that size in `lines`, where it belongs to plane (n, c).
template <class T>
Tensor5 near_plane(Tensor5 tensor, std::int64_t n, std::int64_t c, std::int64_t plane_bytes,
                   OutputLines& lines) {
  tensor.data = lines.room(plane_of<T>(tensor, n, c), plane_bytes);
  tensor.stride[0] = tensor.stride[1] = 0;
  return tensor;
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

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
