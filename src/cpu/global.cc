// Global pooling on the CPU. Along rows, a dense plane is one long row. Channels-last, planes are cut into
// blocks of pixels whose vectors over C are reduced in f32 or f64 and joined in double, and into blocks of
// channels and parts where the batch alone would not keep the threads busy; none depends on the thread count.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/global.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include "backend.h"
#include "core/parallel.h"
#include "cpu/index_scatter-inl.h"
#include "cpu/layout.h"
#include "cpu/past_caches-inl.h"
#include "cpu/segments-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

/// Dense rows and planes joined: the same elements in the same order with fewer, longer rows.
template <class Tensor>
Tensor join_rows(Tensor tensor) {
  auto& size = tensor.size;
  auto& stride = tensor.stride;
  for (std::size_t axis : {std::size_t{3}, std::size_t{2}}) {
    if (size[4] == 1) stride[4] = 1;
    if (size[axis] == 1) continue;
    const bool joins = size[4] == 1 || stride[axis] == size[4] * stride[4];
    if (!joins) return tensor;
    if (size[4] == 1) stride[4] = stride[axis];
    size[4] *= size[axis];
    size[axis] = 1;
    stride[axis] = 0;
  }
  return tensor;
}

Axes global_axes(const Array5& in) {
  return {Axis::adaptive(in[2], 1), Axis::adaptive(in[3], 1), Axis::adaptive(in[4], 1)};
}

/// Channels of one work item: few, or, where there are many images, many.
constexpr std::int64_t kFewChannels = 64;
constexpr std::int64_t kManyChannels = 1024;
inline std::int64_t channels_of_item(const ConstTensor5& x) {
  constexpr std::int64_t kManyImages = 8;
  return x.size[0] < kManyImages ? kFewChannels : kManyChannels;
}
/// Pixels whose sum stays in T.
constexpr std::int64_t kPixelBlock = 256;

/// Adds (or maximises) `count` pixels of `channels` channels into acc.
template <class Reduction, class T>
HWY_NOINLINE void ReducePixels(const T* from, std::int64_t step, std::int64_t count, std::int64_t channels,
                               T* acc) {
  const WideTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t half = count / 2;  // read in two places at once
  const auto in_order = [&](const T* pixel, const auto& take) CENOTE_VECTOR_LAMBDA {
    for (std::int64_t i = 0; i < half; ++i, pixel += step) {
      take(pixel);
      take(pixel + half * step);
    }
    if (count % 2 != 0) take(pixel + half * step);
  };
  for (std::int64_t c = 0; c < channels;) {
    const std::int64_t left = channels - c;
    if (left >= 4 * lanes) {
      auto acc0 = hn::LoadU(d, acc + c);
      auto acc1 = hn::LoadU(d, acc + c + lanes);
      auto acc2 = hn::LoadU(d, acc + c + 2 * lanes);
      auto acc3 = hn::LoadU(d, acc + c + 3 * lanes);
      in_order(from + c, [&](const T* pixel) CENOTE_VECTOR_LAMBDA {
        acc0 = Reduction::combine(d, acc0, hn::LoadU(d, pixel));
        acc1 = Reduction::combine(d, acc1, hn::LoadU(d, pixel + lanes));
        acc2 = Reduction::combine(d, acc2, hn::LoadU(d, pixel + 2 * lanes));
        acc3 = Reduction::combine(d, acc3, hn::LoadU(d, pixel + 3 * lanes));
      });
      hn::StoreU(acc0, d, acc + c);
      hn::StoreU(acc1, d, acc + c + lanes);
      hn::StoreU(acc2, d, acc + c + 2 * lanes);
      hn::StoreU(acc3, d, acc + c + 3 * lanes);
      c += 4 * lanes;
      continue;
    }
    const auto part = static_cast<std::size_t>(left >= lanes ? 0 : left);
    auto sum = LoadLanes<true>(d, acc + c, 1, part);
    in_order(from + c, [&](const T* pixel) CENOTE_VECTOR_LAMBDA {
      sum = Reduction::combine(d, sum, LoadLanes<true>(d, pixel, 1, part));
    });
    StorePart(d, sum, acc + c, part == 0 ? static_cast<std::size_t>(lanes) : part);
    c += lanes;
  }
}

