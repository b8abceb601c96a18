// Pooling whose gradient depends on the elements, forward. Rows of outputs take their taps from rows that
// vectors read at unit stride; single large or uneven windows are packed and read along their elements;
// channels-last pixels are read where they are, in vectors over the channels.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/smooth_forward.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include "core/parallel.h"
#include "cpu/layout.h"
#include "cpu/scatter-inl.h"
#include "cpu/smooth_forward.h"
#include "cpu/smooth_passes-inl.h"
#include "cpu/smooth_pixels-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

template <class Rule, class T>
void ForwardRows(const Tensor5& y, const ConstTensor5& x, const Axes& axes, const Parameters<T>& parameters) {
  const WideTag<T> d;
  const Axis& w = axes[2];
  const TapSlots slots(w);
  const std::vector<T> counts = column_counts<T>(w);
  const std::int64_t most = outs_per_stretch(axes, slots);
  const Cursor::Index units{y.size[0], y.size[1], y.size[2], y.size[3], ceil_divide(w.out(), most)};
  const std::int64_t grain = row_grain(bytes_per_output_row<T>(axes));
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    TapRows<T> tap_rows(axes, slots, most);
    const std::vector<T*> taps = tap_pointers(tap_rows, axes);
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const Stretch stretch{at[4] * most, std::min(most, w.out() - at[4] * most)};
      T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]) + stretch.first * y.stride[4];
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      if (rows.count() == 0) {
        fill_row(to, y.stride[4], stretch.count, static_cast<T>(Rule::kEmpty));
        continue;
      }
      tap_rows.fill(rows, x.stride[4], w, stretch, static_cast<T>(Rule::kPadding));
      const RowSink<T> sink(to, w.out() == 1 ? 1 : y.stride[4], stretch.count);
      Summary<WideTag<T>> s;
      parameters.set_one(d, at[1], s);
      const auto height = hn::Set(d, static_cast<T>(rows.count()));
      for (std::int64_t m = 0; m < stretch.count; m += lanes_of<T>()) {
        s.count = hn::Mul(height, hn::LoadU(d, counts.data() + stretch.first + m));
        Summarise<Rule>(
            d, rows.count() * w.kernel(),
            [&](std::int64_t i)
                CENOTE_VECTOR_LAMBDA { return hn::LoadU(d, taps[static_cast<std::size_t>(i)] + m); },
            s);
        sink.store(d, m, s.y);
      }
    }
  });
}

template <class Rule, class T>
void ForwardWindows(const Tensor5& y, const ConstTensor5& x, const Axes& axes,
                    const Parameters<T>& parameters) {
  const WideTag<T> d;
  const Axis& w = axes[2];
  const Cursor::Index units{y.size[0], y.size[1], y.size[2], y.size[3], w.out()};
  const bool whole_planes = is_global(axes) && dense_planes(x);
  parallel_for(Cursor::total(units), row_grain(bytes_per_window<T>(axes)),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 InputRows<T> rows;
                 PackedWindow<T> window;
                 Cursor at(units, begin);
                 for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
                   T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]) + at[4] * y.stride[4];
                   if (whole_planes) {
                     window.take_plane(x, at[0], at[1]);
                   } else {
                     if (unit == begin || at[4] == 0)
                       rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
                     window.pack(rows, w.taps(at[4]), w.dilation(), x.stride[4]);
                   }
                   if (window.count() == 0) {
                     *to = static_cast<T>(Rule::kEmpty);
                     continue;
                   }
                   Summary<WideTag<T>> s;
                   parameters.set_one(d, at[1], s);
                   SummariseRun<Rule>(d, window.values(), window.count(), s);
                   *to = hn::GetLane(s.y);
                 }
               });
}

template <class Rule, class T>
void ForwardPixels(const Tensor5& y, const ConstTensor5& x, const Axes& axes,
                   const Parameters<T>& parameters) {
  const WideTag<T> d;
  const std::int64_t channels = channel_block(y.size[0] * y.size[2] * y.size[3] * y.size[4]);
  const Cursor::Index units{y.size[0], y.size[2], y.size[3], y.size[4], ceil_divide(x.size[1], channels)};
  const std::int64_t grain = row_grain(bytes_per_window<T>(axes) * std::min(channels, x.size[1]));
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    WindowPixels pixels(axes, x.stride, x.stride);
    Scratch<Summary<WideTag<T>>> scratch;  // aligned for vectors
    Summary<WideTag<T>>* const summaries =
        scratch.resize(static_cast<std::size_t>(ceil_divide(channels, lanes_of<T>())));
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      pixels.move_to({0, 0, at[1], at[2], at[3]});
      const std::int64_t first = at[4] * channels;
      T* const to = row_of<T>(y, at[0], 0, at[1], at[2]) + at[3] * y.stride[4];
      const PixelWindow<T> window{pixels, plane_of<const T>(x, at[0], 0), first,
                                  std::min(x.size[1], first + channels)};
      if (pixels.many()) ManyPixels<Rule, T>(window, summaries).summarise(parameters);
      const Summary<WideTag<T>>* next = summaries;
      ForEachChannelVector<T>(window.first, window.last, [&](std::int64_t c, std::size_t part) HWY_ATTR {
        auto result = Constant(d, Rule::kEmpty);
        if (pixels.many()) {
          result = (next++)->y;
        } else if (pixels.count() > 0) {
          Summary<WideTag<T>> s;
          parameters.set_many(d, c, s);
          s.count = hn::Set(d, static_cast<T>(pixels.count()));
          Summarise<Rule>(
              d, pixels.count(), [&](std::int64_t i) CENOTE_VECTOR_LAMBDA { return window.load(i, c, part); },
              s);
          result = s.y;
        }
        if (part == 0) {
          hn::StoreU(result, d, to + c);
        } else {
          StorePart(d, result, to + c, part);
        }
      });
    }
  });
}

template <class Rule, class T>
void Forward(const SmoothRule& rule, const Tensor5& y, const ConstTensor5& x, const WindowAxes* window) {
  const Windows windows = windows_of(window, x.size, y.size);
  const Parameters<T> parameters(rule, x);
  if (channels_last(x, y)) return ForwardPixels<Rule, T>(y, x, windows.axes, parameters);
  if constexpr (Slides<Rule>) {
    if (windows.sliding && fits_tap_rows(windows.axes))
      return ForwardRows<Rule, T>(y, x, windows.axes, parameters);
  }
  ForwardWindows<Rule, T>(y, x, windows.axes, parameters);
}

}  // namespace

void ForwardOfAnyRule(const SmoothRule& rule, const Tensor5& y, const ConstTensor5& x,
                      const WindowAxes* window) {
  with_rule(rule, [&]<class Rule>() {
    x.dtype == DType::f32 ? Forward<Rule, float>(rule, y, x, window)
                          : Forward<Rule, double>(rule, y, x, window);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(ForwardOfAnyRule);

void smooth_forward(const SmoothRule& rule, const Tensor5& y, const ConstTensor5& x,
                    const WindowAxes* window) {
  HWY_DYNAMIC_DISPATCH(ForwardOfAnyRule)(rule, y, x, window);
}

}  // namespace cenote::cpu
#endif
