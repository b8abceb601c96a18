// Max backward from compact taps over channels-last tensors, for windows of 2 or 3 columns with stride 1 or
// 2: pixels of grad_x are made in groups of as many columns as the stride, whose readers are at hand
// together.
#if defined(CENOTE_CPU_PIXEL_GROUPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PIXEL_GROUPS_INL_H_
#undef CENOTE_CPU_PIXEL_GROUPS_INL_H_
#else
#define CENOTE_CPU_PIXEL_GROUPS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "cpu/rows-inl.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Groups of stride columns of grad_x, of which all are read through each tap that there is. Windows are not
/// dilated.
class ColumnGroups {
 public:
  explicit ColumnGroups(const Axis& w) : before_(w), after_(w) {
    groups_.begin = (w.kernel() - 1) / w.stride();  // outputs before that of the group
    while (w.start(groups_.begin) < 0) ++groups_.begin;
    groups_.end = std::max(groups_.begin, std::min(w.out(), (w.in() + w.padding()) / w.stride()));
    columns_ = {std::min(w.in(), w.start(groups_.begin)), std::min(w.in(), w.start(groups_.end))};
    before_.tabulate_readers(0, columns_.begin);
    after_.tabulate_readers(columns_.end, w.in());
  }

  /// The groups, by the outputs whose tap 0 reads their first columns.
  const Range& groups() const { return groups_; }
  /// Their columns.
  const Range& columns() const { return columns_; }
  /// Visits the columns that are in no group, with the outputs that read them.
  template <class Visit>
  void for_each_other(const Visit& visit) const {
    for (std::int64_t column = 0; column < columns_.begin; ++column)
      visit(column, std::span(before_.readers_begin(column), before_.readers_end(column)));
    for (std::int64_t column = columns_.end; column < after_.in(); ++column)
      visit(column, std::span(after_.readers_begin(column), after_.readers_end(column)));
  }

 private:
  Range groups_;
  Range columns_;
  Axis before_;  // with tables of readers
  Axis after_;
};

/// Calls visit.operator()<n>() with the number of rows if it is 1, 2 or 3, else with 0.
template <class Visit>
HWY_INLINE void with_few_rows(std::size_t count, const Visit& visit) {
  if (count == 1) return visit.template operator()<1>();
  if (count == 2) return visit.template operator()<2>();
  if (count == 3) return visit.template operator()<3>();
  visit.template operator()<0>();
}

/// A row of outputs, and the number of the first tap through which they read a row of grad_x.
template <class T>
struct PixelRow {
  const T* grads;
  const std::uint8_t* taps;
  std::int64_t first_tap;
};

/// Makes rows of grad_x from the rows that read them.
template <int kStride, int kTaps, class T>
class PixelGroupGatherer {
 public:
  using D = WideTag<T>;
  using V = VecOf<D>;
  using DI = hn::RebindToSigned<D>;
  static constexpr int kOutputs = (kTaps - 1) / kStride + 1;  // that read a group

  PixelGroupGatherer(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                     const Axis& w)
      : columns_(w),
        channels_(grad_x.size[1]),
        to_step_(grad_x.stride[4]),
        grad_step_(grad_y.stride[4]),
        tap_step_(taps.stride[4]) {}

  void operator()(std::span<const PixelRow<T>> rows, T* to) const {
    columns_.for_each_other([&](std::int64_t column, std::span<const Reader> readers)
                                HWY_ATTR { gather_one(rows, readers, to + column * to_step_); });
    with_few_rows(rows.size(), [&]<std::size_t kRows>() HWY_ATTR { gather_groups<kRows>(rows, to); });
  }

