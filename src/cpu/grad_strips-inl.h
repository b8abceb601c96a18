// Gradients of max, from compact taps, and of averages over dense planes with windows of 2x2 or 3x3 and
// stride 1 or 2, a strip of columns at a time: gradients are loaded once for all rows that they belong to,
// and the rows that the next line of outputs adds to stay in registers. Windows may cover slices, too, if no
// two of them read the same one.
#if defined(CENOTE_CPU_GRAD_STRIPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_GRAD_STRIPS_INL_H_
#undef CENOTE_CPU_GRAD_STRIPS_INL_H_
#else
#define CENOTE_CPU_GRAD_STRIPS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu/dense-inl.h"
#include "cpu/pixel_groups-inl.h"
#include "cpu/row_tiles-inl.h"
#include "cpu/tap_bits-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether there are such loops for elements of T.
template <class T>
constexpr bool kGathersStrips =
    (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2) && std::is_same_v<LaneOf<T>, float>;

/// Whether strips can be made of these planes and windows.
inline bool strips_of_windows(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes) {
  const auto& [d, h, w] = axes;
  const auto alike = [&](const Axis& axis) {
    return axis.kernel() == w.kernel() && axis.stride() == w.stride() && axis.dilation() == 1;
  };
  const bool slices_apart = d.kernel() == 1 || (d.dilation() == 1 && d.kernel() <= d.stride());
  return (w.kernel() == 2 || w.kernel() == 3) && w.stride() <= 2 && alike(h) && alike(w) && slices_apart &&
         dense_elements(grad_x) && dense_elements(grad_y);
}

/// Whether MaxBackwardOfStrips serves these windows; taps are u8. Xeon (Emerald Rapids), f32, against the
/// loops that otherwise do, 3x3 stride 2, two threads: [96, 192, 57, 57] 17.8 and 15.7 ms, [96, 480, 28,
/// 28] 10.7 and 7.9 ms, [256, 256, 13, 13] 3.6 and 3.2 ms, [8, 32, 640, 640] 18.6 and 30.2 ms; one thread, in
/// the caches, [1, 16, 57, 57] 17.2 and 10.3 us, [1, 128, 7, 7] 4.0 and 4.4 us, f16 [1, 128, 10, 10] 6.7
/// and 7.7 us. With AVX2 [96, 480, 28, 28] f32 14.2 and 9.8 ms, bf16 17.8 and 14.2 ms, in the caches [1, 16,
/// 28, 28] f32 8.0 and 5.1 us, [1, 16, 112, 112] 85.6 and 87.4 us.
template <class T>
bool gathers_strips(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                    const Axes& axes) {
  constexpr std::int64_t kFewestColumns = sizeof(T) == 4 ? 9 : 13;
  constexpr std::int64_t kMostColumns = kMasksAreBits ? 160 : 112;
  const Axis& w = axes[2];
  return w.in() >= kFewestColumns && w.in() <= kMostColumns && w.stride() == 2 && dense_elements(taps) &&
         strips_of_windows(grad_x, grad_y, axes);
}

/// Whether AvgBackwardOfStrips does. The same: 3x3 stride 2, two threads, [96, 192, 57, 57] 26.5 and 10.6 ms,
/// [8, 32, 640, 640] 41 and 21 ms; stride 1, [96, 192, 35, 35] 10.1 and 7.1 ms, [32, 512, 7, 7] 0.30 and 0.46
/// ms, [16, 32, 320, 320] 20 and 28 ms; 2x2 stride 2, [32, 64, 112, 112] 4.1 and 3.6 ms, [8, 32, 640,
/// 640] 12.6 and 19 ms; one thread, in the caches, 3x3 stride 2 of [1, 32, 56, 56] 48 and 18 us, stride 1 64
/// and 37 us. With AVX2 3x3 stride 2 of [96, 192, 57, 57] f32 39 and 15.5 ms, bf16 36 and 15.0 ms, stride 1
/// of [96, 192, 35, 35] f32 13.9 and 12.2 ms, of [96, 768, 17, 17] bf16 9.6 and 14.9 ms.
template <class T>
bool adds_strips(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes) {
  constexpr std::int64_t kFewestColumns = 9;
  const Axis& w = axes[2];
  if (w.stride() == 1 && !kMasksAccess<T>) return false;
  const std::int64_t most_columns = w.kernel() == 3 && w.stride() == 2 ? 2048 : kMasksAreBits ? 160 : 112;
  return w.in() >= kFewestColumns && w.in() <= most_columns && few_divisors(axes) &&
         strips_of_windows(grad_x, grad_y, axes);
}

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2

