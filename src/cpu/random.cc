// Fractional max pooling on the CPU. Rows: the rows of a window are reduced vertically into a row buffer,
// from which vectors of outputs gather their taps. Channels last: every channel has windows of its own, so
// vectors of channels gather each tap from where it lies.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/random.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include <bit>
#include <limits>
#include <vector>

#include "backend.h"
#include "core/parallel.h"
#include "cpu/layout.h"
#include "cpu/planar_indices-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

// ---- where the windows begin --------------------------------------------------------------------

/// Begins of the windows along one axis, in the arithmetic of S; see FractionalRule.
template <class S>
void find_starts(double u, std::int64_t in, std::int64_t kernel, std::vector<std::int64_t>& starts) {
  using Wide = std::conditional_t<std::is_same_v<S, double>, double, float>;
  const auto rounded = [](Wide value) { return static_cast<Wide>(static_cast<S>(value)); };
  const std::int64_t last = in - kernel;
  const auto steps = static_cast<std::int64_t>(starts.size()) - 1;
  if (steps > 0) {
    constexpr auto kFarthest = static_cast<Wide>(0x1p62);
    const Wide a = rounded(rounded(static_cast<Wide>(last)) / rounded(static_cast<Wide>(steps)));
    const auto position = [&](Wide place) {
      return static_cast<std::int64_t>(std::min(rounded(place * a), kFarthest));
    };
    const std::int64_t origin = position(static_cast<Wide>(u));
    for (std::int64_t i = 0; i < steps; ++i) {
      const Wide place = rounded(rounded(static_cast<Wide>(i)) + static_cast<Wide>(u));
      starts[static_cast<std::size_t>(i)] = std::min(position(place) - origin, last);
    }
  }
  starts.back() = last;
}

/// The starts of one plane after another.
class Starts {
 public:
  Starts(const FractionalRule& rule, const ConstTensor5& x, const Array5& y_size) : rule_(rule), x_(x) {
    for (std::size_t axis = 0; axis < 3; ++axis)
      starts_[axis].resize(static_cast<std::size_t>(y_size[axis + 2]));
  }
  void move_to(std::int64_t n, std::int64_t c) {
    const std::int64_t plane = (x_.first_image + n) * rule_.channels + x_.first_channel + c;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const double u = rule_.u[static_cast<std::size_t>(plane) * 3 + axis];
      finder()(u, x_.size[axis + 2], rule_.kernel[axis], starts_[axis]);
    }
  }
  const std::vector<std::int64_t>& along(std::size_t axis) const { return starts_[axis]; }
  /// The whole window of output o.
  Taps taps(std::size_t axis, std::int64_t o) const {
    return {0, rule_.kernel[axis], starts_[axis][static_cast<std::size_t>(o)]};
  }

 private:
  auto finder() const -> void (*)(double, std::int64_t, std::int64_t, std::vector<std::int64_t>&) {
    switch (rule_.dtype) {
      case DType::f64:
        return find_starts<double>;
      case DType::f16:
        return find_starts<Float16>;
      case DType::bf16:
        return find_starts<BFloat16>;
      default:
        return find_starts<float>;
    }
  }

  const FractionalRule& rule_;
  const ConstTensor5& x_;
  std::array<std::vector<std::int64_t>, 3> starts_;
};

/// Windows of the kernel that begin at 0, for loops that are told where each window begins.
Axes kernel_axes(const FractionalRule& rule, const Array5& x_size) {
  Axes axes;
  for (std::size_t axis = 0; axis < 3; ++axis)
    axes[axis] = Axis::window({.kernel = rule.kernel[axis]}, x_size[axis + 2], 1);
  return axes;
}

/// Whether the plane of an output row is not that of the one before, or nothing was done before.
bool enters_plane(const Cursor& at, bool first) { return first || (at[2] == 0 && at[3] == 0); }

// ---- rows ---------------------------------------------------------------------------------------

/// The windows of one plane along W: tiles of outputs whose positions fit the row buffer, and where in it
/// each window begins.
template <class T>
class RowWindows {
 public:
  using Index = hwy::MakeSigned<T>;

