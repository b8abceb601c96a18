// Max over windows of 3x3 with stride 1 and as many outputs as inputs, over dense planes of short rows: a
// plane is one row of elements, whose neighbours above and below lie a row away. What belongs to another row
// or plane is hidden by a table of limits, of which there is one for each position of a plane.
#if defined(CENOTE_CPU_FLAT_PLANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_FLAT_PLANES_INL_H_
#undef CENOTE_CPU_FLAT_PLANES_INL_H_
#else
#define CENOTE_CPU_FLAT_PLANES_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cpu/dense-inl.h"
#include "cpu/past_caches-inl.h"
#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether MaxOfFlatPlanes serves these windows. [96, H, H] planes f32 of 480 channels, AVX-512, two threads,
/// against row after row: 14x14 16.3 and 5.4 ms; of 192 channels, 28x28 8.3 and 6.8 ms.
template <class T>
bool flat_planes(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  constexpr std::int64_t kMostColumns = 32;
  const auto whole = [](const Axis& axis, std::int64_t kernel) {
    return axis.kernel() == kernel && axis.stride() == 1 && axis.dilation() == 1 &&
           2 * axis.padding() == kernel - 1 && axis.out() == axis.in();
  };
  return whole(axes[0], 1) && whole(axes[1], 3) && whole(axes[2], 3) && axes[2].in() <= kMostColumns &&
         axes[1].in() * axes[2].in() >= lanes_of<T>() && dense_elements(x) && dense_elements(y);
}

/// For each position of a plane infinity where the window has the row above, the one below, the column on the
/// left, on the right, and else minus infinity.
template <class Lane>
class PlaneLimits {
 public:
  PlaneLimits(std::int64_t rows, std::int64_t columns) : size_(rows * columns) {
    Lane* const all = limits_.resize(static_cast<std::size_t>(4 * size_));
    constexpr Lane kNone = std::numeric_limits<Lane>::infinity();
    std::fill(all, all + 4 * size_, kNone);
    for (std::int64_t i = 0; i < columns; ++i) all[i] = all[2 * size_ - 1 - i] = -kNone;
    for (std::int64_t i = 0; i < rows; ++i)
      all[2 * size_ + i * columns] = all[3 * size_ + (i + 1) * columns - 1] = -kNone;
  }
  const Lane* above() const { return limits_.get(); }
  const Lane* below() const { return above() + size_; }
  const Lane* left() const { return above() + 2 * size_; }
  const Lane* right() const { return above() + 3 * size_; }

 private:
  std::int64_t size_;
  Scratch<Lane> limits_;
};

/// One plane, with a plane before and after it. False where a NaN got lost, or perhaps.
template <class Reduction, class T>
HWY_NOINLINE bool MaxOfFlatPlane(const T* from, std::int64_t rows, std::int64_t columns,
                                 const PlaneLimits<LaneOf<T>>& limits, T* to) {
  const WideTag<T> d;
  using V = VecOf<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t count = rows * columns;
  const auto lowest = hn::Set(d, MaxReduction::identity<LaneOf<T>>());
  constexpr std::int64_t kAhead = 4096 / static_cast<std::int64_t>(sizeof(T));
  auto seen = hn::Zero(d);
  const auto hide = [&](V v, V limit) CENOTE_VECTOR_LAMBDA {
    // The machine's minimum is the limit where v is NaN.
    if constexpr (Reduction::kLosesNaN && HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128) return hn::Min(v, limit);
    return hn::IfThenElse(hn::Eq(limit, lowest), lowest, v);
  };
  for (std::int64_t next = 0; next < count; next += lanes) {
    const std::int64_t i = std::min(next, count - lanes);  // the last vector meets some elements again
    const auto above = hn::LoadU(d, limits.above() + i);
    const auto below = hn::LoadU(d, limits.below() + i);
    const T* const at = from + i;
    prefetch_for_read(at + kAhead);
    const auto column = [&](std::int64_t shift) CENOTE_VECTOR_LAMBDA {
      const V middle = LoadVector(d, at + shift);
      if constexpr (Reduction::kLosesNaN) {
        if (shift == 0) seen = hn::Add(seen, middle);
      }
      const V low = Reduction::combine(d, hide(LoadVector(d, at + shift - columns), above), middle);
      return Reduction::combine(d, low, hide(LoadVector(d, at + shift + columns), below));
    };
    const V left = hide(column(-1), hn::LoadU(d, limits.left() + i));
    const V right = hide(column(1), hn::LoadU(d, limits.right() + i));
    StoreVector(d, Reduction::combine(d, Reduction::combine(d, left, column(0)), right), to + i);
  }
  if constexpr (Reduction::kLosesNaN) return hn::AllFalse(d, hn::IsNaN(seen));
  return true;
}

template <class T>
void MaxOfFlatPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  const std::int64_t rows = axes[1].in();
  const std::int64_t columns = axes[2].in();
  const std::int64_t plane = rows * columns;
  const std::int64_t planes = x.size[0] * x.size[1] * x.size[2];
  const auto* const from = static_cast<const T*>(x.data);
  auto* const to = static_cast<T*>(y.data);
  const PlaneLimits<LaneOf<T>> limits(rows, columns);
  const auto pool = [&](const T* plane_in, T* plane_out) {
    if (!MaxOfFlatPlane<LargerNumber>(plane_in, rows, columns, limits, plane_out))
      MaxOfFlatPlane<MaxReduction>(plane_in, rows, columns, limits, plane_out);
  };
  // What the first plane and the last one read beside them is their own copy.
  Scratch<T> room;
  T* const copy = room.resize(static_cast<std::size_t>(3 * plane));
  for (const std::int64_t i : {std::int64_t{0}, planes - 1}) {
    for (std::int64_t part = 0; part < 3; ++part) std::copy_n(from + i * plane, plane, copy + part * plane);
    pool(copy + plane, to + i * plane);
  }
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * plane;
  const bool past = stores_past_caches(x, y);
  parallel_for(planes - 2, row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    OutputLines lines;
    for (std::int64_t i = begin + 1; i <= end; ++i) {
      if (past) {
        pool(from + i * plane, reinterpret_cast<T*>(lines.room(to + i * plane, bytes)));
        lines.done(bytes);
      } else {
        pool(from + i * plane, to + i * plane);
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
