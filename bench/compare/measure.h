// Timing: contenders take turns, so that a change of the machine's speed meets all of them alike.
#pragma once

#include <chrono>
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
  std::size_t samples = 0;
  std::size_t calls_per_sample = 1;
};

/// What a contender is asked to do in one turn: samples of `batch` calls each, until `seconds` have passed,
/// one at least. Call number i works on the buffers i modulo their number, so that a call finds nothing in
/// the cache that the one before it left there, as long as there are buffers to change to.
struct Turn {
  std::size_t number = 0;  // of the first call
  std::size_t batch = 1;
  double seconds = 0;
};

struct Contender {
  std::string name;
  /// Contenders of one pool of threads share its name. The threads of a pool wait busily for some time after
  /// their work; before another pool works, they are given the time to fall asleep.
  std::string pool;
  /// Milliseconds per call of each sample.
  std::function<std::vector<double>(const Turn& turn)> turn;
};

/// Samples of a function of this process.
template <class Call>
std::function<std::vector<double>(const Turn&)> local_turn(const Call& call);

struct MeasureOptions {
  double min_seconds = 1;  // for all contenders of a row together, unless min_rounds take longer
  double max_seconds = 10;
  std::size_t min_rounds = 11;         // short of max_seconds
  std::size_t min_rounds_at_last = 3;  // even then
};

/// Succeeds once no other thread of this process, nor of `children`, runs; gives up after 0.3 seconds.
bool wait_until_quiet(const std::vector<int>& children);

/// One Timing per contender. Each round starts with another contender. `interrupted` ends it early, with no
/// timings.
std::vector<Timing> measure(const std::vector<Contender>& contenders, const MeasureOptions& options,
                            const std::vector<int>& children, const std::function<bool()>& interrupted);

/// Seconds of the monotonic clock.
inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Call>
std::function<std::vector<double>(const Turn&)> local_turn(const Call& call) {
  return [call](const Turn& turn) {
    std::vector<double> samples;
    const double begin = now();
    double start = begin;
    std::size_t number = turn.number;
    do {
      for (std::size_t i = 0; i < turn.batch; ++i) call(number++);
      const double end = now();
      samples.push_back((end - start) * 1e3 / static_cast<double>(turn.batch));
      start = end;
    } while (start - begin < turn.seconds);
    return samples;
  };
}

}  // namespace cenote_bench
