// Pooling forward when the channels lie next to each other: vectors over C, a tile of four of them in
// registers while all taps of one output pixel stream past. Serves window and adaptive pooling.
#if defined(CENOTE_CPU_CHANNELS_LAST_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_CHANNELS_LAST_INL_H_
#undef CENOTE_CPU_CHANNELS_LAST_INL_H_
#else
#define CENOTE_CPU_CHANNELS_LAST_INL_H_
#endif

#include <vector>

#include "cpu/planar_indices-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The taps of one output pixel: rows of W, each read at `count` positions from `offset`, `step` apart. Taps
/// are numbered as in the window, or by their positions in the plane, which rise in the same order.
template <class T>
struct PixelTaps {
  const InputRows<T>& rows;
  std::int64_t offset;
  std::int64_t count;
  std::int64_t step;
  bool number_by_position;
  std::int64_t first;        // number of the first column,
  std::int64_t number_step;  // of the next one after it,
  std::int64_t row_radix;    // and of the next row

  std::int64_t first_number(std::int64_t row) const {
    return (number_by_position ? rows.line(row) : rows.tap(row)) * row_radix + first;
  }
};

template <class T>
PixelTaps<T> pixel_taps(const InputRows<T>& rows, const Axis& w, std::int64_t ow, std::int64_t stride,
                        bool number_by_position) {
  const Taps columns = w.taps(ow);
  const std::int64_t offset = columns.position * stride;
  const std::int64_t step = w.dilation() * stride;
  if (number_by_position)
    return {rows, offset, columns.count, step, true, columns.position, w.dilation(), w.in()};
  return {rows, offset, columns.count, step, false, columns.first, 1, w.kernel()};
}

/// Visits the taps in row-major order: visit(address, number).
template <class T, class Visit>
HWY_INLINE void ForEachTap(const PixelTaps<T>& taps, const Visit& visit) {
  for (std::int64_t i = 0; i < taps.rows.count(); ++i) {
    const T* from = taps.rows.row(i) + taps.offset;
    std::int64_t number = taps.first_number(i);
    for (std::int64_t j = 0; j < taps.count; ++j, from += taps.step, number += taps.number_step)
      visit(from, number);
  }
}

/// Four vectors of channels (kTile) or one, perhaps partial, from `c` on. Sums of more than kSumBlock terms
/// (kLong) are sums of partial sums.
template <class Reduction, bool kTile, bool kLong, class T, class Emit>
HWY_INLINE void ReduceChannels(const PixelTaps<T>& taps, std::int64_t c, std::size_t part, const Emit& emit) {
  const WideTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto identity = hn::Set(d, Reduction::template identity<LaneOf<T>>());
  auto acc0 = identity, acc1 = identity, acc2 = identity, acc3 = identity;
  auto total0 = identity, total1 = identity, total2 = identity, total3 = identity;
  const auto flush = [&]() CENOTE_VECTOR_LAMBDA {
    total0 = Reduction::combine(d, total0, acc0);
    acc0 = identity;
    if constexpr (kTile) {
      total1 = Reduction::combine(d, total1, acc1);
      total2 = Reduction::combine(d, total2, acc2);
      total3 = Reduction::combine(d, total3, acc3);
      acc1 = acc2 = acc3 = identity;
    }
  };
  std::int64_t terms = 0;
  ForEachTap(taps, [&](const T* from, std::int64_t) CENOTE_VECTOR_LAMBDA {
    if constexpr (kTile) {
      acc0 = Reduction::combine(d, acc0, LoadVector(d, from + c));
      acc1 = Reduction::combine(d, acc1, LoadVector(d, from + c + lanes));
      acc2 = Reduction::combine(d, acc2, LoadVector(d, from + c + 2 * lanes));
      acc3 = Reduction::combine(d, acc3, LoadVector(d, from + c + 3 * lanes));
    } else {
      acc0 = Reduction::combine(d, acc0, LoadLanes<true>(d, from + c, 1, part));
    }
    if constexpr (kLong) {
      if (++terms % kSumBlock == 0) flush();
    }
  });
  if constexpr (kLong) flush();
  emit(c, kLong ? total0 : acc0);
  if constexpr (kTile) {
    emit(c + lanes, kLong ? total1 : acc1);
    emit(c + 2 * lanes, kLong ? total2 : acc2);
    emit(c + 3 * lanes, kLong ? total3 : acc3);
  }
}

