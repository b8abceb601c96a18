// Window max with indices over rows, separable like planar-inl.h: beside each value the buffer holds its
// key, the tap number of the row it came from. Horizontally an equal value wins only with a smaller key, so
// ties go to the first element in row-major order. Padding has the key kNoKey and never beats an element.
// Where windows overlap much or lie side by side, keys also count the position in the buffer, so that they
// order elements whatever the window, and positions are joined in place as in tap_sources-inl.h.
// A NaN breaks the order of comparisons, so rows that contain one take a slower order that knows them.
#if defined(CENOTE_CPU_PLANAR_INDICES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PLANAR_INDICES_INL_H_
#undef CENOTE_CPU_PLANAR_INDICES_INL_H_
#else
#define CENOTE_CPU_PLANAR_INDICES_INL_H_
#endif

#include <bit>
#include <type_traits>

#include "cpu/planar-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Larger than every tap number, with room for adding a column.
template <class Key>
constexpr Key kNoKey = std::numeric_limits<Key>::max() / 2;

/// Tap numbers, and positions where i64 indices are asked for, fit the 32-bit lanes of f32 kernels.
inline bool fits_keys(const Axes& axes, const Tensor5* indices) {
  constexpr Wide kMost = 1 << 30;
  const auto taps = static_cast<Wide>(axes[0].kernel()) * axes[1].kernel() * axes[2].kernel();
  const auto positions = static_cast<Wide>(axes[0].in()) * axes[1].in() * axes[2].in();
  return taps < kMost && (indices == nullptr || indices->dtype != DType::i64 || positions < kMost);
}

template <class D, class DI>
struct Keyed {
  VecOf<D> value;
  VecOf<DI> key;
};

/// Which of two keyed values wins: the larger, and of equal ones that with the smaller key. kNan: NaN beats
/// the others, and of several the one with the largest key wins.
template <bool kNan, class D, class DI>
HWY_INLINE Keyed<D, DI> BetterOf(D d, DI di, const Keyed<D, DI>& a, const Keyed<D, DI>& b) {
  const auto earlier = hn::RebindMask(d, hn::Lt(b.key, a.key));
  auto better = hn::Or(hn::Gt(b.value, a.value), hn::And(hn::Eq(b.value, a.value), earlier));
  if constexpr (kNan) {
    const auto later = hn::RebindMask(d, hn::Lt(a.key, b.key));
    better = hn::Or(better, hn::And(hn::IsNaN(b.value), hn::Or(hn::Not(hn::IsNaN(a.value)), later)));
  }
  return {hn::IfThenElse(better, b.value, a.value), hn::IfThenElse(hn::RebindMask(di, better), b.key, a.key)};
}

/// Reduces one vector of columns; `saw_nan` collects NaN lanes.
template <bool kUnit, class D, class DI, class T>
HWY_INLINE Keyed<D, DI> MaxColumns(D d, DI di, const InputRows<T>& rows, std::int64_t offset,
                                   std::int64_t stride, std::int64_t row_radix, std::size_t part,
                                   hn::Mask<D>& saw_nan) {
  using Key = hn::TFromD<DI>;
  Keyed<D, DI> best{LoadLanes<kUnit>(d, rows.row(0) + offset, stride, part),
                    hn::Set(di, static_cast<Key>(rows.tap(0) * row_radix))};
  for (std::int64_t i = 1; i < rows.count(); ++i) {
    const auto value = LoadLanes<kUnit>(d, rows.row(i) + offset, stride, part);
    // NaN beats all before it, and nothing is greater than one.
    const auto better = hn::Or(hn::Gt(value, best.value), hn::IsNaN(value));
    best.value = hn::IfThenElse(better, value, best.value);
    best.key = hn::IfThenElse(hn::RebindMask(di, better),
                              hn::Set(di, static_cast<Key>(rows.tap(i) * row_radix)), best.key);
  }
  saw_nan = hn::Or(saw_nan, hn::IsNaN(best.value));
  return best;
}

