// cenote_compare: pooling by cenote, by torch and by what other libraries are found, in one process on the
// same tensors, beside a plain copy of the bytes that the op must move. Prints a table and writes
// compare.json, from which bench/report.py makes tables and charts.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/core.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "cases.h"
#include "contest.h"
#include "machine.h"
#include "measure.h"
#include "network/train/interrupt.h"
#include "peers.h"
#include "report.h"

namespace {

using namespace cenote_bench;
using cenote::network::InterruptGuard;

struct Options {
  std::filesystem::path out_dir = "build/bench";
  int threads = 0;
  bool quick = false;
  bool smoke = false;
  bool resume = false;
  bool list = false;
  bool check = false;
  bool keep_memory = false;
  bool torch_compile = false;
  std::string isa;
  std::string filter;
  std::vector<std::string> without;
  double min_seconds = 0;
  std::int64_t working_set_mib = 0;

  Extent extent() const {
    if (smoke) return Extent::kSmoke;
    return quick ? Extent::kQuick : Extent::kFull;
  }
};

std::string check_pattern(const std::string& text) {
  try {
    static_cast<void>(std::regex(text));
    return {};
  } catch (const std::regex_error& error) {
    return "not a regular expression: " + std::string(error.what());
  }
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--out-dir", options.out_dir, "Folder for compare.json")->capture_default_str();
  app.add_option("--threads", options.threads,
                 "Threads of everything that is compared (default: torch's rule)")
      ->check(CLI::PositiveNumber);
  app.add_flag("--quick", options.quick, "The rows that tell most, in some minutes");
  app.add_flag("--smoke", options.smoke, "Small shapes and few calls, to see that it runs");
  app.add_flag("--resume", options.resume, "Keep the rows that compare.json has, and measure the others");
  app.add_flag("--list", options.list, "Print the names of the rows and measure nothing");
  app.add_flag("--check", options.check,
               "Compare the outputs of all rows, of two images each; measure and write nothing");
  app.add_option("--filter", options.filter, "Only rows whose name matches this regular expression")
      ->check(check_pattern);
  app.add_option("--without", options.without, "A peer to leave out: 'oneDNN 2', 'oneDNN 3', ...");
  app.add_flag("--torch-compile", options.torch_compile,
               "Compare with torch.compile, too, which takes seconds per row to compile");
  app.add_option("--isa", options.isa,
                 "Instruction set that cenote, torch and oneDNN are limited to; the others cannot be")
      ->check(CLI::IsMember({"avx2"}));
  app.add_option("--min-time", options.min_seconds,
                 "Seconds per row, all contenders together (default: 1, and 0.3 with --quick)")
      ->check(CLI::PositiveNumber);
  app.add_option(
         "--working-set", options.working_set_mib,
         "MiB of buffers that the calls walk through, at least (default: 5/4 of the last-level cache)")
      ->check(CLI::PositiveNumber);
  app.add_flag("--keep-memory", options.keep_memory,
               "Keep freed memory in the process, so that no call pays for page faults");
}

/// By the variables that each library reads when it is first used.
void limit_instruction_set(const std::string& isa) {
  if (isa.empty()) return;
  std::string upper = isa;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  setenv("CENOTE_CPU_TARGET", isa.c_str(), 1);
  setenv("ATEN_CPU_CAPABILITY", isa.c_str(), 1);
  for (const char* of_onednn : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"})
    setenv(of_onednn, upper.c_str(), 1);
}

MeasureOptions measure_options(const Options& options) {
  MeasureOptions measuring;
  measuring.min_seconds = options.quick ? 0.3 : 1;
  if (options.quick) measuring.min_rounds = 5;
  if (options.min_seconds > 0) measuring.min_seconds = options.min_seconds;
  if (options.smoke) measuring = {0, 1, 1, 1};
  return measuring;
}

std::vector<Row> chosen_rows(const Options& options, int threads) {
  const std::regex pattern(options.filter);
  std::vector<Row> rows = all_rows(options.extent(), threads);
  std::erase_if(rows, [&](const Row& row) { return !std::regex_search(row.name(), pattern); });
  return rows;
}

/// "12/180, 3 min left", counting from `first`, where this run began.
std::string place_text(std::size_t first, std::size_t done, std::size_t total, double seconds) {
  const double left = seconds / static_cast<double>(done - first) * static_cast<double>(total - done);
  return fmt::format("{}/{}, {:.0f} min left", done, total, left / 60);
}

class Run {
 public:
  Run(const Options& options, const Peers& peers, Record& record)
      : options_(options), peers_(peers), record_(record), threads_(at::get_num_threads()) {
    const std::int64_t asked = options.working_set_mib << 20;
    working_set_ = asked > 0 ? asked : working_set_beyond_caches();
    if (options.smoke) working_set_ = 1;
    for (const std::unique_ptr<Peer>& peer : peers.found) {
      if (peer->process() != 0) children_.push_back(peer->process());
    }
  }

  /// False when it was interrupted.
  bool all(const std::vector<Row>& rows, const std::filesystem::path& path) {
    std::vector<Row> left = rows;
    std::erase_if(left, [&](const Row& row) { return record_.has(row.name()); });
    const std::size_t first = rows.size() - left.size();
    // The first row that a process times varies most: that one is not kept.
    if (!options_.smoke && !left.empty()) one(left.front());
    const double start = now();
    for (std::size_t i = 0; i < left.size(); ++i) {
      Result result = one(left[i]);
      if (InterruptGuard::signal() != 0) return false;
      record_.add(result);
      record_.write(path);
      print_result(result, place_text(first, first + i + 1, rows.size(), now() - start));
    }
    return true;
  }

 private:
  Result one(const Row& row) {
    at::set_num_threads(row.threads > 0 ? row.threads : threads_);
    Contest contest = prepare(row, working_set_, peers_);
    const std::vector<Timing> timings = measure(contest.contenders, measure_options(options_), children_,
                                                [] { return InterruptGuard::signal() != 0; });
    Result result{row, at::get_num_threads(), contest.bytes_moved, contest.working_set,
                  {},  contest.extra_bytes,   contest.left_out};
    for (std::size_t i = 0; i < timings.size(); ++i)
      result.timings.emplace_back(contest.contenders[i].name, timings[i]);
    return result;
  }

  const Options& options_;
  const Peers& peers_;
  Record& record_;
  int threads_;
  std::int64_t working_set_ = 0;
  std::vector<int> children_;
};

std::string command_line(int argc, char** argv) {
  std::string text = std::filesystem::path(argv[0]).filename().string();
  for (int i = 1; i < argc; ++i) text += std::string(" ") + argv[i];
  return text;
}

Facts run_facts(const Options& options, const std::string& command) {
  Facts facts{{"command", command},
              {"freed memory",
               options.keep_memory ? "kept by the process between calls" : "the allocator's defaults"}};
  if (!options.isa.empty()) {
    facts.emplace_back("instruction set",
                       options.isa + " for cenote, torch and oneDNN; the others use what they find");
  }
  const Facts moment = describe_moment();
  facts.insert(facts.end(), moment.begin(), moment.end());
  return facts;
}

/// 0 when the outputs of everything that could be compared agree.
int check(const std::vector<Row>& rows, const Peers& peers) {
  constexpr std::int64_t kMostImages = 2;
  const int threads = at::get_num_threads();
  int differing = 0;
  for (Row row : rows) {
    row.shape.front() = std::min(row.shape.front(), kMostImages);
    at::set_num_threads(row.threads > 0 ? row.threads : threads);
    const Contest contest = prepare(row, 1, peers);
    fmt::print("{}: {} compared\n", row.name(), contest.contenders.size() - 1);  // not the copy
    for (const auto& [peer, reason] : contest.left_out) {
      if (reason == kDiffers) ++differing;
      fmt::print("  {}: {}\n", peer, reason);
    }
    std::fflush(stdout);
    if (InterruptGuard::signal() != 0) return 128 + InterruptGuard::signal();
  }
  fmt::print("{} rows, {} outputs of peers differ\n", rows.size(), differing);
  return differing == 0 ? 0 : 1;
}

int run(int argc, char** argv) {
  CLI::App app("Times cenote's pooling against that of other libraries");
  Options options;
  add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  limit_instruction_set(options.isa);
  if (options.threads > 0) at::set_num_threads(options.threads);
  if (options.keep_memory) {
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
  }
  const std::vector<Row> rows = chosen_rows(options, at::get_num_threads());
  if (options.list) {
    for (const Row& row : rows) fmt::print("{}\n", row.name());
    return 0;
  }
  const at::NoGradGuard no_grad;
  const InterruptGuard guard;
  const Peers peers = load_peers(options.without, options.torch_compile);
  const Facts machine = describe_machine(peers, at::get_num_threads());
  const Facts asked = run_facts(options, command_line(argc, argv));
  if (options.check) return check(rows, peers);
  const std::filesystem::path path = options.out_dir / "compare.json";
  std::filesystem::create_directories(options.out_dir);  // before the long part, in case it cannot be
  Record record(machine, asked);
  if (options.resume && std::filesystem::exists(path)) record.resume(path);
  print_facts(machine);
  print_facts(asked);
  print_header();
  record.write(path);
  const bool complete = Run(options, peers, record).all(rows, path);
  record.print_summary();
  fmt::print("\nwritten: {}\n", path.string());
  if (complete) return 0;
  fmt::print("interrupted; --resume goes on\n");
  return 128 + InterruptGuard::signal();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cenote_compare: %s\n", error.what());
    return 1;
  }
}
