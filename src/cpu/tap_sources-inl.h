// Where the horizontal pass finds its taps in a row buffer, which is first reduced in place where windows lie
// side by side or overlap much, so that fewer taps are left.
#if defined(CENOTE_CPU_TAP_SOURCES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TAP_SOURCES_INL_H_
#undef CENOTE_CPU_TAP_SOURCES_INL_H_
#else
#define CENOTE_CPU_TAP_SOURCES_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cpu/row_buffer-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Windows of fewer taps per stride are read tap by tap. 13x13 stride 1 max, [32, 64, 112, 112] f32, two
/// threads: 33 ms without it and without shared rows, 20 ms with both.
constexpr std::int64_t kLeastDoubled = 8;

/// How often an axis of windows side by side can be halved by joining neighbours.
inline int halvings(const Axis& w) {
  if (w.kernel() != w.stride() || w.stride() <= 2 || w.dilation() != 1) return 0;
  return std::countr_zero(static_cast<std::uint64_t>(w.kernel()));
}

/// Joins neighbours, positions 2i and 2i + 1 to position i.
template <class Reduction, class T>
void HalveRow(T* row, std::int64_t length) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; 2 * i < length; i += lanes) {
#if HWY_TARGET == HWY_SCALAR
    const auto even = hn::LoadU(d, row + 2 * i);
    const auto odd = hn::LoadU(d, row + 2 * i + 1);
#else
    const auto low = hn::LoadU(d, row + 2 * i);
    const auto high = hn::LoadU(d, row + 2 * i + lanes);
    const auto even = hn::ConcatEven(d, high, low);
    const auto odd = hn::ConcatOdd(d, high, low);
#endif
    hn::StoreU(Reduction::combine(d, even, odd), d, row + i);
  }
}

/// Whether windows along an axis overlap so much that runs of taps are reduced for all positions, each from
/// two or four of the runs before, up to the largest power of two in the kernel; a window is then one such
/// run, or two that overlap, or, where no tap may be met twice, one and a rest.
inline bool doubles(const Axis& w) { return w.kernel() >= kLeastDoubled * w.stride(); }

/// The taps of the longest run.
inline std::int64_t longest_run(const Axis& w) {
  return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(w.kernel())));
}

/// Adds `count` runs, `apart` elements from each other, to what `rest` holds, or sets it where it holds
/// nothing.
template <class Reduction, class T>
void AddRuns(const T* from, std::int64_t count, std::int64_t apart, bool holds, std::int64_t length,
             T* rest) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < length; i += lanes) {
    auto sum = hn::LoadU(d, from + i);
    for (std::int64_t j = 1; j < count; ++j)
      sum = Reduction::combine(d, sum, hn::LoadU(d, from + i + j * apart));
    hn::StoreU(holds ? Reduction::combine(d, hn::LoadU(d, rest + i), sum) : sum, d, rest + i);
  }
}

/// Joins kRuns runs, `apart` elements from each other, to one at the place of the first, in place.
template <class Reduction, int kRuns, class T>
void JoinRuns(T* row, std::int64_t length, std::int64_t apart) {
  const RowTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < length - (kRuns - 1) * apart; i += lanes) {
    auto joined = Reduction::combine(d, hn::LoadU(d, row + i), hn::LoadU(d, row + i + apart));
    if constexpr (kRuns == 4) {
      const auto other =
          Reduction::combine(d, hn::LoadU(d, row + i + 2 * apart), hn::LoadU(d, row + i + 3 * apart));
      joined = Reduction::combine(d, joined, other);
    }
    hn::StoreU(joined, d, row + i);
  }
}

/// Reduces runs of longest_run(w) taps in place: what began as a row of positions holds the run that begins
/// at each. Where no tap may be met twice, `rest` gets the reduction of the first kernel - longest_run(w)
/// taps.
template <class Reduction, class T>
HWY_NOINLINE void DoubleRow(T* row, std::int64_t length, const Axis& w, T* rest) {
  const std::int64_t starts = length - w.dilated_kernel() + 1;
  for (std::int64_t run = 1; run < longest_run(w);) {
    const std::int64_t runs = 4 * run <= longest_run(w) ? 4 : 2;
    const std::int64_t apart = run * w.dilation();
    const std::int64_t more = w.kernel() / run % runs;  // runs of this length in the rest
    if (!Reduction::kIdempotent && more > 0) {
      const std::int64_t before = w.kernel() % run;
      AddRuns<Reduction>(row + before * w.dilation(), more, apart, before > 0, starts, rest);
    }
    runs == 4 ? JoinRuns<Reduction, 4>(row, length, apart) : JoinRuns<Reduction, 2>(row, length, apart);
    run *= runs;
  }
}

/// Where tap j of output m is: source(j) + m for stride 1 and 2, source(j) + m * stride beyond.
template <class T>
class TapSources {
 public:
  /// `halved`: how often the row in the buffer is halved before it is read.
  void set(const PhaseBuffer<T>& buffer, const Axis& w, int halved) {
    count_ = w.kernel() >> halved;
    sources_.resize(static_cast<std::size_t>(count_));
    for (std::int64_t j = 0; j < count_; ++j) sources_.get()[j] = buffer.at(j * w.dilation());
  }
  /// After DoubleRow; `rest` is its last argument, or the row again.
  void set_doubled(const PhaseBuffer<T>& buffer, const Axis& w, const T* rest) {
    const std::int64_t before = w.kernel() - longest_run(w);
    count_ = before == 0 ? 1 : 2;
    const T** const sources = sources_.resize(2);
    sources[0] = before == 0 ? buffer.at(0) : rest;
    sources[1] = buffer.at(before * w.dilation());
  }
  std::int64_t count() const { return count_; }
  const T* operator[](std::int64_t j) const { return sources_.get()[j]; }

 private:
  Scratch<const T*> sources_;
  std::int64_t count_ = 0;
};

/// The positions of one output row, and where its taps are read.
template <class Reduction, class T>
struct RowBuffer {
  PhaseBuffer<T> positions;
  TapSources<T> sources;
  Scratch<T> rest;

  void reserve(const Axis& w, std::int64_t outs) {
    const std::int64_t longest = (outs - 1) * w.stride() + w.dilated_kernel();
    const bool doubled = doubles(w);
    const bool gathers = w.stride() > (doubled ? 1 : 2);
    const std::int64_t slack = gathers ? PhaseBuffer<T>::kSlack * w.stride() : 0;
    positions.reserve(longest, w.stride() == 2 && !doubled, w.padding(), slack);
    if (!doubled) return sources.set(positions, w, halvings(w));
    T* first = positions.at(0);
    if (!Reduction::kIdempotent) {
      const auto length = static_cast<std::size_t>(longest + PhaseBuffer<T>::kSlack + slack);
      first = rest.resize(length);
      std::fill(first, first + length, T{0});  // what whole vectors may read beyond the end
    }
    sources.set_doubled(positions, w, first);
  }
  void join_neighbours(const Axis& w, std::int64_t length) {
    if (doubles(w)) DoubleRow<Reduction>(positions.at(0), length, w, rest.get());
    for (int halving = halvings(w); halving > 0; --halving, length /= 2)
      HalveRow<Reduction>(positions.at(0), length);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
