// Training on the subset in the repository: it learns, and stopping it changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/serialize.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <set>
#include <sstream>

#include "files.h"
#include "network/data/catalog.h"
#include "network/train/batches.h"
#include "network/train/learner.h"
#include "network/train/trainer.h"
#include "support/errors.h"

namespace cenote::network {
namespace {

using testing::HasSubstr;

const Dataset& subset() {
  static const Dataset dataset = load_dataset("fashion-mnist", CENOTE_TEST_DATA "/fashion-mnist-subset", 128);
  return dataset;
}

TrainSettings small_settings() {
  TrainSettings settings;
  settings.limit = 128;
  settings.threads = 2;
  return settings;
}

/// Stops the run when it has asked `count` times.
TrainConsole stop_after(int count) {
  TrainConsole console;
  console.stop_signal = [left = count]() mutable { return left-- > 0 ? 0 : 15; };
  return console;
}

TrainStart start_of(const std::filesystem::path& folder) {
  return {read_checkpoint(checkpoint_path(folder)), checkpoint_path(folder)};
}

/// The learners of a checkpoint, rebuilt from it.
std::vector<Learner> learners_of(const Checkpoint& checkpoint) {
  torch::serialize::InputArchive archive;
  archive.load_from(checkpoint.archive.data(), checkpoint.archive.size());
  NetworkSpec spec;
  spec.downsample = downsample_from_name(checkpoint.settings.downsample);
  spec.head = head_from_name(checkpoint.settings.head);
  std::vector<Learner> learners;
  for (const char* name : {"learner0", "learner1"}) {
    torch::serialize::InputArchive part;
    if (!archive.try_read(name, part)) continue;
    learners.emplace_back(spec, Engine::kTorch, checkpoint.settings.lr);
    learners.back().load(part);
  }
  return learners;
}

/// Weights and the state of Adam.
void expect_same_bits(const Learner& a, const Learner& b) {
  const auto left = a.network()->named_parameters();
  const auto right = b.network()->named_parameters();
  ASSERT_EQ(left.size(), 6U) << "the weights and biases of three layers";
  for (const auto& parameter : left) {
    const torch::Tensor& other = right[parameter.key()];
    EXPECT_TRUE(torch::equal(parameter.value(), other)) << parameter.key();
    const auto adam = [](const Learner& learner, const torch::Tensor& tensor) {
      const auto& state = learner.optimiser().state().at(tensor.unsafeGetTensorImpl());
      return static_cast<const torch::optim::AdamParamState&>(*state);
    };
    EXPECT_EQ(adam(a, parameter.value()).step(), adam(b, other).step());
    EXPECT_TRUE(torch::equal(adam(a, parameter.value()).exp_avg(), adam(b, other).exp_avg()))
        << parameter.key();
    EXPECT_TRUE(torch::equal(adam(a, parameter.value()).exp_avg_sq(), adam(b, other).exp_avg_sq()))
        << parameter.key();
  }
}

/// `learners`: how many of the learners both checkpoints must agree on.
void expect_same_bits(const Checkpoint& a, const Checkpoint& b, std::size_t learners = 1) {
  const auto left = learners_of(a);
  const auto right = learners_of(b);
  ASSERT_GE(std::min(left.size(), right.size()), learners);
  for (std::size_t i = 0; i < learners; ++i) expect_same_bits(left[i], right[i]);
  ASSERT_EQ(a.history.size(), b.history.size());
  for (std::size_t i = 0; i < a.history.size(); ++i) {
    EXPECT_EQ(a.history[i].training_loss, b.history[i].training_loss);
    EXPECT_EQ(a.history[i].validation_loss, b.history[i].validation_loss);
    EXPECT_EQ(a.history[i].validation_accuracy, b.history[i].validation_accuracy);
  }
}

TEST(EpochOrder, IsAPermutationOfSeedAndEpoch) {
  const auto order = epoch_order(100, 1, 0);
  EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), 100U);
  EXPECT_EQ(order, epoch_order(100, 1, 0));
  EXPECT_NE(order, epoch_order(100, 1, 1));
  EXPECT_NE(order, epoch_order(100, 2, 0));
  EXPECT_NE(epoch_order(100, 0, 1), epoch_order(100, 1, 0));
}

