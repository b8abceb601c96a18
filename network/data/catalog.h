// The data sets that cenote knows by name, and where it looks for their files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "network/data/dataset.h"

namespace cenote::network {

/// "fashion-mnist", "mnist", "cifar10".
std::vector<std::string> dataset_names();

/// Reads a data set. Looks into `data_dir` only, if that is given, else into the standard places:
/// data/NAME, $XDG_DATA_HOME/cenote/NAME and /usr/share/datasets/NAME, and for fashion-mnist last into the
/// subset that comes with cenote. `limit` keeps the first images of each split; 0 keeps all.
/// Throws Error: kInvalidArgument for an unknown name, kBadFile for missing or bad files, with the sentence
/// that says where to get them.
Dataset load_dataset(const std::string& name, const std::filesystem::path& data_dir, std::int64_t limit = 0);

}  // namespace cenote::network
