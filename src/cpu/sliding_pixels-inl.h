// Channels-last windows of 2 or 3 columns and stride 1 or 2: the rows of a window are reduced for each pixel
// once, and the windows of a row slide along these pixels, which stay in registers or, if the channels are
// many, in a buffer of few pixels.
#if defined(CENOTE_CPU_SLIDING_PIXELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SLIDING_PIXELS_INL_H_
#undef CENOTE_CPU_SLIDING_PIXELS_INL_H_
#else
#define CENOTE_CPU_SLIDING_PIXELS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "cpu/channels_last-inl.h"
#include "cpu/past_caches-inl.h"
#include "cpu/scatter-inl.h"
#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The sum of elements that are multiplied by the weights of their row and their column.
struct WeightedSum : SumReduction {};

/// Those of the rows of a plane, by their number in it, and of its columns.
template <class Lane>
struct PixelWeights {
  const Lane* of_rows = nullptr;
  const Lane* of_columns = nullptr;
};

/// Reduces pixels along the rows of windows. kRows is their number, or 0 for any.
template <class Reduction, int kStride, int kRows, class T>
class PixelColumns {
 public:
  using D = WideTag<T>;
  static constexpr bool kWeighs = std::is_same_v<Reduction, WeightedSum>;
  static constexpr std::int64_t kAhead = 4096 / static_cast<std::int64_t>(sizeof(T));
  static constexpr bool kFewRows = kRows == 2 || kRows == 3;  // mostly of one slice

  PixelColumns(const InputRows<T>& rows, const Axis& w, std::int64_t step,
               const PixelWeights<LaneOf<T>>& weights)
      : rows_(rows),
        weights_(weights),
        count_(kRows > 0 ? kRows : rows.count()),
        in_(count_ > 0 ? w.in() : 0),
        step_(step) {
    for (int i = 0; i < kRows; ++i) known_rows_[i] = rows.row(i);
    // Where what is read next lies: in the next row, where there is but one new row, else further on in this
    // one, and at its end in that which takes its place for the next output row: max 3x3 stride 2 of [96,
    // 192, 57, 57] f32, AVX-512, two threads, 5.4 and 4.9 ms.
    const std::int64_t pitch = count_ < 2 ? 0 : rows.row(count_ - 1) - rows.row(count_ - 2);
    ahead_ = kStride > 1 || count_ < 2 ? kAhead : pitch;
    beyond_ = kStride > 1 ? kAhead + (kStride - 1) * pitch : ahead_;
    end_ = in_ - kAhead / std::max<std::int64_t>(step, 1);
    if constexpr (!kFewRows) {
      // Of 3x3x3 stride 2 windows over [1, 32, 64, 64, 64] with the rows of all new slices 1.9 and 1.1 ms.
      const std::int64_t slice = rows.slice_rows();
      for (std::int64_t end = count_; end > count_ - rows.new_slices() * slice; end -= slice) {
        for (std::int64_t row = end - rows.new_rows(); row < end; ++row)
          asked_[asked_count_++] = static_cast<std::uint8_t>(row);
      }
    }
  }

