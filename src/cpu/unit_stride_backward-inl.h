// Average backward of stride 1. An input then sums the quotients grad_y / divisor of a window of outputs: of
// as many taps as far apart, with the padding that the dilated window has beyond its own. So the forward
// loops do the sums: of the gradients, where all are divided by the same, else of quotients in working
// memory, of some planes or of a part of one, that stays in the caches.
#if defined(CENOTE_CPU_UNIT_STRIDE_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_UNIT_STRIDE_BACKWARD_INL_H_
#undef CENOTE_CPU_UNIT_STRIDE_BACKWARD_INL_H_
#else
#define CENOTE_CPU_UNIT_STRIDE_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "cpu/planar-inl.h"
#include "cpu/scatter-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Whether the readers of inputs are windows of stride 1 over the outputs, of more than one tap.
inline bool readers_are_windows(const Axes& axes) {
  const auto fits = [](const Axis& axis) {
    return axis.stride() == 1 && axis.padding() < axis.dilated_kernel();
  };
  const auto one_tap = [](const Axis& axis) { return axis.kernel() == 1; };
  return std::all_of(axes.begin(), axes.end(), fits) && !std::all_of(axes.begin(), axes.end(), one_tap);
}

/// Neighbouring inputs of one axis, the outputs that read them, and the windows that these form.
struct Stretch {
  Range inputs;
  Range outputs;
  WindowAxis readers;
};

using PlanePart = std::array<Stretch, 3>;  // D, H, W

/// Into what parts planes are cut, or how many planes are worked on together.
class QuotientBlocks {
 public:
  /// For up to `budget` positions. Neighbouring parts read some outputs both, so none is much shorter than a
  /// window, whatever the budget. Parts begin at multiples of column_step along W.
  QuotientBlocks(const Axes& axes, std::int64_t budget, std::int64_t column_step)
      : axes_(axes), steps_{1, kRowBatch, column_step} {  // rows: where the loops of rows batch them
    const std::int64_t least_slices = outputs(0, least(0));
    const std::int64_t least_rows = outputs(1, least(1));
    fit(2, budget / least_slices / least_rows);
    const std::int64_t rows = budget / outputs(2, inputs_[2]);
    fit(1, rows / least_slices);
    const std::int64_t slices = rows / outputs(1, inputs_[1]);
    fit(0, slices);
    if (parts(0) * parts(1) * parts(2) == 1) planes_ = std::max<std::int64_t>(slices / axes_[0].out(), 1);
  }
  std::int64_t planes() const { return planes_; }
  std::int64_t parts(std::size_t axis) const { return ceil_divide(axes_[axis].in(), inputs_[axis]); }
  PlanePart part(std::int64_t d, std::int64_t h, std::int64_t w) const {
    return {stretch(0, d), stretch(1, h), stretch(2, w)};
  }

 private:
  std::int64_t least(std::size_t axis) const {
    const Axis& of = axes_[axis];
    const std::int64_t reach = std::min(of.dilated_kernel() - 1, of.in());
    return std::min(of.in(), std::max<std::int64_t>(ceil_divide(reach, steps_[axis]), 1) * steps_[axis]);
  }
  std::int64_t outputs(std::size_t axis, std::int64_t inputs) const {
    const Axis& of = axes_[axis];
    return std::min(of.out(), inputs + std::min(of.dilated_kernel() - 1, of.out()));
  }
  /// As many inputs as `outs` outputs read.
  void fit(std::size_t axis, std::int64_t outs) {
    const Axis& of = axes_[axis];
    const std::int64_t inputs = outs - (of.dilated_kernel() - 1);
    inputs_[axis] =
        outs >= of.out() ? of.in() : std::clamp(inputs / steps_[axis] * steps_[axis], least(axis), of.in());
  }
  Stretch stretch(std::size_t axis, std::int64_t index) const {
    const Axis& of = axes_[axis];
    const Range inputs{index * inputs_[axis], std::min(of.in(), (index + 1) * inputs_[axis])};
    const std::int64_t first_reader = inputs.begin - (of.dilated_kernel() - 1 - of.padding());
    const Range outputs{std::max<std::int64_t>(first_reader, 0),
                        std::min(of.out(), inputs.end + of.padding())};
    return {inputs, outputs, {of.kernel(), 1, outputs.begin - first_reader, 0, of.dilation()}};
  }