TEST(Batch, NormalisesAndInterleaves) {
  Images images{2, 3, 1, 2, {0, 0, 0, 0, 0, 0, 0, 255, 51, 102, 153, 204}, {4, 9}};
  const std::vector<std::int64_t> indices = {1};
  const Batch batch = make_batch(images, indices);
  EXPECT_TRUE(batch.images.is_contiguous(torch::MemoryFormat::ChannelsLast));
  const torch::Tensor want = torch::tensor({-1.0F, 1.0F, -0.6F, -0.2F, 0.2F, 0.6F}).reshape({1, 3, 1, 2});
  EXPECT_TRUE(torch::allclose(batch.images, want, 0, 1e-6));
  EXPECT_EQ(batch.labels.item<std::int64_t>(), 9);
}

TEST(Network, AgreesWithPlainTorch) {
  for (const Downsample downsample : {Downsample::kStrided, Downsample::kMax, Downsample::kAvg}) {
    NetworkSpec spec;
    spec.downsample = downsample;
    torch::manual_seed(5);
    Learner ours(spec, Engine::kCenote, 0.01);
    Learner plain(spec, Engine::kTorch, 0.01);
    plain.copy_weights(ours);
    std::vector<std::int64_t> indices(16);
    std::iota(indices.begin(), indices.end(), 0);
    StepSums our_sums, plain_sums;
    for (int step = 0; step < 3; ++step) {
      const Batch batch = make_batch(subset().train, indices);
      ours.train_step(batch, our_sums);
      plain.train_step(batch, plain_sums);
    }
    EXPECT_NEAR(our_sums.loss, plain_sums.loss, 1e-2 * plain_sums.loss);  // Adam amplifies the last bits
    EXPECT_GT(our_sums.seconds, 0);
  }
}

TEST(Training, LearnsAndWritesTheRunFolder) {
  const TemporaryFolder folder;
  std::FILE* out = std::fopen((folder / "out.txt").c_str(), "w+");
  TrainConsole console;
  console.out = out;
  const Dataset dataset = load_dataset("fashion-mnist", CENOTE_TEST_DATA "/fashion-mnist-subset", 1000);
  const TrainOutcome outcome = train(small_settings(), dataset, folder.path(), {}, console);
  std::fclose(out);
  EXPECT_EQ(outcome.signal, 0);
  ASSERT_EQ(outcome.history.size(), 2U);
  EXPECT_LT(outcome.history[1].training_loss, outcome.history[0].training_loss);
  EXPECT_GT(outcome.history[1].validation_accuracy, 0.3) << "three times as good as guessing";
  EXPECT_THAT(read_bytes(folder / "out.txt"),
              testing::ContainsRegex("\nEpoch \\[2/2\\], Training Loss: [0-9]+\\.[0-9]{4}, Validation Loss: "
                                     "[0-9]+\\.[0-9]{4}, Validation Accuracy: [0-9]+\\.[0-9]{2}%\n"));
  EXPECT_THAT(read_bytes(folder / "metrics.csv"), testing::ContainsRegex("^epoch,.*\n1,.*\n2,.*\n$"));
  const std::string html = read_bytes(folder / "index.html");
  EXPECT_THAT(html, HasSubstr("2 of 2 done"));
  EXPECT_THAT(html, HasSubstr("Ankle boot"));
  EXPECT_THAT(html, testing::Not(HasSubstr("http")));
}

