// Positions in planes and in the whole tensor on the CPU. They are below 2^52 inside a plane, so that f64,
// whose division is a vector instruction, takes them apart.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/index_order.cc"
#include "cpu/highway_targets.h"
#include "hwy/foreach_target.h"
// Highway wants its own header after foreach_target.h, and ours after that.
#include <algorithm>
#include <atomic>

#include "backend.h"
#include "core/parallel.h"
#include "cpu/layout.h"
#include "cpu/scatter-inl.h"
#include "cpu/vector-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {
namespace {

using Integers = WideTag<std::int64_t>;
using Doubles = hn::RebindToFloat<Integers>;

/// Whole numbers from 0 to below 2^52 are the last bits of themselves and 2^52.
constexpr double kBase = 0x1p52;

HWY_INLINE VecOf<Doubles> ToDoubles(VecOf<Integers> v) {
  const Doubles d;
  const auto base = hn::Set(d, kBase);
  return hn::Sub(hn::BitCast(d, hn::Or(v, hn::BitCast(Integers(), base))), base);
}

HWY_INLINE VecOf<Integers> ToIntegers(VecOf<Doubles> v) {
  const Integers di;
  const auto base = hn::Set(Doubles(), kBase);
  return hn::Xor(hn::BitCast(di, hn::Add(v, base)), hn::BitCast(di, base));
}

/// A position of a plane with coordinates (slow, middle, fast) becomes that of (fast, middle, slow). Every
/// step is exact: quotients of whole numbers below 2^52 differ by more than their rounding from the next one.
class Transposer {
 public:
  Transposer(std::int64_t slow, std::int64_t middle, std::int64_t fast)
      : slow_(static_cast<double>(slow)),
        middle_(static_cast<double>(middle)),
        fast_(static_cast<double>(fast)) {}

  HWY_INLINE VecOf<Integers> operator()(VecOf<Integers> positions) const {
    const Doubles d;
    const auto position = ToDoubles(positions);
    const auto line = hn::Floor(hn::Div(position, hn::Set(d, fast_)));
    const auto fast = hn::Sub(position, hn::Mul(line, hn::Set(d, fast_)));
    const auto slow = hn::Floor(hn::Div(line, hn::Set(d, middle_)));
    const auto middle = hn::Sub(line, hn::Mul(slow, hn::Set(d, middle_)));
    const auto column = hn::Add(hn::Mul(fast, hn::Set(d, middle_)), middle);
    return ToIntegers(hn::Add(hn::Mul(column, hn::Set(d, slow_)), slow));
  }

