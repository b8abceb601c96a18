// The elements of windows in the three ways that loops over all of them want them: as rows of taps for many
// outputs at once, packed for one output at a time, and as pixels whose channels lie side by side.
#if defined(CENOTE_CPU_WINDOW_ELEMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_WINDOW_ELEMENTS_INL_H_
#undef CENOTE_CPU_WINDOW_ELEMENTS_INL_H_
#else
#define CENOTE_CPU_WINDOW_ELEMENTS_INL_H_
#endif

#include <optional>
#include <vector>

#include "backend.h"
#include "cpu/tap_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// The windows of a call; uneven ones have no stride.
struct Windows {
  Axes axes;
  bool sliding;
};

/// Adaptive windows that divide the input evenly slide, too.
inline Windows windows_of(const WindowAxes* window, const Array5& in, const Array5& out) {
  Windows windows{{}, true};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::int64_t size = in[axis + 2];
    const std::int64_t outs = out[axis + 2];
    if (window != nullptr) {
      windows.axes[axis] = Axis::window((*window)[axis], size, outs);
    } else if (outs > 0 && size % outs == 0) {
      windows.axes[axis] = Axis::window({size / outs, size / outs, 0, 0, 1}, size, outs);
    } else {
      windows.axes[axis] = Axis::adaptive(size, outs);
      windows.sliding = false;
    }
  }
  tabulate_row_taps(windows.axes);
  if (!windows.sliding) windows.axes[2].tabulate_taps();
  return windows;
}

// ---- rows of outputs ----------------------------------------------------------------------------

/// How many columns of each window are real, as T.
template <class T>
std::vector<T> column_counts(const Axis& w) {
  std::vector<T> counts(static_cast<std::size_t>(w.out()) + kMaxLanes<T>, T{1});
  for (std::int64_t o = 0; o < w.out(); ++o)
    counts[static_cast<std::size_t>(o)] = static_cast<T>(w.taps(o).count);
  return counts;
}

/// Pointers to the rows of all taps, those of one input row after those of the one before.
template <class T>
std::vector<T*> tap_pointers(const TapRows<T>& rows, const Axes& axes) {
  std::vector<T*> pointers;
  const std::int64_t count = axes[0].kernel() * axes[1].kernel();
  for (std::int64_t row = 0; row < count; ++row)
    for (std::int64_t j = 0; j < axes[2].kernel(); ++j) pointers.push_back(rows.at(row, j));
  return pointers;
}

template <class T>
std::int64_t bytes_per_output_row(const Axes& axes) {
  return static_cast<std::int64_t>(sizeof(T)) * axes[2].out() * axes[0].kernel() * axes[1].kernel() *
         axes[2].kernel();
}

// ---- single windows -----------------------------------------------------------------------------

/// The one window of each plane is the plane.
inline bool is_global(const Axes& axes) {
  return std::all_of(axes.begin(), axes.end(),
                     [](const Axis& axis) { return axis.out() == 1 && axis.taps(0).count == axis.in(); });
}

/// The elements of one window side by side: where they are, if they are so already.
template <class T>
class PackedWindow {
 public:
  void pack(const InputRows<T>& rows, const Taps& columns, std::int64_t dilation, std::int64_t stride) {
    const std::int64_t step = dilation * stride;
    count_ = rows.count() * columns.count;
    if (count_ == 0) return;
    bool dense = step == 1 || columns.count == 1;
    for (std::int64_t i = 1; i < rows.count() && dense; ++i)
      dense = rows.row(i) - rows.row(i - 1) == columns.count;
    values_ = rows.row(0) + columns.position * stride;
    if (dense) return;
    T* to = memory_.resize(static_cast<std::size_t>(count_));
    values_ = to;
    for (std::int64_t i = 0; i < rows.count(); ++i) {
      const T* const from = rows.row(i) + columns.position * stride;
      for (std::int64_t j = 0; j < columns.count; ++j) *to++ = from[j * step];
    }
  }
  /// All of a dense plane.
  void take_plane(const ConstTensor5& x, std::int64_t n, std::int64_t c) {
    values_ = plane_of<const T>(x, n, c);
    count_ = x.size[2] * x.size[3] * x.size[4];
  }
  const T* values() const { return values_; }
  std::int64_t count() const { return count_; }

 private:
  const T* values_ = nullptr;
  std::int64_t count_ = 0;
  Scratch<T> memory_;
};

template <class T>
std::int64_t bytes_per_window(const Axes& axes) {
  return static_cast<std::int64_t>(sizeof(T)) * axes[0].kernel() * axes[1].kernel() * axes[2].kernel();
}

// ---- channels last ------------------------------------------------------------------------------

/// Offsets of the pixels of one window, in elements of each of two tensors, and the numbers of its taps.
struct PixelOffsets {
  std::vector<std::int64_t> x;
  std::vector<std::int64_t> grad_x;
  std::vector<std::int64_t> taps;
  std::optional<Array5> collected;  // the position

  /// Axes and strides must be the same in all calls.
  void collect(const Axes& axes, const Array5& position, const Array5& x_stride, const Array5& grad_stride) {
    if (collected == position) return;
    collected = position;
    const Taps d = axes[0].taps(position[2]);
    const Taps h = axes[1].taps(position[3]);
    const Taps w = axes[2].taps(position[4]);
    const auto count = static_cast<std::size_t>(d.count * h.count * w.count);
    x.resize(count);
    grad_x.resize(count);
    taps.resize(count);
    std::size_t next = 0;
    for (std::int64_t i = 0; i < d.count; ++i) {
      for (std::int64_t j = 0; j < h.count; ++j) {
        for (std::int64_t k = 0; k < w.count; ++k, ++next) {
          const std::int64_t at[3] = {d.position + i * axes[0].dilation(),
                                      h.position + j * axes[1].dilation(),
                                      w.position + k * axes[2].dilation()};
          x[next] = at[0] * x_stride[2] + at[1] * x_stride[3] + at[2] * x_stride[4];
          grad_x[next] = at[0] * grad_stride[2] + at[1] * grad_stride[3] + at[2] * grad_stride[4];
          taps[next] = ((d.first + i) * axes[1].kernel() + h.first + j) * axes[2].kernel() + w.first + k;
        }
      }
    }
  }
  std::int64_t count() const { return static_cast<std::int64_t>(x.size()); }
};

/// Vectors of the channels first .. end - 1: body(c, number of channels or 0 for all lanes).
template <class T, class Body>
HWY_INLINE void ForEachChannelVector(std::int64_t first, std::int64_t end, const Body& body) {
  for (std::int64_t c = first; c < end; c += lanes_of<T>())
    body(c, static_cast<std::size_t>(end - c >= lanes_of<T>() ? 0 : end - c));
}

/// The same vectors, as many as four side by side at a time: body.operator()<vectors>(c, part).
template <class T, class Body>
HWY_INLINE void ForEachChannelTile(std::int64_t first, std::int64_t end, const Body& body) {
  const std::int64_t lanes = lanes_of<T>();
  std::int64_t c = first;
  for (; c + 4 * lanes <= end; c += 4 * lanes) body.template operator()<4>(c, 0);
  for (; c + 2 * lanes <= end; c += 2 * lanes) body.template operator()<2>(c, 0);
  ForEachChannelVector<T>(
      c, end, [&](std::int64_t at, std::size_t part) HWY_ATTR { body.template operator()<1>(at, part); });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
