// Checkpoint files: where a training run stands, with a checksum over all of it.
//
// Layout, little-endian: 8 bytes magic "CENOTECP", u32 version, u32 CRC-32 of all that follows, u64 size of
// the JSON part, u64 size of the torch archive, the JSON part (settings, position, sums, history), the
// archive (models, optimisers, random generator). A folder keeps two: checkpoint.pt and, one write older,
// checkpoint.prev.pt.
//
// The checksum finds damage, not intent: the archive is one of torch, which may carry code, so a checkpoint
// must come from a source that is trusted.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "network/train/metrics.h"
#include "network/train/settings.h"

namespace cenote::network {

struct Checkpoint {
  TrainSettings settings;
  std::uint32_t data_fingerprint = 0;
  std::int64_t epoch = 0;             // epochs finished
  std::int64_t batch = 0;             // batches of the next epoch that are finished
  std::array<StepSums, 2> sums;       // of that epoch; the second is the baseline's
  std::vector<EpochMetrics> history;  // one entry per finished epoch
  std::string archive;                // what torch serialised
};

std::filesystem::path checkpoint_path(const std::filesystem::path& folder);
std::filesystem::path previous_checkpoint_path(const std::filesystem::path& folder);

/// Writes checkpoint.pt atomically. The file it replaces becomes checkpoint.prev.pt if `keep_current` says
/// that it is good. Throws Error (kIo); the files that were there are then still there, and the text says so.
void write_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint, bool keep_current);

/// Throws Error (kBadFile) when the file is missing, foreign, truncated or damaged; the text names the
/// previous checkpoint of the folder if that one is good.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// For the end of an error text: "; the previous checkpoint is good (...): continue from it with --resume
/// PATH", or empty when the folder of `path` has none or it is `path` itself.
std::string advice_about_previous(const std::filesystem::path& path);

}  // namespace cenote::network
