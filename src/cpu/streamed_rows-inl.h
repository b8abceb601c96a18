// Windows of stride 1 along rows of neighbours: each input row is read once. Runs of rows are joined to runs
// of twice as many, from those of some rows before that are kept, so that a row costs as many steps as the
// kernel has binary digits. Along W the vectors of a reduced row are joined in registers; where lanes cannot
// be moved, or windows are dilated, rows with their padding lie one after the other and are joined in memory
// as one long row; where the elements of a window lie a vector or more apart, by ends and beginnings of
// blocks.
#if defined(CENOTE_CPU_STREAMED_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_STREAMED_ROWS_INL_H_
#undef CENOTE_CPU_STREAMED_ROWS_INL_H_
#else
#define CENOTE_CPU_STREAMED_ROWS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/long_row-inl.h"
#include "cpu/planar-inl.h"
#include "cpu/short_windows-inl.h"
#include "cpu/vector_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Takes rows one after the other and gives the windows that end with them.
template <class Reduction, class Lane>
class RowStream {
 public:
  explicit RowStream(std::int64_t kernel) {
    for (const WindowStep& step : window_steps<Reduction>(kernel)) {
      steps_.push_back({{}, {}});
      const auto keep = [&](Kept& kept, std::int64_t count) {
        kept.count = count;
        kept.begin = kept_rows_;
        kept_rows_ += std::max<std::int64_t>(count, 0);
      };
      keep(steps_.back().add, step.add);
      keep(steps_.back().join, step.join);
      if (step.add != WindowStep::kNone) adds_ = true;
    }
  }
  /// How many rows are kept.
  std::int64_t kept_rows() const { return std::max<std::int64_t>(kept_rows_, 1); }
  /// Before the first of rows of so many elements, whole vectors.
  void begin(std::int64_t elements, Scratch<Lane>& memory) {
    elements_ = elements;
    const auto count = static_cast<std::size_t>(kept_rows_ * elements);
    Lane* const rows = memory.resize(count);
    std::fill_n(rows, count, Reduction::template identity<Lane>());
    for (Step& step : steps_) {
      for (Kept* kept : {&step.add, &step.join}) {
        kept->rows = rows + kept->begin * elements;
        kept->oldest = 0;
      }
    }
  }

  /// load(i) is a vector of the row; store(i, vectors) gets an array of some of the windows.
  template <class Load, class Store>
  HWY_INLINE void take(const Load& load, const Store& store) {
    const WideTag<Lane> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    for (Step& step : steps_) {
      if constexpr (!Reduction::kIdempotent) step.add.move(elements_);
      step.join.move(elements_);
    }
    std::int64_t i = 0;
    const auto take_next = [&]<int kVectors>() CENOTE_VECTOR_LAMBDA {
      take_some<kVectors>(d, i, load, store);
      i += kVectors * lanes;
    };
    while (i < elements_) {  // 3 to 5 vectors at a time, where there are as many
      const std::int64_t left = (elements_ - i) / lanes;
      if (left == 5) {
        take_next.template operator()<5>();
      } else if (left >= 4 && left != 6) {
        take_next.template operator()<4>();
      } else if (left >= 3) {
        take_next.template operator()<3>();
      } else {
        take_next.template operator()<1>();
      }
    }
  }

 private:
  /// The last `count` rows of runs.
  struct Kept {
    std::int64_t count = 0;
    std::int64_t begin = 0;
    std::int64_t oldest = 0;
    Lane* rows = nullptr;
    Lane* row = nullptr;  // the oldest one

    void move(std::int64_t elements) {
      row = rows + oldest * elements;
      if (++oldest >= count) oldest = 0;
    }
    template <class D>
    HWY_INLINE VecOf<D> swap(D d, std::int64_t i, VecOf<D> run) const {
      const auto before = hn::Load(d, row + i);
      hn::Store(run, d, row + i);
      return before;
    }
  };
  struct Step {
    Kept add;
    Kept join;
  };

