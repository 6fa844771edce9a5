#include <shrinkwarp/tools/files/solve_record.hpp>

#include <cstring>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kCount = sizeof(std::int64_t);
constexpr std::int64_t kHead = sizeof(EntryHead);

}  // namespace

std::vector<std::byte> solve_record(const LassoBatch& batch, std::int64_t first, std::int64_t last,
                                    const std::vector<std::uint64_t>& row_hashes, std::vector<std::int64_t>& offsets) {
  const std::vector<std::int64_t>& starts = batch.codes.offsets;
  const std::int64_t nonzeros = starts[static_cast<std::size_t>(last)] - starts[static_cast<std::size_t>(first)];
  std::vector<std::byte> record(static_cast<std::size_t>(kCount + (last - first) * kHead + 12 * nonzeros));
  std::byte* to = record.data();
  const auto put = [&to](const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    to += bytes;
  };
  const std::int64_t count = last - first;
  put(&count, sizeof count);
  offsets.clear();
  for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
    offsets.push_back(to - record.data());
    EntryHead head;
    head.index = batch.index[i];
    head.row_hash = row_hashes[i];
    head.lambda = batch.lambda[i];
    head.objective = batch.objective[i];
    head.dual_gap = batch.dual_gap[i];
    head.iterations = batch.iterations[i];
    head.nonzeros = static_cast<std::int32_t>(starts[i + 1] - starts[i]);
    head.converged = batch.converged[i];
    put(&head, sizeof head);
    const auto entries = static_cast<std::size_t>(head.nonzeros);
    put(batch.codes.indices.data() + starts[i], entries * sizeof(std::int32_t));
    put(batch.codes.values.data() + starts[i], entries * sizeof(double));
  }
  return record;
}

std::int64_t solve_record_entries(const std::byte* record, std::int64_t bytes, const Origin& origin) {
  std::int64_t count = -1;
  if (bytes >= kCount) std::memcpy(&count, record, sizeof count);
  if (count < 0 || count > (bytes - kCount) / kHead)
    SHRINKWARP_THROW_IO(origin, -1, "found ", count, " entries in a record of ", bytes,
                        " bytes: the journal is damaged");
  return count;
}

void read_solve_record(const std::byte* record, std::int64_t bytes, std::int64_t problems, std::int64_t atoms,
                       const Origin& origin, FunctionRef<void(const EntryHead&, std::int64_t)> visit) {
  const std::int64_t count = solve_record_entries(record, bytes, origin);
  std::int64_t at = kCount;
  for (std::int64_t i = 0; i < count; ++i) {
    EntryHead head;
    if (bytes - at < kHead) SHRINKWARP_THROW_IO(origin, -1, "a record ends in an entry: the journal is damaged");
    std::memcpy(&head, record + at, sizeof head);
    const bool fits = head.index >= 0 && head.index < problems && head.nonzeros >= 0 && head.nonzeros <= atoms &&
                      (head.converged == 0 || head.converged == 1) && head.bytes() <= bytes - at;
    if (!fits)
      SHRINKWARP_THROW_IO(origin, -1, "found an entry of problem ", head.index, " with ", head.nonzeros,
                          " atoms, wanted one of ", problems, " problems and ", atoms,
                          " atoms: the journal is damaged");
    for (std::int64_t k = 0; k < head.nonzeros; ++k) {
      std::int32_t atom = 0;
      std::memcpy(&atom, record + at + kHead + k * static_cast<std::int64_t>(sizeof atom), sizeof atom);
      if (atom < 0 || atom >= atoms)
        SHRINKWARP_THROW_IO(origin, -1, "found atom ", atom, " in an entry of problem ", head.index, ", wanted one of ",
                            atoms, " atoms: the journal is damaged");
    }
    visit(head, at);
    at += head.bytes();
  }
  if (at != bytes) SHRINKWARP_THROW_IO(origin, -1, "a record has bytes behind its entries: the journal is damaged");
}

void append_entry(const EntryHead& head, const std::byte* entry, LassoBatch& batch) {
  batch.index.push_back(head.index);
  batch.lambda.push_back(head.lambda);
  batch.objective.push_back(head.objective);
  batch.dual_gap.push_back(head.dual_gap);
  batch.iterations.push_back(head.iterations);
  batch.converged.push_back(static_cast<std::uint8_t>(head.converged));
  const auto entries = static_cast<std::size_t>(head.nonzeros);
  const std::size_t start = batch.codes.values.size();
  batch.codes.indices.resize(start + entries);
  batch.codes.values.resize(start + entries);
  if (entries > 0) {
    std::memcpy(batch.codes.indices.data() + start, entry + kHead, entries * sizeof(std::int32_t));
    std::memcpy(batch.codes.values.data() + start, entry + kHead + entries * sizeof(std::int32_t),
                entries * sizeof(double));
  }
  batch.codes.offsets.push_back(static_cast<std::int64_t>(start + entries));
}

}  // namespace shrinkwarp