  const Axes& axes_;
  std::array<std::int64_t, 3> steps_;
  std::array<std::int64_t, 3> inputs_{};  // of one part, of D, H, W
  std::int64_t planes_ = 1;
};

/// The divisor of all outputs, or 0 where they differ.
inline std::int64_t common_divisor(const Axes& axes, const Divisor& divisor) {
  if (divisor.override_value != 0) return divisor.override_value;
  std::int64_t product = 1;
  for (const Axis& axis : axes) {
    const std::int64_t first = divisor_of(axis, 0, divisor.count_include_pad);
    // Divisors rise along the axis and fall again: those between two of the largest are as large.
    const bool alike = first == axis.kernel() &&
                       divisor_of(axis, axis.out() - 1, divisor.count_include_pad) == axis.kernel();
    if (!alike && axis.out() > 1) return 0;
    product *= first;
  }
  return product;
}

/// Channels first .. first + count - 1 of image n.
struct Channels {
  std::int64_t n;
  std::int64_t first;
  std::int64_t count;
};

template <class T, class Tensor>
Tensor part_of(Tensor tensor, const Channels& of, const Range& d, const Range& h, const Range& w) {
  tensor.data = row_of<T>(tensor, of.n, of.first, d.begin, h.begin) + w.begin * tensor.stride[4];
  tensor.size = {1, of.count, d.end - d.begin, h.end - h.begin, w.end - w.begin};
  return tensor;
}

template <class D, class T>
HWY_INLINE VecOf<D> LoadOfRow(D d, const T* from, std::int64_t stride, std::int64_t left) {
  const auto part = left >= lanes_of<T>() ? 0 : static_cast<std::size_t>(left);
  if (stride == 1) return LoadLanes<true>(d, from, 1, part);
  return LoadLanes<false>(d, from, stride, part);
}

/// Whether sums of so many elements of a tensor of one image are finite, whichever they are.
template <class T>
HWY_NOINLINE bool SumsAreFinite(const ConstTensor5& of, std::int64_t terms) {
  const WideTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto most =
      hn::Set(d, std::numeric_limits<T>::max() / static_cast<T>(terms) / 2);  // halved: they round
  bool finite = true;
  for (std::int64_t c = 0; c < of.size[1]; ++c) {
    for (std::int64_t z = 0; z < of.size[2]; ++z) {
      for (std::int64_t h = 0; h < of.size[3]; ++h) {
        const T* const row = row_of<const T>(of, 0, c, z, h);
        auto small = hn::Le(hn::Zero(d), most);
        for (std::int64_t i = 0; i < of.size[4]; i += lanes) {
          const auto v = LoadOfRow(d, row + i * of.stride[4], of.stride[4], of.size[4] - i);
          small = hn::And(small, hn::Le(hn::Abs(v), most));
        }
        finite = finite && hn::AllTrue(d, small);
      }
    }
  }
  return finite;
}

/// Working memory for the quotients of a part.
template <class T>
class Quotients {
 public:
  Quotients(const Axes& axes, const Divisor& divisor) : axes_(axes), divisor_(divisor) {}

  ConstTensor5 compute(const ConstTensor5& grad_y, const Channels& channels, const PlanePart& part) {
    const auto& [depth, height, width] = part;
    const ConstTensor5 from =
        part_of<const T>(grad_y, channels, depth.outputs, height.outputs, width.outputs);
    const auto& size = from.size;
    constexpr auto kStep = static_cast<std::int64_t>(kMaxLanes<T>);  // rows are stored in whole vectors
    const std::int64_t pitch = ceil_divide(size[4], kStep) * kStep;
    const std::int64_t plane = size[2] * size[3] * pitch;
    T* to = memory_.resize(static_cast<std::size_t>(size[1] * plane));
    ConstTensor5 quotients = from;
    quotients.data = to;
    quotients.stride = {0, plane, size[3] * pitch, pitch, 1};
    columns_.set(axes_[2], divisor_, width.outputs.begin, size[4]);
    factor_ = 0;
    for (std::int64_t c = 0; c < size[1]; ++c) {
      for (std::int64_t d = 0; d < size[2]; ++d) {
        for (std::int64_t h = 0; h < size[3]; ++h, to += pitch) {
          const T factor = row_divisor<T>(axes_, divisor_, depth.outputs.begin + d, height.outputs.begin + h);
          divide_row(row_of<const T>(from, 0, c, d, h), from.stride[4], size[4], factor, to);
        }
      }
    }
    return quotients;
  }

