// Pooling that selects an element by rank or by frequency, on the CPU: the lower median and the mode. Rows of
// outputs take their taps from rows that vectors read at unit stride, channels-last pixels are read where
// they are; windows that neither fits are packed and sorted one by one.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/select.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "backend.h"
#include "core/parallel.h"
#include "cpu/layout.h"
#include "cpu/planar-inl.h"
#include "cpu/record-inl.h"
#include "cpu/scatter-inl.h"
#include "cpu/window_elements-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr std::int64_t kChannelBlock = 32;

/// What was selected, one per lane: the element and its tap, counted as `load` counts them.
template <class D>
struct Selected {
  VecOf<D> value;
  VecOf<hn::RebindToSigned<D>> tap;
};

/// No tap: larger than any.
template <class T>
constexpr auto kNoTap = std::numeric_limits<hwy::MakeSigned<T>>::max();

/// The taps of a vector of windows: load(i) gives the elements, is_real(i) where they are inside the input.
/// Elements outside are +inf for Median and NaN for Mode.
template <class Load, class IsReal>
struct TapSource {
  std::int64_t count;
  Load load;
  IsReal is_real;
};

/// The first real tap where matches(v).
template <class D, class Source, class Matches>
HWY_INLINE Selected<D> FirstWhere(D d, const Source& source, Selected<D> selected, const Matches& matches) {
  const hn::RebindToSigned<D> di;
  using TI = hn::TFromD<decltype(di)>;
  const auto none = hn::Set(di, kNoTap<hn::TFromD<D>>);
  for (std::int64_t i = 0; i < source.count; ++i) {
    const auto v = source.load(i);
    const auto hit = hn::And(matches(v), source.is_real(i));
    const auto first = hn::And(hit, hn::RebindMask(d, hn::Eq(selected.tap, none)));
    selected.value = hn::IfThenElse(first, v, selected.value);
    selected.tap = hn::IfThenElse(hn::RebindMask(di, first), hn::Set(di, static_cast<TI>(i)), selected.tap);
  }
  return selected;
}

/// 0, and no tap.
template <class D>
HWY_INLINE Selected<D> Nothing(D d) {
  return {hn::Zero(d), hn::Set(hn::RebindToSigned<D>(), kNoTap<hn::TFromD<D>>)};
}

/// Integers in the order of the floats, and back; NaN aside.
template <class D>
HWY_INLINE VecOf<hn::RebindToSigned<D>> OrderedBits(D d, VecOf<D> v) {
  const hn::RebindToSigned<D> di;
  using TI = hn::TFromD<decltype(di)>;
  const auto bits = hn::BitCast(di, v);
  const auto negative = hn::VecFromMask(di, hn::Lt(bits, hn::Zero(di)));
  (void)d;
  return hn::Xor(bits, hn::And(negative, hn::Set(di, std::numeric_limits<TI>::max())));
}
template <class D>
HWY_INLINE VecOf<D> FromOrderedBits(D d, VecOf<hn::RebindToSigned<D>> ordered) {
  const hn::RebindToSigned<D> di;
  using TI = hn::TFromD<decltype(di)>;
  const auto negative = hn::VecFromMask(di, hn::Lt(ordered, hn::Zero(di)));
  return hn::BitCast(d, hn::Xor(ordered, hn::And(negative, hn::Set(di, std::numeric_limits<TI>::max()))));
}

/// The element of rank floor((n - 1) / 2) of n. For few taps each is ranked against all others; for more the
/// bits of the answer are found one after another, by counting what lies below.
struct Median {
  template <class T>
  static constexpr T padding() {
    return std::numeric_limits<T>::infinity();
  }

  /// The most taps that are ranked: n^2 comparisons against one per tap and bit.
  static constexpr std::int64_t kMostRanked = 25;

  /// Whether vectors can do it. Bisection takes any number of taps.
  static bool vectorises(std::int64_t) { return true; }

