// Pooling backward when the channels lie next to each other: each pixel of grad_x gathers, vector by vector
// of C, from the outputs that read it. Serves window and adaptive pooling.
#if defined(CENOTE_CPU_CHANNELS_LAST_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_CHANNELS_LAST_BACKWARD_INL_H_
#undef CENOTE_CPU_CHANNELS_LAST_BACKWARD_INL_H_
#else
#define CENOTE_CPU_CHANNELS_LAST_BACKWARD_INL_H_
#endif

#include <span>
#include <vector>

#include "cpu/channels_last-inl.h"
#include "cpu/past_caches-inl.h"

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

/// Pixels of grad_x in parallel: write(list, stores, to), where the list is of add(at(n, row reader), column
/// reader).
template <class T, class PixelReader, class At, class Add, class Write>
void ForEachGradPixel(const Tensor5& grad_x, const Axes& axes, const At& row_at, const Add& add,
                      const Write& write) {
  using RowReader = decltype(row_at(std::int64_t{}, ReaderRow{}));
  const Axis& w = axes[2];
  // Whole rows up to this many pixels, so that the column readers are computed once.
  constexpr std::int64_t kColumnTile = 512;
  const std::int64_t per_tile = std::min(w.in(), kColumnTile);
  const Cursor::Index units{grad_x.size[0], grad_x.size[2], grad_x.size[3], ceil_divide(w.in(), per_tile), 1};
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * per_tile * grad_x.size[1];
  // 3x3 stride 2, AVX-512, two threads: [32, 64, 112, 112] f32 13.0 ms without asking ahead and 11.4 ms with
  // it, but 0.38 ms and 0.43 ms for [1, 64, 112, 112].
  constexpr std::int64_t kCaches = 8 << 20;
  const bool beyond_caches = Cursor::total(units) > kCaches / bytes;
  const bool past = stores_past_caches(grad_x);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const VectorStores stores(past, grad_x, grad_x.size[1]);
    ReaderRows readers;
    std::vector<RowReader> rows;
    Axis columns = w;  // this thread's table of the readers of a tile
    Scratch<PixelReader> list;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      readers.collect(axes, at[1], at[2]);
      rows.clear();
      for (std::int64_t i = 0; i < readers.count(); ++i) rows.push_back(row_at(at[0], readers[i]));
      const std::int64_t first = at[3] * per_tile;
      const std::int64_t last = std::min(w.in(), first + per_tile);
      if (!columns.tabulated_readers(first, last)) columns.tabulate_readers(first, last);
      T* to = row_of<T>(grad_x, at[0], 0, at[1], at[2]) + first * grad_x.stride[4];
      for (std::int64_t column = first; column < last; ++column, to += grad_x.stride[4]) {
        const Reader* const readers_begin = columns.readers_begin(column);
        const Reader* const readers_end = columns.readers_end(column);
        PixelReader* next = list.resize(rows.size() * static_cast<std::size_t>(readers_end - readers_begin));
        for (RowReader& row : rows) {
          for (const Reader* reader = readers_begin; reader != readers_end; ++reader)
            *next++ = add(row, *reader);
        }
        if (beyond_caches && next != list.get()) ask_ahead_of_reads(next[-1].grads, grad_x.size[1]);
        if (beyond_caches && !stores.past()) ask_ahead(to, grad_x.size[1]);
        write(std::span<const PixelReader>(list.get(), next), stores, to);
      }
    }
  });
}

