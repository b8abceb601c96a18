// Everything that decides how a training run goes. The names in the JSON form are those of the command line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>

namespace cenote::network {

struct TrainSettings {
  std::string data = "fashion-mnist";
  std::filesystem::path data_dir;  // empty: the standard places
  std::int64_t limit = 0;          // images per split; 0: all
  std::int64_t epochs = 2;
  std::int64_t batch_size = 16;
  double lr = 0.01;
  std::int64_t seed = 0;
  std::int64_t threads = 0;  // 0: one per core
  std::string downsample = "strided";
  std::string head = "gap";
  std::string baseline;  // "torch" trains the same network in plain torch modules alongside; empty: none
};

/// Throws Error (kInvalidArgument) that names the option, its value and the rule.
void check_settings(const TrainSettings& settings);

nlohmann::json to_json(const TrainSettings& settings);
/// Throws Error (kBadFile) when a value is missing or of the wrong type.
TrainSettings settings_from_json(const nlohmann::json& json);

/// The settings to continue a run with: those it was `saved` with, except that `asked` may change epochs,
/// threads and data-dir if `given` holds that name. Throws Error (kInvalidArgument) when another option was
/// given with a different value, since the run would no longer be what its folder says.
TrainSettings resume_settings(const TrainSettings& saved, const TrainSettings& asked,
                              const std::set<std::string>& given);

}  // namespace cenote::network