  template <class D, class Source>
  static HWY_INLINE VecOf<D> ByRank(D d, const Source& source, VecOf<D> rank) {
    const auto one = hn::Set(d, hn::TFromD<D>(1));
    auto value = hn::Zero(d);
    for (std::int64_t i = 0; i < source.count; ++i) {
      const auto v = source.load(i);
      auto less = hn::Zero(d);
      auto not_more = hn::Zero(d);
      for (std::int64_t j = 0; j < source.count; ++j) {
        const auto other = source.load(j);
        less = hn::Add(less, hn::IfThenElseZero(hn::Lt(other, v), one));
        not_more = hn::Add(not_more, hn::IfThenElseZero(hn::Le(other, v), one));
      }
      value = hn::IfThenElse(hn::And(hn::Le(less, rank), hn::Gt(not_more, rank)), v, value);
    }
    return value;
  }

  template <class D, class Source>
  static HWY_INLINE VecOf<D> ByBisection(D d, const Source& source, VecOf<D> rank) {
    const hn::RebindToSigned<D> di;
    using TI = hn::TFromD<decltype(di)>;
    const auto one = hn::Set(d, hn::TFromD<D>(1));
    auto least = source.load(0);
    auto most = least;
    for (std::int64_t i = 1; i < source.count; ++i) {
      least = hn::Min(least, source.load(i));
      most = hn::Max(most, source.load(i));
    }
    auto low = OrderedBits(d, least);
    auto high = OrderedBits(d, most);
    while (!hn::AllFalse(di, hn::Lt(low, high))) {
      const auto middle = hn::Add(hn::And(low, high), hn::ShiftRight<1>(hn::Xor(low, high)));  // rounded down
      const auto bound = FromOrderedBits(d, middle);
      auto below = hn::Zero(d);
      for (std::int64_t i = 0; i < source.count; ++i)
        below = hn::Add(below, hn::IfThenElseZero(hn::Le(source.load(i), bound), one));
      const auto enough = hn::RebindMask(di, hn::Gt(below, rank));
      high = hn::IfThenElse(enough, middle, high);
      low = hn::IfThenElse(enough, low, hn::Min(hn::Add(middle, hn::Set(di, TI{1})), high));
    }
    return FromOrderedBits(d, low);
  }

  /// `count`: the real elements of each window.
  template <class D, class Source>
  static HWY_INLINE Selected<D> select(D d, const Source& source, VecOf<D> count) {
    const auto isnan = [](VecOf<D> v) CENOTE_VECTOR_LAMBDA { return hn::IsNaN(v); };
    auto selected = FirstWhere(d, source, Nothing(d), isnan);
    const auto half = hn::Set(d, hn::TFromD<D>(0.5));
    const auto rank = hn::Floor(hn::Mul(hn::Sub(count, hn::Set(d, hn::TFromD<D>(1))), half));
    const auto value = source.count <= kMostRanked ? ByRank(d, source, rank) : ByBisection(d, source, rank);
    return FirstWhere(d, source, selected, [&](VecOf<D> v) CENOTE_VECTOR_LAMBDA { return hn::Eq(v, value); });
  }

  /// The same of one packed window that has no NaN.
  template <class T>
  static T select_one(const T* from, std::int64_t count, std::vector<T>& memory) {
    memory.assign(from, from + count);
    const auto middle = memory.begin() + (count - 1) / 2;
    std::nth_element(memory.begin(), middle, memory.end());
    return *middle;
  }
};

/// The most frequent value, of equally frequent ones that which comes first.
struct Mode {
  template <class T>
  static constexpr T padding() {
    return std::numeric_limits<T>::quiet_NaN();
  }

  /// Each tap is compared with all others; sorting takes over for large windows.
  static bool vectorises(std::int64_t taps) { return taps <= 128; }

