// Two pipes and posix_spawn; a process group of its own keeps the terminal's signals from the child.
#include "child.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <system_error>

namespace cenote_bench {

namespace {

/// The ends of a pipe that no child inherits by itself.
std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  return ends;
}

int spawn(std::vector<std::string> command, int input, int output) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t id = 0;
  const int error = posix_spawnp(&id, argv.front(), &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) throw std::system_error(error, std::generic_category(), command.front());
  return id;
}

}  // namespace

Child::Child(const std::vector<std::string>& command) {
  std::signal(SIGPIPE, SIG_IGN);  // a child that ended is seen by the answer that it does not give
  const std::array<int, 2> down = make_pipe(), up = make_pipe();
  id_ = spawn(command, down[0], up[1]);
  close(down[0]);
  close(up[1]);
  to_ = fdopen(down[1], "w");
  from_ = fdopen(up[0], "r");
}

Child::~Child() {
  std::fclose(to_);
  std::fclose(from_);
  waitpid(id_, nullptr, 0);
}

nlohmann::json Child::read() {
  char* line = nullptr;
  std::size_t capacity = 0;
  const ssize_t length = getline(&line, &capacity, from_);
  const std::string text = length > 0 ? std::string(line, static_cast<std::size_t>(length)) : "";
  std::free(line);  // NOLINT(cppcoreguidelines-no-malloc): getline's
  if (text.empty()) throw std::runtime_error("the child process ended");
  return nlohmann::json::parse(text);
}

nlohmann::json Child::ask(const nlohmann::json& question) {
  const std::string text = question.dump() + "\n";
  std::fwrite(text.data(), 1, text.size(), to_);
  std::fflush(to_);
  return read();
}

}  // namespace cenote_bench
