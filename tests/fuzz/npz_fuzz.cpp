// An .npz archive: whatever its directory says, an array that is handed out has the size that its header says, and is the
// same read whole and piece by piece.
#include "fuzz.hpp"

#include <algorithm>
#include <vector>

#include <shrinkwarp/runtime/io/npz.hpp>

namespace shrinkwarp {
namespace {

// All entries of a directory may point to the same packed data, which unpack to a thousand times their size.
constexpr std::size_t kMostArrays = 8;

/// The bytes of an array, a few hundred at a time.
std::vector<std::byte> streamed(const NpzReader& reader, const std::string& name) {
  NpzStream stream = reader.stream(name);
  std::vector<std::byte> bytes;
  for (std::int64_t count = 1; stream.missing() > 0; count = count % 300 + 1) {
    count = std::min(count, stream.missing());
    const std::size_t before = bytes.size();
    bytes.resize(before + static_cast<std::size_t>(count * stream.header().item_size));
    stream.read(bytes.data() + before, count);
  }
  return bytes;
}

void read(const std::string& path) {
  const NpzReader reader = NpzReader::open(path);
  for (std::size_t i = 0; i < std::min(reader.names().size(), kMostArrays); ++i) {
    const std::string& name = reader.names()[i];
    fuzz::check(reader.contains(name), "the archive contains what it lists");
    NpyArray array;
    const bool refused = fuzz::refuses([&] {
      array = reader.read(name);
      fuzz::check(static_cast<std::int64_t>(array.data.size()) == array.header.bytes(), "an array has all its bytes");
      if (array.header.type == ElementType::s && array.header.size() == 1) {
        fuzz::check(array.text().size() <= array.data.size(), "a text is no longer than its bytes");
      }
    });
    std::vector<std::byte> bytes;
    fuzz::check(fuzz::refuses([&] { bytes = streamed(reader, name); }) == refused, "both ways or none give an array");
    if (!refused) fuzz::check(bytes == array.data, "both ways give the same array");
  }
}

}  // namespace
}  // namespace shrinkwarp

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static shrinkwarp::fuzz::File file;
  file.set(data, size);
  shrinkwarp::fuzz::refuses([&] { shrinkwarp::read(file.path()); });
  return 0;
}
