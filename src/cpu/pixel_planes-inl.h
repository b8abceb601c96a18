// Window pooling forward with stride 1 and the channels innermost, of windows larger than those that slide
// along pixels: of some channels each row of pixels is reduced along W in the nearest cache, and then rows of
// such are reduced along H.
#if defined(CENOTE_CPU_PIXEL_PLANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PIXEL_PLANES_INL_H_
#undef CENOTE_CPU_PIXEL_PLANES_INL_H_
#else
#define CENOTE_CPU_PIXEL_PLANES_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cenote/runtime.h"
#include "core/parallel.h"
#include "cpu/past_caches-inl.h"
#include "cpu/row_tiles-inl.h"
#include "cpu/rows-inl.h"
#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether there are loops for elements of T below.
template <class T>
constexpr bool kPoolsPixelPlanes =
    (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3) && std::is_same_v<LaneOf<T>, float> && sizeof(T) > 1;

/// Four windows along an axis whose begins lie a dilation apart share all taps but three at either end.
constexpr int kWindowsAtOnce = 4;
constexpr int kOwnTaps = kWindowsAtOnce - 1;

/// Whether the functions below serve these windows. Xeon (Emerald Rapids), f32, against flat rows, which pass
/// through the caches several times: from memory, two threads, max 5x5 of [32, 512, 13, 13] 1.8 and 1.3 ms,
/// 3x3 with dilation 2 of [32, 64, 56, 56] 3.2 and 2.1 ms, avg 13x13 of [4, 64, 56, 56] 0.53 and 0.37 ms; in
/// the caches, one thread, max 13x13 of [1, 64, 28, 28] 34 and 22 us, of [1, 16, 8, 8] 1.8 and 0.74 us.
template <class T>
bool pools_pixel_planes(const ConstTensor5& x, const Axes& axes) {
  constexpr std::int64_t kMostTaps = 24;  // along an axis; runs that double take fewer steps for more
  constexpr std::int64_t kMostBytes = 1 << 20;
  const auto& [d, h, w] = axes;
  const auto slides = [](const Axis& axis) {
    return axis.stride() == 1 && axis.kernel() >= kOwnTaps && axis.kernel() <= kMostTaps;
  };
  const std::int64_t rows = (h.kernel() + kOwnTaps) * h.dilation();
  const std::int64_t row_bytes = w.out() * 2 * static_cast<std::int64_t>(HWY_MAX_BYTES);
  return d.kernel() == 1 && d.stride() == 1 && d.padding() == 0 && slides(h) && slides(w) &&
         w.dilated_kernel() <= kTilePositions && rows * row_bytes <= kMostBytes && x.size[1] >= lanes_of<T>();
}

/// As WindowsAsTheyAre.
struct PixelsAsTheyAre {
  template <class D>
  HWY_INLINE VecOf<D> operator()(D, VecOf<D> v, std::int64_t, std::int64_t) const {
    return v;
  }
};

/// As DividedWindows, in one loop for both, as few outputs are divided beside the taps that are read.
template <class Lane>
struct DividedPixels {
  DivisorTables<Lane> by;

  template <class D>
  HWY_INLINE VecOf<D> operator()(D d, VecOf<D> sum, std::int64_t line, std::int64_t column) const {
    const VecOf<D> factor =
        hn::Set(d, by.rows[static_cast<std::size_t>(line)] * by.columns[static_cast<std::size_t>(column)]);
    return by.inverses ? hn::Mul(sum, factor) : hn::Div(sum, factor);
  }
};

/// Some channels of an image, up to kVectors vectors of them, by lines of outputs.
template <class Reduction, class T, int kVectors, class Finish>
class PixelPlanes {
 public:
  using Lane = LaneOf<T>;

  PixelPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, std::int64_t most_channels,
              const Finish& finish, bool past)
      : h_(axes[1]), w_(axes[2]), x_(x), y_(y), finish_(finish), stores_(past, y, y.size[1]) {
    const Lane identity = Reduction::template identity<Lane>();
    const std::int64_t blocks = ceil_divide(most_channels, kPixel);
    line_size_ = (w_.out() + (w_.kernel() + kOwnTaps) * w_.dilation()) * kPixel;
    lines_.resize(static_cast<std::size_t>(blocks * line_size_));
    std::fill_n(lines_.get(), blocks * line_size_, identity);
    kept_ = (h_.kernel() + kOwnTaps) * h_.dilation();
    pitch_ = w_.out() * kPixel + (w_.out() % 2 == 0 ? kLanes : 0);  // rows of one set of the cache are few
    rows_.resize(static_cast<std::size_t>((blocks * kept_ + 1) * pitch_));
    nothing_ = rows_.get() + blocks * kept_ * pitch_;
    std::fill_n(nothing_, pitch_, identity);
  }

  /// So many channels of some lines; `from` and `to` are the image's first elements of these channels.
  /// Returns whether all outputs are right.
  template <class Order>
  HWY_NOINLINE bool pool(const T* from, T* to, std::int64_t channels, const Range& lines) {
    const std::int64_t apart = h_.dilation();
    const std::int64_t blocks = ceil_divide(channels, kPixel);
    std::int64_t next = std::max<std::int64_t>(h_.start(lines.begin), 0);  // row to reduce
    bool right = true;
    for (std::int64_t begin = lines.begin; begin < lines.end; begin += kWindowsAtOnce * apart) {
      for (std::int64_t line = begin; line < std::min(lines.end, begin + apart); ++line) {
        const std::int64_t count =
            std::min<std::int64_t>(kWindowsAtOnce, ceil_divide(lines.end - line, apart));
        const std::int64_t end = h_.start(line + (count - 1) * apart) + h_.dilated_kernel();
        for (; next < std::min(end, h_.in()); ++next) {
          right = read_row<Order>(from + next * x_.stride[3], channels) && right;
          for (std::int64_t block = 0; block < blocks; ++block)
            reduce_row<Order>(lines_.get() + block * line_size_, row(block, next));
        }
        for (std::int64_t block = 0; block < blocks; ++block)
          pool_lines<Order>(line, count, block, to + block * kPixel,
                            std::min(channels - block * kPixel, kPixel));
      }
    }
    return right;
  }

 private:
  using D = WideTag<T>;
  using V = VecOf<D>;
  static constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  static constexpr std::int64_t kPixel = kVectors * kLanes;

  Lane* row(std::int64_t block, std::int64_t r) const {
    return rows_.get() + (block * kept_ + r % kept_) * pitch_;
  }

  /// A row of pixels into lines_. Returns whether there is no NaN, where that matters.
  template <class Order>
  HWY_INLINE bool read_row(const T* from, std::int64_t channels) {
    const D d;
    const std::int64_t step = x_.stride[4];
    const std::int64_t pixels = w_.in();
    Lane* into = lines_.get() + w_.padding() * kPixel;
    hn::Mask<D> nans = hn::FirstN(d, 0);
    for (std::int64_t i = 0; i < pixels; ++i, from += step, into += kPixel) {
      std::int64_t c = 0;
      Lane* to = into;
      for (; c + kPixel <= channels; c += kPixel, to += line_size_) {
        V pixel[kVectors];
        Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
          prefetch_for_read(from + c + v * kLanes + kReadAhead<T>);
          pixel[v] = LoadVector(d, from + c + v * kLanes);
          hn::Store(pixel[v], d, to + v * kLanes);
        });
        if constexpr (Order::kLosesNaN) nans = hn::Or(nans, EitherIsNaN(d, pixel[0], pixel[kVectors - 1]));
      }
      for (; c < channels; c += kLanes, to += kLanes) {
        const auto part = static_cast<std::size_t>(std::min(channels - c, kLanes));
        const V pixel = LoadPart(d, from + c, part);
        hn::Store(pixel, d, to);
        if constexpr (Order::kLosesNaN) nans = hn::Or(nans, hn::IsNaN(pixel));
      }
    }
    return hn::AllFalse(d, nans);
  }

  /// Along W.
  template <class Order>
  HWY_NOINLINE void reduce_row(const Lane* from, Lane* to) const {
    const D d;
    const std::int64_t outs = w_.out();
    const std::int64_t apart = w_.dilation();
    const std::int64_t shared_taps = w_.kernel() - kOwnTaps;
    const std::int64_t step = apart * kPixel;
    for (std::int64_t begin = 0; begin < outs; begin += kWindowsAtOnce * apart) {
      const std::int64_t end = std::min(outs, begin + apart);
      for (std::int64_t out = begin; out < end; ++out) {
        const Lane* const tap = from + out * kPixel;
        const auto own = [&](int i, std::int64_t v) CENOTE_VECTOR_LAMBDA {
          return hn::Load(d, tap + (i < kOwnTaps ? i : shared_taps + i) * step + v * kLanes);
        };
        V shared[kVectors];
        Unrolled<kVectors>(
            [&](auto v) CENOTE_VECTOR_LAMBDA { shared[v] = hn::Set(d, Order::template identity<Lane>()); });
        fold<Order>(tap + kOwnTaps * step, shared_taps, step, shared);
        Lane* const place = to + out * kPixel;
        finish_windows<Order>(shared, own, [&](auto i, auto v, V window) CENOTE_VECTOR_LAMBDA {
          if (i == 0 || out + i * apart < outs) hn::Store(window, d, place + i * step + v * kLanes);
        });
      }
    }
  }

  /// `count` lines from `line` on, a dilation apart.
  template <class Order>
  HWY_NOINLINE void pool_lines(std::int64_t line, std::int64_t count, std::int64_t block, T* to,
                               std::int64_t channels) const {
    const D d;
    const std::int64_t apart = h_.dilation();
    const std::int64_t step = apart * pitch_;
    const std::int64_t first = h_.start(line);
    const auto row_of_tap = [&](std::int64_t tap) -> const Lane* {
      const std::int64_t r = first + tap * apart;
      return r < 0 || r >= h_.in() ? nothing_ : row(block, r);
    };
    const Lane* own_rows[2 * kOwnTaps];
    for (int i = 0; i < kOwnTaps; ++i) {
      own_rows[i] = row_of_tap(i);
      own_rows[kOwnTaps + i] = row_of_tap(h_.kernel() + i);
    }
    // Of the shared rows those in the plane, which lie in turn: in one run, or in two.
    const auto taps_before = [&](std::int64_t r) {
      return std::clamp<std::int64_t>(ceil_divide(std::max<std::int64_t>(r - first, 0), apart), kOwnTaps,
                                      h_.kernel());
    };
    const std::int64_t begin = taps_before(0);
    const std::int64_t taps = taps_before(h_.in()) - begin;
    const Lane* const first_row = taps > 0 ? row_of_tap(begin) : nothing_;
    const std::int64_t run =
        std::clamp<std::int64_t>(ceil_divide(row(block, 0) + kept_ * pitch_ - first_row, step), 0, taps);
    const Lane* const second_row = taps > run ? row_of_tap(begin + run) : nothing_;
    const bool all = channels == kPixel;
    const std::int64_t outs = w_.out();
    const std::int64_t line_step = apart * y_.stride[3];
    const std::int64_t next_lines = kWindowsAtOnce * line_step;
    T* place = to + line * y_.stride[3];
    for (std::int64_t ow = 0, at = 0; ow < outs; ++ow, at += kPixel, place += y_.stride[4]) {
      const auto own = [&](int i, std::int64_t v)
                           CENOTE_VECTOR_LAMBDA { return hn::Load(d, own_rows[i] + at + v * kLanes); };
      Unrolled<kWindowsAtOnce>([&](auto i) CENOTE_VECTOR_LAMBDA {
        Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
          if (!stores_.past()) prefetch_for_write(place + next_lines + i * line_step + v * kLanes);
        });
      });
      V shared[kVectors];
      Unrolled<kVectors>(
          [&](auto v) CENOTE_VECTOR_LAMBDA { shared[v] = hn::Set(d, Order::template identity<Lane>()); });
      fold<Order>(first_row + at, run, step, shared);
      fold<Order>(second_row + at, taps - run, step, shared);
      finish_windows<Order>(shared, own, [&](auto i, auto v, V window) CENOTE_VECTOR_LAMBDA {
        if (i > 0 && i >= count) return;
        const V result = finish_(d, window, line + i * apart, ow);
        T* const into = place + i * line_step + v * kLanes;
        if (all) {
          stores_.store(d, result, into);
        } else {
          StorePart(d, result, into,
                    static_cast<std::size_t>(std::clamp<std::int64_t>(channels - v * kLanes, 0, kLanes)));
        }
      });
    }
  }

  template <class Order>
  static HWY_INLINE void fold(const Lane* tap, std::int64_t taps, std::int64_t step, V (&with)[kVectors]) {
    const D d;
    for (; taps > 0; --taps, tap += step) {
      Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
        with[v] = Order::combine(d, with[v], hn::Load(d, tap + v * kLanes));
      });
    }
  }

  /// The windows of taps own(0..2, v), the shared ones, own(3..5, v): emit(i, v, window).
  template <class Order, class Own, class Emit>
  static HWY_INLINE void finish_windows(const V (&shared)[kVectors], const Own& own, const Emit& emit) {
    const D d;
    Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
      const V after = own(3, v);
      const V two_after = Order::combine(d, after, own(4, v));
      const V one_before = Order::combine(d, own(2, v), shared[v]);
      const V two_before = Order::combine(d, own(1, v), one_before);
      emit(Number<0>(), v, Order::combine(d, own(0, v), two_before));
      emit(Number<1>(), v, Order::combine(d, two_before, after));
      emit(Number<2>(), v, Order::combine(d, one_before, two_after));
      emit(Number<3>(), v, Order::combine(d, Order::combine(d, shared[v], two_after), own(5, v)));
    });
  }
  template <int kValue>
  using Number = std::integral_constant<int, kValue>;

  const Axis& h_;
  const Axis& w_;
  const ConstTensor5& x_;
  const Tensor5& y_;
  const Finish& finish_;
  VectorStores stores_;
  Scratch<Lane> lines_;  // of each block of channels a row of pixels, and identities beside it
  std::int64_t line_size_;
  Scratch<Lane> rows_;  // and rows reduced along W, in turn
  std::int64_t kept_;   // how many
  std::int64_t pitch_;
  Lane* nothing_;  // a row of identities, after those
};

