// Adaptive pooling on the CPU. Channels-last shares the pixel loops of window pooling. Along rows, wide
// windows are reduced one by one; narrow ones from a row buffer in which the rows are already reduced.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/adaptive.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include <optional>
#include <vector>

#include "backend.h"
#include "core/parallel.h"
#include "cpu/channels_last_backward-inl.h"
#include "cpu/layout.h"
#include "cpu/scatter-inl.h"
#include "cpu/segments-inl.h"
#include "cpu/tap_scatter-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

/// With tables: the boundaries of the windows are quotients.
Axes adaptive_axes(const Array5& in, const Array5& out) {
  Axes axes{Axis::adaptive(in[2], out[2]), Axis::adaptive(in[3], out[3]), Axis::adaptive(in[4], out[4])};
  for (Axis& axis : axes) axis.tabulate_taps();
  return axes;
}

/// Windows that a few vectors hold are read from the row buffer, where the rows are one already.
template <class T>
bool narrow_windows(const Axis& w) {
  return w.kernel() < 2 * lanes_of<T>() && w.in() <= kTilePositions;
}

template <class Reduction, class T>
HWY_INLINE T ReduceNarrow(const T* from, std::int64_t count) {
  if (count >= 2 * lanes_of<T>()) {
    return static_cast<T>(ReduceContiguous<Reduction>(from, count));
  }
  T reduced = from[0];
  for (std::int64_t i = 1; i < count; ++i) reduced = Reduction::combine_scalar(reduced, from[i]);
  return reduced;
}

/// Rows of narrow windows: finish(at, ow, reduced) stores an output.
template <class Reduction, bool kUnit, class T, class Finish>
void ForEachNarrowWindow(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Finish& finish) {
  const Axis& w = axes[2];
  const Cursor::Index units = planar_units(y, 1);
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * w.in() * axes[1].kernel();
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    PhaseBuffer<T> buffer;
    buffer.reserve(w.in(), false, 0, 0);
    const Tile tile{0, w.out(), w.in(), 0, 0, w.in()};
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      ReduceRows<Reduction, kUnit>(rows, x.stride[4], tile, buffer);
      for (std::int64_t ow = 0; ow < w.out(); ++ow) {
        const Taps taps = w.taps(ow);
        finish(at, ow, ReduceNarrow<Reduction>(buffer.at(taps.position), taps.count));
      }
    }
  });
}

template <bool kUnit, class T>
void NarrowMax(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  ForEachNarrowWindow<MaxReduction, kUnit, T>(
      x, y, axes, [&](const Cursor& at, std::int64_t ow, T reduced) HWY_ATTR {
        row_of<T>(y, at[0], at[1], at[2], at[3])[ow * y.stride[4]] = reduced;
      });
}

/// Max with indices: the row buffer holds keys too; a NaN in it sends the row to the definition.
template <bool kUnit, class T>
void NarrowMaxWithIndices(const ConstTensor5& x, const Tensor5& y, const Tensor5& indices, const Axes& axes) {
  using Key = hwy::MakeSigned<T>;
  const Axis& w = axes[2];
  const Cursor::Index units = planar_units(y, 1);
  const RecordWriter record(indices, x.size, axes);
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * w.in() * axes[1].kernel();
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    PhaseBuffer<T> values;
    PhaseBuffer<Key> keys;
    values.reserve(w.in(), false, 0, 0);
    keys.reserve(w.in(), false, 0, 0);
    std::vector<Key> chosen(static_cast<std::size_t>(w.out()));
    const Tile tile{0, w.out(), w.in(), 0, 0, w.in()};
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      const bool saw_nan = MaxRowsWithKeys<kUnit>(rows, x.stride[4], w.kernel(), tile, values, keys);
      T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]);
      for (std::int64_t ow = 0; ow < w.out(); ++ow) {
        const Taps taps = w.taps(ow);
        T best = values.at(0)[taps.position];
        std::int64_t key = keys.at(0)[taps.position];
        if (saw_nan) {
          MaxElement(rows, x.stride[4], w, w.taps(ow), best, key);
        } else {
          for (std::int64_t i = 1; i < taps.count; ++i) {
            const T value = values.at(0)[taps.position + i];
            const std::int64_t candidate = keys.at(0)[taps.position + i] + i;
            const bool better = value > best || (value == best && candidate < key);
            best = better ? value : best;
            key = better ? candidate : key;
          }
        }
        to[ow * y.stride[4]] = best;
        chosen[static_cast<std::size_t>(ow)] = static_cast<Key>(key);
      }
      record.store(chosen.data(), kNoKey<Key>, w.out(), at[0], at[1], at[2], at[3], 0);
    }
  });
}

/// Elements in the window of an output, as a factor of D and H and one of W.
struct WindowCounts {
  std::int64_t row(std::int64_t od, std::int64_t oh) const {
    return axes[0].taps(od).count * axes[1].taps(oh).count;
  }
  std::int64_t column(std::int64_t ow) const { return axes[2].taps(ow).count; }
  std::int64_t operator()(std::int64_t od, std::int64_t oh, std::int64_t ow) const {
    return row(od, oh) * column(ow);
  }

  const Axes& axes;
};

