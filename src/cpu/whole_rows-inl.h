// Window pooling forward with stride 1 over dense planes whose rows fill a few vectors: a whole row lies in
// registers while its windows are reduced, and then whole rows are reduced to those of the outputs.
#if defined(CENOTE_CPU_WHOLE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_WHOLE_ROWS_INL_H_
#undef CENOTE_CPU_WHOLE_ROWS_INL_H_
#else
#define CENOTE_CPU_WHOLE_ROWS_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "cenote/runtime.h"
#include "core/parallel.h"
#include "cpu/row_tiles-inl.h"
#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether there are such loops for elements of T.
template <class T>
constexpr bool kKeepsWholeRows = HWY_TARGET == HWY_AVX3 && std::is_same_v<LaneOf<T>, float>;

/// Whether the functions below serve these planes and windows, slice by slice. Xeon (Emerald Rapids), f32,
/// against the loops that otherwise do, max, two threads: 5x5 of [32, 512, 13, 13] 2.0 and 0.9 ms, of [32,
/// 128, 60, 60] 5.3 and 4.9 ms, 13x13 of [32, 256, 20, 20] 3.4 and 1.2 ms; 3x3 with dilation 2 of [32, 64,
/// 56, 56] 6.1 and 2.3 ms; avg, 17x17 of [4, 64, 56, 56] 0.62 and 0.31 ms; one thread, in the caches, 5x5 of
/// [1, 16, 56, 56] 41 and 20 us.
inline bool reduces_whole_rows(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  constexpr std::int64_t kFewestColumns = 8;
  constexpr std::int64_t kMostColumns = 96;
  constexpr std::int64_t kFewestRows = 4;  // of which some are reduced at once
  constexpr std::int64_t kMostRows = 128;
  constexpr std::int64_t kMostTaps = 48;  // runs of a power of two leave no more of them than a vector has
  constexpr std::int64_t kMostDilation = 8;
  const Axis& h = axes[1];
  const Axis& w = axes[2];
  const auto slides = [](const Axis& axis) { return axis.stride() == 1 && axis.dilation() <= kMostDilation; };
  const bool fits_lanes = w.kernel() <= 2 || w.dilated_kernel() <= (w.dilation() == 1 ? kMostTaps : 16);
  return slides(h) && slides(w) && fits_lanes && w.in() >= kFewestColumns &&
         w.padding() + w.in() <= kMostColumns && w.out() <= kMostColumns && h.in() >= kFewestRows &&
         h.in() <= kMostRows && h.out() <= kMostRows && dense_elements(x) && dense_elements(y);
}

/// Of windows over one slice.
inline bool keeps_whole_rows(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  const Axis& d = axes[0];
  return d.kernel() == 1 && d.stride() == 1 && d.padding() == 0 && reduces_whole_rows(x, y, axes);
}

/// Of windows over several, each of which has an element.
constexpr std::int64_t kMostSlices = 5;
inline bool keeps_whole_slices(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  const Axis& d = axes[0];
  return d.kernel() > 1 && d.kernel() <= kMostSlices && d.stride() == 1 && d.dilation() == 1 &&
         d.padding() < d.kernel() && d.start(d.out() - 1) < d.in() && reduces_whole_rows(x, y, axes);
}

#if HWY_TARGET == HWY_AVX3

/// The windows that begin at each lane of a row of vectors, beyond which lie identities.
template <bool kIdempotent, class Lane>
class WindowsOfRow {
 public:
  using D = WideTag<Lane>;
  using V = VecOf<D>;

  /// Runs of taps double; of those that no run of a power of two covers, sums add the runs one after the
  /// other and the others a run that ends where the window ends.
  WindowsOfRow(std::int64_t kernel, std::int64_t dilation) {
    const bool adds = !kIdempotent && (kernel & (kernel - 1)) != 0;
    std::int64_t covered = 0;
    for (std::int64_t run = 1; run <= kernel; run *= 2) {
      if (adds && (kernel & run) != 0) {
        add(covered == 0 ? What::kKeep : What::kAdd, covered * dilation);
        covered += run;
      }
      if (2 * run <= kernel) {
        add(What::kJoin, run * dilation);
      } else if (!adds && run < kernel) {
        add(What::kJoin, (kernel - run) * dilation);
      }
    }
    adds_ = adds;
  }

