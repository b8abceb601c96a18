// Pooling whose gradient depends on the elements, backward; the three ways to read windows are those of the
// forward pass.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/smooth_backward.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include "core/parallel.h"
#include "cpu/layout.h"
#include "cpu/scatter-inl.h"
#include "cpu/smooth_backward.h"
#include "cpu/smooth_passes-inl.h"
#include "cpu/smooth_pixels-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

/// The rows of the taps of one stretch, and those that their gradients are added to.
template <class T>
struct TapMatrix {
  const std::vector<T*>& values;
  const std::vector<T*>& gradients;
  std::int64_t taps;
  std::int64_t outs;
};

/// `counts` are the real columns of each window; one summary per vector of outputs.
template <class Rule, class T>
void SummariseStretch(const TapMatrix<T>& matrix, const T* counts, std::int64_t rows,
                      Summary<WideTag<T>> summary, Summary<WideTag<T>>* summaries) {
  const WideTag<T> d;
  const auto height = hn::Set(d, static_cast<T>(rows));
  for (std::int64_t m = 0; m < matrix.outs; m += lanes_of<T>()) {
    summary.count = hn::Mul(height, hn::LoadU(d, counts + m));
    Summarise<Rule>(
        d, matrix.taps,
        [&](std::int64_t i)
            CENOTE_VECTOR_LAMBDA { return hn::LoadU(d, matrix.values[static_cast<std::size_t>(i)] + m); },
        summary);
    Rule::prepare_slopes(d, summary);
    *summaries++ = summary;
  }
}

/// The taps come one after another over all outputs, since the next tap's additions would wait for the stores
/// of the one before.
template <class Rule, class T>
void AddStretchGradients(const TapMatrix<T>& matrix, const T* from, std::int64_t step,
                         Summary<WideTag<T>>* summaries) {
  const WideTag<T> d;
  for (std::int64_t i = 0; i < matrix.taps; ++i) {
    const T* const values = matrix.values[static_cast<std::size_t>(i)];
    T* const to = matrix.gradients[static_cast<std::size_t>(i)];
    Summary<WideTag<T>>* summary = summaries;
    for (std::int64_t m = 0; m < matrix.outs; m += lanes_of<T>(), ++summary) {
      const std::int64_t left = matrix.outs - m;
      const auto part = static_cast<std::size_t>(left >= lanes_of<T>() ? 0 : left);
      const auto incoming = step == 1 ? LoadLanes<true>(d, from + m, 1, part)
                                      : LoadLanes<false>(d, from + m * step, step, part);
      const auto slope = SlopeInOrder<Rule>(d, *summary, hn::LoadU(d, values + m));
      const auto live = hn::FirstN(d, static_cast<std::size_t>(std::min(left, lanes_of<T>())));
      const auto grad = hn::IfThenElseZero(live, hn::Mul(incoming, slope));
      hn::StoreU(hn::Add(hn::LoadU(d, to + m), grad), d, to + m);
    }
  }
}