template <bool kUnit, class T>
void NarrowAvg(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  const WindowCounts count{axes};
  ForEachNarrowWindow<SumReduction, kUnit, T>(
      x, y, axes, [&](const Cursor& at, std::int64_t ow, T reduced) HWY_ATTR {
        const T divisor = static_cast<T>(count(at[2], at[3], ow));
        row_of<T>(y, at[0], at[1], at[2], at[3])[ow * y.stride[4]] = reduced / divisor;
      });
}

template <class T>
void Max(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x) {
  const Axes axes = adaptive_axes(x.size, y.size);
  if (channels_last(x, y) && fits_keys(axes, indices)) {
    if (indices != nullptr) return ChannelsLastMaxWithIndices<T>(x, y, *indices, axes);
    return ChannelsLastMax<T>(x, y, axes);
  }
  if (!narrow_windows<T>(axes[2]) || !fits_keys(axes, indices)) return SegmentMax<T>(x, y, indices, axes);
  if (indices != nullptr) {
    return unit_columns(x) ? NarrowMaxWithIndices<true, T>(x, y, *indices, axes)
                           : NarrowMaxWithIndices<false, T>(x, y, *indices, axes);
  }
  return unit_columns(x) ? NarrowMax<true, T>(x, y, axes) : NarrowMax<false, T>(x, y, axes);
}

template <class T>
void Avg(const Tensor5& y, const ConstTensor5& x) {
  const Axes axes = adaptive_axes(x.size, y.size);
  if (channels_last(x, y)) return ChannelsLastAvg<T>(x, y, axes, WindowCounts{axes});
  if (!narrow_windows<T>(axes[2])) return SegmentAvg<T>(x, y, axes, WindowCounts{axes});
  return unit_columns(x) ? NarrowAvg<true, T>(x, y, axes) : NarrowAvg<false, T>(x, y, axes);
}

template <class T, class Tap>
void MaxBackwardFromTaps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes) {
  if (!channels_last(grad_x, grad_y) || !unit_channels(taps)) {
    return ScatterPlanes<T, Tap>(grad_x, grad_y, taps, axes, false);
  }
  if (few_outputs(axes)) return ScatterChannels<T, Tap>(grad_x, grad_y, taps, axes);
  return ChannelsLastMaxBackward<T, Tap>(grad_x, grad_y, taps, axes);
}

template <class T>
std::optional<std::int64_t> MaxBackward(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                        const ConstTensor5& indices) {
  if (indices.dtype == DType::i64) return scatter_indices<T>(grad_x, grad_y, indices);
  Axes axes = adaptive_axes(grad_x.size, grad_y.size);
  tabulate_row_readers(axes);
  if (indices.dtype == DType::u8) {
    MaxBackwardFromTaps<T, std::uint8_t>(grad_x, grad_y, indices, axes);
  } else {
    MaxBackwardFromTaps<T, std::uint16_t>(grad_x, grad_y, indices, axes);
  }
  return std::nullopt;
}

template <class T>
void AvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y) {
  Axes axes = adaptive_axes(grad_x.size, grad_y.size);
  tabulate_row_readers(axes);
  if (channels_last(grad_x, grad_y)) {
    return ChannelsLastAvgBackward<T>(grad_x, grad_y, axes, WindowCounts{axes});
  }
  return scatter_average<T>(grad_x, grad_y, axes, WindowCounts{axes});
}

/// Outputs that divide the inputs evenly are windows side by side.
std::optional<WindowAxes> side_by_side(const Array5& in, const Array5& out) {
  WindowAxes axes;
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    if (out[axis + 2] == 0 || in[axis + 2] % out[axis + 2] != 0) return std::nullopt;
    const std::int64_t size = in[axis + 2] / out[axis + 2];
    axes[axis] = {.kernel = size, .stride = size};
  }
  return axes;
}

constexpr AdaptiveBackend kTable{
    [](const Tensor5& y, const Tensor5* indices, const ConstTensor5& x) {
      if (const auto axes = side_by_side(x.size, y.size)) return window().max(y, indices, x, *axes);
      return x.dtype == DType::f32 ? Max<float>(y, indices, x) : Max<double>(y, indices, x);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& indices) {
      if (const auto axes = side_by_side(grad_x.size, grad_y.size))
        return window().max_backward(grad_x, grad_y, indices, *axes);
      return grad_x.dtype == DType::f32 ? MaxBackward<float>(grad_x, grad_y, indices)
                                        : MaxBackward<double>(grad_x, grad_y, indices);
    },
    [](const Tensor5& y, const ConstTensor5& x) {
      if (const auto axes = side_by_side(x.size, y.size)) return window().avg(y, x, *axes, Divisor{});
      return x.dtype == DType::f32 ? Avg<float>(y, x) : Avg<double>(y, x);
    },
    [](const Tensor5& grad_x, const ConstTensor5& grad_y) {
      if (const auto axes = side_by_side(grad_x.size, grad_y.size))
        return window().avg_backward(grad_x, grad_y, *axes, Divisor{});
      return grad_x.dtype == DType::f32 ? AvgBackward<float>(grad_x, grad_y)
                                        : AvgBackward<double>(grad_x, grad_y);
    },
};

}  // namespace

const AdaptiveBackend* AdaptiveTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(AdaptiveTable);

const AdaptiveBackend& adaptive() { return *HWY_DYNAMIC_DISPATCH(AdaptiveTable)(); }

}  // namespace cenote::cpu
#endif
