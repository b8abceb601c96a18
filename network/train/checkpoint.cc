// The checksum covers the sizes too, so nothing damaged reaches the JSON parser or torch.
#include "network/train/checkpoint.h"

#include <zlib.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <system_error>

#include "network/error_text.h"
#include "network/io/file.h"

namespace cenote::network {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kMagic = "CENOTECP";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderSize = 32;
constexpr std::size_t kChecksummedFrom = 16;
constexpr std::uint64_t kMaxFileSize = std::uint64_t{1} << 34;

void append_number(std::string& to, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to.push_back(static_cast<char>(value >> (8 * i)));
}

std::uint64_t number_at(std::string_view bytes, std::size_t at, int count) {
  std::uint64_t value = 0;
  for (int i = count - 1; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

std::uint32_t update_crc(std::uint32_t crc, std::string_view bytes) {
  return static_cast<std::uint32_t>(crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

json state_to_json(const Checkpoint& checkpoint) {
  json sums = json::array();
  for (const StepSums& sum : checkpoint.sums) sums.push_back({sum.loss, sum.images, sum.seconds});
  json history = json::array();
  for (const EpochMetrics& m : checkpoint.history) {
    history.push_back({m.epoch, m.training_loss, m.validation_loss, m.validation_accuracy,
                       m.images_per_second, m.baseline_images_per_second, m.baseline_validation_accuracy});
  }
  return {{"settings", to_json(checkpoint.settings)},
          {"data_fingerprint", checkpoint.data_fingerprint},
          {"epoch", checkpoint.epoch},
          {"batch", checkpoint.batch},
          {"sums", sums},
          {"history", history}};
}

Checkpoint state_from_json(const json& state) {
  Checkpoint checkpoint;
  checkpoint.settings = settings_from_json(state.at("settings"));
  check_settings(checkpoint.settings);
  checkpoint.data_fingerprint = state.at("data_fingerprint").get<std::uint32_t>();
  checkpoint.epoch = state.at("epoch").get<std::int64_t>();
  checkpoint.batch = state.at("batch").get<std::int64_t>();
  for (std::size_t i = 0; i < checkpoint.sums.size(); ++i) {
    const json& row = state.at("sums").at(i);
    checkpoint.sums[i] = {row.at(0).get<double>(), row.at(1).get<std::int64_t>(), row.at(2).get<double>()};
  }
  for (const json& row : state.at("history")) {
    checkpoint.history.push_back({row.at(0).get<std::int64_t>(), row.at(1).get<double>(),
                                  row.at(2).get<double>(), row.at(3).get<double>(), row.at(4).get<double>(),
                                  row.at(5).get<double>(), row.at(6).get<double>()});
  }
  if (checkpoint.epoch < 0 || checkpoint.batch < 0 ||
      checkpoint.epoch != static_cast<std::int64_t>(checkpoint.history.size())) {
    fail(ErrorCode::kBadFile, "its position does not fit its history");
  }
  return checkpoint;
}

/// Throws Error with the reason only; read_checkpoint adds the names.
Checkpoint parse(std::string_view bytes) {
  if (bytes.size() < kHeaderSize) fail(ErrorCode::kBadFile, "it has only {} bytes", bytes.size());
  if (bytes.substr(0, kMagic.size()) != kMagic) fail(ErrorCode::kBadFile, "it is no checkpoint of cenote");
  const std::uint64_t version = number_at(bytes, 8, 4);
  if (version != kVersion)
    fail(ErrorCode::kBadFile, "it has version {}, this program reads {}", version, kVersion);
  const std::uint64_t json_size = number_at(bytes, 16, 8);
  const std::uint64_t archive_size = number_at(bytes, 24, 8);
  const std::uint64_t body = bytes.size() - kHeaderSize;
  if (json_size > body || archive_size != body - json_size) {
    fail(ErrorCode::kBadFile, "it is truncated or overlong: {} bytes", bytes.size());
  }
  if (update_crc(0, bytes.substr(kChecksummedFrom)) != number_at(bytes, 12, 4)) {
    fail(ErrorCode::kBadFile, "its checksum does not match");
  }
  try {
    Checkpoint checkpoint = state_from_json(json::parse(bytes.substr(kHeaderSize, json_size)));
    checkpoint.archive = bytes.substr(kHeaderSize + json_size);
    return checkpoint;
  } catch (const json::exception& error) {
    fail(ErrorCode::kBadFile, "its state is malformed: {}", error.what());
  }
}

/// Keeps the current file under the older name without a moment in which checkpoint.pt is missing.
void keep_as_previous(const fs::path& current, const fs::path& previous) {
  const fs::path link = previous.string() + ".new";
  std::error_code error;
  fs::remove(link, error);
  fs::create_hard_link(current, link, error);
  if (error) {  // a file system without hard links
    fs::copy_file(current, link, fs::copy_options::overwrite_existing, error);
  }
  if (!error) fs::rename(link, previous, error);
  if (error) {
    std::error_code ignored;
    fs::remove(link, ignored);
    fail(ErrorCode::kIo, "cannot keep {} as {}: {}", current.string(), previous.string(), error.message());
  }
}

}  // namespace

fs::path checkpoint_path(const fs::path& folder) { return folder / "checkpoint.pt"; }
fs::path previous_checkpoint_path(const fs::path& folder) { return folder / "checkpoint.prev.pt"; }

void write_checkpoint(const fs::path& folder, const Checkpoint& checkpoint, bool keep_current) {
  const std::string state = state_to_json(checkpoint).dump();
  std::string sizes;
  append_number(sizes, state.size(), 8);
  append_number(sizes, checkpoint.archive.size(), 8);
  std::string header(kMagic);
  append_number(header, kVersion, 4);
  append_number(header, update_crc(update_crc(update_crc(0, sizes), state), checkpoint.archive), 4);
  header += sizes;

  const fs::path path = checkpoint_path(folder);
  const fs::path staged = folder / "checkpoint.new.pt";
  std::error_code ignored;
  try {
    write_file_atomically(staged, {header, state, checkpoint.archive});
    if (keep_current && fs::exists(path, ignored)) keep_as_previous(path, previous_checkpoint_path(folder));
    fs::rename(staged, path);
  } catch (const std::exception& error) {
    fs::remove(staged, ignored);
    const bool kept = fs::exists(path, ignored);
    fail(ErrorCode::kIo, "[train] no checkpoint was written: {}{}", error.what(),
         kept ? fmt::format("; the last one, {}, is kept", path.string()) : "");
  }
  sync_folder(folder);
}

Checkpoint read_checkpoint(const fs::path& path) {
  std::error_code ignored;
  std::string reason;
  try {
    return parse(read_file(path, kMaxFileSize));
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kIo) throw;
    reason = error.what();
  }
  const char* state = fs::exists(path, ignored) ? "is damaged" : "is missing";
  fail(ErrorCode::kBadFile, "[train] checkpoint {} {}: {}{}", path.string(), state, reason,
       advice_about_previous(path));
}

std::string advice_about_previous(const fs::path& damaged) {
  const fs::path previous = previous_checkpoint_path(damaged.parent_path());
  if (previous == damaged) return "";
  try {
    const Checkpoint good = parse(read_file(previous, kMaxFileSize));
    return fmt::format(
        "; the previous checkpoint is good (epoch {}, batch {}): continue from it with --resume {}",
        good.epoch + 1, good.batch, previous.string());
  } catch (const Error&) {
    return "";
  }
}

}  // namespace cenote::network
