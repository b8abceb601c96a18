// Windows of uneven width along rows: those of adaptive pooling whose outputs do not divide the inputs. With
// n = ceil(in / out) an output reads n or n + 1 positions. The rows of a window are reduced vertically into a
// row buffer; windows of both widths are then reduced at every position of the buffer, full vectors at a
// time, and each output picks its own. Backward is the same with inputs and outputs exchanged: an input is
// read by a window of outputs.
#if defined(CENOTE_CPU_UNEVEN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_UNEVEN_INL_H_
#undef CENOTE_CPU_UNEVEN_INL_H_
#else
#define CENOTE_CPU_UNEVEN_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cpu/planar_backward-inl.h"
#include "cpu/planar_indices-inl.h"
#include "cpu/scratch.h"
#include "cpu/segments-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The windows of an adaptive axis, in tiles of outputs whose positions fit a row buffer.
template <class T>
class UnevenWindows {
 public:
  using Index = hwy::MakeSigned<T>;

  explicit UnevenWindows(const Axis& axis)
      : axis_(axis), narrow_(ceil_divide(axis.in(), std::max<std::int64_t>(axis.out(), 1))) {
    const std::int64_t room = std::max<std::int64_t>(kTilePositions - axis.kernel(), 0);
    per_tile_ = std::clamp<std::int64_t>(multiply_divide(room, axis.out(), axis.in()), 1, kTilePositions);
    const std::int64_t longest = multiply_divide(per_tile_, axis.in(), std::max<std::int64_t>(axis.out(), 1));
    pitch_ = std::min(longest + axis.kernel(), axis.in()) + axis.kernel() + PhaseBuffer<T>::kSlack;
    const std::int64_t outs = axis.out();
    Index* const places = places_.resize(static_cast<std::size_t>(outs) + kMaxLanes<T>);
    std::fill(places, places + outs + kMaxLanes<T>, Index{0});
    for (std::int64_t o = 0; o < outs; ++o) {
      const Taps taps = axis.taps(o);
      const std::int64_t first = axis.start(o / per_tile_ * per_tile_);
      places[o] = static_cast<Index>(taps.position - first + (taps.count > narrow_ ? pitch_ : 0));
    }
  }

  /// Windows up to this width are reduced at every position. Twice the lanes: wider ones cost less one by
  /// one.
  bool narrow() const { return axis_.kernel() <= 2 * static_cast<std::int64_t>(hn::Lanes(RowTag<T>())); }

  std::int64_t tiles() const { return ceil_divide(axis_.out(), per_tile_); }
  Tile tile(std::int64_t index) const {
    Tile tile{};
    tile.first_out = index * per_tile_;
    tile.outs = std::min(per_tile_, axis_.out() - tile.first_out);
    tile.first_col = axis_.start(tile.first_out);
    const Taps last = axis_.taps(tile.first_out + tile.outs - 1);
    tile.cols = tile.length = last.position + last.count - tile.first_col;
    return tile;
  }

  /// Room for the positions of a tile, from 0 on, and for as many wider windows.
  template <class Element>
  void reserve(PhaseBuffer<Element>& row) const {
    row.reserve(2 * pitch_, false, 0, 0);
  }

  /// Reduces the positions of a tile, which it overwrites: emit(d, m, vector) for each vector of outputs.
  template <class Reduction, class Emit>
  HWY_INLINE void reduce(const PhaseBuffer<T>& row, const Tile& tile, const Emit& emit) const {
    if (!narrow()) return reduce_one_by_one<Reduction>(row, tile, emit);
    switch (narrow_) {
      case 1:
        reduce_everywhere<Reduction, 1>(row, tile);
        break;
      case 2:
        reduce_everywhere<Reduction, 2>(row, tile);
        break;
      case 3:
        reduce_everywhere<Reduction, 3>(row, tile);
        break;
      default:
        reduce_everywhere<Reduction, 0>(row, tile);
    }
    const RowTag<T> d;
    for (std::int64_t m = 0; m < tile.outs; m += lanes()) emit(d, m, pick(d, row, tile.first_out + m));
  }