/// All channels of one output pixel: emit(c, vector).
template <class Reduction, bool kLong, class T, class Emit>
HWY_INLINE void ReducePixel(const PixelTaps<T>& taps, std::int64_t channels, const Emit& emit) {
  const auto lanes = lanes_of<T>();
  std::int64_t c = 0;
  for (; c + 4 * lanes <= channels; c += 4 * lanes) ReduceChannels<Reduction, true, kLong>(taps, c, 0, emit);
  for (; c < channels; c += lanes) {
    const std::int64_t left = channels - c;
    ReduceChannels<Reduction, false, kLong>(taps, c, static_cast<std::size_t>(left >= lanes ? 0 : left),
                                            emit);
  }
}

/// One step of the maximum by its definition: strictly greater, or NaN.
template <class D, class DI>
HWY_INLINE void TakeBetter(D d, DI di, VecOf<D> value, VecOf<DI> tap, VecOf<D>& best, VecOf<DI>& key) {
  const auto better = hn::Or(hn::Gt(value, best), hn::IsNaN(value));
  best = hn::IfThenElse(better, value, best);
  key = hn::IfThenElse(hn::RebindMask(di, better), tap, key);
  (void)d;
}

/// The maximum and its tap in row-major order. There is an element.
template <class T, class Key>
HWY_INLINE void MaxPixelWithKeys(const PixelTaps<T>& taps, std::int64_t channels, const RowSink<T>& values,
                                 Key* keys) {
  const WideTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto lowest = hn::Set(d, MaxReduction::identity<LaneOf<T>>());
  const auto first = hn::Set(di, static_cast<Key>(taps.first_number(0)));
  std::int64_t c = 0;
  for (; c + 4 * lanes <= channels; c += 4 * lanes) {
    auto best0 = lowest, best1 = lowest, best2 = lowest, best3 = lowest;
    auto key0 = first, key1 = first, key2 = first, key3 = first;
    ForEachTap(taps, [&](const T* from, std::int64_t number) CENOTE_VECTOR_LAMBDA {
      const auto tap = hn::Set(di, static_cast<Key>(number));
      TakeBetter(d, di, LoadVector(d, from + c), tap, best0, key0);
      TakeBetter(d, di, LoadVector(d, from + c + lanes), tap, best1, key1);
      TakeBetter(d, di, LoadVector(d, from + c + 2 * lanes), tap, best2, key2);
      TakeBetter(d, di, LoadVector(d, from + c + 3 * lanes), tap, best3, key3);
    });
    values.store(d, c, best0);
    values.store(d, c + lanes, best1);
    values.store(d, c + 2 * lanes, best2);
    values.store(d, c + 3 * lanes, best3);
    hn::StoreU(key0, di, keys + c);
    hn::StoreU(key1, di, keys + c + lanes);
    hn::StoreU(key2, di, keys + c + 2 * lanes);
    hn::StoreU(key3, di, keys + c + 3 * lanes);
  }
  for (; c < channels; c += lanes) {
    const auto part = static_cast<std::size_t>(channels - c >= lanes ? 0 : channels - c);
    auto best = lowest;
    auto key = first;
    ForEachTap(taps, [&](const T* from, std::int64_t number) CENOTE_VECTOR_LAMBDA {
      TakeBetter(d, di, LoadLanes<true>(d, from + c, 1, part), hn::Set(di, static_cast<Key>(number)), best,
                 key);
    });
    values.store(d, c, best);
    hn::StoreU(key, di, keys + c);
  }
}

/// Asks for what the outputs a little further along the row will read: `count` elements of the last rows.
template <class T>
HWY_INLINE void PrefetchPixel(const InputRows<T>& rows, std::int64_t offset, std::int64_t count) {
  constexpr std::int64_t kAhead = 4096 / static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t row = std::max<std::int64_t>(rows.count() - 2, 0); row < rows.count(); ++row) {
    const T* const from = rows.row(row) + offset + kAhead;
    for (std::int64_t i = 0; i < count; i += kLine) prefetch_for_read(from + i);
  }
}

/// Pixels per work item.
constexpr std::int64_t kPixelTile = 16;