  void set(const std::vector<std::int64_t>& starts, std::int64_t kernel) {
    const auto outs = static_cast<std::int64_t>(starts.size());
    begins_.assign(starts.size() + kMaxLanes<T>, 0);  // whole vectors are read beyond the end
    tiles_.clear();
    for (std::int64_t first = 0, end = 0; first < outs; first = end) {
      const std::int64_t origin = starts[static_cast<std::size_t>(first)];
      while (end < outs &&
             (end == first || starts[static_cast<std::size_t>(end)] + kernel - origin <= kTilePositions)) {
        begins_[static_cast<std::size_t>(end)] =
            static_cast<Index>(starts[static_cast<std::size_t>(end)] - origin);
        ++end;
      }
      const std::int64_t length = starts[static_cast<std::size_t>(end - 1)] + kernel - origin;
      tiles_.push_back({first, end - first, length, 0, origin, length});
    }
  }
  const std::vector<Tile>& tiles() const { return tiles_; }
  const Index* begins(const Tile& tile) const { return begins_.data() + tile.first_out; }

 private:
  std::vector<Index> begins_;
  std::vector<Tile> tiles_;
};

/// One row of outputs after another: row(at, starts, rows, windows, tile) for every tile.
template <class T, class MakeRow>
void ForEachTile(const ConstTensor5& x, const Tensor5& y, const FractionalRule& rule, const Axes& axes,
                 const MakeRow& make_row) {
  const Cursor::Index units = planar_units(y, 1);
  const std::int64_t bytes =
      static_cast<std::int64_t>(sizeof(T)) * x.size[4] * ceil_divide(x.size[3], y.size[3]);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    Starts starts(rule, x, y.size);
    InputRows<T> rows;
    RowWindows<T> windows;
    auto row = make_row();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      if (enters_plane(at, unit == begin)) {
        starts.move_to(at[0], at[1]);
        windows.set(starts.along(2), rule.kernel[2]);
      }
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, starts.taps(0, at[2]), starts.taps(1, at[3]));
      for (const Tile& tile : windows.tiles()) row(at, starts, rows, tile, windows.begins(tile));
    }
  });
}

/// Positions that a tile may have.
std::int64_t longest_tile(const ConstTensor5& x, const FractionalRule& rule) {
  return std::min(x.size[4], std::max(kTilePositions, rule.kernel[2]));
}

/// Horizontal pass: the maximum of `kernel` neighbours from each of the places that `begins` names.
template <class T, class Index>
HWY_INLINE void MaxFromBegins(const T* buffer, const Index* begins, std::int64_t kernel,
                              const RowSink<T>& sink, std::int64_t outs) {
  const RowTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t m = 0; m < outs; m += lanes) {
    const auto begin = hn::LoadU(di, begins + m);
    auto best = hn::GatherIndex(d, buffer, begin);
    for (std::int64_t j = 1; j < kernel; ++j) best = MaxOrNaN(d, best, hn::GatherIndex(d, buffer + j, begin));
    sink.store(d, m, best);
  }
}

template <bool kUnit, class T>
void MaxOfRows(const ConstTensor5& x, const Tensor5& y, const FractionalRule& rule) {
  const Axes axes = kernel_axes(rule, x.size);
  const auto make_row = [&] {
    PhaseBuffer<T> buffer;
    buffer.reserve(longest_tile(x, rule), false, 0, 0);
    return [&, buffer = std::move(buffer)](const Cursor& at, const Starts&, const InputRows<T>& rows,
                                           const Tile& tile, const auto* begins) HWY_ATTR {
      ReduceRows<MaxReduction, kUnit>(rows, x.stride[4], tile, buffer);
      T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]) + tile.first_out * y.stride[4];
      const RowSink<T> sink(to, y.size[4] == 1 ? 1 : y.stride[4], tile.outs);
      MaxFromBegins(buffer.at(0), begins, rule.kernel[2], sink, tile.outs);
    };
  };
  ForEachTile<T>(x, y, rule, axes, make_row);
}