  /// Maxima and their keys, which count from the first position of a window on: emit(m, values, keys).
  template <bool kNan, class Emit>
  HWY_INLINE void reduce_keyed(const PhaseBuffer<T>& values, const PhaseBuffer<Index>& keys, const Tile& tile,
                               const Emit& emit) const {
    max_everywhere<kNan>(values, keys, tile);
    const RowTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    for (std::int64_t m = 0; m < tile.outs; m += lanes()) {
      emit(m, pick(d, values, tile.first_out + m), pick(di, keys, tile.first_out + m));
    }
  }

 private:
  static std::int64_t lanes() { return static_cast<std::int64_t>(hn::Lanes(RowTag<T>())); }

  template <class D, class Element>
  HWY_INLINE VecOf<D> pick(D d, const PhaseBuffer<Element>& row, std::int64_t o) const {
    return hn::GatherIndex(d, row.at(0), hn::LoadU(hn::RebindToSigned<D>(), places_.get() + o));
  }

  /// Windows of both widths at every position where one may begin. kTaps is their narrower width, or 0.
  template <class Reduction, int kTaps>
  HWY_NOINLINE void reduce_everywhere(const PhaseBuffer<T>& row, const Tile& tile) const {
    const RowTag<T> d;
    const std::int64_t taps = kTaps > 0 ? kTaps : narrow_;
    T* const narrow = row.at(0);
    T* const wide = row.at(pitch_);
    for (std::int64_t p = 0; p + taps <= tile.length; p += lanes()) {
      const auto load = [&](std::int64_t j) CENOTE_VECTOR_LAMBDA { return hn::LoadU(d, narrow + p + j); };
      const auto reduced = ReduceBlocked<Reduction>(d, taps, load);
      hn::StoreU(Reduction::combine(d, reduced, load(taps)), d, wide + p);
      hn::StoreU(reduced, d, narrow + p);
    }
  }

  template <class Reduction, class Emit>
  HWY_INLINE void reduce_one_by_one(const PhaseBuffer<T>& row, const Tile& tile, const Emit& emit) const {
    const RowTag<T> d;
    HWY_ALIGN T reduced[kMaxLanes<T>] = {};
    for (std::int64_t m = 0; m < tile.outs; m += lanes()) {
      for (std::int64_t i = 0; i < std::min(lanes(), tile.outs - m); ++i) {
        const Taps taps = axis_.taps(tile.first_out + m + i);
        reduced[i] =
            static_cast<T>(ReduceContiguous<Reduction>(row.at(taps.position - tile.first_col), taps.count));
      }
      emit(d, m, hn::Load(d, reduced));
    }
  }

  /// The same for maxima with keys, whatever their width: an element may be met twice, so that two runs as
  /// long as a power of two make a window.
  template <bool kNan>
  HWY_NOINLINE void max_everywhere(const PhaseBuffer<T>& values, const PhaseBuffer<Index>& keys,
                                   const Tile& tile) const {
    const RowTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    using Best = Keyed<RowTag<T>, hn::RebindToSigned<RowTag<T>>>;
    const auto load = [&](std::int64_t p, std::int64_t shift) CENOTE_VECTOR_LAMBDA {
      return Best{hn::LoadU(d, values.at(p + shift)),
                  hn::Add(hn::LoadU(di, keys.at(p + shift)), hn::Set(di, static_cast<Index>(shift)))};
    };
    const auto store = [&](const Best& best, std::int64_t p) CENOTE_VECTOR_LAMBDA {
      hn::StoreU(best.value, d, values.at(p));
      hn::StoreU(best.key, di, keys.at(p));
    };
    std::int64_t run = 1;
    for (; 2 * run <= narrow_; run *= 2) {
      for (std::int64_t p = 0; p < tile.length; p += lanes()) {
        store(BetterOf<kNan>(d, di, load(p, 0), load(p, run)), p);
      }
    }
    for (std::int64_t p = 0; p + narrow_ <= tile.length; p += lanes()) {
      const Best first = load(p, 0);
      const Best narrow = BetterOf<kNan>(d, di, first, load(p, narrow_ - run));
      store(BetterOf<kNan>(d, di, first, load(p, narrow_ - run + 1)), pitch_ + p);
      store(narrow, p);
    }
  }

