// How far the results of one case of the ops whose gradient reads x may lie from exact ones.
#pragma once

#include <cstddef>
#include <vector>

#include "conformance/cases.h"

namespace cenote_test {

/// Positions in a plane of x of the elements of each output of a plane of y, in row-major order.
std::vector<std::vector<std::size_t>> windows_of(const Case& one);

/// In logical order; infinity where rounding can take everything.
struct SmoothBounds {
  std::vector<double> y;
  std::vector<double> grad_x;
};

/// Bounds of the rounding errors that a case may make in the type it is computed in, and of the last rounding
/// to its dtype. Only for ops with gradient_reads_x.
SmoothBounds smooth_bounds(const Case& one);

}  // namespace cenote_test
