// Window pooling backward over dense planes as blocks of pixels: each pixel of grad_x adds up what it gets
// from the outputs that read it.
#if defined(CENOTE_CPU_BLOCK_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_BLOCK_BACKWARD_INL_H_
#undef CENOTE_CPU_BLOCK_BACKWARD_INL_H_
#else
#define CENOTE_CPU_BLOCK_BACKWARD_INL_H_
#endif

#include <cstdint>
#include <vector>

#include "cpu/block_forward-inl.h"
#include "cpu/pixel_groups-inl.h"
#include "cpu/planar_backward-inl.h"
#include "cpu/tap_gather-inl.h"
#include "cpu/unit_stride_backward-inl.h"
#include "cpu/window_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// A row of outputs as pixels, and the number of the first tap through which they read a row of grad_x.
template <class T>
struct TapRow {
  const LaneOf<T>* grads;
  const hwy::MakeSigned<LaneOf<T>>* taps;
  std::int64_t first_tap;
};

/// Rows of grad_x pixels from the rows of gradients and taps that read them. Windows of kTaps columns.
template <int kStride, int kTaps, class Lane>
class PixelGatherer {
 public:
  using D = WideTag<Lane>;
  using Key = hwy::MakeSigned<Lane>;
  static constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<Lane>);

  explicit PixelGatherer(const Axis& w) : columns_(w) {}

  void operator()(const TapRow<Lane>* rows, std::size_t count, Lane* to) const {
    columns_.for_each_other([&](std::int64_t column, std::span<const Reader> readers)
                                HWY_ATTR { gather_one(rows, count, readers, to + column * kLanes); });
    with_few_rows(count, [&]<std::size_t kRows>() HWY_ATTR { gather_groups<kRows>(rows, count, to); });
  }

 private:
  static HWY_INLINE VecOf<D> hit(const TapRow<Lane>& row, std::int64_t output,
                                 VecOf<hn::RebindToSigned<D>> number) {
    const D d;
    const hn::RebindToSigned<D> di;
    const auto same = hn::Eq(hn::Load(di, row.taps + output * kLanes), number);
    return hn::IfThenElseZero(hn::RebindMask(d, same), hn::Load(d, row.grads + output * kLanes));
  }
  HWY_INLINE void gather_one(const TapRow<Lane>* rows, std::size_t count, std::span<const Reader> readers,
                             Lane* pixel) const {
    const D d;
    const hn::RebindToSigned<D> di;
    auto sum = hn::Zero(d);
    for (const TapRow<Lane>* row = rows; row != rows + count; ++row) {
      for (const Reader& reader : readers)
        sum = hn::Add(sum,
                      hit(*row, reader.output, hn::Set(di, static_cast<Key>(row->first_tap + reader.tap))));
    }
    hn::Store(sum, d, pixel);
  }
  template <std::size_t kRows>
  HWY_INLINE void gather_groups(const TapRow<Lane>* rows, std::size_t count, Lane* to) const {
    const D d;
    const hn::RebindToSigned<D> di;
    TapRow<Lane> few[kRows + 1];
    std::copy_n(rows, kRows, few);
    const TapRow<Lane>* const row = kRows > 0 ? few : rows;
    const Range groups = columns_.groups();
    Lane* pixel = to + columns_.columns().begin * kLanes;
    for (std::int64_t m = groups.begin; m < groups.end; ++m, pixel += kStride * kLanes) {
      for (int phase = 0; phase < kStride; ++phase) {
        auto sum = hn::Zero(d);
        for (std::size_t r = 0; r < (kRows > 0 ? kRows : count); ++r) {
          for (int before = (kTaps - 1 - phase) / kStride; before >= 0;
               --before) {  // in the order of the outputs
            const auto number = hn::Set(di, static_cast<Key>(row[r].first_tap + phase + before * kStride));
            sum = hn::Add(sum, hit(row[r], m - before, number));
          }
        }
        hn::Store(sum, d, pixel + phase * kLanes);
      }
    }
  }

  ColumnGroups columns_;
};