  const Axis& axis_;
  std::int64_t narrow_;    // the narrower width
  std::int64_t per_tile_;  // outputs
  std::int64_t pitch_;     // from windows of the narrower width to those of the other
  Scratch<Index> places_;  // of the windows of the outputs in the buffer
};

/// Elements in the windows of an axis, as T, with ones beyond the last.
template <class T>
class WindowWidths {
 public:
  explicit WindowWidths(const Axis& axis) {
    T* const widths = widths_.resize(static_cast<std::size_t>(axis.out()) + kMaxLanes<T>);
    std::fill(widths, widths + axis.out() + kMaxLanes<T>, T{1});
    for (std::int64_t o = 0; o < axis.out(); ++o) widths[o] = static_cast<T>(axis.taps(o).count);
  }
  const T* from(std::int64_t o) const { return widths_.get() + o; }

 private:
  Scratch<T> widths_;
};

/// Elements of the window of (od, oh) along D and H.
template <class T>
T window_rows(const Axes& axes, std::int64_t od, std::int64_t oh) {
  return static_cast<T>(axes[0].taps(od).count * axes[1].taps(oh).count);
}

inline std::int64_t bytes_per_tile(std::int64_t element_size, const Axes& axes, std::int64_t tiles) {
  return element_size * axes[1].kernel() * axes[2].in() / std::max<std::int64_t>(tiles, 1);
}

/// Output rows in parallel: row(at, tile) gives what happens to the vectors of a row.
template <class Reduction, bool kUnit, class T, class Row>
void ForEachUnevenRow(const ConstTensor5& x, const Tensor5& y, const Axes& axes,
                      const UnevenWindows<T>& windows, const Row& row) {
  const Cursor::Index units = planar_units(y, windows.tiles());
  const std::int64_t bytes = bytes_per_tile(sizeof(T), axes, units[4]);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    PhaseBuffer<T> buffer;
    windows.reserve(buffer);
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const Tile tile = windows.tile(at[4]);
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      ReduceRows<Reduction, kUnit>(rows, x.stride[4], tile, buffer);
      windows.template reduce<Reduction>(buffer, tile, row(at.index(), tile));
    }
  });
}

template <bool kUnit, class T>
void UnevenMax(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const UnevenWindows<T>& windows) {
  ForEachUnevenRow<MaxReduction, kUnit>(x, y, axes, windows, [&](const Cursor::Index& at, const Tile& tile) {
    const RowsSink<T> sink(y, at, tile.first_out, tile.outs, 0);
    return [sink](RowTag<T> d, std::int64_t m, VecOf<RowTag<T>> v)
               CENOTE_VECTOR_LAMBDA { sink.store(d, m, v); };
  });
}

template <bool kUnit, class T>
void UnevenAvg(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const UnevenWindows<T>& windows) {
  const WindowWidths<T> widths(axes[2]);
  ForEachUnevenRow<SumReduction, kUnit>(x, y, axes, windows, [&](const Cursor::Index& at, const Tile& tile) {
    const RowsSink<T> sink(y, at, tile.first_out, tile.outs, 0);
    const T* const columns = widths.from(tile.first_out);
    const T rows = window_rows<T>(axes, at[2], at[3]);
    return [sink, columns, rows](RowTag<T> d, std::int64_t m, VecOf<RowTag<T>> v) CENOTE_VECTOR_LAMBDA {
      sink.store(d, m, hn::Div(v, hn::Mul(hn::Set(d, rows), hn::LoadU(d, columns + m))));
    };
  });
}