/// Vertical pass with keys, which count positions too where the buffers are not split. Returns whether a
/// column held a NaN.
template <bool kUnit, class T, class Key>
HWY_NOINLINE bool MaxRowsWithKeys(const InputRows<T>& rows, std::int64_t stride, std::int64_t row_radix,
                                  bool count_positions, const Tile& tile,
                                  const PhaseBuffer<LaneOf<T>>& values, const PhaseBuffer<Key>& keys) {
  const RowTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  constexpr auto kLowest = MaxReduction::identity<LaneOf<T>>();
  if (rows.count() == 0 || tile.cols == 0) {
    values.fill(0, tile.length, kLowest);
    keys.fill(0, tile.length, kNoKey<Key>);
    return false;
  }
  hn::Mask<decltype(d)> saw_nan = hn::FirstN(d, 0);
  const auto reduce = [&](std::int64_t col, std::int64_t left) CENOTE_VECTOR_LAMBDA {
    const auto part = static_cast<std::size_t>(left >= lanes ? 0 : left);
    return MaxColumns<kUnit>(d, di, rows, (tile.first_col + col) * stride, stride, row_radix, part, saw_nan);
  };
  auto* const value_first = values.at(tile.lead);
  Key* const key_first = keys.at(tile.lead);
  if (!values.split()) {
    const auto step = hn::Set(di, count_positions ? static_cast<Key>(lanes) : Key{0});
    auto position = count_positions ? hn::Iota(di, static_cast<Key>(tile.lead)) : hn::Zero(di);
    for (std::int64_t col = 0; col < tile.cols; col += lanes) {
      const auto best = reduce(col, tile.cols - col);
      hn::StoreU(best.value, d, value_first + col);
      hn::StoreU(hn::Add(best.key, position), di, key_first + col);
      position = hn::Add(position, step);
    }
  } else {
    auto* const value_second = values.at(tile.lead + 1);
    Key* const key_second = keys.at(tile.lead + 1);
    for (std::int64_t col = 0; col < tile.cols; col += 2 * lanes) {
      const std::int64_t left = tile.cols - col;
      PrefetchRows(rows, (tile.first_col + col) * stride);
      const auto low = reduce(col, left);
      const auto high = left > lanes ? reduce(col + lanes, left - lanes) : low;
      StorePhases(d, low.value, high.value, value_first + col / 2, value_second + col / 2);
      StorePhases(di, low.key, high.key, key_first + col / 2, key_second + col / 2);
    }
  }
  values.fill(0, tile.lead, kLowest);
  keys.fill(0, tile.lead, kNoKey<Key>);
  values.fill(tile.lead + tile.cols, tile.length, kLowest);
  keys.fill(tile.lead + tile.cols, tile.length, kNoKey<Key>);
  return !hn::AllFalse(d, saw_nan);
}

/// Keys of rows and positions: row tap * radix + position, apart from kNoKey.
class PositionKeys {
 public:
  PositionKeys(const Axes& axes, std::int64_t longest_row)
      : bits_(static_cast<int>(std::bit_width(static_cast<std::uint64_t>(longest_row)))),
        dilation_(axes[2].dilation()),
        kernel_(axes[2].kernel()),
        fit_(static_cast<Wide>(axes[0].kernel()) * axes[1].kernel() << bits_ < (1 << 30)) {}

  bool fit() const { return fit_; }
  std::int64_t row_radix() const { return std::int64_t{1} << bits_; }