  template <int kVectors, class D, class Load, class Store>
  HWY_INLINE void take_some(D d, std::int64_t i, const Load& load, const Store& store) const {
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    VecOf<D> run[kVectors];
    Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA { run[v] = load(i + v * lanes); });
    [[maybe_unused]] VecOf<D> window[kVectors];
    if constexpr (!Reduction::kIdempotent) CopyVectors(run, window);
    const auto join = [&](const Kept& kept, VecOf<D>(&with)[kVectors]) CENOTE_VECTOR_LAMBDA {
      Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA {
        with[v] = Reduction::combine(d, kept.swap(d, i + v * lanes, run[v]), with[v]);
      });
    };
    for (const Step& step : steps_) {
      if constexpr (!Reduction::kIdempotent) {
        if (step.add.count > 0) {
          join(step.add, window);
        } else if (step.add.count == 0) {
          CopyVectors(run, window);
        }
      }
      if (step.join.count > 0) join(step.join, run);
    }
    if constexpr (!Reduction::kIdempotent) {
      if (adds_) CopyVectors(window, run);
    }
    store(i, run);
  }

  std::vector<Step> steps_;
  std::int64_t kept_rows_ = 0;
  std::int64_t elements_ = 0;
  bool adds_ = false;
};

/// Whether windows along a row are joined in registers.
template <class T>
bool joins_vectors(const Axis& w) {
  return kMovesLanes<LaneOf<T>> && w.dilation() == 1;
}

/// Output columns of a tile. They may be many where one row alone is not kept, or, of rows that are joined in
/// memory, a band of them does not take too much of it.
template <class T>
std::int64_t streamed_outs_per_tile(const Axis& h, const Axis& w) {
  constexpr std::int64_t kLongTile = 1 << 14;
  constexpr std::int64_t kMostOfBand = (2 << 20) / static_cast<std::int64_t>(sizeof(LaneOf<T>));
  const std::int64_t outs = outs_per_tile(w);
  const std::int64_t longer = std::min(std::max(outs, kLongTile), w.out());
  const bool many =
      joins_vectors<T>(w) ? h.kernel() == 1 : 2 * h.kernel() <= kMostOfBand / (longer + w.dilated_kernel());
  const std::int64_t most = many ? longer : outs;
  const std::int64_t even = ceil_divide(w.out(), ceil_divide(w.out(), most));  // tiles as long as each other
  return std::min(ceil_divide(even, lanes_of<T>()) * lanes_of<T>(), most);
}

/// Whether PoolStreamedRows serves these windows of rows of neighbours: not where as many rows, or tiles of
/// them, as the kernel has take more than 1 MiB. AVX-512, one thread, against four rows at a time
/// (shared_rows-inl.h): max of [1, 64, 112, 112] f32, 3x3 0.5 and 0.9 ms, 5x5 1.9 and 0.8 ms, 13x13 2.6 and
/// 0.9 ms.
template <class T>
bool streams_rows(const Axes& axes) {
  constexpr std::int64_t kFewestRows = 4;
  constexpr std::int64_t kFewestColumns = 4;
  constexpr std::int64_t kMostBytes = 1 << 20;
  const Axis& h = axes[1];
  const Axis& w = axes[2];
  const bool slices = axes[0].kernel() == 1 && axes[0].out() == axes[0].in() && axes[0].start(0) == 0;
  const std::int64_t columns = std::min(w.in(), streamed_outs_per_tile<T>(h, w) + w.dilated_kernel());
  const bool large = h.kernel() >= kFewestRows || (joins_vectors<T>(w) && w.kernel() >= kFewestColumns);
  return slices && h.stride() == 1 && h.dilation() == 1 && w.stride() == 1 && large &&
         h.kernel() <= kMostBytes / static_cast<std::int64_t>(sizeof(LaneOf<T>)) / columns;
}

/// In the place of VectorWindows.
struct NoWindows {
  explicit NoWindows(std::int64_t) {}
};

/// The windows of planes, by one thread.
template <class Reduction, class T>
class StreamedPlanes {
 public:
  using Lane = LaneOf<T>;

  StreamedPlanes(const Axis& h, const Axis& w)
      : h_(h),
        w_(w),
        whole_(whole_windows(h)),
        stream_(h.kernel()),
        windows_(w.kernel()),
        along_(w.kernel(), w.dilation()),
        apart_(w.kernel(), w.dilation()) {}

  /// Output rows `outs` of a tile of a plane, whose rows lie `step` apart; emitter(row) takes the vectors of
  /// one. False where a NaN got lost, or perhaps.
  template <class Emitter>
  bool pool(const T* plane, std::int64_t step, const Tile& tile, const Range& outs, const Emitter& emitter) {
    if constexpr (kMovesLanes<Lane>) {
      if (joins_vectors<T>(w_)) return pool_vectors(plane, step, tile, outs, emitter);
    }
    return pool_long_row(plane, step, tile, outs, emitter);
  }

