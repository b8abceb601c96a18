// Pooling backward when the channels lie next to each other: each pixel of grad_x gathers, vector by vector
// of C, from the outputs that read it. Serves window and adaptive pooling.
#if defined(CENOTE_CPU_CHANNELS_LAST_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_CHANNELS_LAST_BACKWARD_INL_H_
#undef CENOTE_CPU_CHANNELS_LAST_BACKWARD_INL_H_
#else
#define CENOTE_CPU_CHANNELS_LAST_BACKWARD_INL_H_
#endif

#include <vector>

#include "cpu/channels_last-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// One output pixel that reads the pixel at hand.
template <class T, class Tap>
struct PixelReader {
  const T* grads;
  const Tap* taps;
  std::int64_t tap;
  LaneOf<T> scale;
};

/// Pixels of grad_x in parallel: add(at, row reader, column reader, list), then write(list, to).
template <class T, class PixelReader, class Add, class Write>
void ForEachGradPixel(const Tensor5& grad_x, const Axes& axes, const Add& add, const Write& write) {
  const Axis& w = axes[2];
  // Whole rows up to this many pixels, so that the column readers are computed once.
  constexpr std::int64_t kColumnTile = 512;
  const std::int64_t per_tile = std::min(w.in(), kColumnTile);
  const Cursor::Index units{grad_x.size[0], grad_x.size[2], grad_x.size[3], ceil_divide(w.in(), per_tile), 1};
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * per_tile * grad_x.size[1];
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    ReaderRows rows;
    Axis columns = w;  // this thread's table of the readers of a tile
    std::vector<PixelReader> list;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      rows.collect(axes, at[1], at[2]);
      const std::int64_t first = at[3] * per_tile;
      const std::int64_t last = std::min(w.in(), first + per_tile);
      if (!columns.tabulated_readers(first, last)) columns.tabulate_readers(first, last);
      T* to = row_of<T>(grad_x, at[0], 0, at[1], at[2]) + first * grad_x.stride[4];
      for (std::int64_t column = first; column < last; ++column, to += grad_x.stride[4]) {
        list.clear();
        for (std::int64_t i = 0; i < rows.count(); ++i) {
          for (const Reader* reader = columns.readers_begin(column); reader != columns.readers_end(column);
               ++reader) {
            list.push_back(add(at[0], rows[i], *reader));
          }
        }
        write(list, to);
      }
    }
  });
}

/// Sums term(reader, c, part) over the readers for every vector of channels.
template <class T, class List, class Term>
HWY_INLINE void SumReaders(const List& list, std::int64_t channels, T* to, const Term& term) {
  const WideTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t c = 0;
  for (; c + 2 * lanes <= channels; c += 2 * lanes) {
    auto low = hn::Zero(d);
    auto high = hn::Zero(d);
    for (const auto& reader : list) {
      low = hn::Add(low, term(reader, c, 0));
      high = hn::Add(high, term(reader, c + lanes, 0));
    }
    StoreVector(d, low, to + c);
    StoreVector(d, high, to + c + lanes);
  }
  for (; c < channels; c += lanes) {
    const auto part = static_cast<std::size_t>(channels - c >= lanes ? 0 : channels - c);
    auto sum = hn::Zero(d);
    for (const auto& reader : list) sum = hn::Add(sum, term(reader, c, part));
    if (part == 0) {
      StoreVector(d, sum, to + c);
    } else {
      StorePart(d, sum, to + c, part);
    }
  }
}

template <class T, class Tap>
void ChannelsLastMaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                             const Axes& axes) {
  using Lane = LaneOf<T>;
  using Key = hwy::MakeSigned<Lane>;
  using Entry = PixelReader<T, Tap>;
  const std::int64_t channels = grad_x.size[1];
  const auto add = [&](std::int64_t n, const ReaderRow& row, const Reader& column) {
    return Entry{row_of<const T>(grad_y, n, 0, row.od, row.oh) + column.output * grad_y.stride[4],
                 row_of<const Tap>(taps, n, 0, row.od, row.oh) + column.output * taps.stride[4],
                 row.tap * axes[2].kernel() + column.tap, Lane{1}};
  };
  ForEachGradPixel<T, Entry>(grad_x, axes, add, [&](const std::vector<Entry>& list, T* to) HWY_ATTR {
    const WideTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    SumReaders(
        list, channels, to, [&](const Entry& reader, std::int64_t c, std::size_t part) CENOTE_VECTOR_LAMBDA {
          HWY_ALIGN Tap padded[kMaxLanes<T>] = {};
          const Tap* from = reader.taps + c;
          if (part != 0) {
            std::copy_n(from, part, padded);
            from = padded;
          }
          const auto hit = hn::Eq(PromoteTaps(di, from), hn::Set(di, static_cast<Key>(reader.tap)));
          return hn::IfThenElseZero(hn::RebindMask(d, hit), LoadLanes<true>(d, reader.grads + c, 1, part));
        });
  });
}

/// divide(od, oh, ow) is the divisor of an output.
template <class T, class Divide>
void ChannelsLastAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                             const Divide& divide) {
  using Entry = PixelReader<T, T>;
  const auto add = [&](std::int64_t n, const ReaderRow& row, const Reader& column) {
    const auto divisor = divide(row.od, row.oh, column.output);
    return Entry{row_of<const T>(grad_y, n, 0, row.od, row.oh) + column.output * grad_y.stride[4], nullptr, 0,
                 static_cast<LaneOf<T>>(1.0 / static_cast<double>(divisor))};
  };
  ForEachGradPixel<T, Entry>(grad_x, axes, add, [&](const std::vector<Entry>& list, T* to) HWY_ATTR {
    const WideTag<T> d;
    SumReaders(list, grad_x.size[1], to,
               [&](const Entry& reader, std::int64_t c, std::size_t part) CENOTE_VECTOR_LAMBDA {
                 return hn::Mul(hn::Set(d, reader.scale), LoadLanes<true>(d, reader.grads + c, 1, part));
               });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
