// What can be chosen about the network.
#pragma once

#include <cstdint>
#include <string>

namespace cenote::network {

enum class Downsample {
  kStrided,  // the second convolution has stride 2
  kMax,      // it has stride 1, and a 2x2 max pooling of stride 2 follows
  kAvg,      // the same with average pooling
};
enum class Head {
  kGap,      // global average pooling, then linear
  kFlatten,  // linear on all positions of all channels
};

/// Throw Error (kInvalidArgument) that lists the names there are.
Downsample downsample_from_name(const std::string& name);
Head head_from_name(const std::string& name);

struct NetworkSpec {
  std::int64_t channels = 1;
  std::int64_t height = 28;
  std::int64_t width = 28;
  std::int64_t classes = 10;
  Downsample downsample = Downsample::kStrided;
  Head head = Head::kGap;
};

}  // namespace cenote::network