  /// The pixels of the rows at a position.
  struct Pixels {
    std::int64_t offset;
    VecOf<D> weights[kWeighs ? std::max(kRows, 1) : 1];  // of each of the rows, where they are known
    LaneOf<T> column_weight;
  };
  HWY_INLINE Pixels at(std::int64_t position) const {
    Pixels pixels;
    pixels.offset = offset(position);
    if constexpr (kWeighs) {
      pixels.column_weight = has(position) ? weights_.of_columns[position] : 0;
      for (int i = 0; i < kRows; ++i) pixels.weights[i] = weight(pixels, i);
    }
    return pixels;
  }
  /// A vector of their channels, from `c` on. `seen` sums up the elements, where a NaN may get lost.
  HWY_INLINE VecOf<D> reduce(const Pixels& pixels, std::int64_t c, [[maybe_unused]] VecOf<D>& seen) const {
    const D d;
    const auto load = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
      const auto elements = LoadVector(d, row(i) + (pixels.offset + c));
      if constexpr (Reduction::kLosesNaN) seen = hn::Add(seen, elements);
      if constexpr (kWeighs) return hn::Mul(elements, kRows > 0 ? pixels.weights[i] : weight(pixels, i));
      return elements;
    };
    const std::int64_t count = kRows > 0 ? kRows : count_;
    auto column = load(0);
    for (std::int64_t i = 1; i < count; ++i) column = Reduction::combine(d, column, load(i));
    return column;
  }
  /// Asks for channels c .. c + count - 1 of what will be read some time after the pixels at a position.
  HWY_INLINE void ask_ahead(std::int64_t position, std::int64_t c, std::int64_t count) const {
    const std::int64_t at = offset(position) + c + (position < end_ ? ahead_ : beyond_);
    const auto ask = [&](const T* from) CENOTE_VECTOR_LAMBDA {
      for (std::int64_t i = 0; i < count; i += kLine) prefetch_for_read(from + at + i);
    };
    if constexpr (kFewRows) {
      for (int i = std::max(kRows - kStride, 0); i < kRows; ++i) ask(row(i));
    } else {
      for (std::int64_t i = 0; i < asked_count_; ++i) ask(row(asked_[i]));
    }
  }

  /// Whether there is an element at this position of a row.
  HWY_INLINE bool has(std::int64_t position) const { return position >= 0 && position < in_; }

 private:
  static constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));

  HWY_INLINE std::int64_t offset(std::int64_t position) const { return position * step_; }
  HWY_INLINE VecOf<D> weight(const Pixels& pixels, std::int64_t i) const {
    return hn::Set(D(), pixels.column_weight * weights_.of_rows[rows_.line(i)]);
  }
  HWY_INLINE const T* row(std::int64_t i) const { return kRows > 0 ? known_rows_[i] : rows_.row(i); }

  const InputRows<T>& rows_;
  PixelWeights<LaneOf<T>> weights_;
  const T* known_rows_[std::max(kRows, 1)];
  std::int64_t count_;
  std::int64_t in_;
  std::int64_t step_;
  std::int64_t ahead_;
  std::int64_t beyond_;
  std::int64_t end_;
  std::uint8_t asked_[kSumBlock];  // the rows with which what is read after them is asked for,
  std::int64_t asked_count_ = 0;   // where they are not few
};

/// Where the outputs of a row go, pixels `step` apart, whether what comes next is asked for, and the weights
/// of what is reduced.
template <class T>
struct PixelRow {
  T* data;
  std::int64_t step;
  bool asks;
  PixelWeights<LaneOf<T>> weights;
};

/// Outputs of a row, kVectors vectors of their channels, `apart` channels apart, from `c` on. finish(ow) says
/// what becomes of a vector of output ow. False where a NaN got lost, or perhaps.
template <class Reduction, int kStride, int kTaps, int kRows, int kVectors, class T, class Finish>
HWY_NOINLINE bool SlideAlong(const InputRows<T>& rows, const Axis& w, std::int64_t step, std::int64_t c,
                             std::int64_t apart, const VectorStores& stores, const PixelRow<T>& out,
                             const Finish& finish) {
  constexpr int kShared = kTaps - kStride;  // columns that neighbouring windows have both
  const WideTag<T> d;
  using V = VecOf<decltype(d)>;
  using Columns = PixelColumns<Reduction, kStride, kRows, T>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const Columns pixels(rows, w, step, out.weights);
  const bool asks = out.asks;
  V columns[kTaps][kVectors];
  V seen[kVectors];
  Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA { seen[v] = hn::Zero(d); });
  const auto reduce = [&](std::int64_t position, V(&column)[kVectors]) CENOTE_VECTOR_LAMBDA {
    if (!pixels.has(position)) {
      Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
        column[v] = hn::Set(d, Reduction::template identity<LaneOf<T>>());
      });
      return;
    }
    if (asks) pixels.ask_ahead(position, c, (kVectors - 1) * apart + lanes);
    const auto at = pixels.at(position);
    Unrolled<kVectors>([&](auto v)
                           CENOTE_VECTOR_LAMBDA { column[v] = pixels.reduce(at, c + v * apart, seen[v]); });
  };
  T* to = out.data;
  std::int64_t position = w.start(0);
  Unrolled<kShared>([&](auto tap) CENOTE_VECTOR_LAMBDA { reduce(position + tap, columns[tap]); });
  for (std::int64_t ow = 0; ow < w.out(); ++ow, position += kStride, to += out.step) {
    Unrolled<kStride>([&](auto i)
                          CENOTE_VECTOR_LAMBDA { reduce(position + kShared + i, columns[kShared + i]); });
    const auto finish_vector = finish(ow);
    Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
      V window = Reduction::combine(d, columns[0][v], columns[1][v]);
      if constexpr (kTaps == 3) window = Reduction::combine(d, window, columns[2][v]);
      if (asks && !stores.past()) prefetch_for_write(to + c + v * apart + Columns::kAhead);
      stores.store(d, finish_vector(d, window), to + c + v * apart);
      Unrolled<kShared>([&](auto tap) CENOTE_VECTOR_LAMBDA { columns[tap][v] = columns[tap + kStride][v]; });
    });
  }
  if constexpr (Reduction::kLosesNaN) {
    V all = hn::Zero(d);
    Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA { all = hn::Add(all, seen[v]); });
    return hn::AllFalse(d, hn::IsNaN(all));
  }
  return true;
}

