// The loop over epochs and batches. All that it changes is in the learners and in `state_`, and both go into
// the checkpoint; the order of the images follows from seed and epoch.
#include "network/train/trainer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <cenote/torch/ops.h>
#include <torch/serialize.h>
#include <torch/version.h>

#include <algorithm>
#include <numeric>
#include <sstream>
#include <stdexcept>

#include "cenote/runtime.h"
#include "network/error_text.h"
#include "network/io/file.h"
#include "network/model/layer_table.h"
#include "network/report/curves.h"
#include "network/report/png.h"
#include "network/report/report.h"
#include "network/train/batches.h"
#include "network/train/learner.h"
#include "network/train/progress.h"
#include "network/train/run_folder.h"

namespace cenote::network {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kExamples = 40;
constexpr std::uint64_t kMaxSvgSize = std::uint64_t{1} << 26;

class Run {
 public:
  Run(const TrainSettings& settings, const Dataset& dataset, const fs::path& folder,
      const std::optional<TrainStart>& start, const TrainConsole& console);
  TrainOutcome run();

 private:
  template <class... Args>
  void print(fmt::format_string<Args...> format, Args&&... args);
  void introduce();
  int stop_signal() const { return console_.stop_signal ? console_.stop_signal() : 0; }
  bool train_epoch();
  void train_batch(const std::vector<std::int64_t>& order);
  bool finish_epoch();
  void print_epoch(const EpochMetrics& metrics);
  void save();
  void restore(const TrainStart& start);
  void check_start(const TrainStart& start) const;
  void load_archive();
  void write_report();
  std::vector<Example> examples();
  std::vector<std::pair<std::string, std::string>> setting_rows() const;

