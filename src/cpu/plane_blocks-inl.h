// Dense planes as blocks: as many planes as a vector has lanes, transposed on the way in, so that each
// position is one vector whatever the length of the rows, and transposed back on the way out. What is done
// between, in the nearest caches, needs neither masks nor shuffles.
#if defined(CENOTE_CPU_PLANE_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PLANE_BLOCKS_INL_H_
#undef CENOTE_CPU_PLANE_BLOCKS_INL_H_
#else
#define CENOTE_CPU_PLANE_BLOCKS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "core/parallel.h"
#include "cpu/dense-inl.h"
#include "cpu/past_caches-inl.h"
#include "cpu/rows-inl.h"
#include "cpu/scratch.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// A square: as many vectors as each has lanes.
template <class D>
HWY_INLINE void Transpose(D d, VecOf<D>* v) {
#if HWY_TARGET != HWY_SCALAR
  using Lane = hn::TFromD<D>;
  constexpr std::size_t kLanes = hn::MaxLanes(D());
  constexpr std::size_t kStep = 16 / sizeof(Lane);  // lanes of a block of 16 bytes
  // Inside of the blocks of each kStep vectors.
  for (std::size_t i = 0; i < kLanes; i += kStep) {
    const auto low = hn::InterleaveLower(d, v[i], v[i + 1]);
    const auto high = hn::InterleaveUpper(d, v[i], v[i + 1]);
    if constexpr (kStep == 2) {
      v[i] = low;
      v[i + 1] = high;
    } else {
      static_assert(kStep == 4);
      const hn::Repartition<std::uint64_t, D> pairs;
      const auto of_pairs = [&](auto x) CENOTE_VECTOR_LAMBDA { return hn::BitCast(pairs, x); };
      const auto next_low = of_pairs(hn::InterleaveLower(d, v[i + 2], v[i + 3]));
      const auto next_high = of_pairs(hn::InterleaveUpper(d, v[i + 2], v[i + 3]));
      v[i] = hn::BitCast(d, hn::InterleaveLower(pairs, of_pairs(low), next_low));
      v[i + 1] = hn::BitCast(d, hn::InterleaveUpper(pairs, of_pairs(low), next_low));
      v[i + 2] = hn::BitCast(d, hn::InterleaveLower(pairs, of_pairs(high), next_high));
      v[i + 3] = hn::BitCast(d, hn::InterleaveUpper(pairs, of_pairs(high), next_high));
    }
  }
  // Then the blocks.
  constexpr std::size_t kBlocks = kLanes / kStep;
  static_assert(kBlocks == 1 || kBlocks == 2 || kBlocks == 4);
  for (std::size_t i = 0; i < kStep; ++i) {
    if constexpr (kBlocks == 2) {
      const auto low = hn::ConcatLowerLower(d, v[i + kStep], v[i]);
      v[i + kStep] = hn::ConcatUpperUpper(d, v[i + kStep], v[i]);
      v[i] = low;
    } else if constexpr (kBlocks == 4) {
      const auto even_low = hn::ConcatLowerLower(d, v[i + 2 * kStep], v[i]);
      const auto even_high = hn::ConcatUpperUpper(d, v[i + 2 * kStep], v[i]);
      const auto odd_low = hn::ConcatLowerLower(d, v[i + 3 * kStep], v[i + kStep]);
      const auto odd_high = hn::ConcatUpperUpper(d, v[i + 3 * kStep], v[i + kStep]);
      v[i] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(odd_low), even_low);
      v[i + kStep] = hn::OddEvenBlocks(odd_low, hn::SwapAdjacentBlocks(even_low));
      v[i + 2 * kStep] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(odd_high), even_high);
      v[i + 3 * kStep] = hn::OddEvenBlocks(odd_high, hn::SwapAdjacentBlocks(even_high));
    }
  }
#else
  (void)d;
  (void)v;
#endif
}

/// Neighbours of some planes in memory: `positions` from `data` on, and of the planes after it, `step` apart.
/// Those that are worked on next lie `ahead` elements further on.
template <class T>
struct PlaneRun {
  T* data;
  std::int64_t step;
  std::int64_t planes;
  std::int64_t positions;
  std::int64_t ahead;
};