/// The same of all channels, which are met in the order of memory. `memory` is for three pixels: what
/// neighbouring windows share, and the column that comes to it.
template <class Reduction, int kStride, int kTaps, int kRows, class T, class Finish>
HWY_NOINLINE bool SlidePixels(const InputRows<T>& rows, const Axis& w, std::int64_t step,
                              std::int64_t channels, LaneOf<T>* memory, const VectorStores& stores,
                              const PixelRow<T>& out, const Finish& finish) {
  constexpr int kShared = kTaps - kStride;
  constexpr int kVectors = 4;
  const WideTag<T> d;
  using V = VecOf<decltype(d)>;
  using Columns = PixelColumns<Reduction, kStride, kRows, T>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto identity = hn::Set(d, Reduction::template identity<LaneOf<T>>());
  const Columns pixels(rows, w, step, out.weights);
  const bool asks = out.asks;
  V seen[kVectors];
  Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA { seen[v] = hn::Zero(d); });
  // visit(c, seen) for each vector, ask(c, count) before it; the last one may take some channels again.
  const auto each_vector = [&](const auto& ask, const auto& visit) CENOTE_VECTOR_LAMBDA {
    std::int64_t c = 0;
    for (; c + kVectors * lanes <= channels; c += kVectors * lanes) {
      if (asks) ask(c, kVectors * lanes);
      Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA { visit(c + v * lanes, seen[v]); });
    }
    for (; c + lanes <= channels; c += lanes) {
      if (asks) ask(c, lanes);
      visit(c, seen[0]);
    }
    if (c < channels) visit(channels - lanes, seen[0]);
  };
  LaneOf<T>* kept[3] = {memory, memory + channels, memory + 2 * channels};
  std::int64_t position = w.start(0);
  for (int tap = 0; tap < kShared; ++tap) {
    const bool has = pixels.has(position + tap);
    const auto at = pixels.at(position + tap);
    const auto ask = [&](std::int64_t c, std::int64_t count) CENOTE_VECTOR_LAMBDA {
      if (has) pixels.ask_ahead(position + tap, c, count);
    };
    each_vector(ask, [&](std::int64_t c, V& sum) CENOTE_VECTOR_LAMBDA {
      hn::StoreU(has ? pixels.reduce(at, c, sum) : identity, d, kept[tap] + c);
    });
  }
  T* to = out.data;
  for (std::int64_t ow = 0; ow < w.out(); ++ow, position += kStride, to += out.step) {
    const auto finish_vector = finish(ow);
    const auto slide = [&]<bool kWhole>() CENOTE_VECTOR_LAMBDA {
      typename Columns::Pixels at[kStride];
      bool has[kStride];
      for (int i = 0; i < kStride; ++i) {
        has[i] = kWhole || pixels.has(position + kShared + i);
        at[i] = pixels.at(position + kShared + i);
      }
      const auto ask = [&](std::int64_t c, std::int64_t count) CENOTE_VECTOR_LAMBDA {
        for (int i = 0; i < kStride; ++i) {
          if (has[i]) pixels.ask_ahead(position + kShared + i, c, count);
        }
        if (stores.past()) return;
        constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
        for (std::int64_t i = 0; i < count; i += kLine) prefetch_for_write(to + c + i + Columns::kAhead);
      };
      LaneOf<T>* const kept_now[3] = {kept[0], kept[1], kept[2]};
      each_vector(ask, [&](std::int64_t c, V& sum) CENOTE_VECTOR_LAMBDA {
        V columns[kTaps];
        Unrolled<kShared>([&](auto tap)
                              CENOTE_VECTOR_LAMBDA { columns[tap] = hn::LoadU(d, kept_now[tap] + c); });
        Unrolled<kStride>([&](auto i) CENOTE_VECTOR_LAMBDA {
          columns[kShared + i] = has[i] ? pixels.reduce(at[i], c, sum) : identity;
        });
        V window = Reduction::combine(d, columns[0], columns[1]);
        if constexpr (kTaps == 3) window = Reduction::combine(d, window, columns[2]);
        if constexpr (kShared > 0) hn::StoreU(columns[kTaps - 1], d, kept_now[2] + c);
        stores.store(d, finish_vector(d, window), to + c);
      });
    };
    if (pixels.has(position + kShared) && pixels.has(position + kTaps - 1)) {
      slide.template operator()<true>();
    } else {
      slide.template operator()<false>();
    }
    if constexpr (kShared == 2) std::swap(kept[0], kept[1]);
    if constexpr (kShared > 0) std::swap(kept[kShared - 1], kept[2]);
  }
  if constexpr (Reduction::kLosesNaN) {
    V all = hn::Zero(d);
    Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA { all = hn::Add(all, seen[v]); });
    return hn::AllFalse(d, hn::IsNaN(all));
  }
  return true;
}

