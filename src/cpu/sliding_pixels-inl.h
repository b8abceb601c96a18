// Channels-last windows of 2 or 3 columns and stride 1 or 2: the rows of a window are reduced for each pixel
// once, and the windows of a row slide along these pixels in registers, some vectors of channels at a time.
// Nothing is stored but the output.
#if defined(CENOTE_CPU_SLIDING_PIXELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SLIDING_PIXELS_INL_H_
#undef CENOTE_CPU_SLIDING_PIXELS_INL_H_
#else
#define CENOTE_CPU_SLIDING_PIXELS_INL_H_
#endif

#include <cstdint>
#include <vector>

#include "cpu/channels_last-inl.h"
#include "cpu/scatter-inl.h"
#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Outputs of a row, their channels from `c` on: kVectors vectors. finish(ow) says what becomes of a vector
/// of output ow. kRows is the number of input rows, or 0 for any. False where a NaN got lost, or perhaps.
template <class Reduction, int kStride, int kTaps, int kRows, int kVectors, class T, class Finish>
HWY_NOINLINE bool SlideAlong(const InputRows<T>& rows, const Axis& w, const Range& outs, std::int64_t step,
                             std::int64_t c, T* to, std::int64_t to_step, const Finish& finish) {
  constexpr int kShared = kTaps - kStride;  // columns that neighbouring windows have both
  constexpr std::int64_t kAhead = 4096 / static_cast<std::int64_t>(sizeof(T));
  const WideTag<T> d;
  using V = VecOf<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t count = kRows > 0 ? kRows : rows.count();
  // Where what the next output row reads lies: that row, where it is one, or the end of this one and what
  // follows.
  const std::int64_t ahead = kStride > 1 || count < 2 ? kAhead : rows.row(count - 1) - rows.row(count - 2);
  V columns[kTaps][kVectors];
  V seen[kVectors];  // the sum of all elements
  for (int v = 0; v < kVectors; ++v) seen[v] = hn::Zero(d);
  const auto reduce = [&](std::int64_t position, V* column) CENOTE_VECTOR_LAMBDA {
    if (position < 0 || position >= w.in() || count == 0) {
      for (int v = 0; v < kVectors; ++v) column[v] = hn::Set(d, Reduction::template identity<LaneOf<T>>());
      return;
    }
    const std::int64_t offset = position * step + c;
    const auto load = [&](std::int64_t row, int v) CENOTE_VECTOR_LAMBDA {
      const T* const from = rows.row(row) + offset + v * lanes;
      if (row + kStride >= count) hwy::Prefetch(from + ahead);
      const V elements = LoadVector(d, from);
      if constexpr (Reduction::kLosesNaN) seen[v] = hn::Add(seen[v], elements);
      return elements;
    };
    for (int v = 0; v < kVectors; ++v) column[v] = load(0, v);
    for (std::int64_t row = 1; row < count; ++row) {
      for (int v = 0; v < kVectors; ++v) column[v] = Reduction::combine(d, column[v], load(row, v));
    }
  };
  std::int64_t position = w.start(outs.begin);
  to += outs.begin * to_step;
  for (int tap = 0; tap < kShared; ++tap) reduce(position + tap, columns[tap]);
  for (std::int64_t ow = outs.begin; ow < outs.end; ++ow, position += kStride, to += to_step) {
    for (int tap = kShared; tap < kTaps; ++tap) reduce(position + tap, columns[tap]);
    const auto finish_vector = finish(ow);
    for (int v = 0; v < kVectors; ++v) {
      V window = Reduction::combine(d, columns[0][v], columns[1][v]);
      if constexpr (kTaps == 3) window = Reduction::combine(d, window, columns[2][v]);
      prefetch_for_write(to + c + v * lanes + kAhead);
      StoreVector(d, finish_vector(d, window), to + c + v * lanes);
      for (int tap = 0; tap < kShared; ++tap) columns[tap][v] = columns[tap + kStride][v];
    }
  }
  if constexpr (Reduction::kLosesNaN) {
    for (int v = 1; v < kVectors; ++v) seen[0] = hn::Add(seen[0], seen[v]);
    return hn::AllFalse(d, hn::IsNaN(seen[0]));
  }
  return true;
}

/// The same, whatever the number of rows, with the exact reduction where the faster one does not do.
template <class Reduction, int kStride, int kTaps, int kVectors, class T, class... Arguments>
void SlideExactly(const InputRows<T>& rows, const Arguments&... arguments) {
  using Fast =
      std::conditional_t<std::is_integral_v<LaneOf<T>>, Reduction, typename FirstTry<Reduction>::Type>;
  const bool right = rows.count() == kTaps
                         ? SlideAlong<Fast, kStride, kTaps, kTaps, kVectors>(rows, arguments...)
                         : SlideAlong<Fast, kStride, kTaps, 0, kVectors>(rows, arguments...);
  if (!right) SlideAlong<Reduction, kStride, kTaps, 0, kVectors>(rows, arguments...);
}

