// Window pooling forward over dense planes as blocks of pixels, whatever the window. Those of 2 or 3 columns
// and stride 1 or 2 slide along the pixels in registers; others are reduced row by row.
#if defined(CENOTE_CPU_BLOCK_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_BLOCK_FORWARD_INL_H_
#undef CENOTE_CPU_BLOCK_FORWARD_INL_H_
#else
#define CENOTE_CPU_BLOCK_FORWARD_INL_H_
#endif

#include <cstdint>
#include <vector>

#include "cpu/plane_blocks-inl.h"
#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Windows of kTaps columns over the pixels of a block. columns_of(rows) knows columns as ReduceShortRows
/// wants them; store(i, ow, item) gets output i of the block, in column ow.
template <int kStride, int kTaps, class Lane, class ColumnsOf, class Store>
HWY_NOINLINE void SlideAlongBlock(const BlockPixels<const Lane>& in, const LineReads& reads,
                                  const Range& lines, const Axis& w, const ColumnsOf& columns_of,
                                  const Store& store) {
  constexpr int kShared = kTaps - kStride;  // columns that neighbouring windows have both
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<Lane>);
  const WideTag<Lane> d;
  std::int64_t i = 0;
  for (std::int64_t line = lines.begin; line < lines.end; ++line) {
    const auto rows = reads[line];
    const auto slide = [&]<std::size_t kRows>() CENOTE_VECTOR_LAMBDA {
      const auto columns = columns_of.template operator()<kRows>(rows);
      using Item = decltype(columns.identity());
      const Lane* row[kRows + 1];
      for (std::size_t r = 0; r < kRows; ++r) row[r] = in.line(rows[r].number);
      const auto column = [&](std::int64_t position) CENOTE_VECTOR_LAMBDA -> Item {
        if (position < 0 || position >= w.in() || rows.empty()) return columns.identity();
        if constexpr (kRows > 0) {
          return columns.reduce(kRows, [&](std::int64_t r) CENOTE_VECTOR_LAMBDA {
            return hn::Load(d, row[r] + position * kLanes);
          });
        } else {
          return columns.reduce(
              static_cast<std::int64_t>(rows.size()), [&](std::int64_t r) CENOTE_VECTOR_LAMBDA {
                return hn::Load(d, in.line(rows[static_cast<std::size_t>(r)].number) + position * kLanes);
              });
        }
      };
      Item window[kTaps];
      std::int64_t position = w.start(0);
      for (int tap = 0; tap < kShared; ++tap) window[tap] = column(position + tap);
      for (std::int64_t ow = 0; ow < w.out(); ++ow, ++i, position += kStride) {
        for (int tap = kShared; tap < kTaps; ++tap) window[tap] = column(position + tap);
        if constexpr (kTaps == 2) {
          store(i, ow, columns.join(window[0], window[1]));
        } else {
          store(i, ow, columns.join(window[0], window[1], window[2]));
        }
        for (int tap = 0; tap < kShared; ++tap) window[tap] = window[tap + kStride];
      }
    };
    if (rows.size() == 3) {
      slide.template operator()<3>();
    } else if (rows.size() == 2) {
      slide.template operator()<2>();
    } else {
      slide.template operator()<0>();
    }
  }
}

/// Any windows. `padded` holds a row of the block with its padding.
template <class Reduction, class Lane, class Finish>
HWY_NOINLINE void ReduceBlock(const BlockPixels<const Lane>& in, const LineReads& reads, const Range& lines,
                              const Axis& w, Scratch<Lane>& padded, Lane* out, const Finish& finish) {
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<Lane>);
  const WideTag<Lane> d;
  using V = VecOf<decltype(d)>;
  const auto identity = hn::Set(d, Reduction::template identity<Lane>());
  const std::int64_t end = std::max(w.in(), w.start(w.out() - 1) + w.dilated_kernel());
  Lane* const row =
      padded.resize(static_cast<std::size_t>((w.padding() + end) * kLanes)) + w.padding() * kLanes;
  for (std::int64_t i = -w.padding(); i < 0; ++i) hn::Store(identity, d, row + i * kLanes);
  for (std::int64_t i = w.in(); i < end; ++i) hn::Store(identity, d, row + i * kLanes);
  std::int64_t i = 0;
  for (std::int64_t line = lines.begin; line < lines.end; ++line) {
    const auto rows = reads[line];
    for (std::int64_t at = 0; at < w.in() * kLanes; at += kLanes) {
      V v = identity;
      if (!rows.empty()) {
        v = ReduceBlocked<Reduction>(
            d, static_cast<std::int64_t>(rows.size()), [&](std::int64_t r) CENOTE_VECTOR_LAMBDA {
              return hn::Load(d, in.line(rows[static_cast<std::size_t>(r)].number) + at);
            });
      }
      hn::Store(v, d, row + at);
    }
    const Lane* from = row + w.start(0) * kLanes;
    for (std::int64_t ow = 0; ow < w.out(); ++ow, ++i, from += w.stride() * kLanes) {
      const V window = ReduceBlocked<Reduction>(d, w.kernel(), [&](std::int64_t tap) CENOTE_VECTOR_LAMBDA {
        return hn::Load(d, from + tap * w.dilation() * kLanes);
      });
      hn::Store(finish(i, window), d, out + i * kLanes);
    }
  }
}

