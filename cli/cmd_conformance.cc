// `cenote conformance DIR...`: runs ONNX backend test cases of pooling and says which agree.
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "cenote/error.h"
#include "commands.h"
#include "network/onnx/conformance.h"

namespace cenote::cli {
namespace {

namespace fs = std::filesystem;
using network::onnx::CaseResult;
using network::onnx::Outcome;

struct ConformanceFlags {
  std::vector<std::string> folders;
  network::onnx::Tolerance tolerance;
  std::string filter;
  bool json = false;
};

/// A case folder and what it is called: its path below the folder of the command line, or its own name.
struct NamedCase {
  std::string name;
  fs::path folder;
};

struct FinishedCase {
  NamedCase named;
  CaseResult result;
};

const char* name_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass:
      return "pass";
    case Outcome::kFail:
      return "fail";
    case Outcome::kUnsupported:
      break;
  }
  return "not supported";
}

/// One line for a terminal, whatever the file names hold.
std::string printable(const std::string& text) {
  std::string line;
  for (const char letter : text) {
    const auto byte = static_cast<unsigned char>(letter);
    if (byte < ' ' || byte == 0x7F) {
      line += fmt::format("\\x{:02x}", byte);
    } else {
      line += letter;
    }
  }
  return line;
}

std::regex parse_filter(const std::string& filter) {
  try {
    return std::regex(filter, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("[conformance] --filter '{}' is no regular expression: {}", filter, error.what()));
  }
}

void check_tolerance(const char* flag, double value) {
  if (std::isfinite(value) && value >= 0) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("[conformance] {} must be a finite number >= 0, got {}", flag, value));
}

std::vector<NamedCase> collect_cases(const ConformanceFlags& flags) {
  const std::regex filter = parse_filter(flags.filter);
  std::vector<NamedCase> cases;
  for (const std::string& text : flags.folders) {
    const fs::path root = fs::path(text).lexically_normal();
    for (const fs::path& folder : network::onnx::find_cases(root)) {
      std::string name = folder.lexically_relative(root).string();
      if (name == ".") name = fs::absolute(folder / "").parent_path().filename().string();
      if (std::regex_search(name, filter)) cases.push_back({std::move(name), folder});
    }
  }
  return cases;
}

nlohmann::ordered_json as_json(const FinishedCase& one) {
  nlohmann::ordered_json row{{"name", one.named.name},
                             {"folder", one.named.folder.string()},
                             {"outcome", name_of(one.result.outcome)}};
  if (one.result.outcome != Outcome::kPass) row["reason"] = one.result.reason;
  if (!one.result.data_set.empty()) row["data_set"] = one.result.data_set;
  if (const auto& mismatch = one.result.mismatch) {
    row["output"] = one.result.output;
    row["where"] = std::vector<std::int64_t>(mismatch->where.begin(), mismatch->where.end());
    row["differing"] = mismatch->count;
    row["elements"] = mismatch->of;
    // JSON has no NaN and no infinity; these become null.
    row["got"] = mismatch->got;
    row["expected"] = mismatch->expected;
    row["error"] = mismatch->error;
  }
  return row;
}

using Counts = std::map<Outcome, int>;

void print_json(const ConformanceFlags& flags, const std::vector<FinishedCase>& finished, Counts& counts) {
  nlohmann::ordered_json document{{"rtol", flags.tolerance.rtol}, {"atol", flags.tolerance.atol}};
  for (const Outcome outcome : {Outcome::kPass, Outcome::kFail, Outcome::kUnsupported}) {
    document["counts"][name_of(outcome)] = counts[outcome];
  }
  document["cases"] = nlohmann::ordered_json::array();
  for (const FinishedCase& one : finished) document["cases"].push_back(as_json(one));
  // File names need not be UTF-8.
  fmt::print("{}\n", document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void print_line(const FinishedCase& one) {
  const std::string reason = one.result.reason.empty() ? "" : ": " + one.result.reason;
  fmt::print("{:<14} {}\n", name_of(one.result.outcome), printable(one.named.name + reason));
  std::fflush(stdout);
}

int run_conformance(const ConformanceFlags& flags) {
  check_tolerance("--rtol", flags.tolerance.rtol);
  check_tolerance("--atol", flags.tolerance.atol);
  const std::vector<NamedCase> cases = collect_cases(flags);
  if (cases.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("[conformance] no case{} in {}",
                            flags.filter.empty() ? "" : " that fits --filter '" + flags.filter + "'",
                            printable(fmt::format("{}", fmt::join(flags.folders, ", ")))));
  }
  Counts counts;
  std::vector<FinishedCase> finished;
  for (const NamedCase& named : cases) {
    finished.push_back({named, run_case(named.folder, flags.tolerance)});
    ++counts[finished.back().result.outcome];
    if (!flags.json) print_line(finished.back());
  }
  if (flags.json) {
    print_json(flags, finished, counts);
  } else {
    fmt::print("{} cases: {} pass, {} fail, {} not supported\n", cases.size(), counts[Outcome::kPass],
               counts[Outcome::kFail], counts[Outcome::kUnsupported]);
  }
  return counts[Outcome::kFail] > 0 ? kExitFailed : kExitFine;
}

}  // namespace

void add_conformance(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ConformanceFlags>();
  CLI::App* command =
      app.add_subcommand("conformance", "Run ONNX backend test cases of pooling and compare the outputs");
  command->add_option("folders", flags->folders, "Case folders, or folders of case folders")
      ->required()
      ->type_name("DIR");
  command->add_option("--rtol", flags->tolerance.rtol, "Relative tolerance of floats")->capture_default_str();
  command->add_option("--atol", flags->tolerance.atol, "Absolute tolerance of floats")->capture_default_str();
  command->add_option("--filter", flags->filter, "Run only the cases in whose name this is found")
      ->type_name("REGEX");
  command->add_flag("--json", flags->json, "Print JSON");
  command->footer(
      "A case folder holds model.onnx and test_data_set_*/input_*.pb and output_*.pb. Debian's package\n"
      "libonnx-testdata brings many. Integers, indices among them, must be equal.\n"
      "Exit code 0: none failed; 1: at least one failed; 2: there was none.\n\n"
      "Examples:\n"
      "  cenote conformance /usr/share/libonnx-testdata/data --filter [Pp]ool\n"
      "  cenote conformance test_maxpool_2d_default --json");
  command->callback([flags, &exit_code] { exit_code = run_conformance(*flags); });
}

}  // namespace cenote::cli
