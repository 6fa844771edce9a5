#include <shrinkwarp/tools/cli/training_line.hpp>

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <string>

namespace shrinkwarp::cli {

TrainingLine::TrainingLine(bool quiet, std::int64_t layers)
    : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1), layers_(layers), last_(std::chrono::steady_clock::now()) {}

TrainingLine::~TrainingLine() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void TrainingLine::update(const TrainingEvent& event) {
  if (quiet_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000))) return;
  last_ = now;
  char text[200];
  std::snprintf(text, sizeof(text), "layer %lld of %lld, pass %lld: cost %.9g", static_cast<long long>(event.depth),
                static_cast<long long>(layers_), static_cast<long long>(event.epoch), event.loss);
  std::string line = text;
  if (!std::isnan(event.validation)) {
    std::snprintf(text, sizeof(text), ", validation %.9g, best %.9g", event.validation, event.best_validation);
    line += text;
  }
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", line.c_str());
    return;
  }
  std::fprintf(stderr, "\r\033[K%.79s", line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace shrinkwarp::cli
