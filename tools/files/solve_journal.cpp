#include <shrinkwarp/tools/files/solve_journal.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <system_error>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

constexpr const char* kName = "SolveJournal";
const std::string kFormat = "journal: solve 1\n";           // begins the header
constexpr std::int64_t kRecordBytes = 1 << 20;              // a record has no more, but for its last problem
constexpr std::int64_t kFirstRead = 56 + 12 * 32;           // bytes of an entry read at once: most have no more atoms
constexpr std::int64_t kRowsBytes = std::int64_t{1} << 20;  // of observations read at once

constexpr int kPlaceBits = 43;              // of a position: a part has at most 8 TiB, and 20 bits for its number
constexpr std::size_t kForeignParts = 200;  // open side by side

// Nonzeros are counted by blocks of problems: enough for each process that its share is even, and no more than that.
constexpr std::int64_t kBlocksOfProcess = 16;
constexpr std::int64_t kLeastBlock = 64;

std::int64_t position_of(int part, std::int64_t place) {
  return (static_cast<std::int64_t>(part) << kPlaceBits) | place;
}
int part_of(std::int64_t position) {
  return static_cast<int>(position >> kPlaceBits);
}
std::int64_t place_of(std::int64_t position) {
  return position & ((std::int64_t{1} << kPlaceBits) - 1);
}

void check_cancel(const CancelToken* cancel, const char* doing) {
  if (cancel && cancel->cancelled()) SHRINKWARP_THROW(Cancelled, "cancelled while ", doing);
}

std::uint64_t row_hash(VectorView<const double> x) {
  return hash_bytes(x.data, x.size * static_cast<std::int64_t>(sizeof(double)));
}

}  // namespace

std::string SolveJournal::path_of(const std::string& output, int part) {
  const std::string path = resolved_path(output) + ".journal";
  return part == 0 ? path : concat(path, ".", part);
}

std::vector<int> SolveJournal::parts_of(const std::string& output) {
  constexpr std::size_t kDigits = 6;  // numbers that a position has room for
  const std::filesystem::path first = path_of(output);
  const std::string name = first.filename().string();
  std::vector<int> parts;
  std::error_code none;  // of a folder that cannot be read: opening a part in it says why
  for (std::filesystem::directory_iterator file(first.has_parent_path() ? first.parent_path() : ".", none), end;
       !none && file != end; file.increment(none)) {
    const std::string found = file->path().filename().string();
    if (found == name) parts.push_back(0);
    if (found.size() <= name.size() + 1 || found.compare(0, name.size() + 1, name + ".") != 0) continue;
    const std::string number = found.substr(name.size() + 1);
    const bool plain = number.find_first_not_of("0123456789") == std::string::npos && number[0] != '0';
    if (plain && number.size() <= kDigits) parts.push_back(std::stoi(number));
  }
  std::sort(parts.begin(), parts.end());
  return parts;
}

SolveJournal::SolveJournal(const std::string& output, int part, int parts)
    : output_(output), part_(part), processes_(parts) {
  OutputFile::scratch(kName, output);  // only to see that a file can be made there
  open(part);
  for (const int number : parts_of(output))
    if (number >= parts && number % parts == part) open(number);
}

void SolveJournal::open(int number) {
  Part& part = parts_.emplace(number, Part{Journal::open(kName, path_of(output_, number))}).first->second;
  const Journal& journal = part.journal;
  const std::string& header = journal.header();
  if (header.empty()) return;
  if (header.compare(0, kFormat.size(), kFormat) != 0)
    SHRINKWARP_THROW_IO(journal.origin(), 0, "found '", printable(header.substr(0, header.find('\n')), 40),
                        "', wanted '", kFormat.substr(0, kFormat.size() - 1), "'");
  journal.for_each([&](std::int64_t position, std::int64_t bytes) {
    std::byte count[sizeof(std::int64_t)];
    journal.read(position, count, std::min<std::int64_t>(bytes, sizeof count));
    part.held += solve_record_entries(count, bytes, journal.origin());
  });
  held_ += part.held;
}

SolveJournal::~SolveJournal() {
  if (removed_) return;
  for (auto& [number, part] : parts_) {
    if (part.journal.may_hold_records()) continue;
    try {
      part.journal.remove();
    } catch (...) {  // it stays, and is replaced by the next solve
    }
  }
}

std::int64_t SolveJournal::damaged_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [number, part] : parts_)
    if (!part.journal.header().empty()) bytes += part.journal.damaged_bytes();
  return bytes;
}

LassoSummary SolveJournal::start(const Fingerprint& fingerprint, ObservationSource& source, std::int64_t atoms,
                                 const CancelToken* cancel) {
  atoms_ = atoms;
  positions_.assign(static_cast<std::size_t>(source.size()), -1);
  const std::int64_t blocks = kBlocksOfProcess * processes_;
  block_ = std::max(kLeastBlock, (source.size() + blocks - 1) / blocks);
  nonzeros_.assign(static_cast<std::size_t>((source.size() + block_ - 1) / block_), 0);
  all_nonzeros_ = nonzeros_;
  LassoSummary summary;
  for (auto& [number, part] : parts_) {
    if (part.held == 0) continue;
    const std::string difference = fingerprint.difference(part.journal.header().substr(kFormat.size()));
    SHRINKWARP_REQUIRE(difference.empty(), ValueError, part.journal.origin().path,
                       " is of a solve that differs from this one: ", difference,
                       ". Options and files as they were go on with it, deleting it starts afresh");
    find_problems(number, part, summary);
  }
  if (held_ > 0) check_rows(source, cancel, summary);
  Part& written = parts_.at(part_);
  if (written.held == 0) written.journal.begin(kFormat + fingerprint.text());
  return summary;
}