/// As pixels, of a vector each: to[position * lanes + plane]. load(d, address, part) loads a vector, or its
/// first `part` lanes; change(position, vector) is what becomes of a pixel. Lanes without a plane are the
/// last one again. False where the elements have a NaN, or perhaps.
template <class D, class T, class Load, class Change>
HWY_INLINE bool PixelsFromPlanes(D d, const PlaneRun<const T>& from, hn::TFromD<D>* to, const Load& load,
                                 const Change& change) {
  constexpr std::size_t kLanes = hn::MaxLanes(D());
  constexpr auto kStep = static_cast<std::int64_t>(kLanes);
  const T* plane[kLanes];
  for (std::int64_t i = 0; i < kStep; ++i) plane[i] = from.data + std::min(i, from.planes - 1) * from.step;
  const auto part = static_cast<std::size_t>(from.positions < kStep ? from.positions : 0);
  VecOf<D> seen[2] = {hn::Zero(d), hn::Zero(d)};  // sums of all elements
  for (std::int64_t next = 0; next < from.positions; next += kStep) {
    // The last ones overlap those before.
    const std::int64_t at = std::max<std::int64_t>(std::min(next, from.positions - kStep), 0);
    VecOf<D> v[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) {
      v[i] = load(d, plane[i] + at, part);
      if constexpr (std::is_floating_point_v<hn::TFromD<D>>) seen[i % 2] = hn::Add(seen[i % 2], v[i]);
      if (sizeof(T) > 1 || i % 4 == 0) prefetch_for_read(plane[i] + at + from.ahead);
    }
    Transpose(d, v);
    hn::TFromD<D>* pixel = to + at * kStep;
    for (std::size_t i = 0; i < kLanes; ++i, pixel += kLanes)
      hn::Store(change(at + static_cast<std::int64_t>(i), v[i]), d, pixel);
  }
  if constexpr (std::is_floating_point_v<hn::TFromD<D>>)
    return hn::AllFalse(d, hn::IsNaN(hn::Add(seen[0], seen[1])));
  return true;
}

/// The way back. store(vector, address, part) stores a vector, or its first `part` lanes.
template <class D, class T, class Store>
HWY_NOINLINE void PlanesFromPixels(D d, const hn::TFromD<D>* from, const PlaneRun<T>& to,
                                   const Store& store) {
  constexpr std::size_t kLanes = hn::MaxLanes(D());
  constexpr auto kStep = static_cast<std::int64_t>(kLanes);
  for (std::int64_t next = 0; next < to.positions; next += kStep) {
    const std::int64_t at = std::max<std::int64_t>(std::min(next, to.positions - kStep), 0);
    VecOf<D> v[kLanes];
    const hn::TFromD<D>* pixel = from + at * kStep;
    for (std::size_t i = 0; i < kLanes; ++i, pixel += kLanes) v[i] = hn::Load(d, pixel);
    Transpose(d, v);
    T* plane = to.data + at;
    if (to.planes >= kStep && to.positions >= kStep) {
      for (std::size_t i = 0; i < kLanes; ++i, plane += to.step) {
        store(v[i], plane, std::size_t{0});
        if (to.ahead != 0) prefetch_for_write(plane + to.ahead);
      }
      continue;
    }
    const auto part = static_cast<std::size_t>(std::min(to.positions, kStep));
    for (std::size_t i = 0; i < std::min(kLanes, static_cast<std::size_t>(to.planes)); ++i, plane += to.step)
      store(v[i], plane, part);
  }
}

/// The lines of one plane that each line of another one is made from, in the order of its additions.
class LineReads {
 public:
  struct Line {
    std::int64_t number;
    std::int64_t tap;  // d * kernel_h + h
  };

  /// Those that windows read.
  static LineReads of_windows(const Axes& axes) {
    LineReads reads;
    const auto of_axis = [](const Axis& axis) { return std::min(axis.kernel(), axis.in()); };
    const auto lines = static_cast<std::size_t>(axes[0].out() * axes[1].out());
    reads.begins_.reserve(lines + 1);
    reads.lines_.reserve(lines * static_cast<std::size_t>(of_axis(axes[0]) * of_axis(axes[1])));
    for (std::int64_t od = 0; od < axes[0].out(); ++od) {
      const Taps d = axes[0].taps(od);
      for (std::int64_t oh = 0; oh < axes[1].out(); ++oh, reads.end_line()) {
        const Taps h = axes[1].taps(oh);
        for (std::int64_t i = 0; i < d.count; ++i) {
          const std::int64_t slice = d.position + i * axes[0].dilation();
          for (std::int64_t j = 0; j < h.count; ++j) {
            reads.lines_.push_back({slice * axes[1].in() + h.position + j * axes[1].dilation(),
                                    (d.first + i) * axes[1].kernel() + h.first + j});
          }
        }
      }
    }
    return reads;
  }
  /// Those of outputs that read each line of inputs.
  static LineReads of_readers(const Axes& axes) {
    LineReads reads;
    ReaderRows readers;
    for (std::int64_t d = 0; d < axes[0].in(); ++d) {
      for (std::int64_t h = 0; h < axes[1].in(); ++h, reads.end_line()) {
        readers.collect(axes, d, h);
        for (std::int64_t i = 0; i < readers.count(); ++i)
          reads.lines_.push_back({readers[i].od * axes[1].out() + readers[i].oh, readers[i].tap});
      }
    }
    return reads;
  }

