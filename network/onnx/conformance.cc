// A case fails when a value is wrong and when its files are damaged; it is not supported when cenote has no
// such operator or type, or when the files keep their data in a way that is not read here.
#include "network/onnx/conformance.h"

#include <algorithm>
#include <new>

#include "network/error_text.h"
#include "network/onnx/reader.h"
#include "network/onnx/run.h"

namespace cenote::network::onnx {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModelFile = "model.onnx";
constexpr const char* kDataSetStart = "test_data_set_";
constexpr int kDeepestFolder = 64;

/// The entries of a folder, sorted.
std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  fs::directory_iterator next(folder, error);
  while (!error && next != fs::directory_iterator()) {
    entries.push_back(*next);
    next.increment(error);
  }
  if (error) fail(ErrorCode::kIo, "cannot read the folder {}: {}", folder.string(), error.message());
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool is_data_set(const fs::directory_entry& entry) {
  std::error_code ignored;
  return entry.path().filename().string().starts_with(kDataSetStart) && entry.is_directory(ignored);
}

void add_cases(const fs::path& folder, int depth, std::vector<fs::path>& found) {
  const auto entries = entries_of(folder);
  const bool is_case = std::any_of(entries.begin(), entries.end(), [](const fs::directory_entry& entry) {
    return entry.path().filename() == kModelFile || is_data_set(entry);
  });
  if (is_case) {
    found.push_back(folder);
    return;
  }
  if (depth == kDeepestFolder) return;
  for (const fs::directory_entry& entry : entries) {
    std::error_code ignored;
    if (!entry.is_symlink(ignored) && entry.is_directory(ignored)) add_cases(entry.path(), depth + 1, found);
  }
}

/// The files START_0.pb, START_1.pb, ... of a data set. A gap in the numbers is an error.
std::vector<fs::path> numbered_files(const fs::path& data_set, const std::string& start) {
  std::size_t count = 0;
  for (const fs::directory_entry& entry : entries_of(data_set)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(start + "_") && name.ends_with(".pb")) ++count;
  }
  std::vector<fs::path> files;
  for (std::size_t i = 0; i < count; ++i) {
    files.push_back(data_set / fmt::format("{}_{}.pb", start, i));
    std::error_code ignored;
    if (!fs::exists(files.back(), ignored)) {
      fail(ErrorCode::kBadFile, "{} has {} {} files, but {} is missing", data_set.string(), count, start,
           files.back().filename().string());
    }
  }
  return files;
}

std::vector<Value> read_inputs(const fs::path& data_set) {
  std::vector<Value> inputs;
  Budget budget;  // before the run has its own: many files together must not exhaust the memory
  for (const fs::path& file : numbered_files(data_set, "input")) {
    inputs.push_back(read_tensor(file));
    budget.take_value("the inputs", inputs.back().type, inputs.back().sizes);
  }
  return inputs;
}

CaseResult failure(const fs::path& data_set, const std::string& reason) {
  return {.outcome = Outcome::kFail, .reason = reason, .data_set = data_set.filename().string()};
}

CaseResult check_output(const Declaration& declaration, const Value& got, const Value& expected,
                        const fs::path& data_set, const Tolerance& tolerance) {
  const std::string name = shown(declaration.name);
  if (got.type != expected.type || got.sizes != expected.sizes) {
    return failure(data_set,
                   fmt::format("output {}: got {} of {}, expected {} of {}", name, name_of(got.type),
                               to_string(got.sizes), name_of(expected.type), to_string(expected.sizes)));
  }
  const auto mismatch = compare(got, expected, tolerance);
  if (!mismatch) return {};
  CaseResult result = failure(data_set, fmt::format("output {}: {}", name, to_string(*mismatch)));
  result.mismatch = mismatch;
  result.output = declaration.name;
  return result;
}

CaseResult run_data_set(const Model& model, const fs::path& data_set, const Tolerance& tolerance) {
  Budget budget;
  const std::vector<Value> outputs = run_model(model, read_inputs(data_set), budget);
  const auto files = numbered_files(data_set, "output");
  if (files.size() != outputs.size()) {
    return failure(data_set, fmt::format("{} has {} output files, the graph has {} outputs",
                                         data_set.string(), files.size(), outputs.size()));
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    CaseResult result =
        check_output(model.outputs[i], outputs[i], read_tensor(files[i]), data_set, tolerance);
    if (result.outcome != Outcome::kPass) return result;
    require_declared(model.outputs[i], outputs[i], "output");
  }
  return {};
}

CaseResult run_data_sets(const fs::path& folder, const Tolerance& tolerance) {
  const Model model = read_model(folder / kModelFile);
  require_supported(model);
  if (!has_pooling(model)) fail(ErrorCode::kUnsupported, "the graph has no pooling operator");
  if (model.outputs.empty()) fail(ErrorCode::kBadFile, "the graph has no outputs");
  bool any = false;
  for (const fs::directory_entry& entry : entries_of(folder)) {
    if (!is_data_set(entry)) continue;
    any = true;
    CaseResult result = run_data_set(model, entry.path(), tolerance);
    if (result.outcome != Outcome::kPass) return result;
  }
  if (!any) fail(ErrorCode::kBadFile, "{} has no folder {}*", folder.string(), kDataSetStart);
  return {};
}

}  // namespace

std::vector<fs::path> find_cases(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) fail(ErrorCode::kBadFile, "{} does not exist", folder.string());
  if (!fs::is_directory(folder, ignored)) fail(ErrorCode::kBadFile, "{} is no folder", folder.string());
  std::vector<fs::path> found;
  add_cases(folder, 0, found);
  std::sort(found.begin(), found.end());
  return found;
}

CaseResult run_case(const fs::path& folder, const Tolerance& tolerance) {
  try {
    return run_data_sets(folder, tolerance);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kIo) throw;
    const bool unsupported = error.code() == ErrorCode::kUnsupported;
    return {.outcome = unsupported ? Outcome::kUnsupported : Outcome::kFail, .reason = error.what()};
  } catch (const std::bad_alloc&) {
    return {.outcome = Outcome::kFail, .reason = "out of memory"};
  }
}

}  // namespace cenote::network::onnx
