// The windows of smooth pooling over channels-last pixels, which are read where they are, in vectors over the
// channels.
#if defined(CENOTE_CPU_SMOOTH_PIXELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SMOOTH_PIXELS_INL_H_
#undef CENOTE_CPU_SMOOTH_PIXELS_INL_H_
#else
#define CENOTE_CPU_SMOOTH_PIXELS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/smooth_passes-inl.h"
#include "cpu/window_elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Pixels one step apart, from these offsets on, in elements of each of two tensors.
struct PixelRun {
  std::int64_t x;
  std::int64_t grad_x;
  std::int64_t count;
};

/// The pixels of one window: a table where they are few, runs where they are many.
class WindowPixels {
 public:
  WindowPixels(const Axes& axes, const Array5& x_stride, const Array5& grad_stride)
      : axes_(axes),
        x_stride_(x_stride),
        grad_stride_(grad_stride),
        x_step_(axes[2].dilation() * x_stride[4]),
        grad_step_(axes[2].dilation() * grad_stride[4]) {}

  void move_to(const Array5& position) {
    if (position_ == position) return;
    position_ = position;
    count_ = 1;
    for (std::size_t axis = 0; axis < 3; ++axis) count_ *= axes_[axis].taps(position[axis + 2]).count;
    if (many()) {
      collect_runs(position);
    } else {
      offsets_.collect(axes_, position, x_stride_, grad_stride_);
    }
  }

  std::int64_t count() const { return count_; }
  /// The offset of the first of many, in x.
  std::int64_t start() const { return runs_.front().x; }
  bool many() const { return count_ > kSumBlock; }
  std::int64_t x(std::int64_t i) const { return offsets_.x[static_cast<std::size_t>(i)]; }
  std::int64_t grad_x(std::int64_t i) const { return offsets_.grad_x[static_cast<std::size_t>(i)]; }
  std::int64_t x_step() const { return x_step_; }
  std::int64_t grad_step() const { return grad_step_; }

  /// Up to kSumBlock pixels of a run at a time.
  template <class Body>
  HWY_INLINE void for_each_block(const Body& body) const {
    for (const PixelRun& run : runs_) {
      for (std::int64_t i = 0; i < run.count; i += kSumBlock) {
        body(PixelRun{run.x + i * x_step_, run.grad_x + i * grad_step_, std::min(kSumBlock, run.count - i)});
      }
    }
  }

 private:
  /// Rows that continue each other are one run.
  void collect_runs(const Array5& position) {
    const Taps d = axes_[0].taps(position[2]);
    const Taps h = axes_[1].taps(position[3]);
    const Taps w = axes_[2].taps(position[4]);
    runs_.clear();
    for (std::int64_t i = 0; i < d.count; ++i) {
      for (std::int64_t j = 0; j < h.count; ++j) {
        const std::int64_t depth = d.position + i * axes_[0].dilation();
        const std::int64_t line = h.position + j * axes_[1].dilation();
        const auto start = [&](const Array5& stride) {
          return depth * stride[2] + line * stride[3] + w.position * stride[4];
        };
        const PixelRun run{start(x_stride_), start(grad_stride_), w.count};
        if (!runs_.empty() && runs_.back().x + runs_.back().count * x_step_ == run.x &&
            runs_.back().grad_x + runs_.back().count * grad_step_ == run.grad_x) {
          runs_.back().count += run.count;
        } else {
          runs_.push_back(run);
        }
      }
    }
  }

  const Axes& axes_;
  const Array5& x_stride_;
  const Array5& grad_stride_;
  std::int64_t x_step_;
  std::int64_t grad_step_;
  Array5 position_{-1, -1, -1, -1, -1};
  std::int64_t count_ = 0;
  PixelOffsets offsets_;
  std::vector<PixelRun> runs_;
};

/// Channels first .. last - 1 of one window.
template <class T>
struct PixelWindow {
  const WindowPixels& pixels;
  const T* from;
  std::int64_t first;
  std::int64_t last;

  /// Tap i of few, of the channels from c on.
  HWY_INLINE VecOf<WideTag<T>> load(std::int64_t i, std::int64_t c, std::size_t part) const {
    return LoadLanes<true>(WideTag<T>(), from + c + pixels.x(i), 1, part);
  }
};

/// Channels that one thread takes at a time: many, as they lie side by side, unless there are few windows.
inline std::int64_t channel_block(std::int64_t windows) { return windows >= 16 ? 512 : 32; }

/// Vectors of the channels of `window` side by side: body.operator()<vectors>(c, part, their summaries).
template <class T, class Body>
HWY_INLINE void ForEachSummaryTile(const PixelWindow<T>& window, Summary<WideTag<T>>* summaries,
                                   const Body& body) {
  ForEachChannelTile<T>(window.first, window.last,
                        [&]<int kVectors>(std::int64_t c, std::size_t part) HWY_ATTR {
                          body.template operator()<kVectors>(c, part, summaries);
                          summaries += kVectors;
                        });
}

/// One summary per vector of channels of a window of many pixels. All channels of a block of pixels come
/// before the next block, as memory has them.
template <class Rule, class T>
class ManyPixels {
  using D = WideTag<T>;
  using V = VecOf<D>;

 public:
  ManyPixels(const PixelWindow<T>& window, Summary<D>* summaries) : window_(window), summaries_(summaries) {}

