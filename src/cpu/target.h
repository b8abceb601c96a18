// The instruction sets that Highway compiled and this machine runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cenote::cpu {

struct Target {
  std::int64_t bit;  // Highway's
  std::string name;  // lower case
};

/// Best first.
std::vector<Target> supported_targets();
/// Makes the kernels of this target (one of supported_targets) the current ones.
void choose_target(const Target& target);

}  // namespace cenote::cpu