TEST(Training, ContinuesBitForBit) {
  const TemporaryFolder whole, stopped;
  train(small_settings(), subset(), whole.path(), {}, {});
  // 8 batches and 2 validation steps per epoch: in the first epoch, in its validation, in the second epoch.
  EXPECT_EQ(train(small_settings(), subset(), stopped.path(), {}, stop_after(5)).signal, 15);
  EXPECT_EQ(start_of(stopped.path()).checkpoint.batch, 5);
  train(small_settings(), subset(), stopped.path(), start_of(stopped.path()), stop_after(4));
  EXPECT_EQ(start_of(stopped.path()).checkpoint.batch, 8);
  train(small_settings(), subset(), stopped.path(), start_of(stopped.path()), stop_after(5));
  EXPECT_EQ(start_of(stopped.path()).checkpoint.epoch, 1);
  EXPECT_EQ(start_of(stopped.path()).checkpoint.batch, 3);
  EXPECT_EQ(train(small_settings(), subset(), stopped.path(), start_of(stopped.path()), {}).signal, 0);
  expect_same_bits(start_of(whole.path()).checkpoint, start_of(stopped.path()).checkpoint);
}

TEST(Training, GoesOnForMoreEpochsAsIfAskedAtOnce) {
  const TemporaryFolder once, twice;
  TrainSettings settings = small_settings();
  settings.head = "flatten";
  settings.downsample = "max";
  train(settings, subset(), once.path(), {}, {});
  settings.epochs = 1;
  train(settings, subset(), twice.path(), {}, {});
  settings.epochs = 2;
  train(settings, subset(), twice.path(), start_of(twice.path()), {});
  expect_same_bits(start_of(once.path()).checkpoint, start_of(twice.path()).checkpoint);
}

TEST(Training, ComparesWithTheBaseline) {
  const TemporaryFolder whole, stopped;
  TrainSettings settings = small_settings();
  settings.baseline = "torch";
  settings.epochs = 1;
  const auto history = train(settings, subset(), whole.path(), {}, {}).history;
  ASSERT_EQ(history.size(), 1U);
  EXPECT_GT(history[0].images_per_second, 0);
  EXPECT_GT(history[0].baseline_images_per_second, 0);
  train(settings, subset(), stopped.path(), {}, stop_after(6));
  train(settings, subset(), stopped.path(), start_of(stopped.path()), {});
  expect_same_bits(start_of(whole.path()).checkpoint, start_of(stopped.path()).checkpoint, 2);

  settings.baseline.clear();
  const TemporaryFolder alone;
  train(settings, subset(), alone.path(), {}, {});
  expect_same_bits(start_of(whole.path()).checkpoint, start_of(alone.path()).checkpoint);
}

TEST(Training, RejectsOtherDataAndOtherNetworks) {
  const TemporaryFolder folder, other;
  train(small_settings(), subset(), folder.path(), {}, stop_after(2));
  Dataset changed = subset();
  changed.train.pixels[0] ^= 1;
  const auto resume = [&](const Dataset& dataset, const TrainStart& start) {
    train(start.checkpoint.settings, dataset, folder.path(), start, {});
  };
  cenote_test::expect_invalid([&] { resume(changed, start_of(folder.path())); },
                              {"not those that the run of checkpoint", "checkpoint.pt was started with"});
  TrainStart flatten = start_of(folder.path());
  flatten.checkpoint.settings.head = "flatten";
  cenote_test::expect_error([&] { resume(subset(), flatten); }, ErrorCode::kBadFile,
                            {"checkpoint.pt cannot be continued", "another network"});
  TrainStart garbage = start_of(folder.path());
  garbage.checkpoint.archive = "not what torch writes";
  cenote_test::expect_error([&] { resume(subset(), garbage); }, ErrorCode::kBadFile, {"torch cannot read"});
}

