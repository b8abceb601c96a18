// Adds or copies elements to where i64 indices say, which may be anywhere in their plane: no vector work.
// Runs of elements are rows, or all channels of a pixel where the channels lie next to each other. Each part
// of a plane belongs to one thread, which zeros it just ahead of the positions that it meets and writes in
// the order of the source: the last copy, and the order of sums, are the same whatever the number of threads.
#if defined(CENOTE_CPU_INDEX_SCATTER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_INDEX_SCATTER_INL_H_
#undef CENOTE_CPU_INDEX_SCATTER_INL_H_
#else
#define CENOTE_CPU_INDEX_SCATTER_INL_H_
#endif

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "cenote/runtime.h"
#include "core/parallel.h"
#include "cpu/layout.h"
#include "cpu/scatter-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

inline std::int64_t positions_of(const Array5& size) { return size[2] * size[3] * size[4]; }

/// Where a flat position lies in a plane whose positions follow each other at one distance.
class EvenPlaces {
 public:
  static constexpr bool kEven = true;

  static bool fits(const Array5& size, const Array5& stride) {
    std::int64_t step = 0;
    std::int64_t inner = 1;
    for (std::size_t axis = 5; axis-- > 2; inner *= size[axis]) {
      if (size[axis] == 1) continue;
      if (step == 0 && inner == 1) step = stride[axis];
      if (stride[axis] != step * inner) return false;
    }
    return true;
  }
  EvenPlaces(const Array5& size, const Array5& stride)
      : step_(size[4] > 1   ? stride[4]
              : size[3] > 1 ? stride[3]
                            : stride[2]) {}
  std::int64_t operator()(std::int64_t position) const { return position * step_; }

 private:
  std::int64_t step_;
};

/// The same for any strides.
class AnyPlaces {
 public:
  static constexpr bool kEven = false;

  AnyPlaces(const Array5& size, const Array5& stride) : size_(size), stride_(stride) {}
  std::int64_t operator()(std::int64_t position) const {
    const std::int64_t line = position / size_[4];
    return line / size_[3] * stride_[2] + line % size_[3] * stride_[3] + position % size_[4] * stride_[4];
  }

 private:
  Array5 size_;
  Array5 stride_;
};

/// Calls body(places of the planes of `tensor`).
template <class Tensor, class Body>
void with_places(const Tensor& tensor, const Body& body) {
  if (EvenPlaces::fits(tensor.size, tensor.stride)) return body(EvenPlaces(tensor.size, tensor.stride));
  body(AnyPlaces(tensor.size, tensor.stride));
}

/// Planes whose rows follow each other at one distance, as planes of one row.
template <class Tensor>
Tensor with_long_rows(Tensor tensor) {
  const Array5 stride = tensor.stride;
  tensor.stride[4] = EvenPlaces(tensor.size, stride)(1);
  tensor.size[4] *= tensor.size[2] * tensor.size[3];
  tensor.size[2] = tensor.size[3] = 1;
  return tensor;
}

/// Calls body(a, b), both with long rows where both can have them, for two tensors that are walked together
/// along rows.
template <class A, class B, class Body>
auto with_longest_rows(bool along_rows, const A& a, const B& b, const Body& body) {
  if (along_rows && EvenPlaces::fits(a.size, a.stride) && EvenPlaces::fits(b.size, b.stride)) {
    return body(with_long_rows(a), with_long_rows(b));
  }
  return body(a, b);
}

/// How x and its indices are walked: in runs, which are the channels of a pixel or a piece of a row. A group
/// holds the planes that a run crosses: all of an image, or one.
struct Runs {
  Array5 size;  // of x
  bool over_channels;

  std::int64_t groups() const { return over_channels ? 1 : size[1]; }
  std::int64_t channels() const { return over_channels ? size[1] : 1; }
  std::int64_t longest() const { return over_channels ? size[1] : std::min(kPiece, size[4]); }
  std::int64_t length(const Cursor& at) const {
    return over_channels ? size[1] : std::min(kPiece, size[4] - at[4] * kPiece);
  }
  /// Where a run of one piece of a row begins in its plane.
  std::int64_t position(const Cursor& at) const {
    return (at[2] * size[3] + at[3]) * size[4] + at[4] * kPiece;
  }
  /// Runs of one group.
  Cursor::Index counts() const {
    return {1, 1, size[2], size[3], over_channels ? size[4] : ceil_divide(size[4], kPiece)};
  }

