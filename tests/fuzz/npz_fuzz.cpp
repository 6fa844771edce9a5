// An .npz archive: whatever its directory says, an array that is handed out has the size that its header says.
#include "fuzz.hpp"

#include <algorithm>

#include <shrinkwarp/runtime/io/npz.hpp>

namespace shrinkwarp {
namespace {

// All entries of a directory may point to the same packed data, which unpack to a thousand times their size.
constexpr std::size_t kMostArrays = 8;

void read(const std::string& path) {
  const NpzReader reader = NpzReader::open(path);
  for (std::size_t i = 0; i < std::min(reader.names().size(), kMostArrays); ++i) {
    const std::string& name = reader.names()[i];
    fuzz::check(reader.contains(name), "the archive contains what it lists");
    fuzz::refuses([&] {
      const NpyArray array = reader.read(name);
      fuzz::check(static_cast<std::int64_t>(array.data.size()) == array.header.bytes(), "an array has all its bytes");
      if (array.header.type == ElementType::s && array.header.size() == 1) {
        fuzz::check(array.text().size() <= array.data.size(), "a text is no longer than its bytes");
      }
    });
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
