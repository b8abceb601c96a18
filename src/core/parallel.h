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

/// Runs body(begin, end) over disjoint ranges of [0, count) of about `grain` items or more, on the
/// calling thread alone when one range holds everything.
template <class Body>
void parallel_for(std::int64_t count, std::int64_t grain, const Body& body) {
  if (count <= 0) return;
  if (count <= grain) {
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