  /// From the vectors of kRows rows, one row after the other.
  template <class Reduction, int kRows, std::size_t kVectors>
  HWY_INLINE void reduce(V (&run)[kVectors]) const {
    const D d;
    const V identity = hn::Set(d, Reduction::template identity<Lane>());
    constexpr int kOfRow = kVectors / kRows;
    V window[kVectors];
    CopyVectors(run, window);
    const auto join = [&](const Step& step, V(&with)[kVectors]) CENOTE_VECTOR_LAMBDA {
      const auto lanes = hn::Load(Numbers(), step.lanes.data());
      Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
        constexpr bool kLast = v % kOfRow == kOfRow - 1;
        const V next = kLast ? identity : run[kLast ? v : v + 1];
        with[v] = Reduction::combine(d, with[v], PickLanes(d, run[v], next, lanes));
      });
    };
    for (const Step* step = steps_.data(); step != steps_.data() + count_; ++step) {
      if constexpr (!kIdempotent) {
        if (step->what == What::kKeep) {
          CopyVectors(run, window);
          continue;
        }
        if (step->what == What::kAdd) {
          join(*step, window);
          continue;
        }
      }
      join(*step, run);
    }
    if (adds_) CopyVectors(window, run);
  }

 private:
  using Numbers = hn::RebindToSigned<D>;
  enum class What : std::uint8_t { kJoin, kKeep, kAdd };
  /// Lanes that lie so many on are joined with the runs, or added to the windows.
  struct Step {
    alignas(64) std::array<hn::TFromD<Numbers>, hn::MaxLanes(Numbers())> lanes;
    What what;
  };
  static constexpr std::size_t kMostSteps = 12;

  void add(What what, std::int64_t by) {
    Step& step = steps_[count_++];
    for (std::size_t i = 0; i < step.lanes.size(); ++i)
      step.lanes[i] = static_cast<hn::TFromD<Numbers>>(by + static_cast<std::int64_t>(i));
    step.what = what;
  }

  std::array<Step, kMostSteps> steps_;
  std::size_t count_ = 0;
  bool adds_;
};

/// Planes of such rows, pooled some lines of outputs at a time.
template <class Reduction, class T, class Finish>
class WholeRows {
 public:
  using Lane = LaneOf<T>;

  WholeRows(const Axes& axes, const Finish& finish)
      : finish_(finish),
        windows_(axes[2].kernel(), axes[2].dilation()),
        rows_(axes[1].in()),
        columns_(axes[2].in()),
        outs_(axes[2].out()),
        dilation_(axes[1].dilation()) {
    const Axis& w = axes[2];
    vectors_ = ceil_divide(std::max(w.padding() + w.in(), w.out()), kLanes);
    for (std::int64_t v = 0; v < vectors_; ++v) {
      const std::int64_t column = v * kLanes - w.padding();
      tiles_[static_cast<std::size_t>(v)] = {column, v * kLanes, BitsInside(column, w.in(), kLanes), 0,
                                             BitsInside(v * kLanes, w.out(), kLanes)};
    }
    list_lines(axes[1]);
  }
  /// Elements of working memory that a plane takes.
  std::int64_t room() const { return rows_ * vectors_ * kLanes; }

  /// A plane: place(elements) is where the next so many outputs belong, and up to where elements beyond a
  /// line may be overwritten; done(elements) follows when they are there.
  template <class Place, class Done>
  void pool(const T* from, Lane* rows, const Place& place, const Done& done) const {
    using Fast = FirstTry<Reduction, Lane>;
    constexpr std::int64_t kBytesAtOnce = 2048;
    const std::int64_t bytes = 2 * outs_ * static_cast<std::int64_t>(sizeof(T));
    const std::size_t at_once = static_cast<std::size_t>(std::max<std::int64_t>(kBytesAtOnce / bytes, 1));
    bool fast = true;
    std::int64_t reduced = 0;
    for (std::size_t i = 0; i < lines_.size(); i += at_once) {
      const std::span<const Lines> some(lines_.data() + i, std::min(at_once, lines_.size() - i));
      const std::int64_t count = some.back().line + (some.back().two ? 2 : 1) - some.front().line;
      const auto [to, end] = place(count * outs_);
      if (!fast || !pool_lines<Fast>(from, rows, reduced, some, to, end)) {
        if (fast) reduced = 0;
        fast = false;
        pool_lines<Reduction>(from, rows, reduced, some, to, end);
      }
      done(count * outs_);
    }
  }