/// along<reduction, stride, taps, rows>(), whatever the number of rows, and again with the exact reduction
/// where the faster one does not do.
template <class Reduction, int kStride, int kTaps, class T, class Along>
HWY_INLINE void SlideExactly(const InputRows<T>& rows, const Along& along) {
  using Fast = FirstTry<Reduction, LaneOf<T>>;
  const auto once = [&]() HWY_ATTR {
    if (rows.count() == kTaps) return along.template operator()<Fast, kStride, kTaps, kTaps>();
    if constexpr (kTaps == 2) {  // of windows over slices
      if (rows.count() == 4) return along.template operator()<Fast, kStride, kTaps, 4>();
    }
    return along.template operator()<Fast, kStride, kTaps, 0>();
  };
  if (!once()) along.template operator()<Reduction, kStride, kTaps, 0>();
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
                       const Finish& finish, const PixelWeights<LaneOf<T>>& weights = {}) {
  const Axis& w = axes[2];
  const std::int64_t channels = x.size[1];
  const auto lanes = lanes_of<T>();
  // Channels that stay in registers along a row. Avg 3x3 stride 2 of [32, 64, 112, 112] f32, AVX2, one
  // thread: 13.9 ms with 2, 13.0 ms with 4. More of them would be met in pieces far from each other: max 3x3,
  // AVX-512, two threads, those of 8 pixels in turn and in the order of memory, stride 1 of [96, 2048, 8, 8]
  // f32 11.0 and 6.6 ms, [96, 288, 35, 35] 22.3 and 15.3 ms, stride 2 of [96, 768, 17, 17] 8.6 and 5.3 ms.
  constexpr int kVectors = 4;
  const Cursor::Index units{y.size[0], y.size[2], y.size[3], 1, 1};
  const std::int64_t elements = (w.in() * new_rows(axes[1]) + w.out()) * channels;
  const std::int64_t grain = row_grain(elements * static_cast<std::int64_t>(sizeof(T)), kFastGrainBytes);
  const bool past = stores_past_caches(x, y);
  constexpr std::int64_t kNear = 2 << 20;  // bytes in caches from which nothing need be asked for
  const bool asks = bytes_of(x, y) > kNear;
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const VectorStores stores(past, y, channels);
    InputRows<T> rows;
    Scratch<LaneOf<T>> memory;
    if (channels > kVectors * lanes) memory.resize(static_cast<std::size_t>(3 * channels));
    auto state = make_state();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      rows.collect(x, plane_of<const T>(x, at[0], 0), axes, at[1], at[2]);
      const PixelRow<T> out{row_of<T>(y, at[0], 0, at[1], at[2]), y.stride[4], asks, weights};
      const auto of_row = finish(state, at);
      const auto along = [&]<class Some, int kStride, int kTaps, int kRows>() HWY_ATTR {
        if (channels > kVectors * lanes) {
          return SlidePixels<Some, kStride, kTaps, kRows>(rows, w, x.stride[4], channels, memory.get(),
                                                          stores, out, of_row);
        }
        const auto slide = [&]<int kSome>(std::int64_t c, std::int64_t apart) HWY_ATTR {
          return SlideAlong<Some, kStride, kTaps, kRows, kSome>(rows, w, x.stride[4], c, apart, stores, out,
                                                                of_row);
        };
        if (channels == kVectors * lanes) return slide.template operator()<kVectors>(0, lanes);
        if (channels == lanes) return slide.template operator()<1>(0, lanes);
        // Two vectors at a time; the last ones take some channels again.
        bool right = true;
        for (std::int64_t c = 0; c < channels; c += 2 * lanes) {
          const std::int64_t first = std::min(c, channels - lanes);
          const std::int64_t apart = std::min(lanes, channels - lanes - first);
          const bool some = apart == 0 ? slide.template operator()<1>(first, 0)
                                       : slide.template operator()<2>(first, apart);
          right = some && right;
        }
        return right;
      };
      if (w.kernel() == 2) {
        if (w.stride() == 2) {
          SlideExactly<Reduction, 2, 2>(rows, along);
        } else {
          SlideExactly<Reduction, 1, 2>(rows, along);
        }
      } else if (w.stride() == 2) {
        SlideExactly<Reduction, 2, 3>(rows, along);
      } else {
        SlideExactly<Reduction, 1, 3>(rows, along);
      }
    }
  });
}

