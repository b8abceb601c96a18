// Conformance cases in the format of ONNX's backend tests: a folder with model.onnx and folders
// test_data_set_* that hold input_0.pb, input_1.pb, ... and output_0.pb, ...
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "network/onnx/compare.h"

namespace cenote::network::onnx {

enum class Outcome { kPass, kFail, kUnsupported };

struct CaseResult {
  Outcome outcome = Outcome::kPass;
  std::string reason = {};                // empty when it passed
  std::optional<Mismatch> mismatch = {};  // where a value was wrong,
  std::string output = {};                // of this output of the graph,
  std::string data_set = {};              // in this data set
};

/// The case folders at or below `folder`, sorted; symbolic links below it are not followed. Throws Error:
/// kBadFile when it is no folder, kIo when it cannot be read.
std::vector<std::filesystem::path> find_cases(const std::filesystem::path& folder);

/// Runs every data set of the case up to the first that does not pass. Whatever its files hold becomes an
/// outcome; throws nothing but kIo.
CaseResult run_case(const std::filesystem::path& folder, const Tolerance& tolerance);

}  // namespace cenote::network::onnx
