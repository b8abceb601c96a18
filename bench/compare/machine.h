// What the numbers were taken on.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "peers.h"

namespace cenote_bench {

/// Names and values of facts, in the order in which they are shown.
using Facts = std::vector<std::pair<std::string, std::string>>;

/// Processor, caches, compiler, and the versions and threads of everything that is compared.
Facts describe_machine(const Peers& peers, int threads);
/// Facts that differ from run to run: the date (UTC, ISO 8601), and the load average of the last minute,
/// since others on the machine disturb the numbers.
Facts describe_moment();

/// Bytes of the last cache before memory; 0 where the system does not tell.
std::int64_t last_level_cache();
/// Bytes of data that no cache holds: a quarter more than the last cache has, within an eighth of the
/// machine's memory, and 64 MiB at least.
std::int64_t working_set_beyond_caches();

}  // namespace cenote_bench
