// Interleaved timing; see measure.h.
#include "measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

namespace cenote_bench {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double milliseconds_of(const Contender& contender, std::size_t number) {
  const Clock::time_point start = Clock::now();
  contender.call(number);
  return seconds_since(start) * 1e3;
}

Timing summarise(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double part) {
    return samples[static_cast<std::size_t>(std::lround(part * static_cast<double>(samples.size() - 1)))];
  };
  return {at(0.5), samples.front(), at(0.1), at(0.9), samples.size()};
}

}  // namespace

std::vector<Timing> measure(const std::vector<Contender>& contenders, const MeasureOptions& options) {
  const std::size_t count = contenders.size();
  std::vector<std::vector<double>> samples(count);
  std::size_t number = 0;
  for (std::size_t round = 0; round < options.warm_up_rounds; ++round) {
    for (const Contender& contender : contenders) contender.call(number++);
  }
  const Clock::time_point start = Clock::now();
  for (std::size_t round = 0; round < options.min_rounds || seconds_since(start) < options.min_seconds;
       ++round) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t next = (round + i) % count;
      samples[next].push_back(milliseconds_of(contenders[next], number++));
    }
  }
  std::vector<Timing> timings;
  timings.reserve(count);
  for (std::vector<double>& one : samples) timings.push_back(summarise(std::move(one)));
  return timings;
}

}  // namespace cenote_bench