/// How many parts to cut planes into, so that a small batch keeps several threads busy.
std::int64_t parts_of(const ConstTensor5& x, std::int64_t blocks) {
  constexpr std::int64_t kUnits = 16;
  const std::int64_t most = x.size[4] / (4 * kPixelBlock);
  return std::max<std::int64_t>(1, std::min(most, kUnits / std::max<std::int64_t>(x.size[0] * blocks, 1)));
}

/// Columns first .. end - 1 of every row of pixels, at most kPixelBlock at a time: pixels(from, count).
template <class T, class Pixels>
void ForEachPixelBlock(const ConstTensor5& x, std::int64_t n, std::int64_t c, const Range& columns,
                       const Pixels& pixels) {
  for (std::int64_t d = 0; d < x.size[2]; ++d) {
    for (std::int64_t h = 0; h < x.size[3]; ++h) {
      const T* const row = row_of<const T>(x, n, c, d, h);
      for (std::int64_t w = columns.begin; w < columns.end; w += kPixelBlock) {
        pixels(row + w * x.stride[4], std::min(kPixelBlock, columns.end - w));
      }
    }
  }
}

/// Totals of blocks of channels and of parts of their planes, joined in order: finish(total) stores one.
template <class Reduction, class T, class Finish>
void ChannelsLastGlobal(const Tensor5& y, const ConstTensor5& x, const Finish& finish) {
  using Sum = Total<Reduction, T>;
  const std::int64_t most = channels_of_item(x);
  const std::int64_t blocks = ceil_divide(x.size[1], most);
  const std::int64_t parts = parts_of(x, blocks);
  const std::int64_t channels = x.size[1];
  const bool joins = parts > 1 || x.size[2] * x.size[3] > 1 || x.size[4] > kPixelBlock;
  Scratch<Sum> totals;  // [N, parts, C]
  if (joins) totals.resize(static_cast<std::size_t>(x.size[0] * parts * channels));
  // Pixels that are read channel after channel: of many channels so few that memory is met nearly in order.
  // [32, 256, 56, 56] f32, AVX-512, two threads: 6.6 ms 256 pixels at a time, 5.1 ms 16.
  const std::int64_t run = channels > kFewChannels ? kPixelBlock / 16 : kPixelBlock;
  const auto reduce = [run, step = x.stride[4]](const T* from, std::int64_t pixels, std::int64_t count,
                                                T* acc) {
    std::fill(acc, acc + count, Reduction::template identity<T>());
    for (std::int64_t i = 0; i < pixels; i += run)
      ReducePixels<Reduction>(from + i * step, step, std::min(run, pixels - i), count, acc);
  };
  const auto store = [&](const auto* total, std::int64_t count, std::int64_t n, std::int64_t first) HWY_ATTR {
    T* const to = plane_of<T>(y, n, first);
    if (y.stride[1] == 1) {
      for (std::int64_t c = 0; c < count; ++c) to[c] = finish(total[c]);  // in vectors
    } else {
      for (std::int64_t c = 0; c < count; ++c) to[c * y.stride[1]] = finish(total[c]);
    }
  };
  const Cursor::Index units{x.size[0], blocks, parts, 1, 1};
  const std::int64_t bytes =
      static_cast<std::int64_t>(sizeof(T)) * positions_of(x.size) / parts * std::min(most, channels);
  parallel_for(Cursor::total(units), row_grain(bytes, kFastGrainBytes),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 T acc[kManyChannels];
                 Cursor at(units, begin);
                 for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
                   const std::int64_t first = at[1] * most;
                   const std::int64_t count = std::min(most, channels - first);
                   const Range columns{x.size[4] * at[2] / parts, x.size[4] * (at[2] + 1) / parts};
                   if (!joins) {
                     reduce(plane_of<const T>(x, at[0], first), x.size[4], count, acc);
                     store(acc, count, at[0], first);
                     continue;
                   }
                   Sum* const total = totals.get() + (at[0] * parts + at[2]) * channels + first;
                   std::fill(total, total + count, Reduction::template identity<Sum>());
                   ForEachPixelBlock<T>(
                       x, at[0], first, columns, [&](const T* from, std::int64_t pixels) HWY_ATTR {
                         reduce(from, pixels, count, acc);
                         for (std::int64_t i = 0; i < count; ++i)
                           total[i] = Reduction::combine_scalar(total[i], static_cast<Sum>(acc[i]));
                       });
                 }
               });
  if (!joins) return;
  const std::int64_t row_bytes = static_cast<std::int64_t>(sizeof(Sum)) * parts * channels;
  parallel_for(x.size[0], row_grain(row_bytes, kFastGrainBytes),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 for (std::int64_t n = begin; n < end; ++n) {
                   Sum* const total = totals.get() + n * parts * channels;
                   for (std::int64_t i = channels; i < parts * channels; ++i)
                     total[i % channels] = Reduction::combine_scalar(total[i % channels], total[i]);
                   store(total, channels, n, 0);
                 }
               });
}

