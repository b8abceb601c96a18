// Backward loops that are not vector work: from i64 indices, which may point anywhere in the plane, and for
// windows that are uneven (adaptive) or too large for the phase rows. Planes or rows are independent and
// each is written by one thread, in the order of the outputs.
#if defined(CENOTE_CPU_SCATTER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SCATTER_INL_H_
#undef CENOTE_CPU_SCATTER_INL_H_
#else
#define CENOTE_CPU_SCATTER_INL_H_
#endif

#include <atomic>
#include <limits>
#include <optional>
#include <vector>

#include "core/parallel.h"
#include "cpu/rows-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

template <class T>
void fill_row(T* to, std::int64_t stride, std::int64_t count, T value) {
  if (stride == 1) {
    std::fill(to, to + count, value);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) to[i * stride] = value;
}

/// grad_x of one plane from i64 indices; returns an index outside the plane, if there is one.
template <class T>
std::optional<std::int64_t> scatter_plane(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                          const ConstTensor5& indices, std::int64_t n, std::int64_t c) {
  const auto& size = grad_x.size;
  const std::int64_t positions = size[2] * size[3] * size[4];
  T* const plane = plane_of<T>(grad_x, n, c);
  const bool dense = (size[4] == 1 || grad_x.stride[4] == 1) &&
                     (size[3] == 1 || grad_x.stride[3] == size[4]) &&
                     (size[2] == 1 || grad_x.stride[2] == size[3] * size[4]);
  std::optional<std::int64_t> bad;
  for (std::int64_t d = 0; d < size[2]; ++d) {
    for (std::int64_t h = 0; h < size[3]; ++h)
      fill_row(row_of<T>(grad_x, n, c, d, h), grad_x.stride[4], size[4], T{0});
  }
  const Cursor::Index outputs{1, 1, grad_y.size[2], grad_y.size[3], grad_y.size[4]};
  Cursor at(outputs, 0);
  for (std::int64_t left = Cursor::total(outputs); left > 0; --left, at.next()) {
    const std::int64_t index =
        row_of<const std::int64_t>(indices, n, c, at[2], at[3])[at[4] * indices.stride[4]];
    if (index < 0 || index >= positions) {
      if (index != -1) bad = index;
      continue;
    }
    if (dense) {
      plane[index] += row_of<const T>(grad_y, n, c, at[2], at[3])[at[4] * grad_y.stride[4]];
      continue;
    }
    const std::int64_t line = index / size[4];
    T* const row = row_of<T>(grad_x, n, c, line / size[3], line % size[3]);
    row[index % size[4] * grad_x.stride[4]] +=
        row_of<const T>(grad_y, n, c, at[2], at[3])[at[4] * grad_y.stride[4]];
  }
  return bad;
}

template <class T>
std::optional<std::int64_t> scatter_indices(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                            const ConstTensor5& indices) {
  constexpr std::int64_t kNoBadIndex = -1;  // -1 is legal
  std::atomic<std::int64_t> bad_index{kNoBadIndex};
  const std::int64_t channels = grad_x.size[1];
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * grad_x.size[2] * grad_x.size[3] * grad_x.size[4];
  parallel_for(grad_x.size[0] * channels, row_grain(bytes), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const auto bad = scatter_plane<T>(grad_x, grad_y, indices, plane / channels, plane % channels);
      if (bad) bad_index.store(*bad);
    }
  });
  const std::int64_t bad = bad_index.load();
  return bad == kNoBadIndex ? std::nullopt : std::optional(bad);
}

/// What each tap adds to the address of the first tap of its window, and which outputs along each axis have
/// all their taps inside the input.
class TapOffsets {
 public:
  TapOffsets(const Axes& axes, const Array5& stride) {
    const std::int64_t count = axes[0].kernel() * axes[1].kernel() * axes[2].kernel();
    offsets_.reserve(static_cast<std::size_t>(count));
    for (std::int64_t d = 0; d < axes[0].kernel(); ++d) {
      for (std::int64_t h = 0; h < axes[1].kernel(); ++h) {
        for (std::int64_t w = 0; w < axes[2].kernel(); ++w) {
          offsets_.push_back(d * axes[0].dilation() * stride[2] + h * axes[1].dilation() * stride[3] +
                             w * axes[2].dilation() * stride[4]);
        }
      }
    }
  }
  const std::int64_t* data() const { return offsets_.data(); }
  std::size_t size() const { return offsets_.size(); }

