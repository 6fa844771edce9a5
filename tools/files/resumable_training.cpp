#include <shrinkwarp/tools/files/resumable_training.hpp>

#include <filesystem>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/files/finished_network.hpp>

namespace shrinkwarp {
namespace {

std::optional<TrainingCheckpoint::Stored> read_checkpoint(const TrainingCheckpoint& checkpoint, bool resume,
                                                          const std::vector<std::string>& may_change) {
  if (!checkpoint.exists()) return std::nullopt;
  SHRINKWARP_REQUIRE(resume, Error, checkpoint.path(),
                     " holds an unfinished training: --resume goes on with it, deleting the file starts afresh");
  return checkpoint.read(may_change);
}

/// For an output without a checkpoint: it is finished if this training would make the same.
bool is_output_of(const std::string& output, const Fingerprint& fingerprint) {
  constexpr const char* kAfresh = "; without --resume a training starts afresh and replaces it";
  if (!std::filesystem::exists(output)) return false;
  std::string difference;
  try {
    difference = difference_of_network(output, fingerprint);
  } catch (const Error& error) {
    SHRINKWARP_THROW(Error, error.what(), kAfresh);
  }
  SHRINKWARP_REQUIRE(difference.empty(), ValueError, output,
                     " is of a training that differs from this one: ", difference, kAfresh);
  return true;
}

}  // namespace

ResumableTraining::ResumableTraining(const std::string& output, const Fingerprint& fingerprint, bool resume,
                                     const std::vector<std::string>& may_change, bool writes)
    : output_(output),
      writes_(writes),
      fingerprint_(fingerprint),
      checkpoint_(output, fingerprint),
      stored_(read_checkpoint(checkpoint_, resume, may_change)),
      changes_(stored_ ? stored_->changes : std::vector<Fingerprint::Difference>()) {
  finished_ = !stored_ && resume && is_output_of(output, fingerprint);
}

void ResumableTraining::begin_history(const std::string& path) {
  std::optional<HistoryMark> resumed;
  if (stored_ && stored_->part == TrainingPart::network) resumed = stored_->history;
  history_.emplace(finished_ || !writes_ ? std::string() : path, resumed);
}

TrainingStore ResumableTraining::store(TrainingPart part) {
  TrainingStore store;
  store.save = [this, part](const Safetensors& state) {
    if (writes_) checkpoint_.write(part, history_->mark(), state);
  };
  store.resume = stored_ && stored_->part == part ? &stored_->state : nullptr;
  return store;
}

std::string ResumableTraining::state() const {
  std::string text;
  if (stored_)
    for (const auto& [key, value] : stored_->state.metadata) text += key + '=' + value + '\n';
  return text;
}

std::string ResumableTraining::advice() const {
  if (!checkpoint_.exists()) return {};
  return "; --resume with another --lr or --clip goes on from the last good state, " + checkpoint_.path();
}

void ResumableTraining::finish(Safetensors file) const {
  if (!writes_) return;
  add_making(fingerprint_, file);
  file.seal();
  write_safetensors(output_, file);
  checkpoint_.remove();
}

}  // namespace shrinkwarp