/// What the slices of grad_x have in common.
class StripPlanes {
 public:
  /// The slice of outputs that reads a slice, or -1, and which of its slices that is.
  struct Reader {
    std::int64_t slice = -1;
    std::int64_t tap = 0;
  };

  explicit StripPlanes(const Axes& axes)
      : rows(axes[1].in()),
        columns(axes[2].in()),
        padding(axes[1].padding()),
        lines(axes[1].out()),
        outs(axes[2].out()),
        slices_(axes[0].out()) {
    const Axis& d = axes[0];
    for (std::int64_t slice = 0; slice < d.in(); ++slice) {
      const std::int64_t position = slice + d.padding();
      const Reader reader{position / d.stride(), position % d.stride()};
      readers_.push_back(reader.slice < d.out() && reader.tap < d.kernel() ? reader : Reader());
    }
  }
  /// Of a slice, the planes' one after the other.
  const Reader& reader(std::int64_t slice) const {
    return readers_[static_cast<std::size_t>(slice % depth())];
  }
  /// Where the outputs are that read it.
  std::int64_t outputs(std::int64_t slice) const {
    return (slice / depth() * slices_ + reader(slice).slice) * lines * outs;
  }

  std::int64_t rows;
  std::int64_t columns;
  std::int64_t padding;  // of the rows
  std::int64_t lines;    // of outputs, in a slice
  std::int64_t outs;     // of a line

 private:
  std::int64_t depth() const { return static_cast<std::int64_t>(readers_.size()); }

  std::int64_t slices_;
  std::vector<Reader> readers_;
};

/// Some columns, and the outputs that read them.
template <int kOffsets>
struct GradStrip {
  std::int64_t column;
  std::int64_t output;             // of the first column through tap kShift
  std::uint16_t inside[kOffsets];  // which lanes of the outputs so many on there are
};

/// Whether vectors at all offsets from an output lie within the outputs.
template <class Reads, class T>
HWY_INLINE bool reads_whole_vectors(std::int64_t output, std::int64_t outputs) {
  return output + Reads::kLowest >= 0 &&
         output + Reads::kHighest + static_cast<std::int64_t>(kMaxLanes<T>) <= outputs;
}

/// The sums of kRows rows, each a vector for every phase.
template <int kStride, int kRows, class T>
using RowSums = VecOf<WideTag<T>>[kRows][kStride];

/// From the gradients of max and their taps.
template <int kStride, int kTaps, int kShift, class T>
class TappedLines {
 public:
  using Reads = PhaseTaps<kStride, kTaps, kShift>;
  using Strip = GradStrip<Reads::kHighest - Reads::kLowest + 1>;

  TappedLines(const ConstTensor5& grad_y, const ConstTensor5& taps)
      : grads_(static_cast<const T*>(grad_y.data)),
        taps_(static_cast<const std::uint8_t*>(taps.data)),
        outputs_(taps.size[0] * taps.size[1] * taps.size[2] * taps.size[3] * taps.size[4]) {}

