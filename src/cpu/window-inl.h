// Window pooling of one dtype on the CPU: picks the loops that fit the strides and the window.
#if defined(CENOTE_CPU_WINDOW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_WINDOW_INL_H_
#undef CENOTE_CPU_WINDOW_INL_H_
#else
#define CENOTE_CPU_WINDOW_INL_H_
#endif

#include <algorithm>
#include <optional>

#include "backend.h"
#include "core/parallel.h"
#include "cpu/block_backward-inl.h"
#include "cpu/few_channels_backward-inl.h"
#include "cpu/index_scatter-inl.h"
#include "cpu/merged_axes.h"
#include "cpu/planar_backward-inl.h"
#include "cpu/segments-inl.h"
#include "cpu/tap_planes-inl.h"
#include "cpu/tap_scatter-inl.h"
#include "cpu/unit_stride_backward-inl.h"
#include "cpu/window_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

const GlobalBackend* GlobalTable();  // of the same target

/// Whether each plane has one window, which is the plane.
inline bool covers_planes(const Axes& axes) {
  return std::all_of(axes.begin(), axes.end(),
                     [](const Axis& axis) { return axis.out() == 1 && axis.taps(0).count == axis.in(); });
}
/// Whether its taps are the elements of the plane, in their order.
inline bool taps_are_positions(const Axes& axes) {
  return covers_planes(axes) &&
         std::all_of(axes.begin(), axes.end(), [](const Axis& axis) { return axis.kernel() == axis.in(); });
}
/// Whether it divides by the number of its elements.
inline bool covers_planes(const Axes& axes, const WindowDivisors& divisors) {
  return covers_planes(axes) && divisors(0, 0, 0) == axes[0].in() * axes[1].in() * axes[2].in();
}
/// Whether global pooling is faster over such planes: channels-first max, AVX-512, two threads, against
/// blocks: [50, 2048, 7, 7] f32 1.5 and 1.1 ms, [50, 2048, 4, 4] 0.7 and 0.8 ms, [50, 2048, 2, 2] 0.5 and 0.8
/// ms.
inline bool prefers_global(const ConstTensor5& x, const Tensor5& y) {
  return channels_last(x, y) || positions_of(x.size) > 16;
}

template <class T>
void Max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& window) {
  if (merges_rows(window, x, y) && (indices == nullptr || merges_rows(window, *indices))) {
    Tensor5 merged;
    if (indices != nullptr) merged = with_merged_rows(*indices);
    return Max<T>(with_merged_rows(y), indices == nullptr ? nullptr : &merged, with_merged_rows(x), window);
  }
  if (const auto axis = axis_of_slices(window, x, y); axis && indices == nullptr)
    return Max<T>(with_slices_along(*axis, y), nullptr, with_slices_along(*axis, x), window);
  const Axes axes = forward_axes(window, x, y);
  const bool global =
      indices == nullptr ? covers_planes(axes) : !channels_last(x, y) && taps_are_positions(axes);
  if (global && prefers_global(x, y)) return GlobalTable()->max(y, indices, x);
  if (!takes_windows<T>(x, y, indices, axes)) return SegmentMax<T>(x, y, indices, axes);
  if (indices == nullptr) return PoolMax<T>(y, x, window, axes);
  PoolMaxWithIndices<T>(y, *indices, x, window, axes);
}

template <class T>
void Avg(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window, const Divisor& divisor) {
  if (merges_rows(window, x, y)) return Avg<T>(with_merged_rows(y), with_merged_rows(x), window, divisor);
  if (const auto axis = axis_of_slices(window, x, y))
    return Avg<T>(with_slices_along(*axis, y), with_slices_along(*axis, x), window, divisor);
  const Axes axes = forward_axes(window, x, y);
  const WindowDivisors divisors{axes, divisor};
  if (prefers_global(x, y) && covers_planes(axes, divisors)) return GlobalTable()->avg(y, x);
  if (!takes_windows<T>(x, y, nullptr, axes)) return SegmentAvg<T>(x, y, axes, divisors);
  PoolAvg<T>(y, x, window, axes, divisor);
}

/// The average along rows of unit stride, or of any.
template <class T>
void AvgRows(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window, const Divisor& divisor) {
  const Axes axes = forward_axes(window, x, y);
  PoolRows<SumReduction, T>(x, y, axes, AvgRow<T>{y, axes, divisor, stores_past_caches(x, y)});
}