template <bool kUnit, class T>
void UnevenMaxWithIndices(const ConstTensor5& x, const Tensor5& y, const Tensor5& indices, const Axes& axes,
                          const UnevenWindows<T>& windows) {
  using Key = typename UnevenWindows<T>::Index;
  const RecordWriter record(indices, x.size, axes);
  const Cursor::Index units = planar_units(y, windows.tiles());
  const std::int64_t bytes = bytes_per_tile(sizeof(T), axes, units[4]);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const RowTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    InputRows<T> rows;
    PhaseBuffer<T> values;
    PhaseBuffer<Key> keys;
    windows.reserve(values);
    windows.reserve(keys);
    Scratch<Key> chosen;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const Tile tile = windows.tile(at[4]);
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      Key* const to = chosen.resize(static_cast<std::size_t>(tile.outs) + kMaxLanes<T>);
      const RowsSink<T> sink(y, at.index(), tile.first_out, tile.outs, 0);
      const auto emit = [&](std::int64_t m, VecOf<decltype(d)> v, VecOf<decltype(di)> key)
                            CENOTE_VECTOR_LAMBDA {
                              sink.store(d, m, v);
                              hn::StoreU(key, di, to + m);
                            };
      if (MaxRowsWithKeys<kUnit>(rows, x.stride[4], axes[2].kernel(), false, tile, values, keys)) {
        windows.template reduce_keyed<true>(values, keys, tile, emit);
      } else {
        windows.template reduce_keyed<false>(values, keys, tile, emit);
      }
      record.store(to, kNoKey<Key>, tile.outs, at[0], at[1], at[2], at[3], tile.first_out);
    }
  });
}

template <class T>
void UnevenAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes) {
  Axis readers_of_columns = Axis::adaptive(axes[2].out(), axes[2].in());
  readers_of_columns.tabulate_taps();
  const UnevenWindows<T> windows(readers_of_columns);
  const WindowWidths<T> widths(axes[2]);
  const Cursor::Index units = planar_units(grad_x, windows.tiles());
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * axes[2].in() / windows.tiles();
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    ReaderRows readers;
    ReaderRows previous;
    PhaseBuffer<T> sums;
    windows.reserve(sums);
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const Tile tile = windows.tile(at[4]);
      readers.collect(axes, at[2], at[3]);
      T* const to = row_of<T>(grad_x, at[0], at[1], at[2], at[3]);
      if (unit > begin && units[4] == 1 && at[3] > 0 && readers.same_outputs(previous)) {
        copy_row(to - grad_x.stride[3], to, grad_x.stride[4], axes[2].in());
        continue;
      }
      previous.copy(readers);
      const std::int64_t first = tile.first_col * grad_y.stride[4];
      for (std::int64_t i = 0; i < readers.count(); ++i) {
        const T* const grads = row_of<const T>(grad_y, at[0], at[1], readers[i].od, readers[i].oh) + first;
        const T rows = window_rows<T>(axes, readers[i].od, readers[i].oh);
        const T* const columns = widths.from(tile.first_col);
        if (i == 0) {
          AddQuotients<true>(grads, grad_y.stride[4], tile.cols, rows, columns, sums.at(0));
        } else {
          AddQuotients<false>(grads, grad_y.stride[4], tile.cols, rows, columns, sums.at(0));
        }
      }
      const RowsSink<T> sink(grad_x, at.index(), tile.first_out, tile.outs, 0);
      windows.template reduce<SumReduction>(sums, tile,
                                            [&](RowTag<T> d, std::int64_t m, VecOf<RowTag<T>> v)
                                                CENOTE_VECTOR_LAMBDA { sink.store(d, m, v); });
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