/// Sums term(reader, c, part) over the readers for every vector of channels.
template <class T, class List, class Term>
HWY_INLINE void SumReaders(const List& list, std::int64_t channels, const VectorStores& stores, T* to,
                           const Term& term) {
  const WideTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t c = 0;
  for (; c + 4 * lanes <= channels; c += 4 * lanes) {
    auto sum_0 = hn::Zero(d);
    auto sum_1 = hn::Zero(d);
    auto sum_2 = hn::Zero(d);
    auto sum_3 = hn::Zero(d);
    for (const auto& reader : list) {
      sum_0 = hn::Add(sum_0, term(reader, c, 0));
      sum_1 = hn::Add(sum_1, term(reader, c + lanes, 0));
      sum_2 = hn::Add(sum_2, term(reader, c + 2 * lanes, 0));
      sum_3 = hn::Add(sum_3, term(reader, c + 3 * lanes, 0));
    }
    stores.store(d, sum_0, to + c);
    stores.store(d, sum_1, to + c + lanes);
    stores.store(d, sum_2, to + c + 2 * lanes);
    stores.store(d, sum_3, to + c + 3 * lanes);
  }
  for (; c + 2 * lanes <= channels; c += 2 * lanes) {
    auto low = hn::Zero(d);
    auto high = hn::Zero(d);
    for (const auto& reader : list) {
      low = hn::Add(low, term(reader, c, 0));
      high = hn::Add(high, term(reader, c + lanes, 0));
    }
    stores.store(d, low, to + c);
    stores.store(d, high, to + c + lanes);
  }
  for (; c < channels; c += lanes) {
    const auto part = static_cast<std::size_t>(channels - c >= lanes ? 0 : channels - c);
    auto sum = hn::Zero(d);
    for (const auto& reader : list) sum = hn::Add(sum, term(reader, c, part));
    if (part == 0) {
      stores.store(d, sum, to + c);
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
  const auto row_at = [&](std::int64_t n, const ReaderRow& row) {
    return Entry{row_of<const T>(grad_y, n, 0, row.od, row.oh), row_of<const Tap>(taps, n, 0, row.od, row.oh),
                 row.tap * axes[2].kernel(), Lane{1}};
  };
  const auto add = [&](const Entry& row, const Reader& column) {
    return Entry{row.grads + column.output * grad_y.stride[4], row.taps + column.output * taps.stride[4],
                 row.tap + column.tap, row.scale};
  };
  ForEachGradPixel<T, Entry>(
      grad_x, axes, row_at, add,
      [&](const std::span<const Entry>& list, const VectorStores& stores, T* to) HWY_ATTR {
        const WideTag<T> d;
        const hn::RebindToSigned<decltype(d)> di;
        SumReaders(list, channels, stores, to,
                   [&](const Entry& reader, std::int64_t c, std::size_t part) CENOTE_VECTOR_LAMBDA {
                     const Tap* const from = reader.taps + c;
                     const auto recorded =
                         part == 0 ? PromoteTaps(di, from) : PromoteFirstTaps<T>(di, from, part);
                     const auto hit = hn::Eq(recorded, hn::Set(di, static_cast<Key>(reader.tap)));
                     return hn::IfThenElseZero(hn::RebindMask(d, hit),
                                               LoadLanes<true>(d, reader.grads + c, 1, part));
                   });
      });
}

/// The divisor of an output is divide.row(od, oh) * divide.column(ow).
template <class T, class Divide>
void ChannelsLastAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                             const Divide& divide) {
  using Entry = PixelReader<T, T>;
  struct Row {
    const T* grads;
    std::int64_t divisor;  // as far as it depends on D and H
    std::int64_t column;   // the factor of W of the output added last, and the inverse of its divisor
    LaneOf<T> inverse;
  };
  const auto row_at = [&](std::int64_t n, const ReaderRow& row) {
    return Row{row_of<const T>(grad_y, n, 0, row.od, row.oh), divide.row(row.od, row.oh), 0, 0};
  };
  const auto add = [&](Row& row, const Reader& column) {
    const std::int64_t factor = divide.column(column.output);
    if (factor != row.column) {
      row.column = factor;
      row.inverse = static_cast<LaneOf<T>>(1.0 / static_cast<double>(row.divisor * factor));
    }
    return Entry{row.grads + column.output * grad_y.stride[4], nullptr, 0, row.inverse};
  };
  ForEachGradPixel<T, Entry>(
      grad_x, axes, row_at, add,
      [&](const std::span<const Entry>& list, const VectorStores& stores, T* to) HWY_ATTR {
        const WideTag<T> d;
        SumReaders(list, grad_x.size[1], stores, to,
                   [&](const Entry& reader, std::int64_t c, std::size_t part) CENOTE_VECTOR_LAMBDA {
                     return hn::Mul(hn::Set(d, reader.scale), LoadLanes<true>(d, reader.grads + c, 1, part));
                   });
      });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
