// Runs one case on the CPU target in use and collects everything it produces.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conformance/cases.h"

namespace cenote_test {

/// Every result of a case, in logical order.
struct Outcome {
  std::vector<double> y;
  std::vector<double> grad_x;
  // Where the op records indices: the i64 indices, the compact taps, and what else must agree with y and
  // grad_x whatever the record.
  std::vector<std::int64_t> indices;
  std::vector<std::int64_t> taps;
  std::vector<std::int64_t> wide_taps;  // as u16, where the taps fit
  std::vector<double> y_with_indices;
  std::vector<double> y_with_taps;
  std::vector<double> grad_x_from_taps;
  std::vector<double> grad_x_from_wide_taps;
  std::vector<std::int64_t> whole;  // y of i64, which double does not hold, of one forward after another
  bool guards_intact = true;        // no byte outside of the outputs was written
};

/// Forward and backward of `one` with x, y, gradients and records all in `layout`. The gradient of y is
/// that of make_exact_output_gradient where the op records indices, and the indices of an op that reads
/// them are those of make_indices, which must come back as they were.
Outcome replay(const Case& one, LayoutKind layout);
inline Outcome replay(const Case& one) { return replay(one, one.layout); }

/// What every target must give: the plain form of the case on the reference, its indices counted in the order
/// of the case. Of quantized elements y holds the averages before they are quantized.
Outcome replay_meaning(const Case& one);

/// The same op in double on the absolute values of x and of the gradient: the size of the terms that
/// were summed, against which rounding errors are measured. Uses the "reference" target's loops.
Outcome replay_magnitudes(const Case& one);

/// Restores the CPU target at the end of its life.
class TargetGuard {
 public:
  explicit TargetGuard(const std::string& target);
  ~TargetGuard();
  TargetGuard(const TargetGuard&) = delete;
  TargetGuard& operator=(const TargetGuard&) = delete;

 private:
  std::string previous_;
};

/// Distance from 1 to the next number, and the smallest normal number; 0 and 0 for integers, which are exact.
struct Precision {
  double epsilon;
  double smallest;
};
Precision precision_of(cenote::DType dtype);

}  // namespace cenote_test
