#include <shrinkwarp/tools/files/training_checkpoint.hpp>

#include <filesystem>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>

namespace shrinkwarp {
namespace {

constexpr const char* kKey = "training";
constexpr const char* kPartKey = "part";

const char* name_of(TrainingPart part) {
  return part == TrainingPart::start ? "start" : "network";
}

}  // namespace

bool TrainingCheckpoint::exists() const {
  std::error_code ignored;
  return std::filesystem::exists(path_, ignored);
}

TrainingCheckpoint::Stored TrainingCheckpoint::read() const {
  Safetensors file = read_safetensors(path_);
  const auto found = file.metadata.find(kKey);
  SHRINKWARP_REQUIRE(found != file.metadata.end(), ValueError, path_, ": found no '", kKey,
                     "' among the metadata, wanted the state of a training");
  const std::string difference = fingerprint_.difference(found->second);
  SHRINKWARP_REQUIRE(difference.empty(), ValueError, path_,
                     " is of a training that differs from this one: ", difference, "; deleting the file starts afresh");
  const std::string part = file.metadata[kPartKey];
  for (const TrainingPart its : {TrainingPart::start, TrainingPart::network})
    if (part == name_of(its)) return {its, std::move(file)};
  SHRINKWARP_THROW(ValueError, path_, ": found the part '", printable(part, 40), "', wanted start or network");
}

void TrainingCheckpoint::write(TrainingPart part, Safetensors state) const {
  state.metadata[kKey] = fingerprint_.text();
  state.metadata[kPartKey] = name_of(part);
  write_safetensors(path_, state);
}

void TrainingCheckpoint::remove() const noexcept {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace shrinkwarp
