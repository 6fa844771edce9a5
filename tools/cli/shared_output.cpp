#include <shrinkwarp/tools/cli/shared_output.hpp>

#include <cstdint>
#include <optional>
#include <string>

#include <shrinkwarp/models/lasso/debias.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/files/solve_output.hpp>

namespace shrinkwarp::cli {

Ending write_shared_output(const SolveOptions& options, Ranks& ranks, const Context& context,
                           const Dictionary& dictionary, ObservationSource& observations, const SolveJournal& journal,
                           ProgressOfRanks& progress, const CancelToken* cancel) {
  std::optional<Debias> debias;
  std::optional<SolveOutput> output;
  std::string file;
  Ending ending = ending_of(ranks, [&] {
    if (options.debias) debias.emplace(context, dictionary);
    output.emplace(journal, options.output, debias ? &*debias : nullptr, &observations);
    if (ranks.first()) file = output->begin();
  });
  if (ending.kind != Ending::fine) return ending;
  file = ranks.text_of(0, file);
  // Where one has failed the others need not go on; what they throw then comes after its error.
  const auto look_up = [&] {
    if (progress.exchange() && ranks.raise(Ranks::failed, 0) != 0)
      SHRINKWARP_THROW(Cancelled, "another rank cannot write its part");
    if (cancel->cancelled()) SHRINKWARP_THROW(Cancelled, "cancelled while writing the output");
  };
  ending = ending_of(ranks, [&] {
    try {
      output->write(file, look_up);
    } catch (...) {
      ranks.raise(Ranks::failed, 1);
      throw;
    }
  });
  if (ending.kind != Ending::fine) return ending;
  ranks.sum(output->numbers().data(), static_cast<std::int64_t>(output->numbers().size()));
  return ending_of(ranks, [&] {
    if (ranks.first()) output->finish();
  });
}

}  // namespace shrinkwarp::cli
