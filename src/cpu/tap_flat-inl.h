// Max backward from compact taps where windows of stride 1 have as many outputs as inputs, over dense
// tensors: the tensor is one row of elements, each read through tap t by the output so many elements on,
// whatever the row or plane that lies in. For an output records no tap that lies in the padding, and only
// through those would it read an element of another row or plane.
#if defined(CENOTE_CPU_TAP_FLAT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TAP_FLAT_INL_H_
#undef CENOTE_CPU_TAP_FLAT_INL_H_
#else
#define CENOTE_CPU_TAP_FLAT_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/parallel.h"
#include "cpu/dense-inl.h"
#include "cpu/past_caches-inl.h"
#include "cpu/rows-inl.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether FlatTaps serves these windows. 3x3, AVX-512, two threads, against row after row: [96, 480, 14, 14]
/// f32 14.4 and 5.4 ms, [96, 192, 28, 28] 14.3 and 8.6 ms, [32, 64, 112, 112] 16.8 and 15.1 ms.
inline bool flat_taps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                      const Axes& axes) {
  constexpr std::int64_t kMostTaps = 27;
  const auto same_size = [](const Axis& axis) {
    return axis.stride() == 1 && axis.out() == axis.in() && axis.kernel() <= 3 &&
           2 * axis.padding() == axis.dilated_kernel() - 1;
  };
  return std::all_of(axes.begin(), axes.end(), same_size) &&
         axes[0].kernel() * axes[1].kernel() * axes[2].kernel() <= kMostTaps && dense_elements(grad_x) &&
         dense_elements(grad_y) && dense_elements(taps);
}

/// How far before an element the output lies that reads it through a tap; taps in their order.
class TapOffsets {
 public:
  explicit TapOffsets(const Axes& axes) {
    for (std::int64_t d = 0; d < axes[0].kernel(); ++d) {
      for (std::int64_t h = 0; h < axes[1].kernel(); ++h) {
        for (std::int64_t w = 0; w < axes[2].kernel(); ++w) {
          const std::int64_t row = axes[0].start(0) + d * axes[0].dilation();
          const std::int64_t line = row * axes[1].in() + axes[1].start(0) + h * axes[1].dilation();
          offsets_[count_++] = line * axes[2].in() + axes[2].start(0) + w * axes[2].dilation();
        }
      }
    }
  }
  std::size_t count() const { return count_; }
  std::int64_t operator[](std::size_t tap) const { return offsets_[tap]; }
  /// The largest of them; the smallest is its negative.
  std::int64_t reach() const { return offsets_[count_ - 1]; }

 private:
  std::array<std::int64_t, 27> offsets_{};
  std::size_t count_ = 0;
};

/// Elements of grad_x from `first` on, as many as a vector has bytes: bytes of taps are compared at once.
/// AVX-512, one thread, 3x3 over planes of 28x28 f32 in the caches: 0.43 ns an element with taps widened to
/// lanes, 0.30 ns so.
template <class T>
HWY_INLINE void SumByteTaps(const TapOffsets& offsets, const T* grads, const std::uint8_t* numbers,
                            const VectorStores& stores, std::int64_t first, T* to) {
  const WideTag<T> d;
  const hn::ScalableTag<std::uint8_t> d8;
  constexpr std::size_t kLanes = kMaxLanes<T>;
  constexpr std::size_t kVectors = HWY_MAX_BYTES / kLanes;
  VecOf<decltype(d)> sums[kVectors];
  for (auto& sum : sums) sum = hn::Zero(d);
  for (std::size_t tap = offsets.count(); tap-- > 0;) {
    const std::int64_t output = first - offsets[tap];
    HWY_ALIGN std::uint8_t hits[HWY_MAX_BYTES / 8];
    const auto equal = hn::Eq(hn::LoadU(d8, numbers + output), hn::Set(d8, static_cast<std::uint8_t>(tap)));
    hn::StoreMaskBits(d8, equal, hits);
    for (std::size_t v = 0; v < kVectors; ++v) {
      const auto hit = hn::LoadMaskBits(d, hits + v * kLanes / 8);
      const T* const of_vector = grads + output + static_cast<std::int64_t>(v * kLanes);
      sums[v] = hn::Add(sums[v], hn::IfThenElseZero(hit, LoadVector(d, of_vector)));
    }
  }
  for (std::size_t v = 0; v < kVectors; ++v)
    stores.store(d, sums[v], to + first + static_cast<std::int64_t>(v * kLanes));
}

/// Outputs are added in their order, which is that of falling taps.
template <class T>
void FlatTaps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps, const Axes& axes) {
  using Lane = LaneOf<T>;
  using Key = hwy::MakeSigned<Lane>;
  const WideTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  const std::int64_t lanes = lanes_of<T>();
  const TapOffsets offsets(axes);
  const std::int64_t total = Cursor::total(grad_x.size);
  const auto* const grads = static_cast<const T*>(grad_y.data);
  const auto* const numbers = static_cast<const std::uint8_t*>(taps.data);
  auto* const to = static_cast<T*>(grad_x.data);
  const auto add_one = [&](std::int64_t i) {
    Lane sum = 0;
    for (std::size_t tap = offsets.count(); tap-- > 0;) {
      const std::int64_t output = i - offsets[tap];
      if (output >= 0 && output < total && numbers[output] == tap) sum += static_cast<Lane>(grads[output]);
    }
    to[i] = static_cast<T>(sum);
  };
  const bool past = stores_past_caches(grad_x, grad_y, taps);
  constexpr std::int64_t kChunk = 1 << 12;
  parallel_for(ceil_divide(total, kChunk), 4, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    std::int64_t i = begin * kChunk;
    const std::int64_t last = std::min(end * kChunk, total);
    const std::int64_t inner_end = std::min(last, total - offsets.reach()) - lanes;
    const VectorStores stores(past);
    const auto before_vectors = [&] {
      return i < offsets.reach() || (stores.past() && bytes_into_line(to + i) != 0);
    };
    for (; i < last && before_vectors(); ++i) add_one(i);
    if constexpr (kMasksAreBits) {
      constexpr std::int64_t kBytes = HWY_MAX_BYTES;
      for (; i <= inner_end + lanes - kBytes; i += kBytes) {
        ask_ahead_of_reads(grads + i + offsets.reach(), kBytes);
        prefetch_for_read(numbers + i + offsets.reach() + kReadAhead<T>);
        if (!stores.past()) ask_ahead(to + i, kBytes);
        SumByteTaps(offsets, grads, numbers, stores, i, to);
      }
    }
    for (; i <= inner_end; i += lanes) {
      prefetch_for_read(grads + i + offsets.reach() + kReadAhead<T>);
      prefetch_for_read(numbers + i + offsets.reach() + kReadAhead<T>);
      auto sum = hn::Zero(d);
      for (std::size_t tap = offsets.count(); tap-- > 0;) {
        const std::int64_t output = i - offsets[tap];
        const auto hit = hn::Eq(PromoteTaps(di, numbers + output), hn::Set(di, static_cast<Key>(tap)));
        sum = hn::Add(sum, hn::IfThenElseZero(hn::RebindMask(d, hit), LoadVector(d, grads + output)));
      }
      if (!stores.past()) prefetch_for_write(to + i + 4096 / static_cast<std::int64_t>(sizeof(T)));
      stores.store(d, sum, to + i);
    }
    for (; i < last; ++i) add_one(i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
