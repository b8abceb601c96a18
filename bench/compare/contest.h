// The contenders of a row: cenote through its torch operator, cenote into a given output, torch, the peers
// that have the op, and a plain parallel copy of the same bytes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cases.h"
#include "measure.h"
#include "peers.h"

namespace cenote_bench {

inline constexpr const char* kCenote = "cenote";
inline constexpr const char* kCenoteInto = "cenote into";
inline constexpr const char* kTorch = "torch";
inline constexpr const char* kCopy = "copy";
inline constexpr const char* kCopyPastCaches = "copy past caches";

/// Ready to run, with their buffers.
struct Contest {
  std::vector<Contender> contenders;
  std::map<std::string, std::string> left_out;      // peer to reason
  std::map<std::string, std::int64_t> extra_bytes;  // heap beside the result, where it was measured
  std::int64_t bytes_moved = 0;                     // read and written by one call of cenote
  std::int64_t working_set = 0;  // bytes of the buffers that the calls of one contender walk through
  std::shared_ptr<const void> keeps;
};

/// The reason for which a peer is left out whose output is not torch's.
inline constexpr const char* kDiffers = "its output differs from torch's";

/// Compares all outputs with torch's first; throws std::runtime_error when those of cenote differ. The
/// threads are those that at::get_num_threads() tells.
Contest prepare(const Row& row, std::int64_t working_set, const Peers& peers);

}  // namespace cenote_bench
