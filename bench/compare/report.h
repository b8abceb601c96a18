// The results as a table on the terminal, as JSON and as a markdown page.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "contest.h"
#include "machine.h"
#include "measure.h"

namespace cenote_bench {

struct Result {
  Row row;
  std::int64_t bytes_moved = 0;
  std::int64_t working_set = 0;
  Timing cenote;
  Timing cenote_into;
  Timing torch;
  Timing copy;

  double ratio() const { return torch.median / cenote.median; }
  double ratio_into() const { return torch.median / cenote_into.median; }
  /// 100 means as fast as copying the bytes that the op must move.
  double copy_percent() const { return 100 * copy.median / cenote.median; }
  double copy_percent_into() const { return 100 * copy.median / cenote_into.median; }
  double gigabytes_per_second() const { return static_cast<double>(bytes_moved) / cenote.median / 1e6; }
};

/// How the run was asked for; part of every report.
struct Setting {
  std::string command;
  double min_seconds = 0;
  bool keep_memory = false;
};

void print_machine(const Machine& machine, const Setting& setting);
void print_header();
void print_result(const Result& result);
/// The rows in which torch was faster, or that there are none.
void print_slower_rows(const std::vector<Result>& results);

/// compare.json and compare.md in `folder`, which must exist. Throws std::runtime_error.
void write_reports(const std::filesystem::path& folder, const Machine& machine, const Setting& setting,
                   const std::vector<Result>& results);

}  // namespace cenote_bench