template <class Rule, class T>
void BackwardRows(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& x, const Axes& axes,
                  const Parameters<T>& parameters) {
  const WideTag<T> d;
  const Axis& w = axes[2];
  const TapSlots slots(w);
  const std::vector<T> counts = column_counts<T>(w);
  const std::int64_t most = outs_per_stretch(axes, slots);
  const Cursor::Index rows_of_plane{1, 1, grad_y.size[2], grad_y.size[3], ceil_divide(w.out(), most)};
  const Cursor::Index units{1, 1, 1, grad_x.size[0], grad_x.size[1]};
  const std::int64_t grain = row_grain(bytes_per_output_row<T>(axes) * Cursor::total(rows_of_plane));
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    TapRows<T> values(axes, slots, most);
    TapRows<T> gradients(axes, slots, most);
    const std::vector<T*> taps = tap_pointers(values, axes);
    const std::vector<T*> grads = tap_pointers(gradients, axes);
    Scratch<Summary<WideTag<T>>> summaries;  // aligned for vectors
    summaries.resize(static_cast<std::size_t>(ceil_divide(most, lanes_of<T>())));
    std::vector<T*> targets;
    Cursor plane(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, plane.next()) {
      zero_plane<T>(grad_x, plane[3], plane[4]);
      Summary<WideTag<T>> s;
      parameters.set_one(d, plane[4], s);
      Cursor at(rows_of_plane, 0);
      for (std::int64_t left = Cursor::total(rows_of_plane); left > 0; --left, at.next()) {
        rows.collect(x, plane_of<const T>(x, plane[3], plane[4]), axes, at[2], at[3]);
        if (rows.count() == 0) continue;
        const Stretch stretch{at[4] * most, std::min(most, w.out() - at[4] * most)};
        values.fill(rows, x.stride[4], w, stretch, static_cast<T>(Rule::kPadding));
        gradients.clear();
        const T* const from =
            row_of<const T>(grad_y, plane[3], plane[4], at[2], at[3]) + stretch.first * grad_y.stride[4];
        const TapMatrix<T> matrix{taps, grads, rows.count() * w.kernel(), stretch.count};
        SummariseStretch<Rule>(matrix, counts.data() + stretch.first, rows.count(), s, summaries.get());
        AddStretchGradients<Rule>(matrix, from, grad_y.stride[4], summaries.get());
        targets.clear();
        for (std::int64_t i = 0; i < rows.count(); ++i) {
          const std::int64_t line = rows.line(i);
          targets.push_back(row_of<T>(grad_x, plane[3], plane[4], line / axes[1].in(), line % axes[1].in()));
        }
        gradients.add_to(targets.data(), rows.count(), grad_x.stride[4], w, stretch);
      }
    }
  });
}

/// The first element that the rule picks; there is one.
template <class Rule, class D, class T>
std::int64_t FindPicked(D d, const T* from, std::int64_t count, const Summary<D>& s) {
  std::int64_t i = 0;
  while (i + lanes_of<T>() <= count && hn::AllFalse(d, IsPicked<Rule>(d, s, hn::LoadU(d, from + i))))
    i += lanes_of<T>();
  while (i + 1 < count && hn::AllFalse(d, IsPicked<Rule>(d, s, hn::Set(d, from[i])))) ++i;
  return i;
}

/// to[i] = gradient * slope of element i
template <class Rule, class T>
void SlopesOfWindow(const PackedWindow<T>& window, T gradient, Summary<WideTag<T>>& s, T* to) {
  const WideTag<T> d;
  const auto incoming = hn::Set(d, gradient);
  const auto lanes = lanes_of<T>();
  std::int64_t i = 0;
  for (; i + lanes <= window.count(); i += lanes)
    hn::StoreU(hn::Mul(incoming, Rule::slope(d, s, hn::LoadU(d, window.values() + i))), d, to + i);
  if (i < window.count()) {
    const auto left = static_cast<std::size_t>(window.count() - i);
    StorePart(d, hn::Mul(incoming, Rule::slope(d, s, LoadPart(d, window.values() + i, left))), to + i, left);
  }
  if constexpr (Rule::kPicksFirst) {
    const std::int64_t first = FindPicked<Rule>(d, window.values(), window.count(), s);
    const auto v = hn::Set(d, window.values()[first]);
    to[first] += hn::GetLane(hn::Mul(incoming, Rule::picked_slope(d, s, v)));
  }
}

