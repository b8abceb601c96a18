// Philox4x32-10: random bits as a function of a key and a counter, without state. Source: Salmon, Moraes,
// Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cstdint>

namespace cenote {

using PhiloxKey = std::array<std::uint32_t, 2>;
using PhiloxBlock = std::array<std::uint32_t, 4>;

inline PhiloxBlock philox(PhiloxKey key, PhiloxBlock counter) {
  constexpr int kRounds = 10;
  constexpr std::uint64_t kFirstFactor = 0xD2511F53;
  constexpr std::uint64_t kSecondFactor = 0xCD9E8D57;
  constexpr PhiloxKey kWeyl{0x9E3779B9, 0xBB67AE85};
  const auto high = [](std::uint64_t product) { return static_cast<std::uint32_t>(product >> 32); };
  const auto low = [](std::uint64_t product) { return static_cast<std::uint32_t>(product); };
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t first = kFirstFactor * counter[0];
    const std::uint64_t second = kSecondFactor * counter[2];
    counter = {high(second) ^ counter[1] ^ key[0], low(second), high(first) ^ counter[3] ^ key[1],
               low(first)};
    key = {key[0] + kWeyl[0], key[1] + kWeyl[1]};
  }
  return counter;
}

}  // namespace cenote
