// Channels-last rows as rows of W * C elements whose windows step by C, for large windows of stride 1: the
// loops of planar-inl.h and planar_indices-inl.h then share what windows have in common, where the loops of
// channels_last-inl.h read every tap of every window. [1, 64, 112, 112] f32 max stride 1, AVX2, one thread:
// 5x5 1.59 and 0.81 ms, 13x13 10.4 and 1.70 ms; with taps 13x13 17.4 and 4.2 ms. Few channels fill no vectors
// of their own: [1, 3, 56, 56] 3x3 0.069 and 0.020 ms.
#if defined(CENOTE_CPU_FLAT_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_FLAT_ROWS_INL_H_
#undef CENOTE_CPU_FLAT_ROWS_INL_H_
#else
#define CENOTE_CPU_FLAT_ROWS_INL_H_
#endif

#include "cpu/rows-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether the channels of a pixel lie side by side, and the pixels of a row too.
template <class Tensor>
bool dense_rows(const Tensor& tensor) {
  return tensor.stride[1] == 1 && tensor.stride[4] == tensor.size[1];
}

/// Whether windows of stride 1 with at least `fewest_taps` taps may be flattened.
inline bool flattens(const Axes& axes, std::int64_t channels, std::int64_t fewest_taps) {
  constexpr std::int64_t kMostPositions = 1 << 15;
  const Axis& w = axes[2];
  const auto taps = static_cast<Wide>(axes[0].kernel()) * axes[1].kernel() * w.kernel();
  return w.stride() == 1 && taps >= fewest_taps && w.dilated_kernel() <= kMostPositions / channels;
}

template <class Tensor>
Tensor flat_rows(Tensor tensor) {
  tensor.size[4] *= tensor.size[1];
  tensor.size[1] = 1;
  tensor.stride[4] = 1;
  return tensor;
}

/// The axes of flat rows.
inline Axes flat_axes(const Axes& axes, const WindowAxis& w, std::int64_t channels) {
  const WindowAxis flat{w.kernel, 1, w.padding_begin * channels, w.padding_end * channels,
                        w.dilation * channels};
  return {axes[0], axes[1], Axis::window(flat, axes[2].in() * channels, axes[2].out() * channels)};
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