template <class Rule, class T>
void BackwardWindows(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& x,
                     const Axes& axes, const Parameters<T>& parameters) {
  const WideTag<T> d;
  const Axis& w = axes[2];
  const Cursor::Index outputs{1, 1, grad_y.size[2], grad_y.size[3], w.out()};
  const Cursor::Index units{1, 1, 1, grad_x.size[0], grad_x.size[1]};
  const std::int64_t grain = row_grain(bytes_per_window<T>(axes) * Cursor::total(outputs));
  const bool whole_planes = is_global(axes) && dense_planes(x);
  const bool in_place = is_global(axes) && dense_planes(grad_x);
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    PackedWindow<T> window;
    Scratch<T> slopes;
    Cursor plane(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, plane.next()) {
      if (!in_place) zero_plane<T>(grad_x, plane[3], plane[4]);
      Cursor at(outputs, 0);
      for (std::int64_t left = Cursor::total(outputs); left > 0; --left, at.next()) {
        const Taps columns = w.taps(at[4]);
        if (whole_planes && in_place) {
          window.take_plane(x, plane[3], plane[4]);
        } else {
          if (at[4] == 0) rows.collect(x, plane_of<const T>(x, plane[3], plane[4]), axes, at[2], at[3]);
          window.pack(rows, columns, w.dilation(), x.stride[4]);
        }
        if (window.count() == 0) continue;
        Summary<WideTag<T>> s;
        parameters.set_one(d, plane[4], s);
        SummariseRun<Rule>(d, window.values(), window.count(), s);
        Rule::prepare_slopes(d, s);
        const T gradient =
            row_of<const T>(grad_y, plane[3], plane[4], at[2], at[3])[at[4] * grad_y.stride[4]];
        T* const to_slopes = in_place ? plane_of<T>(grad_x, plane[3], plane[4])
                                      : slopes.resize(static_cast<std::size_t>(window.count()));
        SlopesOfWindow<Rule>(window, gradient, s, to_slopes);
        if (in_place) continue;
        const T* from = to_slopes;
        const std::int64_t step = w.dilation() * grad_x.stride[4];
        for (std::int64_t i = 0; i < rows.count(); ++i) {
          const std::int64_t line = rows.line(i);
          T* const to = row_of<T>(grad_x, plane[3], plane[4], line / axes[1].in(), line % axes[1].in()) +
                        columns.position * grad_x.stride[4];
          for (std::int64_t j = 0; j < columns.count; ++j) to[j * step] += *from++;
        }
      }
    }
  });
}

/// Rules whose slopes need the terms of the sum.
template <class Rule>
concept UsesTerms = requires { &Rule::template slope_of_term<WideTag<float>>; };

/// The gradients of the pixels of windows, vector by vector of channels.
template <class Rule, class T>
class PixelGradients {
  using D = WideTag<T>;
  using V = VecOf<D>;

 public:
  /// `adds`: windows overlap; else each gradient is stored.
  PixelGradients(const Parameters<T>& parameters, std::int64_t channels, bool adds)
      : parameters_(parameters), adds_(adds) {
    summaries_.resize(static_cast<std::size_t>(ceil_divide(channels, lanes_of<T>())));
    if constexpr (UsesTerms<Rule>) terms_.resize(static_cast<std::size_t>(kSumBlock * lanes_of<T>()));
  }

  void run(const PixelWindow<T>& window, const T* incoming, T* to) const {
    if (!window.pixels.many()) return run_few(window, incoming, to);
    const D d;
    ManyPixels<Rule, T>(window, summaries_.get()).summarise(parameters_);
    Summary<D>* s = summaries_.get();
    ForEachChannelVector<T>(window.first, window.last,
                            [&](std::int64_t, std::size_t) HWY_ATTR { Rule::prepare_slopes(d, *s++); });
    window.pixels.for_each_block([&](const PixelRun& block) HWY_ATTR {
      ForEachSummaryTile(window, summaries_.get(),
                         [&]<int kVectors>(std::int64_t c, std::size_t part, Summary<D>* of_tile)
                             HWY_ATTR { run_tile<kVectors>(window, block, c, part, of_tile, incoming, to); });
    });
  }