  /// The tap numbers of keys chosen by outputs whose windows begin at `starts`; kNoKey stays.
  template <class DI>
  HWY_INLINE VecOf<DI> taps(DI di, VecOf<DI> keys, VecOf<DI> starts) const {
    using Key = hn::TFromD<DI>;
    const hn::RebindToFloat<DI> d;
    const auto mask = hn::Set(di, static_cast<Key>(row_radix() - 1));
    auto column = hn::Sub(hn::And(keys, mask), starts);
    if (dilation_ != 1) {  // a multiple of the dilation, and small
      const auto inverse =
          hn::Set(d, hn::TFromD<decltype(d)>{1} / static_cast<hn::TFromD<decltype(d)>>(dilation_));
      const auto half = hn::Set(d, hn::TFromD<decltype(d)>{0.5});
      column = hn::ConvertTo(di, hn::MulAdd(hn::ConvertTo(d, column), inverse, half));
    }
    const auto row = hn::ShiftRightSame(keys, bits_);
    const auto tap = hn::Add(hn::Mul(row, hn::Set(di, static_cast<Key>(kernel_))), column);
    const auto none = hn::Set(di, kNoKey<Key>);
    return hn::IfThenElse(hn::Lt(keys, none), tap, none);
  }

 private:
  int bits_;
  std::int64_t dilation_;
  std::int64_t kernel_;
  bool fit_;
};

/// Joins kRuns runs of keyed values in place, as JoinRuns does.
template <bool kNan, int kRuns, class T, class Key>
void JoinKeyedRuns(T* values, Key* keys, std::int64_t length, std::int64_t apart) {
  const RowTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  using Pair = Keyed<RowTag<T>, hn::RebindToSigned<RowTag<T>>>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto load = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
    return Pair{hn::LoadU(d, values + i), hn::LoadU(di, keys + i)};
  };
  for (std::int64_t i = 0; i < length - (kRuns - 1) * apart; i += lanes) {
    Pair joined = BetterOf<kNan>(d, di, load(i), load(i + apart));
    if constexpr (kRuns == 4) {
      const Pair other = BetterOf<kNan>(d, di, load(i + 2 * apart), load(i + 3 * apart));
      joined = BetterOf<kNan>(d, di, joined, other);
    }
    hn::StoreU(joined.value, d, values + i);
    hn::StoreU(joined.key, di, keys + i);
  }
}

/// DoubleRow for keyed values.
template <bool kNan, class T, class Key>
HWY_NOINLINE void DoubleKeyedRow(T* values, Key* keys, std::int64_t length, const Axis& w) {
  for (std::int64_t run = 1; run < longest_run(w);) {
    const bool four = 4 * run <= longest_run(w);
    const std::int64_t apart = run * w.dilation();
    four ? JoinKeyedRuns<kNan, 4>(values, keys, length, apart)
         : JoinKeyedRuns<kNan, 2>(values, keys, length, apart);
    run *= four ? 4 : 2;
  }
}

/// Joins neighbouring keyed values, as HalveRow does.
template <bool kNan, class T, class Key>
HWY_NOINLINE void HalveKeyedRow(T* values, Key* keys, std::int64_t length) {
  const RowTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  using Pair = Keyed<RowTag<T>, hn::RebindToSigned<RowTag<T>>>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; 2 * i < length; i += lanes) {
    const auto low = hn::LoadU(d, values + 2 * i);
    const auto high = hn::LoadU(d, values + 2 * i + lanes);
    const auto low_key = hn::LoadU(di, keys + 2 * i);
    const auto high_key = hn::LoadU(di, keys + 2 * i + lanes);
#if HWY_TARGET == HWY_SCALAR
    const Pair joined = BetterOf<kNan>(d, di, Pair{low, low_key}, Pair{high, high_key});
#else
    const Pair even{hn::ConcatEven(d, high, low), hn::ConcatEven(di, high_key, low_key)};
    const Pair odd{hn::ConcatOdd(d, high, low), hn::ConcatOdd(di, high_key, low_key)};
    const Pair joined = BetterOf<kNan>(d, di, even, odd);
#endif
    hn::StoreU(joined.value, d, values + i);
    hn::StoreU(joined.key, di, keys + i);
  }
}

/// Where the windows of a joined row are: window m has `taps` of them, the first at m * stride, `apart` from
/// each other.
struct JoinedTaps {
  std::int64_t taps;
  std::int64_t apart;
  std::int64_t stride;
};