// Fills positions_ from the records of a part.
void SolveJournal::find_problems(int number, const Part& part, LassoSummary& summary) {
  const Journal& journal = part.journal;
  std::vector<std::byte> record;
  journal.for_each([&](std::int64_t position, std::int64_t bytes) {
    record.resize(static_cast<std::size_t>(bytes));
    journal.read(position, record.data(), bytes);
    const auto problems = static_cast<std::int64_t>(positions_.size());
    read_solve_record(record.data(), bytes, problems, atoms_, journal.origin(),
                      [&](const EntryHead& head, std::int64_t offset) {
                        if (holds(head.index))
                          SHRINKWARP_THROW_IO(journal.origin(), position + offset, "problem ", head.index,
                                              " is there twice: the journal is damaged");
                        positions_[static_cast<std::size_t>(head.index)] = position_of(number, position + offset);
                        count_nonzeros(head.index, head.nonzeros);
                        summary.problems += 1;
                        summary.unconverged += head.converged == 0 ? 1 : 0;
                        summary.nonzeros += head.nonzeros;
                        summary.iterations += head.iterations;
                      });
  });
}

// Reads from a position, whosever part it is in, at most `most` bytes; fewer where the part ends, but `least`.
// @return how many
std::int64_t SolveJournal::read(std::int64_t position, void* target, std::int64_t least, std::int64_t most) const {
  const int number = part_of(position);
  const std::int64_t place = place_of(position);
  if (const auto part = parts_.find(number); part != parts_.end()) {
    const std::int64_t count = std::max(least, std::min(most, part->second.journal.end() - place));
    part->second.journal.read(place, target, count);
    return count;
  }
  auto file = foreign_.find(number);
  if (file == foreign_.end()) {
    if (foreign_.size() >= kForeignParts) foreign_.clear();
    file = foreign_.emplace(number, InputFile::open(kName, path_of(output_, number))).first;
  }
  const std::int64_t count = std::max(least, std::min(most, file->second.size() - place));
  file->second.read(place, target, count);
  return count;
}

// Of a part that read() has just read.
const Origin& SolveJournal::origin_of(std::int64_t position) const {
  const auto part = parts_.find(part_of(position));
  return part != parts_.end() ? part->second.journal.origin() : foreign_.at(part_of(position)).origin();
}

// Compares the observations of the problems held with those that were solved.
void SolveJournal::check_rows(ObservationSource& source, const CancelToken* cancel, LassoSummary& summary) const {
  const Context host = Context::cpu(1);
  const std::int64_t n = source.dimension();
  const std::int64_t block = std::max<std::int64_t>(1, kRowsBytes / (8 * n));
  const Tensor<double> X(host, n, block);
  for (std::int64_t first = 0; first < source.size(); first += block) {
    check_cancel(cancel, "looking whether the observations are the same");
    const std::int64_t count = std::min(block, source.size() - first);
    const auto begin = positions_.begin() + first;
    if (std::all_of(begin, begin + count, [](std::int64_t position) { return position < 0; })) continue;
    source.read(first, X.matrix().columns(0, count));
    for (std::int64_t b = 0; b < count; ++b) {
      if (!holds(first + b)) continue;
      EntryHead head;
      read(*(begin + b), &head, sizeof head, sizeof head);
      const double* x = X.matrix().column(b);
      SHRINKWARP_REQUIRE(row_hash({x, n, {}}) == head.row_hash, ValueError, source.name(), ": row ", first + b,
                         " is not what it was when it was solved, wanted it unchanged: its result is in ",
                         origin_of(*(begin + b)).path);
      double energy = 0;
      for (std::int64_t i = 0; i < n; ++i) energy += x[i] * x[i] / 2;
      summary.worst_gap = std::max(summary.worst_gap, energy > 0 ? head.dual_gap / energy : head.dual_gap);
    }
  }
}

void SolveJournal::note_row(const ObservationSource& source, std::int64_t row, VectorView<const double> x) {
  const std::uint64_t hash = row_hash(x);
  const auto [noted, fresh] = row_hashes_.emplace(row, hash);
  SHRINKWARP_REQUIRE(fresh || noted->second == hash, ValueError, source.name(), ": row ", row,
                     " changed while it was being solved");
}

