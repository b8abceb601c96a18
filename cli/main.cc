// The program `cenote`: a table of subcommands and the mapping of failures to exit codes.
//
//   0 fine, 1 failed (files, memory, an unexpected error), 2 bad usage or bad input
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "cenote/error.h"
#include "cenote/runtime.h"
#include "commands.h"

namespace cenote::cli {
namespace {

struct Subcommand {
  const char* name;
  void (*add)(CLI::App& app, int& exit_code);
};

constexpr Subcommand kSubcommands[] = {
    {"info", add_info},
    {"pool", add_pool},
    {"conformance", add_conformance},
    {"train", add_train},
};

/// CLI11 reports an unknown command as a missing one; this says which word was wrong.
bool names_unknown_command(const std::string& word) {
  if (word.empty() || word.front() == '-') return false;
  std::string names;
  for (const Subcommand& command : kSubcommands) {
    if (word == command.name) return false;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", command.name);
  }
  fmt::print(stderr, "cenote: unknown command '{}'; the commands are {}\n", word, names);
  return true;
}

int run(int argc, char** argv) {
  // A build with torch starts on torch's threads, which CENOTE_NUM_THREADS does not reach; training returns
  // to them.
  set_parallel_for(nullptr);
  CLI::App app("cenote: pooling, forward and backward, at the speed of memory.", "cenote");
  app.set_version_flag("--version", std::string(version()), "Print the version and exit");
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  cenote info --ops\n"
      "  cenote pool max_pool2d photo.png half.png --kernel 2\n"
      "  cenote pool --help\n\n"
      "Exit codes: 0 fine, 1 failed, 2 bad usage or bad input, 130 stopped by Ctrl-C, 143 by SIGTERM.");
  int exit_code = kExitFine;
  for (const Subcommand& command : kSubcommands) command.add(app, exit_code);

  if (argc < 2) {
    fmt::print(stderr, "{}", app.help());
    return kExitBadInput;
  }
  if (names_unknown_command(argv[1])) return kExitBadInput;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitFine : kExitBadInput;
  }
  return exit_code;
}

int report(const char* what, int exit_code) noexcept {
  std::fprintf(stderr, "cenote: %s\n", what);
  return exit_code;
}

/// Runs the program and turns whatever is thrown into one line and an exit code.
int run_guarded(int argc, char** argv) noexcept {
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    return report(error.what(), error.code() == ErrorCode::kIo ? kExitFailed : kExitBadInput);
  } catch (const std::bad_alloc&) {
    return report("out of memory", kExitFailed);
  } catch (const std::exception& error) {
    return report(error.what(), kExitFailed);
  }
}

}  // namespace
}  // namespace cenote::cli

int main(int argc, char** argv) {
  const int exit_code = cenote::cli::run_guarded(argc, argv);
  // A full disk behind standard output shows only when the buffer is written.
  if (std::fflush(stdout) != 0 && exit_code == cenote::cli::kExitFine) {
    std::fputs("cenote: cannot write to standard output\n", stderr);
    return cenote::cli::kExitFailed;
  }
  return exit_code;
}