  void summarise(const Parameters<T>& parameters) const {
    const D d;
    begin(parameters);
    if constexpr (!TriesUnscaled<Rule> && !OnePass<Rule>) choose_shifts();
    if constexpr (TriesUnscaled<Rule>) {
      add_terms<Rule>();
      bool safe = true;
      each([&](Summary<D>& s) HWY_ATTR { safe = safe && SumIsSafe(d, s.sum, s.second_sum); });
      if (safe) return each([&](Summary<D>& s) HWY_ATTR { Rule::finish(d, s); });
      choose_shifts();
    }
    sum_and_finish<Rule>();
  }

 private:
  template <class Body>
  HWY_INLINE void each(const Body& body) const {
    const std::int64_t vectors = ceil_divide(window_.last - window_.first, lanes_of<T>());
    for (std::int64_t v = 0; v < vectors; ++v) body(summaries_[v]);
  }

  void begin(const Parameters<T>& parameters) const {
    const D d;
    Summary<D>* s = summaries_;
    ForEachChannelVector<T>(window_.first, window_.last, [&](std::int64_t c, std::size_t part) HWY_ATTR {
      parameters.set_many(d, c, *s);
      s->count = hn::Set(d, static_cast<T>(window_.pixels.count()));
      s->first = s->shift = hn::Zero(d);
      if constexpr (TriesUnscaled<Rule>) BeginUnscaled(d, *s);
      if constexpr (StartsFromFirst<Rule>)
        Rule::begin(d, LoadLanes<true>(d, window_.from + window_.pixels.start() + c, 1, part), *s);
      ++s;
    });
  }

  void choose_shifts() const {
    const D d;
    each([&](Summary<D>& s) HWY_ATTR { s.first = FirstOfNone<Rule>(d); });
    each_block([&]<int kVectors>(const auto& load, std::int64_t count, Summary<D>* s)
                   HWY_ATTR { reduce_keys<kVectors>(load, count, s); });
    each([&](Summary<D>& s) HWY_ATTR { Rule::choose_shift(d, s); });
  }

  template <class Terms>
  void add_terms() const {
    const D d;
    each([&](Summary<D>& s) HWY_ATTR { ClearSums(d, s); });
    each_block([&]<int kVectors>(const auto& load, std::int64_t count, Summary<D>* s)
                   HWY_ATTR { add_block<Terms, kVectors>(load, count, s); });
  }

  /// As MustSumAgain, of any of the summaries.
  template <class Terms>
  bool must_sum_again() const {
    const D d;
    bool again = false;
    each([&](Summary<D>& s) HWY_ATTR { again = again || !hn::AllFalse(d, Terms::unsure(d, s)); });
    if (!again) return false;
    again = false;
    each_block([&]<int kVectors>(const auto& load, std::int64_t count, Summary<D>* s) HWY_ATTR {
      for (int v = 0; v < kVectors && !again; ++v) {
        again = MustSumAgain<Terms>(
            d, count, [&](std::int64_t i) CENOTE_VECTOR_LAMBDA { return load(i, v); }, s[v]);
      }
    });
    return again;
  }

  template <class Terms>
  void sum_and_finish() const {
    const D d;
    add_terms<Terms>();
    if constexpr (SumsAgain<Terms>) {
      if (must_sum_again<Terms>()) {
        each([&](Summary<D>& s) HWY_ATTR { Terms::begin_again(d, s); });
        return sum_and_finish<typename Terms::Again>();
      }
    }
    each([&](Summary<D>& s) HWY_ATTR { Terms::finish(d, s); });
  }

  /// body.operator()<vectors>(load, pixels, summaries) of each tile of each block; load(i, v) is pixel i of
  /// vector v.
  template <class Body>
  HWY_INLINE void each_block(const Body& body) const {
    const std::int64_t step = window_.pixels.x_step();
    window_.pixels.for_each_block([&](const PixelRun& block) HWY_ATTR {
      ForEachSummaryTile(window_, summaries_,
                         [&]<int kVectors>(std::int64_t c, std::size_t part, Summary<D>* s) HWY_ATTR {
                           const T* const from = window_.from + block.x + c;
                           const auto load = [&](std::int64_t i, int v) CENOTE_VECTOR_LAMBDA {
                             return LoadLanes<true>(D(), from + i * step + v * lanes_of<T>(), 1, part);
                           };
                           body.template operator()<kVectors>(load, block.count, s);
                         });
    });
  }

  template <int kVectors, class Load>
  static HWY_INLINE void reduce_keys(const Load& load, std::int64_t count, Summary<D>* s) {
    using First = typename Rule::First;
    const D d;
    V block[kVectors];
    for (int v = 0; v < kVectors; ++v) block[v] = Rule::key(d, s[v], load(0, v));
    for (std::int64_t i = 1; i < count; ++i) {
      for (int v = 0; v < kVectors; ++v)
        block[v] = First::combine(d, block[v], Rule::key(d, s[v], load(i, v)));
    }
    for (int v = 0; v < kVectors; ++v) s[v].first = First::combine(d, s[v].first, block[v]);
  }

  template <class Terms, int kVectors, class Load>
  static HWY_INLINE void add_block(const Load& load, std::int64_t count, Summary<D>* s) {
    const D d;
    TermSums<Terms, D> sums[kVectors];
    for (auto& of_vector : sums) of_vector.clear(d);
    for (std::int64_t i = 0; i < count; ++i) {
      for (int v = 0; v < kVectors; ++v) sums[v].add(d, s[v], load(i, v));
    }
    for (int v = 0; v < kVectors; ++v) sums[v].join(s[v]);
  }

  const PixelWindow<T>& window_;
  Summary<D>* summaries_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
