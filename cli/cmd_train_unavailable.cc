// `cenote train` in a build without torch: says so, and how to get it.
#include <fmt/format.h>

#include <cstdio>

#include "commands.h"

namespace cenote::cli {

std::string torch_version() { return ""; }

void add_train(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("train", "Train a network (not in this build: it has no torch)");
  command->allow_extras();
  command->footer(
      "This build has no torch. `make setup build` in the source tree installs the torch wheel into .venv\n"
      "and builds the program with it.");
  command->callback([&exit_code] {
    fmt::print(stderr,
               "cenote: this build has no torch, which `cenote train` needs; "
               "`make setup build` in the source tree installs it and builds the program with it\n");
    exit_code = kExitBadInput;
  });
}

}  // namespace cenote::cli
