// Plug-ins lie in the folder lib/bench beside the program's own; the build makes those whose library it
// finds.
#include "peers.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <functional>
#include <utility>

#include "peers/python_peer.h"

namespace cenote_bench {

namespace {

namespace fs = std::filesystem;
using Sizes = std::vector<std::int64_t>;

struct PlugIn {
  const char* name;
  const char* file;
};

/// oneDNN 3 works with its own OpenCL loader alone, and the first one that is loaded serves both versions.
constexpr PlugIn kPlugIns[] = {
    {"oneDNN 3", "onednn3.so"}, {"oneDNN 2", "onednn2.so"}, {"XNNPACK", "xnnpack.so"}};

fs::path plug_in_folder() {
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "lib/bench";
}

/// The library stays loaded. Nothing of it is seen by the other libraries of the process.
std::unique_ptr<Peer> load(const fs::path& path) {
  if (!fs::exists(path)) throw std::runtime_error("not there when this was built");
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  void* entry = dlsym(library, "cenote_bench_peer");
  if (entry == nullptr) throw std::runtime_error(dlerror());
  return std::unique_ptr<Peer>(reinterpret_cast<decltype(&cenote_bench_peer)>(entry)());
}

Sizes spatial(const Sizes& sizes) { return {sizes.begin() + 2, sizes.end()}; }

Sizes filled(const cenote::Dims& dims, std::size_t rank) {
  if (dims.size() == 1) return Sizes(rank, dims[0]);
  return {dims.begin(), dims.end()};
}

bool is_window(const std::string& op, const char* kind) {
  return op.rfind(std::string(kind) + "_pool", 0) == 0;
}

/// What the last window needs beyond the begin, so that there are as many as there are outputs; it may be
/// negative.
Sizes padding_end(const Problem& problem) {
  Sizes end;
  for (std::size_t axis = 0; axis < problem.x.size(); ++axis) {
    const std::int64_t reach = (problem.kernel[axis] - 1) * problem.dilation[axis] + 1;
    end.push_back((problem.y[axis] - 1) * problem.stride[axis] + reach - problem.x[axis] -
                  problem.padding[axis]);
  }
  return end;
}

}  // namespace

Peers load_peers(const std::vector<std::string>& without, bool compiled) {
  Peers peers;
  const auto add = [&](const char* name, const std::function<std::unique_ptr<Peer>()>& make) {
    if (std::find(without.begin(), without.end(), name) != without.end()) {
      peers.missing[name] = "left out by --without";
      return;
    }
    try {
      peers.found.push_back(make());
    } catch (const std::exception& error) {
      peers.missing[name] = error.what();
    }
  };
  for (const PlugIn& plug_in : kPlugIns)
    add(plug_in.name, [&] { return load(plug_in_folder() / plug_in.file); });
  const auto add_python = [&](const char* name, const char* driver, const std::vector<PeerLayout>& layouts) {
    add(name, [&] { return make_python_peer(name, driver, layouts); });
  };
  add_python("ONNX Runtime", "onnxruntime_peer.py", {PeerLayout::kPlainFirst});
  if (compiled)
    add_python("torch.compile", "torch_compile_peer.py", {PeerLayout::kPlainFirst, PeerLayout::kPlainLast});
  return peers;
}

std::optional<Problem> problem_of(const Row& row, const Sizes& y_sizes, PeerLayout layout, int threads) {
  const bool global = row.op.name == "global_avg_pool2d";
  const bool max = is_window(row.op.name, "max");
  if (!global && !max && !is_window(row.op.name, "avg")) return std::nullopt;
  if (row.op.repeat > 1 || (row.pass != kForward && row.pass != kBackward)) return std::nullopt;
  Problem problem;
  problem.kind = max ? PoolKind::kMax : PoolKind::kAverage;
  problem.dtype = row.dtype;
  problem.backward = row.pass == kBackward;
  problem.layout = layout;
  problem.threads = threads;
  problem.n = row.shape[0];
  problem.c = row.shape[1];
  problem.x = spatial(row.shape);
  problem.y = spatial(y_sizes);
  const std::size_t rank = problem.x.size();
  const cenote::OpArguments& arguments = row.op.arguments;
  problem.kernel = global ? problem.x : filled(arguments.kernel, rank);
  problem.stride = global ? Sizes(rank, 1) : filled(arguments.stride, rank);
  problem.padding = filled(arguments.padding, rank);
  problem.dilation = filled(arguments.dilation, rank);
  problem.padding_end = padding_end(problem);
  return problem;
}

std::vector<PeerLayout> layouts_for(const Peer& peer, const Row& row) {
  std::vector<PeerLayout> layouts;
  for (const PeerLayout layout : peer.layouts()) {
    const bool last = layout == PeerLayout::kPlainLast;
    if (last == (row.layout == kChannelsLast)) layouts.push_back(layout);
  }
  return layouts;
}

}  // namespace cenote_bench
