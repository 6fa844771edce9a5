// The journal of an output, of which each rank has a part: what it holds, what is said of it, and when it may be gone on with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/tools/cli/solve_options.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>
#include <shrinkwarp/tools/files/solve_journal.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp::cli {

/// The output is there and no journal of it. Rank 0 has looked. Collective.
bool finished_before(const SolveOptions& options, Ranks& ranks);

/// For an output without a journal: it is finished if this solve would make the same. @throws ValueError, Error
void require_same_output(const SolveOptions& options, const Fingerprint& fingerprint, ObservationSource& observations,
                         const CancelToken* cancel);

/// Opens the journal of the output, each rank its parts. Problems that it holds, or may hold where it is damaged, are not lost by
/// mistake. Collective.
std::unique_ptr<SolveJournal> open_journal(const SolveOptions& options, Ranks& ranks);

/// What all ranks hold of a journal.
struct Held {
  std::int64_t problems = 0, damaged_bytes = 0;
};
/// Collective.
Held held_by_all(Ranks& ranks, const SolveJournal& journal);

/// No problem is in the parts of two ranks; each has looked at its own, and they have been merged. Collective.
void require_once(Ranks& ranks, const SolveJournal& journal, std::int64_t problems);

/// What a solve that has not come to its end says.
std::string kept_text(const SolveOptions& options, std::int64_t held, std::int64_t problems);

}  // namespace shrinkwarp::cli
