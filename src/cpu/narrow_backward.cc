// Gradients of windows over f16 and bf16 as they lie in memory: widened as they are loaded, summed in f32,
// rounded as they are stored.
#include "cpu/narrow_backward.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/narrow_backward.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include "core/parallel.h"
#include "cpu/block_backward-inl.h"
#include "cpu/few_channels_backward-inl.h"
#include "cpu/planar_backward-inl.h"
#include "cpu/tap_planes-inl.h"
#include "cpu/tap_scatter-inl.h"
#include "cpu/unit_stride_backward-inl.h"
#include "cpu/window_forward-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

template <class T>
bool MaxBackwardOfHalves(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const WindowAxes& window) {
  Axes axes = window_axes(window, grad_x.size, grad_y.size);
  const bool last = channels_last(grad_x, grad_y) && unit_channels(taps);
  if (!last) return GatherPlanes<T>(grad_x, grad_y, taps, axes);
  if (few_outputs(axes)) return false;
  tabulate_row_readers(axes);
  MaxBackwardOfPixels<T>(grad_x, grad_y, taps, axes);
  return true;
}

template <class T>
bool AvgBackwardOfHalves(const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& window,
                         const Divisor& divisor) {
  Axes axes = window_axes(window, grad_x.size, grad_y.size);
  tabulate_row_taps(axes);
  const bool last = channels_last(grad_x, grad_y);
  const WindowDivisors divide{axes, divisor};
  if (last && readers_are_windows(axes) && slides_pixels<T>(axes, grad_x.size[1])) {
    SlidingAvgBackward<T>(grad_x, grad_y, axes, divide);
    return true;
  }
  if constexpr (kGathersStrips<T>) {
    if (!last && adds_strips<T>(grad_x, grad_y, axes)) {
      AvgBackwardOfStrips<T>(grad_x, grad_y, axes, divide);
      return true;
    }
  }
  const bool blocks = !last && adds_blocks<T>(grad_x, grad_y, axes);
  const bool rows = !last && disjoint(axes) && axes[2].in() <= kTilePositions && unit_columns(grad_x);
  if (!last && !blocks && !rows) return false;
  tabulate_row_readers(axes);
  if (last) {
    AvgBackwardOfPixels<T>(grad_x, grad_y, axes, divide);
  } else if (blocks) {
    AvgBackwardOfBlocks<T>(grad_x, grad_y, axes, divide);
  } else {
    DisjointAvgBackward<T>(grad_x, grad_y, axes, divisor);
  }
  return true;
}

}  // namespace

bool MaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                 const WindowAxes& window) {
  if (taps.dtype != DType::u8) return false;
  if constexpr (kTuned) {
    if (grad_x.dtype == DType::bf16) return MaxBackwardOfHalves<BFloat16>(grad_x, grad_y, taps, window);
  }
  if constexpr (kConvertsHalf) {
    if (grad_x.dtype == DType::f16) return MaxBackwardOfHalves<Float16>(grad_x, grad_y, taps, window);
  }
  return false;
}

bool AvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& window,
                 const Divisor& divisor) {
  if constexpr (kTuned) {
    if (grad_x.dtype == DType::bf16) return AvgBackwardOfHalves<BFloat16>(grad_x, grad_y, window, divisor);
  }
  if constexpr (kConvertsHalf) {
    if (grad_x.dtype == DType::f16) return AvgBackwardOfHalves<Float16>(grad_x, grad_y, window, divisor);
  }
  return false;
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(MaxBackward);
HWY_EXPORT(AvgBackward);

bool narrow_max_backward(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const WindowAxes& window) {
  return HWY_DYNAMIC_DISPATCH(MaxBackward)(grad_x, grad_y, taps, window);
}

bool narrow_avg_backward(const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& window,
                         const Divisor& divisor) {
  return HWY_DYNAMIC_DISPATCH(AvgBackward)(grad_x, grad_y, window, divisor);
}

}  // namespace cenote::cpu
#endif
