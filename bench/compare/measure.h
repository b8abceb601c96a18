// Timing: contenders run interleaved, one call each per round, so that a change of the machine's speed
// meets all of them alike.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace cenote_bench {

/// Milliseconds per call.
struct Timing {
  double median = 0;
  double min = 0;
  double p10 = 0;
  double p90 = 0;
  std::size_t runs = 0;
};

struct Contender {
  std::string name;
  /// Gets the number of the call, counted over all contenders, and picks its buffers by it; so a call finds
  /// nothing in the cache that the one before it left there, as long as there are buffers to change to.
  std::function<void(std::size_t number)> call;
};

struct MeasureOptions {
  double min_seconds = 1;  // for all contenders of a row together
  std::size_t min_rounds = 11;
  std::size_t warm_up_rounds = 2;
};

/// One Timing per contender. Each round starts with another contender.
std::vector<Timing> measure(const std::vector<Contender>& contenders, const MeasureOptions& options);

}  // namespace cenote_bench
