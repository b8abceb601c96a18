// Window max with indices where short_windows-inl.h serves the windows, in registers as there: beside each
// maximum stands a key, which compares as its element lies in the window, in row-major order. Of equal
// elements that with the smallest key wins. Where no NaN is, a maximum comes from the columns that equal it;
// rows with one are pooled again, in an order that knows NaN.
#if defined(CENOTE_CPU_SHORT_RECORDS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_SHORT_RECORDS_INL_H_
#undef CENOTE_CPU_SHORT_RECORDS_INL_H_
#else
#define CENOTE_CPU_SHORT_RECORDS_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

#include "cpu/planar_indices-inl.h"
#include "cpu/short_windows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Numbers of elements: their taps in the window, or their positions behind that of a first element. Keys are
/// numbers less origin(), so that what is no element, 0, has the largest.
class WindowNumbers {
 public:
  WindowNumbers(const Axes& axes, bool positions)
      : positions_(positions),
        pitch_(positions ? axes[2].in() : axes[2].kernel()),
        last_column_(axes[2].kernel() - 1),
        origin_(pitch_ * (positions ? axes[0].in() * axes[1].in() : axes[0].kernel() * axes[1].kernel()) +
                last_column_ + kColumns) {}

  /// Of the last column of a window in one of its rows.
  std::int64_t key(std::int64_t line, std::int64_t tap) const {
    return (positions_ ? line : tap) * pitch_ + last_column_ - origin_;
  }
  std::int64_t origin() const { return origin_; }

 private:
  static constexpr std::int64_t kColumns = 8;  // more than keys are moved by

  bool positions_;
  std::int64_t pitch_;
  std::int64_t last_column_;
  std::int64_t origin_;
};

/// What ReduceShortRows takes columns for: the maximum and the key of its element, which keys(i) is for the
/// last column of a window in row i.
template <bool kExact, int kStride, int kRows, class T, class Keys>
class KeyedColumns {
 public:
  using Tag = WideTag<T>;
  using KeyTag = hn::RebindToSigned<Tag>;
  using Item = Keyed<Tag, KeyTag>;
  using Indices = decltype(RotatingIndices(Tag(), 0));
  using Mask = hn::Mask<Tag>;
  static constexpr bool kLosesNaN = !kExact && std::is_floating_point_v<LaneOf<T>>;

  explicit KeyedColumns(const Keys& keys) : row_keys_(keys) {
    const KeyTag di;
    // Loaded lanes are the last column of a window, with stride 2 also the one before it.
    lanes_ = hn::Zero(di);
    if constexpr (kStride == 2) lanes_ = hn::Sub(hn::And(hn::Iota(di, 0), hn::Set(di, 1)), hn::Set(di, 1));
    for (int i = 0; i < kRows; ++i) keys_[static_cast<std::size_t>(i)] = computed_key(i);
  }

  HWY_INLINE Item identity() const {
    return {hn::Set(Tag(), MaxReduction::identity<LaneOf<T>>()), hn::Zero(KeyTag())};
  }
  template <class Load>
  HWY_INLINE Item reduce(std::int64_t rows, const Load& load) const {
    Item best{load(0), key(0)};
    for (std::int64_t i = 1; i < rows; ++i) {
      const auto v = load(i);
      auto better = hn::Gt(v, best.value);
      if constexpr (kExact) better = hn::Or(better, hn::IsNaN(v));
      best.value = kExact ? hn::IfThenElse(better, v, best.value) : hn::Max(v, best.value);
      best.key = hn::IfThenElse(hn::RebindMask(KeyTag(), better), key(i), best.key);
    }
    return best;
  }
  static HWY_INLINE Item moved(const Item& v, const Indices& from) {
    const auto key = hn::TableLookupLanes(hn::BitCast(Tag(), v.key), from);
    return {hn::TableLookupLanes(v.value, from), hn::BitCast(KeyTag(), key)};
  }
  static HWY_INLINE Item select(const Mask& mask, const Item& yes, const Item& no) {
    return {hn::IfThenElse(mask, yes.value, no.value),
            hn::IfThenElse(hn::RebindMask(KeyTag(), mask), yes.key, no.key)};
  }
#if HWY_TARGET != HWY_SCALAR
  static HWY_INLINE Item even(const Item& high, const Item& low) {
    return {hn::ConcatEven(Tag(), high.value, low.value), hn::ConcatEven(KeyTag(), high.key, low.key)};
  }
  static HWY_INLINE Item odd(const Item& high, const Item& low) {
    return {hn::ConcatOdd(Tag(), high.value, low.value), hn::ConcatOdd(KeyTag(), high.key, low.key)};
  }
#endif
  HWY_INLINE Item join(const Item& first, const Item& second) const {
    const Item columns[] = {kStride == 1 ? before(first, 1) : first, second};
    return winner(columns);
  }
  HWY_INLINE Item join(const Item& first, const Item& second, const Item& third) const {
    const Item columns[] = {before(first, 2), kStride == 1 ? before(second, 1) : second, third};
    return winner(columns);
  }
  /// With stride 2 it is one column, the last one of its window, in a lane of the last but one.
  static HWY_INLINE Item before_first(const Item& v) { return kStride == 2 ? before(v, -1) : v; }
  template <class Emit>
  static HWY_INLINE void emit(const Emit& to, std::int64_t m, const Item& v) {
    to(m, v);
  }

