// A progress bar with rate and time left on a terminal, a plain line every ten seconds elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace cenote::network {

class Progress {
 public:
  /// `out` may be null: nothing is shown. `done` of `total` images are finished from earlier.
  Progress(std::FILE* out, std::string label, std::int64_t done, std::int64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Shows the state, if it is time to.
  void update(std::int64_t done);
  /// Removes the bar from the terminal, so that a line can be printed.
  void clear();

 private:
  std::FILE* out_;
  std::string label_;
  std::int64_t first_;
  std::int64_t total_;
  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point begin_;
  std::chrono::steady_clock::time_point last_;
};

/// The text of one state, for a line of `columns` characters; `seconds` is the time that the images since
/// `first` took.
std::string progress_text(const std::string& label, std::int64_t first, std::int64_t done, std::int64_t total,
                          double seconds, int columns, bool bar);

}  // namespace cenote::network
