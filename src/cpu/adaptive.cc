// Adaptive pooling on the CPU. Outputs that divide the inputs are windows side by side, and channels-last
// shares the pixel loops of window pooling; windows of uneven width along rows have loops of their own.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/adaptive.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include <optional>

#include "backend.h"
#include "core/parallel.h"
#include "cpu/channels_last_backward-inl.h"
#include "cpu/index_scatter-inl.h"
#include "cpu/layout.h"
#include "cpu/segments-inl.h"
#include "cpu/tap_scatter-inl.h"
#include "cpu/uneven-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

/// With tables: the boundaries of the windows are quotients.
Axes adaptive_axes(const Array5& in, const Array5& out) {
  Axes axes{Axis::adaptive(in[2], out[2]), Axis::adaptive(in[3], out[3]), Axis::adaptive(in[4], out[4])};
  for (Axis& axis : axes) axis.tabulate_taps();
  return axes;
}

/// Whether the rows of a window are reduced to one in a row buffer: it pays unless that only copies a row
/// whose windows are then reduced one by one.
template <class T>
bool fits_row_buffer(const Axes& axes, const UnevenWindows<T>& windows) {
  const bool several_rows = axes[0].kernel() * axes[1].kernel() > 1;
  return axes[2].kernel() <= kTilePositions / 2 && (windows.narrow() || several_rows);
}

/// Elements in the window of an output, as a factor of D and H and one of W.
struct WindowCounts {
  std::int64_t row(std::int64_t od, std::int64_t oh) const {
    return axes[0].taps(od).count * axes[1].taps(oh).count;
  }
  std::int64_t column(std::int64_t ow) const { return axes[2].taps(ow).count; }
  std::int64_t operator()(std::int64_t od, std::int64_t oh, std::int64_t ow) const {
    return row(od, oh) * column(ow);
  }

  const Axes& axes;
};

template <class T>
void Max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x) {
  const Axes axes = adaptive_axes(x.size, y.size);
  if (channels_last(x, y) && fits_keys(axes, indices)) {
    if (indices != nullptr) return ChannelsLastMaxWithIndices<T>(x, y, *indices, axes);
    return ChannelsLastMax<T>(x, y, axes);
  }
  const UnevenWindows<T> windows(axes[2]);
  if (!fits_row_buffer(axes, windows) || !fits_keys(axes, indices)) {
    return SegmentMax<T>(x, y, indices, axes);
  }
  if (indices != nullptr) {
    return unit_columns(x) ? UnevenMaxWithIndices<true>(x, y, *indices, axes, windows)
                           : UnevenMaxWithIndices<false>(x, y, *indices, axes, windows);
  }
  return unit_columns(x) ? UnevenMax<true>(x, y, axes, windows) : UnevenMax<false>(x, y, axes, windows);
}

template <class T>
void Avg(const Tensor5& y, const ConstTensor5& x) {
  const Axes axes = adaptive_axes(x.size, y.size);
  if (channels_last(x, y)) return ChannelsLastAvg<T>(x, y, axes, WindowCounts{axes});
  const UnevenWindows<T> windows(axes[2]);
  if (!fits_row_buffer(axes, windows)) return SegmentAvg<T>(x, y, axes, WindowCounts{axes});
  return unit_columns(x) ? UnevenAvg<true>(x, y, axes, windows) : UnevenAvg<false>(x, y, axes, windows);
}

template <class T, class Tap>
void MaxBackwardFromTaps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes) {
  if (!channels_last(grad_x, grad_y) || !unit_channels(taps)) {
    return ScatterPlanes<T, Tap>(grad_x, grad_y, taps, axes, false);
  }
  if (few_outputs(axes)) return ScatterChannels<T, Tap>(grad_x, grad_y, taps, axes);
  return ChannelsLastMaxBackward<T, Tap>(grad_x, grad_y, taps, axes);
}

template <class T>
std::optional<std::int64_t> MaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                        const ConstTensor5& indices) {
  if (indices.dtype == DType::i64) return scatter_indices<T>(grad_x, grad_y, indices);
  Axes axes = adaptive_axes(grad_x.size, grad_y.size);
  tabulate_row_readers(axes);
  if (indices.dtype == DType::u8) {
    MaxBackwardFromTaps<T, std::uint8_t>(grad_x, grad_y, indices, axes);
  } else {
    MaxBackwardFromTaps<T, std::uint16_t>(grad_x, grad_y, indices, axes);
  }
  return std::nullopt;
}

template <class T>
void AvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y) {
  Axes axes = adaptive_axes(grad_x.size, grad_y.size);
  tabulate_row_readers(axes);
  if (channels_last(grad_x, grad_y)) {
    return ChannelsLastAvgBackward<T>(grad_x, grad_y, axes, WindowCounts{axes});
  }
  UnevenAvgBackward<T>(grad_x, grad_y, axes);
}

/// Outputs that divide the inputs evenly are windows side by side.
std::optional<WindowAxes> side_by_side(const Array5& in, const Array5& out) {
  WindowAxes axes;
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    if (out[axis + 2] == 0 || in[axis + 2] % out[axis + 2] != 0) return std::nullopt;
    const std::int64_t size = in[axis + 2] / out[axis + 2];
    axes[axis] = {.kernel = size, .stride = size};
  }
  return axes;
}

constexpr AdaptiveBackend kTable{
    [](const Tensor5& y, const Tensor5* indices, const ConstTensor5& x) {
      if (const auto axes = side_by_side(x.size, y.size)) return window().max(y, indices, x, *axes);
      return x.dtype == DType::f32 ? Max<float>(y, indices, x) : Max<double>(y, indices, x);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& indices) {
      if (const auto axes = side_by_side(grad_x.size, grad_y.size))
        return window().max_backward(grad_x, grad_y, indices, *axes);
      return grad_x.dtype == DType::f32 ? MaxBackward<float>(grad_x, grad_y, indices)
                                        : MaxBackward<double>(grad_x, grad_y, indices);
    },
    [](const Tensor5& y, const ConstTensor5& x) {
      if (const auto axes = side_by_side(x.size, y.size)) return window().avg(y, x, *axes, Divisor{});
      return x.dtype == DType::f32 ? Avg<float>(y, x) : Avg<double>(y, x);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y) {
      if (const auto axes = side_by_side(grad_x.size, grad_y.size))
        return window().avg_backward(grad_x, grad_y, *axes, Divisor{});
      return grad_x.dtype == DType::f32 ? AvgBackward<float>(grad_x, grad_y)
                                        : AvgBackward<double>(grad_x, grad_y);
    },
};

}  // namespace

const AdaptiveBackend* AdaptiveTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(AdaptiveTable);

const AdaptiveBackend& adaptive() { return *HWY_DYNAMIC_DISPATCH(AdaptiveTable)(); }

}  // namespace cenote::cpu
#endif