 private:
  std::vector<std::int64_t> offsets_;
};

inline bool inside(const Axis& axis, std::int64_t position) { return position >= 0 && position < axis.in(); }

/// One output of a window at the border, or any output when in doubt: its tap may lie in the padding.
template <class T>
void scatter_checked(T* plane, const Array5& stride, const Axes& axes, std::int64_t od, std::int64_t oh,
                     std::int64_t ow, std::int64_t tap, T grad) {
  const std::int64_t w = axes[2].start(ow) + tap % axes[2].kernel() * axes[2].dilation();
  const std::int64_t h = axes[1].start(oh) + tap / axes[2].kernel() % axes[1].kernel() * axes[1].dilation();
  const std::int64_t depth_tap = tap / axes[2].kernel() / axes[1].kernel();
  const std::int64_t d = axes[0].start(od) + depth_tap * axes[0].dilation();
  if (depth_tap >= axes[0].kernel() || !inside(axes[0], d) || !inside(axes[1], h) || !inside(axes[2], w))
    return;
  plane[d * stride[2] + h * stride[3] + w * stride[4]] += grad;
}

/// Window max from compact taps, plane by plane: few outputs per input, so adding each where it belongs
/// beats gathering (3x3 stride 2, [32, 128, 28, 28] f32, AVX2, one thread: 2.4 against 7.4 ms). The order of
/// additions is the same, and so is every bit of the result.
template <class T, class Tap>
void scatter_planes_from_taps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                              const Axes& axes) {
  const TapOffsets offsets(axes, grad_x.stride);
  const Axis& w = axes[2];
  const bool full_rows = axes[2].dilated_kernel() <= w.in();
  // Outputs whose window lies inside along W.
  const std::int64_t begin_inside =
      full_rows ? std::min(w.out(), ceil_divide(w.padding(), w.stride())) : w.out();
  const std::int64_t room = w.in() + w.padding() - w.dilated_kernel();
  const std::int64_t end_inside =
      full_rows ? std::clamp(room / w.stride() + 1, begin_inside, w.out()) : w.out();
  const std::int64_t channels = grad_x.size[1];
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * grad_x.size[2] * grad_x.size[3] * grad_x.size[4];
  parallel_for(grad_x.size[0] * channels, row_grain(bytes),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 for (std::int64_t index = begin; index < end; ++index) {
                   const std::int64_t n = index / channels;
                   const std::int64_t c = index % channels;
                   T* const plane = plane_of<T>(grad_x, n, c);
                   for (std::int64_t d = 0; d < grad_x.size[2]; ++d) {
                     for (std::int64_t h = 0; h < grad_x.size[3]; ++h) {
                       fill_row(row_of<T>(grad_x, n, c, d, h), grad_x.stride[4], grad_x.size[4], T{0});
                     }
                   }
                   for (std::int64_t od = 0; od < grad_y.size[2]; ++od) {
                     for (std::int64_t oh = 0; oh < grad_y.size[3]; ++oh) {
                       const T* const grads = row_of<const T>(grad_y, n, c, od, oh);
                       const Tap* const row_taps = row_of<const Tap>(taps, n, c, od, oh);
                       const auto checked = [&](std::int64_t from, std::int64_t to) {
                         for (std::int64_t ow = from; ow < to; ++ow) {
                           scatter_checked(plane, grad_x.stride, axes, od, oh, ow,
                                           row_taps[ow * taps.stride[4]], grads[ow * grad_y.stride[4]]);
                         }
                       };
                       const std::int64_t d0 = axes[0].start(od);
                       const std::int64_t h0 = axes[1].start(oh);
                       if (!inside(axes[0], d0) || !inside(axes[0], d0 + axes[0].dilated_kernel() - 1) ||
                           !inside(axes[1], h0) || !inside(axes[1], h0 + axes[1].dilated_kernel() - 1)) {
                         checked(0, w.out());
                         continue;
                       }
                       checked(0, begin_inside);
                       const std::int64_t corner =
                           d0 * grad_x.stride[2] + h0 * grad_x.stride[3] - w.padding() * grad_x.stride[4];
                       const std::int64_t step = w.stride() * grad_x.stride[4];
                       for (std::int64_t ow = begin_inside; ow < end_inside; ++ow) {
                         const std::size_t tap = row_taps[ow * taps.stride[4]];
                         if (tap >= offsets.size()) continue;
                         plane[corner + ow * step + offsets.data()[tap]] += grads[ow * grad_y.stride[4]];
                       }
                       checked(end_inside, w.out());
                     }
                   }
                 }
               });
}

