// The pixels are written straight into a channels-last tensor through a table of the 256 values.
#include "network/train/batches.h"

#include <ATen/CPUGeneratorImpl.h>

#include <array>

namespace cenote::network {
namespace {

const std::array<float, 256>& normalised_values() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (int i = 0; i < 256; ++i) values[i] = (static_cast<float>(i) / 255.0F - 0.5F) / 0.5F;
    return values;
  }();
  return table;
}

/// Spreads (seed, epoch) over 64 bits (the finaliser of SplitMix64), so that neighbours are unrelated.
std::uint64_t mix(std::int64_t seed, std::int64_t epoch) {
  std::uint64_t z =
      static_cast<std::uint64_t>(seed) + static_cast<std::uint64_t>(epoch + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

}  // namespace

std::vector<std::int64_t> epoch_order(std::int64_t count, std::int64_t seed, std::int64_t epoch) {
  const torch::Tensor order = torch::randperm(count, at::detail::createCPUGenerator(mix(seed, epoch)),
                                              torch::TensorOptions().dtype(torch::kLong));
  const auto* begin = order.const_data_ptr<std::int64_t>();
  return {begin, begin + count};
}

Batch make_batch(const Images& images, std::span<const std::int64_t> indices) {
  const auto n = static_cast<std::int64_t>(indices.size());
  const std::int64_t plane = images.height * images.width;
  const auto& value = normalised_values();
  Batch batch;
  batch.images = torch::empty({n, images.channels, images.height, images.width},
                              torch::TensorOptions().dtype(torch::kFloat), torch::MemoryFormat::ChannelsLast);
  batch.labels = torch::empty({n}, torch::TensorOptions().dtype(torch::kLong));
  float* out = batch.images.data_ptr<float>();
  auto* labels = batch.labels.data_ptr<std::int64_t>();
  for (const std::int64_t index : indices) {
    const std::uint8_t* in = images.image(index);
    *labels++ = images.labels[static_cast<std::size_t>(index)];
    for (std::int64_t p = 0; p < plane; ++p) {
      for (std::int64_t c = 0; c < images.channels; ++c) *out++ = value[in[c * plane + p]];
    }
  }
  return batch;
}

}  // namespace cenote::network
