// Windows of stride 1 along a row of neighbours, in memory: of runs that are joined to runs of twice as many,
// or, where the elements of a window lie a vector or more apart, of ends and beginnings of blocks.
#if defined(CENOTE_CPU_LONG_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_LONG_ROW_INL_H_
#undef CENOTE_CPU_LONG_ROW_INL_H_
#else
#define CENOTE_CPU_LONG_ROW_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/axis-inl.h"
#include "cpu/scratch.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// How windows become of runs, whose lengths are powers of two. At each length the run may first be added to
/// the window, and is then joined with another one to the next length. Maxima join runs that overlap to the
/// window itself; sums add the runs of the kernel's binary digits, if there are several.
struct WindowStep {
  static constexpr std::int64_t kNone = -1;
  std::int64_t add = kNone;   // positions from the run to the begin of the window, 0 where it is the first
  std::int64_t join = kNone;  // positions from the run to the other one
};

template <class Reduction>
std::vector<WindowStep> window_steps(std::int64_t kernel) {
  std::vector<WindowStep> steps;
  const bool adds = !Reduction::kIdempotent && (kernel & (kernel - 1)) != 0;
  std::int64_t covered = 0;
  for (std::int64_t run = 1;; run *= 2) {
    WindowStep step;
    if (adds && (kernel & run) != 0) {
      step.add = covered;
      covered += run;
    }
    if (2 * run <= kernel) {
      step.join = run;
    } else if (!adds && run < kernel) {
      step.join = kernel - run;
    }
    if (step.add != WindowStep::kNone || step.join != WindowStep::kNone) steps.push_back(step);
    if (2 * run > kernel) return steps;
  }
}

/// Windows along rows, whose elements lie `apart` from each other.
template <class Reduction, class Lane>
class LongRow {
 public:
  LongRow(std::int64_t kernel, std::int64_t apart) : steps_(window_steps<Reduction>(kernel)) {
    for (WindowStep& step : steps_) {
      if (step.add != WindowStep::kNone) {
        step.add *= apart;
        adds_ = true;
      }
      if (step.join != WindowStep::kNone) step.join *= apart;
    }
  }

  /// The windows that begin with each of `count` elements, whole vectors: in their place or in `sums`.
  HWY_NOINLINE const Lane* reduce(std::int64_t count, Lane* row, Lane* sums) const {
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      const WindowStep& step = steps_[s];
      if (step.add > 0) {
        reduce_run(count, row, step, [&](auto d, std::int64_t i, auto) CENOTE_VECTOR_LAMBDA {
          const auto sum = Reduction::combine(d, hn::Load(d, sums + i), hn::LoadU(d, row + i + step.add));
          hn::Store(sum, d, sums + i);
        });
      } else if (step.add == 0) {
        reduce_run(count, row, step, [&](auto d, std::int64_t i, auto run) CENOTE_VECTOR_LAMBDA {
          hn::Store(run, d, sums + i);
        });
      } else if (s + 1 < steps_.size() && steps_[s + 1].add == WindowStep::kNone) {
        join_twice(count, row, step.join, steps_[s + 1].join);
        ++s;
      } else {
        reduce_run(count, row, step, [](auto, std::int64_t, auto) CENOTE_VECTOR_LAMBDA {});
      }
    }
    return adds_ ? sums : row;
  }

 private:
  template <class Visit>
  static HWY_INLINE void reduce_run(std::int64_t count, Lane* row, const WindowStep& step,
                                    const Visit& visit) {
    const WideTag<Lane> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    if (step.join == WindowStep::kNone) {
      for (std::int64_t i = 0; i < count; i += lanes) visit(d, i, hn::Load(d, row + i));
      return;
    }
    for (std::int64_t i = 0; i < count; i += lanes) {
      const auto run = hn::Load(d, row + i);
      visit(d, i, run);
      hn::Store(Reduction::combine(d, run, hn::LoadU(d, row + i + step.join)), d, row + i);
    }
  }
  static HWY_INLINE void join_twice(std::int64_t count, Lane* row, std::int64_t first, std::int64_t second) {
    const WideTag<Lane> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    for (std::int64_t i = 0; i < count; i += lanes) {
      const auto near = Reduction::combine(d, hn::Load(d, row + i), hn::LoadU(d, row + i + first));
      const auto far =
          Reduction::combine(d, hn::LoadU(d, row + i + second), hn::LoadU(d, row + i + second + first));
      hn::Store(Reduction::combine(d, near, far), d, row + i);
    }
  }

  std::vector<WindowStep> steps_;
  bool adds_ = false;
};