  template <class T, class Tensor>
  T* first_of(const Tensor& tensor, std::int64_t n, std::int64_t c, const Cursor& at) const {
    return row_of<T>(tensor, n, c, at[2], at[3]) + at[4] * (over_channels ? 1 : kPiece) * tensor.stride[4];
  }
  template <class Tensor>
  std::int64_t step_of(const Tensor& tensor) const {
    return tensor.stride[over_channels ? 1 : 4];
  }

 private:
  static constexpr std::int64_t kPiece = 1024;
};

/// Zeros positions of the planes of one group, from the first one on, as they are asked for.
template <class T, class Places>
class PositionZeroer {
 public:
  PositionZeroer(const Tensor5& y, const Places& places, T* plane, std::int64_t channels, const Range& part)
      : places_(places),
        plane_(plane),
        channels_(channels),
        channel_step_(y.stride[1]),
        block_(std::max<std::int64_t>(1, kBlockBytes / (static_cast<std::int64_t>(sizeof(T)) * channels))),
        dense_(Places::kEven && places(1) == channels && (channels == 1 || channel_step_ == 1)),
        at_(part.begin),
        end_(part.end) {}

  /// Zeros up to `position`, which lies in the part, and some more. Returns where the zeros end.
  std::int64_t advance(std::int64_t position) { return zero_to(std::max(position + 1, at_ + block_)); }
  void finish() { zero_to(end_); }

 private:
  static constexpr std::int64_t kBlockBytes = 2048;

  std::int64_t zero_to(std::int64_t wanted) {
    const std::int64_t end = std::min(wanted, end_);
    if (dense_) {
      ask_ahead(plane_ + at_ * channels_, (end - at_) * channels_);
      std::fill(plane_ + at_ * channels_, plane_ + end * channels_, T{0});
    } else {
      for (std::int64_t i = at_; i < end; ++i) fill_row(plane_ + places_(i), channel_step_, channels_, T{0});
    }
    at_ = end;
    return end;
  }

  const Places& places_;
  T* plane_;
  std::int64_t channels_;
  std::int64_t channel_step_;
  std::int64_t block_;
  bool dense_;
  std::int64_t at_;
  std::int64_t end_;
};

/// What the runs of one part of y share.
struct Steps {
  std::int64_t index;
  std::int64_t from;
  std::int64_t plane;  // from one plane of the group to the next
};

/// Positions of a part that hold zeros already, relative to its begin.
struct Part {
  Range range;
  std::uint64_t zeroed = 0;

  std::uint64_t relative(std::int64_t position) const {
    return static_cast<std::uint64_t>(position) - static_cast<std::uint64_t>(range.begin);
  }
};

/// What becomes of an element at its place. An index of -1 is legal where that is the least: it names no
/// place.
struct CopyElements {
  static constexpr std::int64_t kLeast = 0;
  template <class T>
  static HWY_INLINE void write(T& place, T element) {
    place = element;
  }
};
struct AddElements {
  static constexpr std::int64_t kLeast = -1;
  template <class T>
  static HWY_INLINE void write(T& place, T element) {
    place += element;
  }
};

/// Writes one run. Returns whether an index lay outside of the part. One comparison per element says that the
/// whole 64-bit index lies in the part, and that its place holds zeros.
template <class How, bool kUnit, class T, class Places>
bool ScatterRun(std::int64_t count, const std::int64_t* indices, const T* from, const Steps& steps, T* plane,
                const Places& places, PositionZeroer<T, Places>& zeroer, Part& part) {
  const std::int64_t index_step = kUnit ? 1 : steps.index;
  const std::int64_t from_step = kUnit ? 1 : steps.from;
  const std::uint64_t size = part.relative(part.range.end);
  std::uint64_t zeroed = part.zeroed;
  bool outside = false;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t index = indices[i * index_step];
    const std::uint64_t relative = part.relative(index);
    if (relative >= zeroed) {
      if (relative >= size) {
        outside |= index != How::kLeast;  // 0 lies in the plane
        continue;
      }
      zeroed = part.relative(zeroer.advance(index));
    }
    How::write(plane[places(index) + i * steps.plane], from[i * from_step]);
  }
  part.zeroed = zeroed;
  return outside;
}