  std::int64_t count() const { return static_cast<std::int64_t>(begins_.size()) - 1; }
  std::span<const Line> operator[](std::int64_t line) const {
    const auto at = static_cast<std::size_t>(line);
    return {lines_.data() + begins_[at], lines_.data() + begins_[at + 1]};
  }
  /// From the first to the last line that some read.
  Range range(const Range& of) const {
    Range all;
    for (std::int64_t i = of.begin; i < of.end; ++i) {
      for (const Line& line : (*this)[i]) {
        if (all.end == 0) all.begin = line.number;
        all.begin = std::min(all.begin, line.number);
        all.end = std::max(all.end, line.number + 1);
      }
    }
    return all;
  }

 private:
  void end_line() { begins_.push_back(lines_.size()); }

  std::vector<Line> lines_;
  std::vector<std::size_t> begins_{0};
};

/// Lines `to` of some planes, which are made from lines `from` of as many others.
struct Block {
  std::int64_t plane = 0;  // the first one
  std::int64_t planes = 0;
  Range from;
  Range to;
};

/// The pixels of a block, from line `first` on.
template <class Lane>
struct BlockPixels {
  Lane* data;
  std::int64_t first;
  std::int64_t columns;

  Lane* line(std::int64_t number) const {
    return data + (number - first) * columns * static_cast<std::int64_t>(kMaxLanes<Lane>);
  }
};

/// All planes of a dense tensor.
template <class T>
class Planes {
 public:
  template <class Tensor>
  explicit Planes(const Tensor& tensor)
      : data_(static_cast<T*>(tensor.data)),
        lines_(tensor.size[2] * tensor.size[3]),
        columns_(tensor.size[4]) {}

  std::int64_t columns() const { return columns_; }
  std::int64_t positions() const { return lines_ * columns_; }
  /// Some lines of a block, before those of the next one.
  PlaneRun<T> run(const Block& block, const Range& lines, const Block& next, const Range& next_lines) const {
    const std::int64_t first = offset(block, lines);
    return {data_ + first, positions(), block.planes, (lines.end - lines.begin) * columns_,
            offset(next, next_lines) - first};
  }

 private:
  std::int64_t offset(const Block& block, const Range& lines) const {
    return block.plane * positions() + lines.begin * columns_;
  }

  T* data_;
  std::int64_t lines_;
  std::int64_t columns_;
};

/// Cuts planes into blocks: all lines of some planes, or a band of them where a block would be large.
class PlaneBlocks {
 public:
  static constexpr std::int64_t kBudget = 64 << 10;

  /// Of tensors `from` and `to`; a pixel has so many lanes of so many bytes.
  template <class From, class To>
  PlaneBlocks(const LineReads& reads, const From& from, const To& to, std::int64_t lanes, std::int64_t bytes)
      : planes_(to.size[0] * to.size[1]), lanes_(lanes) {
    // Bands are of whole slices, if there are several.
    const std::int64_t step = std::max(from.size[2], to.size[2]) > 1 ? to.size[3] : 1;
    const std::int64_t steps = reads.count() / step;
    const std::int64_t positions =
        from.size[2] * from.size[3] * from.size[4] + to.size[2] * to.size[3] * to.size[4];
    const std::int64_t bands = std::clamp<std::int64_t>(positions * lanes * bytes / kBudget, 1, steps);
    const std::int64_t per_band = ceil_divide(steps, bands) * step;
    grain_ = row_grain(positions * lanes * bytes / bands);
    for (std::int64_t line = 0; line < reads.count(); line += per_band) {
      const Range made{line, std::min(reads.count(), line + per_band)};
      const Range read = reads.range(made);
      bands_.push_back({0, 0, read, made});
      most_from_ = std::max(most_from_, read.end - read.begin);
      most_to_ = std::max(most_to_, made.end - made.begin);
    }
  }
  std::int64_t count() const {
    return ceil_divide(planes_, lanes_) * static_cast<std::int64_t>(bands_.size());
  }
  Block operator[](std::int64_t i) const {
    const auto bands = static_cast<std::int64_t>(bands_.size());
    Block block = bands_[static_cast<std::size_t>(i % bands)];
    block.plane = i / bands * lanes_;
    block.planes = std::min(lanes_, planes_ - block.plane);
    return block;
  }
  /// How many one thread should take at least.
  std::int64_t grain() const { return grain_; }
  /// The most lines that a block has.
  std::int64_t most_from() const { return most_from_; }
  std::int64_t most_to() const { return most_to_; }

