// The subcommands of `cenote`. Each add_<name> registers one with its options and help; its callback
// runs when the command is named, and reports failure by throwing or by setting `exit_code`.
#pragma once

#include <CLI/App.hpp>
#include <string>

namespace cenote::cli {

/// What the program returns to the shell.
constexpr int kExitFine = 0;
constexpr int kExitFailed = 1;
constexpr int kExitBadInput = 2;

void add_conformance(CLI::App& app, int& exit_code);
void add_info(CLI::App& app, int& exit_code);
void add_pool(CLI::App& app, int& exit_code);
void add_train(CLI::App& app, int& exit_code);

/// Of the libtorch that trains; empty in a build without.
std::string torch_version();

}  // namespace cenote::cli
