// What ranks tell each other while they solve and write: who takes which problems, how far all are, and when to stop.
#pragma once

#include <chrono>
#include <cstdint>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/tools/cli/interrupt.hpp>
#include <shrinkwarp/tools/cli/progress_bar.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp::cli {

/// Problems in chunks, which ranks take from a counter: 256 problems at first, fewer towards the end, so that ranks
/// with easy ones take what those with hard ones have not begun, and all end at about the same time.
class ChunksOfRanks : public ProblemShare {
 public:
  explicit ChunksOfRanks(Ranks& ranks) : ranks_(ranks) {}
  void begin(std::int64_t problems) override;
  Range next() override;
  std::int64_t fair(std::int64_t least) const override;

 private:
  Ranks& ranks_;
  int passes_ = 0;             // begun
  std::int64_t problems_ = 0;  // of the source
  std::int64_t chunk_ = -1;    // the last that was looked at ...
  Range range_;                // ... and its problems
};

/// Own progress to others, theirs to the bar of rank 0, and a stop of anybody to all. Alone it is the bar.
class ProgressOfRanks {
 public:
  ProgressOfRanks(Ranks& ranks, const InterruptScope& interrupts, ProgressBar& bar)
      : ranks_(ranks), interrupts_(interrupts), bar_(bar) {}
  /// To be called between rounds.
  void update(const Progress& progress);
  /// Likewise by a rank that has done its part, or that writes the output. It tells and hears every 50 ms at most.
  /// @return whether it did now; alone never
  bool exchange(bool now = false);

 private:
  using Clock = std::chrono::steady_clock;
  Ranks& ranks_;
  const InterruptScope& interrupts_;
  ProgressBar& bar_;
  Progress own_, told_;
  Clock::time_point last_ = Clock::now();
};

}  // namespace shrinkwarp::cli
