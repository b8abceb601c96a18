// `cenote info`: version, CPU targets, threads and what was built in; with --ops the registry.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cenote/registry.h"
#include "cenote/runtime.h"
#include "commands.h"

namespace cenote::cli {
namespace {

struct InfoFlags {
  bool ops = false;
  bool json = false;
};

std::vector<std::string> option_names(const OpInfo& op) {
  std::vector<std::string> names;
  if (op.parameters & kTakesWindow) {
    names = {"kernel", "stride", "padding", "padding_end", "dilation", "ceil_mode", "convention", "auto_pad"};
  }
  if (op.parameters & kTakesUnpool) names = {"kernel", "stride", "padding", "output_size", "index_order"};
  if (op.parameters & kTakesDivisor) names.insert(names.end(), {"count_include_pad", "divisor_override"});
  if (op.parameters & kTakesIndexOrder) names.emplace_back("index_order");
  if (op.parameters & kTakesOutputSize) names.emplace_back("output_size");
  if (op.parameters & kTakesQuantization) {
    names.insert(names.end(), {"x_scale", "x_zero_point", "y_scale", "y_zero_point"});
  }
  if (op.parameters & kTakesNormType) names.emplace_back("norm_type");
  if (op.parameters & kTakesSharpness) names.emplace_back("sharpness");
  if (op.parameters & kTakesGem) names.insert(names.end(), {"p", "eps"});
  if (op.parameters & kTakesSamples) names = {"kernel", "output_size", "output_ratio", "samples", "seed"};
  return names;
}

nlohmann::ordered_json build_as_json() {
  nlohmann::ordered_json info;
  info["version"] = version();
  info["cpu_target"] = cpu_target();
  info["cpu_targets"] = cpu_targets();
  info["threads"] = num_threads();
  info["compiler"] = CENOTE_COMPILER;
  info["openmp"] = CENOTE_OPENMP != 0;
  const std::string torch = torch_version();
  info["torch"] = torch.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(torch);
  return info;
}

nlohmann::ordered_json ops_as_json() {
  auto rows = nlohmann::ordered_json::array();
  for (const OpInfo& op : ops()) {
    rows.push_back({{"name", op.name},
                    {"family", op.family},
                    {"summary", op.summary},
                    {"spatial_rank", op.spatial_rank},
                    {"options", option_names(op)},
                    {"indices", op.records_indices},
                    {"reads_indices", op.reads_indices},
                    {"gradient_reads_x", op.gradient_reads_x}});
  }
  return rows;
}

void print_build() {
  std::string targets;
  const std::string chosen = cpu_target();
  for (const std::string& target : cpu_targets()) {
    targets += fmt::format("{}{}{}", targets.empty() ? "" : " ", target, target == chosen ? "*" : "");
  }
  fmt::print("cenote       {}\n", version());
  fmt::print("CPU targets  {}   (* in use; CENOTE_CPU_TARGET forces one)\n", targets);
  fmt::print("threads      {}   (CENOTE_NUM_THREADS sets it)\n", num_threads());
  fmt::print("compiler     {}\n", CENOTE_COMPILER);
  fmt::print("OpenMP       {}\n", CENOTE_OPENMP ? "yes" : "no");
  const std::string torch = torch_version();
  fmt::print("torch        {}\n", torch.empty() ? "no" : torch);
}

void print_ops() {
  for (const OpInfo& op : ops()) {
    fmt::print("{:<24} {:<9} {}\n", op.name, op.family, op.summary);
    std::string options;
    for (const std::string& name : option_names(op)) options += " " + name;
    if (!options.empty()) fmt::print("{:<34}options:{}\n", "", options);
  }
}

void run_info(const InfoFlags& flags) {
  if (flags.json) {
    fmt::print("{}\n", (flags.ops ? ops_as_json() : build_as_json()).dump(2));
  } else if (flags.ops) {
    print_ops();
  } else {
    print_build();
  }
}

}  // namespace

void add_info(CLI::App& app, int& /*exit_code*/) {
  auto flags = std::make_shared<InfoFlags>();
  CLI::App* command =
      app.add_subcommand("info", "Show the version, CPU targets, threads, and the list of ops");
  command->add_flag("--ops", flags->ops, "List the ops and the options that each reads");
  command->add_flag("--json", flags->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  cenote info\n"
      "  cenote info --ops\n"
      "  CENOTE_CPU_TARGET=reference cenote info --json");
  command->callback([flags] { run_info(*flags); });
}

}  // namespace cenote::cli