  template <class D, class Source>
  static HWY_INLINE Selected<D> select(D d, const Source& source, VecOf<D> /*count*/) {
    const hn::RebindToSigned<D> di;
    using TI = hn::TFromD<decltype(di)>;
    const auto one = hn::Set(d, hn::TFromD<D>(1));
    auto selected = Nothing(d);
    auto most = hn::Zero(d);
    for (std::int64_t i = 0; i < source.count; ++i) {
      const auto v = source.load(i);
      auto equal = hn::Zero(d);
      for (std::int64_t j = 0; j < source.count; ++j)
        equal = hn::Add(equal, hn::IfThenElseZero(hn::Eq(source.load(j), v), one));
      const auto more = hn::Gt(equal, most);
      most = hn::IfThenElse(more, equal, most);
      selected.value = hn::IfThenElse(more, v, selected.value);
      selected.tap = hn::IfThenElse(hn::RebindMask(di, more), hn::Set(di, static_cast<TI>(i)), selected.tap);
    }
    const auto isnan = [](VecOf<D> v) CENOTE_VECTOR_LAMBDA { return hn::IsNaN(v); };
    const auto nan = FirstWhere(d, source, Nothing(d), isnan);
    const auto none = hn::Eq(nan.tap, hn::Set(di, kNoTap<hn::TFromD<D>>));
    return {hn::IfThenElse(hn::RebindMask(d, none), selected.value, nan.value),
            hn::IfThenElse(none, selected.tap, nan.tap)};
  }

  template <class T>
  static T select_one(const T* from, std::int64_t count, std::vector<std::int64_t>& order) {
    order.resize(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    const auto before = [&](std::int64_t a, std::int64_t b) {
      return from[a] < from[b] || (from[a] == from[b] && a < b);
    };
    std::sort(order.begin(), order.end(), before);
    std::int64_t best = order[0];
    std::int64_t most = 0;
    for (std::size_t begin = 0; begin < order.size();) {
      std::size_t end = begin;
      while (end < order.size() && from[order[end]] == from[order[begin]]) ++end;
      const auto length = static_cast<std::int64_t>(end - begin);
      if (length > most || (length == most && order[begin] < best)) {
        most = length;
        best = order[begin];
      }
      begin = end;
    }
    return from[best];
  }
};

template <class Rule, class T>
using OneMemory = std::conditional_t<std::is_same_v<Rule, Median>, std::vector<T>, std::vector<std::int64_t>>;

// ---- rows of outputs ----------------------------------------------------------------------------

/// First column tap inside the input and the one after the last, for each output, as T.
template <class T>
struct RealColumns {
  explicit RealColumns(const Axis& w)
      : first(static_cast<std::size_t>(w.out()) + kMaxLanes<T>, T{0}),
        end(first),
        count(column_counts<T>(w)) {
    for (std::int64_t o = 0; o < w.out(); ++o) {
      const Taps taps = w.taps(o);
      first[static_cast<std::size_t>(o)] = static_cast<T>(taps.first);
      end[static_cast<std::size_t>(o)] = static_cast<T>(taps.first + taps.count);
    }
  }

