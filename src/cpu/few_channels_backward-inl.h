// Backward over dense channels-last tensors whose pixels do not fill a vector, as in pixel_groups-inl.h: a
// pixel of grad_x is one vector, whose lanes beyond the channels the next pixel overwrites.
#if defined(CENOTE_CPU_FEW_CHANNELS_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_FEW_CHANNELS_BACKWARD_INL_H_
#undef CENOTE_CPU_FEW_CHANNELS_BACKWARD_INL_H_
#else
#define CENOTE_CPU_FEW_CHANNELS_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/channels_last_backward-inl.h"
#include "cpu/dense-inl.h"
#include "cpu/pixel_groups-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// A row of outputs, of which the first `whole` pixels may be read as whole vectors.
template <class Row>
struct FewChannelsRow {
  HWY_INLINE auto output(std::int64_t number, std::size_t channels) const {
    return number < whole ? row.output(number, 0) : row.first_channels(number, channels);
  }

  Row row;
  std::int64_t whole;
};

/// Makes rows of grad_x from the rows that read them.
template <int kStride, int kTaps, class T, class Row>
class FewChannelsGatherer {
 public:
  static constexpr int kOutputs = (kTaps - 1) / kStride + 1;  // that read a group

  FewChannelsGatherer(const Axis& w, std::int64_t channels)
      : columns_(w), channels_(channels), part_(static_cast<std::size_t>(channels)) {}

  /// `room` elements may be written from `to` on.
  void operator()(std::span<const Row> rows, T* to, std::int64_t room) const {
    with_few_rows(rows.size(), [&]<std::size_t kRows>() HWY_ATTR { gather<kRows>(rows, to, to + room); });
  }

 private:
  template <std::size_t kRows>
  HWY_INLINE void gather(std::span<const Row> rows, T* to, const T* end) const {
    const WideTag<T> d;
    Row few[kRows + 1];
    std::copy_n(rows.begin(), kRows, few);
    const Row* const row = kRows > 0 ? few : rows.data();
    const std::size_t count = kRows > 0 ? kRows : rows.size();
    const auto gather_one = [&](std::int64_t column, std::span<const Reader> readers) HWY_ATTR {
      auto sum = hn::Zero(d);
      for (std::size_t r = 0; r < count; ++r) {
        for (const Reader& reader : readers)
          sum = hn::Add(sum, row[r].row.through(row[r].output(reader.output, part_), reader.tap));
      }
      store(sum, to + column * channels_, end);
    };
    columns_.for_each_before(gather_one);
    const Range groups = columns_.groups();
    T* pixel = to + columns_.columns().begin * channels_;
    for (std::int64_t m = groups.begin; m < groups.end; ++m) {
      VecOf<WideTag<T>> sums[kStride];
      std::fill_n(sums, kStride, hn::Zero(d));
      for (std::size_t r = 0; r < count; ++r) {
        if (r + 1 == count) row[r].row.ask_ahead_of(m, 0);
        for (int before = kOutputs - 1; before >= 0; --before) {  // in the order of the outputs
          const auto output = row[r].output(m - before, part_);
          for (int phase = 0; phase < kStride; ++phase) {
            const int tap = phase + before * kStride;
            if (tap < kTaps) sums[phase] = hn::Add(sums[phase], row[r].row.through(output, tap));
          }
        }
      }
      for (int phase = 0; phase < kStride; ++phase, pixel += channels_) store(sums[phase], pixel, end);
    }
    columns_.for_each_after(gather_one);
  }
  HWY_INLINE void store(VecOf<WideTag<T>> v, T* pixel, const T* end) const {
    const WideTag<T> d;
    if (end - pixel >= lanes_of<T>()) return StoreVector(d, v, pixel);
    StorePart(d, v, pixel, part_);
  }

  ColumnGroups columns_;
  std::int64_t channels_;
  std::size_t part_;
};

/// Whether the pixels of a channels-last tensor follow each other in memory.
template <class Tensor>
bool dense_pixels(const Tensor& tensor) {
  std::int64_t stride = tensor.size[1];
  for (const std::size_t dim : {4, 3, 2, 0}) {
    if (tensor.size[dim] > 1 && tensor.stride[dim] != stride) return false;
    stride *= tensor.size[dim];
  }
  return true;
}

