// The rows of the comparison: an op on a shape in a layout, one pass of it, done by cenote through its
// torch operator, by cenote into a given output, by torch (an expression where torch has no kernel), and a
// plain parallel copy of the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "measure.h"

namespace cenote_bench {

struct Row {
  std::string op;  // "max 3x3 s2 p1"
  std::vector<std::int64_t> shape;
  std::string layout;  // "channels-first"
  std::string pass;    // "forward", "forward+indices", "backward"
  std::string name() const;
};

/// The contenders of a row, ready to run, with their buffers.
struct Contest {
  std::vector<Contender> contenders;  // in the order of kContenderNames
  std::int64_t bytes_moved = 0;       // read and written by one call of cenote
  std::int64_t working_set = 0;       // bytes of the buffers that the calls of one contender walk through
};

inline constexpr const char* kContenderNames[] = {"cenote", "cenote into", "torch", "copy"};

std::vector<Row> all_rows(bool quick);
/// Allocates enough sets of buffers that their inputs and outputs together pass `working_set` bytes, and
/// compares cenote's outputs with torch's. Throws std::runtime_error when they differ.
Contest prepare(const Row& row, std::int64_t working_set);

}  // namespace cenote_bench
