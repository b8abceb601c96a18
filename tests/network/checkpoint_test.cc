// Checkpoint files and run folders: nothing good is lost, nothing damaged is believed.
#include "network/train/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "files.h"
#include "network/io/file.h"
#include "network/train/progress.h"
#include "network/train/run_folder.h"
#include "support/errors.h"

namespace cenote::network {
namespace {

using cenote_test::expect_error;
using cenote_test::expect_invalid;

/// Writing files beyond `bytes` fails while it lives, as it does on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_limit_);
    struct rlimit limit = old_limit_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_limit_);
    std::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*old_handler_)(int);
  struct rlimit old_limit_ = {};
};

Checkpoint example(std::int64_t batch) {
  Checkpoint checkpoint;
  checkpoint.settings.lr = 0.1 + 0.2;  // not a short decimal
  checkpoint.data_fingerprint = 0xFFFFFFFF;
  checkpoint.epoch = 1;
  checkpoint.batch = batch;
  checkpoint.sums = {StepSums{1.0 / 3, 48, 0.25}, StepSums{}};
  checkpoint.history = {{1, 0.5, 2.0 / 3, 0.75, 1000, 900, 0.5}};
  checkpoint.archive = std::string("torch\0bytes", 11);
  return checkpoint;
}

std::size_t file_count(const std::filesystem::path& folder) {
  const std::filesystem::directory_iterator entries(folder);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

TEST(Checkpoint, ComesBackExactly) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), example(7), false);
  const Checkpoint got = read_checkpoint(checkpoint_path(folder.path()));
  const Checkpoint want = example(7);
  EXPECT_EQ(got.settings.lr, want.settings.lr);
  EXPECT_EQ(got.data_fingerprint, want.data_fingerprint);
  EXPECT_EQ(got.epoch, 1);
  EXPECT_EQ(got.batch, 7);
  EXPECT_EQ(got.sums[0].loss, want.sums[0].loss);
  EXPECT_EQ(got.sums[0].images, 48);
  ASSERT_EQ(got.history.size(), 1U);
  EXPECT_EQ(got.history[0].validation_loss, want.history[0].validation_loss);
  EXPECT_EQ(got.archive, want.archive);
}

TEST(Checkpoint, KeepsThePreviousOneUnlessItIsBad) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), example(1), false);
  write_checkpoint(folder.path(), example(2), true);
  EXPECT_EQ(read_checkpoint(previous_checkpoint_path(folder.path())).batch, 1);
  EXPECT_EQ(read_checkpoint(checkpoint_path(folder.path())).batch, 2);
  write_checkpoint(folder.path(), example(3), false);
  EXPECT_EQ(read_checkpoint(previous_checkpoint_path(folder.path())).batch, 1);
  EXPECT_EQ(read_checkpoint(checkpoint_path(folder.path())).batch, 3);
  EXPECT_EQ(file_count(folder.path()), 2U);
}

TEST(Checkpoint, NoticesEveryFlippedByteAndEveryTruncation) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), example(1), false);
  const auto path = checkpoint_path(folder.path());
  const std::string good = read_bytes(path);
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    write_bytes(path, bad);
    expect_error([&] { read_checkpoint(path); }, ErrorCode::kBadFile, {"is damaged"});
    write_bytes(path, good.substr(0, i));
    expect_error([&] { read_checkpoint(path); }, ErrorCode::kBadFile, {"is damaged"});
  }
  write_bytes(path, good + '\0');
  expect_error([&] { read_checkpoint(path); }, ErrorCode::kBadFile, {"is damaged", "overlong"});
}

TEST(Checkpoint, NamesThePreviousOneWhenThatIsGood) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), example(1), false);
  write_checkpoint(folder.path(), example(2), true);
  const auto path = checkpoint_path(folder.path());
  const std::string previous = previous_checkpoint_path(folder.path()).string();
  write_bytes(path, "garbage");
  const std::string advice = "--resume " + previous;
  expect_error([&] { read_checkpoint(path); }, ErrorCode::kBadFile,
               {"is damaged", "epoch 2, batch 1", advice.c_str()});
  std::filesystem::remove(path);
  expect_error([&] { read_checkpoint(path); }, ErrorCode::kBadFile, {"is missing", advice.c_str()});
  write_bytes(previous, "garbage too");
  try {
    read_checkpoint(path);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("--resume")));
  }
}

TEST(Checkpoint, SurvivesAFullDisk) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), example(1), false);
  Checkpoint big = example(2);
  big.archive.assign(1 << 20, 'x');
  {
    const FileSizeLimit full(1 << 16);
    const std::string kept = checkpoint_path(folder.path()).string() + ", is kept";
    expect_error([&] { write_checkpoint(folder.path(), big, true); }, ErrorCode::kIo,
                 {"no checkpoint was written", kept.c_str()});
  }
  EXPECT_EQ(read_checkpoint(checkpoint_path(folder.path())).batch, 1);
  EXPECT_EQ(file_count(folder.path()), 1U) << "a temporary file was left";
}