  /// Those that a slice of grad_x gets.
  class OfSlice {
   public:
    OfSlice(const TappedLines& all, const StripPlanes& planes, std::int64_t slice, const Strip& strip)
        : strip_(strip),
          base_(planes.outputs(slice) + strip.output),
          grads_(all.grads_ + base_),
          taps_(all.taps_ + base_),
          outputs_(all.outputs_) {
      for (int i = 0; i < kOffsets; ++i) inside_[i] = LanesInside<T>(strip.inside[i]);
      const std::int64_t first_tap = planes.reader(slice).tap * kTaps * kTaps;
      Unrolled<kTaps * kTaps>([&](auto tap) CENOTE_VECTOR_LAMBDA {
        numbers_[tap] = hn::Set(DTap(), static_cast<Tap>(first_tap + tap));
      });
    }
    /// Adds line `line`, whose outputs begin at `at`, to the rows that it reads.
    HWY_INLINE void add(std::int64_t, std::int64_t at, RowSums<kStride, kTaps, T>& rows) const {
      const D d;
      VecOf<D> grads[kOffsets];
      VecOf<DTap> taps[kOffsets];
      const bool whole = kMasksAreBits || reads_whole_vectors<Reads, T>(base_ + at, outputs_);
      prefetch_for_read(grads_ + at + kReadAhead<T>);
      prefetch_for_read(taps_ + at + kReadAhead<T>);
      Unrolled<kOffsets>([&](auto i) CENOTE_VECTOR_LAMBDA {
        const std::int64_t place = at + Reads::kLowest + i;
        grads[i] =
            HWY_LIKELY(whole) ? inside_[i].load(grads_ + place) : inside_[i].load_alone(grads_ + place);
        taps[i] = load_taps(strip_.inside[i], taps_ + place, whole);
      });
      Unrolled<kTaps>([&](auto from_right) CENOTE_VECTOR_LAMBDA {  // in the order of the outputs
        constexpr int kTap = kTaps - 1 - from_right;
        Unrolled<kStride>([&](auto phase) CENOTE_VECTOR_LAMBDA {
          if constexpr (Reads::reads(phase, kTap)) {
            constexpr int kOffset = Reads::offset(phase, kTap) - Reads::kLowest;
            Unrolled<kTaps>([&](auto i) CENOTE_VECTOR_LAMBDA {
              const auto hit = hn::Eq(taps[kOffset], numbers_[i * kTaps + kTap]);
              VecOf<D>& sum = rows[i][phase];
#if HWY_TARGET == HWY_AVX3
              sum = hn::IfThenElse(MaskOfBits(d, hit.raw), hn::Add(sum, grads[kOffset]), sum);
#else
              sum = hn::Add(sum, hn::IfThenElseZero(hn::RebindMask(d, hit), grads[kOffset]));
#endif
            });
          }
        });
      });
    }

   private:
    using D = WideTag<T>;
    static constexpr int kOffsets = Reads::kHighest - Reads::kLowest + 1;
    // Where masks are bits, those of bytes serve the lanes of gradients.
    using Tap = std::conditional_t<kMasksAreBits, std::uint8_t, hn::TFromD<hn::RebindToSigned<D>>>;
    using DTap = hn::Rebind<Tap, D>;

    /// Of lanes that are not inside, some that gradients of 0 belong to, or none.
    HWY_INLINE VecOf<DTap> load_taps(std::uint64_t inside, const std::uint8_t* from,
                                     [[maybe_unused]] bool whole) const {
      const DTap d;
#if HWY_TARGET == HWY_AVX3
      constexpr Tap kNoTap = 255;
      const auto exists = MaskOfBits(d, inside);
      return hn::IfThenElse(exists, hn::MaskedLoad(exists, d, from), hn::Set(d, kNoTap));
#else
      if (HWY_LIKELY(whole)) return PromoteTaps(d, from);
      std::uint8_t some[kMaxLanes<T>] = {};
      for (std::size_t lane = 0; lane < kMaxLanes<T>; ++lane) {
        if ((inside >> lane & 1) != 0) some[lane] = from[lane];
      }
      return PromoteTaps(d, some);
#endif
    }

    const Strip& strip_;
    std::int64_t base_;
    const T* grads_;
    const std::uint8_t* taps_;
    std::int64_t outputs_;
    LanesInside<T> inside_[kOffsets];
    VecOf<DTap> numbers_[kTaps * kTaps];
  };

 private:
  const T* grads_;
  const std::uint8_t* taps_;
  std::int64_t outputs_;  // in all
};

