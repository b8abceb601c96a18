// index.html of a run: one page that needs no network and no other file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "network/model/layer_table.h"
#include "network/train/metrics.h"

namespace cenote::network {

/// A validation image with what it is and what the network takes it for.
struct Example {
  std::string png;
  std::string truth;
  std::string prediction;
};

/// One head with the costs of the whole network that has it.
struct HeadCost {
  std::string name;
  bool used = false;
  LayerCost head;
  LayerCost network;
};

struct Report {
  std::string title;
  std::vector<std::pair<std::string, std::string>> settings;
  std::vector<EpochMetrics> history;
  std::vector<LayerCost> layers;
  std::vector<HeadCost> heads;
  std::vector<Example> examples;
  std::string curves_svg;  // empty: no picture
};

std::string report_html(const Report& report);

/// The costs of both heads on the body of `spec`, GAP first.
std::vector<HeadCost> compare_heads(const NetworkSpec& spec);

}  // namespace cenote::network
