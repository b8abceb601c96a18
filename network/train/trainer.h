// One training run, from settings to the report.
#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "network/data/dataset.h"
#include "network/train/checkpoint.h"
#include "network/train/metrics.h"
#include "network/train/settings.h"

namespace cenote::network {

struct TrainConsole {
  std::FILE* out = nullptr;       // results, one line per epoch; null: silent
  std::FILE* progress = nullptr;  // progress; null: none
  /// Asked after every batch; not 0: finish it, write a checkpoint and return. Empty: never.
  std::function<int()> stop_signal;
};

/// Where a run goes on: a checkpoint that was read, and the file that it came from.
struct TrainStart {
  Checkpoint checkpoint;
  std::filesystem::path file;
};

struct TrainOutcome {
  int signal = 0;  // what stopped the run; 0: it is complete
  std::vector<EpochMetrics> history;
};

/// Trains until settings.epochs epochs are done, counting those of `start`, and keeps `folder` up to date
/// after each: checkpoint first, then metrics.csv, curves.svg and index.html. The result depends on settings
/// (threads among them) and data only, not on how often the run was stopped and continued. `dataset` is what
/// load_dataset gives for the settings. Throws Error on bad settings, on a damaged or foreign checkpoint, and
/// when a file cannot be written; std::runtime_error when torch fails, on lack of memory for example.
TrainOutcome train(const TrainSettings& settings, const Dataset& dataset, const std::filesystem::path& folder,
                   const std::optional<TrainStart>& start, const TrainConsole& console);

/// Of libtorch.
std::string torch_version();

}  // namespace cenote::network
