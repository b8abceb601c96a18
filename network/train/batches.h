// From bytes in memory to the tensors of a batch, and the order in which an epoch sees the images.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "network/data/dataset.h"

namespace cenote::network {

struct Batch {
  torch::Tensor images;  // f32 [n, channels, height, width], channels-last, (value / 255 - 0.5) / 0.5
  torch::Tensor labels;  // i64 [n]
};

/// A permutation of 0..count-1 that depends on nothing but seed and epoch, so that a resumed epoch goes on
/// where it stopped.
std::vector<std::int64_t> epoch_order(std::int64_t count, std::int64_t seed, std::int64_t epoch);

Batch make_batch(const Images& images, std::span<const std::int64_t> indices);

}  // namespace cenote::network
