// Ctrl-C as a wish to stop: the first SIGINT or SIGTERM is noted, the second one kills as usual.
#pragma once

#include <csignal>

namespace cenote::network {

/// Notes the signals while it lives, and restores the former handlers. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// 0, or the signal that came.
  static int signal();

 private:
  struct sigaction old_interrupt_ = {};
  struct sigaction old_terminate_ = {};
};

}  // namespace cenote::network