/// Keys are the number of the row in the window and, in their lower bits, the column.
struct TapKeys {
  explicit TapKeys(std::int64_t columns)
      : bits(static_cast<int>(std::bit_width(static_cast<std::uint64_t>(columns - 1)))) {}
  std::int64_t radix() const { return std::int64_t{1} << bits; }
  std::int64_t row(std::int64_t key) const { return key >> bits; }
  std::int64_t column(std::int64_t key) const { return key & (radix() - 1); }

  int bits;
};

/// One output by its definition: the last NaN wins, else the first maximum.
template <class T>
void MaxElement(const InputRows<T>& rows, std::int64_t stride, const Axis& w, const Taps& taps, T& value,
                std::int64_t& tap) {
  tap = -1;
  value = MaxReduction::identity<T>();
  for (std::int64_t i = 0; i < rows.count(); ++i) {
    for (std::int64_t j = 0; j < taps.count; ++j) {
      const T candidate = rows.row(i)[(taps.position + j * w.dilation()) * stride];
      if (tap >= 0 && !(candidate > value) && !__builtin_isnan(candidate)) continue;
      value = candidate;
      tap = rows.tap(i) * w.kernel() + taps.first + j;
    }
  }
}

template <bool kUnit, class T>
void MaxOfRowsWithIndices(const ConstTensor5& x, const Tensor5& y, const Tensor5& indices,
                          const FractionalRule& rule) {
  using Key = hwy::MakeSigned<T>;
  const Axes axes = kernel_axes(rule, x.size);
  const Axis& w = axes[2];
  const TapKeys keys_of(w.kernel());
  // Where 32-bit keys do not hold all taps, each output is pooled by its definition.
  const bool keyed = static_cast<Wide>(rule.kernel[0]) * rule.kernel[1] << keys_of.bits < kNoKey<Key>;
  const auto make_row = [&] {
    struct Buffers {
      PhaseBuffer<T> values;
      PhaseBuffer<Key> keys;
      TapSources<T> value_sources;
      TapSources<Key> key_sources;
      Scratch<Key> chosen;
    };
    Buffers buffers;
    if (keyed) {
      buffers.values.reserve(longest_tile(x, rule), false, 0, 0);
      buffers.keys.reserve(longest_tile(x, rule), false, 0, 0);
      buffers.value_sources.set(buffers.values, w, 0);
      buffers.key_sources.set(buffers.keys, w, 0);
      buffers.chosen.resize(static_cast<std::size_t>(y.size[4]) + kMaxLanes<T>);
    }
    return [&, buffers = std::move(buffers)](const Cursor& at, const Starts& starts, const InputRows<T>& rows,
                                             const Tile& tile, const Key* begins) HWY_ATTR {
      T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]) + tile.first_out * y.stride[4];
      auto* const record =
          row_of<std::int64_t>(indices, at[0], at[1], at[2], at[3]) + tile.first_out * indices.stride[4];
      if (!keyed || MaxRowsWithKeys<kUnit>(rows, x.stride[4], keys_of.radix(), false, tile, buffers.values,
                                           buffers.keys)) {
        for (std::int64_t m = 0; m < tile.outs; ++m) {
          const Taps columns = starts.taps(2, tile.first_out + m);
          std::int64_t tap = 0;
          MaxElement(rows, x.stride[4], w, columns, to[m * y.stride[4]], tap);
          record[m * indices.stride[4]] =
              rows.line(tap / w.kernel()) * x.size[4] + columns.position + tap % w.kernel();
        }
        return;
      }
      const RowSink<T> sink(to, y.size[4] == 1 ? 1 : y.stride[4], tile.outs);
      Key* const chosen = buffers.chosen.get();
      const RowTag<T> d;
      const hn::RebindToSigned<decltype(d)> di;
      MaxLoadedTaps<false>(
          buffers.value_sources, buffers.key_sources, tile.outs,
          [&](auto tag, const auto* source, std::int64_t m)
              CENOTE_VECTOR_LAMBDA { return hn::GatherIndex(tag, source, hn::LoadU(di, begins + m)); },
          [&](std::int64_t m, VecOf<decltype(d)> v, VecOf<decltype(di)> key) CENOTE_VECTOR_LAMBDA {
            sink.store(d, m, v);
            hn::StoreU(key, di, chosen + m);
          });
      for (std::int64_t m = 0; m < tile.outs; ++m) {
        record[m * indices.stride[4]] = rows.line(keys_of.row(chosen[m])) * x.size[4] + tile.first_col +
                                        begins[m] + keys_of.column(chosen[m]);
      }
    };
  };
  ForEachTile<T>(x, y, rule, axes, make_row);
}