 private:
  using D = WideTag<T>;
  using V = VecOf<D>;
  static constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);

  /// One line of outputs, or two, which share all rows but the first one's first and the second one's last.
  struct Lines {
    std::int64_t line;
    std::int64_t first;  // of the shared rows
    std::int64_t rows;   // how many those are
    std::int64_t above;  // the row that only the first line reads, if there is one, and else -1
    std::int64_t below;  // and the second
    std::int64_t last;   // the last row that is read, or -1
    bool two;
  };
  void list_lines(const Axis& h) {
    const auto rows_of = [&](std::int64_t line) {
      const std::int64_t start = h.start(line);
      const std::int64_t skipped = start < 0 ? ceil_divide(-start, h.dilation()) * h.dilation() : 0;
      return Range{start + skipped, std::min(h.in(), start + h.dilated_kernel())};
    };
    for (std::int64_t line = 0; line < h.out(); ++line) {
      const Range here = rows_of(line);
      const Range next = rows_of(line + 1);
      if (h.dilation() == 1 && line + 1 < h.out() && next.begin < here.end) {
        lines_.push_back({line, next.begin, here.end - next.begin, here.begin < next.begin ? here.begin : -1,
                          here.end < next.end ? here.end : -1, next.end - 1, true});
        ++line;
      } else {
        const std::int64_t rows = std::max<std::int64_t>(here.end - here.begin, 0);
        lines_.push_back(
            {line, here.begin, ceil_divide(rows, h.dilation()), -1, -1, rows > 0 ? here.end - 1 : -1, false});
      }
    }
  }

  /// Some lines of outputs, from rows that are reduced as far as `reduced` says. Returns whether all are
  /// right.
  template <class Order>
  bool pool_lines(const T* from, Lane* rows, std::int64_t& reduced, std::span<const Lines> some, T* to,
                  const T* end) const {
    if (vectors_ == 1) return pool_lines<Order, 1>(from, rows, reduced, some, to, end);
    if (vectors_ == 2) return pool_lines<Order, 2>(from, rows, reduced, some, to, end);
    if (vectors_ == 3) return pool_lines<Order, 3>(from, rows, reduced, some, to, end);
    if (vectors_ == 4) return pool_lines<Order, 4>(from, rows, reduced, some, to, end);
    if (vectors_ == 5) return pool_lines<Order, 5>(from, rows, reduced, some, to, end);
    return pool_lines<Order, 6>(from, rows, reduced, some, to, end);
  }
  template <class Order, int kVectors>
  HWY_NOINLINE bool pool_lines(const T* from, Lane* rows, std::int64_t& all_reduced,
                               std::span<const Lines> some, T* to, const T* end) const {
    constexpr int kRows = std::max(4 / kVectors, 1);  // at once
    constexpr std::int64_t kPitch = kVectors * kLanes;
    const D d;
    const V identity = hn::Set(d, Order::template identity<Lane>());
    const std::int64_t columns = columns_;
    const std::int64_t step = dilation_ * kPitch;
    hn::Mask<D> nans = hn::FirstN(d, 0);
    std::int64_t reduced = all_reduced;
    const auto reduce_rows = [&]() CENOTE_VECTOR_LAMBDA {
      V run[kRows * kVectors];
      Unrolled<kRows>([&](auto r) CENOTE_VECTOR_LAMBDA {
        const T* const row = from + std::min(reduced + r, rows_ - 1) * columns;
        Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
          const RowTile& tile = tiles_[v];
          prefetch_for_read(row + v * kLanes + kReadAhead<T>);
          run[r * kVectors + v] = LoadBits(d, tile.low, row + tile.column);
        });
      });
      if constexpr (Order::kLosesNaN) {
        constexpr int kLast = kRows * kVectors - 1;
        Unrolled<kLast / 2 + 1>([&](auto pair) CENOTE_VECTOR_LAMBDA {
          nans = hn::Or(nans, EitherIsNaN(d, run[2 * pair], run[std::min<int>(2 * pair + 1, kLast)]));
        });
      }
      Unrolled<kRows * kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
        run[v] = hn::IfThenElse(MaskOfBits(d, tiles_[v % kVectors].low), run[v], identity);
      });
      windows_.template reduce<Order, kRows>(run);
      Unrolled<kRows>([&](auto r) CENOTE_VECTOR_LAMBDA {
        Lane* const reduced_row = rows + std::min(reduced + r, rows_ - 1) * kPitch;
        Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
          hn::Store(run[r * kVectors + v], d, reduced_row + v * kLanes);
        });
      });
      reduced += kRows;
    };
    // A line; what its last vector makes beyond it is overwritten with the next one.
    const auto store = [&](const V(&sums)[kVectors], std::int64_t line) CENOTE_VECTOR_LAMBDA {
      Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
        const RowTile& tile = tiles_[v];
        if (v > 0 && tile.made == 0) return;
        V factors = hn::Zero(d);
        if constexpr (Finish::kFactors) factors = finish_.factors(finish_.row(line), tile);
        const V result = Finish::finish(sums[v], factors);
        T* const place = to + tile.out;
        if (HWY_LIKELY(place + kLanes <= end)) {
          StoreVector(d, result, place);
        } else {
          StoreBits(d, result, tile.made, place);
        }
      });
      to += outs_;
    };
    const auto store_with = [&](const V(&sums)[kVectors], std::int64_t row,
                                std::int64_t line) CENOTE_VECTOR_LAMBDA {
      if (row < 0) return store(sums, line);
      V all[kVectors];
      Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
        all[v] = Order::combine(d, hn::Load(d, rows + row * kPitch + v * kLanes), sums[v]);
      });
      store(all, line);
    };
    for (const Lines& lines : some) {
      while (reduced <= lines.last) reduce_rows();
      V sums[kVectors];
      Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA { sums[v] = identity; });
      const Lane* row = rows + lines.first * kPitch;
      for (std::int64_t left = lines.rows; left > 0; --left, row += step) {
        Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
          sums[v] = Order::combine(d, sums[v], hn::Load(d, row + v * kLanes));
        });
      }
      store_with(sums, lines.above, lines.line);
      if (lines.two) store_with(sums, lines.below, lines.line + 1);
    }
    all_reduced = reduced;
    return hn::AllFalse(d, nans);
  }

  const Finish& finish_;
  WindowsOfRow<Reduction::kIdempotent, Lane> windows_;
  std::int64_t rows_;
  std::int64_t columns_;
  std::int64_t outs_;
  std::int64_t dilation_;  // of rows
  std::int64_t vectors_;
  std::array<RowTile, 6> tiles_;
  std::vector<Lines> lines_;
};

