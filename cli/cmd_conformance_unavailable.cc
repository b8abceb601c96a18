// `cenote conformance` in a build without ONNX: says so, and how to get it.
#include <fmt/format.h>

#include <cstdio>

#include "commands.h"

namespace cenote::cli {

void add_conformance(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("conformance", "Run ONNX backend test cases (not in this build: it has no ONNX)");
  command->allow_extras();
  command->footer(
      "This build has no ONNX. `make setup build` in the source tree installs the Debian packages\n"
      "libonnx-dev and libprotobuf-dev and builds the program with them.");
  command->callback([&exit_code] {
    fmt::print(stderr,
               "cenote: this build has no ONNX, which `cenote conformance` needs; "
               "`make setup build` in the source tree installs it and builds the program with it\n");
    exit_code = kExitBadInput;
  });
}

}  // namespace cenote::cli
