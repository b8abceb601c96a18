// The bar is redrawn in place, at most ten times a second.
#include "network/train/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace cenote::network {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kPlainLine = std::chrono::seconds(10);
constexpr int kDefaultColumns = 80;
constexpr int kBarWidth = 24;

int terminal_columns(std::FILE* out) {
  struct winsize size = {};
  if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kDefaultColumns;
  return size.ws_col;
}

std::string time_text(double seconds) {
  const auto total = std::llround(std::clamp(seconds, 0.0, 359'999.0));
  if (total >= 3600) return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

}  // namespace

std::string progress_text(const std::string& label, std::int64_t first, std::int64_t done, std::int64_t total,
                          double seconds, int columns, bool bar) {
  const double fraction = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
  const double rate = seconds > 0 ? static_cast<double>(done - first) / seconds : 0;
  std::string text = label;
  if (bar) {
    const int filled = static_cast<int>(fraction * kBarWidth);
    text += fmt::format(" [{:#<{}}{:.<{}}]", "", filled, "", kBarWidth - filled);
  }
  text += fmt::format(" {:3.0f}%", fraction * 100);
  if (!bar) text += fmt::format("  {}/{} images", done, total);
  if (rate > 0) {
    text +=
        fmt::format("  {:.0f} images/s  ETA {}", rate, time_text(static_cast<double>(total - done) / rate));
  }
  if (static_cast<int>(text.size()) >= columns)
    text.resize(static_cast<std::size_t>(std::max(columns - 1, 0)));
  return text;
}

Progress::Progress(std::FILE* out, std::string label, std::int64_t done, std::int64_t total)
    : out_(out),
      label_(std::move(label)),
      first_(done),
      total_(total),
      terminal_(out != nullptr && isatty(fileno(out)) != 0),
      begin_(Clock::now()),
      last_(begin_) {}

Progress::~Progress() { clear(); }

void Progress::update(std::int64_t done) {
  if (out_ == nullptr) return;
  const auto now = Clock::now();
  if (now - last_ < (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kPlainLine))) return;
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  const int columns = terminal_ ? terminal_columns(out_) : 4 * kDefaultColumns;
  const std::string text = progress_text(label_, first_, done, total_, seconds, columns, terminal_);
  std::fprintf(out_, terminal_ ? "\r\033[K%s" : "%s\n", text.c_str());
  std::fflush(out_);
  shown_ = terminal_;
}

void Progress::clear() {
  if (!shown_) return;
  std::fputs("\r\033[K", out_);
  std::fflush(out_);
  shown_ = false;
}

}  // namespace cenote::network