/// Output pixels in parallel: pixel(state, at, ow, taps); at[0..2] are n, od, oh. state() is made per thread.
template <class T, class State, class Pixel>
void ForEachPixel(const ConstTensor5& x, const Tensor5& y, const Axes& axes, bool number_by_position,
                  const State& make_state, const Pixel& pixel) {
  const Axis& w = axes[2];
  const Cursor::Index units{y.size[0], y.size[2], y.size[3], ceil_divide(w.out(), kPixelTile), 1};
  const std::int64_t inputs = x.size[2] * x.size[3] * x.size[4];
  const std::int64_t outputs = std::max<std::int64_t>(y.size[2] * y.size[3] * y.size[4], 1);
  const std::int64_t bytes =
      static_cast<std::int64_t>(sizeof(T)) * kPixelTile * x.size[1] * ceil_divide(inputs, outputs);
  const std::int64_t prefetched = ceil_divide(w.in(), std::max<std::int64_t>(w.out(), 1)) * x.size[1];
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    auto state = make_state();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      rows.collect(x, plane_of<const T>(x, at[0], 0), axes, at[1], at[2]);
      const std::int64_t last = std::min(w.out(), (at[3] + 1) * kPixelTile);
      for (std::int64_t ow = at[3] * kPixelTile; ow < last; ++ow) {
        PrefetchPixel(rows, w.start(ow) * x.stride[4], prefetched);
        ask_ahead(row_of<T>(y, at[0], 0, at[1], at[2]) + ow * y.stride[4], x.size[1]);
        pixel(state, at, ow, pixel_taps(rows, w, ow, x.stride[4], number_by_position));
      }
    }
  });
}

/// In how many blocks the channels of one image are shared out, where its pixels would not keep the threads
/// busy. [1, 2048, 4, 7, 7] f32, one window, max forward and backward through torch's autograd, two threads:
/// 0.160 and 0.101 ms.
template <class T>
std::int64_t channel_blocks(const Tensor5& y) {
  constexpr std::int64_t kFewUnits = 16;
  constexpr std::int64_t kFewestBytes = 1024;  // of a block's channels in a pixel
  const std::int64_t units = y.size[2] * y.size[3] * ceil_divide(y.size[4], kPixelTile);
  if (y.size[0] != 1 || units == 0) return 1;
  std::int64_t blocks = 1;
  while (2 * blocks * units <= kFewUnits && y.size[1] % (2 * blocks) == 0 &&
         y.size[1] / (2 * blocks) * static_cast<std::int64_t>(sizeof(T)) >= kFewestBytes)
    blocks *= 2;
  return blocks;
}

/// Blocks of the channels of one image as images.
template <class Tensor>
Tensor channels_as_images(Tensor tensor, std::int64_t blocks) {
  tensor.size[0] = blocks;
  tensor.size[1] /= blocks;
  tensor.stride[0] = tensor.size[1] * tensor.stride[1];
  return tensor;
}

struct NoState {};

template <class T>
void ChannelsLastMax(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  if (const std::int64_t blocks = channel_blocks<T>(y); blocks > 1)
    return ChannelsLastMax<T>(channels_as_images(x, blocks), channels_as_images(y, blocks), axes);
  ForEachPixel<T>(
      x, y, axes, false, [] { return NoState{}; },
      [&](NoState&, const Cursor& at, std::int64_t ow, const PixelTaps<T>& taps) HWY_ATTR {
        const WideTag<T> d;
        T* const to = row_of<T>(y, at[0], 0, at[1], at[2]) + ow * y.stride[4];
        const RowSink<T> sink(to, 1, y.size[1]);
        ReducePixel<MaxReduction, false>(taps, x.size[1],
                                         [&](std::int64_t c, VecOf<decltype(d)> v)
                                             CENOTE_VECTOR_LAMBDA { sink.store(d, c, v); });
      });
}