void SolveJournal::append(const LassoBatch& batch) {
  std::vector<std::uint64_t> hashes;
  for (const std::int64_t problem : batch.index) {
    const auto noted = row_hashes_.find(problem);
    SHRINKWARP_REQUIRE(noted != row_hashes_.end(), ValueError, kName, ": the observation of problem ", problem,
                       " was not noted");
    hashes.push_back(noted->second);
    row_hashes_.erase(noted);
  }
  std::vector<std::int64_t> offsets;
  for (std::int64_t first = 0, last = 0; first < batch.size(); first = last) {
    const auto bytes = [&](std::int64_t end) {
      return (end - first) * static_cast<std::int64_t>(sizeof(EntryHead)) +
             12 * (batch.codes.offsets[static_cast<std::size_t>(end)] -
                   batch.codes.offsets[static_cast<std::size_t>(first)]);
    };
    do ++last;
    while (last < batch.size() && bytes(last) < kRecordBytes);
    const std::vector<std::byte> record = solve_record(batch, first, last, hashes, offsets);
    Part& part = parts_.at(part_);
    const std::int64_t position =
        position_of(part_, part.journal.append(record.data(), static_cast<std::int64_t>(record.size())));
    for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
      positions_[static_cast<std::size_t>(batch.index[i])] = position + offsets[i - static_cast<std::size_t>(first)];
      count_nonzeros(batch.index[i], batch.codes.offsets[i + 1] - batch.codes.offsets[i]);
    }
    part.held += last - first;
    held_ += last - first;
  }
}

void SolveJournal::count_nonzeros(std::int64_t problem, std::int64_t nonzeros) {
  nonzeros_[static_cast<std::size_t>(problem / block_)] += nonzeros;
  all_nonzeros_[static_cast<std::size_t>(problem / block_)] += nonzeros;
}

void SolveJournal::merge(FunctionRef<void(std::int64_t*, std::int64_t)> largest,
                         FunctionRef<void(std::int64_t*, std::int64_t)> sum) {
  constexpr std::int64_t kBlock = 1 << 16;
  const auto problems = static_cast<std::int64_t>(positions_.size());
  for (std::int64_t first = 0; first < problems; first += kBlock)
    largest(positions_.data() + first, std::min(kBlock, problems - first));
  all_nonzeros_ = nonzeros_;
  sum(all_nonzeros_.data(), static_cast<std::int64_t>(all_nonzeros_.size()));
}

void SolveJournal::sync() {
  for (auto& [number, part] : parts_) part.journal.sync();
}

std::string SolveJournal::fingerprint() const {
  return own().header().substr(kFormat.size());
}

SparseCodesSizes SolveJournal::sizes(bool debiased) const {
  return {static_cast<std::int64_t>(positions_.size()), atoms_,
          std::accumulate(all_nonzeros_.begin(), all_nonzeros_.end(), std::int64_t{0}), debiased};
}

std::vector<SparseCodesRange> SolveJournal::ranges() const {
  const auto bytes = [](std::int64_t problems, std::int64_t nonzeros) {
    return problems * static_cast<std::int64_t>(sizeof(EntryHead)) + 12 * nonzeros;
  };
  const SparseCodesSizes all = sizes(false);
  const std::int64_t share = bytes(all.problems, all.nonzeros) / processes_;
  std::vector<SparseCodesRange> ranges;
  SparseCodesRange range;
  for (const std::int64_t nonzeros : all_nonzeros_) {
    range.last = std::min(all.problems, range.last + block_);
    range.last_nonzero += nonzeros;
    const auto written = static_cast<std::int64_t>(ranges.size()) + 1;
    if (written == processes_ || bytes(range.last, range.last_nonzero) < share * written) continue;
    ranges.push_back(range);
    range = {range.last, range.last, range.last_nonzero, range.last_nonzero};
  }
  ranges.push_back({range.first, all.problems, range.first_nonzero, all.nonzeros});
  ranges.resize(static_cast<std::size_t>(processes_), {all.problems, all.problems, all.nonzeros, all.nonzeros});
  return ranges;
}

EntryHead SolveJournal::read_entry(std::int64_t problem, std::vector<std::byte>& entry) const {
  SHRINKWARP_REQUIRE(holds(problem), ValueError, kName, ": problem ", problem, " is not in ", path());
  const std::int64_t position = positions_[static_cast<std::size_t>(problem)];
  EntryHead head;
  entry.resize(kFirstRead);
  const std::int64_t had = read(position, entry.data(), sizeof head, kFirstRead);
  std::memcpy(&head, entry.data(), sizeof head);
  if (head.index != problem || head.nonzeros < 0 || head.nonzeros > atoms_)
    SHRINKWARP_THROW_IO(origin_of(position), place_of(position), "the journal was changed while it was open");
  if (had < head.bytes()) {
    entry.resize(static_cast<std::size_t>(head.bytes()));
    const std::int64_t missing = head.bytes() - had;
    read(position + had, entry.data() + had, missing, missing);
  }
  return head;
}

void SolveJournal::remove() {
  removed_ = true;
  for (auto& [number, part] : parts_) part.journal.remove();
}

void NotedObservations::read(std::int64_t first, MatrixView<double> X) {
  source_.read(first, X);
  for (std::int64_t b = 0; b < X.cols; ++b) journal_.note_row(source_, first + b, {X.column(b), X.rows, {}});
}

}  // namespace shrinkwarp