 private:
  /// factor times the divisor of a column divides an element of it.
  HWY_NOINLINE void divide_row(const T* from, std::int64_t stride, std::int64_t count, T factor, T* to) {
    const WideTag<T> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    if (factor != factor_) invert(factor, count);
    constexpr std::int64_t kAhead = 4096 / static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < count; i += lanes) {
      prefetch_for_read(from + i * stride + kAhead);
      const auto v = LoadOfRow(d, from + i * stride, stride, count - i);
      hn::StoreU(hn::Mul(v, hn::LoadU(d, inverses_.get() + i)), d, to + i);
    }
  }
  HWY_NOINLINE void invert(T factor, std::int64_t count) {
    const WideTag<T> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    T* const to = inverses_.resize(static_cast<std::size_t>(count + lanes));
    for (std::int64_t i = 0; i < count; i += lanes) {
      const auto divisors = hn::Mul(hn::Set(d, factor), hn::LoadU(d, columns_.get() + i));
      hn::StoreU(hn::Div(hn::Set(d, T{1}), divisors), d, to + i);
    }
    factor_ = factor;
  }

  const Axes& axes_;
  const Divisor& divisor_;
  Scratch<T> memory_;
  ColumnDivisors<T> columns_;
  Scratch<T> inverses_;  // of factor_ times those, where it is not 0
  T factor_ = 0;
};

/// average(y, x, window, divisor) is the forward pass along rows, of whole groups of column_step elements.
template <class T, class Average>
void UnitStrideAvgBackward(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                           const Divisor& divisor, const Average& average,
                           std::int64_t column_step = kRowBatch) {
  // 3x3 count_include_pad = false, AVX-512, one thread, of [64, 64, 56, 56] f32: 14.1 ms with 128 KiB, 13.4
  // ms with 512 KiB, 14.7 ms with 1 MiB.
  constexpr std::int64_t kBudget = (256 << 10) / static_cast<std::int64_t>(sizeof(T));
  const QuotientBlocks blocks(axes, kBudget, column_step);
  const std::int64_t common = common_divisor(axes, divisor);
  const std::int64_t taps = axes[0].kernel() * axes[1].kernel() * axes[2].kernel();
  const Cursor::Index units{grad_x.size[0], grad_x.size[1], blocks.parts(0), blocks.parts(1),
                            blocks.parts(2)};
  const std::int64_t positions = axes[0].in() * axes[1].in() * axes[2].in();
  const std::int64_t bytes =
      static_cast<std::int64_t>(sizeof(T)) * positions / (units[2] * units[3] * units[4]);
  const bool past = stores_past_caches(grad_x, grad_y);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const SerialScope serial;
    const PastCachesScope parts(past);
    Quotients<T> quotients(axes, divisor);
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end;) {
      const Channels all{at[0], at[1], std::min({blocks.planes(), units[1] - at[1], end - unit})};
      const PlanePart part = blocks.part(at[2], at[3], at[4]);
      const WindowAxes readers{part[0].readers, part[1].readers, part[2].readers};
      const auto to = [&](const Channels& channels) {
        return part_of<T>(grad_x, channels, part[0].inputs, part[1].inputs, part[2].inputs);
      };
      const auto sum_quotients = [&](const Channels& channels) {
        average(to(channels), quotients.compute(grad_y, channels, part), readers, Divisor{true, 1});
      };
      // Of gradients whose sum is divided; false where it may leave the range of T, and that of quotients
      // does not.
      const auto divide_sums = [&](const Channels& channels) {
        const auto from =
            part_of<const T>(grad_y, channels, part[0].outputs, part[1].outputs, part[2].outputs);
        if (!SumsAreFinite<T>(from, taps)) return false;
        average(to(channels), from, readers, Divisor{true, common});
        return true;
      };
      if (common == 0) {
        sum_quotients(all);
      } else if (!divide_sums(all)) {
        for (std::int64_t i = 0; i < all.count; ++i) {
          const Channels plane{all.n, all.first + i, 1};
          if (!divide_sums(plane)) sum_quotients(plane);
        }
      }
      for (std::int64_t i = 0; i < all.count; ++i, ++unit) at.next();
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