 private:
  /// The keys of columns that lie before those they were computed for.
  static HWY_INLINE Item before(const Item& v, int columns) {
    return {v.value, hn::Sub(v.key, hn::Set(KeyTag(), columns))};
  }

  HWY_INLINE VecOf<KeyTag> computed_key(std::int64_t i) const {
    const KeyTag di;
    return hn::Add(lanes_, hn::Set(di, static_cast<hn::TFromD<KeyTag>>(row_keys_(i))));
  }
  HWY_INLINE VecOf<KeyTag> key(std::int64_t i) const {
    if constexpr (kRows > 0) {
      return keys_[static_cast<std::size_t>(i)];
    } else {
      return computed_key(i);
    }
  }

  template <std::size_t kColumns>
  HWY_INLINE Item winner(const Item (&columns)[kColumns]) const {
    const Tag d;
    const KeyTag di;
    Item best = columns[0];
    if constexpr (kExact) {
      for (std::size_t j = 1; j < kColumns; ++j) best = BetterOf<true>(d, di, best, columns[j]);
      return best;
    }
    for (std::size_t j = 1; j < kColumns; ++j) best.value = hn::Max(columns[j].value, best.value);
    best.key = hn::Zero(di);
    for (const Item& column : columns) {
      const auto wins = hn::RebindMask(di, hn::Eq(column.value, best.value));
      best.key = hn::Min(best.key, hn::IfThenElseZero(wins, column.key));
    }
    return best;
  }

  Keys row_keys_;
  VecOf<KeyTag> lanes_;
  std::array<VecOf<KeyTag>, kRows> keys_;
};

/// How rows are pooled: to maxima and keys.
template <class T>
struct KeyedRows {
  template <bool kExact, int kStride, int kTaps, int kRows>
  auto columns(const InputRows<T>& rows) const {
    constexpr bool kKnowsNaN = kExact && std::is_floating_point_v<LaneOf<T>>;
    const auto keys = [&](std::int64_t i) { return numbers.key(rows.line(i) - rows.line(0), rows.tap(i)); };
    return KeyedColumns<kKnowsNaN, kStride, kRows, T, decltype(keys)>(keys);
  }
  const WindowNumbers& numbers;
};

/// Stores taps or positions as indices, all lanes or the first `part`.
struct StoreIndices {
  template <class V, class Tap>
  HWY_INLINE void operator()(V numbers, Tap* to, std::size_t part) const {
    const hn::RebindToUnsigned<hn::DFromV<V>> du;
    const hn::Rebind<Tap, hn::DFromV<V>> d;
    store(d, hn::TruncateTo(d, hn::BitCast(du, numbers)), to, part);
  }
  template <class V>
  HWY_INLINE void operator()(V numbers, std::int64_t* to, std::size_t part) const {
    const WideTag<std::int64_t> d;
    if constexpr (sizeof(hn::TFromV<V>) == sizeof(std::int64_t)) {
      store(d, numbers, to, part);
    } else {
#if HWY_TARGET == HWY_SCALAR
      store(d, hn::PromoteTo(d, numbers), to, part);
#else
      const hn::Half<hn::DFromV<V>> half;
      const std::size_t lanes = hn::Lanes(d);
      store(d, hn::PromoteTo(d, hn::LowerHalf(half, numbers)), to, std::min(part, lanes));
      if (part == 0 || part > lanes)
        store(d, hn::PromoteTo(d, hn::UpperHalf(half, numbers)), to + lanes, part == 0 ? 0 : part - lanes);
#endif
    }
  }

 private:
  template <class D, class T>
  static HWY_INLINE void store(D d, VecOf<D> v, T* to, std::size_t part) {
    part == 0 ? hn::StoreU(v, d, to) : StorePart(d, v, to, part);
  }
};

/// Stores the indices of output row (od, oh) of a plane, and of others that lie alike.
template <class T>
class IndexSink {
 public:
  using KeyTag = hn::RebindToSigned<WideTag<T>>;
  using Key = hn::TFromD<KeyTag>;