// ---- channels last ------------------------------------------------------------------------------

/// To elements `stride` apart.
template <class From, class To>
void copy_apart(const From* from, To* to, std::int64_t stride, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i * stride] = from[i];
}

/// Positions of a plane, and offsets of what lies in the channels of one image, fit the lanes of T.
template <class T>
bool fits_lanes(const ConstTensor5& x) {
  constexpr Wide kMost = std::numeric_limits<hwy::MakeSigned<T>>::max() / 2;
  Wide reach = x.size[1];
  Wide positions = 1;
  for (std::size_t axis = 2; axis < 5; ++axis) {
    reach += static_cast<Wide>(x.size[axis] - 1) * std::abs(x.stride[axis]);
    positions *= x.size[axis];
  }
  return reach < kMost && positions < kMost;
}

/// How far the windows of an output begin from the first element of a block, for vectors of channels; the
/// lanes beyond the last channel repeat it. Counted in elements, or in positions of the plane.
template <class Index>
class ChannelBegins {
 public:
  /// `steps` along D, H and W, and from channel to channel.
  ChannelBegins(const Array5& y_size, std::int64_t width, const std::array<std::int64_t, 3>& steps,
                std::int64_t channel_step)
      : width_(width), steps_(steps), channel_step_(channel_step) {
    for (std::size_t axis = 0; axis < 3; ++axis)
      tables_[axis].resize(static_cast<std::size_t>(y_size[axis + 2] * width));
  }
  /// The windows of one channel, of which one lane or several know.
  void set(const Starts& starts, std::int64_t channel, std::int64_t first_lane, std::int64_t last_lane) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      Index* row = tables_[axis].data();
      for (const std::int64_t start : starts.along(axis)) {
        const std::int64_t begin = start * steps_[axis] + (axis == 0 ? channel * channel_step_ : 0);
        std::fill(row + first_lane, row + last_lane + 1, static_cast<Index>(begin));
        row += width_;
      }
    }
  }
  /// Of output (od, oh, ow), for the channels from c on.
  template <class DI>
  HWY_INLINE VecOf<DI> of(DI di, const Cursor& at, std::int64_t ow, std::int64_t c) const {
    const auto plane = hn::Add(load(di, 0, at[2], c), load(di, 1, at[3], c));
    return hn::Add(plane, load(di, 2, ow, c));
  }

 private:
  template <class DI>
  HWY_INLINE VecOf<DI> load(DI di, std::size_t axis, std::int64_t o, std::int64_t c) const {
    return hn::LoadU(di, tables_[axis].data() + o * width_ + c);
  }

  std::int64_t width_;
  std::array<std::int64_t, 3> steps_;
  std::int64_t channel_step_;
  std::array<std::vector<Index>, 3> tables_;
};

/// The maximum over the window of one output, in a vector of channels whose windows begin at `begins`; with
/// kIndices also where it lies, counted in positions from there.
template <bool kIndices, class T, class DI>
HWY_INLINE Keyed<WideTag<T>, DI> MaxOfWindow(DI di, const T* from, VecOf<DI> begins, const ConstTensor5& x,
                                             const std::array<std::int64_t, 3>& kernel) {
  const WideTag<T> d;
  Keyed<WideTag<T>, DI> best{hn::GatherIndex(d, from, begins), hn::Zero(di)};
  for (std::int64_t i = 0; i < kernel[0]; ++i) {
    for (std::int64_t j = 0; j < kernel[1]; ++j) {
      const T* const row = from + i * x.stride[2] + j * x.stride[3];
      for (std::int64_t k = 0; k < kernel[2]; ++k) {
        const auto value = hn::GatherIndex(d, row + k * x.stride[4], begins);
        if constexpr (kIndices) {
          const auto better = hn::Or(hn::Gt(value, best.value), hn::IsNaN(value));
          const auto here = static_cast<hn::TFromD<DI>>((i * x.size[3] + j) * x.size[4] + k);
          best.value = hn::IfThenElse(better, value, best.value);
          best.key = hn::IfThenElse(hn::RebindMask(di, better), hn::Set(di, here), best.key);
        } else {
          best.value = MaxOrNaN(d, best.value, value);
        }
      }
    }
  }
  return best;
}

