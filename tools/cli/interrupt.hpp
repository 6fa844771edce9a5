// SIGINT and SIGTERM as a request to stop at the next check.
#pragma once

#include <signal.h>

#include <shrinkwarp/runtime/progress.hpp>

namespace shrinkwarp::cli {

/// While one lives, the first SIGINT or SIGTERM sets its token and the next one, of either kind, kills. A signal that the
/// program was started to ignore, as nohup and background jobs of a shell are, stays ignored. One at a time.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  const CancelToken* token() const;
  /// The signal that set the token; 0 while none has.
  int number() const;
  /// As if that signal had come, but that the next one of its kind is still heard: another process has got it.
  void hear(int number) const;

 private:
  struct sigaction before_[2];
};

}  // namespace shrinkwarp::cli