TEST(AtomicFile, LeavesTheOldFileWhenWritingFails) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "file", {"old"});
  {
    const FileSizeLimit full(16);
    expect_error([&] { write_file_atomically(folder / "file", {"much more ", "than sixteen bytes"}); },
                 ErrorCode::kIo, {"cannot write"});
  }
  EXPECT_EQ(read_bytes(folder / "file"), "old");
  EXPECT_EQ(file_count(folder.path()), 1U);
  expect_error([&] { write_file_atomically(folder / "none/file", {"x"}); }, ErrorCode::kIo, {"No such file"});
}

TEST(RunFolder, NeverTakesOneThatIsInUse) {
  const TemporaryFolder folder;
  const auto out = folder / "run";
  EXPECT_EQ(create_run_folder(out, "mnist"), out);
  EXPECT_EQ(create_run_folder(out, "mnist"), out) << "an empty folder is free";
  write_bytes(out / "metrics.csv", "");
  expect_invalid([&] { create_run_folder(out, "mnist"); }, {"is not empty", "--resume"});
  expect_invalid([&] { create_run_folder(out / "metrics.csv", "mnist"); }, {"is not a folder"});
}

TEST(RunFolder, NumbersRunsWithoutAName) {
  const TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  EXPECT_EQ(create_run_folder("", "mnist"), "runs/mnist-1");
  EXPECT_EQ(create_run_folder("", "mnist"), "runs/mnist-2");
  EXPECT_EQ(create_run_folder("", "cifar10"), "runs/cifar10-1");
  std::filesystem::current_path(before);
}

TEST(RunFolder, ResumesFromAFolderOrAFile) {
  const TemporaryFolder folder;
  write_bytes(folder / "checkpoint.prev.pt", "");
  EXPECT_EQ(find_resume_point(folder.path()).checkpoint, folder / "checkpoint.pt");
  const ResumePoint point = find_resume_point(folder / "checkpoint.prev.pt");
  EXPECT_EQ(point.folder, folder.path());
  EXPECT_EQ(point.checkpoint, folder / "checkpoint.prev.pt");
  expect_invalid([&] { find_resume_point(folder / "none"); }, {"no such run folder"});
}

TEST(Settings, MayOnlyChangeInThreeWaysOnResuming) {
  TrainSettings saved;
  TrainSettings asked;
  asked.epochs = 9;
  asked.lr = 0.5;
  asked.seed = 3;
  const TrainSettings merged = resume_settings(saved, asked, {"epochs", "resume"});
  EXPECT_EQ(merged.epochs, 9);
  EXPECT_EQ(merged.lr, saved.lr);
  expect_invalid([&] { resume_settings(saved, asked, {"lr", "seed"}); },
                 {"--lr 0.5", "--seed 3", "the run has 0.01"});
  asked.lr = saved.lr;
  EXPECT_NO_THROW(resume_settings(saved, asked, {"lr"})) << "the same value is no conflict";
}

TEST(Settings, AreChecked) {
  const auto expect = [](auto change, const char* fragment) {
    TrainSettings settings;
    change(settings);
    expect_invalid([&] { check_settings(settings); }, {fragment});
  };
  expect([](TrainSettings& s) { s.epochs = 0; }, "--epochs must be from 1");
  expect([](TrainSettings& s) { s.batch_size = -1; }, "--batch-size must be from 1 to 65536, got -1");
  expect([](TrainSettings& s) { s.lr = 0; }, "--lr must be a positive number, got 0");
  expect([](TrainSettings& s) { s.lr = std::numeric_limits<double>::quiet_NaN(); }, "--lr");
  expect([](TrainSettings& s) { s.threads = 5000; }, "--threads");
  expect([](TrainSettings& s) { s.limit = -1; }, "--limit");
  expect([](TrainSettings& s) { s.seed = -1; }, "--seed");
  expect([](TrainSettings& s) { s.head = "none"; }, "--head must be one of gap, flatten, got 'none'");
}

TEST(Progress, SaysRateAndTimeLeft) {
  EXPECT_EQ(progress_text("Epoch [1/2]", 0, 250, 1000, 0.5, 200, false),
            "Epoch [1/2]  25%  250/1000 images  500 images/s  ETA 0:02");
  EXPECT_EQ(progress_text("E", 500, 750, 1000, 0.5, 200, true),
            "E [##################......]  75%  500 images/s  ETA 0:01");
  EXPECT_EQ(progress_text("Epoch", 0, 0, 1000, 0, 200, false), "Epoch   0%  0/1000 images");
  EXPECT_THAT(progress_text("E", 0, 1, 72001, 1, 200, false), testing::EndsWith("1 images/s  ETA 20:00:00"));
  EXPECT_EQ(progress_text("Epoch [1/2]", 0, 250, 1000, 0.5, 20, true).size(), 19U);
}

}  // namespace
}  // namespace cenote::network