/// From the gradients of averages: divisors.row(od, oh) * divisors.column(ow) divides those of an output.
template <int kStride, int kTaps, int kShift, class T, class Divisors>
class DividedLines {
 public:
  using Reads = PhaseTaps<kStride, kTaps, kShift>;
  using Strip = GradStrip<Reads::kHighest - Reads::kLowest + 1>;

  DividedLines(const ConstTensor5& grad_y, const Axes& axes, const Divisors& divisors)
      : grads_(static_cast<const T*>(grad_y.data)),
        outputs_(grad_y.size[0] * grad_y.size[1] * grad_y.size[2] * grad_y.size[3] * grad_y.size[4]) {
    InverseRows<LaneOf<T>> inverses;
    for (std::int64_t od = 0; od < axes[0].out(); ++od) {
      for (std::int64_t oh = 0; oh < axes[1].out(); ++oh) {
        const LaneOf<T>* const found = inverses.of_row(divisors, axes[2], od, oh);
        inverses_of_lines_.push_back(found);
      }
    }
    tables_ = std::move(inverses);  // whose rows stay where they are
  }

  class OfSlice {
   public:
    OfSlice(const DividedLines& all, const StripPlanes& planes, std::int64_t slice, const Strip& strip)
        : strip_(strip),
          base_(planes.outputs(slice) + strip.output),
          grads_(all.grads_ + base_),
          outputs_(all.outputs_),
          inverses_of_lines_(all.inverses_of_lines_.data() + planes.reader(slice).slice * planes.lines) {
      for (int i = 0; i < kOffsets; ++i) inside_[i] = LanesInside<T>(strip.inside[i]);
    }
    HWY_INLINE void add(std::int64_t line, std::int64_t at, RowSums<kStride, kTaps, T>& rows) {
      const D d;
      prefetch_for_read(grads_ + at + kReadAhead<T>);
      if (HWY_UNLIKELY(inverses_of_lines_[line] != inverses_)) {
        inverses_ = inverses_of_lines_[line];
        Unrolled<kOffsets>([&](auto i) CENOTE_VECTOR_LAMBDA {
          factors_[i] = hn::MaskedLoad(MaskOfBits(d, strip_.inside[i]), d,
                                       inverses_ + strip_.output + Reads::kLowest + i);
        });
      }
      const bool whole = !LanesInside<T>::kReadsAll || reads_whole_vectors<Reads, T>(base_ + at, outputs_);
      VecOf<D> quotients[kOffsets];
      Unrolled<kOffsets>([&](auto i) CENOTE_VECTOR_LAMBDA {
        const T* const from = grads_ + at + Reads::kLowest + i;
        quotients[i] =
            hn::Mul(HWY_LIKELY(whole) ? inside_[i].load(from) : inside_[i].load_alone(from), factors_[i]);
      });
      Unrolled<kStride>([&](auto phase) CENOTE_VECTOR_LAMBDA {
        VecOf<D> sum = hn::Zero(d);
        Unrolled<kTaps>([&](auto from_right) CENOTE_VECTOR_LAMBDA {
          constexpr int kTap = kTaps - 1 - from_right;
          if constexpr (Reads::reads(phase, kTap))
            sum = hn::Add(sum, quotients[Reads::offset(phase, kTap) - Reads::kLowest]);
        });
        Unrolled<kTaps>([&](auto i) CENOTE_VECTOR_LAMBDA { rows[i][phase] = hn::Add(rows[i][phase], sum); });
      });
    }

   private:
    using D = WideTag<T>;
    static constexpr int kOffsets = Reads::kHighest - Reads::kLowest + 1;

    const Strip& strip_;
    std::int64_t base_;
    const T* grads_;
    std::int64_t outputs_;
    const LaneOf<T>* const* inverses_of_lines_;
    const LaneOf<T>* inverses_ = nullptr;
    LanesInside<T> inside_[kOffsets];
    VecOf<D> factors_[kOffsets];
  };

