// Windows of stride 1 along a row of neighbours, in registers: the row passes vector by vector, and each one
// is joined with itself some lanes before, whose first lanes come from the vector before. Runs double up to a
// vector's lanes, so that a short window costs a few steps; a long one is many vectors whose lanes are each
// reduced on their own, at the same few steps whatever its length.
#if defined(CENOTE_CPU_VECTOR_WINDOWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_VECTOR_WINDOWS_INL_H_
#undef CENOTE_CPU_VECTOR_WINDOWS_INL_H_
#else
#define CENOTE_CPU_VECTOR_WINDOWS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cpu/scratch.h"
#include "cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

/// Indices that move lanes: lane i of the result is lane i + by, of all lanes in a circle.
template <class D>
HWY_INLINE auto RotatingIndices(D d, std::int64_t by) {
  using Index = hwy::MakeSigned<hn::TFromD<D>>;
  const hn::Rebind<Index, D> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  return hn::IndicesFromVec(
      d, hn::And(hn::Iota(di, static_cast<Index>(lanes + by)), hn::Set(di, static_cast<Index>(lanes - 1))));
}

/// Moves the lanes of a row up, by at most a vector.
template <class Lane>
class LaneShift {
 public:
  using D = WideTag<Lane>;
  using V = VecOf<D>;

  void set(std::int64_t by) {
    from_ = RotatingIndices(D(), -by);
    head_ = hn::FirstN(D(), static_cast<std::size_t>(by));
  }
  /// Before the first vector of a row.
  void begin() { before_ = hn::Zero(D()); }
  /// Combines vectors of a row, one after the other, with others of it that are moved.
  template <class Reduction, std::size_t kVectors>
  HWY_INLINE void combine(const V (&v)[kVectors], V (&with)[kVectors]) {
    const D d;
    V before = before_;
    Unrolled<kVectors>([&](auto i) CENOTE_VECTOR_LAMBDA {
      const V rotated = hn::TableLookupLanes(v[i], from_);
      with[i] = Reduction::combine(d, hn::IfThenElse(head_, before, rotated), with[i]);
      before = rotated;
    });
    before_ = before;
  }

 private:
  decltype(RotatingIndices(D(), 0)) from_;
  decltype(hn::FirstN(D(), 0)) head_;
  V before_;
};

/// The reduction of the last `count` vectors: those of the block of so many that is being filled, and what
/// the block before has beyond as many. 3 steps a vector.
template <class Reduction, class Lane>
class LastVectors {
 public:
  using D = WideTag<Lane>;
  using V = VecOf<D>;

  void set(std::int64_t count) { count_ = count; }
  std::int64_t count() const { return count_; }
  void begin() {
    const D d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const V identity = hn::Set(d, Reduction::template identity<Lane>());
    ends_ = memory_.resize(static_cast<std::size_t>((count_ + 1) * lanes));
    for (std::int64_t i = 0; i <= count_; ++i) hn::Store(identity, d, ends_ + i * lanes);
    filled_ = identity;
    at_ = 0;
  }
  HWY_INLINE V operator()(V v) {
    const D d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    filled_ = at_ == 0 ? v : Reduction::combine(d, filled_, v);
    hn::Store(v, d, ends_ + at_ * lanes);
    ++at_;
    const V last = Reduction::combine(d, hn::Load(d, ends_ + at_ * lanes), filled_);
    if (at_ == count_) turn();
    return last;
  }

 private:
  /// From the vectors of the block that is full to what is from each of them to its end.
  HWY_NOINLINE void turn() {
    const D d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    V end = hn::Load(d, ends_ + (count_ - 1) * lanes);
    for (std::int64_t i = (count_ - 2) * lanes; i > 0; i -= lanes) {
      end = Reduction::combine(d, hn::Load(d, ends_ + i), end);
      hn::Store(end, d, ends_ + i);
    }
    at_ = 0;
  }

