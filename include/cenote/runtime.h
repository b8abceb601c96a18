// Threads, CPU targets and the version.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cenote/export.h"

namespace cenote {

/// "0.1.0"
CENOTE_EXPORT const char* version();

/// Runs body(context, begin, end) over disjoint ranges that cover [begin, end). A range should hold at
/// least `grain` items. It must return after every range is done, and may run ranges in any order and
/// on any thread. The results of cenote do not depend on how it splits.
using ParallelBody = void (*)(void* context, std::int64_t begin, std::int64_t end);
using ParallelFor = void (*)(std::int64_t begin, std::int64_t end, std::int64_t grain, ParallelBody body,
                             void* context);

/// Replaces the thread pool (OpenMP by default); nullptr restores the default. `body` never throws.
CENOTE_EXPORT void set_parallel_for(ParallelFor parallel_for);
/// Threads of the default pool (CENOTE_NUM_THREADS, else OpenMP's own rule). A replaced pool has its own.
CENOTE_EXPORT int num_threads();
/// Throws Error unless 1 <= count <= 1024.
CENOTE_EXPORT void set_num_threads(int count);

/// The CPU targets that this machine can run, best first; the last one is "reference", the plain loops
/// in double precision that define what each op means.
CENOTE_EXPORT std::vector<std::string> cpu_targets();
/// The target in use: set_cpu_target, else CENOTE_CPU_TARGET, else the best.
CENOTE_EXPORT std::string cpu_target();
/// Forces a target; "" returns to the best. Throws Error when the machine or the build lacks it.
CENOTE_EXPORT void set_cpu_target(const std::string& name);

}  // namespace cenote