/// Whether ForEachSlidingRow serves these windows. Channels fill a vector, and no sum is one of blocks. Max
/// 3x3, AVX-512, one thread, against one pixel after the other: [1, 64, 28, 28] f32 with stride 1 71 and 26
/// us, with stride 2 27 and 12 us.
template <class T>
bool slides_pixels(const Axes& axes, std::int64_t channels) {
  const Axis& w = axes[2];
  const bool short_columns = (w.kernel() == 2 || w.kernel() == 3) && w.stride() <= 2 && w.dilation() == 1;
  const auto taps = static_cast<Wide>(axes[0].kernel()) * axes[1].kernel() * w.kernel();
  return short_columns && taps <= kSumBlock && channels >= lanes_of<T>();
}

/// Output rows in parallel; finish(state, at) gives the finish of a row. make_state() is called per thread.
template <class Reduction, class T, class MakeState, class Finish>
void ForEachSlidingRow(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const MakeState& make_state,
                       const Finish& finish) {
  const Axis& w = axes[2];
  const std::int64_t channels = x.size[1];
  const auto lanes = lanes_of<T>();
  // Few enough for the registers. Avg 3x3 stride 2 of [32, 64, 112, 112] f32, AVX2, one thread: 13.9 ms with
  // 2, 13.0 ms with 4.
  constexpr int kVectors = 4;
  // Blocks of channels take turns after some pixels, so that memory is met nearly in order: [96, 192, 28, 28]
  // f32 max 3x3, AVX-512, two threads: 10.0 ms row by row, 8.5 ms by 8 pixels, 10.2 ms by 16.
  constexpr std::int64_t kPixels = 8;
  const std::int64_t per_tile = channels <= kVectors * lanes ? w.out() : kPixels;
  const Cursor::Index units{y.size[0], y.size[2], y.size[3], 1, 1};
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * w.in() * channels;
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    auto state = make_state();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      rows.collect(x, plane_of<const T>(x, at[0], 0), axes, at[1], at[2]);
      T* const to = row_of<T>(y, at[0], 0, at[1], at[2]);
      const auto of_row = finish(state, at);
      Range outs;
      const auto slide = [&]<int kSome>(std::int64_t c) HWY_ATTR {
        const auto along = [&]<int kStride, int kTaps>() HWY_ATTR {
          SlideExactly<Reduction, kStride, kTaps, kSome>(rows, w, outs, x.stride[4], c, to, y.stride[4],
                                                         of_row);
        };
        if (w.kernel() == 2)
          return w.stride() == 2 ? along.template operator()<2, 2>() : along.template operator()<1, 2>();
        return w.stride() == 2 ? along.template operator()<2, 3>() : along.template operator()<1, 3>();
      };
      for (outs.begin = 0; outs.begin < w.out(); outs.begin = outs.end) {
        outs.end = std::min(outs.begin + per_tile, w.out());
        std::int64_t c = 0;
        for (; c + kVectors * lanes <= channels; c += kVectors * lanes)
          slide.template operator()<kVectors>(c);
        for (; c + lanes <= channels; c += lanes) slide.template operator()<1>(c);
        if (c < channels) slide.template operator()<1>(channels - lanes);  // some of them again
      }
    }
  });
}

template <class T>
void SlidingMax(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  const auto finish = [](NoState&, const Cursor&) {
    return [](std::int64_t) { return [](auto, auto v) CENOTE_VECTOR_LAMBDA { return v; }; };
  };
  ForEachSlidingRow<MaxReduction, T>(x, y, axes, [] { return NoState{}; }, finish);
}

/// How a sum becomes an average: a product where the reciprocal is exact.
template <class T>
struct Division {
  bool exact_inverse;
  T value;

  explicit Division(std::int64_t divisor)
      : exact_inverse(power_of_two(static_cast<T>(divisor))),
        value(exact_inverse ? T{1} / static_cast<T>(divisor) : static_cast<T>(divisor)) {}
  template <class D>
  HWY_INLINE VecOf<D> operator()(D d, VecOf<D> sum) const {
    return exact_inverse ? hn::Mul(sum, hn::Set(d, value)) : hn::Div(sum, hn::Set(d, value));
  }
};

/// The divisor of output (od, oh, ow) is divisors.row(od, oh) * divisors.column(ow).
template <class T, class Divisors>
void SlidingAvg(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors) {
  struct RowDivisions {
    std::int64_t row = 0;
    std::vector<Division<LaneOf<T>>> of_columns;
  };
  const auto finish = [&](RowDivisions& divisions, const Cursor& at) {
    const std::int64_t row = divisors.row(at[1], at[2]);
    if (row != divisions.row) {
      divisions.row = row;
      divisions.of_columns.clear();
      for (std::int64_t ow = 0; ow < axes[2].out(); ++ow)
        divisions.of_columns.emplace_back(row * divisors.column(ow));
    }
    return [of_columns = divisions.of_columns.data()](std::int64_t ow) { return of_columns[ow]; };
  };
  ForEachSlidingRow<SumReduction, T>(x, y, axes, [] { return RowDivisions{}; }, finish);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