 private:
  template <class Emitter>
  bool pool_vectors(const T* plane, std::int64_t step, const Tile& tile, const Range& outs,
                    const Emitter& emitter);
  template <class Emitter>
  bool pool_long_row(const T* plane, std::int64_t step, const Tile& tile, const Range& outs,
                     const Emitter& emitter);
  /// Takes the rows that the windows of `outs` have, those in the padding too: load(from, i) is a vector of a
  /// row, store(i, vectors) gets some of the windows that end with it, where an output has them,
  /// and taken() follows then.
  template <class Load, class Store, class Taken>
  void take_rows(const T* plane, std::int64_t step, const Range& outs, const Load& load, const Store& store,
                 const Taken& taken);

  Axis h_;
  Axis w_;
  Range whole_;  // output rows whose divisors are the same
  RowStream<Reduction, Lane> stream_;
  std::conditional_t<kMovesLanes<Lane>, VectorWindows<Reduction, Lane>, NoWindows> windows_;
  LongRow<Reduction, Lane> along_;
  ApartWindows<Reduction, Lane> apart_;
  Scratch<Lane> kept_;
  Scratch<Lane> rows_;
  Scratch<Lane> sums_;
};

template <class Reduction, class T>
template <class Load, class Store, class Taken>
HWY_INLINE void StreamedPlanes<Reduction, T>::take_rows(const T* plane, std::int64_t step, const Range& outs,
                                                        const Load& load, const Store& store,
                                                        const Taken& taken) {
  const auto identity = hn::Set(WideTag<T>(), Reduction::template identity<Lane>());
  const std::int64_t begin = h_.start(outs.begin);
  const std::int64_t first = std::min(std::max<std::int64_t>(begin, 0), begin + h_.kernel() - 1);
  const std::int64_t end = h_.start(outs.end - 1) + h_.kernel();
  for (std::int64_t row = first; row < end; ++row) {
    // The windows that end with this row are those of output row - (kernel - 1) + padding.
    const bool gives = row + h_.padding() - h_.kernel() + 1 >= outs.begin;
    const auto store_given = [&](std::int64_t i, auto& v) CENOTE_VECTOR_LAMBDA {
      if (gives) store(i, v);
    };
    if (row >= 0 && row < h_.in()) {
      const T* const from = plane + row * step;
      stream_.take([&](std::int64_t i) CENOTE_VECTOR_LAMBDA { return load(from, i); }, store_given);
    } else {
      stream_.take([&](std::int64_t) CENOTE_VECTOR_LAMBDA { return identity; }, store_given);
    }
    if (gives) taken();
  }
}

template <class Reduction, class T>
template <class Emitter>
bool StreamedPlanes<Reduction, T>::pool_vectors(const T* plane, std::int64_t step, const Tile& tile,
                                                const Range& outs, const Emitter& emitter) {
  const WideTag<T> d;
  using V = VecOf<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const V identity = hn::Set(d, Reduction::template identity<Lane>());
  // The vectors of a row are such that the windows of outputs end with whole ones. Some come before.
  const std::int64_t reach = w_.kernel() - 1;
  const std::int64_t before = ceil_divide(reach, lanes) * lanes;
  const std::int64_t offset = reach - before - tile.lead;  // of the first vector from the columns
  stream_.begin(before + ceil_divide(tile.outs, lanes) * lanes, kept_);
  // In which vector the columns begin, if inside of one.
  const std::int64_t inside = -offset % lanes;
  const auto to_inside = RotatingIndices(d, -inside);
  const auto not_inside = hn::FirstN(d, static_cast<std::size_t>(inside));

  V seen = hn::Zero(d);
  const auto load = [&](const T* row, std::int64_t i) CENOTE_VECTOR_LAMBDA -> V {
    const std::int64_t column = i + offset;
    const T* const from = row + tile.first_col;
    if (column >= 0 && column + lanes <= tile.cols) {
      prefetch_for_read(from + column + kReadAhead<T>);
      const V v = LoadVector(d, from + column);
      if constexpr (Reduction::kLosesNaN) seen = hn::Add(seen, v);
      return v;
    }
    if (column + lanes <= 0 || column >= tile.cols) return identity;
    const std::int64_t skipped = std::max<std::int64_t>(-column, 0);
    const auto part = static_cast<std::size_t>(std::min(lanes - skipped, tile.cols - column - skipped));
    const V v = LoadPart(d, from + column + skipped, part);
    if constexpr (Reduction::kLosesNaN) seen = hn::Add(seen, v);
    const V columns = hn::IfThenElse(hn::FirstN(d, part), v, identity);
    if (skipped == 0) return columns;
    return hn::IfThenElse(not_inside, identity, hn::TableLookupLanes(columns, to_inside));
  };
  std::int64_t next = outs.begin;
  auto emit = emitter(next);
  windows_.begin();
  const auto store = [&]<std::size_t kVectors>(std::int64_t i, V(&v)[kVectors]) CENOTE_VECTOR_LAMBDA {
    windows_.reduce(v);
    Unrolled<kVectors>([&](auto k) CENOTE_VECTOR_LAMBDA {
      const std::int64_t m = i - before + k * lanes;
      if (m >= 0) emit(d, m, v[k]);
    });
  };
  take_rows(plane, step, outs, load, store, [&]() HWY_ATTR {
    ++next;
    if (whole_.contains(next - 1) && whole_.contains(next)) {
      emit.next_row();
    } else {
      emit.complete_row();
      if (next < outs.end) emit = emitter(next);
    }
  });
  if constexpr (Reduction::kLosesNaN) return hn::AllFalse(d, hn::IsNaN(seen));
  return true;
}

