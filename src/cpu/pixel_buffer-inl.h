// Channels-last windows of any stride over pixels of few channels, which fill no vectors of their own: the
// input rows of a window are reduced vertically as flat rows, full vectors at a time, into a row buffer, and
// there the columns of each window, a vector per pixel, of which the next pixel's overwrites the lanes beyond
// the channels.
#if defined(CENOTE_CPU_PIXEL_BUFFER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PIXEL_BUFFER_INL_H_
#undef CENOTE_CPU_PIXEL_BUFFER_INL_H_
#else
#define CENOTE_CPU_PIXEL_BUFFER_INL_H_
#endif

#include <cstdint>

#include "cpu/flat_rows-inl.h"
#include "cpu/planar-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Pixels as elements of flat rows.
inline Tile flat_tile(Tile tile, std::int64_t channels) {
  tile.length *= channels;
  tile.lead *= channels;
  tile.first_col *= channels;
  tile.cols *= channels;
  return tile;
}

/// W of pixels, whose windows step over elements of flat rows.
inline Axis elements_axis(const Axis& w, std::int64_t channels) {
  const WindowAxis window{w.kernel(), w.stride() * channels, w.padding() * channels, 0,
                          w.dilation() * channels};
  return Axis::window(window, w.in() * channels, w.out());
}

/// Reduces the columns of windows in a buffer of `channels` elements per position: emit(d, pixel, element,
/// vector). kTaps is 0, or the number of taps.
template <class Reduction, int kTaps, class D, class T, class Emit>
HWY_INLINE void ReducePixelTaps(D d, const T* from, const Axis& elements, std::int64_t channels,
                                std::int64_t outs, const Emit& emit) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t taps = kTaps > 0 ? kTaps : elements.kernel();
  for (std::int64_t m = 0; m < outs; ++m, from += elements.stride()) {
    for (std::int64_t c = 0; c < channels; c += lanes) {
      emit(d, m, m * channels + c,
           ReduceBlocked<Reduction>(d, taps, [&](std::int64_t j) CENOTE_VECTOR_LAMBDA {
             return hn::LoadU(d, from + c + j * elements.dilation());
           }));
    }
  }
}

template <class Reduction, class D, class T, class Emit>
HWY_INLINE void ReducePixelTapsOfAxis(D d, const T* from, const Axis& elements, std::int64_t channels,
                                      std::int64_t outs, const Emit& emit) {
  switch (elements.kernel()) {
    case 2:
      return ReducePixelTaps<Reduction, 2>(d, from, elements, channels, outs, emit);
    case 3:
      return ReducePixelTaps<Reduction, 3>(d, from, elements, channels, outs, emit);
    default:
      return ReducePixelTaps<Reduction, 0>(d, from, elements, channels, outs, emit);
  }
}

/// Pools every output row and tile of dense rows; row.emitter(state, at, first_out, outs) says what happens
/// to the vectors of a row.
template <class Reduction, class T, class Row>
void PoolPixelBuffer(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  const std::int64_t channels = x.size[1];
  const ConstTensor5 from = flat_rows(x);
  const Axis& w = axes[2];
  const Axis elements = elements_axis(w, channels);
  const std::int64_t per_tile = outs_per_tile(elements);
  const Cursor::Index units = planar_units(flat_rows(y), ceil_divide(w.out(), per_tile));
  const std::int64_t bytes =
      static_cast<std::int64_t>(sizeof(T)) * per_tile * elements.stride() * new_rows(axes[1]);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const hn::CappedTag<LaneOf<T>, 4> d_short;
    const RowTag<T> d;
    const Tile first = flat_tile(make_tile(w, 0, per_tile), channels);
    InputRows<T> rows;
    PhaseBuffer<LaneOf<T>> buffer;
    buffer.reserve(first.length, false, first.lead, 0);
    auto state = row.thread_state();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const Tile tile = flat_tile(make_tile(w, at[4], per_tile), channels);
      rows.collect(from, plane_of<const T>(from, at[0], 0), axes, at[2], at[3]);
      ReduceRows<Reduction, true>(rows, 1, tile, buffer);
      const auto emit = row.emitter(state, at.index(), tile.first_out, tile.outs);
      if (channels <= static_cast<std::int64_t>(hn::Lanes(d_short))) {
        ReducePixelTapsOfAxis<Reduction>(d_short, buffer.at(0), elements, channels, tile.outs, emit);
      } else {
        ReducePixelTapsOfAxis<Reduction>(d, buffer.at(0), elements, channels, tile.outs, emit);
      }
    }
  });
}

/// Where the pixels of an output row go.
template <class T>
RowsSink<T> pixel_sink(const Tensor5& y, const Cursor::Index& at, std::int64_t first_out, std::int64_t outs) {
  const std::int64_t channels = y.size[1];
  return RowsSink<T>(flat_rows(y), at, first_out * channels, outs * channels, 0);
}

template <class T>
struct MaxPixelRow {
  struct State {};
  State thread_state() const { return {}; }

  auto emitter(State&, const Cursor::Index& at, std::int64_t first_out, std::int64_t outs) const {
    return [sink = pixel_sink<T>(y, at, first_out, outs)](auto d, std::int64_t, std::int64_t element, auto v)
               CENOTE_VECTOR_LAMBDA { sink.store(d, element, v); };
  }

  const Tensor5& y;
};

template <class T>
struct AvgPixelRow {
  using State = ColumnDivisors<LaneOf<T>>;
  State thread_state() const { return {}; }

  auto emitter(State& columns, const Cursor::Index& at, std::int64_t first_out, std::int64_t outs) const {
    columns.set(axes[2], divisor, first_out, outs);
    const auto factor = row_divisor<LaneOf<T>>(axes, divisor, at[2], at[3]);
    const bool exact = columns.powers_of_two() && power_of_two(factor);
    return [sink = pixel_sink<T>(y, at, first_out, outs), exact, factor = exact ? 1 / factor : factor,
            column = exact ? columns.inverses() : columns.get()](auto d, std::int64_t m, std::int64_t element,
                                                                 auto v) CENOTE_VECTOR_LAMBDA {
      const auto scale = hn::Set(d, factor * column[m]);
      sink.store(d, element, exact ? hn::Mul(v, scale) : hn::Div(v, scale));
    };
  }

  const Tensor5& y;
  const Axes& axes;
  const Divisor& divisor;
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