/// Neighbours, a chain of sums per quarter: memory answers faster where it is read in some places at once.
/// Bare loops over [32, 64, 112, 112] f32, AVX-512, two threads: 5.0 ms in one place, 4.6 ms in four, 5.0 ms
/// in eight.
template <class Reduction, class T>
HWY_NOINLINE Total<Reduction, T> ReduceQuarters(const T* from, std::int64_t count) {
  constexpr std::int64_t kAhead = 2048 / static_cast<std::int64_t>(sizeof(T));
  const WideTag<T> d;
  const std::int64_t lanes = lanes_of<T>();
  const std::int64_t quarter = count / (4 * lanes) * lanes;
  const auto load = [&](std::int64_t part, std::int64_t i) CENOTE_VECTOR_LAMBDA {
    const T* const at = from + part * quarter + i;
    prefetch_for_read(at + kAhead);
    return hn::LoadU(d, at);
  };
  auto total = Reduction::template identity<Total<Reduction, T>>();
  for (std::int64_t i = 0; i < quarter;) {
    auto chain0 = load(0, i);
    auto chain1 = load(1, i);
    auto chain2 = load(2, i);
    auto chain3 = load(3, i);
    const std::int64_t end = std::min(quarter, i + kSumBlock * lanes);
    for (i += lanes; i < end; i += lanes) {
      chain0 = Reduction::combine(d, chain0, load(0, i));
      chain1 = Reduction::combine(d, chain1, load(1, i));
      chain2 = Reduction::combine(d, chain2, load(2, i));
      chain3 = Reduction::combine(d, chain3, load(3, i));
    }
    const auto pairs =
        Reduction::combine(d, Reduction::combine(d, chain0, chain1), Reduction::combine(d, chain2, chain3));
    total =
        Reduction::combine_scalar(total, static_cast<Total<Reduction, T>>(ReduceLanes<Reduction>(d, pairs)));
  }
  return Reduction::combine_scalar(total,
                                   ReduceContiguous<Reduction>(from + 4 * quarter, count - 4 * quarter));
}

#if HWY_TARGET != HWY_SCALAR
/// Reduces as many planes of `count` neighbours as a vector has lanes, plane(i) being the begin of one: each
/// to a vector, whose lanes are joined with those of the others, neighbours by neighbours, until one vector
/// holds them.
template <class Reduction, class T, class Plane>
HWY_INLINE VecOf<WideTag<T>> ReducePlanes(const Plane& plane, std::int64_t planes, std::int64_t count) {
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  const WideTag<T> d;
  const auto identity = hn::Set(d, Reduction::template identity<T>());
  const std::int64_t whole = count / kLanes * kLanes;
  const auto left = static_cast<std::size_t>(count - whole);
  VecOf<WideTag<T>> v[kLanes];
  std::fill_n(v, kLanes, identity);
  for (std::int64_t i = 0; i < planes; ++i) {
    const T* const from = plane(i);
    auto sum = identity;
    for (std::int64_t k = 0; k < whole; k += kLanes) sum = Reduction::combine(d, sum, hn::LoadU(d, from + k));
    if (left > 0) {
      sum = Reduction::combine(
          d, sum, hn::IfThenElse(hn::FirstN(d, left), LoadPart(d, from + whole, left), identity));
    }
    v[i] = sum;
  }
  for (std::int64_t joined = kLanes / 2; joined > 0; joined /= 2) {
    for (std::int64_t i = 0; i < joined; ++i) {
      v[i] = Reduction::combine(d, hn::ConcatEven(d, v[2 * i + 1], v[2 * i]),
                                hn::ConcatOdd(d, v[2 * i + 1], v[2 * i]));
    }
  }
  return v[0];
}