/// The archive of a checkpoint after `forge` has changed weights and state of its learner.
std::string forged_archive(const Checkpoint& checkpoint,
                           const std::function<void(torch::nn::Sequential&, torch::optim::Adam&)>& forge) {
  std::vector<Learner> learners = learners_of(checkpoint);
  torch::nn::Sequential network = learners[0].network();
  torch::optim::Adam optimiser(network->parameters(), torch::optim::AdamOptions(checkpoint.settings.lr));
  for (const torch::Tensor& parameter : network->parameters()) {
    auto state = std::make_unique<torch::optim::AdamParamState>();
    state->step(1).exp_avg(torch::zeros_like(parameter)).exp_avg_sq(torch::ones_like(parameter));
    optimiser.state()[parameter.unsafeGetTensorImpl()] = std::move(state);
  }
  forge(network, optimiser);
  torch::serialize::OutputArchive archive, learner, weights, adam;
  network->save(weights);
  optimiser.save(adam);
  learner.write("network", weights);
  learner.write("optimiser", adam);
  archive.write("learner0", learner);
  archive.write("generator", torch::zeros({3}, torch::kByte));
  std::ostringstream bytes;
  archive.save_to(bytes);
  return std::move(bytes).str();
}

TEST(Training, RejectsForgedArchives) {
  const TemporaryFolder folder;
  train(small_settings(), subset(), folder.path(), {}, stop_after(2));
  using Forge = std::function<void(torch::nn::Sequential&, torch::optim::Adam&)>;
  const auto expect_refused = [&](const Forge& forge, const char* fragment) {
    TrainStart start = start_of(folder.path());
    start.checkpoint.archive = forged_archive(start.checkpoint, forge);
    cenote_test::expect_error([&] { train(small_settings(), subset(), folder.path(), start, {}); },
                              ErrorCode::kBadFile, {"checkpoint.pt cannot be continued", fragment});
  };
  const auto state_of = [](torch::nn::Sequential& network, torch::optim::Adam& adam) -> auto& {
    auto& state = adam.state().at(network->parameters().front().unsafeGetTensorImpl());
    return static_cast<torch::optim::AdamParamState&>(*state);
  };
  expect_refused([](auto&, auto&) {}, "the random generator");  // all else is right
  expect_refused([](auto& network, auto&) { network->parameters().front().set_data(torch::zeros({3})); },
                 "a weight");
  expect_refused([](auto& network, auto&) { network->to(torch::kDouble); }, "");
  expect_refused([&](auto& net, auto& adam) { state_of(net, adam).exp_avg(torch::zeros({3})); }, "a mean");
  expect_refused([&](auto& net, auto& adam) { state_of(net, adam).exp_avg_sq(torch::zeros({})); },
                 "a variance");
  expect_refused([&](auto& net, auto& adam) { state_of(net, adam).step(-1); }, "-1 steps");
  expect_refused(
      [](auto&, auto& adam) {
        static_cast<torch::optim::AdamOptions&>(adam.param_groups()[0].options()).amsgrad(true);
      },
      "another optimiser");
}

TEST(Restored, LiesInsideItsStorage) {
  const torch::Tensor like = torch::zeros({2, 3});
  EXPECT_NO_THROW(require_restored(torch::ones({2, 3}), like, "it"));
  EXPECT_NO_THROW(require_restored(torch::ones({9}).narrow(0, 3, 6).view({2, 3}), like, "it"));
  const auto refuse = [&](const torch::Tensor& tensor, const char* fragment) {
    cenote_test::expect_error([&] { require_restored(tensor, like, "it"); }, ErrorCode::kBadFile, {fragment});
  };
  refuse(torch::Tensor(), "another type or shape");
  refuse(torch::ones({3, 2}), "another type or shape");
  refuse(torch::ones({2, 3}, torch::kDouble), "another type or shape");
  refuse(torch::ones({1}).expand({2, 3}), "another type or shape");
  torch::Tensor outside = torch::ones({6});
  outside.unsafeGetTensorImpl()->set_sizes_and_strides(c10::IntArrayRef({2, 3}), c10::IntArrayRef({3, 1}), 1);
  refuse(outside, "lies outside");
}

TEST(Training, SaysWhenTheLossIsLost) {
  const TemporaryFolder folder;
  TrainSettings settings = small_settings();
  settings.lr = 1e30;
  cenote_test::expect_invalid([&] { train(settings, subset(), folder.path(), {}, {}); },
                              {"a lower --lr may help"});
}

}  // namespace
}  // namespace cenote::network
