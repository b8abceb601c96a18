// What each layer of a network costs: output shape, parameters, operations for one image.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "network/model/spec.h"

namespace cenote::network {

struct LayerCost {
  std::string name;
  std::string kind;
  std::vector<std::int64_t> output;  // without the batch dimension
  std::int64_t parameters = 0;
  std::int64_t multiply_adds = 0;
  std::int64_t other = 0;  // additions of an average, comparisons of a maximum or a ReLU
};

/// One row per layer, in order, from sending one image of zeros through the network.
std::vector<LayerCost> layer_costs(const NetworkSpec& spec);

/// Name "total", summed over the rows.
LayerCost total_cost(const std::vector<LayerCost>& layers);

}  // namespace cenote::network
