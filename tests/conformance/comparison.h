// One case on a CPU target against the reference: what must be equal and what must lie within a bound.
#pragma once

#include <string>
#include <vector>

#include "conformance/replay.h"
#include "conformance/smooth_bounds.h"

namespace cenote_test {

class Comparison {
 public:
  /// Runs the reference on the plain form of the case.
  explicit Comparison(const Case& one);

  /// What differs on a target with tensors in a layout; nothing where all is well.
  std::vector<std::string> problems(const std::string& target, LayoutKind layout) const;

  /// Of the elements of grad_x that are finite, how many are held to a bound.
  double bounded_share() const;

 private:
  void set_avg_bounds();

  Case case_;
  Outcome expected_;
  SmoothBounds bounds_;  // where results need not be equal
};

}  // namespace cenote_test
