// A journal of any bytes: it is refused, or what it holds can be read, a record can be added, and both are there when it is
// opened again. Checksums cannot be guessed, so an input either is the file or says how a good one is made and damaged.
#include "fuzz.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/io/journal.hpp>

namespace shrinkwarp {
namespace {

std::vector<std::string> records_of(const Journal& journal) {
  std::vector<std::string> records;
  journal.for_each([&](std::int64_t position, std::int64_t bytes) {
    fuzz::check(bytes >= 0 && position + bytes <= journal.end(), "a record lies in the file");
    std::string payload(static_cast<std::size_t>(bytes), '\0');
    journal.read(position, payload.data(), bytes);
    records.push_back(payload);
  });
  return records;
}

/// Takes numbers off the front of an input.
class Script {
 public:
  Script(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  unsigned next() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  std::string text(std::size_t length) {
    std::string out;
    for (std::size_t i = 0; i < length; ++i) out.push_back(static_cast<char>(next()));
    return out;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

/// A journal with a header and some records, of whose bytes the rest of the script changes some and cuts off the end.
void make(Script script, fuzz::File& file) {
  file.set(nullptr, 0);
  std::int64_t size = 0;
  {
    Journal journal = Journal::open("fuzz", file.path());
    journal.begin("header " + script.text(script.next() % 16));
    for (unsigned left = script.next() % 8; left > 0; --left) {
      const std::string payload = script.text(script.next());
      journal.append(payload.data(), static_cast<std::int64_t>(payload.size()));
    }
    size = journal.end();
  }
  if (script.next() % 2 == 1) file.cut(size - script.next() % size);
  while (!script.empty()) {
    unsigned place = script.next();
    place += 256 * script.next();
    file.put(place % size, static_cast<std::uint8_t>(script.next()));
  }
}

void read(const std::string& path) {
  std::vector<std::string> before;
  const std::string added = "one more";
  {
    Journal journal = Journal::open("fuzz", path);
    fuzz::check(journal.damaged_bytes() >= 0, "no less than nothing is damaged");
    if (journal.header().empty()) journal.begin("fresh");
    before = records_of(journal);
    journal.append(added.data(), static_cast<std::int64_t>(added.size()));
  }
  before.push_back(added);
  const Journal again = Journal::open("fuzz", path);
  fuzz::check(again.damaged_bytes() == 0, "what was added took the place of what was damaged");
  fuzz::check(records_of(again) == before, "records stay, and the added one is last");
}

}  // namespace
}  // namespace shrinkwarp

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static shrinkwarp::fuzz::File file;
  if (size > 0 && data[0] == 's')
    shrinkwarp::make(shrinkwarp::Script(data + 1, size - 1), file);
  else
    file.set(data, size);
  shrinkwarp::fuzz::refuses([&] { shrinkwarp::read(file.path()); });
  return 0;
}