/// Planes of up to so many neighbours go some at a time. Averages, AVX-512, two threads, in the caches,
/// against one plane after the other: [1, 1000, 7, 7] f32 3.6 and 2.7 us, [1, 1000, 13, 13] 5.1 and 4.0 us.
template <class T>
constexpr std::int64_t kSmallPlane = 32 * static_cast<std::int64_t>(kMaxLanes<T>);

template <class Reduction, class T, class Finish>
void SmallPlanesGlobal(const Tensor5& y, const ConstTensor5& x, const Finish& finish) {
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t channels = x.size[1];
  const std::int64_t planes = x.size[0] * channels;
  const std::int64_t count = x.size[4];
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * count;
  parallel_for(ceil_divide(planes, kLanes), row_grain(bytes * kLanes, kFastGrainBytes),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 HWY_ALIGN T reduced[kLanes];
                 for (std::int64_t unit = begin; unit < end; ++unit) {
                   const std::int64_t first = unit * kLanes;
                   const std::int64_t some = std::min(kLanes, planes - first);
                   Cursor at({1, 1, 1, x.size[0], channels}, first);
                   const T* from[kLanes];
                   T* to[kLanes];
                   for (std::int64_t i = 0; i < some; ++i, at.next()) {
                     from[i] = plane_of<const T>(x, at[3], at[4]);
                     to[i] = plane_of<T>(y, at[3], at[4]);
                   }
                   const auto plane = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
                     for (std::int64_t k = 0; k < count; k += kLine)
                       prefetch_for_read(from[i] + kReadAhead<T> + k);
                     return from[i];
                   };
                   hn::Store(ReducePlanes<Reduction, T>(plane, some, count), WideTag<T>(), reduced);
                   for (std::int64_t i = 0; i < some; ++i) to[i][0] = finish(reduced[i]);
                 }
               });
}
#endif

/// Planes that are one row of neighbours: finish(total) stores one.
template <class Reduction, class T, class Finish>
void DensePlanesGlobal(const Tensor5& y, const ConstTensor5& x, const Finish& finish) {
  const Cursor::Index units{1, 1, 1, x.size[0], x.size[1]};
  const std::int64_t count = x.size[4];
#if HWY_TARGET != HWY_SCALAR
  if (count <= kSmallPlane<T>) return SmallPlanesGlobal<Reduction, T>(y, x, finish);
#endif
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * count;
  // Small planes end before the reduction asks for what follows.
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kAhead = 4096 / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t asked = std::min(count, kAhead / 4);
  constexpr std::int64_t kLarge = 32 << 10;  // bytes
  parallel_for(Cursor::total(units), row_grain(bytes, kFastGrainBytes),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 Cursor at(units, begin);
                 for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
                   const T* const from = plane_of<const T>(x, at[3], at[4]);
                   T& result = plane_of<T>(y, at[3], at[4])[0];
                   if (bytes >= kLarge) {
                     result = finish(ReduceQuarters<Reduction>(from, count));
                     continue;
                   }
                   for (std::int64_t i = 0; i < asked; i += kLine) prefetch_for_read(from + kAhead + i);
                   result = finish(ReduceContiguous<Reduction>(from, count));
                 }
               });
}

/// Whether join_rows made one row of neighbours of each plane.
bool one_dense_row(const ConstTensor5& x) {
  return x.size[2] == 1 && x.size[3] == 1 && (x.size[4] == 1 || x.stride[4] == 1);
}

template <class T>
void Max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x) {
  const ConstTensor5 joined = join_rows(x);
  if (indices == nullptr && channels_last(x, x))
    return ChannelsLastGlobal<MaxReduction, T>(y, joined, [](T maximum) { return maximum; });
  if (indices == nullptr && one_dense_row(joined))
    return DensePlanesGlobal<MaxReduction, T>(y, joined, [](T maximum) { return maximum; });
  // Positions in the joined rows are positions in the plane: joining keeps the order.
  SegmentMax<T>(joined, y, indices, global_axes(joined.size));
}

