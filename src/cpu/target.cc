// Lists and chooses the Highway targets.
#include "cpu/target.h"

#include <algorithm>
#include <cctype>

#include "cpu/highway_targets.h"
#include "hwy/highway.h"

namespace cenote::cpu {

std::vector<Target> supported_targets() {
  std::vector<Target> targets;
  for (const std::int64_t bit : hwy::SupportedAndGeneratedTargets()) {
    std::string name = hwy::TargetName(bit);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
    targets.push_back({bit, name});
  }
  return targets;  // Highway's lower bits are its better targets
}

void choose_target(const Target& target) { hwy::GetChosenTarget().Update(target.bit); }

}  // namespace cenote::cpu