  std::int64_t count_ = 0;
  std::int64_t at_ = 0;
  Lane* ends_ = nullptr;  // the last one stays the identity
  V filled_;
  Scratch<Lane> memory_;
};

/// Whether the lanes of vectors can be moved.
template <class Lane>
constexpr bool kMovesLanes = HWY_TARGET != HWY_SCALAR && sizeof(Lane) >= 4;

/// The windows that end with each lane of the vectors of a row.
template <class Reduction, class Lane>
class VectorWindows {
 public:
  using D = WideTag<Lane>;
  using V = VecOf<D>;
  static constexpr auto kLanes = static_cast<std::int64_t>(kMaxLanes<Lane>);

  explicit VectorWindows(std::int64_t kernel) {
    const bool many = kernel >= 2 * kLanes;
    // Of windows of many vectors, sums take the elements that these leave from runs, at the end of windows.
    const std::int64_t rest = many ? kernel % kLanes : kernel;
    if (many) vectors_.set(kernel / kLanes);
    adds_ = !Reduction::kIdempotent && (many ? rest != 0 : (rest & (rest - 1)) != 0);
    std::int64_t covered = 0;
    for (std::int64_t run = 1; many ? run < kLanes : run <= kernel; run *= 2) {
      Step& step = steps_[count_++];
      if (adds_ && (rest & run) != 0) {
        step.adds = covered == 0 ? Adds::kFirst : Adds::kMore;
        if (covered > 0) step.add.set(covered);
        covered += run;
      }
      std::int64_t join = 0;
      if (many || 2 * run <= kernel) {
        join = run;
      } else if (!adds_ && run < kernel) {
        join = kernel - run;
      }
      step.joins = join > 0;
      if (step.joins) step.join.set(join);
    }
    shifts_vectors_ = many && rest > 0;
    if (shifts_vectors_) last_.set(rest);
  }
  VectorWindows(const VectorWindows&) = delete;
  VectorWindows& operator=(const VectorWindows&) = delete;

  /// Before the first vector of a row. Windows that reach beyond it mean nothing, so that the next row may
  /// follow without.
  void begin() {
    for (int i = 0; i < count_; ++i) {
      steps_[i].add.begin();
      steps_[i].join.begin();
    }
    last_.begin();
    if (vectors_.count() > 0) vectors_.begin();
  }
  /// From vectors, one after the other, to the windows.
  template <std::size_t kVectors>
  HWY_INLINE void reduce(V (&run)[kVectors]) {
    V window[kVectors];
    CopyVectors(run, window);
    for (int i = 0; i < count_; ++i) {
      Step& step = steps_[i];
      if constexpr (!Reduction::kIdempotent) {
        if (step.adds == Adds::kMore) {
          step.add.template combine<Reduction>(run, window);
        } else if (step.adds == Adds::kFirst) {
          CopyVectors(run, window);
        }
      }
      if (step.joins) step.join.template combine<Reduction>(run, run);
    }
    if (vectors_.count() > 0) {
      Unrolled<kVectors>([&](auto v) CENOTE_VECTOR_LAMBDA { run[v] = vectors_(run[v]); });
      if (!shifts_vectors_) return;
      if constexpr (Reduction::kIdempotent) {
        last_.template combine<Reduction>(run, run);
        return;
      }
      last_.template combine<Reduction>(run, window);
    }
    if (!adds_) return;
    CopyVectors(window, run);
  }

 private:
  enum class Adds : std::uint8_t { kNone, kFirst, kMore };
  struct Step {
    Adds adds = Adds::kNone;
    bool joins = false;
    LaneShift<Lane> add;   // runs that the window gets
    LaneShift<Lane> join;  // those that make runs of twice as many
  };
  static constexpr int kMostSteps = 5;  // of 16 lanes

  Step steps_[kMostSteps];
  int count_ = 0;
  bool adds_ = false;
  bool shifts_vectors_ = false;
  LaneShift<Lane> last_;
  LastVectors<Reduction, Lane> vectors_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