 private:
  template <int kVectors>
  HWY_INLINE void run_tile(const PixelWindow<T>& window, const PixelRun& block, std::int64_t c,
                           std::size_t part, Summary<D>* s, const T* incoming, T* to) const {
    const D d;
    V gradients[kVectors];
    for (int v = 0; v < kVectors; ++v)
      gradients[v] = LoadLanes<true>(d, incoming + c + v * lanes_of<T>(), 1, part);
    const T* from = window.from + block.x + c;
    T* target = to + block.grad_x + c;
    for (std::int64_t i = 0; i < block.count; ++i) {
      for (int v = 0; v < kVectors; ++v) {
        const V element = LoadLanes<true>(d, from + v * lanes_of<T>(), 1, part);
        put(target + v * lanes_of<T>(), part, hn::Mul(gradients[v], SlopeInOrder<Rule>(d, s[v], element)));
      }
      from += window.pixels.x_step();
      target += window.pixels.grad_step();
    }
  }

  /// Up to kSumBlock taps.
  void run_few(const PixelWindow<T>& window, const T* incoming, T* to) const {
    const D d;
    const std::int64_t taps = window.pixels.count();
    ForEachChannelVector<T>(window.first, window.last, [&](std::int64_t c, std::size_t part) HWY_ATTR {
      const auto load = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA { return window.load(i, c, part); };
      const V gradient = LoadLanes<true>(d, incoming + c, 1, part);
      Summary<D> s;
      parameters_.set_many(d, c, s);
      s.count = hn::Set(d, static_cast<T>(taps));
      if constexpr (UsesTerms<Rule>) {
        T* const terms = terms_.get();
        Summarise<Rule>(d, taps, load, s, [&](std::int64_t i, V term) CENOTE_VECTOR_LAMBDA {
          hn::Store(term, d, terms + i * lanes_of<T>());
        });
        Rule::prepare_slopes(d, s);
        for (std::int64_t i = 0; i < taps; ++i) {
          const V term = hn::Load(d, terms + i * lanes_of<T>());
          put(to + c + window.pixels.grad_x(i), part,
              hn::Mul(gradient, Rule::slope_of_term(d, s, load(i), term)));
        }
      } else {
        Summarise<Rule>(d, taps, load, s);
        Rule::prepare_slopes(d, s);
        for (std::int64_t i = 0; i < taps; ++i) {
          put(to + c + window.pixels.grad_x(i), part, hn::Mul(gradient, SlopeInOrder<Rule>(d, s, load(i))));
        }
      }
    });
  }

  HWY_INLINE void put(T* target, std::size_t part, V gradient) const {
    const D d;
    if (adds_) gradient = hn::Add(LoadLanes<true>(d, target, 1, part), gradient);
    if (part == 0) {
      hn::StoreU(gradient, d, target);
    } else {
      StorePart(d, gradient, target, part);
    }
  }

  const Parameters<T>& parameters_;
  bool adds_;
  Scratch<Summary<D>> summaries_;  // aligned for vectors
  Scratch<T> terms_;
};

/// Whether no two windows share an element.
inline bool disjoint(const Windows& windows) {
  return windows.sliding && std::all_of(windows.axes.begin(), windows.axes.end(), [](const Axis& axis) {
           return axis.out() == 1 || axis.stride() >= axis.dilated_kernel();
         });
}

/// Whether every element is in a window.
inline bool covers(const Windows& windows) {
  return windows.sliding && std::all_of(windows.axes.begin(), windows.axes.end(), [](const Axis& axis) {
           return axis.dilation() == 1 && axis.stride() <= axis.kernel() && axis.padding() >= 0 &&
                  axis.start(axis.out() - 1) + axis.kernel() >= axis.in();
         });
}

/// Zeroes channels first .. last - 1 of all pixels of batch element n.
template <class T>
void zero_pixels(const Tensor5& grad_x, std::int64_t n, std::int64_t first, std::int64_t last) {
  const Cursor::Index pixels{1, 1, grad_x.size[2], grad_x.size[3], grad_x.size[4]};
  Cursor pixel(pixels, 0);
  for (std::int64_t left = Cursor::total(pixels); left > 0; --left, pixel.next()) {
    T* const row = row_of<T>(grad_x, n, 0, pixel[2], pixel[3]) + pixel[4] * grad_x.stride[4];
    std::fill(row + first, row + last, T{0});
  }
}

