// Window pooling on the CPU.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/window.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include "cpu/window-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

const WindowBackend* F64WindowTable();  // of the same target

namespace {

const WindowBackend& windows_of(DType dtype) {
  return dtype == DType::f32 ? kWindowsOf<float> : *F64WindowTable();
}

constexpr WindowBackend kTable{
    [](const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& axes) {
      return windows_of(x.dtype).max(y, indices, x, axes);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& indices,
       const WindowAxes& axes) {
      return windows_of(grad_x.dtype).max_backward(grad_x, grad_y, indices, axes);
    },
    [](const Tensor5& y, const ConstTensor5& x, const WindowAxes& axes, const Divisor& divisor) {
      return windows_of(x.dtype).avg(y, x, axes, divisor);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y, const WindowAxes& axes, const Divisor& divisor) {
      return windows_of(grad_x.dtype).avg_backward(grad_x, grad_y, axes, divisor);
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