template <class T>
void ChannelsLastMaxWithIndices(const ConstTensor5& x, const Tensor5& y, const Tensor5& indices,
                                const Axes& axes) {
  if (const std::int64_t blocks = channel_blocks<T>(y); blocks > 1) {
    return ChannelsLastMaxWithIndices<T>(channels_as_images(x, blocks), channels_as_images(y, blocks),
                                         channels_as_images(indices, blocks), axes);
  }
  using Key = hwy::MakeSigned<LaneOf<T>>;
  const std::int64_t channels = x.size[1];
  const RecordWriter record(indices, x.size, axes);
  const auto make_state = [&] {
    Scratch<Key> keys;
    keys.resize(static_cast<std::size_t>(channels + PhaseBuffer<Key>::kSlack));
    return keys;
  };
  ForEachPixel<T>(x, y, axes, indices.dtype == DType::i64, make_state,
                  [&](Scratch<Key>& keys, const Cursor& at, std::int64_t ow, const PixelTaps<T>& taps)
                      HWY_ATTR {
                        T* const to = row_of<T>(y, at[0], 0, at[1], at[2]) + ow * y.stride[4];
                        if (taps.rows.count() == 0 || taps.count == 0) {
                          std::fill(to, to + channels, static_cast<T>(MaxReduction::identity<LaneOf<T>>()));
                          std::fill(keys.get(), keys.get() + channels, kNoKey<Key>);
                        } else {
                          MaxPixelWithKeys(taps, channels, RowSink<T>(to, 1, channels), keys.get());
                        }
                        record.store_channels(keys.get(), kNoKey<Key>, channels, at[0], at[1], at[2], ow);
                      });
}

/// x / divisor, by the reciprocal where that is exact.
template <class D>
HWY_INLINE VecOf<D> DivideExactly(D d, VecOf<D> x, std::int64_t divisor) {
  using T = hn::TFromD<D>;
  const bool power_of_two = divisor > 0 && (divisor & (divisor - 1)) == 0;
  if (power_of_two) return hn::Mul(x, hn::Set(d, T{1} / static_cast<T>(divisor)));
  return hn::Div(x, hn::Set(d, static_cast<T>(divisor)));
}

/// Divisors of a thread's outputs: those of W computed once, those of D and H once per row.
template <class Divisors>
class PixelDivisors {
 public:
  PixelDivisors(const Divisors& divisors, std::int64_t outs)
      : divisors_(divisors), columns_(static_cast<std::size_t>(outs)) {
    for (std::int64_t ow = 0; ow < outs; ++ow) columns_[static_cast<std::size_t>(ow)] = divisors.column(ow);
  }
  std::int64_t at(std::int64_t od, std::int64_t oh, std::int64_t ow) {
    if (od != od_ || oh != oh_) {
      od_ = od;
      oh_ = oh;
      row_ = divisors_.row(od, oh);
    }
    return row_ * columns_[static_cast<std::size_t>(ow)];
  }

 private:
  const Divisors& divisors_;
  std::vector<std::int64_t> columns_;
  std::int64_t od_ = -1;
  std::int64_t oh_ = -1;
  std::int64_t row_ = 0;
};

/// The divisor of output (od, oh, ow) is divisors.row(od, oh) * divisors.column(ow).
template <class T, class Divisors>
void ChannelsLastAvg(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors) {
  if (const std::int64_t blocks = channel_blocks<T>(y); blocks > 1)
    return ChannelsLastAvg<T>(channels_as_images(x, blocks), channels_as_images(y, blocks), axes, divisors);
  using State = PixelDivisors<Divisors>;
  const auto make_state = [&] { return State(divisors, axes[2].out()); };
  const auto pixel = [&](State& state, const Cursor& at, std::int64_t ow, const PixelTaps<T>& taps) HWY_ATTR {
    const WideTag<T> d;
    const std::int64_t divisor = state.at(at[1], at[2], ow);
    T* const to = row_of<T>(y, at[0], 0, at[1], at[2]) + ow * y.stride[4];
    const RowSink<T> sink(to, 1, y.size[1]);
    const auto emit = [&](std::int64_t c, VecOf<decltype(d)> v)
                          CENOTE_VECTOR_LAMBDA { sink.store(d, c, DivideExactly(d, v, divisor)); };
    if (taps.rows.count() * taps.count > kSumBlock) {
      ReducePixel<SumReduction, true>(taps, x.size[1], emit);
    } else {
      ReducePixel<SumReduction, false>(taps, x.size[1], emit);
    }
  };
  ForEachPixel<T>(x, y, axes, false, make_state, pixel);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
