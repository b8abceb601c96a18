// Pooling one output at a time, for windows that are wide, uneven or far apart: adaptive and global pooling,
// and sliding windows that no row buffer fits. Each window is a set of rows and a run of columns.
#if defined(CENOTE_CPU_SEGMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SEGMENTS_INL_H_
#undef CENOTE_CPU_SEGMENTS_INL_H_
#else
#define CENOTE_CPU_SEGMENTS_INL_H_
#endif

#include "cpu/planar-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// A run of `count` elements, `step` elements apart.
template <class T>
struct Run {
  const T* from;
  std::int64_t count;
  std::int64_t step;
};

/// Sums of blocks are joined in double.
template <class Reduction, class T>
using Total = std::conditional_t<std::is_same_v<Reduction, SumReduction>, double, T>;

struct Unchanged {
  template <class V>
  HWY_INLINE V operator()(V v) const {
    return v;
  }
};

/// Reduces of(v), v being vectors of neighbouring elements, kSumBlock vectors in four chains at a time. The
/// hardware's own prefetch stops at the end of a page; GAP of [32, 128, 28, 28] f32, two threads: 0.56 ms
/// without the one here, 0.32 ms with it.
template <class Reduction, class T, class Of = Unchanged>
HWY_NOINLINE Total<Reduction, T> ReduceContiguous(const T* from, std::int64_t count, const Of& of = {}) {
  const WideTag<T> d;
  const std::int64_t lanes = lanes_of<T>();
  const auto load = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA { return of(hn::LoadU(d, from + i)); };
  auto total = Reduction::template identity<Total<Reduction, T>>();
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kAhead = 4096 / static_cast<std::int64_t>(sizeof(T));
  std::int64_t i = 0;
  while (i + 4 * lanes <= count) {
    auto chain0 = load(i);
    auto chain1 = load(i + lanes);
    auto chain2 = load(i + 2 * lanes);
    auto chain3 = load(i + 3 * lanes);
    const std::int64_t end = std::min(count, i + 4 * kSumBlock * lanes);
    for (i += 4 * lanes; i + 4 * lanes <= end; i += 4 * lanes) {
      for (std::int64_t line = 0; line < 4 * lanes; line += kLine)
        prefetch_for_read(from + i + kAhead + line);
      chain0 = Reduction::combine(d, chain0, load(i));
      chain1 = Reduction::combine(d, chain1, load(i + lanes));
      chain2 = Reduction::combine(d, chain2, load(i + 2 * lanes));
      chain3 = Reduction::combine(d, chain3, load(i + 3 * lanes));
    }
    const auto pairs =
        Reduction::combine(d, Reduction::combine(d, chain0, chain1), Reduction::combine(d, chain2, chain3));
    total =
        Reduction::combine_scalar(total, static_cast<Total<Reduction, T>>(ReduceLanes<Reduction>(d, pairs)));
  }
  if (i == count) return total;
  const auto identity = hn::Set(d, Reduction::template identity<T>());
  auto rest = identity;
  for (; i + lanes <= count; i += lanes) rest = Reduction::combine(d, rest, load(i));
  if (i < count) {
    const auto left = static_cast<std::size_t>(count - i);
    const auto last = of(LoadPart(d, from + i, left));
    rest = Reduction::combine(d, rest, hn::IfThenElse(hn::FirstN(d, left), last, identity));
  }
  return Reduction::combine_scalar(total, static_cast<Total<Reduction, T>>(ReduceLanes<Reduction>(d, rest)));
}

/// Elements that are no neighbours are copied together, as many at a time.
constexpr std::int64_t kGathered = 256;

template <class T>
std::int64_t GatherRun(const Run<T>& run, std::int64_t begin, T* to) {
  const std::int64_t count = std::min(kGathered, run.count - begin);
  for (std::int64_t i = 0; i < count; ++i) to[i] = run.from[(begin + i) * run.step];
  return count;
}

template <class Reduction, class T>
Total<Reduction, T> ReduceRun(const Run<T>& run) {
  if (run.step == 1) return ReduceContiguous<Reduction>(run.from, run.count);
  HWY_ALIGN T gathered[kGathered];
  auto total = Reduction::template identity<Total<Reduction, T>>();
  for (std::int64_t begin = 0; begin < run.count; begin += kGathered) {
    const std::int64_t count = GatherRun(run, begin, gathered);
    total = Reduction::combine_scalar(total, ReduceContiguous<Reduction>(gathered, count));
  }
  return total;
}