 private:
  /// visit(count, c) for each two vectors of channels, then for each; the last one overlaps the others.
  template <class Visit>
  HWY_INLINE void for_each_vectors(const Visit& visit) const {
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(D()));
    std::int64_t c = 0;
    for (; c + 2 * lanes <= channels_; c += 2 * lanes) visit(std::integral_constant<int, 2>(), c);
    for (; c < channels_; c += lanes) visit(std::integral_constant<int, 1>(), std::min(c, channels_ - lanes));
  }

  template <std::size_t kRows>
  HWY_INLINE void gather_groups(std::span<const PixelRow<T>> rows, T* to) const {
    PixelRow<T> few[kRows + 1];
    std::copy_n(rows.begin(), kRows, few);
    const PixelRow<T>* const row = kRows > 0 ? few : rows.data();
    const std::size_t count = kRows > 0 ? kRows : rows.size();
    const Range groups = columns_.groups();
    T* pixel = to + columns_.columns().begin * to_step_;
    for (std::int64_t m = groups.begin; m < groups.end; ++m, pixel += kStride * to_step_) {
      ask_ahead(pixel, kStride * channels_);
      for_each_vectors([&](auto vectors, std::int64_t c)
                           CENOTE_VECTOR_LAMBDA { gather_group<vectors>(row, count, m, c, pixel); });
    }
  }
  template <int kVectors>
  HWY_INLINE void gather_group(const PixelRow<T>* row, std::size_t count, std::int64_t m, std::int64_t c,
                               T* pixel) const {
    const D d;
    const DI di;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    V sums[kStride][kVectors];
    for (auto& of_phase : sums) std::fill_n(of_phase, kVectors, hn::Zero(d));
    for (std::size_t r = 0; r < count; ++r) {
      for (int before = kOutputs - 1; before >= 0; --before) {  // in the order of the outputs
        const std::uint8_t* const tap = row[r].taps + (m - before) * tap_step_ + c;
        const T* const grad = row[r].grads + (m - before) * grad_step_ + c;
        for (int k = 0; k < kVectors; ++k) {
          const auto taps = PromoteTaps(di, tap + k * lanes);
          const V grads = LoadVector(d, grad + k * lanes);
          for (int phase = 0; phase < kStride; ++phase) {
            const int number = phase + before * kStride;
            if (number < kTaps)
              sums[phase][k] = hn::Add(sums[phase][k], hit(taps, row[r].first_tap + number, grads));
          }
        }
      }
    }
    for (int phase = 0; phase < kStride; ++phase) {
      T* const at = pixel + phase * to_step_ + c;
      for (int k = 0; k < kVectors; ++k) StoreVector(d, sums[phase][k], at + k * lanes);
    }
  }
  HWY_INLINE void gather_one(std::span<const PixelRow<T>> rows, std::span<const Reader> readers,
                             T* pixel) const {
    const D d;
    const DI di;
    for_each_vectors([&](auto vectors, std::int64_t c) CENOTE_VECTOR_LAMBDA {
      constexpr int kVectors = vectors;
      for (std::int64_t k = c; k < c + kVectors * lanes_of<T>(); k += lanes_of<T>()) {
        auto sum = hn::Zero(d);
        for (const PixelRow<T>& row : rows) {
          for (const Reader& reader : readers) {
            const auto taps = PromoteTaps(di, row.taps + reader.output * tap_step_ + k);
            const V grads = LoadVector(d, row.grads + reader.output * grad_step_ + k);
            sum = hn::Add(sum, hit(taps, row.first_tap + reader.tap, grads));
          }
        }
        StoreVector(d, sum, pixel + k);
      }
    });
  }
  static HWY_INLINE V hit(VecOf<DI> taps, std::int64_t number, V grads) {
    const auto same = hn::Eq(taps, hn::Set(DI(), static_cast<hn::TFromD<DI>>(number)));
    return hn::IfThenElseZero(hn::RebindMask(D(), same), grads);
  }

  ColumnGroups columns_;
  std::int64_t channels_;
  std::int64_t to_step_, grad_step_, tap_step_;  // from pixel to pixel
};

template <int kStride, int kTaps, class T>
void GatherPixelGroups(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                       const Axes& axes) {
  const PixelGroupGatherer<kStride, kTaps, T> gather(grad_x, grad_y, taps, axes[2]);
  const Cursor::Index units{1, 1, grad_x.size[0], grad_x.size[2], grad_x.size[3]};
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * grad_x.size[4] * grad_x.size[1];
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    ReaderRows readers;
    std::vector<PixelRow<T>> rows;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      readers.collect(axes, at[3], at[4]);
      rows.clear();
      for (std::int64_t i = 0; i < readers.count(); ++i) {
        rows.push_back({row_of<const T>(grad_y, at[2], 0, readers[i].od, readers[i].oh),
                        row_of<const std::uint8_t>(taps, at[2], 0, readers[i].od, readers[i].oh),
                        readers[i].tap * axes[2].kernel()});
      }
      gather(rows, row_of<T>(grad_x, at[2], 0, at[3], at[4]));
    }
  });
}

/// Whether GatherPixelGroups serves these windows over channels-last tensors; taps are u8. AVX-512, two
/// threads, against pixel after pixel: 3x3 stride 2 of [32, 64, 112, 112] f32 13.3 and 7.2 ms, of [1, 64,
/// 112, 112] 0.38 and 0.17 ms, of [96, 480, 28, 28] 11.5 and 11.3 ms; 3x3 stride 1 of [16, 64, 112, 112] 9.7
/// and 6.7 ms.
template <class T>
bool gathers_pixel_groups(const Tensor5& grad_x, const Axes& axes) {
  constexpr std::int64_t kMostBytes = 768;  // of a pixel
  const Axis& w = axes[2];
  return grad_x.size[1] * static_cast<std::int64_t>(sizeof(T)) <= kMostBytes &&
         (w.kernel() == 2 || w.kernel() == 3) && w.stride() <= 2 && w.dilation() == 1 &&
         grad_x.size[1] >= lanes_of<T>();
}

template <class T>
void GatherPixelGroups(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                       const Axes& axes) {
  if (axes[2].stride() == 1) {
    if (axes[2].kernel() == 2) return GatherPixelGroups<1, 2, T>(grad_x, grad_y, taps, axes);
    return GatherPixelGroups<1, 3, T>(grad_x, grad_y, taps, axes);
  }
  if (axes[2].kernel() == 2) return GatherPixelGroups<2, 2, T>(grad_x, grad_y, taps, axes);
  GatherPixelGroups<2, 3, T>(grad_x, grad_y, taps, axes);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
