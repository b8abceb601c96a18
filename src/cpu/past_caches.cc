// Asks the processor and the environment; see past_caches.h.
#include "cpu/past_caches.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>

#include "core/check.h"

namespace cenote::cpu {

namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

/// Bytes, as Linux has them: what sysconf says of AMD's processors may be all of their caches together.
std::int64_t last_level_cache() {
  std::int64_t largest = 0;
  for (int level = 0; level < 8; ++level) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(level) + "/size");
    std::int64_t size = 0;
    char unit = ' ';  // "32768K"
    if (file >> size >> unit) largest = std::max(largest, size << (unit == 'M' ? 20 : unit == 'K' ? 10 : 0));
  }
  constexpr std::int64_t kUsual = 32 << 20;
  return largest > 0 ? largest : kUsual;
}

/// What it holds of an op's tensors. More than this it holds for many cores, which other work shares.
std::int64_t cache_bytes() {
  constexpr std::int64_t kMost = 32 << 20;
  static const std::int64_t bytes = std::min(last_level_cache(), kMost);
  return bytes;
}

/// The most bytes that plain stores are faster for.
std::int64_t most_plain_bytes() {
  if (const char* text = std::getenv("CENOTE_STORE_PAST_CACHES")) {
    const std::string_view choice = text;
    if (choice == "always") return 0;
    if (choice == "never") return kNever;
    require(choice == "auto", "CENOTE_STORE_PAST_CACHES", "value must be auto, always or never, got ",
            choice);
  }
#ifdef __x86_64__
  return cache_bytes();
#else
  return kNever;
#endif
}

}  // namespace

bool beyond_caches(std::int64_t bytes) { return bytes > cache_bytes(); }

bool stores_past_caches(std::int64_t bytes) {
  if (PastCachesScope::decided()) return PastCachesScope::past();
  static const std::int64_t most_plain = most_plain_bytes();
  return bytes > most_plain;
}

}  // namespace cenote::cpu
