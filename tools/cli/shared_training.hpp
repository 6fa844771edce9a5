// What the commands that train do together, where ranks of a run are the replicas of a training.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/cli/interrupt.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>
#include <shrinkwarp/tools/files/resumable_training.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>
#include <shrinkwarp/tools/ranks/replicas_of_ranks.hpp>

namespace shrinkwarp::cli {

/// The replicas of a training; none for a process alone.
class SharedTraining {
 public:
  /// Collective. @param says  why their GPUs add over the host, where they do  @throws as connect_gpus
  SharedTraining(Ranks& ranks, const Context& context, bool says);
  /// nullptr: there are no others.
  Replicas* replicas() { return replicas_ ? &*replicas_ : nullptr; }

 private:
  std::optional<ReplicasOfRanks> replicas_;
};

/// Opens the files of a training, which rank 0 alone writes, and says what changes. Collective.
/// @throws as ResumableTraining, AgreedError (ranks that would not make the same bits, or see different states)
void open_training(Ranks& ranks, const std::string& output, const Fingerprint& fingerprint, bool resume,
                   const std::vector<std::string>& may_change, const std::string& history,
                   std::optional<ResumableTraining>& training);

/// ", on each of 3 ranks", or nothing for a process alone.
std::string ranks_text(int ranks);

/// How a training that was interrupted ends. Collective. @return the exit status
int end_interrupted(Ranks& ranks, const InterruptScope& interrupts, const std::string& output);

}  // namespace shrinkwarp::cli