/// Joins keyed values in place where windows overlap much (doubles) or lie side by side (halvings).
template <bool kNan, class T, class Key>
JoinedTaps JoinKeyedRow(T* values, Key* keys, std::int64_t length, const Axis& w) {
  if (doubles(w)) {
    DoubleKeyedRow<kNan>(values, keys, length, w);
    const std::int64_t rest = w.kernel() - longest_run(w);
    return {rest > 0 ? 2 : 1, rest * w.dilation(), w.stride()};
  }
  const int halved = halvings(w);
  for (int i = 0; i < halved; ++i, length /= 2) HalveKeyedRow<kNan>(values, keys, length);
  return {w.kernel() >> halved, 1, w.stride() >> halved};
}

/// Horizontal pass after JoinKeyedRow: emit(m, values, taps).
template <bool kGather, bool kNan, class T, class Key, class Emit>
HWY_INLINE void MaxJoinedWithKeys(const T* values, const Key* keys, const JoinedTaps& joined, const Axis& w,
                                  const PositionKeys& numbers, std::int64_t outs, const Emit& emit) {
  const RowTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  using Pair = Keyed<RowTag<T>, hn::RebindToSigned<RowTag<T>>>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto count = hn::Iota(di, 0);
  const auto steps = hn::Mul(count, hn::Set(di, static_cast<Key>(joined.stride)));
  const auto window_steps = hn::Mul(count, hn::Set(di, static_cast<Key>(w.stride())));
  const auto load = [&](std::int64_t position) CENOTE_VECTOR_LAMBDA {
    if constexpr (kGather) {
      return Pair{hn::GatherIndex(d, values + position, steps), hn::GatherIndex(di, keys + position, steps)};
    } else {
      return Pair{hn::LoadU(d, values + position), hn::LoadU(di, keys + position)};
    }
  };
  for (std::int64_t m = 0; m < outs; m += lanes) {
    Pair best = load(m * joined.stride);
    for (std::int64_t tap = 1; tap < joined.taps; ++tap)
      best = BetterOf<kNan>(d, di, best, load(m * joined.stride + tap * joined.apart));
    const auto starts = hn::Add(window_steps, hn::Set(di, static_cast<Key>(m * w.stride())));
    emit(m, best.value, numbers.taps(di, best.key, starts));
  }
}

/// Horizontal pass with keys: emit(m, values, keys). load(tag, source, m) reads what a source has for the
/// outputs from m on.
template <bool kNan, class T, class Key, class Load, class Emit>
HWY_INLINE void MaxLoadedTaps(const TapSources<T>& values, const TapSources<Key>& keys, std::int64_t outs,
                              const Load& load, const Emit& emit) {
  const RowTag<T> d;
  const hn::RebindToSigned<RowTag<T>> di;
  using Pair = Keyed<RowTag<T>, hn::RebindToSigned<RowTag<T>>>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t m = 0; m < outs; m += lanes) {
    Pair best{load(d, values[0], m), load(di, keys[0], m)};
    for (std::int64_t j = 1; j < values.count(); ++j) {
      const auto key = hn::Add(load(di, keys[j], m), hn::Set(di, static_cast<Key>(j)));
      best = BetterOf<kNan>(d, di, best, Pair{load(d, values[j], m), key});
    }
    emit(m, best.value, best.key);
  }
}

/// For windows that lie `stride` apart in the buffer.
template <bool kGather, bool kNan, class T, class Key, class Emit>
HWY_INLINE void MaxTapsWithKeys(const TapSources<T>& values, const TapSources<Key>& keys, std::int64_t outs,
                                std::int64_t stride, const Emit& emit) {
  const hn::RebindToSigned<RowTag<T>> di;
  const auto steps = hn::Mul(hn::Iota(di, 0), hn::Set(di, static_cast<Key>(stride)));
  const auto load = [&](auto tag, const auto* source, std::int64_t m) CENOTE_VECTOR_LAMBDA {
    if constexpr (kGather) {
      return hn::GatherIndex(tag, source + m * stride, steps);
    } else {
      return hn::LoadU(tag, source + m);
    }
  };
  MaxLoadedTaps<kNan>(values, keys, outs, load, emit);
}