  TrainSettings settings_;
  const Dataset& dataset_;
  fs::path folder_;
  TrainConsole console_;
  NetworkSpec spec_;
  std::vector<LayerCost> layers_;
  std::vector<HeadCost> heads_;
  std::vector<Learner> learners_;  // ours, then the baseline if there is one
  Checkpoint state_;
  std::int64_t batches_ = 0;      // per epoch
  bool current_is_good_ = false;  // checkpoint.pt is ours or was read
  bool told_about_curves_ = false;
};

NetworkSpec make_spec(const TrainSettings& settings, const Dataset& dataset) {
  return {dataset.train.channels,
          dataset.train.height,
          dataset.train.width,
          static_cast<std::int64_t>(dataset.class_names.size()),
          downsample_from_name(settings.downsample),
          head_from_name(settings.head)};
}

Run::Run(const TrainSettings& settings, const Dataset& dataset, const fs::path& folder,
         const std::optional<TrainStart>& start, const TrainConsole& console)
    : settings_(settings), dataset_(dataset), folder_(folder), console_(console) {
  check_settings(settings_);
  if (settings_.threads == 0) settings_.threads = at::get_num_threads();
  at::set_num_threads(static_cast<int>(settings_.threads));
  spec_ = make_spec(settings_, dataset_);
  layers_ = layer_costs(spec_);
  heads_ = compare_heads(spec_);
  batches_ = (dataset_.train.count + settings_.batch_size - 1) / settings_.batch_size;

  torch::manual_seed(static_cast<std::uint64_t>(settings_.seed));
  learners_.emplace_back(spec_, Engine::kCenote, settings_.lr);
  if (!settings_.baseline.empty()) {
    learners_.emplace_back(spec_, Engine::kTorch, settings_.lr);
    learners_[1].copy_weights(learners_[0]);
  }
  state_.data_fingerprint = fingerprint(dataset_);
  if (start) restore(*start);
  state_.settings = settings_;
}

template <class... Args>
void Run::print(fmt::format_string<Args...> format, Args&&... args) {
  if (console_.out == nullptr) return;
  fmt::print(console_.out, format, std::forward<Args>(args)...);
  std::fputc('\n', console_.out);
  std::fflush(console_.out);
}

void Run::introduce() {
  if (!dataset_.notice.empty()) print("{}", dataset_.notice);
  print("Data: {}, {} training and {} validation images of {}x{}x{}, {} classes, from {}", dataset_.name,
        dataset_.train.count, dataset_.validation.count, spec_.channels, spec_.height, spec_.width,
        spec_.classes, dataset_.folder);
  std::vector<std::string> names;
  names.reserve(layers_.size());
  for (const LayerCost& layer : layers_) names.push_back(layer.kind);
  print("Network: {}; {} parameters", fmt::join(names, " - "), total_cost(layers_).parameters);
  print("Run folder: {} ({} threads, seed {})", folder_.string(), settings_.threads, settings_.seed);
  if (state_.epoch > 0 || state_.batch > 0) {
    print("Continuing after {} epochs and {} batches", state_.epoch, state_.batch);
  }
}

TrainOutcome Run::run() {
  introduce();
  if (!state_.history.empty()) write_report();
  while (state_.epoch < settings_.epochs) {
    if (!train_epoch() || !finish_epoch()) {
      save();
      return {stop_signal(), state_.history};
    }
  }
  return {0, state_.history};
}

/// False: stopped after a batch.
bool Run::train_epoch() {
  const auto order = epoch_order(dataset_.train.count, settings_.seed, state_.epoch);
  Progress progress(console_.progress, fmt::format("Epoch [{}/{}]", state_.epoch + 1, settings_.epochs),
                    state_.sums[0].images, dataset_.train.count);
  while (state_.batch < batches_) {
    if (stop_signal() != 0) return false;
    train_batch(order);
    progress.update(state_.sums[0].images);
  }
  return true;
}

/// The learners take turns in going first, so that neither always finds the caches warm.
void Run::train_batch(const std::vector<std::int64_t>& order) {
  const std::int64_t begin = state_.batch * settings_.batch_size;
  const std::int64_t count = std::min(settings_.batch_size, dataset_.train.count - begin);
  const Batch batch = make_batch(dataset_.train, std::span(order).subspan(begin, count));
  for (std::size_t turn = 0; turn < learners_.size(); ++turn) {
    const std::size_t i = (turn + static_cast<std::size_t>(state_.batch)) % learners_.size();
    learners_[i].train_step(batch, state_.sums[i]);
  }
  ++state_.batch;
}

/// Validation, then all that is written per epoch. False: stopped; validation then runs again on resuming.
bool Run::finish_epoch() {
  std::vector<Evaluation> results;
  for (Learner& learner : learners_) {
    results.push_back(learner.evaluate(dataset_.validation, [this] { return stop_signal() != 0; }));
    if (!results.back().complete) return false;
  }
  const auto rate = [](const StepSums& sums) {
    return sums.seconds > 0 ? static_cast<double>(sums.images) / sums.seconds : 0.0;
  };
  EpochMetrics metrics;
  metrics.epoch = ++state_.epoch;
  metrics.training_loss = state_.sums[0].loss / static_cast<double>(state_.sums[0].images);
  metrics.validation_loss = results[0].loss;
  metrics.validation_accuracy = results[0].accuracy;
  metrics.images_per_second = rate(state_.sums[0]);
  if (learners_.size() > 1) {
    metrics.baseline_images_per_second = rate(state_.sums[1]);
    metrics.baseline_validation_accuracy = results[1].accuracy;
  }
  state_.batch = 0;
  state_.sums = {};
  state_.history.push_back(metrics);
  save();
  print_epoch(metrics);
  write_report();
  return true;
}

void Run::print_epoch(const EpochMetrics& m) {
  print("Epoch [{}/{}], Training Loss: {:.4f}, Validation Loss: {:.4f}, Validation Accuracy: {:.2f}%",
        m.epoch, settings_.epochs, m.training_loss, m.validation_loss, m.validation_accuracy * 100);
  if (m.baseline_images_per_second > 0) {
    print(
        "Speed: {:.0f} images/s with cenote, {:.0f} images/s in plain torch modules (ratio {:.3f}); plain "
        "torch reached {:.2f}%",
        m.images_per_second, m.baseline_images_per_second, m.images_per_second / m.baseline_images_per_second,
        m.baseline_validation_accuracy * 100);
  }
}

void Run::save() {
  torch::serialize::OutputArchive archive;
  for (std::size_t i = 0; i < learners_.size(); ++i) {
    torch::serialize::OutputArchive part;
    learners_[i].save(part);
    archive.write(fmt::format("learner{}", i), part);
  }
  archive.write("generator", at::detail::getDefaultCPUGenerator().get_state());
  std::ostringstream bytes;
  archive.save_to(bytes);
  state_.archive = std::move(bytes).str();
  write_checkpoint(folder_, state_, current_is_good_);
  current_is_good_ = true;
}

void Run::check_start(const TrainStart& start) const {
  const Checkpoint& checkpoint = start.checkpoint;
  if (checkpoint.data_fingerprint != state_.data_fingerprint) {
    fail(ErrorCode::kInvalidArgument,
         "[train] the images in {} are not those that the run of checkpoint {} was started with",
         dataset_.folder, start.file.string());
  }
  if (checkpoint.batch > batches_) {
    fail(ErrorCode::kBadFile, "[train] checkpoint {} is beyond the end of its epoch{}", start.file.string(),
         advice_about_previous(start.file));
  }
  const std::int64_t begun = checkpoint.epoch + (checkpoint.batch > 0 ? 1 : 0);
  if (settings_.epochs < begun) {
    fail(ErrorCode::kInvalidArgument, "[train] --epochs {} is less than the {} that checkpoint {} has begun",
         settings_.epochs, begun, start.file.string());
  }
}

void Run::restore(const TrainStart& start) {
  check_start(start);
  state_ = start.checkpoint;
  std::string reason;
  try {
    load_archive();
    current_is_good_ = start.file.filename() == checkpoint_path(folder_).filename();
    return;
  } catch (const c10::Error& error) {  // its what() carries a stack trace
    reason = fmt::format("torch cannot read it: {}", error.what_without_backtrace());
  } catch (const Error& error) {
    reason = error.what();
  } catch (const std::exception& error) {
    reason = fmt::format("torch cannot read it: {}", error.what());
  }
  fail(ErrorCode::kBadFile, "[train] checkpoint {} cannot be continued: {}{}", start.file.string(), reason,
       advice_about_previous(start.file));
}

void Run::load_archive() {
  torch::serialize::InputArchive archive;
  archive.load_from(state_.archive.data(), state_.archive.size());
  for (std::size_t i = 0; i < learners_.size(); ++i) {
    torch::serialize::InputArchive part;
    archive.read(fmt::format("learner{}", i), part);
    learners_[i].load(part);
  }
  torch::Tensor generator;
  archive.read("generator", generator);
  const at::Generator& own = at::detail::getDefaultCPUGenerator();
  require_restored(generator, own.get_state(), "the random generator");
  at::Generator(own).set_state(generator);
}

void Run::write_report() {
  write_metrics(folder_, state_.history);
  const std::string problem = draw_curves(folder_);
  if (!problem.empty() && !told_about_curves_) print("{}", problem);
  told_about_curves_ = told_about_curves_ || !problem.empty();
  Report report;
  report.title = fmt::format("cenote train: {}", dataset_.name);
  report.settings = setting_rows();
  report.history = state_.history;
  report.layers = layers_;
  report.heads = heads_;
  report.examples = examples();
  if (problem.empty()) report.curves_svg = read_file(folder_ / "curves.svg", kMaxSvgSize);
  write_file_atomically(folder_ / "index.html", {report_html(report)});
}

std::vector<Example> Run::examples() {
  const Images& images = dataset_.validation;
  std::vector<std::int64_t> indices(static_cast<std::size_t>(std::min(kExamples, images.count)));
  std::iota(indices.begin(), indices.end(), 0);
  const std::vector<std::int64_t> predicted = learners_[0].predict(images, indices);
  std::vector<Example> examples;
  examples.reserve(indices.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    examples.push_back({encode_png(images.image(indices[i]), images.channels, images.height, images.width),
                        dataset_.class_names[images.labels[i]], dataset_.class_names[predicted[i]]});
  }
  return examples;
}

std::vector<std::pair<std::string, std::string>> Run::setting_rows() const {
  const TrainSettings& s = settings_;
  return {{"data", fmt::format("{}, {} training and {} validation images", s.data, dataset_.train.count,
                               dataset_.validation.count)},
          {"data folder", dataset_.folder},
          {"epochs", fmt::format("{} of {} done", state_.epoch, s.epochs)},
          {"batch size", fmt::format("{}", s.batch_size)},
          {"optimiser", fmt::format("Adam, learning rate {}", s.lr)},
          {"loss", "cross-entropy"},
          {"downsampling", s.downsample},
          {"head", s.head},
          {"seed", fmt::format("{}", s.seed)},
          {"threads", fmt::format("{}", s.threads)},
          {"baseline", s.baseline.empty() ? "none" : s.baseline},
          {"cenote", fmt::format("{}, CPU target {}", version(), cpu_target())},
          {"torch", torch_version()}};
}

}  // namespace

std::string torch_version() { return TORCH_VERSION; }

TrainOutcome train(const TrainSettings& settings, const Dataset& dataset, const fs::path& folder,
                   const std::optional<TrainStart>& start, const TrainConsole& console) {
  torch_ops::use_torch_threads();
  try {
    return Run(settings, dataset, folder, start, console).run();
  } catch (const c10::Error& error) {  // its what() carries a stack trace
    throw std::runtime_error(fmt::format("[train] torch failed: {}", error.what_without_backtrace()));
  }
}

}  // namespace cenote::network
