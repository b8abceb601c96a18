// Shapes come from running the layers, the counts from the layers' own options.
#include "network/model/layer_table.h"

#include "network/error_text.h"
#include "network/model/gap_network.h"

namespace cenote::network {
namespace {

/// What a layer does per output element: operands it combines.
void count_operations(LayerCost& cost, torch::nn::Module& module, std::int64_t in, std::int64_t out) {
  if (const auto* conv = module.as<torch::nn::Conv2dImpl>()) {
    const auto& options = conv->options;
    cost.kind = fmt::format("convolution 3x3, stride {}", options.stride()->at(0));
    cost.multiply_adds =
        out * options.in_channels() * options.kernel_size()->at(0) * options.kernel_size()->at(1);
  } else if (const auto* linear = module.as<torch::nn::LinearImpl>()) {
    cost.kind = "linear";
    cost.multiply_adds = linear->options.in_features() * linear->options.out_features();
  } else if (cost.name == "flatten") {
    cost.kind = "flatten";
  } else if (cost.name == "gap") {
    cost.kind = "global average pooling";
    cost.other = in;
  } else if (cost.name == "pool") {
    cost.other = 4 * out;
  } else {
    cost.kind = "ReLU";
    cost.other = out;
  }
}

}  // namespace

std::vector<LayerCost> layer_costs(const NetworkSpec& spec) {
  const torch::NoGradGuard no_grad;
  torch::nn::Sequential net = build_network(spec, Engine::kTorch);
  torch::Tensor x = torch::zeros({1, spec.channels, spec.height, spec.width});
  std::vector<LayerCost> rows;
  const auto children = net->named_children();
  auto layer = net->begin();
  for (const auto& child : children) {
    const std::int64_t in = x.numel();
    x = layer->forward(x);
    ++layer;
    LayerCost cost;
    cost.name = child.key();
    if (cost.name == "pool") {
      cost.kind =
          spec.downsample == Downsample::kMax ? "max pooling 2x2, stride 2" : "average pooling 2x2, stride 2";
    }
    cost.output.assign(x.sizes().begin() + 1, x.sizes().end());
    for (const torch::Tensor& parameter : child.value()->parameters()) cost.parameters += parameter.numel();
    count_operations(cost, *child.value(), in, x.numel());
    rows.push_back(std::move(cost));
  }
  return rows;
}

LayerCost total_cost(const std::vector<LayerCost>& layers) {
  LayerCost total;
  total.name = "total";
  for (const LayerCost& layer : layers) {
    total.parameters += layer.parameters;
    total.multiply_adds += layer.multiply_adds;
    total.other += layer.other;
  }
  return total;
}

}  // namespace cenote::network
