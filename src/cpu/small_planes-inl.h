// Windows of stride 1 over planes of short rows, where a row fills hardly a vector and is mostly padding once
// it is padded: all rows of a plane at a time, as one long row. First along H, where rows that follow each
// other are pixels of W channels; then along W, after each row was padded. Maxima only, which no order of
// taps changes.
#if defined(CENOTE_CPU_SMALL_PLANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SMALL_PLANES_INL_H_
#undef CENOTE_CPU_SMALL_PLANES_INL_H_
#else
#define CENOTE_CPU_SMALL_PLANES_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cpu/planar-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Windows of stride 1 along `axis`, over positions that lie `apart` elements from each other.
inline Axis axis_apart(const Axis& axis, std::int64_t apart) {
  const WindowAxis window{axis.kernel(), 1, 0, 0, axis.dilation() * apart};
  return Axis::window(window, 0, 0);
}

/// Positions of an axis of stride 1, with its padding.
inline std::int64_t padded_positions(const Axis& axis) { return axis.out() + axis.dilated_kernel() - 1; }

/// Whether planes are so small that pooling all rows at a time was faster: [4, 512, H, H] f32, AVX-512, one
/// thread, 13x13 with H = 13 1.85 and 0.60 ms, 28 4.4 and 2.5 ms; [2, 128, H, H], 5x5 with H = 13 0.114 and
/// 0.050 ms, 56 0.93 and 0.81 ms.
inline bool small_planes(const Axes& axes) {
  constexpr std::int64_t kMostColumns = 64;
  constexpr std::int64_t kFewestTaps = 4;
  const Axis& h = axes[1];
  const Axis& w = axes[2];
  const bool slices = axes[0].kernel() == 1 && axes[0].out() == axes[0].in() && axes[0].start(0) == 0;
  return slices && h.stride() == 1 && w.stride() == 1 && w.kernel() >= kFewestTaps &&
         std::max(w.in(), w.out()) <= kMostColumns && padded_positions(h) <= kTilePositions / w.in() &&
         h.out() <= kTilePositions / padded_positions(w);
}

/// A row of elements for a maximum over `outs` windows: emit(d, m, vector) gets those of a vector.
template <class T>
class LongRow {
 public:
  LongRow(const Axis& axis, std::int64_t outs) : axis_(axis), outs_(outs) { buffer_.reserve(axis, outs); }
  T* begin() const { return buffer_.positions.at(0); }
  template <class Emit>
  HWY_INLINE void reduce(const Emit& emit) {
    buffer_.join_neighbours(axis_, outs_ + axis_.dilated_kernel() - 1);
    ReduceTapsOfAxis<MaxReduction>(buffer_.sources, outs_, axis_, emit);
  }

 private:
  Axis axis_;
  std::int64_t outs_;
  RowBuffer<MaxReduction, T> buffer_;
};

/// Copies `count` neighbours, fewer than a few vectors.
template <class T>
HWY_INLINE void CopyShort(const T* from, T* to, std::int64_t count) {
  const WideTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::LoadU(d, from + i), d, to + i);
  if (i < count) {
    const auto part = static_cast<std::size_t>(count - i);
    StorePart(d, LoadPart(d, from + i, part), to + i, part);
  }
}

template <class T>
void MaxOfSmallPlanes(const ConstTensor5& x, const Tensor5& y, const Axes& axes) {
  const Axis& h = axes[1];
  const Axis& w = axes[2];
  const std::int64_t in = w.in();
  const std::int64_t pitch = padded_positions(w);
  const std::int64_t height = padded_positions(h);
  const Cursor::Index units{y.size[0], y.size[1], y.size[2], 1, 1};
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * h.in() * in;
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    LongRow<T> rows(axis_apart(h, in), h.out() * in);
    LongRow<T> columns(axis_apart(w, 1), (h.out() - 1) * pitch + w.out());
    Scratch<T> reduced;
    T* const to =
        reduced.resize(static_cast<std::size_t>(h.out() * std::max(in, pitch) + PhaseBuffer<T>::kSlack));
    const auto store = [&](auto d, std::int64_t m, auto v) CENOTE_VECTOR_LAMBDA { hn::StoreU(v, d, to + m); };
    constexpr T kLowest = MaxReduction::identity<T>();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const T* const from = row_of<const T>(x, at[0], at[1], at[2], 0);
      T* const above = rows.begin();
      T* const plane = above + h.padding() * in;
      T* const below = plane + h.in() * in;
      std::fill(above, plane, kLowest);
      if (x.stride[3] == in) {
        std::copy_n(from, h.in() * in, plane);
      } else {
        for (std::int64_t i = 0; i < h.in(); ++i) CopyShort(from + i * x.stride[3], plane + i * in, in);
      }
      std::fill(below, above + height * in, kLowest);
      rows.reduce(store);
      T* const padded = columns.begin();
      std::fill(padded, padded + h.out() * pitch, kLowest);
      for (std::int64_t i = 0; i < h.out(); ++i) CopyShort(to + i * in, padded + i * pitch + w.padding(), in);
      columns.reduce(store);
      T* const out = row_of<T>(y, at[0], at[1], at[2], 0);
      for (std::int64_t i = 0; i < h.out(); ++i) CopyShort(to + i * pitch, out + i * y.stride[3], w.out());
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