/// Windows along rows whose elements lie at least a vector apart, pixels say: each is the end of one block of
/// as many elements as the kernel has and the beginning of the next. 3 steps a vector, whatever the kernel.
template <class Reduction, class Lane>
class ApartWindows {
 public:
  ApartWindows(std::int64_t kernel, std::int64_t apart) : kernel_(kernel), apart_(apart) {}

  /// Whether they serve, and pay: windows of 4 are made of runs in as few steps.
  bool serve() const { return kernel_ > 4 && apart_ >= lanes_of<Lane>(); }
  /// emit(d, m, vector) gets the windows that begin with elements m < outs.
  template <class Emit>
  HWY_NOINLINE void reduce(const Lane* row, std::int64_t outs, const Emit& emit) {
    constexpr int kVectors = 4;  // each waits for its own steps
    const std::int64_t lanes = lanes_of<Lane>();
    Lane* const ends = ends_.resize(static_cast<std::size_t>(kernel_ * kVectors * lanes));
    std::int64_t i = 0;
    for (; i + kVectors * lanes <= apart_; i += kVectors * lanes)
      reduce_some<kVectors>(row, i, outs, ends, emit);
    for (; i + lanes <= apart_; i += lanes) reduce_some<1>(row, i, outs, ends, emit);
    if (i < apart_) reduce_some<1>(row, apart_ - lanes, outs, ends, emit);  // some again
  }

 private:
  using D = WideTag<Lane>;
  using V = VecOf<D>;

  template <int kVectors, class Emit>
  HWY_INLINE void reduce_some(const Lane* row, std::int64_t first, std::int64_t outs, Lane* ends,
                              const Emit& emit) const {
    const D d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const std::int64_t count = ceil_divide(outs - first, apart_);
    for (std::int64_t begin = 0; begin < count; begin += kernel_) {
      const Lane* const block = row + first + begin * apart_;
      const auto load = [&](std::int64_t element, int v) CENOTE_VECTOR_LAMBDA {
        return hn::LoadU(d, block + element * apart_ + v * lanes);
      };
      const auto end_at = [&](std::int64_t element, int v)
                              CENOTE_VECTOR_LAMBDA { return ends + (element * kVectors + v) * lanes; };
      const auto emit_at = [&](std::int64_t element, int v, V window) CENOTE_VECTOR_LAMBDA {
        const std::int64_t m = first + (begin + element) * apart_ + v * lanes;
        if (m < outs) emit(d, m, window);  // the last windows of a dilated kernel may be fewer than `apart_`
      };
      V run[kVectors];
      for (int v = 0; v < kVectors; ++v) run[v] = load(kernel_ - 1, v);
      for (std::int64_t i = kernel_ - 2; i >= 0; --i) {
        for (int v = 0; v < kVectors; ++v) {
          hn::Store(run[v], d, end_at(i + 1, v));
          run[v] = Reduction::combine(d, load(i, v), run[v]);
        }
      }
      for (int v = 0; v < kVectors; ++v) emit_at(0, v, run[v]);
      const std::int64_t outs_of_block = std::min(kernel_, count - begin);
      for (std::int64_t i = 1; i < outs_of_block; ++i) {
        for (int v = 0; v < kVectors; ++v) {
          const V next = load(kernel_ + i - 1, v);
          run[v] = i == 1 ? next : Reduction::combine(d, run[v], next);
          emit_at(i, v, Reduction::combine(d, hn::Load(d, end_at(i, v)), run[v]));
        }
      }
    }
  }

  std::int64_t kernel_;
  std::int64_t apart_;
  Scratch<Lane> ends_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