template <int kStride, int kTaps, class T>
void MaxBackwardOfBlocks(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes) {
  using Lane = LaneOf<T>;
  using Key = hwy::MakeSigned<Lane>;
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  struct State {
    Scratch<Key> taps;
    std::vector<TapRow<Lane>> rows;
  };
  const LineReads reads = LineReads::of_readers(axes);
  const PixelGatherer<kStride, kTaps, Lane> gather(axes[2]);
  const Planes<const T> from(grad_y);
  const Planes<const std::uint8_t> from_taps(taps);
  const auto load_taps = [](auto tag, const std::uint8_t* at, std::size_t part) CENOTE_VECTOR_LAMBDA {
    return part == 0 ? PromoteTaps(tag, at) : PromoteFirstTaps<T>(tag, at, part);
  };
  const auto as_is = [](std::int64_t, auto v) CENOTE_VECTOR_LAMBDA { return v; };
  ForEachBlock<T, State>(
      reads, grad_y, grad_x,
      [&](State& state, const Block& block, const Block& next, Lane* in, Lane* out) HWY_ATTR {
        const WideTag<T> d;
        const hn::RebindToSigned<decltype(d)> di;
        Key* const in_taps = resize_for_pixels(state.taps, block.from.end - block.from.begin, from.columns());
        PixelsFromPlanes(d, from.run(block, block.from, next, next.from), in, LoadElements(), as_is);
        PixelsFromPlanes(di, from_taps.run(block, block.from, next, next.from), in_taps, load_taps, as_is);
        const BlockPixels<const Lane> grads{in, block.from.begin, from.columns()};
        const BlockPixels<const Key> numbers{in_taps, block.from.begin, from.columns()};
        for (std::int64_t line = block.to.begin; line < block.to.end; ++line, out += axes[2].in() * kLanes) {
          state.rows.clear();
          for (const LineReads::Line& row : reads[line]) {
            state.rows.push_back(
                {grads.line(row.number), numbers.line(row.number), row.tap * axes[2].kernel()});
          }
          gather(state.rows.data(), state.rows.size(), out);
        }
      });
}

/// Whether MaxBackwardOfBlocks serves these windows; taps are u8. EPYC, two threads, against row after row,
/// 3x3 stride 2: AVX-512, where those compare bytes, [256, 256, 13, 13] f32 3.3 and 1.8 ms, [96, 256, 20,
/// 20] 1.9 and 1.7 ms, [96, 480, 28, 28] 5.5 and 6.4 ms, [96, 192, 71, 71] 12.6 and 15.3 ms; 2x2 stride 2 of
/// [96, 256, 56, 56] 8.7 and 12.0 ms, stride 1 of [96, 256, 14, 14] 1.3 and 1.6 ms. Where those widen taps
/// (as AVX-512 did), [96, 192, 71, 71] 26.2 and 21.1 ms, [32, 64, 112, 112] 5.0 and 5.3 ms; 2x2 stride 2 of
/// the latter 4.7 and 6.1 ms.
template <class T>
bool gathers_blocks(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                    const Axes& axes) {
  const Axis& w = axes[2];
  const bool three = w.kernel() == 3 && w.stride() == 2;
  const bool few_taps = w.kernel() == 2 && w.stride() == 1;
  const std::int64_t most_columns =
      kMasksAreBits ? (sizeof(T) == 8 || few_taps ? 12 : 22) : (three && sizeof(LaneOf<T>) == 4 ? 96 : 40);
  return slides_along_blocks(w) && w.in() <= most_columns && dense_elements(taps) &&
         fills_blocks<T>(grad_y, grad_x, axes);
}

template <class T>
void MaxBackwardOfBlocks(const Tensor5& grad_x, const ConstTensor5& grad_y, const ConstTensor5& taps,
                         const Axes& axes) {
  if (axes[2].stride() == 1) {
    if (axes[2].kernel() == 2) return MaxBackwardOfBlocks<1, 2, T>(grad_x, grad_y, taps, axes);
    return MaxBackwardOfBlocks<1, 3, T>(grad_x, grad_y, taps, axes);
  }
  if (axes[2].kernel() == 2) return MaxBackwardOfBlocks<2, 2, T>(grad_x, grad_y, taps, axes);
  MaxBackwardOfBlocks<2, 3, T>(grad_x, grad_y, taps, axes);
}

