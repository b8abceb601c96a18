// Maxima of windows over i8 and u8 as they lie in memory: of bytes, many to a vector.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/narrow_bytes.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include "cpu/window_forward-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

template <class T>
bool MaxOf(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window) {
  const Axes axes = forward_axes(window, x, y);
  if (!takes_windows<T>(x, y, nullptr, axes)) return false;
  PoolMax<T>(y, x, window, axes);
  return true;
}

}  // namespace

bool MaxOfBytes(const Tensor5& y, const ConstTensor5& x, const WindowAxes& window) {
  if constexpr (kTuned)
    return x.dtype == DType::i8 ? MaxOf<std::int8_t>(y, x, window) : MaxOf<std::uint8_t>(y, x, window);
  return false;
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();
