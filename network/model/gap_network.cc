// The layers in order; only the pooling modules differ between the engines.
#include "network/model/gap_network.h"

#include <cenote/torch/nn.h>

#include "network/error_text.h"

namespace cenote::network {
namespace {

namespace tnn = torch::nn;

constexpr std::int64_t kWidth1 = 64;
constexpr std::int64_t kWidth2 = 128;

void add_downsampling_pool(tnn::Sequential& net, Downsample downsample, Engine engine) {
  const bool ours = engine == Engine::kCenote;
  if (downsample == Downsample::kMax) {
    const auto options = tnn::MaxPool2dOptions(2).stride(2);
    if (ours) net->push_back("pool", cenote::nn::MaxPool2d(options));
    if (!ours) net->push_back("pool", tnn::MaxPool2d(options));
  }
  if (downsample == Downsample::kAvg) {
    const auto options = tnn::AvgPool2dOptions(2).stride(2);
    if (ours) net->push_back("pool", cenote::nn::AvgPool2d(options));
    if (!ours) net->push_back("pool", tnn::AvgPool2d(options));
  }
}

void add_gap(tnn::Sequential& net, Engine engine) {
  if (engine == Engine::kCenote) {
    net->push_back("gap", cenote::nn::GlobalAvgPool2d());
  } else {
    net->push_back("gap", tnn::AdaptiveAvgPool2d(tnn::AdaptiveAvgPool2dOptions(1)));
  }
}

/// Positions of the last feature map.
std::int64_t positions(const NetworkSpec& spec) {
  const std::int64_t up = spec.downsample == Downsample::kStrided ? 1 : 0;  // 2x2 pooling rounds down
  return (spec.height + up) / 2 * ((spec.width + up) / 2);
}

void check(const NetworkSpec& spec) {
  if (positions(spec) < 1) {
    fail(ErrorCode::kInvalidArgument, "[network] images of {}x{} are too small for 2x2 pooling", spec.height,
         spec.width);
  }
}

}  // namespace

tnn::Sequential build_network(const NetworkSpec& spec, Engine engine) {
  check(spec);
  const bool gap = spec.head == Head::kGap;
  const std::int64_t stride = spec.downsample == Downsample::kStrided ? 2 : 1;
  const auto relu = tnn::ReLUOptions().inplace(true);
  tnn::Sequential net;
  net->push_back("conv1", tnn::Conv2d(tnn::Conv2dOptions(spec.channels, kWidth1, 3).padding(1)));
  net->push_back("relu1", tnn::ReLU(relu));
  net->push_back("conv2", tnn::Conv2d(tnn::Conv2dOptions(kWidth1, kWidth2, 3).stride(stride).padding(1)));
  add_downsampling_pool(net, spec.downsample, engine);
  net->push_back("relu2", tnn::ReLU(relu));
  if (gap) add_gap(net, engine);
  net->push_back("flatten", tnn::Flatten());
  net->push_back("linear", tnn::Linear(gap ? kWidth2 : kWidth2 * positions(spec), spec.classes));
  for (torch::Tensor& parameter : net->parameters()) {
    if (parameter.dim() == 4) parameter.set_data(parameter.contiguous(torch::MemoryFormat::ChannelsLast));
  }
  return net;
}

}  // namespace cenote::network
