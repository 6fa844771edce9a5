#include <shrinkwarp/tools/cli/progress_bar.hpp>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

ProgressBar::ProgressBar(bool quiet, std::int64_t before)
    : quiet_(quiet), before_(before), terminal_(isatty(STDERR_FILENO) == 1), started_(Clock::now()), last_(started_) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void ProgressBar::update(const Progress& progress) {
  if (quiet_) return;
  const auto now = Clock::now();
  if (now - last_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000))) return;
  last_ = now;
  const double elapsed = std::chrono::duration<double>(now - started_).count();
  const double rate = static_cast<double>(progress.done) / std::max(elapsed, 1e-9);
  char gap[32];
  std::snprintf(gap, sizeof(gap), "%.1e", progress.worst_gap);
  const std::int64_t done = before_ + progress.done;
  const std::int64_t total = before_ + progress.total;
  std::string text =
      with_commas(done) + " of " + with_commas(total) + " problems, " + short_number(rate) + "/s, worst gap " + gap;
  if (progress.unconverged > 0) text += ", " + with_commas(progress.unconverged) + " missed it";
  if (progress.done > 0)
    text += ", " + duration_text(static_cast<double>(progress.total - progress.done) / rate) + " left";
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  const int width = terminal_width();
  const int room = std::clamp(width - static_cast<int>(text.size()) - 4, 0, 40);
  std::string bar;
  if (room >= 10) {
    const auto full = static_cast<std::size_t>(room * done / std::max<std::int64_t>(total, 1));
    bar = "[" + std::string(full, '#') + std::string(static_cast<std::size_t>(room) - full, '.') + "] ";
  }
  std::fprintf(stderr, "\r\033[K%.*s", width - 1, (bar + text).c_str());
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace shrinkwarp::cli