template <class T, class Tap>
void MaxBackwardFromTaps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         Axes& axes) {
  if (channels_last(grad_x, grad_y) && unit_channels(taps)) {
    if (few_outputs(axes)) return ScatterChannels<T, Tap>(grad_x, grad_y, taps, axes);
    tabulate_row_readers(axes);
    if constexpr (std::is_same_v<Tap, std::uint8_t>)
      return MaxBackwardOfPixels<T>(grad_x, grad_y, taps, axes);
    return ChannelsLastMaxBackward<T, Tap>(grad_x, grad_y, taps, axes);
  }
  if constexpr (std::is_same_v<Tap, std::uint8_t>) {
    if (GatherPlanes<T>(grad_x, grad_y, taps, axes)) return;
  }
  return ScatterPlanes<T, Tap>(grad_x, grad_y, taps, axes, true);
}

template <class T>
std::optional<std::int64_t> MaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                        const ConstTensor5& indices, const WindowAxes& window) {
  if (indices.dtype == DType::i64) return scatter_indices<T>(grad_x, grad_y, indices);
  if (merges_rows(window, grad_x, grad_y, indices)) {
    return MaxBackward<T>(with_merged_rows(grad_x), with_merged_rows(grad_y), with_merged_rows(indices),
                          window);
  }
  Axes axes = window_axes(window, grad_x.size, grad_y.size);
  if (indices.dtype == DType::u8) {
    MaxBackwardFromTaps<T, std::uint8_t>(grad_x, grad_y, indices, axes);
  } else {
    MaxBackwardFromTaps<T, std::uint16_t>(grad_x, grad_y, indices, axes);
  }
  return std::nullopt;
}

template <class T>
void AvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& window,
                 const Divisor& divisor) {
  if (merges_rows(window, grad_x, grad_y))
    return AvgBackward<T>(with_merged_rows(grad_x), with_merged_rows(grad_y), window, divisor);
  if (const auto axis = axis_of_slices(window, grad_x, grad_y)) {
    return AvgBackward<T>(with_slices_along(*axis, grad_x), with_slices_along(*axis, grad_y), window,
                          divisor);
  }
  Axes axes = window_axes(window, grad_x.size, grad_y.size);
  tabulate_row_taps(axes);
  const WindowDivisors divide{axes, divisor};
  const bool unit_stride = readers_are_windows(axes);
  if (channels_last(grad_x, grad_y)) {
    const std::int64_t channels = grad_x.size[1];
    if constexpr (kTuned) {
      if (unit_stride && slides_pixels<T>(axes, channels))
        return SlidingAvgBackward<T>(grad_x, grad_y, axes, divide);
    }
    const std::int64_t fewest_taps = fewest_flat_taps_of_gradients(channels);
    if (unit_stride && pools_flat_rows(grad_y, grad_x, axes, fewest_taps)) {
      return UnitStrideAvgBackward<T>(flat_rows(grad_x), flat_rows(grad_y),
                                      flat_axes(axes, window[2], channels), divisor, AvgRows<T>, channels);
    }
    tabulate_row_readers(axes);
    return AvgBackwardOfPixels<T>(grad_x, grad_y, axes, divide);
  }
  if (covers_planes(axes, divide)) return GlobalTable()->avg_backward(grad_x, grad_y);
  if constexpr (kGathersStrips<T>) {
    if (adds_strips<T>(grad_x, grad_y, axes)) return AvgBackwardOfStrips<T>(grad_x, grad_y, axes, divide);
  }
  if constexpr (kTuned) {
    if (adds_blocks<T>(grad_x, grad_y, axes)) {
      tabulate_row_readers(axes);
      return AvgBackwardOfBlocks<T>(grad_x, grad_y, axes, divide);
    }
  }
  if (unit_stride && fits_row_buffer(axes))
    return UnitStrideAvgBackward<T>(grad_x, grad_y, axes, divisor, AvgRows<T>);
  tabulate_row_readers(axes);
  if (!fits_row_buffer(axes) && axes[2].dilation() == 1)
    return RunsAvgBackward<T>(grad_x, grad_y, axes, divisor);
  if (disjoint(axes) && axes[2].in() <= kTilePositions)
    return DisjointAvgBackward<T>(grad_x, grad_y, axes, divisor);
  return PlanarAvgBackward<T>(grad_x, grad_y, axes, divisor);
}

/// Windows over tensors whose elements, gradients too, are T.
template <class T>
constexpr WindowBackend kWindowsOf{Max<T>, MaxBackward<T>, Avg<T>, AvgBackward<T>};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
