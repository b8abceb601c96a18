// parallel_for with a callable, on the replaceable pool of cenote/runtime.h. An exception thrown in a
// range is rethrown to the caller after all ranges have ended.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>

#include "cenote/runtime.h"

namespace cenote {

/// The pool in use; never null.
ParallelFor current_parallel_for();

/// While one lives, parallel_for on this thread runs inline: for loops within a range of another.
class SerialScope {
 public:
  SerialScope() : outer_(active_) { active_ = true; }
  ~SerialScope() { active_ = outer_; }
  SerialScope(const SerialScope&) = delete;
  SerialScope& operator=(const SerialScope&) = delete;
  static bool active() { return active_; }

 private:
  static inline thread_local bool active_ = false;
  bool outer_;
};

/// Runs body(begin, end) over disjoint ranges of [0, count) of about `grain` items or more, on the
/// calling thread alone when one range holds everything.
template <class Body>
void parallel_for(std::int64_t count, std::int64_t grain, const Body& body) {
  if (count <= 0) return;
  if (count <= grain || SerialScope::active()) {
    body(std::int64_t{0}, count);
    return;
  }
  struct Context {
    const Body& body;
    std::mutex mutex;
    std::exception_ptr error;
  } context{body, {}, nullptr};
  const auto run = [](void* opaque, std::int64_t begin, std::int64_t end) {
    auto& shared = *static_cast<Context*>(opaque);
    try {
      shared.body(begin, end);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(shared.mutex);
      if (!shared.error) shared.error = std::current_exception();
    }
  };
  current_parallel_for()(0, count, grain, run, &context);
  if (context.error) std::rethrow_exception(context.error);
}

}  // namespace cenote
