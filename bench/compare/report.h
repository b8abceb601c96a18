// The results as a table on the terminal and as JSON, from which bench/report.py makes tables and charts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cases.h"
#include "machine.h"
#include "measure.h"

namespace cenote_bench {

struct Result {
  Row row;
  int threads = 0;
  std::int64_t bytes_moved = 0;
  std::int64_t working_set = 0;
  std::vector<std::pair<std::string, Timing>> timings;  // by contender
  std::map<std::string, std::int64_t> extra_bytes;
  std::map<std::string, std::string> left_out;
};

/// A run in its file: what it was taken on, how it was asked for, and its rows. A row is there once.
class Record {
 public:
  Record(Facts machine, Facts run);
  /// Throws std::runtime_error when the file cannot be read, or was taken on another machine or with other
  /// versions.
  void resume(const std::filesystem::path& path);

  bool has(const std::string& name) const;
  void add(const Result& result);
  /// Replaces the file atomically.
  void write(const std::filesystem::path& path) const;
  /// How many rows there are, and those in which a contender was faster than cenote.
  void print_summary() const;

 private:
  Facts machine_, run_;
  std::vector<nlohmann::ordered_json> rows_;
};

void print_facts(const Facts& facts);
void print_header();
/// `place` says how far the run is: "12/180, 3 min left".
void print_result(const Result& result, const std::string& place);

}  // namespace cenote_bench