/// row_of_outputs(state, n, reader) is the Row of outputs that read a row of grad_x; each thread has a State.
template <class Row, class State, int kStride, int kTaps, class T, class RowOfOutputs>
void ForEachFewChannels(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                        const RowOfOutputs& row_of_outputs) {
  using Padded = FewChannelsRow<Row>;
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  const std::int64_t channels = grad_x.size[1];
  const FewChannelsGatherer<kStride, kTaps, T, Padded> gather(axes[2], channels);
  const Cursor::Index units{1, 1, grad_x.size[0], grad_x.size[2], grad_x.size[3]};
  const std::int64_t row_elements = grad_x.size[4] * channels;
  const std::int64_t out_rows = grad_y.size[0] * axes[0].out() * axes[1].out();
  constexpr std::int64_t kMostCollected = 256 << 10;
  const bool past = row_elements <= kMostCollected / kSize && stores_past_caches(grad_x, grad_y);
  auto* const to = static_cast<T*>(grad_x.data);
  parallel_for(Cursor::total(units), row_grain(row_elements * kSize),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 OutputLines lines;
                 State state;
                 ReaderRows readers;
                 std::vector<Padded> rows;
                 Cursor at(units, begin);
                 for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
                   readers.collect(axes, at[3], at[4]);
                   rows.clear();
                   for (std::int64_t i = 0; i < readers.count(); ++i) {
                     const ReaderRow& reader = readers[i];
                     const std::int64_t number =
                         (at[2] * axes[0].out() + reader.od) * axes[1].out() + reader.oh;
                     const std::int64_t left = (out_rows - number) * axes[2].out() * channels;
                     rows.push_back({row_of_outputs(state, at[2], reader),
                                     left < lanes_of<T>() ? 0 : (left - lanes_of<T>()) / channels + 1});
                   }
                   T* const place = to + unit * row_elements;
                   if (past) {
                     T* const made = reinterpret_cast<T*>(lines.room(place, row_elements * kSize));
                     gather(rows, made, row_elements + OutputLines::kBeyond / kSize);
                     lines.done(row_elements * kSize);
                   } else {
                     ask_ahead(place, row_elements);
                     gather(rows, place, (end - unit) * row_elements);
                   }
                 }
               });
}

template <class Row, class State, class T, class RowOfOutputs>
void ForEachFewChannels(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                        const RowOfOutputs& rows) {
  with_groups(axes[2], [&]<int kStride, int kTaps>() {
    ForEachFewChannels<Row, State, kStride, kTaps, T>(grad_x, grad_y, axes, rows);
  });
}

/// Whether the functions below serve these windows; taps are u8. AVX-512, two threads, against lists of the
/// outputs that read a pixel: [4, 8, 640, 1024] f32, 2x2 stride 2, max 16.5 and 2.3 ms, avg 16.9 and 2.1 ms;
/// 3x3 stride 1 max of [32, 8, 112, 112] 4.7 and 1.5 ms.
template <class T>
bool gathers_few_channels(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes) {
  return has_groups(axes[2]) && grad_x.size[1] < lanes_of<T>() && dense_pixels(grad_x) &&
         dense_pixels(grad_y);
}

/// The same for averages.
template <class T>
bool averages_few_channels(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes) {
  return gathers_few_channels<T>(grad_x, grad_y, axes) && few_divisors(axes);
}

template <class T>
void MaxBackwardOfFewChannels(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                              const Axes& axes) {
  struct State {};
  const auto row = [&](State&, std::int64_t n, const ReaderRow& reader) {
    return tapped_row<T>(grad_y, taps, axes, n, reader);
  };
  ForEachFewChannels<TappedRow<T>, State, T>(grad_x, grad_y, axes, row);
}

template <class T, class Divisors>
void AvgBackwardOfFewChannels(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                              const Divisors& divisors) {
  const auto row = [&](InverseRows<LaneOf<T>>& inverses, std::int64_t n, const ReaderRow& reader) {
    return scaled_row<T>(grad_y, axes, divisors, inverses, n, reader);
  };
  ForEachFewChannels<ScaledRow<T>, InverseRows<LaneOf<T>>, T>(grad_x, grad_y, axes, row);
}

/// Max backward over any channels-last tensors, by the loops that fit.
template <class T>
void MaxBackwardOfPixels(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes) {
  if constexpr (kTuned) {
    if (gathers_pixel_groups<T>(grad_x, axes)) return MaxBackwardOfPixelGroups<T>(grad_x, grad_y, taps, axes);
    if (gathers_few_channels<T>(grad_x, grad_y, axes) && dense_pixels(taps))
      return MaxBackwardOfFewChannels<T>(grad_x, grad_y, taps, axes);
  }
  return ChannelsLastMaxBackward<T, std::uint8_t>(grad_x, grad_y, taps, axes);
}

/// The same of averages.
template <class T, class Divisors>
void AvgBackwardOfPixels(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                         const Divisors& divisors) {
  if constexpr (kTuned) {
    if (averages_pixel_groups<T>(grad_x, axes))
      return AvgBackwardOfPixelGroups<T>(grad_x, grad_y, axes, divisors);
    if (averages_few_channels<T>(grad_x, grad_y, axes))
      return AvgBackwardOfFewChannels<T>(grad_x, grad_y, axes, divisors);
  }
  return ChannelsLastAvgBackward<T>(grad_x, grad_y, axes, divisors);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