template <class Reduction, class T>
template <class Emitter>
bool StreamedPlanes<Reduction, T>::pool_long_row(const T* plane, std::int64_t step, const Tile& tile,
                                                 const Range& outs, const Emitter& emitter) {
  const WideTag<T> d;
  using V = VecOf<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto whole_vectors = [&](std::int64_t count) { return ceil_divide(count, lanes) * lanes; };
  constexpr Lane kIdentity = Reduction::template identity<Lane>();
  const V identity = hn::Set(d, kIdentity);
  const std::int64_t columns = whole_vectors(tile.cols);
  const std::int64_t pitch = whole_vectors(tile.length);

  // Output rows lie in memory, each of its columns with their padding: some that fill a part of the nearest
  // cache. Where the rows that the stream keeps do not fit there, it takes a few columns at a time of a band
  // of rows, each of which reads a window of rows before its own: AVX-512, EPYC, max 13x13 of [4, 64, 56, 56]
  // f32 channels-last 0.46 and 0.35 ms.
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(Lane));
  constexpr std::int64_t kNear = (16 << 10) / kSize;
  constexpr std::int64_t kFar = (512 << 10) / kSize;
  const std::int64_t count = outs.end - outs.begin;
  const std::int64_t group = std::clamp<std::int64_t>(kNear / pitch, 1, count);
  const bool near = stream_.kept_rows() * columns <= 2 * kNear;
  const std::int64_t band = near ? group : std::min(count, std::max(kFar / pitch, 2 * h_.kernel()));
  const std::int64_t step_of_columns =
      near ? columns : std::max<std::int64_t>(kNear / stream_.kept_rows() / (4 * lanes), 1) * 4 * lanes;
  const std::int64_t slack = pitch + w_.dilated_kernel() + 2 * lanes;  // what is read beyond the end
  const bool apart = apart_.serve();
  Lane* const rows = rows_.resize(static_cast<std::size_t>(band * pitch + slack));
  Lane* const sums = sums_.resize(static_cast<std::size_t>(apart ? 0 : group * pitch));
  std::fill_n(rows + band * pitch, slack, kIdentity);
  std::int64_t filled = 0;
  std::int64_t next = outs.begin;
  const auto emit_rows = [&]() HWY_ATTR {
    for (std::int64_t first = 0; first < filled; first += group) {
      Lane* const some = rows + first * pitch;
      const std::int64_t last = std::min(filled, first + group);
      for (std::int64_t i = first; i < last; ++i) {
        // What lies beside the columns: the padding, or what joining left there.
        Lane* const row = rows + i * pitch;
        std::fill_n(row, tile.lead, kIdentity);
        std::fill(row + tile.lead + columns, row + std::max(pitch, tile.lead + columns), kIdentity);
      }
      const Lane* from = apart ? some : along_.reduce((last - first) * pitch, some, sums);
      for (std::int64_t i = first; i < last; ++i, ++next, from += pitch) {
        const auto emit = emitter(next);
        if (apart) {
          apart_.reduce(from, tile.outs, emit);
        } else {
          for (std::int64_t m = 0; m < tile.outs; m += lanes) emit(d, m, hn::Load(d, from + m));
        }
        emit.complete_row();
      }
    }
    filled = 0;
  };

  V seen = hn::Zero(d);
  // What is read after a vector: further on in the row, or the same columns of a row below. Max 13x13 of [4,
  // 64, 56, 56] f32 channels-last, AVX-512, two threads, 0.30 and 0.26 ms, avg 7x7 0.34 and 0.25 ms.
  const std::int64_t ahead = near ? kReadAhead<T> : 2 * step;
  const auto load = [&](const T* row, std::int64_t i) CENOTE_VECTOR_LAMBDA {
    const auto part = static_cast<std::size_t>(std::clamp<std::int64_t>(tile.cols - i, 0, lanes));
    const T* const from = row + tile.first_col + i;
    prefetch_for_read(from + ahead);
    V v = LoadLanes<true>(d, from, 1, part == static_cast<std::size_t>(lanes) ? 0 : part);
    if constexpr (Reduction::kLosesNaN) seen = hn::Add(seen, v);
    if (part < static_cast<std::size_t>(lanes)) v = hn::IfThenElse(hn::FirstN(d, part), v, identity);
    return v;
  };
  // Columns from `first` on of some output rows.
  const auto take_columns = [&](std::int64_t first, std::int64_t elements, const Range& some,
                                const auto& taken) HWY_ATTR {
    stream_.begin(elements, kept_);
    take_rows(
        plane, step, some,
        [&](const T* row, std::int64_t i) CENOTE_VECTOR_LAMBDA { return load(row, first + i); },
        [&]<std::size_t kVectors>(std::int64_t i, V(&v)[kVectors]) CENOTE_VECTOR_LAMBDA {
          Lane* const to = rows + filled * pitch + tile.lead + first + i;
          Unrolled<kVectors>([&](auto k) CENOTE_VECTOR_LAMBDA { hn::StoreU(v[k], d, to + k * lanes); });
        },
        taken);
  };
  if (near) {
    take_columns(0, columns, outs, [&]() HWY_ATTR {
      if (++filled == band) emit_rows();
    });
    emit_rows();
  }
  for (std::int64_t begin = outs.begin; !near && begin < outs.end; begin += band) {
    const Range some{begin, std::min(outs.end, begin + band)};
    for (std::int64_t first = 0; first < columns; first += step_of_columns) {
      filled = 0;
      take_columns(first, std::min(step_of_columns, columns - first), some, [&] { ++filled; });
    }
    emit_rows();
  }
  if constexpr (Reduction::kLosesNaN) return hn::AllFalse(d, hn::IsNaN(seen));
  return true;
}

