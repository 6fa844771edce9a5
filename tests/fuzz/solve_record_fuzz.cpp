// A record of a solve's journal: what is read of it can be added to a batch, and makes the same record again.
#include "fuzz.hpp"

#include <cstddef>
#include <vector>

#include <shrinkwarp/tools/files/solve_record.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kProblems = 300;
constexpr std::int64_t kAtoms = 50;

void read(const std::uint8_t* data, std::size_t size) {
  const Origin origin{"fuzz", "input"};
  // The copy ends where the input ends, so that AddressSanitizer sees a step beyond it.
  const std::vector<std::byte> record(reinterpret_cast<const std::byte*>(data),
                                      reinterpret_cast<const std::byte*>(data) + size);
  const auto bytes = static_cast<std::int64_t>(size);
  LassoBatch batch;
  std::vector<std::uint64_t> hashes;
  std::int64_t entries = 0;
  read_solve_record(record.data(), bytes, kProblems, kAtoms, origin, [&](const EntryHead& head, std::int64_t offset) {
    fuzz::check(offset >= 8 && head.bytes() <= bytes - offset, "an entry lies within the record");
    fuzz::check(head.index >= 0 && head.index < kProblems, "an entry is of a problem");
    append_entry(head, record.data() + offset, batch);
    hashes.push_back(head.row_hash);
    ++entries;
  });
  fuzz::check(entries == solve_record_entries(record.data(), bytes, origin), "there are as many entries as claimed");
  fuzz::check(batch.size() == entries, "each entry is a problem of the batch");
  for (const std::int32_t atom : batch.codes.indices) fuzz::check(atom >= 0 && atom < kAtoms, "a code is of the atoms");
  std::vector<std::int64_t> offsets;
  fuzz::check(solve_record(batch, 0, entries, hashes, offsets) == record, "the batch makes the same record");
}

}  // namespace
}  // namespace shrinkwarp

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shrinkwarp::fuzz::refuses([&] { shrinkwarp::read(data, size); });
  return 0;
}
