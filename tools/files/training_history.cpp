#include <shrinkwarp/tools/files/training_history.hpp>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

TrainingHistory::TrainingHistory(const std::string& path, std::optional<HistoryMark> resumed) : path_(path) {
  if (path.empty()) return;
  std::error_code failed;
  const std::uintmax_t found = std::filesystem::file_size(path, failed);
  if (resumed && !failed && found > 0) {
    keep(*resumed);
    std::filesystem::resize_file(path, static_cast<std::uintmax_t>(mark_.bytes), failed);
    SHRINKWARP_REQUIRE(!failed, Error, path, ": could not be cut to ", mark_.bytes, " bytes: ", failed.message());
  }
  file_.open(path, resumed ? std::ios::app : std::ios::trunc);
  SHRINKWARP_REQUIRE(file_, Error, path, ": could not be opened for writing: ", std::generic_category().message(errno));
}

void TrainingHistory::add(const std::string& line) {
  if (path_.empty()) return;
  const std::string text = line + '\n';
  file_ << text << std::flush;
  SHRINKWARP_REQUIRE(file_, Error, path_, ": could not be written");
  mark_.bytes += static_cast<std::int64_t>(text.size());
  hash_.add(text.data(), static_cast<std::int64_t>(text.size()));
  mark_.hash = hash_.value();
}

/// Takes in what the file begins with, which has to be what was stored.
void TrainingHistory::keep(const HistoryMark& stored) {
  std::string text(static_cast<std::size_t>(stored.bytes), '\0');
  std::ifstream file(path_, std::ios::binary);
  file.read(text.data(), stored.bytes);
  hash_.add(text.data(), file.gcount());
  SHRINKWARP_REQUIRE(file.gcount() == stored.bytes && (stored.bytes == 0 || hash_.value() == stored.hash), ValueError,
                     path_, ": found a file that does not begin with the ", stored.bytes,
                     " bytes that the training has written so far, wanted that history, or a name without a file");
  mark_ = stored;
}

}  // namespace shrinkwarp