/// Whether SlideAlongBlock serves windows along this axis.
inline bool slides_along_blocks(const Axis& w) {
  return (w.kernel() == 2 || w.kernel() == 3) && w.stride() <= 2 && w.dilation() == 1;
}

template <class Lane, class ColumnsOf, class Store>
void SlideAlongBlock(const BlockPixels<const Lane>& in, const LineReads& reads, const Range& lines,
                     const Axis& w, const ColumnsOf& columns_of, const Store& store) {
  if (w.kernel() == 2) {
    if (w.stride() == 1) return SlideAlongBlock<1, 2>(in, reads, lines, w, columns_of, store);
    return SlideAlongBlock<2, 2>(in, reads, lines, w, columns_of, store);
  }
  if (w.stride() == 1) return SlideAlongBlock<1, 3>(in, reads, lines, w, columns_of, store);
  SlideAlongBlock<2, 3>(in, reads, lines, w, columns_of, store);
}

/// finish(i, vector) is stored for output i of the block.
template <class Reduction, class Lane, class Finish>
void PoolBlock(const BlockPixels<const Lane>& in, const LineReads& reads, const Range& lines, const Axis& w,
               Scratch<Lane>& padded, Lane* out, const Finish& finish) {
  if (!slides_along_blocks(w)) return ReduceBlock<Reduction>(in, reads, lines, w, padded, out, finish);
  const auto columns_of = []<std::size_t kRows>(std::span<const LineReads::Line>) {
    return ReducedColumns<Reduction, Lane>();
  };
  SlideAlongBlock(in, reads, lines, w, columns_of,
                  [&](std::int64_t i, std::int64_t, const auto& v) CENOTE_VECTOR_LAMBDA {
                    const WideTag<Lane> d;
                    hn::Store(finish(i, v), d, out + i * static_cast<std::int64_t>(kMaxLanes<Lane>));
                  });
}

/// Whether blocks take these tensors: dense planes that fill the vectors, with small tables, and slices that
/// are not taken apart.
template <class T, class From, class To>
bool fills_blocks(const From& from, const To& to, const Axes& axes) {
  constexpr std::int64_t kMostPositions = 1 << 16;
  constexpr std::int64_t kMostOfSlice = 1 << 12;
  constexpr std::int64_t kMostReads = 1 << 14;  // of rows by rows
  const auto fits = [](const auto& tensor) {
    const std::int64_t slice = tensor.size[3] * tensor.size[4];
    return slice <= (tensor.size[2] > 1 ? kMostOfSlice : kMostPositions) &&
           slice * tensor.size[2] <= kMostPositions && dense_elements(tensor);
  };
  const auto reads = [](const Axis& axis) { return axis.out() * std::min(axis.kernel(), axis.in()); };
  return HWY_TARGET != HWY_SCALAR && to.size[0] * to.size[1] >= static_cast<std::int64_t>(kMaxLanes<T>) &&
         fits(from) && fits(to) && reads(axes[0]) * reads(axes[1]) <= kMostReads;
}

