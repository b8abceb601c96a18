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
  /// Called with the number of the round, from which it picks its buffers.
  std::function<void(std::size_t round)> call;
};

struct MeasureOptions {
  double min_seconds = 1;  // for all contenders of a row together
  std::size_t min_rounds = 11;
  std::size_t warm_up_rounds = 2;
};

/// One Timing per contender. Each round starts with another contender.
std::vector<Timing> measure(const std::vector<Contender>& contenders, const MeasureOptions& options);

}  // namespace cenote_bench
