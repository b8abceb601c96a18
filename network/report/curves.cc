// gnuplot runs inside the run folder with fixed names, so no path ever passes through its command language,
// and without a shell. The script goes in by -e, which takes a newline for a space.
#include "network/report/curves.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "network/error_text.h"

namespace cenote::network {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUnfinished = "curves.new.svg";
constexpr const char* kScript =
    "set terminal svg size 960,380 background rgb 'white' font 'sans-serif,13';"
    "set output 'curves.new.svg';"
    "set datafile separator ',';"
    "set grid;"
    "set xlabel 'epoch';"
    "set format x '%.0f';"
    "stats 'metrics.csv' skip 1 using 1 nooutput;"
    "set xrange [STATS_min - 0.5:STATS_max + 0.5];"
    "set xtics ceil((STATS_max - STATS_min + 1) / 10.0);"
    "set multiplot layout 1,2;"
    "set title 'Loss (mean per image)';"
    "plot for [i=2:3] 'metrics.csv' skip 1 using 1:i with linespoints lw 2 pt 7 ps 0.5"
    "  title word('training validation', i - 1);"
    "set title 'Validation accuracy (%)';"
    "plot 'metrics.csv' skip 1 using 1:($4 * 100) with linespoints lw 2 pt 7 ps 0.5 notitle;"
    "unset multiplot;";

/// Runs gnuplot in `folder`; returns its exit status, or -1 with errno set when it cannot be started.
int run_gnuplot(const fs::path& folder) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_RDWR, 0);
  }
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);  // Ctrl-C stops the training, not the picture
  std::array<std::string, 4> arguments = {"gnuplot", "-d", "-e", kScript};
  std::array<char*, 5> argv = {arguments[0].data(), arguments[1].data(), arguments[2].data(),
                               arguments[3].data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, "gnuplot", &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    errno = error;
    return -1;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return status;
}

}  // namespace

std::string draw_curves(const fs::path& folder) {
  const int status = run_gnuplot(folder);
  if (status == -1 && errno == ENOENT) {
    return "gnuplot is not installed: no picture of the curves, the report has them as a table "
           "(apt-get install gnuplot-nox)";
  }
  if (status == -1)
    return fmt::format("gnuplot cannot be started ({}): no picture of the curves", errno_text(errno));
  std::error_code error;
  if (status == 0) fs::rename(folder / kUnfinished, folder / "curves.svg", error);
  if (status == 0 && !error) return "";
  fs::remove(folder / kUnfinished, error);
  return "gnuplot failed: no picture of the curves, the report has them as a table";
}

}  // namespace cenote::network