/// Smallest and largest index of some runs.
struct Bounds {
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  std::int64_t most = std::numeric_limits<std::int64_t>::min();

  bool meets(const Range& range) const { return least < range.end && most >= range.begin; }
  template <bool kUnit>
  void widen(const std::int64_t* indices, std::int64_t step, std::int64_t count) {
    std::int64_t low = least;
    std::int64_t high = most;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t index = indices[kUnit ? i : i * step];
      low = std::min(low, index);
      high = std::max(high, index);
    }
    least = low;
    most = high;
  }
};

/// Part `at` of 0 .. total - 1 cut into `parts`. Whole planes may be so small that a division counts.
inline Range part_of(std::int64_t total, std::int64_t at, std::int64_t parts) {
  if (parts == 1) return {0, total};
  return {total * at / parts, total * (at + 1) / parts};
}

/// The runs of one group, cut into chunks, measured where planes of y are cut into parts.
class Chunks {
 public:
  Chunks(const ConstTensor5& indices, const Runs& runs, std::int64_t parts)
      : counts_(runs.counts()),
        start_(counts_, 0),
        total_(Cursor::total(counts_)),
        count_(parts == 1 ? 1 : std::min(16 * parts, total_)) {
    if (parts == 1) return;
    const Cursor::Index units{1, 1, runs.size[0], runs.groups(), count_};
    bounds_.resize(static_cast<std::size_t>(Cursor::total(units)));
    const std::int64_t bytes = total_ / count_ * runs.longest() * std::int64_t{sizeof(std::int64_t)};
    parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
      Cursor at(units, begin);
      for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
        bounds_[static_cast<std::size_t>(unit)] = measure(indices, runs, at[2], at[3], at[4]);
      }
    });
  }

  std::int64_t count() const { return count_; }
  Range runs_of(std::int64_t chunk) const { return part_of(total_, chunk, count_); }
  Cursor first_of(std::int64_t chunk) const {
    return chunk == 0 ? start_ : Cursor(counts_, runs_of(chunk).begin);
  }
  /// What is not measured may hold anything.
  bool meets(std::int64_t group, std::int64_t chunk, const Range& range) const {
    return bounds_.empty() || bounds_[static_cast<std::size_t>(group * count_ + chunk)].meets(range);
  }
  bool any_outside(std::int64_t least, std::int64_t positions) const {
    return std::any_of(bounds_.begin(), bounds_.end(), [&](const Bounds& bounds) {
      return bounds.least < least || bounds.most >= positions;
    });
  }

 private:
  Bounds measure(const ConstTensor5& indices, const Runs& runs, std::int64_t n, std::int64_t group,
                 std::int64_t chunk) const {
    const Range range = runs_of(chunk);
    Bounds bounds;
    const std::int64_t step = runs.step_of(indices);
    Cursor at = first_of(chunk);
    for (std::int64_t run = range.begin; run < range.end; ++run, at.next()) {
      const auto* const first = runs.first_of<const std::int64_t>(indices, n, group, at);
      if (step == 1) {
        bounds.widen<true>(first, step, runs.length(at));
      } else {
        bounds.widen<false>(first, step, runs.length(at));
      }
    }
    return bounds;
  }

  Cursor::Index counts_;
  Cursor start_;
  std::int64_t total_;
  std::int64_t count_;
  std::vector<Bounds> bounds_;
};

/// How many parts to cut planes into, so that there is work for all threads even if the planes are few. A
/// chunk of the source is read for each part that its indices meet; those of a pooling meet one or two.
inline std::int64_t parts_of(const Tensor5& y, const Runs& runs, std::size_t element_bytes) {
  constexpr std::int64_t kLeastBytes = 64 << 10;
  const std::int64_t groups = std::max<std::int64_t>(y.size[0] * runs.groups(), 1);
  const std::int64_t bytes =
      positions_of(y.size) * runs.channels() * static_cast<std::int64_t>(element_bytes);
  return std::max<std::int64_t>(
      1, std::min(ceil_divide(std::int64_t{2} * num_threads(), groups), bytes / kLeastBytes));
}

