// Max backward from compact taps: adds each output's gradient where its tap says. Each element is written by
// one thread and receives its additions in the order of the outputs, so every bit of the result is the same
// for any number of threads. Taps that no forward wrote are skipped.
#if defined(CENOTE_CPU_TAP_SCATTER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TAP_SCATTER_INL_H_
#undef CENOTE_CPU_TAP_SCATTER_INL_H_
#else
#define CENOTE_CPU_TAP_SCATTER_INL_H_
#endif

#include <vector>

#include "cpu/scatter-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The outputs of an axis whose windows lie wholly inside. Uneven windows are not told apart.
inline Range inside_outputs(const Axis& axis, bool sliding) {
  const std::int64_t room = axis.in() + axis.padding() - axis.dilated_kernel();
  if (!sliding || room < axis.padding()) return {};
  const std::int64_t first = std::min(axis.out(), ceil_divide(axis.padding(), axis.stride()));
  return {first, std::clamp(room / axis.stride() + 1, first, axis.out())};
}

/// Where each tap lies relative to the begin of its window.
class TapTable {
 public:
  struct Place {
    std::int64_t offset;  // in elements of grad_x
    std::int64_t d, h, w;
  };

  TapTable(const Axes& axes, const Array5& stride) {
    for (std::int64_t d = 0; d < axes[0].kernel(); ++d) {
      for (std::int64_t h = 0; h < axes[1].kernel(); ++h) {
        for (std::int64_t w = 0; w < axes[2].kernel(); ++w) {
          const Place place{0, d * axes[0].dilation(), h * axes[1].dilation(), w * axes[2].dilation()};
          places_.push_back(place);
          places_.back().offset = place.d * stride[2] + place.h * stride[3] + place.w * stride[4];
        }
      }
    }
  }

  const Place* data() const { return places_.data(); }
  std::size_t size() const { return places_.size(); }

 private:
  std::vector<Place> places_;
};

/// The windows of one output row: where they begin along D and H, and which of their taps are wanted: those
/// inside the ranges of rows.
class WindowRow {
 public:
  WindowRow(const TapTable& table, const Axes& axes, const Array5& stride, std::int64_t od, std::int64_t oh,
            const Range& in_d, const Range& in_h)
      : places_(table.data()),
        known_(table.size()),
        w_(axes[2]),
        d_(axes[0].start(od) - in_d.begin),
        h_(axes[1].start(oh) - in_h.begin),
        depth_(static_cast<std::uint64_t>(in_d.end - in_d.begin)),
        height_(static_cast<std::uint64_t>(in_h.end - in_h.begin)),
        step_(stride[4]),
        line_(axes[0].start(od) * stride[2] + axes[1].start(oh) * stride[3]) {}

  /// Address, relative to the plane, of tap 0 of output ow; it may lie in the padding.
  std::int64_t corner(std::int64_t ow) const { return line_ + w_.start(ow) * step_; }
  bool known(std::size_t tap) const { return tap < known_; }
  std::int64_t offset(std::size_t tap) const { return places_[tap].offset; }
  /// Whether a tap of the output whose window begins at column `begin` is a wanted element of the input.
  bool is_wanted(std::size_t tap, std::int64_t begin) const {
    if (!known(tap)) return false;
    const TapTable::Place& place = places_[tap];
    return static_cast<std::uint64_t>(d_ + place.d) < depth_ &&
           static_cast<std::uint64_t>(h_ + place.h) < height_ &&
           static_cast<std::uint64_t>(begin + place.w) < static_cast<std::uint64_t>(w_.in());
  }
  const Axis& w() const { return w_; }

 private:
  const TapTable::Place* places_;
  std::size_t known_;
  const Axis& w_;
  std::int64_t d_, h_;
  std::uint64_t depth_, height_;
  std::int64_t step_;
  std::int64_t line_;
};

