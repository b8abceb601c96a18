// Rules, JSON form and resume rules of the training settings.
#include "network/train/settings.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "network/error_text.h"

namespace cenote::network {
namespace {

void require_range(const char* option, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high) {
    fail(ErrorCode::kInvalidArgument, "[train] --{} must be from {} to {}, got {}", option, low, high, value);
  }
}

void require_one_of(const char* option, const std::string& value, const std::vector<std::string>& names) {
  if (std::find(names.begin(), names.end(), value) == names.end()) {
    fail(ErrorCode::kInvalidArgument, "[train] --{} must be one of {}, got '{}'", option,
         fmt::join(names, ", "), value);
  }
}

}  // namespace

void check_settings(const TrainSettings& settings) {
  require_range("limit", settings.limit, 0, std::int64_t{1} << 40);
  require_range("epochs", settings.epochs, 1, 1'000'000);
  require_range("batch-size", settings.batch_size, 1, 65'536);
  require_range("seed", settings.seed, 0, std::numeric_limits<std::int64_t>::max());
  require_range("threads", settings.threads, 0, 1024);
  require_one_of("downsample", settings.downsample, {"strided", "max", "avg"});
  require_one_of("head", settings.head, {"gap", "flatten"});
  if (!settings.baseline.empty()) require_one_of("baseline", settings.baseline, {"torch"});
  if (!std::isfinite(settings.lr) || settings.lr <= 0) {
    fail(ErrorCode::kInvalidArgument, "[train] --lr must be a positive number, got {}", settings.lr);
  }
}

nlohmann::json to_json(const TrainSettings& settings) {
  return {{"data", settings.data},
          {"data-dir", settings.data_dir.string()},
          {"limit", settings.limit},
          {"epochs", settings.epochs},
          {"batch-size", settings.batch_size},
          {"lr", settings.lr},
          {"seed", settings.seed},
          {"threads", settings.threads},
          {"downsample", settings.downsample},
          {"head", settings.head},
          {"baseline", settings.baseline}};
}

TrainSettings settings_from_json(const nlohmann::json& json) {
  try {
    TrainSettings settings;
    settings.data = json.at("data").get<std::string>();
    settings.data_dir = json.at("data-dir").get<std::string>();
    settings.limit = json.at("limit").get<std::int64_t>();
    settings.epochs = json.at("epochs").get<std::int64_t>();
    settings.batch_size = json.at("batch-size").get<std::int64_t>();
    settings.lr = json.at("lr").get<double>();
    settings.seed = json.at("seed").get<std::int64_t>();
    settings.threads = json.at("threads").get<std::int64_t>();
    settings.downsample = json.at("downsample").get<std::string>();
    settings.head = json.at("head").get<std::string>();
    settings.baseline = json.at("baseline").get<std::string>();
    return settings;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kBadFile, "[train] bad settings: {}", error.what());
  }
}

TrainSettings resume_settings(const TrainSettings& saved, const TrainSettings& asked,
                              const std::set<std::string>& given) {
  const nlohmann::json was = to_json(saved);
  const nlohmann::json wanted = to_json(asked);
  const std::set<std::string> free = {"epochs", "threads", "data-dir"};
  std::vector<std::string> conflicts;
  for (const std::string& name : given) {
    if (free.count(name) == 0 && was.contains(name) && was[name] != wanted[name]) {
      conflicts.push_back(
          fmt::format("--{} {} (the run has {})", name, wanted[name].dump(), was[name].dump()));
    }
  }
  if (!conflicts.empty()) {
    fail(
        ErrorCode::kInvalidArgument,
        "[train] --resume continues a run with its own settings; only --epochs, --threads and --data-dir may "
        "change, got {}",
        fmt::join(conflicts, ", "));
  }
  TrainSettings settings = saved;
  if (given.count("epochs") != 0) settings.epochs = asked.epochs;
  if (given.count("threads") != 0) settings.threads = asked.threads;
  if (given.count("data-dir") != 0) settings.data_dir = asked.data_dir;
  return settings;
}

}  // namespace cenote::network
