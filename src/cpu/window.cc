// Window pooling on the CPU: picks the loops that fit the strides and the window.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/window.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include "backend.h"
#include "core/parallel.h"
#include "cpu/channels_last_backward-inl.h"
#include "cpu/flat_rows-inl.h"
#include "cpu/layout.h"
#include "cpu/planar_backward-inl.h"
#include "cpu/planar_indices-inl.h"
#include "cpu/scatter-inl.h"
#include "cpu/segments-inl.h"
#include "cpu/short_windows-inl.h"
#include "cpu/tap_scatter-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

Axes window_axes(const WindowAxes& window, const Array5& in, const Array5& out) {
  return {Axis::window(window[0], in[2], out[2]), Axis::window(window[1], in[3], out[3]),
          Axis::window(window[2], in[4], out[4])};
}

/// A row buffer pays unless the window is so long or so sparse that most of the buffer is waste.
bool fits_row_buffer(const Axes& axes) {
  const Axis& w = axes[2];
  return w.dilated_kernel() <= kTilePositions && w.stride() <= 64 && w.stride() <= 2 * w.dilated_kernel();
}

template <class Reduction, class T, class Row>
void PoolRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  if (!unit_columns(x)) return ForEachBufferedRow<Reduction, false, T>(x, y, axes, row);
  if (short_windows(axes[2])) return PoolShortRows<Reduction, T>(x, y, axes, row);
  ForEachBufferedRow<Reduction, true, T>(x, y, axes, row);
}

/// Whether channels-last tensors are pooled as flat rows.
bool pools_flat_rows(const ConstTensor5& x, const Tensor5& y, const Axes& axes, std::int64_t fewest_taps) {
  return dense_rows(x) && dense_rows(y) && flattens(axes, x.size[1], fewest_taps);
}

/// From how many taps on flat rows were faster, 3 to 512 channels measured. Sums of many channels read the
/// taps as fast as they read a buffer; keys are computed for a row buffer, but come for nothing with a pixel.
/// Blocks of channels in working memory, of which there are 64 at most, must agree on the loops of sums.
constexpr std::int64_t kFewestFlatTapsOfMax = 4;
std::int64_t fewest_flat_taps_of_avg(std::int64_t channels) { return channels <= 64 ? 4 : 32; }
std::int64_t fewest_flat_taps_with_indices(std::int64_t channels) { return channels < 32 ? 4 : 16; }

template <class T>
void Max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& window) {
  Axes axes = window_axes(window, x.size, y.size);
  tabulate_row_taps(axes);
  if (!fits_keys(axes, indices)) return SegmentMax<T>(x, y, indices, axes);
  if (channels_last(x, y)) {
    const std::int64_t channels = x.size[1];
    if (indices != nullptr) {
      if (!pools_flat_rows(x, y, axes, fewest_flat_taps_with_indices(channels)))
        return ChannelsLastMaxWithIndices<T>(x, y, *indices, axes);
      const RecordWriter record(*indices, x.size, axes);
      return PlanarMaxWithIndices<true, T>(flat_rows(x), flat_rows(y), record,
                                           flat_axes(axes, window[2], channels), channels);
    }
    if (!pools_flat_rows(x, y, axes, kFewestFlatTapsOfMax)) return ChannelsLastMax<T>(x, y, axes);
    const Tensor5 to = flat_rows(y);
    return PoolRows<MaxReduction, T>(flat_rows(x), to, flat_axes(axes, window[2], channels), MaxRow<T>{to});
  }
  if (!fits_row_buffer(axes)) return SegmentMax<T>(x, y, indices, axes);
  if (indices != nullptr) {
    const RecordWriter record(*indices, x.size, axes);
    if (unit_columns(x)) return PlanarMaxWithIndices<true, T>(x, y, record, axes, 1);
    return PlanarMaxWithIndices<false, T>(x, y, record, axes, 1);
  }
  PoolRows<MaxReduction, T>(x, y, axes, MaxRow<T>{y});
}

