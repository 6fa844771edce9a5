#include <shrinkwarp/tools/files/solve_output.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>
#include <shrinkwarp/tools/files/finished_output.hpp>
#include <shrinkwarp/tools/files/solve_record.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kBlockBytes = 1 << 20;    // of codes that go to the output together
constexpr std::int64_t kBlockProblems = 4096;    // at most
constexpr std::int64_t kDebiasedProblems = 256;  // likewise, where their observations are read again
constexpr int kHalves = 2;                       // of a sum modulo 2^64, so that their own sums have no overflow

}  // namespace

SolveOutput::SolveOutput(const SolveJournal& journal, const std::string& output, const Debias* debias,
                         ObservationSource* source)
    : journal_(journal),
      output_(output),
      debias_(debias),
      source_(source),
      sizes_(journal.sizes(debias != nullptr)),
      ranges_(journal.ranges()),
      numbers_(static_cast<std::size_t>(kHalves + journal.parts() * sizes_.arrays())) {}

std::string SolveOutput::begin() {
  file_.emplace(output_, sizes_, journal_.parts() > 1);
  return file_->temporary_path();
}

void SolveOutput::write(const std::string& file, FunctionRef<void()> between) {
  const SparseCodesRange& range = ranges_[static_cast<std::size_t>(journal_.part())];
  SparseCodesPart part(output_, file, sizes_, range);
  std::uint64_t observations = 0;
  std::vector<std::byte> entry;
  LassoBatch block;
  std::vector<std::uint64_t> hashes;  // of the block's observations
  const std::int64_t problems = debias_ ? kDebiasedProblems : kBlockProblems;
  for (std::int64_t i = range.first; i < range.last; ++i) {
    const EntryHead head = journal_.read_entry(i, entry);
    observations += observation_hash(i, head.row_hash);
    append_entry(head, entry.data(), block);
    hashes.push_back(head.row_hash);
    const bool full =
        block.size() == problems || static_cast<std::int64_t>(block.codes.values.size()) * 12 >= kBlockBytes;
    if (full || i + 1 == range.last) {
      between();
      part.append(block, debias_ ? amplitudes_of(block, hashes) : std::vector<double>{});
      block = {};
      hashes.clear();
    }
  }
  const std::vector<std::uint32_t> checksums = part.finish(journal_.parts() > 1);
  numbers_[0] = static_cast<std::int64_t>(observations >> 32);
  numbers_[1] = static_cast<std::int64_t>(observations & 0xffffffff);
  std::copy(checksums.begin(), checksums.end(), numbers_.begin() + kHalves + journal_.part() * sizes_.arrays());
}

std::vector<double> SolveOutput::amplitudes_of(const LassoBatch& block,
                                               const std::vector<std::uint64_t>& hashes) const {
  const std::int64_t n = debias_->rows();
  const Tensor<double> X(Context::cpu(1), n, block.size());
  source_->read(block.index.front(), X.matrix());
  for (std::int64_t b = 0; b < block.size(); ++b)
    SHRINKWARP_REQUIRE(hash_bytes(X.matrix().column(b), n * static_cast<std::int64_t>(sizeof(double))) ==
                           hashes[static_cast<std::size_t>(b)],
                       ValueError, source_->name(), ": row ", block.index[static_cast<std::size_t>(b)],
                       " is not the one that was solved, wanted the same for its amplitudes");
  return debias_->amplitudes(X.matrix(), block.codes);
}

void SolveOutput::finish() {
  std::vector<std::vector<std::uint32_t>> checksums(ranges_.size());
  auto next = numbers_.begin() + kHalves;
  for (std::vector<std::uint32_t>& of_part : checksums)
    std::generate_n(std::back_inserter(of_part), sizes_.arrays(), [&] { return static_cast<std::uint32_t>(*next++); });
  Fingerprint of_observations;
  of_observations.add_hash(kObservationsHash,
                           (static_cast<std::uint64_t>(numbers_[0]) << 32) + static_cast<std::uint64_t>(numbers_[1]));
  file_->finish(journal_.fingerprint() + of_observations.text(), ranges_, checksums);
  file_.reset();
}

void write_output(const SolveJournal& journal, const std::string& output, const CancelToken* cancel) {
  SolveOutput result(journal, output);
  result.write(result.begin(), [&] {
    if (cancel && cancel->cancelled()) SHRINKWARP_THROW(Cancelled, "cancelled while writing the output");
  });
  result.finish();
}

}  // namespace shrinkwarp