/// One row of outputs into one plane; the windows of outputs in `inside` need no check.
template <class T, class Tap>
void ScatterRow(const WindowRow& row, const Range& inside, T* plane, const T* grads, std::int64_t grad_step,
                const Tap* taps, std::int64_t tap_step) {
  const std::int64_t outs = row.w().out();
  const auto checked = [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t ow = from; ow < to; ++ow) {
      const std::size_t tap = taps[ow * tap_step];
      if (row.is_wanted(tap, row.w().start(ow)))
        plane[row.corner(ow) + row.offset(tap)] += grads[ow * grad_step];
    }
  };
  checked(0, inside.begin);
  if (inside.begin < inside.end) {
    T* corner = plane + row.corner(inside.begin);
    const std::int64_t step = row.corner(1) - row.corner(0);
    for (std::int64_t ow = inside.begin; ow < inside.end; ++ow, corner += step) {
      const std::size_t tap = taps[ow * tap_step];
      if (row.known(tap)) corner[row.offset(tap)] += grads[ow * grad_step];
    }
  }
  checked(inside.end, outs);
}

/// Zeros, row by row, just ahead of the additions into a plane: what was zeroed is still in the nearest cache
/// then, and the memory beyond is fetched meanwhile. [32, 64, 112, 112] f32, 3x3 stride 2, two threads: 7.4
/// ms, against 10.0 ms with each plane zeroed whole.
template <class T>
class RowZeroer {
 public:
  RowZeroer(const Tensor5& tensor, T* plane, const Range& d, const Range& h)
      : tensor_(tensor), plane_(plane), h_(h), d_at_(d.begin), h_at_(h.begin), dense_(dense_planes(tensor)) {}

  /// Zeros what is left of the rows before (d, h).
  void advance(std::int64_t d, std::int64_t h) {
    while (d_at_ < d) {
      zero_to(h_.end);
      ++d_at_;
      h_at_ = h_.begin;
    }
    zero_to(h);
  }

 private:
  void zero_to(std::int64_t h) {
    T* const row = plane_ + d_at_ * tensor_.stride[2] + h_at_ * tensor_.stride[3];
    const std::int64_t columns = tensor_.size[4];
    if (dense_ && h_at_ < h) {
      ask_ahead(row, (h - h_at_) * columns);
      std::fill_n(row, (h - h_at_) * columns, T{0});
    } else {
      for (std::int64_t i = h_at_; i < h; ++i)
        fill_row(row + (i - h_at_) * tensor_.stride[3], tensor_.stride[4], columns, T{0});
    }
    h_at_ = std::max(h_at_, h);
  }

  const Tensor5& tensor_;
  T* plane_;
  Range h_;
  std::int64_t d_at_, h_at_;
  bool dense_;
};

/// A part of a plane: rows of the outermost axis that is longer than 1.
struct Band {
  Range d;
  Range h;
};

/// How many parts to cut planes into, so that there is work for many threads even if the planes are few.
inline std::int64_t bands_for(const Tensor5& grad_x, const Axis& axis) {
  constexpr std::int64_t kUnits = 64;
  const std::int64_t wanted = ceil_divide(kUnits, std::max<std::int64_t>(grad_x.size[0] * grad_x.size[1], 1));
  const std::int64_t most = axis.in() / 8 / axis.dilated_kernel();  // outputs at a seam are visited twice
  return std::max<std::int64_t>(1, std::min(wanted, most));
}

/// The outputs that may read a range of inputs.
inline Range outputs_of(const Axis& axis, const Range& in) {
  return {axis.readers(in.begin).first, axis.readers(in.end - 1).last + 1};
}

/// Inputs before the end of output o's window, as far as they lie in `in`.
inline std::int64_t window_end(const Axis& axis, std::int64_t o, const Range& in) {
  return std::clamp(axis.start(o) + axis.dilated_kernel(), in.begin, in.end);
}