 private:
  const T* grads_;
  std::int64_t outputs_;  // in all
  InverseRows<LaneOf<T>> tables_;
  std::vector<const LaneOf<T>*> inverses_of_lines_;  // of outputs, in all slices
};

/// The strips of rows of grad_x.
template <int kStride, int kTaps, int kShift, class T, class Lines>
class GradStrips {
 public:
  GradStrips(const Axes& axes, const Lines& lines) : planes_(axes), lines_(lines) {
    const Axis& w = axes[2];
    for (std::int64_t column = 0; column < w.in(); column += kColumns) {
      Strip strip{column, (w.padding() + column) / kStride, {}};
      for (int i = 0; i < kOffsets; ++i)
        strip.inside[i] =
            static_cast<std::uint16_t>(BitsInside(strip.output + Reads::kLowest + i, w.out(), kLanes));
      strips_.push_back(strip);
    }
  }

  /// `count` rows of grad_x one after the other at `to`, from number `row` of all slices on. What lies beyond
  /// a row, up to `end`, may be overwritten.
  void operator()(std::int64_t row, std::int64_t count, T* to, const T* end) const {
    // The last strip writes where the next row begins, which the first strip makes after it.
    for (auto strip = strips_.rbegin(); strip != strips_.rend(); ++strip) gather(*strip, row, count, to, end);
  }

 private:
  using Reads = PhaseTaps<kStride, kTaps, kShift>;
  using V = VecOf<WideTag<T>>;
  static constexpr int kOffsets = Reads::kHighest - Reads::kLowest + 1;
  using Strip = GradStrip<kOffsets>;
  static constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  static constexpr std::int64_t kColumns = kStride * kLanes;
  static constexpr int kKept = kTaps - kStride;                   // rows that the next line adds to, too
  static constexpr std::int64_t kBefore = (kTaps - 1) / kStride;  // lines before that read a row, too

  HWY_NOINLINE void gather(const Strip& strip, std::int64_t row, std::int64_t count, T* to,
                           const T* end) const {
    for (; count > 0;) {
      const std::int64_t slice = row / planes_.rows;
      const std::int64_t first = row % planes_.rows;
      const std::int64_t last = std::min(planes_.rows, first + count);
      if (planes_.reader(slice).slice < 0) {
        clear(strip, last - first, to, end);
      } else {
        gather(strip, slice, first, last, to, end);
      }
      row += last - first;
      count -= last - first;
      to += (last - first) * planes_.columns;
    }
  }

  HWY_INLINE void store(const V (&sums)[kStride], const Strip& strip, T* to, const T* end) const {
    T* const place = to + strip.column;
    if (HWY_LIKELY(place + kColumns <= end)) {
      StorePhases<T>(sums, place);
    } else {
      StoreFirstPhases<T>(sums, place, std::min(planes_.columns - strip.column, kColumns));
    }
  }
  void clear(const Strip& strip, std::int64_t rows, T* to, const T* end) const {
    V zeros[kStride];
    Unrolled<kStride>([&](auto phase) CENOTE_VECTOR_LAMBDA { zeros[phase] = hn::Zero(WideTag<T>()); });
    for (; rows > 0; --rows, to += planes_.columns) store(zeros, strip, to, end);
  }
  /// Rows first .. last - 1 of a slice that outputs read.
  HWY_INLINE void gather(const Strip& strip, std::int64_t slice, std::int64_t first, std::int64_t last, T* to,
                         const T* end) const {
    typename Lines::OfSlice lines(lines_, planes_, slice, strip);
    const auto clear_row = [](V(&sums)[kStride]) CENOTE_VECTOR_LAMBDA {
      Unrolled<kStride>([&](auto phase) CENOTE_VECTOR_LAMBDA { sums[phase] = hn::Zero(WideTag<T>()); });
    };
    std::int64_t line = std::max<std::int64_t>((first + planes_.padding) / kStride - kBefore, 0);
    std::int64_t at = line * planes_.outs;
    V kept[std::max(kKept, 1)][kStride];
    Unrolled<kKept>([&](auto i) CENOTE_VECTOR_LAMBDA { clear_row(kept[i]); });
    for (std::int64_t top = line * kStride - planes_.padding; top < last; top += kStride, ++line) {
      RowSums<kStride, kTaps, T> rows;
      Unrolled<kTaps>([&](auto i) CENOTE_VECTOR_LAMBDA {
        if constexpr (i < kKept) {
          CopyVectors(kept[i], rows[i]);
        } else {
          clear_row(rows[i]);
        }
      });
      if (HWY_LIKELY(line < planes_.lines)) lines.add(line, at, rows);
      at += planes_.outs;
      Unrolled<kStride>([&](auto i) CENOTE_VECTOR_LAMBDA {
        if (HWY_LIKELY(top + i >= first && top + i < last)) {
          store(rows[i], strip, to, end);
          to += planes_.columns;
        }
      });
      Unrolled<kKept>([&](auto i) CENOTE_VECTOR_LAMBDA { CopyVectors(rows[i + kStride], kept[i]); });
    }
  }

