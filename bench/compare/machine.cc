// Reads the facts of machine.h from /proc, /sys, the compiler and the libraries.
#include "machine.h"

#include <ATen/Version.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cenote/runtime.h"

namespace cenote_bench {

namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
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

std::vector<fs::path> cache_folders() {
  std::vector<fs::path> folders;
  const fs::path root = "/sys/devices/system/cpu/cpu0/cache";
  while (fs::exists(root / fmt::format("index{}", folders.size())))
    folders.push_back(root / fmt::format("index{}", folders.size()));
  return folders;
}

std::vector<std::string> cache_lines() {
  std::vector<std::string> lines;
  for (const fs::path& folder : cache_folders()) {
    lines.push_back(fmt::format("L{} {} {}, cores {}", first_line(folder / "level"),
                                first_line(folder / "type"), first_line(folder / "size"),
                                first_line(folder / "shared_cpu_list")));
  }
  return lines;
}

std::int64_t physical_memory() {
  return static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

}  // namespace

Facts describe_machine(const Peers& peers, int threads) {
  Facts facts{{"processor", processor_name()},
              {"logical cores", std::to_string(std::thread::hardware_concurrency())},
              {"caches", fmt::format("{}", fmt::join(cache_lines(), "; "))},
              {"memory", fmt::format("{} GiB", physical_memory() >> 30)},
              {"compiler", "g++ " __VERSION__},
              {"threads", std::to_string(threads)},
              {"cenote", fmt::format("{}, CPU target {}", cenote::version(), cenote::cpu_target())},
              {"torch", fmt::format("{}, {}", TORCH_VERSION, at::get_cpu_capability())}};
  for (const std::unique_ptr<Peer>& peer : peers.found) facts.emplace_back(peer->name(), peer->version());
  for (const auto& [name, reason] : peers.missing) facts.emplace_back(name, "not measured: " + reason);
  return facts;
}

Facts describe_moment() {
  double load = 0;
  getloadavg(&load, 1);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  return {{"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(seconds))},
          {"load average at the start", fmt::format("{:.2f}", load)}};
}

std::int64_t last_level_cache() {
  std::int64_t largest = 0;
  for (const fs::path& folder : cache_folders()) {
    const std::string size = first_line(folder / "size");  // "2048K"
    largest = std::max<std::int64_t>(largest, std::atoll(size.c_str()) << (size.ends_with('M') ? 20 : 10));
  }
  return largest;
}

std::int64_t working_set_beyond_caches() {
  const std::int64_t wanted = last_level_cache() / 4 * 5;
  return std::max<std::int64_t>(std::int64_t{64} << 20, std::min(wanted, physical_memory() / 8));
}

}  // namespace cenote_bench