/// Rows of grad_x in parallel: row(at, readers, to).
template <class T, class Row>
void for_each_scattered_row(const Tensor5& grad_x, const Axes& axes, const Row& row) {
  const Cursor::Index units{grad_x.size[0], grad_x.size[1], grad_x.size[2], grad_x.size[3], 1};
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * grad_x.size[4];
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) {
    ReaderRows readers;
    ReaderRows previous;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      std::swap(readers, previous);
      readers.collect(axes, at[2], at[3]);
      const bool repeats = unit > begin && at[3] > 0 && readers.same_outputs(previous);
      row(at, readers, repeats, row_of<T>(grad_x, at[0], at[1], at[2], at[3]));
    }
  });
}

/// Max from compact taps.
template <class T, class Tap>
void scatter_taps(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                  const Axes& axes) {
  const Axis& w = axes[2];
  for_each_scattered_row<T>(grad_x, axes, [&](const Cursor& at, const ReaderRows& readers, bool, T* to) {
    fill_row(to, grad_x.stride[4], w.in(), T{0});
    for (std::int64_t i = 0; i < readers.count(); ++i) {
      const T* const grads = row_of<const T>(grad_y, at[0], at[1], readers[i].od, readers[i].oh);
      const Tap* const row_taps = row_of<const Tap>(taps, at[0], at[1], readers[i].od, readers[i].oh);
      const std::int64_t first = readers[i].tap * w.kernel();
      for (std::int64_t ow = 0; ow < w.out(); ++ow) {
        const std::int64_t j = static_cast<std::int64_t>(row_taps[ow * taps.stride[4]]) - first;
        if (j < 0 || j >= w.kernel()) continue;
        const std::int64_t column = w.start(ow) + j * w.dilation();
        if (column < 0 || column >= w.in()) continue;  // a record that no forward wrote
        to[column * grad_x.stride[4]] += grads[ow * grad_y.stride[4]];
      }
    }
  });
}

/// Averages: every output adds grad / divisor to the columns it reads. divide(od, oh, ow) is the divisor.
template <class T, class Divide>
void scatter_average(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                     const Divide& divide) {
  const Axis& w = axes[2];
  const std::int64_t step = grad_x.stride[4];
  for_each_scattered_row<T>(
      grad_x, axes, [&](const Cursor& at, const ReaderRows& readers, bool repeats, T* to) {
        if (repeats) {  // read by the same outputs as the row before
          const T* const before = to - grad_x.stride[3];
          for (std::int64_t column = 0; column < w.in(); ++column) to[column * step] = before[column * step];
          return;
        }
        fill_row(to, step, w.in(), T{0});
        for (std::int64_t ow = 0; ow < w.out(); ++ow) {
          T sum = 0;
          for (std::int64_t i = 0; i < readers.count(); ++i) {
            const T* const grads = row_of<const T>(grad_y, at[0], at[1], readers[i].od, readers[i].oh);
            sum += grads[ow * grad_y.stride[4]] / static_cast<T>(divide(readers[i].od, readers[i].oh, ow));
          }
          const Taps taps = w.taps(ow);
          T* const first = to + taps.position * step;
          for (std::int64_t j = 0; j < taps.count; ++j) first[j * w.dilation() * step] += sum;
        }
      });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
