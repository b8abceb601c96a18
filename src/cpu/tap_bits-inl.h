// Max backward along a row where comparisons give bits: taps are compared as bytes, and only the gradients
// that a bit stands for are loaded, so that nothing is widened or read beyond a row.
#if defined(CENOTE_CPU_TAP_BITS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_TAP_BITS_INL_H_
#undef CENOTE_CPU_TAP_BITS_INL_H_
#else
#define CENOTE_CPU_TAP_BITS_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/row_readers-inl.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Each number of a tap four times: words are broadcast from memory without a shuffle.
constexpr std::array<std::uint32_t, 256> kTapWords = [] {
  std::array<std::uint32_t, 256> words{};
  for (std::uint32_t tap = 0; tap < 256; ++tap) words[tap] = tap * 0x01010101U;
  return words;
}();

/// Column kStride * m + phase is read through a tap by output base + m + offset, where the division is exact.
template <int kStride, int kTaps, int kShift>
struct PhaseTaps {
  static constexpr bool reads(int phase, int tap) { return (phase + kShift - tap) % kStride == 0; }
  static constexpr int offset(int phase, int tap) { return (phase + kShift - tap) / kStride; }
  static constexpr int farthest(bool lowest) {
    int result = 0;
    for (int phase = 0; phase < kStride; ++phase) {
      for (int tap = 0; tap < kTaps; ++tap) {
        if (!reads(phase, tap)) continue;
        result = lowest ? std::min(result, offset(phase, tap)) : std::max(result, offset(phase, tap));
      }
    }
    return result;
  }
  static constexpr int kLowest = farthest(true);
  static constexpr int kHighest = farthest(false);
};

/// As LanesGatherer, of rows as they lie in memory. One thread, in the caches, [1, 8, 112, 112] f32 against
/// it: 3x3 stride 2 24.4 and 19.8 us, 2x2 17.6 and 13.1 us. (Bits of 64 taps at once, shifted to where they
/// are wanted, in bare loops: 3.0 and, as here, 2.9 ns for 32 elements, 2x2 1.9 and 1.6 ns.)
template <int kStride, int kTaps, int kShift, class T>
class BitsGatherer {
 public:
  /// What one thread keeps: nothing.
  struct State {
    explicit State(const Axes&) {}
    void begin_plane() {}
  };

  explicit BitsGatherer(const Axis& w)
      : in_(w.in()),
        out_(w.out()),
        base_(w.padding() / kStride),
        vectors_(ceil_divide(in_, kStride * kLanes)) {
    const auto is_inner = [&](std::int64_t v) {
      const std::int64_t output = base_ + v * kLanes;
      return output + kLowest >= 0 && output + kHighest + kLanes <= out_;
    };
    while (inner_.begin < vectors_ && !is_inner(inner_.begin)) ++inner_.begin;
    inner_.end = inner_.begin;
    while (inner_.end < vectors_ && is_inner(inner_.end)) ++inner_.end;
    for (std::int64_t v = 0; v < vectors_; ++v) {
      for (std::int64_t i = kLowest; i <= kHighest; ++i)
        inside_.push_back(static_cast<std::uint16_t>(BitsInside(base_ + v * kLanes + i, out_, kLanes)));
    }
  }

  /// Makes rows first .. last - 1 of a plane one after the other at `to`, in whose memory there is `room`,
  /// from the gradients and taps of the plane.
  void operator()(State&, const PlaneReaders& readers, std::int64_t first, std::int64_t last, const T* grads,
                  const std::uint8_t* taps, T* to, std::int64_t room) const {
    for (std::int64_t line = first; line < last; ++line, to += in_, room -= in_) {
      const auto of_line = readers[line];
      for (const RowReading& reader : of_line) {
        if (!reader.is_new) continue;
        ask_ahead_of_reads(grads + reader.grads, out_);
        ask_ahead_of_reads(taps + reader.taps, out_);
      }
      if (of_line.size() == 1) {
        gather<1>(of_line, grads, taps, to, room);
      } else if (of_line.size() == 2) {
        gather<2>(of_line, grads, taps, to, room);
      } else {
        gather<0>(of_line, grads, taps, to, room);
      }
    }
  }

