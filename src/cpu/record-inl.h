// Storing where a maximum came from: tap numbers become u8 or u16 taps or i64 positions in the plane.
#if defined(CENOTE_CPU_RECORD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_RECORD_INL_H_
#undef CENOTE_CPU_RECORD_INL_H_
#else
#define CENOTE_CPU_RECORD_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/tensor5.h"
#include "cpu/rows-inl.h"
#include "cpu/vector-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Largest number of taps whose positions are looked up, a vector at a time. Positions of others are divided
/// out one by one: each follows a window that is larger still.
constexpr std::int64_t kTapTable = 1 << 12;

/// Stores rows of records. `none` or more means that the window had no element.
class RecordWriter {
 public:
  RecordWriter(const Tensor5& indices, const Array5& x_size, const Axes& axes)
      : indices_(indices),
        x_size_(x_size),
        axes_(axes),
        taps_(axes[0].kernel() * axes[1].kernel() * axes[2].kernel()) {
    if (indices.dtype != DType::i64 || taps_ > kTapTable) return;
    Scratch<std::int64_t> table;
    std::int64_t* const offsets = table.resize(static_cast<std::size_t>(taps_));
    for (std::int64_t tap = 0; tap < taps_; ++tap) offsets[tap] = computed_offset_of(tap);
    table_ = std::move(table);
    const std::int64_t outs = axes[2].out();
    std::int64_t* const starts = starts_.resize(static_cast<std::size_t>(outs) + kMaxLanes<std::int64_t>);
    for (std::int64_t o = 0; o < outs; ++o) starts[o] = axes[2].start(o);
    std::fill_n(starts + outs, kMaxLanes<std::int64_t>, 0);
  }

  /// keys[i] is the tap of output (od, oh, ow + i), or >= none.
  template <class Key>
  void store(const Key* keys, Key none, std::int64_t count, std::int64_t n, std::int64_t c, std::int64_t od,
             std::int64_t oh, std::int64_t ow) const {
    const std::int64_t step = indices_.stride[4];
    const auto offset = ow * step;
    if (indices_.dtype == DType::u8) {
      store_taps(keys, none, count, row_of<std::uint8_t>(indices_, n, c, od, oh) + offset, step);
    } else if (indices_.dtype == DType::u16) {
      store_taps(keys, none, count, row_of<std::uint16_t>(indices_, n, c, od, oh) + offset, step);
    } else {
      std::int64_t* to = row_of<std::int64_t>(indices_, n, c, od, oh) + offset;
      const std::int64_t line = line_of(od, oh);
      if (table_.get() != nullptr)
        return store_positions(keys, none, count, to, step, line, starts_.get() + ow);
      for (std::int64_t i = 0; i < count; ++i) {
        to[i * step] = keys[i] >= none ? -1 : line + axes_[2].start(ow + i) + computed_offset_of(keys[i]);
      }
    }
  }

  /// keys[i] is of output (od, oh, ow) in channel i: its tap, or for i64 its position in the plane; or >=
  /// none.
  template <class Key>
  void store_channels(const Key* keys, Key none, std::int64_t count, std::int64_t n, std::int64_t od,
                      std::int64_t oh, std::int64_t ow) const {
    const std::int64_t step = indices_.stride[1];
    const std::int64_t offset = ow * indices_.stride[4];
    if (indices_.dtype == DType::u8) {
      store_taps(keys, none, count, row_of<std::uint8_t>(indices_, n, 0, od, oh) + offset, step);
    } else if (indices_.dtype == DType::u16) {
      store_taps(keys, none, count, row_of<std::uint16_t>(indices_, n, 0, od, oh) + offset, step);
    } else {
      std::int64_t* to = row_of<std::int64_t>(indices_, n, 0, od, oh) + offset;
      if (step == 1) {  // a loop of its own, so that it vectorises
        for (std::int64_t i = 0; i < count; ++i) to[i] = keys[i] >= none ? -1 : keys[i];
        return;
      }
      for (std::int64_t i = 0; i < count; ++i) to[i * step] = keys[i] >= none ? -1 : keys[i];
    }
  }

