// Table and JSON; see report.h.
#include "report.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "cenote/error.h"
#include "contest.h"
#include "network/io/file.h"

namespace cenote_bench {

namespace {

using nlohmann::ordered_json;

constexpr std::uint64_t kLongestFile = std::uint64_t{1} << 28;

ordered_json to_json(const Facts& facts) {
  ordered_json object = ordered_json::object();
  for (const auto& [name, value] : facts) object[name] = value;
  return object;
}

ordered_json to_json(const Timing& timing) {
  return {{"median_ms", timing.median}, {"min_ms", timing.min},
          {"p10_ms", timing.p10},       {"p90_ms", timing.p90},
          {"samples", timing.samples},  {"calls_per_sample", timing.calls_per_sample}};
}

ordered_json to_json(const Result& result) {
  const Row& row = result.row;
  ordered_json contenders = ordered_json::object();
  for (const auto& [name, timing] : result.timings) {
    contenders[name] = to_json(timing);
    const auto extra = result.extra_bytes.find(name);
    if (extra != result.extra_bytes.end()) contenders[name]["extra_bytes"] = extra->second;
  }
  const cenote::Dims& kernel = row.op.arguments.kernel;
  return {{"name", row.name()},
          {"group", row.group},
          {"label", row.label},
          {"op", row.op.repeat > 1 ? fmt::format("{} x{}", row.op.title, row.op.repeat) : row.op.title},
          {"kernel", std::vector<std::int64_t>(kernel.begin(), kernel.end())},
          {"shape", row.shape},
          {"dtype", cenote::name_of(row.dtype)},
          {"layout", row.layout},
          {"pass", row.pass},
          {"threads", result.threads},
          {"data", row.data == Data::kMemory ? "memory" : "cache"},
          {"bytes_moved", result.bytes_moved},
          {"working_set_bytes", result.working_set},
          {"contenders", contenders},
          {"left_out", result.left_out}};
}

double median(const ordered_json& row, const std::string& contender) {
  return row.at("contenders").at(contender).at("median_ms").get<double>();
}

/// torch allocates what it returns, as cenote's operator does; the peers write to memory that is there.
std::string counterpart(const ordered_json& row, const std::string& contender) {
  const bool into = contender != kTorch && row.at("contenders").contains(kCenoteInto);
  return into ? kCenoteInto : kCenote;
}

bool is_peer(const std::string& contender) {
  return contender != kCenote && contender != kCenoteInto && contender != kCopy &&
         contender != kCopyPastCaches;
}

}  // namespace

Record::Record(Facts machine, Facts run) : machine_(std::move(machine)), run_(std::move(run)) {}

void Record::resume(const std::filesystem::path& path) {
  try {
    const ordered_json document = ordered_json::parse(cenote::network::read_file(path, kLongestFile));
    if (document.at("machine") != to_json(machine_))
      throw std::runtime_error("taken on another machine, or with other versions");
    for (const ordered_json& row : document.at("rows")) {
      static_cast<void>(row.at("name").get<std::string>());
      rows_.push_back(row);
    }
  } catch (const std::exception& error) {
    throw std::runtime_error(fmt::format("cannot resume {}: {}", path.string(), error.what()));
  }
}

bool Record::has(const std::string& name) const {
  return std::any_of(rows_.begin(), rows_.end(),
                     [&](const ordered_json& row) { return row.at("name") == name; });
}

void Record::add(const Result& result) { rows_.push_back(to_json(result)); }

void Record::write(const std::filesystem::path& path) const {
  ordered_json document{{"machine", to_json(machine_)}, {"run", to_json(run_)}, {"rows", rows_}};
  const std::string text = document.dump(1) + "\n";
  cenote::network::write_file_atomically(path, {text});
}

void Record::print_summary() const {
  std::vector<std::pair<double, std::string>> faster;
  for (const ordered_json& row : rows_) {
    for (const auto& [contender, timing] : row.at("contenders").items()) {
      if (!is_peer(contender)) continue;
      const double ratio = median(row, contender) / median(row, counterpart(row, contender));
      if (ratio < 1) faster.emplace_back(ratio, contender + ": " + row.at("name").get<std::string>());
    }
  }
  std::sort(faster.begin(), faster.end());
  fmt::print("\n{} rows, {} times a peer was faster (its time / cenote's)\n", rows_.size(), faster.size());
  for (const auto& [ratio, name] : faster) fmt::print("  {:.2f}  {}\n", ratio, name);
}

void print_facts(const Facts& facts) {
  for (const auto& [name, value] : facts) fmt::print("{:<26} {}\n", name, value);
}

void print_header() {
  fmt::print(
      "\nMedian milliseconds of interleaved calls. cenote and torch allocate what they return, `into` and "
      "the peers "
      "write\nto memory that is there; `copy` reads half and writes half of the bytes that the op must "
      "move.\n\n"
      "{:<78} {:>9} {:>9} {:>9} {:>9}  {}\n",
      "row", "cenote", "into", "torch", "copy", "peers");
}

void print_result(const Result& result, const std::string& place) {
  const auto cell = [&](const char* name) -> std::string {
    for (const auto& [contender, timing] : result.timings) {
      if (contender == name) return fmt::format("{:9.4f}", timing.median);
    }
    return "-";
  };
  std::string peers;
  for (const auto& [contender, timing] : result.timings) {
    if (is_peer(contender) && contender != kTorch)
      peers += fmt::format("{} {:.4f}, ", contender, timing.median);
  }
  fmt::print("{:<78} {:>9} {:>9} {:>9} {:>9}  {}({})\n", result.row.name(), cell(kCenote), cell(kCenoteInto),
             cell(kTorch), cell(kCopy), peers, place);
  std::fflush(stdout);
}

}  // namespace cenote_bench