/// Whether PoolBlocks serves these windows. AVX-512, two threads, against row after row: max 3x3 stride 2 of
/// [96, 480, 28, 28] f32 16.0 and 12.7 ms, [96, 288, 35, 35] 13.5 and 13.2 ms; 5x5 stride 2 of [16, 64, 112,
/// 112] 13.5 and 8.1 ms (Xeon); where outputs are stored past the caches, for which rows collect lines anyway
/// (EPYC), 3x3 stride 2 of [256, 256, 13, 13] 3.8 and 2.1 ms, [96, 832, 14, 14] 3.3 and 3.4 ms, [256, 256,
/// 27, 27] 7.5 and 9.1 ms; avg 3x3 stride 1 of [96, 768, 17, 17] 15.3 and 8.0 ms, [96, 192, 35, 35] 9.2
/// and 9.4 ms, max of [32, 128, 56, 56] 3.4 and 4.8 ms; 2x2 stride 2 of [96, 832, 14, 14] 3.4 and 3.7 ms. One
/// thread, against streamed_rows-inl.h, max of stride 1, as many elements each: 5x5 of 20 columns 1.0 and 0.7
/// ms, 40 columns 1.0 and 0.9 ms; 9x9 of 28 columns 0.99 and 0.94 ms, 48 columns 0.4 and 0.7 ms.
template <class T>
bool pools_blocks(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  const Axis& w = axes[2];
  const bool slides = slides_along_blocks(w);
  const bool small = std::max(axes[0].kernel() * axes[1].kernel(), w.kernel()) <= 7;
  const std::int64_t most_of_unit_stride = slides ? 36 : small ? 40 : 28;
  const std::int64_t most_of_three = stores_past_caches(x, y) ? 24 : 31;
  const std::int64_t most_of_others = slides ? (w.kernel() == 3 ? most_of_three : 20) : small ? 128 : 28;
  const std::int64_t most = w.stride() == 1 ? most_of_unit_stride : most_of_others;
  return std::max(w.in(), w.out()) <= most && fills_blocks<T>(x, y, axes);
}

/// finish(i, vector) is stored for output i of its plane.
template <class Reduction, class T, class Finish>
void PoolBlocks(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Finish& finish) {
  using Lane = LaneOf<T>;
  using Fast = FirstTry<Reduction, Lane>;
  const LineReads reads = LineReads::of_windows(axes);
  const Planes<const T> from(x);
  ForEachBlock<T, Scratch<Lane>>(
      reads, x, y,
      [&](Scratch<Lane>& padded, const Block& block, const Block& next, Lane* in, Lane* out) HWY_ATTR {
        const WideTag<T> d;
        const bool numbers =
            PixelsFromPlanes(d, from.run(block, block.from, next, next.from), in, LoadElements(),
                             [](std::int64_t, auto v) CENOTE_VECTOR_LAMBDA { return v; });
        const BlockPixels<const Lane> pixels{in, block.from.begin, from.columns()};
        const std::int64_t first = block.to.begin * axes[2].out();
        const auto finish_block = [&](std::int64_t o, auto v)
                                      CENOTE_VECTOR_LAMBDA { return finish(first + o, v); };
        if (numbers) {
          PoolBlock<Fast>(pixels, reads, block.to, axes[2], padded, out, finish_block);
        } else {
          PoolBlock<Reduction>(pixels, reads, block.to, axes[2], padded, out, finish_block);
        }
      });
}

template <class T>
void MaxOfBlocks(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  PoolBlocks<MaxReduction, T>(x, y, axes, [](std::int64_t, auto v) CENOTE_VECTOR_LAMBDA { return v; });
}

/// The divisors of the outputs of a plane: divisors(od, oh, ow).
template <class T, class Divisors>
std::vector<LaneOf<T>> divisors_of_plane(const Axes& axes, const Divisors& divisors) {
  std::vector<LaneOf<T>> all;
  all.reserve(static_cast<std::size_t>(axes[0].out() * axes[1].out() * axes[2].out()));
  for (std::int64_t od = 0; od < axes[0].out(); ++od) {
    for (std::int64_t oh = 0; oh < axes[1].out(); ++oh) {
      const std::int64_t row = divisors.row(od, oh);
      for (std::int64_t ow = 0; ow < axes[2].out(); ++ow)
        all.push_back(static_cast<LaneOf<T>>(row * divisors.column(ow)));
    }
  }
  return all;
}

template <class T, class Divisors>
void AvgOfBlocks(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors) {
  using Lane = LaneOf<T>;
  std::vector<Lane> of_outputs = divisors_of_plane<T>(axes, divisors);
  const WideTag<T> d;
  if (std::all_of(of_outputs.begin(), of_outputs.end(), power_of_two<Lane>)) {
    for (Lane& value : of_outputs) value = 1 / value;
    const auto multiply = [&](std::int64_t i, auto v) CENOTE_VECTOR_LAMBDA {
      return hn::Mul(v, hn::Set(d, of_outputs[static_cast<std::size_t>(i)]));
    };
    return PoolBlocks<SumReduction, T>(x, y, axes, multiply);
  }
  const auto divide = [&](std::int64_t i, auto v) CENOTE_VECTOR_LAMBDA {
    return hn::Div(v, hn::Set(d, of_outputs[static_cast<std::size_t>(i)]));
  };
  PoolBlocks<SumReduction, T>(x, y, axes, divide);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