/// As they are.
inline auto unfinished_rows() {
  return [](NoState&, const Cursor&) {
    return [](std::int64_t) { return [](auto, auto v) CENOTE_VECTOR_LAMBDA { return v; }; };
  };
}

template <class T>
void SlidingMax(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  ForEachSlidingRow<MaxReduction, T>(x, y, axes, [] { return NoState{}; }, unfinished_rows());
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

/// The gradient of averages of stride 1 (readers_are_windows): windows over the outputs, which are weighted
/// by the inverses of their divisors. Xeon (Emerald Rapids), two threads, 3x3 f32, against quotients in
/// working memory: [96, 192, 35, 35] 10.9 and 6.7 ms, [96, 2048, 8, 8] 8.2 and 3.8 ms; one thread, in the
/// caches, [1, 64, 56, 56] 120 and 55 us.
template <class T, class Divisors>
void SlidingAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                        const Divisors& divisors) {
  using Lane = LaneOf<T>;
  const auto readers = [](const Axis& axis) {
    const std::int64_t padding = axis.dilated_kernel() - 1 - axis.padding();
    return Axis::window({axis.kernel(), 1, padding, 0, axis.dilation()}, axis.out(), axis.in());
  };
  Axes windows{readers(axes[0]), readers(axes[1]), readers(axes[2])};
  tabulate_row_taps(windows);
  std::vector<Lane> of_rows;
  std::vector<Lane> of_columns;
  const auto inverse = [](std::int64_t divisor) {
    return static_cast<Lane>(1 / static_cast<double>(divisor));
  };
  for (std::int64_t od = 0; od < axes[0].out(); ++od) {
    for (std::int64_t oh = 0; oh < axes[1].out(); ++oh) of_rows.push_back(inverse(divisors.row(od, oh)));
  }
  for (std::int64_t ow = 0; ow < axes[2].out(); ++ow) of_columns.push_back(inverse(divisors.column(ow)));
  ForEachSlidingRow<WeightedSum, T>(
      grad_y, grad_x, windows, [] { return NoState{}; }, unfinished_rows(),
      PixelWeights<Lane>{of_rows.data(), of_columns.data()});
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