/// Divisors of outputs, as a factor of D and H and one of W.
struct WindowDivisors {
  std::int64_t row(std::int64_t od, std::int64_t oh) const {
    if (divisor.override_value != 0) return divisor.override_value;
    return divisor_of(axes[0], od, divisor.count_include_pad) *
           divisor_of(axes[1], oh, divisor.count_include_pad);
  }
  std::int64_t column(std::int64_t ow) const {
    return divisor.override_value != 0 ? 1 : divisor_of(axes[2], ow, divisor.count_include_pad);
  }
  std::int64_t operator()(std::int64_t od, std::int64_t oh, std::int64_t ow) const {
    return row(od, oh) * column(ow);
  }

  const Axes& axes;
  Divisor divisor;
};

template <class T>
void Avg(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window, const Divisor& divisor) {
  Axes axes = window_axes(window, x.size, y.size);
  tabulate_row_taps(axes);
  if (channels_last(x, y)) {
    if (!pools_flat_rows(x, y, axes, fewest_flat_taps_of_avg(x.size[1])))
      return ChannelsLastAvg<T>(x, y, axes, WindowDivisors{axes, divisor});
    const Tensor5 to = flat_rows(y);
    const Axes flat = flat_axes(axes, window[2], x.size[1]);
    return PoolRows<SumReduction, T>(flat_rows(x), to, flat, AvgRow<T>{to, flat, divisor});
  }
  if (!fits_row_buffer(axes)) return SegmentAvg<T>(x, y, axes, WindowDivisors{axes, divisor});
  PoolRows<SumReduction, T>(x, y, axes, AvgRow<T>{y, axes, divisor});
}

template <class T, class Tap>
void MaxBackwardFromTaps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes) {
  if (channels_last(grad_x, grad_y) && unit_channels(taps)) {
    if (few_outputs(axes)) return ScatterChannels<T, Tap>(grad_x, grad_y, taps, axes);
    return ChannelsLastMaxBackward<T, Tap>(grad_x, grad_y, taps, axes);
  }
  return ScatterPlanes<T, Tap>(grad_x, grad_y, taps, axes, true);
}

template <class T>
std::optional<std::int64_t> MaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                        const ConstTensor5& indices, const WindowAxes& window) {
  if (indices.dtype == DType::i64) return scatter_indices<T>(grad_x, grad_y, indices);
  Axes axes = window_axes(window, grad_x.size, grad_y.size);
  tabulate_row_readers(axes);
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
  Axes axes = window_axes(window, grad_x.size, grad_y.size);
  tabulate_row_taps(axes);
  tabulate_row_readers(axes);
  const WindowDivisors divide{axes, divisor};
  if (channels_last(grad_x, grad_y)) return ChannelsLastAvgBackward<T>(grad_x, grad_y, axes, divide);
  if (!fits_row_buffer(axes) && axes[2].dilation() == 1)
    return RunsAvgBackward<T>(grad_x, grad_y, axes, divisor);
  if (disjoint(axes) && axes[2].in() <= kTilePositions)
    return DisjointAvgBackward<T>(grad_x, grad_y, axes, divisor);
  return PlanarAvgBackward<T>(grad_x, grad_y, axes, divisor);
}

constexpr WindowBackend kTable{
    [](const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes) {
      return x.dtype == DType::f32 ? Max<float>(y, indices, x, axes) : Max<double>(y, indices, x, axes);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& indices,
       const WindowAxes& axes) {
      return grad_x.dtype == DType::f32 ? MaxBackward<float>(grad_x, grad_y, indices, axes)
                                        : MaxBackward<double>(grad_x, grad_y, indices, axes);
    },
    [](const Tensor5& y, const ConstTensor5& x, const WindowAxes& axes, const Divisor& divisor) {
      return x.dtype == DType::f32 ? Avg<float>(y, x, axes, divisor) : Avg<double>(y, x, axes, divisor);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& axes, const Divisor& divisor) {
      return grad_x.dtype == DType::f32 ? AvgBackward<float>(grad_x, grad_y, axes, divisor)
                                        : AvgBackward<double>(grad_x, grad_y, axes, divisor);
    },
};

}  // namespace

const WindowBackend* WindowTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(WindowTable);

const WindowBackend& window() { return *HWY_DYNAMIC_DISPATCH(WindowTable)(); }

}  // namespace cenote::cpu
#endif