template <class Reduction, class T, class Finish>
void PoolWholeRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Finish& finish) {
  const WholeRows<Reduction, T, Finish> planes(axes, finish);
  const std::int64_t elements = axes[1].in() * axes[2].in();
  const std::int64_t outs = axes[1].out() * axes[2].out();
  const auto* const from = static_cast<const T*>(x.data);
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  const bool past = stores_past_caches(x, y);
  parallel_for(x.size[0] * x.size[1] * x.size[2], row_grain(elements * kSize),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 OutputLines out;
                 Scratch<LaneOf<T>> room;
                 auto* const rows = room.resize(static_cast<std::size_t>(planes.room()));
                 T* to = static_cast<T*>(y.data) + begin * outs;
                 const T* const last = static_cast<T*>(y.data) + end * outs;
                 const auto place = [&](std::int64_t count) {
                   if (past) {
                     auto* const collected = reinterpret_cast<T*>(out.room(to, count * kSize));
                     return std::pair<T*, const T*>(collected,
                                                    collected + count + OutputLines::kBeyond / kSize);
                   }
                   ask_ahead(to, count);
                   return std::pair<T*, const T*>(to, last);
                 };
                 const auto done = [&](std::int64_t count) {
                   if (past) out.done(count * kSize);
                   to += count;
                 };
                 for (std::int64_t plane = begin; plane < end; ++plane)
                   planes.pool(from + plane * elements, rows, place, done);
               });
}

