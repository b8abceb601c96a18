// Window max with indices over dense planes as blocks of pixels (plane_blocks-inl.h), for windows that slide
// along them, with keys as in short_records-inl.h.
#if defined(CENOTE_CPU_BLOCK_RECORDS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_BLOCK_RECORDS_INL_H_
#undef CENOTE_CPU_BLOCK_RECORDS_INL_H_
#else
#define CENOTE_CPU_BLOCK_RECORDS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

#include "cpu/block_forward-inl.h"
#include "cpu/short_records-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The maxima of a block, and where they are: taps or positions in the plane.
template <bool kExact, class Lane, class Number>
void MaxOfBlockWithNumbers(const BlockPixels<const Lane>& in, const LineReads& reads, const Range& lines,
                           const Axis& w, const WindowNumbers& numbers, bool positions, Lane* out,
                           Number* out_numbers) {
  const auto columns_of = [&]<std::size_t kRows>(std::span<const LineReads::Line> rows) {
    const auto keys = [&numbers, rows](std::int64_t i) {
      const LineReads::Line& row = rows[static_cast<std::size_t>(i)];
      return numbers.key(row.number, row.tap);
    };
    // Each column is loaded alone, as the last one of a window.
    return KeyedColumns<kExact, 1, static_cast<int>(kRows), Lane, decltype(keys)>(keys);
  };
  const std::int64_t first = numbers.origin() - (positions ? w.padding() : 0);
  const std::int64_t step = positions ? w.stride() : 0;
  SlideAlongBlock(in, reads, lines, w, columns_of,
                  [&](std::int64_t i, std::int64_t ow, const auto& v) CENOTE_VECTOR_LAMBDA {
                    const WideTag<Lane> d;
                    const WideTag<Number> di;
                    const std::int64_t at = i * static_cast<std::int64_t>(kMaxLanes<Lane>);
                    const auto origin = hn::Set(di, static_cast<Number>(first + ow * step));
                    hn::Store(v.value, d, out + at);
                    hn::Store(hn::Add(v.key, origin), di, out_numbers + at);
                  });
}

/// Whether MaxOfBlocksWithIndices serves these windows. AVX-512, two threads, against row after row, taps and
/// positions of f32 max in ms, as many elements each: 3x3 stride 1 of 28 columns 11.0 and 13.4, 26.2
/// and 14.3, of 56 columns 7.7 and 8.8, 15.3 and 8.8; 3x3 stride 2 of 35 columns 3.5 and 6.3, 4.5 and 6.0, of
/// 56 columns 3.4 and 3.9, 5.2 and 4.1; 2x2 stride 2 of 14 columns 3.8 and 9.5, 4.7 and 9.7, of 35
/// columns 6.2 and 4.0, 9.0 and 4.8 (Xeon). Where outputs are stored past the caches (EPYC), 3x3 stride 2 of
/// [96, 480, 28, 28] with taps 9.7 and 8.1 ms, with positions 9.3 and 7.6 ms, of [96, 832, 14, 14] 3.6
/// and 5.1.
template <class T>
bool records_blocks(const ConstTensor5& x, const Tensor5& y, const Tensor5& indices, const Axes& axes) {
  const Axis& w = axes[2];
  const bool taps = indices.dtype != DType::i64;
  const std::int64_t most_of_three = stores_past_caches(x, y, indices) ? 24 : taps ? 56 : 36;
  const std::int64_t most_of_stride_2 = w.kernel() == 2 ? 20 : most_of_three;
  const std::int64_t most_of_stride_1 = !taps ? 24 : w.kernel() == 2 ? 40 : 48;
  const std::int64_t most = w.stride() == 1 ? most_of_stride_1 : most_of_stride_2;
  return slides_along_blocks(w) && std::max(w.in(), w.out()) <= most && fills_blocks<T>(x, y, axes) &&
         dense_elements(indices) && std::all_of(axes.begin(), axes.end(), no_window_is_empty);
}

template <class T, class Index>
void MaxOfBlocksWithIndices(const ConstTensor5& x, const Tensor5& y, const Tensor5& indices,
                            const Axes& axes) {
  using Lane = LaneOf<T>;
  using Number = hwy::MakeSigned<Lane>;
  constexpr bool kPositions = std::is_same_v<Index, std::int64_t>;
  const LineReads reads = LineReads::of_windows(axes);
  const WindowNumbers numbers(axes, kPositions);
  const Planes<const T> from(x);
  const Planes<Index> to(indices);
  const bool past = stores_past_caches(x, y, indices);
  struct State {
    Scratch<Number> found;
    std::optional<PlaneStores<Index>> stores;
  };
  ForEachBlock<T, State>(
      reads, x, y, [&](State& state, const Block& block, const Block& next, Lane* in, Lane* out) HWY_ATTR {
        const bool no_nan =
            PixelsFromPlanes(WideTag<T>(), from.run(block, block.from, next, next.from), in, LoadElements(),
                             [](std::int64_t, auto v) CENOTE_VECTOR_LAMBDA { return v; });
        const BlockPixels<const Lane> pixels{in, block.from.begin, from.columns()};
        Number* const found = resize_for_pixels(state.found, block.to.end - block.to.begin, to.columns());
        if (no_nan) {
          MaxOfBlockWithNumbers<false>(pixels, reads, block.to, axes[2], numbers, kPositions, out, found);
        } else {
          MaxOfBlockWithNumbers<true>(pixels, reads, block.to, axes[2], numbers, kPositions, out, found);
        }
        if (!state.stores) state.stores.emplace(past);
        state.stores->store(WideTag<Number>(), found, to.run(block, block.to, next, next.to), StoreIndices());
      });
}

/// As the type of the indices is.
template <class T>
void MaxOfBlocksWithIndices(const ConstTensor5& x, const Tensor5& y, const Tensor5& indices,
                            const Axes& axes) {
  if (indices.dtype == DType::u8) return MaxOfBlocksWithIndices<T, std::uint8_t>(x, y, indices, axes);
  if (indices.dtype == DType::u16) return MaxOfBlocksWithIndices<T, std::uint16_t>(x, y, indices, axes);
  MaxOfBlocksWithIndices<T, std::int64_t>(x, y, indices, axes);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