/// `channels` is 1, or the number of channels of flat rows (flat_rows-inl.h), whose record knows the axes as
/// they are.
template <bool kUnit, class T>
void PlanarMaxWithIndices(const ConstTensor5& x, const Tensor5& y, const RecordWriter& record,
                          const Axes& axes, std::int64_t channels) {
  using Lane = LaneOf<T>;
  using Key = hwy::MakeSigned<Lane>;
  const Axis& w = axes[2];
  const std::int64_t per_tile = outs_per_tile(w, channels);
  const std::int64_t longest = (per_tile - 1) * w.stride() + w.dilated_kernel();
  const PositionKeys numbers(axes, longest);
  const bool joins = (doubles(w) || halvings(w) > 0) && numbers.fit();
  const bool split = w.stride() == 2 && !joins;
  const bool gathers = w.stride() > (joins ? 1 : 2);
  const Cursor::Index units = planar_units(y, ceil_divide(w.out(), per_tile));
  const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T)) * per_tile * w.stride() * new_rows(axes[1]);
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const RowTag<T> d;
    const hn::RebindToSigned<decltype(d)> di;
    InputRows<T> rows;
    PhaseBuffer<Lane> values;
    PhaseBuffer<Key> keys;
    TapSources<Lane> value_sources;
    TapSources<Key> key_sources;
    Scratch<Key> chosen;
    const std::int64_t gather_slack = gathers ? PhaseBuffer<Lane>::kSlack * w.stride() : 0;
    values.reserve(longest, split, w.padding(), gather_slack);
    keys.reserve(longest, split, w.padding(), gather_slack);
    if (!joins) {
      value_sources.set(values, w, 0);
      key_sources.set(keys, w, 0);
    }
    chosen.resize(static_cast<std::size_t>(per_tile + PhaseBuffer<Lane>::kSlack));
    Cursor at(units, begin);
    Tile tile = make_tile(w, at[4], per_tile);
    const auto reduce = [&](auto nan, const RowSink<T>& sink) HWY_ATTR {
      constexpr bool kNan = decltype(nan)::value;
      const auto emit = [&](std::int64_t m, VecOf<decltype(d)> v, VecOf<decltype(di)> key)
                            CENOTE_VECTOR_LAMBDA {
                              sink.store(d, m, v);
                              hn::StoreU(key, di, chosen.get() + m);
                            };
      if (joins) {
        Lane* const row = values.at(0);
        Key* const row_keys = keys.at(0);
        const JoinedTaps joined = JoinKeyedRow<kNan>(row, row_keys, tile.length, w);
        if (joined.stride > 1)
          return MaxJoinedWithKeys<true, kNan>(row, row_keys, joined, w, numbers, tile.outs, emit);
        return MaxJoinedWithKeys<false, kNan>(row, row_keys, joined, w, numbers, tile.outs, emit);
      }
      if (gathers)
        return MaxTapsWithKeys<true, kNan>(value_sources, key_sources, tile.outs, w.stride(), emit);
      MaxTapsWithKeys<false, kNan>(value_sources, key_sources, tile.outs, 1, emit);
    };
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      if (units[4] > 1) tile = make_tile(w, at[4], per_tile);
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]) + tile.first_out * y.stride[4];
      const RowSink<T> sink(to, w.out() == 1 ? 1 : y.stride[4], tile.outs);
      const std::int64_t radix = joins ? numbers.row_radix() : w.kernel();
      if (MaxRowsWithKeys<kUnit>(rows, x.stride[4], radix, joins, tile, values, keys)) {
        reduce(std::true_type(), sink);
      } else {
        reduce(std::false_type(), sink);
      }
      if (channels == 1) {
        record.store(chosen.get(), kNoKey<Key>, tile.outs, at[0], at[1], at[2], at[3], tile.first_out);
      } else {
        for (std::int64_t m = 0; m < tile.outs; m += channels)
          record.store_channel_taps(chosen.get() + m, kNoKey<Key>, channels, at[0], at[2], at[3],
                                    (tile.first_out + m) / channels);
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
