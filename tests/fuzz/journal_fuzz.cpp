// A journal: what is read of it are whole records, one behind the other, and a record that is added comes after them,
// whatever lay there.
#include "fuzz.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/io/journal.hpp>

// libFuzzer's own.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace shrinkwarp {
namespace {

constexpr std::size_t kStart = 16;  // the magic
constexpr std::size_t kFrame = 16;  // length and checksum of a record

using Records = std::vector<std::string>;

Records records_of(const Journal& journal) {
  Records records;
  std::int64_t end =
      journal.header().empty() ? 0 : static_cast<std::int64_t>(kStart + kFrame + journal.header().size());
  journal.for_each([&](std::int64_t position, std::int64_t bytes) {
    fuzz::check(position == end + static_cast<std::int64_t>(kFrame), "records follow each other");
    records.emplace_back(static_cast<std::size_t>(bytes), '\0');
    journal.read(position, records.back().data(), bytes);
    end = position + bytes;
  });
  fuzz::check(end == journal.end(), "the last record ends where the journal does");
  return records;
}

void read(const std::string& path, std::size_t size) {
  std::string header;
  Records records;
  {
    Journal journal = Journal::open("fuzz", path);
    fuzz::check(journal.end() + journal.damaged_bytes() == static_cast<std::int64_t>(size),
                "every byte is accounted for");
    records = records_of(journal);
    if (journal.header().empty()) {
      fuzz::check(records.empty(), "without a header there is no record");
      journal.begin("header");
    }
    header = journal.header();
    records.push_back("added");
    journal.append("added", 5);
  }
  const Journal again = Journal::open("fuzz", path);
  fuzz::check(again.header() == header && again.damaged_bytes() == 0, "what was damaged is gone");
  fuzz::check(records_of(again) == records, "the records of before, and the one that was added");
}

/// Gives the records, one behind the other, the checksums that they should have.
void mend(std::uint8_t* data, std::size_t size) {
  for (std::size_t at = kStart; at + kFrame <= size;) {
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, data + at, sizeof bytes);
    if (bytes > size - at - kFrame) return;
    Hash hash(at);
    hash.add(data + at, sizeof bytes);
    hash.add(data + at + kFrame, static_cast<std::int64_t>(bytes));
    const std::uint64_t value = hash.value();
    std::memcpy(data + at + sizeof bytes, &value, sizeof value);
    at += kFrame + bytes;
  }
}

}  // namespace
}  // namespace shrinkwarp

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 4 != 0) shrinkwarp::mend(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static shrinkwarp::fuzz::File file;
  file.set(data, size);
  shrinkwarp::fuzz::refuses([&] { shrinkwarp::read(file.path(), size); });
  return 0;
}
