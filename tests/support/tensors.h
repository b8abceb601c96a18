// Tensors for the tests: buffers with guard bytes around and between the elements, in any layout,
// and reading a view back as a plain vector in logical (row-major) order.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "cenote/tensor.h"

namespace cenote_test {

enum class LayoutKind {
  kChannelsFirst,
  kChannelsLast,
  kStrided,  // axes in any order, gaps between the elements
};
constexpr LayoutKind kLayoutKinds[] = {LayoutKind::kChannelsFirst, LayoutKind::kChannelsLast,
                                       LayoutKind::kStrided};
const char* name_of(LayoutKind layout);

/// A view into a buffer of its own whose other bytes hold a known pattern. The elements hold it, too,
/// until they are written: as f32 and f64 it is a tiny negative number that no test input contains.
class GuardedTensor {
 public:
  /// `seed` chooses the alignment and, for kStrided, the order of the axes and the gaps.
  GuardedTensor(cenote::DType dtype, const cenote::Dims& sizes, LayoutKind layout, int spatial_rank,
                std::uint64_t seed);
  /// Dense, channels-first, with these elements.
  GuardedTensor(cenote::DType dtype, const cenote::Dims& sizes, const std::vector<double>& values);
  GuardedTensor(cenote::DType dtype, const cenote::Dims& sizes, std::initializer_list<double> values)
      : GuardedTensor(dtype, sizes, std::vector<double>(values)) {}

  const cenote::TensorView& view() const { return view_; }
  operator cenote::TensorView() const { return view_; }       // NOLINT(google-explicit-constructor)
  operator cenote::ConstTensorView() const { return view_; }  // NOLINT(google-explicit-constructor)

  /// Whether every byte that belongs to no element still holds the pattern.
  bool guards_intact() const;

 private:
  void allocate(std::int64_t extent, std::int64_t lead);

  std::vector<std::uint64_t> storage_;  // 8-byte words, for the alignment of every dtype
  cenote::TensorView view_;
};

/// The elements in row-major order of the sizes, whatever the strides.
std::vector<double> values_of(const cenote::ConstTensorView& view);
/// The same for integers.
std::vector<std::int64_t> integers_of(const cenote::ConstTensorView& view);
/// Writes the elements in row-major order of the sizes, rounded to the dtype.
void assign(const cenote::TensorView& view, const std::vector<double>& values);
/// The same for integers, which i64 holds exactly.
void assign(const cenote::TensorView& view, const std::vector<std::int64_t>& values);

/// 0, 1, ..., count - 1 as doubles.
std::vector<double> iota(std::int64_t count);

}  // namespace cenote_test
