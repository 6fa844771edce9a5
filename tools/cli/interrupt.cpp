#include <shrinkwarp/tools/cli/interrupt.hpp>

#include <cstddef>
#include <iterator>

namespace shrinkwarp::cli {
namespace {

// What a handler may touch has static storage.
CancelToken interrupted;
volatile sig_atomic_t interrupting_signal = 0;
constexpr int kSignals[] = {SIGINT, SIGTERM};
volatile sig_atomic_t caught[std::size(kSignals)] = {};

extern "C" void interrupt(int number) {
  interrupting_signal = number;
  interrupted.cancel();
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    if (caught[i]) signal(kSignals[i], SIG_DFL);
  }
}

}  // namespace

InterruptScope::InterruptScope() {
  static_assert(std::size(kSignals) == sizeof before_ / sizeof before_[0]);
  struct sigaction action {};
  action.sa_handler = interrupt;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int number : kSignals) sigaddset(&action.sa_mask, number);
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    sigaction(kSignals[i], nullptr, &before_[i]);
    if (before_[i].sa_handler == SIG_IGN) continue;
    caught[i] = 1;
    sigaction(kSignals[i], &action, nullptr);
  }
}

InterruptScope::~InterruptScope() {
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    if (caught[i]) sigaction(kSignals[i], &before_[i], nullptr);
    caught[i] = 0;
  }
}

const CancelToken* InterruptScope::token() const {
  return &interrupted;
}

int InterruptScope::number() const {
  return interrupting_signal;
}

void InterruptScope::hear(int number) const {
  interrupting_signal = number;
  interrupted.cancel();
}

}  // namespace shrinkwarp::cli
