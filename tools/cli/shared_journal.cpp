#include <shrinkwarp/tools/cli/shared_journal.hpp>

#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/cli/agreement.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/text.hpp>
#include <shrinkwarp/tools/files/finished_output.hpp>
#include <shrinkwarp/tools/files/output_lock.hpp>

namespace shrinkwarp::cli {
namespace {

/// The journal has parts of ranks but the first.
bool several_parts(const SolveOptions& options) {
  const std::vector<int> parts = SolveJournal::parts_of(options.output);
  return !parts.empty() && parts.back() > 0;
}

}  // namespace

bool finished_before(const SolveOptions& options, Ranks& ranks) {
  std::error_code ignored;
  const bool finished = ranks.first() && options.resume && std::filesystem::exists(options.output, ignored) &&
                        SolveJournal::parts_of(options.output).empty();
  return !ranks.text_of(0, finished ? "finished" : "").empty();
}

void require_same_output(const SolveOptions& options, const Fingerprint& fingerprint, ObservationSource& observations,
                         const CancelToken* cancel) {
  constexpr const char* kAfresh = "; without --resume a solve starts afresh and replaces it";
  std::string difference;
  try {
    difference = difference_of_output(options.output, fingerprint, observations, cancel);
  } catch (const IoError& error) {
    SHRINKWARP_THROW(Error, error.what(), kAfresh);
  }
  SHRINKWARP_REQUIRE(difference.empty(), ValueError, options.output,
                     " is of a solve that differs from this one: ", difference, kAfresh);
}

Held held_by_all(Ranks& ranks, const SolveJournal& journal) {
  std::int64_t numbers[] = {journal.held(), journal.damaged_bytes()};
  ranks.sum(numbers, 2);
  return {numbers[0], numbers[1]};
}

void require_once(Ranks& ranks, const SolveJournal& journal, std::int64_t problems) {
  const std::int64_t entries = held_by_all(ranks, journal).problems;
  together(ranks, [&] {
    std::int64_t held = 0;
    for (std::int64_t i = 0; i < problems; ++i) held += journal.holds(i) ? 1 : 0;
    SHRINKWARP_REQUIRE(held == entries, Error, journal.path(), " and its further parts hold ",
                       with_commas(entries - held), " problems twice, wanted each once");
  });
}

std::string kept_text(const SolveOptions& options, std::int64_t held, std::int64_t problems) {
  if (held == 0) return "no problem was finished";
  return concat(with_commas(held), " of ", with_commas(problems), " problems are kept in ", options.output, ".journal",
                several_parts(options) ? " and its further parts" : "", ", --resume goes on with them");
}

/// All ranks write to the folder of the output, and rank 0 reads what they have written. Collective.
void require_one_folder(const SolveOptions& options, Ranks& ranks) {
  if (ranks.alone()) return;
  std::optional<OutputLock> mark;  // a file that nobody else makes
  together(ranks, [&] {
    if (!ranks.first()) return;
    require_writable(options.output);
    mark.emplace(options.output + ".shrinkwarp-" + std::to_string(::getpid()));
  });
  const std::string path = ranks.text_of(0, mark ? mark->path() : "");
  together(ranks, [&] {
    std::error_code ignored;
    SHRINKWARP_REQUIRE(std::filesystem::exists(path, ignored), Error, "does not see the folder of ", options.output,
                       " as rank 0 does, wanted one that all ranks write to");
  });
}

std::unique_ptr<SolveJournal> open_journal(const SolveOptions& options, Ranks& ranks) {
  require_one_folder(options, ranks);
  std::unique_ptr<SolveJournal> journal;
  together(ranks, [&] { journal = std::make_unique<SolveJournal>(options.output, ranks.rank(), ranks.size()); });
  const Held held = held_by_all(ranks, *journal);
  const std::string damage = held.damaged_bytes > 0
                                 ? concat(with_commas(held.damaged_bytes), " bytes at ",
                                          several_parts(options) ? "the end of a part" : "its end", " are damaged")
                                 : "";
  const std::string path = ranks.text_of(0, journal->path());
  together(ranks, [&] {
    SHRINKWARP_REQUIRE(options.resume || (held.problems == 0 && damage.empty()), Error, path, " holds ",
                       with_commas(held.problems), " finished problems of an earlier run", damage.empty() ? "" : ", ",
                       damage, ": --resume goes on with them, deleting ",
                       several_parts(options) ? "it and its further parts" : "the file", " starts afresh");
    if (ranks.first()) remove_leftovers(options.output);
  });
  if (!damage.empty() && ranks.first())
    std::cerr << "shrinkwarp: " << path << ": " << damage << "; the problems in them are solved again\n";
  return journal;
}

}  // namespace shrinkwarp::cli
