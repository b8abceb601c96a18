// Cross-entropy and Adam on the network of model/.
#include "network/train/learner.h"

#include <torch/nn/functional/loss.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "network/error_text.h"

namespace cenote::network {
namespace {

namespace functional = torch::nn::functional;

constexpr std::int64_t kEvaluationBatch = 64;

}  // namespace

Learner::Learner(const NetworkSpec& spec, Engine engine, double lr)
    : network_(build_network(spec, engine)),
      optimiser_(network_->parameters(), torch::optim::AdamOptions(lr)) {}

void require_restored(const torch::Tensor& tensor, const torch::Tensor& like, const char* what) {
  if (!tensor.defined() || !tensor.device().is_cpu() || tensor.layout() != torch::kStrided ||
      tensor.scalar_type() != like.scalar_type() || tensor.sizes() != like.sizes() ||
      !tensor.is_non_overlapping_and_dense()) {
    fail(ErrorCode::kBadFile, "it belongs to another network: {} has another type or shape", what);
  }
  // torch believes the offset that stands in the file.
  const auto elements = static_cast<std::int64_t>(tensor.storage().nbytes() / tensor.element_size());
  const std::int64_t offset = tensor.storage_offset();
  if (offset < 0 || offset > elements || tensor.numel() > elements - offset) {
    fail(ErrorCode::kBadFile, "{} lies outside the data", what);
  }
}

void Learner::copy_weights(const Learner& other) {
  const torch::NoGradGuard no_grad;
  const auto from = other.network_->named_parameters();
  for (auto& parameter : network_->named_parameters()) parameter.value().copy_(from[parameter.key()]);
}

void Learner::train_step(const Batch& batch, StepSums& sums) {
  const auto begin = std::chrono::steady_clock::now();
  optimiser_.zero_grad();
  const torch::Tensor loss = torch::cross_entropy_loss(network_->forward(batch.images), batch.labels);
  loss.backward();
  optimiser_.step();
  const auto value = static_cast<double>(loss.item<float>());
  sums.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (!std::isfinite(value)) {
    fail(ErrorCode::kInvalidArgument, "[train] the training loss became {}; a lower --lr may help", value);
  }
  const std::int64_t images = batch.labels.size(0);
  sums.loss += value * static_cast<double>(images);
  sums.images += images;
}

Evaluation Learner::evaluate(const Images& images, const std::function<bool()>& stop) {
  const torch::NoGradGuard no_grad;
  std::vector<std::int64_t> indices(static_cast<std::size_t>(std::min(images.count, kEvaluationBatch)));
  Evaluation result;
  std::int64_t correct = 0;
  for (std::int64_t begin = 0; begin < images.count; begin += kEvaluationBatch) {
    if (stop()) {
      result.complete = false;
      return result;
    }
    indices.resize(static_cast<std::size_t>(std::min(kEvaluationBatch, images.count - begin)));
    std::iota(indices.begin(), indices.end(), begin);
    const Batch batch = make_batch(images, indices);
    const torch::Tensor scores = network_->forward(batch.images);
    result.loss += functional::cross_entropy(scores, batch.labels,
                                             functional::CrossEntropyFuncOptions().reduction(torch::kSum))
                       .item<double>();
    correct += scores.argmax(1).eq(batch.labels).sum().item<std::int64_t>();
  }
  result.loss /= static_cast<double>(images.count);
  result.accuracy = static_cast<double>(correct) / static_cast<double>(images.count);
  return result;
}

std::vector<std::int64_t> Learner::predict(const Images& images, std::span<const std::int64_t> indices) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor classes = network_->forward(make_batch(images, indices).images).argmax(1).contiguous();
  const auto* begin = classes.const_data_ptr<std::int64_t>();
  return {begin, begin + classes.numel()};
}

void Learner::save(torch::serialize::OutputArchive& archive) const {
  torch::serialize::OutputArchive network, optimiser;
  network_->save(network);
  optimiser_.save(optimiser);
  archive.write("network", network);
  archive.write("optimiser", optimiser);
}

void Learner::load(torch::serialize::InputArchive& archive) {
  torch::serialize::InputArchive network, optimiser;
  archive.read("network", network);
  archive.read("optimiser", optimiser);
  std::vector<torch::Tensor> own;
  for (const torch::Tensor& parameter : network_->parameters()) own.push_back(parameter.detach());
  network_->load(network);
  std::size_t i = 0;
  for (const torch::Tensor& parameter : network_->parameters()) {
    require_restored(parameter, own[i++], "a weight");
  }
  load_optimiser(optimiser);
}

void Learner::load_optimiser(torch::serialize::InputArchive& archive) {
  const auto options = [this]() -> const torch::optim::AdamOptions& {
    return static_cast<const torch::optim::AdamOptions&>(optimiser_.param_groups().at(0).options());
  };
  const auto own = torch::optim::AdamOptions(options());  // a copy: loading replaces them
  optimiser_.load(archive);
  if (!(options() == own)) fail(ErrorCode::kBadFile, "it holds another optimiser");
  for (const torch::Tensor& parameter : network_->parameters()) {
    const auto found = optimiser_.state().find(parameter.unsafeGetTensorImpl());
    if (found == optimiser_.state().end()) continue;  // saved before the first step
    if (found->second == nullptr) fail(ErrorCode::kBadFile, "its optimiser names a weight twice");
    const auto& state = static_cast<const torch::optim::AdamParamState&>(*found->second);
    if (state.step() < 0) fail(ErrorCode::kBadFile, "its optimiser has done {} steps", state.step());
    require_restored(state.exp_avg(), parameter, "a mean of the optimiser");
    require_restored(state.exp_avg_sq(), parameter, "a variance of the optimiser");
  }
}

}  // namespace cenote::network
