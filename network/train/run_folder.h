// The folder of a run: checkpoints, metrics.csv, curves.svg and index.html.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "network/train/metrics.h"

namespace cenote::network {

/// Creates the folder of a new run: `out`, which must not exist or be empty, or runs/DATA-1, -2, ... when
/// `out` is empty. Throws Error: kInvalidArgument when `out` holds something, kIo when the system refuses.
std::filesystem::path create_run_folder(const std::filesystem::path& out, const std::string& data);

/// A run to continue: its folder and the checkpoint to start from.
struct ResumePoint {
  std::filesystem::path folder;
  std::filesystem::path checkpoint;
};
/// `path` is a run folder or a checkpoint in it. Throws Error (kInvalidArgument) when it does not exist.
ResumePoint find_resume_point(const std::filesystem::path& path);

/// Writes metrics.csv, one row per epoch.
void write_metrics(const std::filesystem::path& folder, const std::vector<EpochMetrics>& history);

}  // namespace cenote::network
