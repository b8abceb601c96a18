// Window pooling forward: which loops fit the strides and the windows, for every dtype that has loops.
#if defined(CENOTE_CPU_WINDOW_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_WINDOW_FORWARD_INL_H_
#undef CENOTE_CPU_WINDOW_FORWARD_INL_H_
#else
#define CENOTE_CPU_WINDOW_FORWARD_INL_H_
#endif

#include "backend.h"
#include "cpu/block_forward-inl.h"
#include "cpu/block_records-inl.h"
#include "cpu/channels_last-inl.h"
#include "cpu/flat_planes-inl.h"
#include "cpu/flat_rows-inl.h"
#include "cpu/layout.h"
#include "cpu/pixel_buffer-inl.h"
#include "cpu/pixel_planes-inl.h"
#include "cpu/planar_indices-inl.h"
#include "cpu/short_records-inl.h"
#include "cpu/short_windows-inl.h"
#include "cpu/side_by_side-inl.h"
#include "cpu/sliding_pixels-inl.h"
#include "cpu/streamed_rows-inl.h"
#include "cpu/tiled_planes-inl.h"
#include "cpu/whole_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

inline Axes window_axes(const WindowAxes& window, const Array5& in, const Array5& out) {
  return {Axis::window(window[0], in[2], out[2]), Axis::window(window[1], in[3], out[3]),
          Axis::window(window[2], in[4], out[4])};
}

inline Axes forward_axes(const WindowAxes& window, const ConstTensor5& x, const Tensor5& y) {
  Axes axes = window_axes(window, x.size, y.size);
  tabulate_row_taps(axes);
  return axes;
}

/// A row buffer pays unless the window is so long or so sparse that most of the buffer is waste.
inline bool fits_row_buffer(const Axes& axes) {
  const Axis& w = axes[2];
  return w.dilated_kernel() <= kTilePositions && w.stride() <= 64 && w.stride() <= 2 * w.dilated_kernel();
}

template <class Reduction, class T, class Row>
void PoolRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  if constexpr (sizeof(T) >= 4) {
    if (!unit_columns(x)) return ForEachBufferedRow<Reduction, false, T>(x, y, axes, row);
  }
  if (streams_rows<T>(axes)) return PoolStreamedRows<Reduction, T>(x, y, axes, row);
  if constexpr (sizeof(LaneOf<T>) >= 4) {  // lanes of bytes are not permuted
    if (short_windows(axes[2])) return PoolShortRows<T>(ReducedRows<Reduction, T>(), x, y, axes, row);
    if constexpr (kTuned && kPoolsSideBySide) {
      if (side_by_side(axes[2])) return PoolSideBySide<Reduction, T>(x, y, axes, row);
    }
  }
  ForEachBufferedRow<Reduction, true, T>(x, y, axes, row);
}

/// Whether channels-last tensors are pooled as flat rows.
inline bool pools_flat_rows(const ConstTensor5& x, const Tensor5& y, const Axes& axes,
                            std::int64_t fewest_taps) {
  return dense_rows(x) && dense_rows(y) && flattens(axes, x.size[1], fewest_taps);
}

/// From how many taps on flat rows were faster, 3 to 512 channels measured. Of many channels the taps are
/// read as fast as a buffer, if they are few: 5x5 stride 1, AVX-512, two threads, as flat rows and tap by
/// tap, avg of [32, 64, 112, 112] f32 7.6 and 6.6 ms, max of [1, 512, 13, 13] 54 and 37 us; avg of 7x7 of [4,
/// 64, 56, 56] 0.24 and 0.30 ms. Keys are computed for a row buffer, but come for nothing with a pixel. Where
/// f16 passes through working memory, its blocks of channels, of 64 at most, must agree on the loops of sums.
inline std::int64_t fewest_flat_taps_of_max(std::int64_t channels) { return channels < 256 ? 4 : 32; }
inline std::int64_t fewest_flat_taps_of_avg(std::int64_t channels) {
  const std::int64_t few_channels = kConvertsHalf ? 15 : 64;
  return channels <= few_channels ? 4 : 32;
}
/// As gradients, which have no such loop that reads tap by tap.
inline std::int64_t fewest_flat_taps_of_gradients(std::int64_t channels) { return channels <= 64 ? 4 : 32; }
inline std::int64_t fewest_flat_taps_with_indices(std::int64_t channels) { return channels < 32 ? 4 : 16; }