/// One part of one plane.
template <class T, class Tap>
void ScatterBand(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                 const Axes& axes, const TapTable& table, const Range (&inside)[3], std::int64_t n,
                 std::int64_t c, const Band& band) {
  T* const plane = plane_of<T>(grad_x, n, c);
  RowZeroer<T> zeroer(grad_x, plane, band.d, band.h);
  const Range depth = outputs_of(axes[0], band.d);
  const Range height = outputs_of(axes[1], band.h);
  const auto wanted_whole = [](const Axis& axis, std::int64_t o, const Range& in) {
    return axis.start(o) >= in.begin && axis.start(o) + axis.dilated_kernel() <= in.end;
  };
  for (std::int64_t od = depth.begin; od < depth.end; ++od) {
    const std::int64_t d_end = window_end(axes[0], od, band.d);
    for (std::int64_t oh = height.begin; oh < height.end; ++oh) {
      zeroer.advance(d_end - 1, window_end(axes[1], oh, band.h));
      const bool row_inside = inside[0].contains(od) && inside[1].contains(oh) &&
                              wanted_whole(axes[0], od, band.d) && wanted_whole(axes[1], oh, band.h);
      ScatterRow(WindowRow(table, axes, grad_x.stride, od, oh, band.d, band.h),
                 row_inside ? inside[2] : Range{}, plane, row_of<const T>(grad_y, n, c, od, oh),
                 grad_y.stride[4], row_of<const Tap>(taps, n, c, od, oh), taps.stride[4]);
    }
  }
  zeroer.advance(band.d.end - 1, band.h.end);
}

/// Planes of one window each: zeros but for one element. [1, 2048, 4, 7, 7] f32, two threads: 0.25 ms as
/// above, 0.05 ms so.
template <class T, class Tap>
void ScatterWindows(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                    const Axes& axes, const TapTable& table) {
  const WindowRow window(table, axes, grad_x.stride, 0, 0, {0, axes[0].in()}, {0, axes[1].in()});
  const std::int64_t positions = axes[0].in() * axes[1].in() * axes[2].in();
  const std::int64_t start = axes[2].start(0);
  const Cursor::Index units{1, 1, 1, grad_x.size[0], grad_x.size[1]};
  parallel_for(Cursor::total(units), row_grain(static_cast<std::int64_t>(sizeof(T)) * positions),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 Cursor at(units, begin);
                 for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
                   T* const plane = plane_of<T>(grad_x, at[3], at[4]);
                   ask_ahead(plane, positions);
                   std::fill_n(plane, positions, T{0});
                   const std::size_t tap = *plane_of<const Tap>(taps, at[3], at[4]);
                   if (window.is_wanted(tap, start))
                     plane[window.corner(0) + window.offset(tap)] += *plane_of<const T>(grad_y, at[3], at[4]);
                 }
               });
}

/// `sliding`: windows of a fixed size at a fixed distance.
template <class T, class Tap>
void ScatterPlanes(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                   const Axes& axes, bool sliding) {
  const TapTable table(axes, grad_x.stride);
  if (axes[0].out() * axes[1].out() * axes[2].out() == 1 && dense_planes(grad_x))
    return ScatterWindows<T, Tap>(grad_x, grad_y, taps, axes, table);
  const Range inside[3] = {inside_outputs(axes[0], sliding), inside_outputs(axes[1], sliding),
                           inside_outputs(axes[2], sliding)};
  const std::size_t cut = axes[0].in() > 1 ? 0 : 1;
  const std::int64_t bands = bands_for(grad_x, axes[cut]);
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * grad_x.size[2] * grad_x.size[3] * grad_x.size[4];
  const Cursor::Index units{1, 1, grad_x.size[0], grad_x.size[1], bands};
  const bool past = bands == 1 && scatters_past_caches(grad_x, bytes, grad_y, taps);
  parallel_for(
      Cursor::total(units), row_grain(bytes / bands), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
        OutputLines lines;
        Cursor at(units, begin);
        for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
          Range part[2] = {{0, axes[0].in()}, {0, axes[1].in()}};
          part[cut] = {axes[cut].in() * at[4] / bands, axes[cut].in() * (at[4] + 1) / bands};
          const Tensor5 to = past ? near_plane<T>(grad_x, at[2], at[3], bytes, lines) : grad_x;
          ScatterBand<T, Tap>(to, grad_y, taps, axes, table, inside, at[2], at[3], {part[0], part[1]});
          if (past) lines.done(bytes);
        }
      });
}

