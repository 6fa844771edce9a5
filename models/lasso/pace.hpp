// How many problems may run side by side, so that a process that is killed has not much to do again.
#pragma once

#include <cstdint>
#include <deque>

namespace shrinkwarp {

/// Watches the rounds of a batch, a round being kCheckInterval iterations of all that run.
///
/// What is lost with a process is the work on problems that have not left. Two kinds of them are let be: up to kSure
/// whatever they have cost, in float and as many again on their way through double, and any number on which no more than
/// kYoung seconds of work have been spent. With kSure = 256 and kYoung = .96 s these make 512 problems and .96 seconds:
/// together less than 1000 problems or two seconds of work, whichever is more: beside a problem that is no longer young
/// no more are let in than make 1000 in all, and what ran before that is done or old within kYoung. A wide batch is for
/// problems that are quick. Where they turn slow at once, all but kSure are put back and start again later, which costs
/// .96 seconds.
class Pace {
 public:
  static constexpr std::int64_t kSure = 256;                ///< problems
  static constexpr double kYoung = 0.96;                    ///< seconds
  static constexpr std::int64_t kBesideOld = 1000 - kSure;  ///< problems in float, one of which is no longer young

  /// A round is over. @param seconds  it took  @param left  problems that left in it
  void round(double seconds, std::int64_t left);
  /// Rounds that a problem has been through at most while it is young.
  std::int64_t young_rounds() const { return static_cast<std::int64_t>(recent_.size()); }
  /// How many may run: kSure, or as many as leave in half of kYoung at the present rate, so that few grow old.
  /// @param old  how many of those that run are no longer young; with one, kBesideOld is the most, and from half of kSure
  ///             on there is room for no more than kSure
  std::int64_t width(std::int64_t old) const;

 private:
  std::deque<double> recent_;  // seconds of the last rounds, together no more than kYoung
  double recent_seconds_ = 0;
  double seconds_ = 0;  // of all rounds, those of long ago counting less and less
  double left_ = 0;     // likewise
};

}  // namespace shrinkwarp