/// Whether channels-last tensors are pooled from a buffer of pixels, which was faster up to these numbers of
/// channels: [1, C, 112, 112] f32 max, AVX-512, one thread, 3x3 stride 2 with C = 3 0.060 and 0.010 ms, 17
/// 0.086 and 0.044 ms, 31 0.096 and 0.073 ms; 4x4 stride 4 with C = 8 0.023 and 0.018 ms, 16 0.024 and 0.035
/// ms. Below 32 channels, so that blocks of channels in working memory, where they are several, agree.
template <class T>
bool pools_pixel_buffer(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  const Axis& w = axes[2];
  const std::int64_t channels = x.size[1];
  const std::int64_t most_bytes = w.stride() < 4 ? 124 : 32;
  return channels * static_cast<std::int64_t>(sizeof(LaneOf<T>)) <= most_bytes && dense_rows(x) &&
         dense_rows(y) && fits_row_buffer(axes) &&
         elements_axis(w, channels).dilated_kernel() <= kTilePositions;
}

/// Whether the loops below take the windows, and their numbers where `indices` are asked for; others are read
/// in segments. Narrow elements must be neighbours.
template <class T>
bool takes_windows(const ConstTensor5& x, const Tensor5& y, const Tensor5* indices, const Axes& axes) {
  if (!fits_keys(axes, indices)) return false;
  return channels_last(x, y) || (fits_row_buffer(axes) && (sizeof(T) >= 4 || unit_columns(x)));
}

template <class T>
void PoolMax(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window, const Axes& axes) {
  if (!channels_last(x, y)) {
    if constexpr (kKeepsWholeRows<T>) {
      if (keeps_whole_slices(x, y, axes)) return MaxOfWholeSlices<T>(x, y, axes);
    }
    if constexpr (kTilesRows<T>) {
      if (tiles_planes<T>(x, y, axes)) return MaxOfTiledPlanes<T>(x, y, axes);
    }
    if constexpr (kKeepsWholeRows<T>) {
      if (keeps_whole_rows(x, y, axes)) return MaxOfWholeRows<T>(x, y, axes);
    }
    if constexpr (kTuned && sizeof(LaneOf<T>) >= 4) {
      if (flat_planes<T>(x, y, axes)) return MaxOfFlatPlanes<T>(x, y, axes);
      if (pools_blocks<T>(x, y, axes)) return MaxOfBlocks<T>(x, y, axes);
    }
    return PoolRows<MaxReduction, T>(x, y, axes, MaxRow<T>{y, stores_past_caches(x, y)});
  }
  if constexpr (kTilesRows<T> && sizeof(T) > 1) {
    if (tiles_pixels<T>(x, y, axes)) return MaxOfTiledPixels<T>(x, y, axes);
  }
  if constexpr (kTuned) {
    if (slides_pixels<T>(axes, x.size[1])) return SlidingMax<T>(x, y, axes);
  }
  if constexpr (kPoolsPixelPlanes<T>) {
    if (pools_pixel_planes<T>(x, axes)) return MaxOfPixelPlanes<T>(x, y, axes);
  }
  if (!pools_flat_rows(x, y, axes, fewest_flat_taps_of_max(x.size[1]))) {
    if constexpr (kTuned) {
      if (pools_pixel_buffer<T>(x, y, axes))
        return PoolPixelBuffer<MaxReduction, T>(x, y, axes, MaxPixelRow<T>{y});
    }
    return ChannelsLastMax<T>(x, y, axes);
  }
  const Tensor5 to = flat_rows(y);
  PoolRows<MaxReduction, T>(flat_rows(x), to, flat_axes(axes, window[2], x.size[1]),
                            MaxRow<T>{to, stores_past_caches(x, y)});
}

