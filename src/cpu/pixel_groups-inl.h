// Backward over channels-last tensors, of maxima from compact taps and of averages, for windows of 2 or 3
// columns with stride 1 or 2: pixels of grad_x are made in groups of as many columns as the stride, whose
// readers are at hand together.
#if defined(CENOTE_CPU_PIXEL_GROUPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PIXEL_GROUPS_INL_H_
#undef CENOTE_CPU_PIXEL_GROUPS_INL_H_
#else
#define CENOTE_CPU_PIXEL_GROUPS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "cpu/past_caches-inl.h"
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
    for_each_before(visit);
    for_each_after(visit);
  }
  /// Those before the groups, or after them.
  template <class Visit>
  void for_each_before(const Visit& visit) const {
    for (std::int64_t column = 0; column < columns_.begin; ++column)
      visit(column, std::span(before_.readers_begin(column), before_.readers_end(column)));
  }
  template <class Visit>
  void for_each_after(const Visit& visit) const {
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

/// A row of outputs of a maximum, and the number of the first tap through which they read a row of grad_x.
template <class T>
class TappedRow {
 public:
  using V = VecOf<WideTag<T>>;
  using DI = hn::RebindToSigned<WideTag<T>>;
  struct Output {
    V grads;
    VecOf<DI> taps;
  };

  TappedRow() = default;
  TappedRow(const T* grads, std::int64_t grad_step, const std::uint8_t* taps, std::int64_t tap_step,
            std::int64_t first_tap)
      : grads_(grads), taps_(taps), grad_step_(grad_step), tap_step_(tap_step), first_tap_(first_tap) {}

  /// A vector of channels from `c` on.
  HWY_INLINE Output output(std::int64_t number, std::int64_t c) const {
    return {LoadVector(WideTag<T>(), grads_ + number * grad_step_ + c),
            PromoteTaps(DI(), taps_ + number * tap_step_ + c)};
  }
  /// The first channels alone; the other lanes mean nothing.
  HWY_INLINE Output first_channels(std::int64_t number, std::size_t channels) const {
    return {LoadPart(WideTag<T>(), grads_ + number * grad_step_, channels),
            PromoteFirstTaps<T>(DI(), taps_ + number * tap_step_, channels)};
  }
  HWY_INLINE void ask_ahead_of(std::int64_t number, std::int64_t c) const {
    prefetch_for_read(grads_ + number * grad_step_ + c + kReadAhead<T>);
    prefetch_for_read(taps_ + number * tap_step_ + c + kReadAhead<T>);
  }
  /// What an element of grad_x gets that an output reads through this tap of the row.
  HWY_INLINE V through(const Output& output, std::int64_t tap) const {
    const auto number = hn::Set(DI(), static_cast<hn::TFromD<DI>>(first_tap_ + tap));
    return hn::IfThenElseZero(hn::RebindMask(WideTag<T>(), hn::Eq(output.taps, number)), output.grads);
  }

 private:
  const T* grads_ = nullptr;
  const std::uint8_t* taps_ = nullptr;
  std::int64_t grad_step_ = 0;
  std::int64_t tap_step_ = 0;
  std::int64_t first_tap_ = 0;
};

/// That of the outputs of `reader`.
template <class T>
TappedRow<T> tapped_row(const ConstTensor5& grad_y, const ConstTensor5& taps, const Axes& axes,
                        std::int64_t n, const ReaderRow& reader) {
  return {row_of<const T>(grad_y, n, 0, reader.od, reader.oh), grad_y.stride[4],
          row_of<const std::uint8_t>(taps, n, 0, reader.od, reader.oh), taps.stride[4],
          reader.tap * axes[2].kernel()};
}

/// A row of outputs of an average, and the inverses of their divisors.
template <class T>
class ScaledRow {
 public:
  using V = VecOf<WideTag<T>>;

  ScaledRow() = default;
  ScaledRow(const T* grads, std::int64_t grad_step, const LaneOf<T>* inverses)
      : grads_(grads), inverses_(inverses), grad_step_(grad_step) {}
  HWY_INLINE V output(std::int64_t number, std::int64_t c) const {
    const WideTag<T> d;
    return hn::Mul(hn::Set(d, inverses_[number]), LoadVector(d, grads_ + number * grad_step_ + c));
  }
  /// The first channels alone; the other lanes mean nothing.
  HWY_INLINE V first_channels(std::int64_t number, std::size_t channels) const {
    const WideTag<T> d;
    return hn::Mul(hn::Set(d, inverses_[number]), LoadPart(d, grads_ + number * grad_step_, channels));
  }
  HWY_INLINE void ask_ahead_of(std::int64_t number, std::int64_t c) const {
    prefetch_for_read(grads_ + number * grad_step_ + c + kReadAhead<T>);
  }
  HWY_INLINE V through(const V& output, std::int64_t) const { return output; }

 private:
  const T* grads_ = nullptr;
  const LaneOf<T>* inverses_ = nullptr;
  std::int64_t grad_step_ = 0;
};

/// Makes rows of grad_x from the rows that read them.
template <int kStride, int kTaps, class T, class Row>
class PixelGroupGatherer {
 public:
  using D = WideTag<T>;
  using V = VecOf<D>;
  static constexpr int kOutputs = (kTaps - 1) / kStride + 1;  // that read a group

  PixelGroupGatherer(const Tensor5& grad_x, const Axis& w)
      : columns_(w), channels_(grad_x.size[1]), to_step_(grad_x.stride[4]) {}

  void operator()(std::span<const Row> rows, const VectorStores& stores, T* to) const {
    columns_.for_each_other([&](std::int64_t column, std::span<const Reader> readers)
                                HWY_ATTR { gather_one(rows, readers, stores, to + column * to_step_); });
    with_few_rows(rows.size(), [&]<std::size_t kRows>() HWY_ATTR { gather_groups<kRows>(rows, stores, to); });
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
  HWY_INLINE void gather_groups(std::span<const Row> rows, const VectorStores& stores, T* to) const {
    Row few[kRows + 1];
    std::copy_n(rows.begin(), kRows, few);
    const Row* const row = kRows > 0 ? few : rows.data();
    const std::size_t count = kRows > 0 ? kRows : rows.size();
    const Range groups = columns_.groups();
    T* pixel = to + columns_.columns().begin * to_step_;
    for (std::int64_t m = groups.begin; m < groups.end; ++m, pixel += kStride * to_step_) {
      if (!stores.past()) ask_ahead(pixel, kStride * channels_);
      for_each_vectors([&](auto vectors, std::int64_t c)
                           CENOTE_VECTOR_LAMBDA { gather_group<vectors>(row, count, m, c, stores, pixel); });
    }
  }
  template <int kVectors>
  HWY_INLINE void gather_group(const Row* row, std::size_t count, std::int64_t m, std::int64_t c,
                               const VectorStores& stores, T* pixel) const {
    const D d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    V sums[kStride][kVectors];
    for (auto& of_phase : sums) std::fill_n(of_phase, kVectors, hn::Zero(d));
    for (std::size_t r = 0; r < count; ++r) {
      for (int before = kOutputs - 1; before >= 0; --before) {  // in the order of the outputs
        for (int k = 0; k < kVectors; ++k) {
          const auto output = row[r].output(m - before, c + k * lanes);
          if (before == 0 && r + 1 == count) row[r].ask_ahead_of(m, c + k * lanes);
          for (int phase = 0; phase < kStride; ++phase) {
            const int tap = phase + before * kStride;
            if (tap < kTaps) sums[phase][k] = hn::Add(sums[phase][k], row[r].through(output, tap));
          }
        }
      }
    }
    for (int phase = 0; phase < kStride; ++phase) {
      T* const at = pixel + phase * to_step_ + c;
      for (int k = 0; k < kVectors; ++k) stores.store(d, sums[phase][k], at + k * lanes);
    }
  }
  HWY_INLINE void gather_one(std::span<const Row> rows, std::span<const Reader> readers,
                             const VectorStores& stores, T* pixel) const {
    const D d;
    for_each_vectors([&](auto vectors, std::int64_t c) CENOTE_VECTOR_LAMBDA {
      constexpr int kVectors = vectors;
      for (std::int64_t k = c; k < c + kVectors * lanes_of<T>(); k += lanes_of<T>()) {
        auto sum = hn::Zero(d);
        for (const Row& row : rows) {
          for (const Reader& reader : readers)
            sum = hn::Add(sum, row.through(row.output(reader.output, k), reader.tap));
        }
        stores.store(d, sum, pixel + k);
      }
    });
  }

  ColumnGroups columns_;
  std::int64_t channels_;
  std::int64_t to_step_;  // from pixel to pixel
};

/// row_of_outputs(state, n, reader) is the Row of outputs that read a row of grad_x; each thread has a State.
template <class Row, class State, int kStride, int kTaps, class T, class RowOfOutputs>
void ForEachPixelGroup(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                       const RowOfOutputs& row_of_outputs) {
  const PixelGroupGatherer<kStride, kTaps, T, Row> gather(grad_x, axes[2]);
  const Cursor::Index units{1, 1, grad_x.size[0], grad_x.size[2], grad_x.size[3]};
  const auto bytes = static_cast<std::int64_t>(sizeof(T)) * grad_x.size[4] * grad_x.size[1];
  const bool past = stores_past_caches(grad_x, grad_y);
  // In between: max 3x3 stride 2 of [1, 64, 28, 28] f32 took 9.1 us in one thread and 9.8 us in two, of [1,
  // 64, 40, 40] 32 and 19 us.
  parallel_for(Cursor::total(units), row_grain(bytes, kFastGrainBytes / 2),
               [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
                 const VectorStores stores(past, grad_x, grad_x.size[1]);
                 State state;
                 ReaderRows readers;
                 std::vector<Row> rows;
                 Cursor at(units, begin);
                 for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
                   readers.collect(axes, at[3], at[4]);
                   rows.clear();
                   for (std::int64_t i = 0; i < readers.count(); ++i)
                     rows.push_back(row_of_outputs(state, at[2], readers[i]));
                   gather(rows, stores, row_of<T>(grad_x, at[2], 0, at[3], at[4]));
                 }
               });
}

/// Whether the windows of an axis have groups.
inline bool has_groups(const Axis& w) {
  return (w.kernel() == 2 || w.kernel() == 3) && w.stride() <= 2 && w.dilation() == 1;
}
/// Calls visit.operator()<stride, taps>() with those of such windows.
template <class Visit>
void with_groups(const Axis& w, const Visit& visit) {
  if (w.stride() == 1)
    return w.kernel() == 2 ? visit.template operator()<1, 2>() : visit.template operator()<1, 3>();
  w.kernel() == 2 ? visit.template operator()<2, 2>() : visit.template operator()<2, 3>();
}

template <class Row, class State, class T, class RowOfOutputs>
void ForEachPixelGroup(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                       const RowOfOutputs& rows) {
  with_groups(axes[2], [&]<int kStride, int kTaps>() {
    ForEachPixelGroup<Row, State, kStride, kTaps, T>(grad_x, grad_y, axes, rows);
  });
}

template <class T>
bool makes_pixel_groups(const Tensor5& grad_x, const Axis& w) {
  return has_groups(w) && grad_x.size[1] >= lanes_of<T>();
}

/// Whether pixel groups serve these windows over channels-last tensors; taps are u8. Max, AVX-512, two
/// threads, against pixel after pixel: 3x3 stride 2 of [32, 64, 112, 112] f32 13.3 and 7.2 ms, of [1, 64,
/// 112, 112] 0.38 and 0.17 ms, of [96, 480, 28, 28] 11.5 and 11.3 ms; 3x3 stride 1 of [16, 64, 112, 112] 9.7
/// and 6.7 ms.
template <class T>
bool gathers_pixel_groups(const Tensor5& grad_x, const Axes& axes) {
  constexpr std::int64_t kMostBytes = 768;  // of a pixel
  return grad_x.size[1] * static_cast<std::int64_t>(sizeof(T)) <= kMostBytes &&
         makes_pixel_groups<T>(grad_x, axes[2]);
}

/// Whether windows have few rows, so that few divisors differ.
inline bool few_divisors(const Axes& axes) {
  constexpr std::int64_t kMostRows = 64;
  return axes[0].kernel() <= kMostRows / axes[1].kernel();
}

/// The same for averages.
template <class T>
bool averages_pixel_groups(const Tensor5& grad_x, const Axes& axes) {
  return makes_pixel_groups<T>(grad_x, axes[2]) && few_divisors(axes);
}

template <class T>
void MaxBackwardOfPixelGroups(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                              const Axes& axes) {
  struct State {};
  const auto row = [&](State&, std::int64_t n, const ReaderRow& reader) {
    return tapped_row<T>(grad_y, taps, axes, n, reader);
  };
  ForEachPixelGroup<TappedRow<T>, State, T>(grad_x, grad_y, axes, row);
}

/// The inverses of the divisors of rows of outputs, a table for each factor of D and H.
template <class Lane>
class InverseRows {
 public:
  template <class Divisors>
  const Lane* of_row(const Divisors& divisors, const Axis& w, std::int64_t od, std::int64_t oh) {
    const std::int64_t factor = divisors.row(od, oh);
    for (const auto& [of, inverses] : tables_) {
      if (of == factor) return inverses.data();
    }
    std::vector<Lane> inverses(static_cast<std::size_t>(w.out()));
    for (std::int64_t ow = 0; ow < w.out(); ++ow) {
      const auto divisor = static_cast<double>(factor * divisors.column(ow));
      inverses[static_cast<std::size_t>(ow)] = static_cast<Lane>(1 / divisor);
    }
    return tables_.emplace_back(factor, std::move(inverses)).second.data();
  }

 private:
  std::vector<std::pair<std::int64_t, std::vector<Lane>>> tables_;
};

/// That of the outputs of `reader`.
template <class T, class Divisors>
ScaledRow<T> scaled_row(const ConstTensor5& grad_y, const Axes& axes, const Divisors& divisors,
                        InverseRows<LaneOf<T>>& inverses, std::int64_t n, const ReaderRow& reader) {
  return {row_of<const T>(grad_y, n, 0, reader.od, reader.oh), grad_y.stride[4],
          inverses.of_row(divisors, axes[2], reader.od, reader.oh)};
}

/// The divisor of an output is divisors.row(od, oh) * divisors.column(ow).
template <class T, class Divisors>
void AvgBackwardOfPixelGroups(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                              const Divisors& divisors) {
  const auto row = [&](InverseRows<LaneOf<T>>& inverses, std::int64_t n, const ReaderRow& reader) {
    return scaled_row<T>(grad_y, axes, divisors, inverses, n, reader);
  };
  ForEachPixelGroup<ScaledRow<T>, InverseRows<LaneOf<T>>, T>(grad_x, grad_y, axes, row);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