/// Maxima of `count` slices of so many outputs.
template <class T>
HWY_INLINE void JoinSlices(const T* const (&slices)[kMostSlices], std::int64_t count, std::int64_t outs,
                           T* to) {
  const WideTag<T> d;
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  for (std::int64_t i = 0; i < outs; i += kLanes) {
    auto all = LoadVector(d, slices[0] + i);
    for (std::int64_t slice = 1; slice < count; ++slice)
      all = MaxReduction::combine(d, all, LoadVector(d, slices[slice] + i));
    if (i + kLanes <= outs) {
      StoreVector(d, all, to + i);
    } else {
      StorePart(d, all, to + i, static_cast<std::size_t>(outs - i));
    }
  }
}

/// Maxima of windows over slices: each slice is pooled by itself, next to others in the caches, and then
/// slices are. 3x3x3 of [1, 192, 40, 28, 28] f32, Xeon (Emerald Rapids), two threads, 4.1 and 2.6 ms.
template <class T>
void MaxOfWholeSlices(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  using Finish = WindowsAsTheyAre<T>;
  const Finish finish;
  const WholeRows<MaxReduction, T, Finish> planes(axes, finish);
  const Axis& d = axes[0];
  const std::int64_t elements = axes[1].in() * axes[2].in();
  const std::int64_t outs = axes[1].out() * axes[2].out();
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  const std::int64_t pitch = outs + 2 * kLanes;  // of pooled slices; lines may be stored beyond their end
  const bool past = stores_past_caches(x, y);
  // Bands of slices; each pools a window of slices before its own.
  const std::int64_t volumes = x.size[0] * x.size[1];
  const std::int64_t bands = std::clamp<std::int64_t>(ceil_divide(2 * num_threads(), volumes), 1,
                                                      std::max<std::int64_t>(d.out() / (2 * d.kernel()), 1));
  parallel_for(volumes * bands, row_grain(elements * d.in() * kSize / bands),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 OutputLines out;
                 Scratch<LaneOf<T>> room;
                 auto* const rows = room.resize(static_cast<std::size_t>(planes.room()));
                 Scratch<T> memory;
                 auto* const pooled = memory.resize(static_cast<std::size_t>(d.kernel() * pitch));
                 for (std::int64_t unit = begin; unit < end; ++unit) {
                   const std::int64_t volume = unit / bands;
                   const std::int64_t band = unit % bands;
                   const T* const from = static_cast<const T*>(x.data) + volume * d.in() * elements;
                   const std::int64_t last = d.out() * (band + 1) / bands;
                   std::int64_t next = 0;  // slice to pool
                   for (std::int64_t od = d.out() * band / bands; od < last; ++od) {
                     const std::int64_t first = std::max<std::int64_t>(d.start(od), 0);
                     const std::int64_t count = std::min(d.start(od) + d.kernel(), d.in()) - first;
                     for (next = std::max(next, first); next < first + count; ++next) {
                       T* to = pooled + next % d.kernel() * pitch;
                       const T* const beyond = to + pitch;
                       planes.pool(
                           from + next * elements, rows,
                           [&](std::int64_t) { return std::pair<T*, const T*>(to, beyond); },
                           [&](std::int64_t some) { to += some; });
                     }
                     T* const place = static_cast<T*>(y.data) + (volume * d.out() + od) * outs;
                     T* const to = past ? reinterpret_cast<T*>(out.room(place, outs * kSize)) : place;
                     const T* slices[kMostSlices];
                     for (std::int64_t i = 0; i < count; ++i)
                       slices[i] = pooled + (first + i) % d.kernel() * pitch;
                     JoinSlices(slices, count, outs, to);
                     if (past) out.done(outs * kSize);
                   }
                 }
               });
}

template <class T>
void MaxOfWholeRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  PoolWholeRows<MaxReduction, T>(x, y, axes, WindowsAsTheyAre<T>());
}

template <class T, class Divisors>
void AvgOfWholeRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors) {
  with_divisors<T>(
      axes[1].out(), [&](std::int64_t i) { return divisors.row(0, i); }, axes[2].out(),
      [&](std::int64_t i) { return divisors.column(i); },
      [&](const auto& finish) { PoolWholeRows<SumReduction, T>(x, y, axes, finish); });
}

#else

template <class T>
void MaxOfWholeSlices(const ConstTensor5& x, const Tensor5& y, const Axes& axes);
template <class T>
void MaxOfWholeRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes);
template <class T, class Divisors>
void AvgOfWholeRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Divisors& divisors);

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
