// Windows over f16 and bf16 as they lie in memory: widened as they are loaded, rounded as they are stored.
// Those over i8 and u8 are in narrow_bytes.cc, and gradients in narrow_backward.cc, so that they compile side
// by side.
#include "cpu/narrow_backward.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/narrow.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include "backend.h"
#include "core/parallel.h"
#include "cpu/window_forward-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

bool MaxOfBytes(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window);  // of the same target

namespace {

template <class T>
bool MaxOfHalves(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& window) {
  const Axes axes = forward_axes(window, x, y);
  if (!takes_windows<T>(x, y, indices, axes)) return false;
  if (indices == nullptr) {
    PoolMax<T>(y, x, window, axes);
  } else {
    PoolMaxWithIndices<T>(y, *indices, x, window, axes);
  }
  return true;
}

bool Max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& window) {
  if constexpr (kTuned) {
    switch (x.dtype) {
      case DType::f16:
        if constexpr (kConvertsHalf) return MaxOfHalves<Float16>(y, indices, x, window);
        return false;
      case DType::bf16:
        return MaxOfHalves<BFloat16>(y, indices, x, window);
      case DType::i8:
      case DType::u8:
        return indices == nullptr && MaxOfBytes(y, x, window);  // their keys want more bits
      default:
        return false;
    }
  }
  return false;
}

template <class T>
bool AvgOfHalves(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window, const Divisor& divisor) {
  const Axes axes = forward_axes(window, x, y);
  if (!takes_windows<T>(x, y, nullptr, axes)) return false;
  PoolAvg<T>(y, x, window, axes, divisor);
  return true;
}

bool Avg(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window, const Divisor& divisor) {
  if (y.dtype != x.dtype) return false;
  if constexpr (kTuned) {
    if (x.dtype == DType::bf16) return AvgOfHalves<BFloat16>(y, x, window, divisor);
  }
  if constexpr (kConvertsHalf) {
    if (x.dtype == DType::f16) return AvgOfHalves<Float16>(y, x, window, divisor);
  }
  return false;
}

constexpr NarrowBackend kTable{Max, Avg, narrow_max_backward, narrow_avg_backward};

}  // namespace

const NarrowBackend* NarrowTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(NarrowTable);

const NarrowBackend& narrow() { return *HWY_DYNAMIC_DISPATCH(NarrowTable)(); }

}  // namespace cenote::cpu
#endif
