// The default pool (OpenMP, or threads started for each call) and the hook that replaces it.
#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "core/check.h"

#ifdef _OPENMP
#include <omp.h>
#else
#include <system_error>
#include <thread>
#include <vector>
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
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMostThreads);
#endif
}

std::atomic<int>& thread_count() {
  static std::atomic<int> count{initial_threads()};
  return count;
}

/// Runs share(0) .. share(count - 1), each on a thread of its own where there is one.
template <class Share>
void run_shares(std::int64_t count, const Share& share) {
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(count))
  for (std::int64_t i = 0; i < count; ++i) share(i);
#else
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(count - 1));
  std::int64_t own = count - 1;  // the calling thread takes this share, and those that got no thread
  try {
    for (std::int64_t i = 0; i < count - 1; ++i) threads.emplace_back(share, i);
  } catch (const std::system_error&) {
    own = static_cast<std::int64_t>(threads.size());
  }
  for (std::int64_t i = own; i < count; ++i) share(i);
  for (std::thread& thread : threads) thread.join();
#endif
}

/// Equal shares, one per thread.
void default_parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, ParallelBody body,
                          void* context) {
  const std::int64_t total = end - begin;
  const std::int64_t shares =
      std::clamp<std::int64_t>(total / std::max<std::int64_t>(grain, 1), 1, thread_count().load());
  if (shares == 1) return body(context, begin, end);
  const std::int64_t step = total / shares;
  const std::int64_t extra = total % shares;
  run_shares(shares, [=](std::int64_t share) {
    const std::int64_t from = begin + share * step + std::min(share, extra);
    body(context, from, from + step + (share < extra ? 1 : 0));
  });
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
