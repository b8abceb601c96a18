// Max backward from compact taps over planes: the loops that gather, and which of them serves.
#if defined(CENOTE_CPU_TAP_PLANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TAP_PLANES_INL_H_
#undef CENOTE_CPU_TAP_PLANES_INL_H_
#else
#define CENOTE_CPU_TAP_PLANES_INL_H_
#endif

#include "cpu/block_backward-inl.h"
#include "cpu/grad_strips-inl.h"
#include "cpu/tap_flat-inl.h"
#include "cpu/tap_gather-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// False, with nothing done, where none serves; taps are u8.
template <class T>
bool GatherPlanes(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps, Axes& axes) {
  if constexpr (sizeof(T) <= 4) {
    if (flat_taps(grad_x, grad_y, taps, axes)) {
      FlatTaps<T>(grad_x, grad_y, taps, axes);
      return true;
    }
  }
  if constexpr (kGathersStrips<T>) {
    if (gathers_strips<T>(grad_x, grad_y, taps, axes)) {
      MaxBackwardOfStrips<T>(grad_x, grad_y, taps, axes);
      return true;
    }
  }
  if constexpr (kTuned) {
    if (gathers_blocks<T>(grad_x, grad_y, taps, axes)) {
      tabulate_row_readers(axes);
      MaxBackwardOfBlocks<T>(grad_x, grad_y, taps, axes);
      return true;
    }
  }
  // Gathering widened f64, half as many to a vector, took as long as scattering.
  if constexpr (sizeof(T) <= 4 || kMasksAreBits) {
    if (gathers_taps(grad_x, grad_y, taps, axes)) {
      tabulate_row_readers(axes);
      GatherTaps<T>(grad_x, grad_y, taps, axes);
      return true;
    }
  }
  return false;
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
