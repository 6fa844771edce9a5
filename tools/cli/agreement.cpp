#include <shrinkwarp/tools/cli/agreement.hpp>

#include <cstdint>
#include <new>

namespace shrinkwarp::cli {
namespace {

Ending ending_by(const std::exception_ptr& error) {
  if (!error) return {};
  try {
    std::rethrow_exception(error);
  } catch (const UsageError& usage) {
    return {Ending::usage, usage.what(), error};
  } catch (const Cancelled& cancelled) {
    return {Ending::cancelled, cancelled.what(), error};
  } catch (const std::bad_alloc&) {
    return {Ending::failed, "out of memory", error};
  } catch (const std::exception& other) {
    return {Ending::failed, other.what(), error};
  }
}

}  // namespace

void Ending::rethrow(const std::string& more) const {
  if (kind == fine) return;
  if (original && (more.empty() || kind != failed)) std::rethrow_exception(original);
  if (kind == usage) SHRINKWARP_THROW(AgreedUsageError, text);
  if (kind == cancelled) SHRINKWARP_THROW(Cancelled, text);
  SHRINKWARP_THROW(AgreedError, text, more);
}

Ending agree(Ranks& ranks, const std::exception_ptr& error) {
  Ending mine = ending_by(error);
  if (ranks.alone()) return mine;
  // The worst, and of those the first rank's, is the largest of these numbers.
  std::int64_t worst =
      (Ending::fine - mine.kind) * static_cast<std::int64_t>(ranks.size()) + ranks.size() - 1 - ranks.rank();
  ranks.largest(&worst, 1);
  const auto kind = static_cast<Ending::Kind>(Ending::fine - worst / ranks.size());
  if (kind == Ending::fine) return {};
  const auto rank = static_cast<int>(ranks.size() - 1 - worst % ranks.size());
  // What rank 0 has met all may have met, or it has met it for all.
  if (rank != 0) mine.text = concat("rank ", ranks.rank(), " on ", ranks.node_name(), ": ", mine.text);
  return {kind, ranks.text_of(rank, mine.text), nullptr};
}

void require_same_arguments(Ranks& ranks, const std::vector<std::string>& arguments) {
  std::string mine;
  for (const std::string& argument : arguments) mine += argument + '\0';
  const std::string of_first = ranks.text_of(0, mine);
  together(ranks, [&] {
    std::size_t at = 0;
    const auto word_of_first = [&] { return of_first.substr(at, of_first.find('\0', at) - at); };
    for (const std::string& argument : arguments) {
      SHRINKWARP_REQUIRE(at < of_first.size() && word_of_first() == argument, UsageError, "found the argument '",
                         argument, "', wanted ", at < of_first.size() ? "'" + word_of_first() + "'" : "no more",
                         ", as rank 0 has it");
      at += argument.size() + 1;
    }
    SHRINKWARP_REQUIRE(at == of_first.size(), UsageError, "found no argument '", word_of_first(),
                       "', wanted it, as rank 0 has it");
  });
}

}  // namespace shrinkwarp::cli