  std::vector<T> first;
  std::vector<T> end;
  std::vector<T> count;
};

template <class Rule, class T>
void SelectRows(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const Axes& axes) {
  using Key = hwy::MakeSigned<T>;
  const WideTag<T> d;
  const Axis& w = axes[2];
  const TapSlots slots(w);
  const RealColumns<T> columns(w);
  const std::int64_t most = outs_per_stretch(axes, slots);
  std::optional<RecordWriter> record;
  if (indices != nullptr) record.emplace(*indices, x.size, axes);
  const Cursor::Index units{y.size[0], y.size[1], y.size[2], y.size[3], ceil_divide(w.out(), most)};
  const std::int64_t grain = row_grain(bytes_per_output_row<T>(axes));
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    InputRows<T> rows;
    TapRows<T> tap_rows(axes, slots, most);
    const std::vector<T*> taps = tap_pointers(tap_rows, axes);
    std::vector<std::int64_t> column(taps.size());
    for (std::size_t i = 0; i < column.size(); ++i) column[i] = static_cast<std::int64_t>(i) % w.kernel();
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      const Stretch stretch{at[4] * most, std::min(most, w.out() - at[4] * most)};
      rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
      tap_rows.fill(rows, x.stride[4], w, stretch, Rule::template padding<T>());
      T* const to = row_of<T>(y, at[0], at[1], at[2], at[3]) + stretch.first * y.stride[4];
      const RowSink<T> sink(to, w.out() == 1 ? 1 : y.stride[4], stretch.count);
      for (std::int64_t m = 0; m < stretch.count; m += lanes_of<T>()) {
        const auto first = hn::LoadU(d, columns.first.data() + stretch.first + m);
        const auto last = hn::LoadU(d, columns.end.data() + stretch.first + m);
        const auto load = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
          return hn::LoadU(d, taps[static_cast<std::size_t>(i)] + m);
        };
        const auto is_real = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
          const auto j = hn::Set(d, static_cast<T>(column[static_cast<std::size_t>(i)]));
          return hn::And(hn::Ge(j, first), hn::Lt(j, last));
        };
        const TapSource<decltype(load), decltype(is_real)> source{rows.count() * w.kernel(), load, is_real};
        const auto count = hn::Mul(hn::Set(d, static_cast<T>(rows.count())),
                                   hn::LoadU(d, columns.count.data() + stretch.first + m));
        const auto selected = source.count == 0 ? Nothing(d) : Rule::select(d, source, count);
        sink.store(d, m, selected.value);
        if (!record) continue;
        HWY_ALIGN Key keys[kMaxLanes<T>] = {};
        hn::Store(selected.tap, hn::RebindToSigned<decltype(d)>(), keys);
        for (Key& key : keys) {  // from taps of real rows to taps of the window
          if (key == kNoTap<T>) continue;
          const std::int64_t row = static_cast<std::int64_t>(key) / w.kernel();
          if (row < rows.count()) key = static_cast<Key>(rows.tap(row) * w.kernel() + key % w.kernel());
        }
        record->store(keys, kNoTap<T>, std::min(stretch.count - m, lanes_of<T>()), at[0], at[1], at[2], at[3],
                      stretch.first + m);
      }
    }
  });
}

// ---- single windows -----------------------------------------------------------------------------

/// The first element equal to `value`, or the first NaN.
template <class T>
std::int64_t find_first(const T* from, std::int64_t count, T value) {
  for (std::int64_t i = 0; i < count; ++i)
    if (from[i] == value || (__builtin_isnan(value) && __builtin_isnan(from[i]))) return i;
  return -1;
}

template <class Rule, class T>
void SelectWindows(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const Axes& axes) {
  constexpr auto kNone = std::numeric_limits<std::int64_t>::max();
  const Axis& w = axes[2];
  std::optional<RecordWriter> record;
  if (indices != nullptr) record.emplace(*indices, x.size, axes);
  const Cursor::Index units{y.size[0], y.size[1], y.size[2], y.size[3], w.out()};
  parallel_for(
      Cursor::total(units), row_grain(bytes_per_window<T>(axes)),
      [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
        InputRows<T> rows;
        PackedWindow<T> window;
        OneMemory<Rule, T> memory;
        Cursor at(units, begin);
        for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
          if (unit == begin || at[4] == 0)
            rows.collect(x, plane_of<const T>(x, at[0], at[1]), axes, at[2], at[3]);
          const Taps columns = w.taps(at[4]);
          window.pack(rows, columns, w.dilation(), x.stride[4]);
          const T* const from = window.values();
          T value = 0;
          std::int64_t found = -1;
          if (window.count() > 0) {
            found = find_first(from, window.count(), std::numeric_limits<T>::quiet_NaN());
            if (found < 0)
              found = find_first(from, window.count(), Rule::select_one(from, window.count(), memory));
            value = from[found];
          }
          row_of<T>(y, at[0], at[1], at[2], at[3])[at[4] * y.stride[4]] = value;
          if (!record) continue;
          std::int64_t key = kNone;
          if (found >= 0)
            key = rows.tap(found / columns.count) * w.kernel() + columns.first + found % columns.count;
          record->store(&key, kNone, 1, at[0], at[1], at[2], at[3], at[4]);
        }
      });
}

// ---- channels last ------------------------------------------------------------------------------

