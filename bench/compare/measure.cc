// Interleaved timing; see measure.h.
#include "measure.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

namespace cenote_bench {

namespace {

constexpr double kSampleSeconds = 1e-4;  // beside it, the clock costs nothing
constexpr double kTurnSeconds = 4e-3;
constexpr double kLongCall = 20e-3;  // beside it, waking the threads costs nothing
constexpr std::size_t kMaxBatch = 1'000'000;

bool runs(const std::filesystem::path& task) {
  std::ifstream file(task / "stat");
  std::string line;
  std::getline(file, line);
  const std::size_t name_end = line.rfind(") ");
  return name_end != std::string::npos && line[name_end + 2] == 'R';
}

bool any_runs(const std::string& process, const std::string& except) {
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + process + "/task", error)) {
    if (task.path().filename() != except && runs(task.path())) return true;
  }
  return false;
}

Timing summarise(std::vector<double> samples, std::size_t batch) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double part) {
    return samples[static_cast<std::size_t>(std::lround(part * static_cast<double>(samples.size() - 1)))];
  };
  return {at(0.5), samples.front(), at(0.1), at(0.9), samples.size(), batch};
}

/// A contender in the course of a measurement.
struct Course {
  std::size_t batch = 1;
  double call_seconds = 0;  // estimated from the calls before the first round
  std::vector<double> samples;
};

class Measurement {
 public:
  Measurement(const std::vector<Contender>& contenders, const std::vector<int>& children)
      : contenders_(contenders), children_(children), courses_(contenders.size()) {
    for (std::size_t i = 0; i < contenders_.size(); ++i) warm_up(i);
  }

  /// Lets contender `i` take its turn.
  void run(std::size_t i) {
    enter(i);
    Course& course = courses_[i];
    const std::vector<double> samples = turn(i, {0, course.batch, kTurnSeconds});
    course.samples.insert(course.samples.end(), samples.begin(), samples.end());
  }

  std::vector<Timing> timings() const {
    std::vector<Timing> all;
    all.reserve(courses_.size());
    for (const Course& course : courses_) all.push_back(summarise(course.samples, course.batch));
    return all;
  }

 private:
  std::vector<double> turn(std::size_t i, Turn turn) {
    turn.number = number_;
    std::vector<double> samples = contenders_[i].turn(turn);
    number_ += samples.size() * turn.batch;
    return samples;
  }

  /// The first call brings pages and code in, the second one tells how long a call takes.
  void warm_up(std::size_t i) {
    if (contenders_[i].pool != pool_) wait_until_quiet(children_);
    pool_ = contenders_[i].pool;
    turn(i, {});
    Course& course = courses_[i];
    course.call_seconds = turn(i, {}).front() * 1e-3;
    if (course.call_seconds >= kSampleSeconds) return;
    const double calls = std::ceil(kSampleSeconds / std::max(course.call_seconds, 1e-9));
    course.batch = std::min(kMaxBatch, static_cast<std::size_t>(calls));
    course.call_seconds = turn(i, {0, course.batch, 0}).front() * 1e-3;
    course.batch = std::min(
        kMaxBatch, static_cast<std::size_t>(std::ceil(kSampleSeconds / std::max(course.call_seconds, 1e-9))));
  }

  void enter(std::size_t i) {
    if (contenders_[i].pool == pool_) return;
    pool_ = contenders_[i].pool;
    wait_until_quiet(children_);
    if (courses_[i].call_seconds < kLongCall) turn(i, {0, courses_[i].batch, 0});
  }

  const std::vector<Contender>& contenders_;
  const std::vector<int>& children_;
  std::vector<Course> courses_;
  std::string pool_;
  std::size_t number_ = 0;
};

}  // namespace

bool wait_until_quiet(const std::vector<int>& children) {
  constexpr int kAttempts = 300;
  const std::string self = fmt::format("{}", getpid());
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const bool busy = any_runs(self, fmt::format("{}", gettid())) ||
                      std::any_of(children.begin(), children.end(),
                                  [](int child) { return any_runs(fmt::format("{}", child), ""); });
    if (!busy) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

std::vector<Timing> measure(const std::vector<Contender>& contenders, const MeasureOptions& options,
                            const std::vector<int>& children, const std::function<bool()>& interrupted) {
  Measurement measurement(contenders, children);
  const double start = now();
  const auto unfinished = [&](std::size_t round) {
    const double seconds = now() - start;
    if (round < options.min_rounds_at_last) return true;
    return seconds < options.max_seconds && (round < options.min_rounds || seconds < options.min_seconds);
  };
  for (std::size_t round = 0; unfinished(round); ++round) {
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      if (interrupted()) return {};
      measurement.run((round + i) % contenders.size());
    }
  }
  return measurement.timings();
}

}  // namespace cenote_bench
