// Max backward from compact taps for windows of 2 or 3 columns with stride 1 or 2, or of one column and
// stride 1, along rows of unit stride: each row of grad_x gathers, vector by vector, from the output rows
// that read it. Taps are compared with the few numbers that could mean the columns at hand, so that no
// address depends on data, and elements are written once, in order, with the additions in the order of the
// outputs.
#if defined(CENOTE_CPU_TAP_GATHER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TAP_GATHER_INL_H_
#undef CENOTE_CPU_TAP_GATHER_INL_H_
#else
#define CENOTE_CPU_TAP_GATHER_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/parallel.h"
#include "cpu/dense-inl.h"
#include "cpu/layout.h"
#include "cpu/past_caches-inl.h"
#include "cpu/row_readers-inl.h"
#include "cpu/rows-inl.h"
#include "cpu/tap_bits-inl.h"
#include "cpu/tap_lanes-inl.h"
#include "cpu/vector-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

template <int kStride, int kTaps, int kShift, class T>
void GatherRows(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                const Axes& axes) {
  using Gatherer = std::conditional_t<kMasksAreBits, BitsGatherer<kStride, kTaps, kShift, T>,
                                      LanesGatherer<kStride, kTaps, kShift, T>>;
  const Gatherer gather(axes[2]);
  const PlaneReaders readers(axes, grad_y, taps);
  const std::int64_t columns = grad_x.size[4];
  const std::int64_t lines = grad_x.size[2] * grad_x.size[3];
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * columns;
  const bool dense = dense_elements(grad_x);
  // [96, 64, 147, 147] 3x3 stride 2, EPYC, two threads: f32 28.0 ms at once, 24.1 ms so, but bf16 18.6
  // and 20.2 ms.
  const bool past = sizeof(T) >= 4 && dense && stores_past_caches(grad_x, grad_y, taps);
  constexpr std::int64_t kBytesAtOnce = 4096;
  const std::int64_t rows_at_once = dense ? std::max<std::int64_t>(kBytesAtOnce / bytes, 1) : 1;
  const std::int64_t rows = grad_x.size[0] * grad_x.size[1] * lines;
  parallel_for(rows, row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    OutputLines out;
    typename Gatherer::State state(axes);
    for (std::int64_t row = begin; row < end;) {
      const std::int64_t n = row / lines / grad_x.size[1];
      const std::int64_t c = row / lines % grad_x.size[1];
      const T* const grads = plane_of<const T>(grad_y, n, c);
      const auto* const plane_taps = plane_of<const std::uint8_t>(taps, n, c);
      state.begin_plane();
      const std::int64_t last = std::min(lines, row % lines + end - row);
      for (std::int64_t line = row % lines; line < last;) {
        const std::int64_t count = std::min(last - line, rows_at_once);
        T* const to = row_of<T>(grad_x, n, c, line / grad_x.size[3], line % grad_x.size[3]);
        if (past) {
          auto* const collected = reinterpret_cast<T*>(out.room(to, count * bytes));
          const std::int64_t beyond = OutputLines::kBeyond / static_cast<std::int64_t>(sizeof(T));
          gather(state, readers, line, line + count, grads, plane_taps, collected, count * columns + beyond);
          out.done(count * bytes);
        } else {
          // What is written beyond a row is overwritten with the next one.
          ask_ahead(to, count * columns);
          gather(state, readers, line, line + count, grads, plane_taps, to,
                 (dense ? end - row : 1) * columns);
        }
        line += count;
        row += count;
      }
    }
  });
}

/// Whether GatherTaps serves these windows and strides; taps are u8.
inline bool gathers_taps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes) {
  constexpr std::int64_t kMostOutputs = 4096;  // of a row, since rows are widened whole
  const Axis& w = axes[2];
  return HWY_TARGET != HWY_SCALAR &&  // one lane gathers no faster than it scatters
         unit_columns(grad_x) && unit_columns(grad_y) && unit_columns(taps) && w.kernel() <= 3 &&
         w.stride() <= std::min<std::int64_t>(w.kernel(), 2) && w.dilation() == 1 && w.out() <= kMostOutputs;
}

template <class T>
void GatherTaps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                const Axes& axes) {
  const bool odd = axes[2].padding() % 2 != 0;
  if (axes[2].kernel() == 1) return GatherRows<1, 1, 0, T>(grad_x, grad_y, taps, axes);
  if (axes[2].stride() == 1) {
    if (axes[2].kernel() == 2) return GatherRows<1, 2, 0, T>(grad_x, grad_y, taps, axes);
    return GatherRows<1, 3, 0, T>(grad_x, grad_y, taps, axes);
  }
  if (axes[2].kernel() == 2) {
    if (odd) return GatherRows<2, 2, 1, T>(grad_x, grad_y, taps, axes);
    return GatherRows<2, 2, 0, T>(grad_x, grad_y, taps, axes);
  }
  if (odd) return GatherRows<2, 3, 1, T>(grad_x, grad_y, taps, axes);
  GatherRows<2, 3, 0, T>(grad_x, grad_y, taps, axes);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
