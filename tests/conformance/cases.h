// The case table of the conformance tests: random but repeatable configurations of every op in the
// registry. The same cases are replayed on the reference, on every CPU target and on PyTorch.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "cenote/registry.h"
#include "cenote/tensor.h"
#include "support/tensors.h"

namespace cenote_test {

/// What the elements of x look like.
enum class Fill {
  kNormal,
  kSmallIntegers,         // many ties
  kWithNan,               // normal, every eighth or so a NaN
  kWithNegativeInfinity,  // small integers, every fourth or so -inf
  kAllNegativeInfinity,
  kAllNan,
  kAllEqual,
  kSignedZeros,      // 0 and -0
  kLargeMagnitudes,  // either sign, from 1e-30 to 1e30
  kEnds,             // of integers: near the ends of the range; of i64 also of 41 bits and more
};
const char* name_of(Fill fill);

struct Case {
  const cenote::OpInfo* op = nullptr;
  cenote::Dims sizes;  // of x
  cenote::OpArguments arguments;
  LayoutKind layout = LayoutKind::kChannelsFirst;
  Fill fill = Fill::kNormal;
  cenote::DType dtype = cenote::DType::f32;
  std::uint64_t seed = 0;  // of the elements, gradients and strides
};

/// `count` valid configurations, the same for the same arguments; every op comes up equally often. The
/// first ones are fixed: windows that lie in the padding alone, and batch 0.
std::vector<Case> generate_cases(int count, std::uint64_t seed);

/// Gives some of the cases what the PyTorch operators do not take: i64 indices that count in the whole
/// tensor, i8 and u8 elements that stand for real numbers.
void vary_encodings(std::vector<Case>& cases, std::uint64_t seed);

/// Those of window ops whose windows are large and overlap much.
std::vector<Case> generate_overlapping_cases(int count, std::uint64_t seed);

/// Those of adaptive ops with rows that outputs seldom divide, from windows of many elements to several
/// outputs per element.
std::vector<Case> generate_uneven_cases(int count, std::uint64_t seed);

/// Fewer and larger ones: rows of thousands, windows of hundreds of taps, more than a hundred channels.
std::vector<Case> generate_large_cases(int count, std::uint64_t seed);

/// All that is needed to repeat a case, on one line.
std::string describe(const Case& one);
std::ostream& operator<<(std::ostream& out, const Case& one);

/// `count` elements of this kind.
std::vector<double> make_values(Fill fill, std::int64_t count, std::uint64_t seed);
/// x of the case in its layout.
GuardedTensor make_input(const Case& one);
/// The same elements in another layout.
GuardedTensor make_input(const Case& one, LayoutKind layout);
/// Indices for an op that reads them: anywhere in the plane with many duplicates, inside the windows of a
/// pooling, or all different, by the seed of the case; counted in its index order.
GuardedTensor make_indices(const Case& one, LayoutKind layout);
/// All different; needs as many positions in a plane of y as in one of x.
GuardedTensor make_distinct_indices(const Case& one, LayoutKind layout);
/// A gradient with respect to y, of y's sizes: normal numbers, in the layout and dtype of the case.
GuardedTensor make_output_gradient(const Case& one);
/// Multiples of 1/8 below 4 in magnitude: their sums do not depend on the order, in f32 either.
GuardedTensor make_exact_output_gradient(const Case& one);

}  // namespace cenote_test
