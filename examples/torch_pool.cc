// Cenote's pooling inside a libtorch network: the modules take torch's options and record gradients.
#include <cenote/torch/nn.h>
#include <torch/torch.h>

#include <cstdio>

int main() {
  torch::manual_seed(0);
  torch::nn::Sequential network(torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 8, 3)), torch::nn::ReLU(),
                                cenote::nn::MaxPool2d(torch::nn::MaxPool2dOptions(2)),
                                cenote::nn::GlobalAvgPool2d(), torch::nn::Flatten(),
                                torch::nn::Linear(8, 10));
  const torch::Tensor images = torch::randn({4, 1, 28, 28});
  const torch::Tensor labels = torch::tensor({3, 1, 4, 1});

  const torch::Tensor loss = torch::nn::functional::cross_entropy(network->forward(images), labels);
  loss.backward();

  const torch::Tensor gradient = network->parameters().front().grad();
  std::printf("gradient of the first layer: %s\n", gradient.abs().sum().item<float>() > 0 ? "ok" : "missing");
}
