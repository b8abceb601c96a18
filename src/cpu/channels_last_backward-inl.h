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

/// The output columns that read each of a tile of input columns, kept while the tile stays the same.
class ColumnReaders {
 public:
  struct Reader {
    std::int64_t ow;
    std::int64_t tap;
  };

  void collect(const Axis& w, std::int64_t first, std::int64_t last) {
    if (first == first_ && last == last_) return;
    first_ = first;
    last_ = last;
    readers_.clear();
    begins_.assign(1, 0);
    for (std::int64_t column = first; column < last; ++column) {
      const Readers range = w.readers(column);
      for (std::int64_t ow = range.first; ow <= range.last; ++ow) {
        const std::int64_t tap = w.tap_of(ow, column);
        if (tap >= 0) readers_.push_back({ow, tap});
      }
      begins_.push_back(readers_.size());
    }
  }
  const Reader* begin(std::int64_t column) const { return readers_.data() + begins_[index(column)]; }
  const Reader* end(std::int64_t column) const { return readers_.data() + begins_[index(column) + 1]; }

 private:
  std::size_t index(std::int64_t column) const { return static_cast<std::size_t>(column - first_); }

  std::vector<Reader> readers_;
  std::vector<std::size_t> begins_;
  std::int64_t first_ = -1;
  std::int64_t last_ = -1;
};

/// One output pixel that reads the pixel at hand.
template <class T, class Tap>
struct PixelReader {
  const T* grads;
  const Tap* taps;
  std::int64_t tap;
  T scale;
};

/// Pixels of grad_x in parallel: add(at, row reader, column reader, list), then write(list, to).
template <class T, class Reader, class Add, class Write>
void ForEachGradPixel(const Tensor5& grad_x, const Axes& axes, const Add& add, const Write& write) {
  const Axis& w = axes[2];
  // Whole rows up to this many pixels, so that the column readers are computed once.
  constexpr std::int64_t kColumnTile = 512;
  const std::int64_t per_tile = std::min(w.in(), kColumnTile);
  const Cursor::Index units{grad_x.size[0], grad_x.size[2], grad_x.size[3], ceil_divide(w.in(), per_tile), 1};
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * per_tile * grad_x.size[1];
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    ReaderRows rows;
    ColumnReaders columns;
    std::vector<Reader> list;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      rows.collect(axes, at[1], at[2]);
      const std::int64_t first = at[3] * per_tile;
      const std::int64_t last = std::min(w.in(), first + per_tile);
      columns.collect(w, first, last);
      T* to = row_of<T>(grad_x, at[0], 0, at[1], at[2]) + first * grad_x.stride[4];
      for (std::int64_t column = first; column < last; ++column, to += grad_x.stride[4]) {
        list.clear();
        for (std::int64_t i = 0; i < rows.count(); ++i) {
          for (const auto* reader = columns.begin(column); reader != columns.end(column); ++reader) {
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
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t c = 0;
  for (; c + 2 * lanes <= channels; c += 2 * lanes) {
    auto low = hn::Zero(d);
    auto high = hn::Zero(d);
    for (const auto& reader : list) {
      low = hn::Add(low, term(reader, c, 0));
      high = hn::Add(high, term(reader, c + lanes, 0));
    }
    hn::StoreU(low, d, to + c);
    hn::StoreU(high, d, to + c + lanes);
  }
  for (; c < channels; c += lanes) {
    const auto part = static_cast<std::size_t>(channels - c >= lanes ? 0 : channels - c);
    auto sum = hn::Zero(d);
    for (const auto& reader : list) sum = hn::Add(sum, term(reader, c, part));
    if (part == 0) {
      hn::StoreU(sum, d, to + c);
    } else {
      StorePart(d, sum, to + c, part);
    }
  }
}

template <class T, class Tap>
void ChannelsLastMaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                             const Axes& axes) {
  using Key = hwy::MakeSigned<T>;
  using Reader = PixelReader<T, Tap>;
  const std::int64_t channels = grad_x.size[1];
  const auto add = [&](std::int64_t n, const ReaderRow& row, const ColumnReaders::Reader& column) {
    return Reader{row_of<const T>(grad_y, n, 0, row.od, row.oh) + column.ow * grad_y.stride[4],
                  row_of<const Tap>(taps, n, 0, row.od, row.oh) + column.ow * taps.stride[4],
                  row.tap * axes[2].kernel() + column.tap, T{1}};
  };
  ForEachGradPixel<T, Reader>(grad_x, axes, add, [&](const std::vector<Reader>& list, T* to) HWY_ATTR {
    const hn::ScalableTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    SumReaders(list, channels, to, [&](const Reader& reader, std::int64_t c, std::size_t part) HWY_ATTR {
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
  using Reader = PixelReader<T, T>;
  const auto add = [&](std::int64_t n, const ReaderRow& row, const ColumnReaders::Reader& column) {
    const auto divisor = divide(row.od, row.oh, column.ow);
    return Reader{row_of<const T>(grad_y, n, 0, row.od, row.oh) + column.ow * grad_y.stride[4], nullptr, 0,
                  static_cast<T>(1.0 / static_cast<double>(divisor))};
  };
  ForEachGradPixel<T, Reader>(grad_x, axes, add, [&](const std::vector<Reader>& list, T* to) HWY_ATTR {
    const hn::ScalableTag<T> d;
    SumReaders(list, grad_x.size[1], to,
               [&](const Reader& reader, std::int64_t c, std::size_t part) HWY_ATTR {
                 return hn::Mul(hn::Set(d, reader.scale), LoadLanes<true>(d, reader.grads + c, 1, part));
               });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