  StripPlanes planes_;
  const Lines& lines_;
  std::vector<Strip> strips_;
};

/// make_lines.operator()<kStride, kTaps, kShift>() are the lines of outputs.
template <int kStride, int kTaps, int kShift, class T, class MakeLines>
void GatherStrips(const Tensor5& grad_x, const Axes& axes, bool past, const MakeLines& make_lines) {
  const auto lines = make_lines.template operator()<kStride, kTaps, kShift>();
  const GradStrips<kStride, kTaps, kShift, T, std::remove_const_t<decltype(lines)>> strips(axes, lines);
  const std::int64_t grain = row_grain(axes[2].in() * static_cast<std::int64_t>(sizeof(T)));
  constexpr std::int64_t kFewestRows = 8;  // as each stretch meets the lines before it again
  ForEachStretch<T>(grad_x, kFewestRows, grain, past,
                    [&](std::int64_t row, std::int64_t count, T* to, const T* end)
                        HWY_ATTR { strips(row, count, to, end); });
}

template <class T>
void MaxBackwardOfStrips(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes) {
  const bool past = sizeof(T) >= 4 && stores_past_caches(grad_x, grad_y, taps);
  const bool odd = axes[2].padding() % 2 != 0;
  const auto lines = [&]<int kStride, int kTaps, int kShift>() {
    return TappedLines<kStride, kTaps, kShift, T>(grad_y, taps);
  };
  if (axes[2].kernel() == 2) {
    if (odd) return GatherStrips<2, 2, 1, T>(grad_x, axes, past, lines);
    return GatherStrips<2, 2, 0, T>(grad_x, axes, past, lines);
  }
  if (odd) return GatherStrips<2, 3, 1, T>(grad_x, axes, past, lines);
  GatherStrips<2, 3, 0, T>(grad_x, axes, past, lines);
}

template <class T, class Divisors>
void AvgBackwardOfStrips(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                         const Divisors& divisors) {
  const bool past = stores_past_caches(grad_x, grad_y);
  const bool odd = axes[2].padding() % 2 != 0;
  const auto lines = [&]<int kStride, int kTaps, int kShift>() {
    return DividedLines<kStride, kTaps, kShift, T, Divisors>(grad_y, axes, divisors);
  };
  if (axes[2].stride() == 1) {
    if (axes[2].kernel() == 2) return GatherStrips<1, 2, 0, T>(grad_x, axes, past, lines);
    return GatherStrips<1, 3, 0, T>(grad_x, axes, past, lines);
  }
  if (axes[2].kernel() == 2) {
    if (odd) return GatherStrips<2, 2, 1, T>(grad_x, axes, past, lines);
    return GatherStrips<2, 2, 0, T>(grad_x, axes, past, lines);
  }
  if (odd) return GatherStrips<2, 3, 1, T>(grad_x, axes, past, lines);
  GatherStrips<2, 3, 0, T>(grad_x, axes, past, lines);
}

#else

template <class T>
void MaxBackwardOfStrips(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes);
template <class T, class Divisors>
void AvgBackwardOfStrips(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                         const Divisors& divisors);

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
