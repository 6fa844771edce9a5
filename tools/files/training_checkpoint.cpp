#include <shrinkwarp/tools/files/training_checkpoint.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>

namespace shrinkwarp {
namespace {

constexpr const char* kKey = "training";
constexpr const char* kPartKey = "part";
constexpr const char* kHistoryKey = "history_bytes";
constexpr const char* kHistoryHashKey = "history_hash";
constexpr const char* kAfresh = "; deleting the file starts afresh";

const char* name_of(TrainingPart part) {
  return part == TrainingPart::start ? "start" : "network";
}

}  // namespace

bool TrainingCheckpoint::exists() const {
  std::error_code ignored;
  return std::filesystem::exists(path_, ignored);
}

TrainingCheckpoint::Stored TrainingCheckpoint::read(const std::vector<std::string>& may_change) const {
  Safetensors file;
  SHRINKWARP_REQUIRE(::access(path_.c_str(), R_OK) == 0, Error, path_,
                     ": cannot be read: ", std::generic_category().message(errno));
  try {
    file = read_safetensors(path_);
  } catch (const IoError& error) {
    SHRINKWARP_THROW(ValueError, error.what(), kAfresh);
  }
  const auto found = file.metadata.find(kKey);
  SHRINKWARP_REQUIRE(found != file.metadata.end(), ValueError, path_, ": found no '", kKey,
                     "' among the metadata, wanted the state of a training", kAfresh);
  SHRINKWARP_REQUIRE(file.is_intact(), ValueError, path_,
                     ": found other numbers than were written, wanted those: the file is damaged", kAfresh);
  Stored stored;
  stored.changes = fingerprint_.differences(found->second);
  const bool same = std::all_of(stored.changes.begin(), stored.changes.end(), [&](const auto& change) {
    return std::find(may_change.begin(), may_change.end(), change.name) != may_change.end();
  });
  SHRINKWARP_REQUIRE(same, ValueError, path_,
                     " is of a training that differs from this one: ", fingerprint_.difference(found->second),
                     "; what it was begun with goes on with it, another --output leaves it as it is", kAfresh);
  const std::string part = file.metadata[kPartKey];
  SHRINKWARP_REQUIRE(part == name_of(TrainingPart::start) || part == name_of(TrainingPart::network), ValueError, path_,
                     ": found the part '", printable(part, 40), "', wanted start or network");
  stored.part = part == name_of(TrainingPart::start) ? TrainingPart::start : TrainingPart::network;
  const auto number = [&](const char* key, auto& value) {
    const std::string text = file.metadata[key];
    const char* const last = text.data() + text.size();
    const std::from_chars_result end = std::from_chars(text.data(), last, value);
    SHRINKWARP_REQUIRE(end.ec == std::errc() && end.ptr == last && !text.empty() && text[0] != '-', ValueError, path_,
                       ": '", key, "' is '", printable(text, 40), "', wanted a number", kAfresh);
  };
  number(kHistoryKey, stored.history.bytes);
  number(kHistoryHashKey, stored.history.hash);
  stored.state = std::move(file);
  return stored;
}

void TrainingCheckpoint::write(TrainingPart part, HistoryMark history, Safetensors state) const {
  state.metadata[kKey] = fingerprint_.text();
  state.metadata[kPartKey] = name_of(part);
  state.metadata[kHistoryKey] = std::to_string(history.bytes);
  state.metadata[kHistoryHashKey] = std::to_string(history.hash);
  state.seal();
  write_safetensors(path_, state);
}

void TrainingCheckpoint::remove() const noexcept {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace shrinkwarp
