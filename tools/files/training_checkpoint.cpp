#include <shrinkwarp/tools/files/training_checkpoint.hpp>

#include <filesystem>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr const char* kKey = "training";

}  // namespace

bool TrainingCheckpoint::exists() const {
  std::error_code ignored;
  return std::filesystem::exists(path_, ignored);
}

Safetensors TrainingCheckpoint::read() const {
  Safetensors file = read_safetensors(path_);
  const auto found = file.metadata.find(kKey);
  SHRINKWARP_REQUIRE(found != file.metadata.end(), ValueError, path_, ": found no '", kKey,
                     "' among the metadata, wanted the state of a training");
  const std::string difference = fingerprint_.difference(found->second);
  SHRINKWARP_REQUIRE(difference.empty(), ValueError, path_,
                     " is of a training that differs from this one: ", difference, "; deleting the file starts afresh");
  return file;
}

void TrainingCheckpoint::write(Safetensors state) const {
  state.metadata[kKey] = fingerprint_.text();
  write_safetensors(path_, state);
}

void TrainingCheckpoint::remove() const noexcept {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace shrinkwarp
