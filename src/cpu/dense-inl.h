// Whether a tensor is one row of elements.
#if defined(CENOTE_CPU_DENSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_DENSE_INL_H_
#undef CENOTE_CPU_DENSE_INL_H_
#else
#define CENOTE_CPU_DENSE_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "core/tensor5.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Elements lie one after the other, as the sizes say.
template <class Tensor>
bool dense_elements(const Tensor& tensor) {
  std::int64_t step = 1;
  for (std::size_t axis = 5; axis-- > 0;) {
    if (tensor.size[axis] > 1 && tensor.stride[axis] != step) return false;
    step *= tensor.size[axis];
  }
  return true;
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