  /// `across`: the next row is that of the next channel, else that of the next oh.
  IndexSink(const Tensor5& indices, const Axes& axes, const WindowNumbers& numbers, const Cursor::Index& at,
            bool across, OutputLines* lines)
      : dtype_(indices.dtype),
        origin_(numbers.origin()),
        outs_(axes[2].out()),
        bytes_(outs_ * static_cast<std::int64_t>(size_of(dtype_))) {
    const auto size = static_cast<std::int64_t>(size_of(dtype_));
    const auto& stride = indices.stride;
    const std::int64_t offset = at[0] * stride[0] + at[1] * stride[1] + at[2] * stride[2] + at[3] * stride[3];
    place_ = static_cast<char*>(indices.data) + offset * size;
    step_ = (across ? stride[1] : stride[3]) * size;
    lines_ = step_ == bytes_ ? lines : nullptr;
    if (dtype_ == DType::i64) {
      const std::int64_t line = axes[0].taps(at[2]).position * axes[1].in() + axes[1].taps(at[3]).position;
      origin_ += line * axes[2].in() - axes[2].padding();
      per_out_ = axes[2].stride();
      per_row_ = across ? 0 : axes[1].stride() * axes[2].in();
    }
    begin_row();
  }
  HWY_INLINE void store(std::int64_t m, VecOf<KeyTag> key) const {
    const KeyTag di;
    const auto first = hn::Set(di, static_cast<Key>(origin_ + m * per_out_));
    const auto steps = hn::Mul(hn::Iota(di, 0), hn::Set(di, static_cast<Key>(per_out_)));
    const auto number = hn::Add(hn::Add(first, steps), key);
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(di));
    const auto part = static_cast<std::size_t>(outs_ - m >= lanes ? 0 : outs_ - m);
    if (dtype_ == DType::u8) {
      StoreIndices()(number, to<std::uint8_t>(m), part);
    } else if (dtype_ == DType::u16) {
      StoreIndices()(number, to<std::uint16_t>(m), part);
    } else {
      StoreIndices()(number, to<std::int64_t>(m), part);
    }
  }
  void next_row() {
    if (lines_ != nullptr) lines_->done(bytes_);
    place_ += step_;
    origin_ += per_row_;
    begin_row();
  }

 private:
  void begin_row() {
    to_ = lines_ != nullptr ? lines_->room(place_, bytes_) : place_;
    if (lines_ == nullptr) ask_ahead(to_, bytes_);
  }

  template <class Index>
  Index* to(std::int64_t m) const {
    return reinterpret_cast<Index*>(to_) + m;
  }

  DType dtype_;
  char* place_;  // where the row belongs
  char* to_;     // where it is stored
  std::int64_t step_;
  std::int64_t origin_;  // of the first output; what a key is to be added to
  std::int64_t per_out_ = 0;
  std::int64_t per_row_ = 0;
  std::int64_t outs_;
  std::int64_t bytes_;  // of a row
  OutputLines* lines_;  // that rows are collected in, if any
};

/// What becomes of maxima and keys.
template <class T>
struct MaxWithIndexRow {
  struct State : RowsState {
    RowsState indices;
  };
  State thread_state() const { return {{{}, past}, {{}, past}}; }

  struct Emitter : RowsSink<T> {
    HWY_INLINE void operator()(std::int64_t m,
                               const Keyed<WideTag<T>, typename IndexSink<T>::KeyTag>& v) const {
      this->store(WideTag<T>(), m, v.value);
      indices.store(m, v.key);
    }
    void next_row() {
      RowsSink<T>::next_row();
      indices.next_row();
    }
    IndexSink<T> indices;
  };
  Emitter emitter(State& state, const Cursor::Index& at, std::int64_t first_out, std::int64_t outs,
                  std::int64_t step) const {
    return {{y, at, first_out, outs, step, state.lines_to_fill()},
            {indices, axes, numbers, at, across, state.indices.lines_to_fill()}};
  }

  const Tensor5& y;
  const Tensor5& indices;
  const Axes& axes;
  const WindowNumbers& numbers;
  bool across;
  bool past;  // the caches
};

/// Whether each window along an axis has an element.
inline bool no_window_is_empty(const Axis& axis) {
  if (axis.dilation() == 1) return axis.taps(0).count > 0 && axis.taps(axis.out() - 1).count > 0;
  for (std::int64_t o = 0; o < axis.out(); ++o) {
    if (axis.taps(o).count == 0) return false;
  }
  return true;
}

/// Whether MaxOfShortRowsWithIndices serves rows of unit stride.
template <class T>
bool records_short_rows(const Tensor5& y, const Tensor5& indices, const Axes& axes) {
  const bool neighbours = y.size[4] == 1 || indices.stride[4] == 1;
  return sizeof(T) > 1 && neighbours && short_windows(axes[2]) &&
         std::all_of(axes.begin(), axes.end(), no_window_is_empty);
}

template <class T>
void MaxOfShortRowsWithIndices(const ConstTensor5& x, const Tensor5& y, const Tensor5& indices,
                               const Axes& axes) {
  const WindowNumbers numbers(axes, indices.dtype == DType::i64);
  const bool across = planes_together(x, axes, sizeof(T)) > 1;
  PoolShortRows<T>(KeyedRows<T>{numbers}, x, y, axes,
                   MaxWithIndexRow<T>{y, indices, axes, numbers, across, stores_past_caches(x, y, indices)});
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