template <class T>
void Avg(const Tensor5& y, const ConstTensor5& x) {
  const ConstTensor5 joined = join_rows(x);
  const std::int64_t count = positions_of(x.size);
  const auto finish = [divisor = static_cast<double>(count)](double sum)
                          HWY_ATTR { return static_cast<T>(sum / divisor); };
  if (channels_last(x, x)) return ChannelsLastGlobal<SumReduction, T>(y, joined, finish);
  if (one_dense_row(joined)) return DensePlanesGlobal<SumReduction, T>(y, joined, finish);
  SegmentAvg<T>(joined, y, global_axes(joined.size),
                [&](std::int64_t, std::int64_t, std::int64_t) { return count; });
}

template <class T>
std::optional<std::int64_t> MaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                        const ConstTensor5& indices) {
  return scatter_indices<T>(join_rows(grad_x), grad_y, indices);
}

/// Every position of a channel gets the same value.
template <class T>
void AvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y) {
  const Tensor5 to = join_rows(grad_x);
  const bool over_channels = channels_last(grad_x, grad_x);
  const auto count = static_cast<T>(positions_of(to.size));
  const std::int64_t channels = to.size[1];
  // One unit is a row of one channel, or of all channels.
  const Cursor::Index units{to.size[0], over_channels ? 1 : channels, to.size[2], to.size[3], 1};
  const std::int64_t row_bytes =
      static_cast<std::int64_t>(sizeof(T)) * to.size[4] * (over_channels ? channels : 1);
  const bool past = stores_past_caches(grad_x);
  parallel_for(Cursor::total(units), row_grain(row_bytes, kFastGrainBytes),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 OutputLines lines;
                 // fill(elements) makes so many neighbours that belong at `place`.
                 const auto make = [&](T* place, std::int64_t elements, const auto& fill) {
                   const std::int64_t bytes = elements * static_cast<std::int64_t>(sizeof(T));
                   if (!past) return fill(place);
                   fill(reinterpret_cast<T*>(lines.room(place, bytes)));
                   lines.done(bytes);
                 };
                 Scratch<T> shares;
                 shares.resize(static_cast<std::size_t>(over_channels ? channels : 1));
                 Cursor at(units, begin);
                 for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
                   const T* const grads = plane_of<const T>(grad_y, at[0], at[1]);
                   T* row = row_of<T>(to, at[0], at[1], at[2], at[3]);
                   if (!over_channels) {
                     const T share = *grads / count;
                     if (to.stride[4] == 1) {
                       make(row, to.size[4], [&](T* first) { fill_row(first, 1, to.size[4], share); });
                     } else {
                       fill_row(row, to.stride[4], to.size[4], share);
                     }
                     continue;
                   }
                   for (std::int64_t c = 0; c < channels; ++c)
                     shares.get()[c] = grads[c * grad_y.stride[1]] / count;
                   for (std::int64_t w = 0; w < to.size[4]; ++w, row += to.stride[4])
                     make(row, channels, [&](T* first) { std::copy_n(shares.get(), channels, first); });
                 }
               });
}

constexpr GlobalBackend kTable{
    [](const Tensor5& y, const Tensor5* indices, const ConstTensor5& x) {
      return x.dtype == DType::f32 ? Max<float>(y, indices, x) : Max<double>(y, indices, x);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& indices) {
      return grad_x.dtype == DType::f32 ? MaxBackward<float>(grad_x, grad_y, indices)
                                        : MaxBackward<double>(grad_x, grad_y, indices);
    },
    [](const Tensor5& y, const ConstTensor5& x) {
      return x.dtype == DType::f32 ? Avg<float>(y, x) : Avg<double>(y, x);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y) {
      return grad_x.dtype == DType::f32 ? AvgBackward<float>(grad_x, grad_y)
                                        : AvgBackward<double>(grad_x, grad_y);
    },
};

}  // namespace

const GlobalBackend* GlobalTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(GlobalTable);

const GlobalBackend& global() { return *HWY_DYNAMIC_DISPATCH(GlobalTable)(); }

}  // namespace cenote::cpu
#endif
