// What the numbers were taken on.
#pragma once

#include <string>
#include <vector>

namespace cenote_bench {

struct Machine {
  std::string processor;
  int logical_cores = 0;
  std::vector<std::string> caches;  // "L2 Unified 2048K, cores 0"
  std::string compiler;
  std::string torch_version;
  std::string torch_cpu_capability;
  std::string cenote_version;
  std::string cpu_target;
  int threads = 0;
  double load_average = 0;  // of the last minute, at the start: others on the machine disturb the numbers
  std::string date;         // UTC, ISO 8601
};

Machine describe_machine();

}  // namespace cenote_bench
