// Nothing here overwrites a run: a new run gets a new folder, an old one is only continued.
#include "network/train/run_folder.h"

#include <cerrno>
#include <system_error>

#include "network/error_text.h"
#include "network/io/file.h"
#include "network/train/checkpoint.h"

namespace cenote::network {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxRuns = 1'000'000;

fs::path create_numbered_folder(const std::string& data) {
  create_folder("runs");
  for (int number = 1; number <= kMaxRuns; ++number) {
    const fs::path folder = fs::path("runs") / fmt::format("{}-{}", data, number);
    std::error_code error;
    if (fs::create_directory(folder, error)) return folder;  // false without an error: somebody has it
    if (error && error.value() != EEXIST) {
      fail(ErrorCode::kIo, "cannot create the folder {}: {}", folder.string(), error.message());
    }
  }
  fail(ErrorCode::kIo, "runs/ has {} runs of {}; name a folder with --out", kMaxRuns, data);
}

}  // namespace

fs::path create_run_folder(const fs::path& out, const std::string& data) {
  if (out.empty()) return create_numbered_folder(data);
  std::error_code error;
  if (fs::exists(out, error) && !fs::is_directory(out, error)) {
    fail(ErrorCode::kInvalidArgument, "[train] --out {} is not a folder", out.string());
  }
  create_folder(out);
  const bool empty = fs::is_empty(out, error);
  if (error) fail(ErrorCode::kIo, "cannot read the folder {}: {}", out.string(), error.message());
  if (!empty) {
    fail(ErrorCode::kInvalidArgument,
         "[train] --out {} is not empty; name a new folder, or continue the run in it with --resume {}",
         out.string(), out.string());
  }
  return out;
}

ResumePoint find_resume_point(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return {path, checkpoint_path(path)};
  if (fs::exists(path, error)) return {path.has_parent_path() ? path.parent_path() : fs::path("."), path};
  fail(ErrorCode::kInvalidArgument, "[train] --resume {}: there is no such run folder or checkpoint",
       path.string());
}

void write_metrics(const fs::path& folder, const std::vector<EpochMetrics>& history) {
  std::string csv =
      "epoch,training_loss,validation_loss,validation_accuracy,images_per_second,baseline_images_per_second,"
      "baseline_validation_accuracy\n";
  for (const EpochMetrics& m : history) {
    csv += fmt::format("{},{:.6f},{:.6f},{:.6f},{:.1f},{:.1f},{:.6f}\n", m.epoch, m.training_loss,
                       m.validation_loss, m.validation_accuracy, m.images_per_second,
                       m.baseline_images_per_second, m.baseline_validation_accuracy);
  }
  write_file_atomically(folder / "metrics.csv", {csv});
}

}  // namespace cenote::network
