// cenote_compare: pooling by cenote and by torch in one process, on the same tensors, beside a plain copy
// of the bytes that the op must move. Prints a table and writes compare.json and compare.md.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/core.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "contest.h"
#include "machine.h"
#include "measure.h"
#include "report.h"

namespace {

using namespace cenote_bench;

struct Options {
  std::filesystem::path out_dir = "build/bench";
  int threads = 0;
  bool quick = false;
  bool keep_memory = false;
  std::string filter;
  double min_seconds = 1;
  std::int64_t working_set_mib = 64;
};

void add_options(CLI::App& app, Options& options) {
  app.add_option("--out-dir", options.out_dir, "Folder for compare.json and compare.md")
      ->capture_default_str();
  app.add_option("--threads", options.threads,
                 "Threads of torch's pool, which both use (default: torch's rule)")
      ->check(CLI::PositiveNumber);
  app.add_flag("--quick", options.quick, "Small shapes and few calls, to see that it runs");
  app.add_option("--filter", options.filter, "Only rows whose name matches this regular expression")
      ->check([](const std::string& text) -> std::string {
        try {
          static_cast<void>(std::regex(text));
          return {};
        } catch (const std::regex_error& error) {
          return "not a regular expression: " + std::string(error.what());
        }
      });
  app.add_option("--min-time", options.min_seconds, "Seconds per row, all contenders together")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--working-set", options.working_set_mib,
                 "MiB of buffers that the calls walk through, at least")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--keep-memory", options.keep_memory,
               "Keep freed memory in the process, so that no call pays for page faults");
}

Result run(const Row& row, const MeasureOptions& measuring, std::int64_t working_set) {
  const Contest contest = prepare(row, working_set);
  const std::vector<Timing> timings = measure(contest.contenders, measuring);
  return {row, contest.bytes_moved, contest.working_set, timings[0], timings[1], timings[2], timings[3]};
}

std::vector<Result> run_all(const Options& options) {
  MeasureOptions measuring;
  measuring.min_seconds = options.quick ? 0 : options.min_seconds;
  if (options.quick) measuring.min_rounds = 5;
  const std::regex pattern(options.filter);
  std::vector<Result> results;
  print_header();
  for (const Row& row : all_rows(options.quick)) {
    if (!std::regex_search(row.name(), pattern)) continue;
    results.push_back(run(row, measuring, options.working_set_mib << 20));
    print_result(results.back());
  }
  return results;
}

std::string command_line(int argc, char** argv) {
  std::string text = std::filesystem::path(argv[0]).filename().string();
  for (int i = 1; i < argc; ++i) text += std::string(" ") + argv[i];
  return text;
}

int run(int argc, char** argv) {
  CLI::App app("Times cenote's pooling against torch's");
  Options options;
  add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (options.threads > 0) at::set_num_threads(options.threads);
  if (options.keep_memory) {
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
  }
  const at::NoGradGuard no_grad;
  const Machine machine = describe_machine();
  const Setting setting{command_line(argc, argv), options.min_seconds, options.keep_memory};
  std::filesystem::create_directories(options.out_dir);  // before the long part, in case it cannot be
  print_machine(machine, setting);
  const std::vector<Result> results = run_all(options);
  print_slower_rows(results);
  write_reports(options.out_dir, machine, setting, results);
  fmt::print("\nwritten: {} and compare.md\n", (options.out_dir / "compare.json").string());
  return 0;
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