template <class Reduction, class T, class Row>
void PoolStreamedRows(const ConstTensor5& x, const Tensor5& y, const Axes& axes, const Row& row) {
  using Fast = FirstTry<Reduction, LaneOf<T>>;
  const Axis& h = axes[1];
  const Axis& w = axes[2];
  const std::int64_t per_tile = streamed_outs_per_tile<T>(h, w);
  const std::int64_t tiles = ceil_divide(w.out(), per_tile);
  // Bands of rows where the rest would not keep the threads busy; each reads a window of rows before its own.
  constexpr std::int64_t kUnits = 8;
  const std::int64_t slices = y.size[0] * y.size[1] * y.size[2] * tiles;
  const std::int64_t bands =
      std::clamp<std::int64_t>(ceil_divide(kUnits, std::max<std::int64_t>(slices, 1)), 1,
                               std::max<std::int64_t>(h.out() / (2 * h.kernel()), 1));
  const Cursor::Index units{y.size[0], y.size[1], y.size[2], tiles, bands};
  const std::int64_t bytes =
      static_cast<std::int64_t>(sizeof(T)) * 4 * ceil_divide(h.out(), bands) * std::min(per_tile, w.out());
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    StreamedPlanes<Fast, T> planes(h, w);
    auto state = row.thread_state();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const Tile tile = make_tile(w, at[3], per_tile);
      const Range outs{h.out() * at[4] / bands, h.out() * (at[4] + 1) / bands};
      const T* const plane = row_of<const T>(x, at[0], at[1], at[2], 0);
      const auto emitter = [&](std::int64_t oh) {
        return row.emitter(state, Cursor::Index{at[0], at[1], at[2], oh, at[3]}, tile.first_out, tile.outs,
                           y.stride[3]);
      };
      if (!planes.pool(plane, x.stride[3], tile, outs, emitter))
        StreamedPlanes<Reduction, T>(h, w).pool(plane, x.stride[3], tile, outs, emitter);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