template <class Rule, class T>
void BackwardPixels(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& x,
                    const Windows& windows, const Parameters<T>& parameters) {
  const Axes& axes = windows.axes;
  const bool apart = disjoint(windows) && covers(windows);
  const Array5& out = grad_y.size;
  const std::int64_t channels = channel_block(apart ? out[0] * out[2] * out[3] * out[4] : 8 * out[0]);
  const std::int64_t blocks = ceil_divide(x.size[1], channels);
  const auto run = [&](const PixelGradients<Rule, T>& gradients, WindowPixels& pixels, std::int64_t n,
                       std::int64_t block, const Array5& position) {
    pixels.move_to(position);
    if (pixels.count() == 0) return;
    const std::int64_t first = block * channels;
    gradients.run({pixels, plane_of<const T>(x, n, 0), first, std::min(x.size[1], first + channels)},
                  row_of<const T>(grad_y, n, 0, position[2], position[3]) + position[4] * grad_y.stride[4],
                  plane_of<T>(grad_x, n, 0));
  };
  if (apart) {
    const Cursor::Index units{out[0], out[2], out[3], out[4], blocks};
    const std::int64_t grain = row_grain(bytes_per_window<T>(axes) * std::min(channels, x.size[1]));
    return parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) {
      const PixelGradients<Rule, T> gradients(parameters, channels, false);
      WindowPixels pixels(axes, x.stride, grad_x.stride);
      Cursor at(units, begin);
      for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
        run(gradients, pixels, at[0], at[4], {0, 0, at[1], at[2], at[3]});
      }
    });
  }
  const Cursor::Index outputs{1, 1, out[2], out[3], out[4]};
  const Cursor::Index units{1, 1, 1, x.size[0], blocks};
  parallel_for(Cursor::total(units), 1, [&](std::int64_t begin, std::int64_t end) {
    const PixelGradients<Rule, T> gradients(parameters, channels, true);
    WindowPixels pixels(axes, x.stride, grad_x.stride);
    Cursor block(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, block.next()) {
      zero_pixels<T>(grad_x, block[3], block[4] * channels, std::min(x.size[1], (block[4] + 1) * channels));
      Cursor at(outputs, 0);
      for (std::int64_t left = Cursor::total(outputs); left > 0; --left, at.next()) {
        run(gradients, pixels, block[3], block[4], {0, 0, at[2], at[3], at[4]});
      }
    }
  });
}

template <class Rule, class T>
void Backward(const SmoothRule& rule, const Tensor5& grad_x, const ConstTensor5& grad_y,
              const ConstTensor5& x, const WindowAxes* window) {
  const Windows windows = windows_of(window, x.size, grad_y.size);
  const Parameters<T> parameters(rule, x);
  if (channels_last(x, grad_y) && channels_last(grad_x, grad_y))
    return BackwardPixels<Rule, T>(grad_x, grad_y, x, windows, parameters);
  if constexpr (Slides<Rule>) {
    if (windows.sliding && fits_tap_rows(windows.axes))
      return BackwardRows<Rule, T>(grad_x, grad_y, x, windows.axes, parameters);
  }
  BackwardWindows<Rule, T>(grad_x, grad_y, x, windows.axes, parameters);
}

}  // namespace

void BackwardOfAnyRule(const SmoothRule& rule, const Tensor5& grad_x, const ConstTensor5& grad_y,
                       const ConstTensor5& x, const WindowAxes* window) {
  with_rule(rule, [&]<class Rule>() {
    x.dtype == DType::f32 ? Backward<Rule, float>(rule, grad_x, grad_y, x, window)
                          : Backward<Rule, double>(rule, grad_x, grad_y, x, window);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(BackwardOfAnyRule);

void smooth_backward(const SmoothRule& rule, const Tensor5& grad_x, const ConstTensor5& grad_y,
                     const ConstTensor5& x, const WindowAxes* window) {
  HWY_DYNAMIC_DISPATCH(BackwardOfAnyRule)(rule, grad_x, grad_y, x, window);
}

}  // namespace cenote::cpu
#endif