 private:
  double slow_, middle_, fast_;
};

/// Indices of one plane, or of one position of planes that follow each other.
struct IndexRun {
  const std::int64_t* from;
  std::int64_t from_stride;
  std::int64_t* to;
  std::int64_t to_stride;
  std::int64_t count;
  std::int64_t begin;  // of the plane of the first, in the whole tensor
  std::int64_t step;   // to the plane of the next
};

/// Runs in parallel, along the axis whose elements are neighbours: work(run).
template <class Work>
void ForEachIndexRun(const Tensor5& to, const ConstTensor5& from, std::int64_t positions, const Work& work) {
  const auto& size = to.size;
  const bool across = channels_last(to, from);
  const bool dense = !across && dense_planes(to) && dense_planes(from);
  const std::int64_t count = across ? size[1] : dense ? size[2] * size[3] * size[4] : size[4];
  const Cursor::Index units{size[0], across ? 1 : size[1], dense ? 1 : size[2], dense ? 1 : size[3],
                            across ? size[4] : 1};
  const auto bytes = static_cast<std::int64_t>(sizeof(std::int64_t)) * count;
  parallel_for(Cursor::total(units), row_grain(bytes), [&](std::int64_t begin, std::int64_t end) {
    Cursor at(units, begin);
    for (std::int64_t unit = begin; unit < end; ++unit, at.next()) {
      IndexRun run{};
      run.from = row_of<const std::int64_t>(from, at[0], at[1], at[2], at[3]) + at[4] * from.stride[4];
      run.from_stride = dense ? 1 : from.stride[across ? 1 : 4];
      run.to = row_of<std::int64_t>(to, at[0], at[1], at[2], at[3]) + at[4] * to.stride[4];
      run.to_stride = dense ? 1 : to.stride[across ? 1 : 4];
      run.count = count;
      run.begin = (at[0] * size[1] + at[1]) * positions;
      run.step = across ? positions : 0;
      work(run);
    }
  });
}

/// convert(vector, begins of its planes, lanes in use)
template <class Convert>
HWY_INLINE void ConvertRun(const IndexRun& run, const Convert& convert) {
  const Integers d;
  const std::int64_t lanes = lanes_of<std::int64_t>();
  HWY_ALIGN std::int64_t steps[kMaxLanes<std::int64_t>];
  for (std::int64_t i = 0; i < lanes; ++i) steps[i] = run.begin + i * run.step;
  for (std::int64_t i = 0; i < run.count; i += lanes) {
    const auto used = static_cast<std::size_t>(std::min(lanes, run.count - i));
    const std::size_t part = used == hn::Lanes(d) ? 0 : used;
    const std::int64_t* const from = run.from + i * run.from_stride;
    std::int64_t* const to = run.to + i * run.to_stride;
    const auto indices = run.from_stride == 1 ? LoadLanes<true>(d, from, 1, part)
                                              : LoadLanes<false>(d, from, run.from_stride, part);
    const auto converted = convert(indices, hn::Add(hn::Load(d, steps), hn::Set(d, i * run.step)), used);
    if (run.to_stride == 1) {
      part == 0 ? hn::StoreU(converted, d, to) : StorePart(d, converted, to, part);
      continue;
    }
    HWY_ALIGN std::int64_t values[kMaxLanes<std::int64_t>];
    hn::Store(converted, d, values);
    for (std::size_t j = 0; j < used; ++j) to[static_cast<std::int64_t>(j) * run.to_stride] = values[j];
  }
}

void ToTensor(const Tensor5& to, const ConstTensor5& from, const TensorOrder& order) {
  const Transposer transpose(order.size[0], order.size[1], order.size[2]);
  ForEachIndexRun(to, from, order.positions(), [&](const IndexRun& run) HWY_ATTR {
    const Integers d;
    ConvertRun(run, [&](VecOf<Integers> v, VecOf<Integers> begins, std::size_t) CENOTE_VECTOR_LAMBDA {
      const auto none = hn::Lt(v, hn::Zero(d));
      const auto position = hn::IfThenZeroElse(none, v);
      return hn::IfThenElse(none, v, hn::Add(begins, order.column_major ? transpose(position) : position));
    });
  });
}

std::optional<std::int64_t> ToPlanes(const Tensor5& to, const ConstTensor5& from, const TensorOrder& order,
                                     NoElement no_element) {
  const Transposer transpose(order.size[2], order.size[1], order.size[0]);
  std::atomic<bool> met_bad_index{false};
  std::atomic<std::int64_t> bad_index{0};
  ForEachIndexRun(to, from, order.positions(), [&](const IndexRun& run) HWY_ATTR {
    const Integers d;
    const auto none = hn::Set(d, -1);
    ConvertRun(run, [&](VecOf<Integers> v, VecOf<Integers> begins, std::size_t used) CENOTE_VECTOR_LAMBDA {
      const auto ends = hn::Add(begins, hn::Set(d, order.positions()));
      const auto outside = hn::Or(hn::Lt(v, begins), hn::Not(hn::Lt(v, ends)));
      const auto refused = no_element == NoElement::kLegal ? hn::And(outside, hn::Ne(v, none)) : outside;
      const auto bad = hn::And(refused, hn::FirstN(d, used));
      if (HWY_UNLIKELY(!hn::AllFalse(d, bad))) {
        HWY_ALIGN std::int64_t indices[kMaxLanes<std::int64_t>];
        hn::Store(v, d, indices);
        bad_index.store(indices[hn::FindFirstTrue(d, bad)]);
        met_bad_index.store(true);
      }
      const auto position = hn::IfThenZeroElse(outside, hn::Sub(v, begins));
      return hn::IfThenElse(outside, none, order.column_major ? transpose(position) : position);
    });
  });
  return met_bad_index.load() ? std::optional(bad_index.load()) : std::nullopt;
}

constexpr IndexOrderBackend kTable{ToTensor, ToPlanes};

}  // namespace

const IndexOrderBackend* IndexOrderTable() { return &kTable; }

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cenote::cpu {

HWY_EXPORT(IndexOrderTable);

const IndexOrderBackend& index_order() { return *HWY_DYNAMIC_DISPATCH(IndexOrderTable)(); }

}  // namespace cenote::cpu
#endif
