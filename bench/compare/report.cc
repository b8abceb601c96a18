// Table, JSON and markdown; see report.h.
#include "report.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

namespace cenote_bench {

namespace {

using nlohmann::ordered_json;

constexpr const char* kLegend =
    "cenote and torch allocate what they return, `into` writes to memory that is there. Times are medians of "
    "interleaved calls in milliseconds; the spread is min, 10th and 90th percentile of cenote. `copy` reads "
    "half and writes half of the bytes that the op must move (inputs and outputs, for backward also the "
    "compact record, or x where the gradient depends on it). An op that torch has no kernel for meets an "
    "expression of its other ops; there the backward of both is autograd's, of a recorded forward. "
    "Successive calls walk through buffers of the size `set`, so data that exceeds a cache level is not "
    "found in it.";

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("{}", fmt::join(shape, "x"));
}
double mebibytes(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }
std::string spread_text(const Timing& timing) {
  return fmt::format("{:.3f} {:.3f}..{:.3f}", timing.min, timing.p10, timing.p90);
}

std::vector<std::pair<std::string, std::string>> facts(const Machine& machine, const Setting& setting) {
  return {{"command", setting.command},
          {"date", machine.date},
          {"processor", machine.processor},
          {"logical cores", std::to_string(machine.logical_cores)},
          {"caches", fmt::format("{}", fmt::join(machine.caches, "; "))},
          {"compiler", machine.compiler},
          {"torch", machine.torch_version + ", " + machine.torch_cpu_capability},
          {"cenote", machine.cenote_version + ", CPU target " + machine.cpu_target},
          {"threads", std::to_string(machine.threads)},
          {"load average at the start", fmt::format("{:.2f}", machine.load_average)},
          {"memory", setting.keep_memory ? "kept by the process between calls" : "the allocator's defaults"}};
}

ordered_json to_json(const Timing& timing) {
  return {{"median_ms", timing.median},
          {"min_ms", timing.min},
          {"p10_ms", timing.p10},
          {"p90_ms", timing.p90},
          {"runs", timing.runs}};
}

ordered_json to_json(const Result& result) {
  return {{"op", result.row.op},
          {"shape", result.row.shape},
          {"dtype", "f32"},
          {"layout", result.row.layout},
          {"pass", result.row.pass},
          {"bytes_moved", result.bytes_moved},
          {"working_set_bytes", result.working_set},
          {"cenote", to_json(result.cenote)},
          {"cenote_into", to_json(result.cenote_into)},
          {"torch", to_json(result.torch)},
          {"copy", to_json(result.copy)},
          {"torch_over_cenote", result.ratio()},
          {"torch_over_cenote_into", result.ratio_into()},
          {"percent_of_copy_speed", result.copy_percent()},
          {"percent_of_copy_speed_into", result.copy_percent_into()},
          {"gigabytes_per_second", result.gigabytes_per_second()}};
}

std::string markdown_row(const Result& result) {
  return fmt::format(
      "| {} | {} | {} | {} | {:.3f} | {:.3f} | {:.3f} | {:.2f} | {:.2f} | {:.3f} | {:.0f} | {:.0f} | "
      "{:.1f} | {} | {:.0f} |\n",
      result.row.op, shape_text(result.row.shape), result.row.layout, result.row.pass, result.cenote.median,
      result.cenote_into.median, result.torch.median, result.ratio(), result.ratio_into(), result.copy.median,
      result.copy_percent(), result.copy_percent_into(), result.gigabytes_per_second(),
      spread_text(result.cenote), mebibytes(result.working_set));
}

std::string markdown(const Machine& machine, const Setting& setting, const std::vector<Result>& results) {
  std::string text = "# cenote against torch\n\n| | |\n|---|---|\n";
  for (const auto& [name, value] : facts(machine, setting)) text += fmt::format("| {} | {} |\n", name, value);
  text += fmt::format("\nf32. {}\n\n", kLegend);
  text +=
      "| op | shape | layout | pass | cenote ms | into ms | torch ms | torch/cenote | torch/into | copy ms | "
      "% of copy | into % of copy | GB/s | cenote min p10..p90 ms | set MiB |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const Result& result : results) text += markdown_row(result);
  return text;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (!file)
    throw std::runtime_error(fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)));
}

}  // namespace

void print_machine(const Machine& machine, const Setting& setting) {
  for (const auto& [name, value] : facts(machine, setting)) fmt::print("{:<26} {}\n", name, value);
  fmt::print("\n{}\n\n", kLegend);
}

void print_header() {
  fmt::print(
      "{:<17} {:<14} {:<14} {:<15} {:>9} {:>9} {:>9} {:>6} {:>6} {:>9} {:>5} {:>5} {:>6}  {:<26} {:>5}\n",
      "op", "shape", "layout", "pass", "cenote", "into", "torch", "t/c", "t/into", "copy", "%copy", "%into",
      "GB/s", "cenote min p10..p90", "set");
}

void print_result(const Result& result) {
  fmt::print(
      "{:<17} {:<14} {:<14} {:<15} {:>9.3f} {:>9.3f} {:>9.3f} {:>6.2f} {:>6.2f} {:>9.3f} {:>5.0f} {:>5.0f} "
      "{:>6.1f}  {:<26} {:>5.0f}\n",
      result.row.op, shape_text(result.row.shape), result.row.layout, result.row.pass, result.cenote.median,
      result.cenote_into.median, result.torch.median, result.ratio(), result.ratio_into(), result.copy.median,
      result.copy_percent(), result.copy_percent_into(), result.gigabytes_per_second(),
      spread_text(result.cenote), mebibytes(result.working_set));
  std::fflush(stdout);
}

void print_slower_rows(const std::vector<Result>& results) {
  std::vector<const Result*> slower;
  for (const Result& result : results) {
    if (result.ratio() < 1) slower.push_back(&result);
  }
  fmt::print("\n{} of {} rows slower than torch\n", slower.size(), results.size());
  for (const Result* result : slower) fmt::print("  {:.2f}  {}\n", result->ratio(), result->row.name());
}

void write_reports(const std::filesystem::path& folder, const Machine& machine, const Setting& setting,
                   const std::vector<Result>& results) {
  ordered_json document;
  for (const auto& [name, value] : facts(machine, setting)) document["machine"][name] = value;
  document["min_seconds_per_row"] = setting.min_seconds;
  document["rows"] = ordered_json::array();
  for (const Result& result : results) document["rows"].push_back(to_json(result));
  write_file(folder / "compare.json", document.dump(2) + "\n");
  write_file(folder / "compare.md", markdown(machine, setting, results));
}

}  // namespace cenote_bench
