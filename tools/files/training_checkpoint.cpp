#include <shrinkwarp/tools/files/training_checkpoint.hpp>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>

namespace shrinkwarp {
namespace {

constexpr const char* kKey = "training";
constexpr const char* kPartKey = "part";
constexpr const char* kHistoryKey = "history_bytes";

const char* name_of(TrainingPart part) {
  return part == TrainingPart::start ? "start" : "network";
}

}  // namespace

bool TrainingCheckpoint::exists() const {
  std::error_code ignored;
  return std::filesystem::exists(path_, ignored);
}

TrainingCheckpoint::Stored TrainingCheckpoint::read(const std::vector<std::string>& may_change) const {
  Safetensors file = read_safetensors(path_);
  const auto found = file.metadata.find(kKey);
  SHRINKWARP_REQUIRE(found != file.metadata.end(), ValueError, path_, ": found no '", kKey,
                     "' among the metadata, wanted the state of a training");
  Stored stored;
  stored.changes = fingerprint_.differences(found->second);
  const bool same = std::all_of(stored.changes.begin(), stored.changes.end(), [&](const auto& change) {
    return std::find(may_change.begin(), may_change.end(), change.name) != may_change.end();
  });
  SHRINKWARP_REQUIRE(same, ValueError, path_,
                     " is of a training that differs from this one: ", fingerprint_.difference(found->second),
                     "; deleting the file starts afresh");
  const std::string part = file.metadata[kPartKey];
  SHRINKWARP_REQUIRE(part == name_of(TrainingPart::start) || part == name_of(TrainingPart::network), ValueError, path_,
                     ": found the part '", printable(part, 40), "', wanted start or network");
  stored.part = part == name_of(TrainingPart::start) ? TrainingPart::start : TrainingPart::network;
  const std::string history = file.metadata[kHistoryKey];
  const char* const last = history.data() + history.size();
  const std::from_chars_result end = std::from_chars(history.data(), last, stored.history);
  SHRINKWARP_REQUIRE(end.ec == std::errc() && end.ptr == last && stored.history >= 0, ValueError, path_, ": found '",
                     printable(history, 40), "' bytes of history, wanted a number");
  stored.state = std::move(file);
  return stored;
}

void TrainingCheckpoint::write(TrainingPart part, std::int64_t history, Safetensors state) const {
  state.metadata[kKey] = fingerprint_.text();
  state.metadata[kPartKey] = name_of(part);
  state.metadata[kHistoryKey] = std::to_string(history);
  write_safetensors(path_, state);
}

void TrainingCheckpoint::remove() const noexcept {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace shrinkwarp