 private:
  using D = WideTag<T>;
  using V = VecOf<D>;
  using D8 = hn::Rebind<std::uint8_t, D>;
  using Reads = PhaseTaps<kStride, kTaps, kShift>;
  static constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  static constexpr std::int64_t kLowest = Reads::kLowest;
  static constexpr std::int64_t kHighest = Reads::kHighest;

  /// Rows of outputs with the numbers that are wanted: kRows of them, or any number, which look theirs up.
  template <std::size_t kRows>
  struct Rows {
    Rows(std::span<const RowReading> readers, const T* grads_of_plane, const std::uint8_t* taps_of_plane)
        : all(readers), grads(grads_of_plane), taps(taps_of_plane) {
      for (std::size_t row = 0; row < kRows; ++row) {
        for (int tap = 0; tap < kTaps; ++tap) numbers[row][tap] = computed_number(row, tap);
      }
    }
    std::size_t count() const { return kRows > 0 ? kRows : all.size(); }
    HWY_INLINE VecOf<D8> number(std::size_t row, int tap) const {
      return kRows > 0 ? numbers[row][tap] : computed_number(row, tap);
    }
    HWY_INLINE VecOf<D8> computed_number(std::size_t row, int tap) const {
      const hn::Repartition<std::uint32_t, D8> d32;
      return hn::BitCast(D8(), hn::Set(d32, kTapWords[static_cast<std::size_t>(all[row].first_tap + tap)]));
    }

    std::span<const RowReading> all;
    const T* grads;
    const std::uint8_t* taps;
    VecOf<D8> numbers[std::max<std::size_t>(kRows, 1)][kTaps];
  };

  template <std::size_t kRows>
  HWY_INLINE void gather(std::span<const RowReading> readers, const T* grads, const std::uint8_t* taps, T* to,
                         std::int64_t room) const {
    const Rows<kRows> rows(readers, grads, taps);
    for (std::int64_t v = 0; v < vectors_; ++v) {
      V sums[kStride];
      if (inner_.contains(v)) {
        add_up<false>(rows, v, sums);
      } else {
        add_up<true>(rows, v, sums);
      }
      const std::int64_t column = v * kStride * kLanes;
      if (room - column >= kStride * kLanes) {
        StorePhases<T>(sums, to + column);
      } else {
        StoreFirstPhases<T>(sums, to + column, std::min(in_ - column, kStride * kLanes));
      }
    }
  }

  /// Vector v of a row. kEdge: not all of the outputs may be there.
  template <bool kEdge, std::size_t kRows>
  HWY_INLINE void add_up(const Rows<kRows>& rows, std::int64_t v, V (&sums)[kStride]) const {
    constexpr std::int64_t kOffsets = kHighest - kLowest + 1;
    const D d;
    const D8 d8;
    const std::int64_t output = base_ + v * kLanes;
    hn::Mask<D8> inside[kOffsets];
    if constexpr (kEdge) {
      for (std::int64_t i = 0; i < kOffsets; ++i)
        inside[i] = MaskOfBits(d8, inside_[static_cast<std::size_t>(v * kOffsets + i)]);
    }
    for (V& sum : sums) sum = hn::Zero(d);
    for (std::size_t row = 0; row < rows.count(); ++row) {
      for (int tap = kTaps - 1; tap >= 0; --tap) {  // in the order of the outputs
        for (int phase = 0; phase < kStride; ++phase) {
          if (!Reads::reads(phase, tap)) continue;
          const std::int64_t at = output + Reads::offset(phase, tap);
          const std::uint8_t* const recorded = rows.taps + rows.all[row].taps + at;
          hn::Mask<D8> hit;
          if constexpr (kEdge) {
            const auto exists = inside[Reads::offset(phase, tap) - kLowest];
            hit = hn::And(exists, hn::Eq(hn::MaskedLoad(exists, d8, recorded), rows.number(row, tap)));
          } else {
            hit = hn::Eq(hn::LoadU(d8, recorded), rows.number(row, tap));
          }
          sums[phase] = hn::Add(sums[phase], LoadBits(d, hit.raw, rows.grads + rows.all[row].grads + at));
        }
      }
    }
  }

  std::int64_t in_;
  std::int64_t out_;
  std::int64_t base_;  // output of column 0 through tap kShift
  std::int64_t vectors_;
  Range inner_;  // the vectors of which all outputs are there
  std::vector<std::uint16_t> inside_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