 private:
  std::int64_t planes_;
  std::int64_t lanes_;
  std::int64_t grain_ = 1;
  std::int64_t most_from_ = 0;
  std::int64_t most_to_ = 0;
  std::vector<Block> bands_;
};

/// Loads for PixelsFromPlanes.
struct LoadElements {
  template <class D, class T>
  HWY_INLINE VecOf<D> operator()(D d, const T* from, std::size_t part) const {
    return LoadLanes<true>(d, from, 1, part);
  }
};

/// Stores for PlanesFromPixels.
template <class D>
struct StoreElements {
  template <class T>
  HWY_INLINE void operator()(VecOf<D> v, T* to, std::size_t part) const {
    part == 0 ? StoreVector(D(), v, to) : StorePart(D(), v, to, part);
  }
};

/// Memory for the pixels of `lines` lines.
template <class Lane>
Lane* resize_for_pixels(Scratch<Lane>& memory, std::int64_t lines, std::int64_t columns) {
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<Lane>);
  return memory.resize(static_cast<std::size_t>(std::max(lines * columns, kLanes) * kLanes));
}

/// Stores what blocks made to dense planes: at once, or by way of memory in the nearest caches, whose lines
/// are then stored past them. One per thread.
template <class T>
class PlaneStores {
 public:
  explicit PlaneStores(bool past) : past_(past) {}
  PlaneStores(const PlaneStores&) = delete;
  PlaneStores& operator=(const PlaneStores&) = delete;
  ~PlaneStores() {
    if (past_) hwy::FlushStream();
  }
  /// As PlanesFromPixels.
  template <class D, class Store>
  void store(D d, const hn::TFromD<D>* from, const PlaneRun<T>& to, const Store& store) {
    if (!past_) return PlanesFromPixels(d, from, to, store);
    const std::int64_t count = to.planes * to.positions;
    T* const near = memory_.resize(static_cast<std::size_t>(count) + kMaxLanes<std::uint8_t>);
    PlanesFromPixels(d, from, PlaneRun<T>{near, to.positions, to.planes, to.positions, 0}, store);
    if (to.step == to.positions) return CopyPastCaches(near, to.data, count);
    for (std::int64_t i = 0; i < to.planes; ++i)
      CopyPastCaches(near + i * to.positions, to.data + i * to.step, to.positions);
  }

 private:
  bool past_;
  Scratch<T> memory_;
};

/// Makes the planes of a tensor block by block from those of another one, or of several alike: work(state,
/// block, next, in, out) makes the pixels `out` of a block. There is memory `in` for the pixels of those that
/// it is made from, which it reads itself, and each thread has a State; `next` is the block after it.
template <class T, class State, class From, class To, class Work>
void ForEachBlock(const LineReads& reads, const From& from, const To& to, const Work& work) {
  using Lane = LaneOf<T>;
  const PlaneBlocks blocks(reads, from, to, static_cast<std::int64_t>(kMaxLanes<T>), sizeof(Lane));
  const Planes<T> made(to);
  const bool past = stores_past_caches(from, to);
  parallel_for(blocks.count(), blocks.grain(), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    State state;
    PlaneStores<T> stores(past);
    Scratch<Lane> memory_in;
    Scratch<Lane> memory_out;
    Lane* const in = resize_for_pixels(memory_in, blocks.most_from(), from.size[4]);
    Lane* const out = resize_for_pixels(memory_out, blocks.most_to(), to.size[4]);
    for (std::int64_t i = begin; i < end; ++i) {
      const Block block = blocks[i];
      const Block next = blocks[std::min(i + 1, blocks.count() - 1)];
      work(state, block, next, in, out);
      stores.store(WideTag<T>(), out, made.run(block, block.to, next, next.to), StoreElements<WideTag<T>>());
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