template <bool kIndices, class T>
void MaxOfChannels(const ConstTensor5& x, const Tensor5& y, const Tensor5* indices,
                   const FractionalRule& rule) {
  using Index = hwy::MakeSigned<T>;
  constexpr std::int64_t kBlock = 256 / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t lanes = lanes_of<T>();
  const std::int64_t width = ceil_divide(std::min(kBlock, x.size[1]), lanes) * lanes;
  const Cursor::Index units{y.size[0], ceil_divide(x.size[1], kBlock), y.size[2], y.size[3], 1};
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * width * x.size[4];
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const WideTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    Starts starts(rule, x, y.size);
    ChannelBegins<Index> elements(y.size, width, {x.stride[2], x.stride[3], x.stride[4]}, 1);
    ChannelBegins<Index> positions(y.size, kIndices ? width : 0, {x.size[3] * x.size[4], x.size[4], 1}, 0);
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const std::int64_t first = at[1] * kBlock;
      const std::int64_t count = std::min(kBlock, x.size[1] - first);
      if (enters_plane(at, unit == begin)) {
        for (std::int64_t c = 0; c < count; ++c) {
          const std::int64_t last_lane = c + 1 < count ? c : width - 1;
          starts.move_to(at[0], first + c);
          elements.set(starts, c, c, last_lane);
          if constexpr (kIndices) positions.set(starts, c, c, last_lane);
        }
      }
      const T* const from = plane_of<const T>(x, at[0], first);
      T* const to = row_of<T>(y, at[0], first, at[2], at[3]);
      for (std::int64_t ow = 0; ow < y.size[4]; ++ow) {
        for (std::int64_t c = 0; c < count; c += lanes) {
          const std::int64_t left = std::min(count - c, lanes);
          const auto best = MaxOfWindow<kIndices>(di, from, elements.of(di, at, ow, c), x, rule.kernel);
          RowSink<T>(to + ow * y.stride[4] + c, 1, left).store(d, 0, best.value);
          if constexpr (kIndices) {
            HWY_ALIGN Index places[kMaxLanes<T>] = {};
            hn::Store(hn::Add(best.key, positions.of(di, at, ow, c)), di, places);
            auto* const record = row_of<std::int64_t>(*indices, at[0], first + c, at[2], at[3]);
            copy_apart(places, record + ow * indices->stride[4], indices->stride[1], left);
          }
        }
      }
    }
  });
}

template <bool kUnit, class T>
void MaxOfRowsOrIndices(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x,
                        const FractionalRule& rule) {
  if (indices == nullptr) return MaxOfRows<kUnit, T>(x, y, rule);
  MaxOfRowsWithIndices<kUnit, T>(x, y, *indices, rule);
}

template <class T>
void FractionalMax(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x,
                   const FractionalRule& rule) {
  if (channels_last(x, y) && fits_lanes<T>(x)) {
    return indices == nullptr ? MaxOfChannels<false, T>(x, y, nullptr, rule)
                              : MaxOfChannels<true, T>(x, y, indices, rule);
  }
  if (unit_columns(x)) return MaxOfRowsOrIndices<true, T>(y, indices, x, rule);
  MaxOfRowsOrIndices<false, T>(y, indices, x, rule);
}

constexpr RandomBackend kTable{
    [](const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const FractionalRule& rule) {
      return x.dtype == DType::f32 ? FractionalMax<float>(y, indices, x, rule)
                                   : FractionalMax<double>(y, indices, x, rule);
    },
};

}  // namespace

const RandomBackend* RandomTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(RandomTable);

const RandomBackend& random() { return *HWY_DYNAMIC_DISPATCH(RandomTable)(); }

}  // namespace cenote::cpu
#endif
