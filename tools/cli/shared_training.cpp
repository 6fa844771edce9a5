#include <shrinkwarp/tools/cli/shared_training.hpp>

#include <filesystem>
#include <iostream>
#include <memory>
#include <utility>

#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/tools/cli/agreement.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/shared_inputs.hpp>
#include <shrinkwarp/tools/files/training_checkpoint.hpp>
#include <shrinkwarp/tools/ranks/gpu_ranks.hpp>

namespace shrinkwarp::cli {

SharedTraining::SharedTraining(Ranks& ranks, const Context& context, bool says) {
  if (ranks.alone()) return;
  std::unique_ptr<GpuRanks> gpus;
  if (context.is_cuda()) {
    std::string why_not;
    gpus = connect_gpus(ranks, context, why_not);
    if (!gpus && says)
      std::cerr << "shrinkwarp: gradients are added over the host: " << printable(why_not, 300) << '\n';
  }
  replicas_.emplace(ranks, std::move(gpus));
}

void open_training(Ranks& ranks, const std::string& output, const Fingerprint& fingerprint, bool resume,
                   const std::vector<std::string>& may_change, const std::string& history,
                   std::optional<ResumableTraining>& training) {
  require_same_on_all(ranks, fingerprint);
  together(ranks, [&] { training.emplace(output, fingerprint, resume, may_change, ranks.first()); });
  const std::string state = training->state() + (training->is_finished() ? "finished" : "");
  const std::string of_first = ranks.text_of(0, state);
  together(ranks, [&] {
    SHRINKWARP_REQUIRE(state == of_first, Error, "does not see ", TrainingCheckpoint::path_of(output), " and ", output,
                       " as rank 0 does, wanted the same files");
  });
  together(ranks, [&] { training->begin_history(history); });
  for (const Fingerprint::Difference& change : training->changes())
    std::cerr << "shrinkwarp: goes on with " << change.name << ' ' << change.wanted << " in place of "
              << printable(change.found) << '\n';
}

std::string ranks_text(int ranks) {
  return ranks > 1 ? concat(", on each of ", ranks, " ranks") : std::string();
}

int end_interrupted(Ranks& ranks, const InterruptScope& interrupts, const std::string& output) {
  std::int64_t number = interrupts.number();
  ranks.largest(&number, 1);
  const std::string checkpoint = TrainingCheckpoint::path_of(output);
  std::cerr << "shrinkwarp: interrupted"
            << (std::filesystem::exists(checkpoint) ? ": --resume goes on with " + checkpoint : "") << '\n';
  return kSignal + static_cast<int>(number);
}

}  // namespace shrinkwarp::cli