template <class Rule, class T>
void SelectPixels(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const Axes& axes) {
  const WideTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  using Key = hwy::MakeSigned<T>;
  const std::int64_t blocks = ceil_divide(x.size[1], kChannelBlock);
  std::optional<RecordWriter> record;
  if (indices != nullptr) record.emplace(*indices, x.size, axes);
  const Cursor::Index units{y.size[0], y.size[2], y.size[3], y.size[4], blocks};
  const std::int64_t grain = row_grain(bytes_per_window<T>(axes) * kChannelBlock);
  parallel_for(Cursor::total(units), grain, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    constexpr auto kNone = std::numeric_limits<std::int64_t>::max();
    PixelOffsets offsets;
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      offsets.collect(axes, {0, 0, at[1], at[2], at[3]}, x.stride, x.stride);
      const std::int64_t first = at[4] * kChannelBlock;
      T* const to = row_of<T>(y, at[0], 0, at[1], at[2]) + at[3] * y.stride[4];
      const T* const from = plane_of<const T>(x, at[0], 0);
      const auto count = hn::Set(d, static_cast<T>(offsets.count()));
      ForEachChannelVector<T>(
          first, std::min(x.size[1], first + kChannelBlock), [&](std::int64_t c, std::size_t part) HWY_ATTR {
            const auto load = [&](std::int64_t i) CENOTE_VECTOR_LAMBDA {
              return LoadLanes<true>(d, from + c + offsets.x[static_cast<std::size_t>(i)], 1, part);
            };
            const auto is_real = [&](std::int64_t)
                                     CENOTE_VECTOR_LAMBDA { return hn::Eq(hn::Zero(d), hn::Zero(d)); };
            const TapSource<decltype(load), decltype(is_real)> source{offsets.count(), load, is_real};
            const auto selected = source.count == 0 ? Nothing(d) : Rule::select(d, source, count);
            if (part == 0) {
              hn::StoreU(selected.value, d, to + c);
            } else {
              StorePart(d, selected.value, to + c, part);
            }
            if (!record) return;
            HWY_ALIGN Key keys[kMaxLanes<T>];
            hn::Store(selected.tap, di, keys);
            const std::int64_t lanes = part == 0 ? lanes_of<T>() : static_cast<std::int64_t>(part);
            for (std::int64_t lane = 0; lane < lanes; ++lane) {
              const std::int64_t key =
                  keys[lane] == kNoTap<T> ? kNone : offsets.taps[static_cast<std::size_t>(keys[lane])];
              record->store(&key, kNone, 1, at[0], c + lane, at[1], at[2], at[3]);
            }
          });
    }
  });
}

// ---- choosing -----------------------------------------------------------------------------------

template <class Rule, class T>
void Select(const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& window) {
  const Axes axes = windows_of(&window, x.size, y.size).axes;
  constexpr std::int64_t kMostTaps = 1 << 12;  // counts and taps are exact as f32
  std::int64_t taps = 1;
  for (const Axis& axis : axes)
    taps = axis.kernel() > kMostTaps / taps ? kMostTaps + 1 : taps * axis.kernel();
  if (taps <= kMostTaps && Rule::vectorises(taps)) {
    if (channels_last(x, y)) return SelectPixels<Rule, T>(y, indices, x, axes);
    if (fits_tap_rows(axes)) return SelectRows<Rule, T>(y, indices, x, axes);
  }
  SelectWindows<Rule, T>(y, indices, x, axes);
}

constexpr SelectBackend kTable{
    [](const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& window) {
      return x.dtype == DType::f32 ? Select<Median, float>(y, indices, x, window)
                                   : Select<Median, double>(y, indices, x, window);
    },
    [](const Tensor5& y, const Tensor5* indices, const ConstTensor5& x, const WindowAxes& window) {
      return x.dtype == DType::f32 ? Select<Mode, float>(y, indices, x, window)
                                   : Select<Mode, double>(y, indices, x, window);
    },
};

}  // namespace

const SelectBackend* SelectTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(SelectTable);

const SelectBackend& select() { return *HWY_DYNAMIC_DISPATCH(SelectTable)(); }

}  // namespace cenote::cpu
#endif