template <int kVectors, class Reduction, class T, class Finish>
void PoolPixelPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Finish& finish) {
  using Fast = FirstTry<Reduction, LaneOf<T>>;
  // Channels next to each other are read in the order of memory, as many as fit the next cache.
  constexpr std::int64_t kMostBytes = 512 << 10;
  const std::int64_t wanted_units = 2 * num_threads();
  const auto& [d, h, w] = axes;
  const std::int64_t channels_of_block = kVectors * lanes_of<T>();
  const std::int64_t all_blocks = ceil_divide(x.size[1], channels_of_block);
  const std::int64_t block_bytes = w.out() * channels_of_block * (h.kernel() + kOwnTaps) * h.dilation() *
                                   static_cast<std::int64_t>(sizeof(LaneOf<T>));
  const std::int64_t images = y.size[0] * y.size[2];
  const std::int64_t parts = std::clamp<std::int64_t>(
      std::max(ceil_divide(all_blocks * block_bytes, kMostBytes), ceil_divide(wanted_units, images)), 1,
      all_blocks);
  const std::int64_t channels_at_once = ceil_divide(all_blocks, parts) * channels_of_block;
  const std::int64_t blocks = ceil_divide(x.size[1], channels_at_once);
  // Bands of lines, where that is not enough; each reads a window of rows before its own. Which lines are
  // reduced together does not depend on them.
  const std::int64_t group = kWindowsAtOnce * h.dilation();
  const std::int64_t groups = ceil_divide(h.out(), group);
  const std::int64_t bands =
      std::clamp<std::int64_t>(ceil_divide(wanted_units, images * blocks), 1,
                               std::max<std::int64_t>(h.out() / (2 * h.dilated_kernel()), 1));
  const Cursor::Index units{y.size[0], y.size[2], blocks, bands, 1};
  const std::int64_t bytes = 4 * w.in() * h.in() * channels_at_once * static_cast<std::int64_t>(sizeof(T));
  const bool past = stores_past_caches(x, y);
  parallel_for(
      Cursor::total(units), row_grain(bytes / bands), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
        PixelPlanes<Reduction, T, kVectors, Finish> planes(x, y, axes, channels_at_once, finish, past);
        Cursor at(units, begin);
        for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
          const std::int64_t first = at[2] * channels_at_once;
          const std::int64_t channels = std::min(channels_at_once, x.size[1] - first);
          const Range lines{groups * at[3] / bands * group,
                            std::min(h.out(), groups * (at[3] + 1) / bands * group)};
          const T* const from = plane_of<const T>(x, at[0], first) + at[1] * x.stride[2];
          T* const to = plane_of<T>(y, at[0], first) + at[1] * y.stride[2];
          if (!planes.template pool<Fast>(from, to, channels, lines))
            planes.template pool<Reduction>(from, to, channels, lines);
        }
      });
}

template <class Reduction, class T, class Finish>
void PoolPixelPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Finish& finish) {
  // Pairs of vectors, unless much of the last pair would be idle.
  constexpr std::int64_t kManyVectors = 8;
  const std::int64_t vectors = ceil_divide(x.size[1], lanes_of<T>());
  if (vectors % 2 == 0 || vectors > kManyVectors) return PoolPixelPlanes<2, Reduction, T>(x, y, axes, finish);
  PoolPixelPlanes<1, Reduction, T>(x, y, axes, finish);
}

template <class T>
void MaxOfPixelPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  PoolPixelPlanes<MaxReduction, T>(x, y, axes, PixelsAsTheyAre());
}

template <class T, class Divisors>
void AvgOfPixelPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors) {
  const DividedPixels<LaneOf<T>> finish{tabulate_divisors<LaneOf<T>>(
      axes[1].out(), [&](std::int64_t i) { return divisors.row(0, i); }, axes[2].out(),
      [&](std::int64_t i) { return divisors.column(i); })};
  PoolPixelPlanes<SumReduction, T>(x, y, axes, finish);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