/// Few large windows: most of grad_x stays zero.
inline bool few_outputs(const Axes& axes) {
  constexpr std::int64_t kFew = 64;
  const std::int64_t inputs = axes[0].in() * axes[1].in() * axes[2].in();
  return inputs / kFew >= axes[0].out() * axes[1].out() * axes[2].out();
}

/// Zeros in all channels of the rows of a band.
template <class T>
void zero_channels_last(const Tensor5& tensor, std::int64_t n, const Band& band) {
  const auto& size = tensor.size;
  const bool dense_rows = size[4] == 1 || tensor.stride[4] == size[1];
  for (std::int64_t d = band.d.begin; d < band.d.end; ++d) {
    for (std::int64_t h = band.h.begin; h < band.h.end; ++h) {
      T* const row = row_of<T>(tensor, n, 0, d, h);
      if (dense_rows) {
        fill_row(row, 1, size[4] * size[1], T{0});
        continue;
      }
      for (std::int64_t w = 0; w < size[4]; ++w) fill_row(row + w * tensor.stride[4], 1, size[1], T{0});
    }
  }
}

/// The same with the channels next to each other and few outputs: bands of rows, each of which reads the taps
/// of all windows that reach it.
template <class T, class Tap>
void ScatterChannels(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                     const Axes& axes) {
  constexpr std::int64_t kMostBands = 8;
  const TapTable table(axes, grad_x.stride);
  const std::int64_t channels = grad_x.size[1];
  const std::size_t cut = axes[0].in() > 1 ? 0 : 1;
  const std::int64_t bands =
      std::min(axes[cut].in(), ceil_divide(kMostBands, std::max<std::int64_t>(grad_x.size[0], 1)));
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * Cursor::total(grad_x.size) / bands;
  const Cursor::Index units{1, 1, 1, grad_x.size[0], bands};
  const std::int64_t grain = row_grain(bytes / std::max<std::int64_t>(grad_x.size[0], 1));
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const std::int64_t n = at[3];
      Range part[2] = {{0, axes[0].in()}, {0, axes[1].in()}};
      part[cut] = {axes[cut].in() * at[4] / bands, axes[cut].in() * (at[4] + 1) / bands};
      const Band band{part[0], part[1]};
      zero_channels_last<T>(grad_x, n, band);
      const Range depth = outputs_of(axes[0], band.d);
      const Range height = outputs_of(axes[1], band.h);
      T* const to = plane_of<T>(grad_x, n, 0);
      for (std::int64_t od = depth.begin; od < depth.end; ++od) {
        for (std::int64_t oh = height.begin; oh < height.end; ++oh) {
          const WindowRow row(table, axes, grad_x.stride, od, oh, band.d, band.h);
          const T* grads = row_of<const T>(grad_y, n, 0, od, oh);
          const Tap* from = row_of<const Tap>(taps, n, 0, od, oh);
          for (std::int64_t ow = 0; ow < grad_y.size[4];
               ++ow, grads += grad_y.stride[4], from += taps.stride[4]) {
            const std::int64_t start = axes[2].start(ow);
            T* const corner = to + row.corner(ow);
            for (std::int64_t c = 0; c < channels; ++c) {
              if (row.is_wanted(from[c], start)) corner[row.offset(from[c]) + c] += grads[c];
            }
          }
        }
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