template <class T>
void PoolMaxWithIndices(const Tensor5& y, const Tensor5& indices, const ConstTensor5& x,
                        const WindowAxes& window, const Axes& axes) {
  const std::int64_t channels = x.size[1];
  if (channels_last(x, y) && !pools_flat_rows(x, y, axes, fewest_flat_taps_with_indices(channels)))
    return ChannelsLastMaxWithIndices<T>(x, y, indices, axes);
  const RecordWriter record(indices, x.size, axes);
  if (channels_last(x, y)) {
    return PlanarMaxWithIndices<true, T>(flat_rows(x), flat_rows(y), record,
                                         flat_axes(axes, window[2], channels), channels);
  }
  if constexpr (kTuned) {
    if (records_blocks<T>(x, y, indices, axes)) return MaxOfBlocksWithIndices<T>(x, y, indices, axes);
  }
  if (unit_columns(x) && records_short_rows<T>(y, indices, axes))
    return MaxOfShortRowsWithIndices<T>(x, y, indices, axes);
  if constexpr (sizeof(T) >= 4) {
    if (!unit_columns(x)) return PlanarMaxWithIndices<false, T>(x, y, record, axes, 1);
  }
  PlanarMaxWithIndices<true, T>(x, y, record, axes, 1);
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
void PoolAvg(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window, const Axes& axes,
             const Divisor& divisor) {
  if (!channels_last(x, y)) {
    if constexpr (kTilesRows<T> && sizeof(T) > 1) {
      if (tiles_planes<T>(x, y, axes)) return AvgOfTiledPlanes<T>(x, y, axes, WindowDivisors{axes, divisor});
    }
    if constexpr (kKeepsWholeRows<T>) {
      if (keeps_whole_rows(x, y, axes)) return AvgOfWholeRows<T>(x, y, axes, WindowDivisors{axes, divisor});
    }
    if constexpr (kTuned) {
      if (pools_blocks<T>(x, y, axes)) return AvgOfBlocks<T>(x, y, axes, WindowDivisors{axes, divisor});
    }
    return PoolRows<SumReduction, T>(x, y, axes, AvgRow<T>{y, axes, divisor, stores_past_caches(x, y)});
  }
  if constexpr (kTilesRows<T> && sizeof(T) > 1) {
    if (tiles_pixels<T>(x, y, axes)) return AvgOfTiledPixels<T>(x, y, axes, WindowDivisors{axes, divisor});
  }
  // Where f16 passes through working memory, its blocks of channels must agree on the loops of sums.
  if constexpr (kTuned && kConvertsHalf) {
    if (slides_pixels<T>(axes, x.size[1])) return SlidingAvg<T>(x, y, axes, WindowDivisors{axes, divisor});
  }
  if constexpr (kPoolsPixelPlanes<T>) {
    if (pools_pixel_planes<T>(x, axes)) return AvgOfPixelPlanes<T>(x, y, axes, WindowDivisors{axes, divisor});
  }
  if (!pools_flat_rows(x, y, axes, fewest_flat_taps_of_avg(x.size[1]))) {
    if constexpr (kTuned) {
      if (pools_pixel_buffer<T>(x, y, axes))
        return PoolPixelBuffer<SumReduction, T>(x, y, axes, AvgPixelRow<T>{y, axes, divisor});
    }
    return ChannelsLastAvg<T>(x, y, axes, WindowDivisors{axes, divisor});
  }
  const Tensor5 to = flat_rows(y);
  const Axes flat = flat_axes(axes, window[2], x.size[1]);
  PoolRows<SumReduction, T>(flat_rows(x), to, flat, AvgRow<T>{to, flat, divisor, stores_past_caches(x, y)});
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