/// The first index, row-major, that is not in least .. positions - 1. Only after one was met.
inline std::optional<std::int64_t> find_outside(const ConstTensor5& indices, std::int64_t least,
                                                std::int64_t positions) {
  const Cursor::Index& size = indices.size;
  Cursor at(size, 0);
  for (std::int64_t left = Cursor::total(size); left > 0; --left, at.next()) {
    const std::int64_t index =
        row_of<const std::int64_t>(indices, at[0], at[1], at[2], at[3])[at[4] * indices.stride[4]];
    if (index < least || index >= positions) return index;
  }
  return std::nullopt;
}

/// Fills one part of the planes of one group. Returns whether an index lay outside of it.
template <class How, class T, class Places>
bool ScatterPart(const Tensor5& y, const ConstTensor5& x, const ConstTensor5& indices, const Runs& runs,
                 const Chunks& chunks, const Places& places, std::int64_t n, std::int64_t group,
                 const Range& range) {
  T* const plane = plane_of<T>(y, n, group);
  const Steps steps{runs.step_of(indices), runs.step_of(x), runs.over_channels ? y.stride[1] : 0};
  const bool unit = steps.index == 1 && steps.from == 1;
  PositionZeroer<T, Places> zeroer(y, places, plane, runs.channels(), range);
  Part part{range};
  bool outside = false;
  for (std::int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
    if (!chunks.meets(n * runs.groups() + group, chunk, range)) continue;
    const Range of_chunk = chunks.runs_of(chunk);
    Cursor at = chunks.first_of(chunk);
    for (std::int64_t run = of_chunk.begin; run < of_chunk.end; ++run, at.next()) {
      const auto* const first = runs.first_of<const std::int64_t>(indices, n, group, at);
      const T* const from = runs.first_of<const T>(x, n, group, at);
      const std::int64_t length = runs.length(at);
      outside |= unit ? ScatterRun<How, true>(length, first, from, steps, plane, places, zeroer, part)
                      : ScatterRun<How, false>(length, first, from, steps, plane, places, zeroer, part);
    }
  }
  zeroer.finish();
  return outside;
}

template <class How, class T>
std::optional<std::int64_t> ScatterAll(const Tensor5& y, const ConstTensor5& x, const ConstTensor5& indices,
                                       bool over_channels) {
  const Runs runs{x.size, over_channels};
  const std::int64_t positions = positions_of(y.size);
  const std::int64_t parts = parts_of(y, runs, sizeof(T));
  const Chunks chunks(indices, runs, parts);
  if (chunks.any_outside(How::kLeast, positions)) return find_outside(indices, How::kLeast, positions);
  std::atomic<bool> outside{false};
  with_places(y, [&](const auto& places) HWY_ATTR {
    const Cursor::Index units{1, 1, y.size[0], runs.groups(), parts};
    const auto bytes = static_cast<std::int64_t>(sizeof(T)) * positions * runs.channels() / parts;
    const bool past = !over_channels && parts == 1 && scatters_past_caches(y, bytes, x, indices);
    parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
      OutputLines lines;
      Cursor at(units, begin);
      for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
        const Range range = part_of(positions, at[4], parts);
        const Tensor5 to = past ? near_plane<T>(y, at[2], at[3], bytes, lines) : y;
        if (ScatterPart<How, T>(to, x, indices, runs, chunks, places, at[2], at[3], range))
          outside.store(true);
        if (past) lines.done(bytes);
      }
    });
  });
  // Of several parts all indices are known to be good: one outside of a part lies in another.
  return parts == 1 && outside.load() ? find_outside(indices, How::kLeast, positions) : std::nullopt;
}

/// y of zeros, and the elements of x written where `indices` say. Returns an illegal index, if there is one.
template <class How, class T>
std::optional<std::int64_t> ScatterByIndex(const Tensor5& y, const ConstTensor5& x,
                                           const ConstTensor5& indices) {
  const bool over_channels = channels_last(y, x);
  return with_longest_rows(!over_channels, x, indices,
                           [&](const ConstTensor5& from, const ConstTensor5& record) {
                             return ScatterAll<How, T>(y, from, record, over_channels);
                           });
}

/// Max backward.
template <class T>
std::optional<std::int64_t> scatter_indices(const Tensor5& grad_x, const ConstTensor5& grad_y,
                                            const ConstTensor5& indices) {
  return ScatterByIndex<AddElements, T>(grad_x, grad_y, indices);
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
