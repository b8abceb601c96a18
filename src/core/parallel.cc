// The default pool (OpenMP, or the calling thread alone) and the hook that replaces it.
#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "core/check.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace cenote {

namespace {

constexpr int kMostThreads = 1024;

int initial_threads() {
  if (const char* text = std::getenv("CENOTE_NUM_THREADS")) {
    int count = 0;
    const char* end = text + std::strlen(text);
    const auto [stop, error] = std::from_chars(text, end, count);
    if (error == std::errc() && stop == end && count >= 1 && count <= kMostThreads) return count;
    fail(ErrorCode::kInvalidArgument, "CENOTE_NUM_THREADS", "value must be an integer from 1 to ",
         kMostThreads, ", got ", text);
  }
#ifdef _OPENMP
  return std::clamp(omp_get_max_threads(), 1, kMostThreads);
#else
  return 1;
#endif
}

std::atomic<int>& thread_count() {
  static std::atomic<int> count{initial_threads()};
  return count;
}

/// Equal shares, one per thread.
void default_parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, ParallelBody body,
                          void* context) {
  const std::int64_t total = end - begin;
  const std::int64_t shares =
      std::clamp<std::int64_t>(total / std::max<std::int64_t>(grain, 1), 1, thread_count().load());
#ifdef _OPENMP
  if (shares > 1) {
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(shares))
    for (std::int64_t share = 0; share < shares; ++share) {
      const std::int64_t step = total / shares;
      const std::int64_t extra = total % shares;
      const std::int64_t from = begin + share * step + std::min(share, extra);
      body(context, from, from + step + (share < extra ? 1 : 0));
    }
    return;
  }
#endif
  body(context, begin, end);
}

std::atomic<ParallelFor> replaced{nullptr};

}  // namespace

ParallelFor current_parallel_for() {
  const ParallelFor chosen = replaced.load(std::memory_order_acquire);
  return chosen != nullptr ? chosen : default_parallel_for;
}

void set_parallel_for(ParallelFor parallel_for) { replaced.store(parallel_for, std::memory_order_release); }

int num_threads() { return thread_count().load(); }

void set_num_threads(int count) {
  require(count >= 1 && count <= kMostThreads, "set_num_threads", "count must be >= 1 and <= ", kMostThreads,
          ", got ", count);
  thread_count().store(count);
}

}  // namespace cenote
