// Reads the facts of machine.h from /proc, /sys, the compiler and the libraries.
#include "machine.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cenote/runtime.h"

namespace cenote_bench {

namespace {

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::vector<std::string> cache_lines() {
  std::vector<std::string> lines;
  const std::filesystem::path root = "/sys/devices/system/cpu/cpu0/cache";
  for (int index = 0;; ++index) {
    const std::filesystem::path folder = root / fmt::format("index{}", index);
    if (!std::filesystem::exists(folder)) return lines;
    lines.push_back(fmt::format("L{} {} {}, cores {}", first_line(folder / "level"),
                                first_line(folder / "type"), first_line(folder / "size"),
                                first_line(folder / "shared_cpu_list")));
  }
}

}  // namespace

Machine describe_machine() {
  Machine machine;
  machine.processor = processor_name();
  machine.logical_cores = static_cast<int>(std::thread::hardware_concurrency());
  machine.caches = cache_lines();
  machine.compiler = "g++ " __VERSION__;
  machine.torch_version = TORCH_VERSION;
  machine.torch_cpu_capability = at::get_cpu_capability();
  machine.cenote_version = cenote::version();
  machine.cpu_target = cenote::cpu_target();
  machine.threads = at::get_num_threads();
  getloadavg(&machine.load_average, 1);
  machine.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::now()));
  return machine;
}

}  // namespace cenote_bench