  /// keys[i] is the tap of output (od, oh, ow) in channel i, or >= none.
  template <class Key>
  void store_channel_taps(const Key* keys, Key none, std::int64_t count, std::int64_t n, std::int64_t od,
                          std::int64_t oh, std::int64_t ow) const {
    if (indices_.dtype != DType::i64) return store_channels(keys, none, count, n, od, oh, ow);
    const std::int64_t step = indices_.stride[1];
    std::int64_t* const to = row_of<std::int64_t>(indices_, n, 0, od, oh) + ow * indices_.stride[4];
    const std::int64_t first = line_of(od, oh) + axes_[2].start(ow);
    if (table_.get() != nullptr) return store_positions(keys, none, count, to, step, first, nullptr);
    for (std::int64_t i = 0; i < count; ++i)
      to[i * step] = keys[i] >= none ? -1 : first + computed_offset_of(keys[i]);
  }

 private:
  template <class Key, class Tap>
  static void store_taps(const Key* keys, Key none, std::int64_t count, Tap* to, std::int64_t step) {
    constexpr auto kNoTap = static_cast<Tap>(~Tap{0});
    if (step == 1) {  // a loop of its own, so that it vectorises
      for (std::int64_t i = 0; i < count; ++i) to[i] = keys[i] >= none ? kNoTap : static_cast<Tap>(keys[i]);
      return;
    }
    for (std::int64_t i = 0; i < count; ++i)
      to[i * step] = keys[i] >= none ? kNoTap : static_cast<Tap>(keys[i]);
  }

  /// The positions of taps. Windows begin at `line`, and at what `starts` has for each of them, if anything.
  template <class Key>
  HWY_NOINLINE void store_positions(const Key* keys, Key none, std::int64_t count, std::int64_t* to,
                                    std::int64_t step, std::int64_t line, const std::int64_t* starts) const {
    const RowTag<std::int64_t> d;
    const hn::Rebind<Key, decltype(d)> d_keys;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    for (std::int64_t i = 0; i < count; i += lanes) {
      const std::int64_t left = std::min(count - i, lanes);
      const auto part = static_cast<std::size_t>(left == lanes ? 0 : left);
      const auto tap = Widen(d, LoadLanes<true>(d_keys, keys + i, 1, part));
      const auto found = hn::Lt(tap, hn::Set(d, none));
      auto start = hn::Set(d, line);
      if (starts != nullptr) start = hn::Add(start, hn::LoadU(d, starts + i));
      const auto offset = hn::GatherIndex(d, table_.get(), hn::IfThenElseZero(found, tap));
      const auto position = hn::IfThenElse(found, hn::Add(start, offset), hn::Set(d, -1));
      if (step == 1 && part == 0) {
        hn::StoreU(position, d, to + i);
        continue;
      }
      HWY_ALIGN std::int64_t positions[kMaxLanes<std::int64_t>];
      hn::Store(position, d, positions);
      for (std::int64_t j = 0; j < left; ++j) to[(i + j) * step] = positions[j];
    }
  }

  template <class D, class V>
  static HWY_INLINE VecOf<D> Widen(D d, V keys) {
    if constexpr (std::is_same_v<V, VecOf<D>>) {
      return keys;
    } else {
      return hn::PromoteTo(d, keys);
    }
  }

  /// Position of the line in which the window of (od, oh) begins; may lie in the padding.
  std::int64_t line_of(std::int64_t od, std::int64_t oh) const {
    return (axes_[0].start(od) * x_size_[3] + axes_[1].start(oh)) * x_size_[4];
  }

  /// What a tap adds to the position of the first one.
  std::int64_t computed_offset_of(std::int64_t tap) const {
    const std::int64_t w = tap % axes_[2].kernel();
    const std::int64_t h = tap / axes_[2].kernel() % axes_[1].kernel();
    const std::int64_t d = tap / axes_[2].kernel() / axes_[1].kernel();
    return (d * axes_[0].dilation() * x_size_[3] + h * axes_[1].dilation()) * x_size_[4] +
           w * axes_[2].dilation();
  }

  const Tensor5& indices_;
  const Array5& x_size_;
  const Axes& axes_;
  std::int64_t taps_;
  Scratch<std::int64_t> table_;
  Scratch<std::int64_t> starts_;  // of the windows along W
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
