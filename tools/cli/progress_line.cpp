#include <shrinkwarp/tools/cli/progress_line.hpp>

#include <unistd.h>

#include <cstdio>

namespace shrinkwarp::cli {

ProgressLine::ProgressLine(bool quiet)
    : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1), last_(std::chrono::steady_clock::now()) {}

ProgressLine::~ProgressLine() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::update(FunctionRef<std::string()> text) {
  if (quiet_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000))) return;
  last_ = now;
  const std::string line = text();
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", line.c_str());
    return;
  }
  std::fprintf(stderr, "\r\033[K%.79s", line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace shrinkwarp::cli
