// A network with its optimiser: one training step, an evaluation, and both states to and from an archive.
#pragma once

#include <torch/nn.h>
#include <torch/optim/adam.h>
#include <torch/serialize/archive.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "network/data/dataset.h"
#include "network/model/gap_network.h"
#include "network/train/batches.h"
#include "network/train/metrics.h"

namespace cenote::network {

struct Evaluation {
  double loss = 0;       // mean per image
  double accuracy = 0;   // 0 to 1
  bool complete = true;  // false: `stop` said so
};

/// Throws Error (kBadFile) unless `tensor`, from an archive, has type and shape of `like` and lies inside its
/// storage. `what` names it.
void require_restored(const torch::Tensor& tensor, const torch::Tensor& like, const char* what);

class Learner {
 public:
  Learner(const NetworkSpec& spec, Engine engine, double lr);

  /// Starts from the weights of `other`.
  void copy_weights(const Learner& other);

  /// One step of Adam on the cross-entropy of the batch; adds to `sums`. Throws Error (kInvalidArgument) when
  /// the loss is no longer finite.
  void train_step(const Batch& batch, StepSums& sums);

  /// Over all images; asks `stop` now and then.
  Evaluation evaluate(const Images& images, const std::function<bool()>& stop);

  /// The most probable class of each image.
  std::vector<std::int64_t> predict(const Images& images, std::span<const std::int64_t> indices);

  void save(torch::serialize::OutputArchive& archive) const;
  /// Throws Error (kBadFile) for weights or an optimiser of another network, c10::Error for an archive that
  /// is malformed. The learner is then of no more use.
  void load(torch::serialize::InputArchive& archive);

  const torch::nn::Sequential& network() const { return network_; }
  const torch::optim::Adam& optimiser() const { return optimiser_; }

 private:
  void load_optimiser(torch::serialize::InputArchive& archive);

  torch::nn::Sequential network_;
  torch::optim::Adam optimiser_;
};

}  // namespace cenote::network
