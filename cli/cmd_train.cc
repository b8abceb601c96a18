// `cenote train`: trains the GAP network on real images, or continues a run that was stopped.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "cenote/error.h"
#include "commands.h"
#include "network/data/catalog.h"
#include "network/train/interrupt.h"
#include "network/train/run_folder.h"
#include "network/train/trainer.h"

namespace cenote::cli {
namespace {

namespace net = cenote::network;

constexpr int kSignalBase = 128;  // the shell's convention for "stopped by a signal"

struct TrainFlags {
  net::TrainSettings settings;
  std::string data_dir;
  std::string out;
  std::string resume;
};

/// Names of the settings that stand on the command line.
std::set<std::string> given_options(const CLI::App& command) {
  std::set<std::string> given;
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() > 0) given.insert(option->get_name().substr(2));
  }
  return given;
}

/// An empty text would read like an option that was not given. --resume may stand alone.
void check_not_empty(const CLI::App& command) {
  for (const char* name : {"--data-dir", "--out"}) {
    for (const std::string& text : command.get_option(name)->results()) {
      if (!text.empty()) continue;
      throw Error(ErrorCode::kInvalidArgument, fmt::format("[train] {} must not be empty", name));
    }
  }
}

/// As the shell would have to read it.
std::string shell_quoted(const std::string& text) {
  const bool plain =
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=") ==
      std::string::npos;
  if (plain && !text.empty()) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

/// The run folder or checkpoint to continue from; empty: a new run.
std::filesystem::path resume_path(const TrainFlags& flags, const std::set<std::string>& given) {
  if (given.count("resume") == 0) return {};
  if (flags.resume.empty() && flags.out.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "[train] --resume needs the folder of the run: --resume DIR");
  }
  if (!flags.resume.empty() && !flags.out.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "[train] a run continues in its own folder: give --resume or --out, not both");
  }
  return flags.resume.empty() ? flags.out : flags.resume;
}

int report_outcome(const net::TrainOutcome& outcome, const std::filesystem::path& folder) {
  if (outcome.signal != 0) {
    fmt::print("Stopped by {}; a checkpoint was written. Continue with: cenote train --resume {}\n",
               outcome.signal == SIGINT ? "Ctrl-C" : "SIGTERM", shell_quoted(folder.string()));
    return kSignalBase + outcome.signal;
  }
  fmt::print("Report: {}\n", (folder / "index.html").string());
  return kExitFine;
}

int run_train(const TrainFlags& flags, const std::set<std::string>& given) {
  net::TrainSettings settings = flags.settings;
  if (!flags.data_dir.empty()) settings.data_dir = std::filesystem::absolute(flags.data_dir);
  net::check_settings(settings);
  std::filesystem::path folder;
  std::optional<net::TrainStart> start;
  if (const std::filesystem::path path = resume_path(flags, given); !path.empty()) {
    const net::ResumePoint point = net::find_resume_point(path);
    folder = point.folder;
    start = net::TrainStart{net::read_checkpoint(point.checkpoint), point.checkpoint};
    settings = net::resume_settings(start->checkpoint.settings, settings, given);
  }
  const net::Dataset dataset = net::load_dataset(settings.data, settings.data_dir, settings.limit);
  if (!start) folder = net::create_run_folder(flags.out, settings.data);  // not before the data is there
  const net::InterruptGuard guard;
  net::TrainConsole console;
  console.out = stdout;
  console.progress = stderr;
  console.stop_signal = [] { return net::InterruptGuard::signal(); };
  return report_outcome(net::train(settings, dataset, folder, start, console), folder);
}

void add_network_options(CLI::App& command, net::TrainSettings& settings) {
  const auto group = "Network";
  command
      .add_option(
          "--downsample", settings.downsample,
          "How the second convolution halves the image: strided, or stride 1, then 2x2 max or avg pooling")
      ->check(CLI::IsMember({"strided", "max", "avg"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--head", settings.head,
                  "gap: global average pooling before the linear layer; flatten: none")
      ->check(CLI::IsMember({"gap", "flatten"}))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--baseline", settings.baseline,
                  "torch: also train the same network in plain torch modules, and compare images per second")
      ->check(CLI::IsMember({"torch"}))
      ->group(group);
}

void add_training_options(CLI::App& command, net::TrainSettings& settings) {
  const auto group = "Training";
  command.add_option("--epochs", settings.epochs, "Passes over the training images")
      ->capture_default_str()
      ->group(group);
  command.add_option("--batch-size", settings.batch_size, "Images per step")
      ->capture_default_str()
      ->group(group);
  command.add_option("--lr", settings.lr, "Learning rate of Adam")->capture_default_str()->group(group);
  command.add_option("--seed", settings.seed, "Decides the first weights and the order of the images")
      ->capture_default_str()
      ->group(group);
  command.add_option("--threads", settings.threads, "Threads; 0: one per core")
      ->capture_default_str()
      ->group(group);
}

void add_data_options(CLI::App& command, TrainFlags& flags) {
  const auto group = "Data";
  command.add_option("--data", flags.settings.data, "fashion-mnist, mnist or cifar10")
      ->capture_default_str()
      ->group(group);
  command.add_option("--data-dir", flags.data_dir, "Folder of its files; default: the standard places")
      ->type_name("DIR")
      ->group(group);
  command.add_option("--limit", flags.settings.limit, "Only the first N images of each split; 0: all")
      ->type_name("N")
      ->capture_default_str()
      ->group(group);
}

void add_folder_options(CLI::App& command, TrainFlags& flags) {
  const auto group = "Run folder";
  command.add_option("--out", flags.out, "New folder for checkpoints and report; default: runs/DATA-NUMBER")
      ->type_name("DIR")
      ->group(group);
  command
      .add_option("--resume", flags.resume,
                  "Continue the run in this folder, or from this checkpoint file (only one that you trust), "
                  "with its settings; only --epochs, --threads and --data-dir may change")
      ->type_name("DIR")
      ->expected(0, 1)
      ->group(group);
}

}  // namespace

std::string torch_version() { return net::torch_version(); }

void add_train(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("train", "Train the GAP network on images and write a report");
  const auto flags = std::make_shared<TrainFlags>();
  add_data_options(*command, *flags);
  add_training_options(*command, flags->settings);
  add_network_options(*command, flags->settings);
  add_folder_options(*command, *flags);
  command->footer(
      "Examples:\n"
      "  cenote train               two epochs on Fashion-MNIST, report in runs/fashion-mnist-1\n"
      "  cenote train --downsample max --head flatten\n"
      "  cenote train --data cifar10 --data-dir ~/cifar-10-batches-bin --epochs 20 --out runs/cifar\n"
      "  cenote train --resume runs/cifar --epochs 40\n\n"
      "Ctrl-C finishes the batch, writes a checkpoint and exits with 130 (SIGTERM: 143); a second one\n"
      "kills. A continued run ends bit for bit like one that was never stopped, if the number of\n"
      "threads is the same.\n"
      "Continue only from checkpoints that you trust: they are archives of torch, which may carry code.");
  command->callback([command, flags, &exit_code] {
    check_not_empty(*command);
    exit_code = run_train(*flags, given_options(*command));
  });
}

}  // namespace cenote::cli