/// The columns of a row of grad_x add up those of the quotients that read them.
template <class Lane>
void AddReaders(const Lane* quotients, const Axis& w, Lane* to) {
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<Lane>);
  const WideTag<Lane> d;
  for (std::int64_t column = 0; column < w.in(); ++column) {
    auto sum = hn::Zero(d);
    for (const Reader* reader = w.readers_begin(column); reader != w.readers_end(column); ++reader)
      sum = hn::Add(sum, hn::Load(d, quotients + reader->output * kLanes));
    hn::Store(sum, d, to + column * kLanes);
  }
}

/// The rows of quotients that read a row of grad_x are added up, and then along the row.
template <class Lane>
HWY_NOINLINE void GatherQuotients(const BlockPixels<const Lane>& in, const LineReads& reads,
                                  const Range& lines, const Axis& w, Lane* sums, Lane* out) {
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<Lane>);
  const WideTag<Lane> d;
  for (std::int64_t line = lines.begin; line < lines.end; ++line, out += w.in() * kLanes) {
    const auto rows = reads[line];
    if (rows.size() == 1) {
      AddReaders(in.line(rows[0].number), w, out);
      continue;
    }
    for (std::int64_t at = 0; at < w.out() * kLanes; at += kLanes) {
      auto sum = hn::Zero(d);
      for (const LineReads::Line& row : rows) sum = hn::Add(sum, hn::Load(d, in.line(row.number) + at));
      hn::Store(sum, d, sums + at);
    }
    AddReaders(static_cast<const Lane*>(sums), w, out);
  }
}

/// Whether AvgBackwardOfBlocks serves these windows. EPYC (AVX-512), two threads, against the loops along
/// rows: 3x3 stride 1 of [96, 192, 35, 35] f32 10.2 and 5.4 ms, [32, 64, 112, 112] 8.7 and 8.1 ms; 3x3 stride
/// 2 of the latter 6.1 and 3.9 ms, 2x2 stride 2 2.6 and 4.0 ms.
template <class T>
bool adds_blocks(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes) {
  const std::int64_t most_of_windows = stores_past_caches(grad_x, grad_y) ? 128 : 64;
  const std::int64_t most_columns = disjoint(axes) ? 40 : readers_are_windows(axes) ? most_of_windows : 512;
  return axes[2].in() <= most_columns && fits_row_buffer(axes) && fills_blocks<T>(grad_y, grad_x, axes);
}

template <class T, class Divisors>
void AvgBackwardOfBlocks(const Tensor5& grad_x, const ConstTensor5& grad_y, const Axes& axes,
                         const Divisors& divisors) {
  using Lane = LaneOf<T>;
  constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<T>);
  const LineReads reads = LineReads::of_readers(axes);
  const Planes<const T> from(grad_y);
  std::vector<Lane> inverses = divisors_of_plane<T>(axes, divisors);
  for (Lane& value : inverses) value = 1 / value;
  inverses.resize(inverses.size() + static_cast<std::size_t>(kLanes));  // of lanes beyond a short block
  Axis w = axes[2];
  w.tabulate_readers(0, w.in());
  // Of stride 1, the readers are windows over the outputs.
  const bool slides = w.stride() == 1 && w.dilation() == 1 && (w.kernel() == 2 || w.kernel() == 3);
  const Axis readers = Axis::window({w.kernel(), 1, w.kernel() - 1 - w.padding(), 0, 1}, w.out(), w.in());
  ForEachBlock<T, Scratch<Lane>>(
      reads, grad_y, grad_x,
      [&](Scratch<Lane>& memory, const Block& block, const Block& next, Lane* in, Lane* out) HWY_ATTR {
        const WideTag<T> d;
        const Lane* const factors = inverses.data() + block.from.begin * from.columns();
        const auto divide = [&](std::int64_t position, auto v)
                                CENOTE_VECTOR_LAMBDA { return hn::Mul(v, hn::Set(d, factors[position])); };
        PixelsFromPlanes(d, from.run(block, block.from, next, next.from), in, LoadElements(), divide);
        const BlockPixels<const Lane> quotients{in, block.from.begin, from.columns()};
        if (slides) {
          PoolBlock<SumReduction>(quotients, reads, block.to, readers, memory, out,
                                  [](std::int64_t, auto v) CENOTE_VECTOR_LAMBDA { return v; });
        } else {
          Lane* const sums = resize_for_pixels(memory, 1, from.columns());
          GatherQuotients(quotients, reads, block.to, w, sums, out);
        }
      });
}

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