/// First of neighbouring elements equal to `value` (or the last NaN, when it is NaN), else -1.
template <class T>
HWY_NOINLINE std::int64_t FindContiguous(const T* from, std::int64_t count, T value) {
  const WideTag<T> d;
  const std::int64_t lanes = lanes_of<T>();
  if (__builtin_isnan(value)) {
    std::int64_t end = count;
    while (end >= lanes && hn::AllFalse(d, hn::IsNaN(hn::LoadU(d, from + end - lanes)))) end -= lanes;
    while (end > 0 && !__builtin_isnan(from[end - 1])) --end;
    return end - 1;
  }
  std::int64_t i = 0;
  const auto wanted = hn::Set(d, value);
  while (i + lanes <= count && hn::AllFalse(d, hn::Eq(hn::LoadU(d, from + i), wanted))) i += lanes;
  while (i < count && from[i] != value) ++i;
  return i < count ? i : -1;
}

template <class T>
std::int64_t FindInRun(const Run<T>& run, T value) {
  if (run.step == 1) return FindContiguous(run.from, run.count, value);
  HWY_ALIGN T gathered[kGathered];
  const std::int64_t parts = ceil_divide(run.count, kGathered);
  for (std::int64_t k = 0; k < parts; ++k) {
    const std::int64_t begin = (__builtin_isnan(value) ? parts - 1 - k : k) * kGathered;
    const std::int64_t found = FindContiguous(gathered, GatherRun(run, begin, gathered), value);
    if (found >= 0) return begin + found;
  }
  return -1;
}

/// The window of output ow in every row.
template <class T>
Run<T> run_of(const T* row, const Taps& taps, std::int64_t dilation, std::int64_t stride) {
  return {row + taps.position * stride, taps.count, dilation * stride};
}

/// The reduction of a window.
template <class Reduction, class T>
Total<Reduction, T> ReduceWindow(const InputRows<T>& rows, const Taps& taps, std::int64_t dilation,
                                 std::int64_t stride) {
  auto total = Reduction::template identity<Total<Reduction, T>>();
  if (taps.count == 0) return total;
  for (std::int64_t i = 0; i < rows.count(); ++i) {
    total =
        Reduction::combine_scalar(total, ReduceRun<Reduction>(run_of(rows.row(i), taps, dilation, stride)));
  }
  return total;
}

/// The tap where the maximum `value` of a window is, or -1 for a window without elements.
template <class T>
std::int64_t FindInWindow(const InputRows<T>& rows, const Axis& w, const Taps& taps, std::int64_t stride,
                          T value) {
  const bool backwards = __builtin_isnan(value);  // the last NaN, but the first of everything else
  for (std::int64_t k = 0; k < rows.count(); ++k) {
    const std::int64_t i = backwards ? rows.count() - 1 - k : k;
    const std::int64_t found = FindInRun(run_of(rows.row(i), taps, w.dilation(), stride), value);
    if (found >= 0) return rows.tap(i) * w.kernel() + taps.first + found;
  }
  return -1;
}

/// Output rows in parallel; row(at, rows) pools one of them.
template <class T, class Row>
void ForEachOutputRow(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  const Cursor::Index units{y.size[0], y.size[1], y.size[2], y.size[3], 1};
  const std::int64_t outputs = y.size[2] * y.size[3];
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * x.size[2] * x.size[3] * x.size[4] /
                             std::max<std::int64_t>(outputs, 1);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      row(at, rows);
    }
  });
}

template <class T>
void SegmentMax(const ConstTensor5& x, const Tensor5& y, const Tensor5* indices, const Axes& axes) {
  const Axis& w = axes[2];
  constexpr auto kNone = std::numeric_limits<std::int64_t>::max();
  std::optional<RecordWriter> record;
  if (indices != nullptr) record.emplace(*indices, x.size, axes);
  ForEachOutputRow<T>(x, y, axes, [&](const Cursor& at, const InputRows<T>& rows) HWY_ATTR {
    T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]);
    for (std::int64_t ow = 0; ow < w.out(); ++ow) {
      const Taps taps = w.taps(ow);
      const T value = ReduceWindow<MaxReduction>(rows, taps, w.dilation(), x.stride[4]);
      to[ow * y.stride[4]] = value;
      if (!record) continue;
      const std::int64_t tap = FindInWindow(rows, w, taps, x.stride[4], value);
      const std::int64_t key = tap < 0 ? kNone : tap;
      record->store(&key, kNone, 1, at[0], at[1], at[2], at[3], ow);
    }
  });
}

/// divide(od, oh, ow) is the divisor of an output.
template <class T, class Divide>
void SegmentAvg(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divide& divide) {
  const Axis& w = axes[2];
  ForEachOutputRow<T>(x, y, axes, [&](const Cursor& at, const InputRows<T>& rows) HWY_ATTR {
    T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]);
    for (std::int64_t ow = 0; ow < w.out(); ++ow) {
      const double sum = ReduceWindow<SumReduction>(rows, w.taps(ow), w.dilation(), x.stride[4]);
      to[ow * y.stride[4]] = static_cast<T>(sum / static_cast<double>(divide(at[2], at[3], ow)));
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
