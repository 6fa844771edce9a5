// The files of a training that may be interrupted: its output, the checkpoint beside it, its history.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <shrinkwarp/models/train/training_store.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>
#include <shrinkwarp/tools/files/training_checkpoint.hpp>
#include <shrinkwarp/tools/files/training_history.hpp>

namespace shrinkwarp {

class ResumableTraining {
 public:
  /// Looks at what is there, and changes nothing.
  ///
  /// @param fingerprint  all that the training's bits depend on
  /// @param resume       a checkpoint is wanted, or a finished output; else one that is there is refused
  /// @param may_change   names in the fingerprint: a training that differs in these alone may go on
  /// @param writes       else files are read alone: another process, which trains the same, writes them
  /// @throws Error (a checkpoint that nobody has asked to go on with), ValueError (of another training, or an output of another)
  ResumableTraining(const std::string& output, const Fingerprint& fingerprint, bool resume,
                    const std::vector<std::string>& may_change, bool writes = true);
  /// Opens the history, which goes on where the state has been stored, or begins; of a finished training it stays as it is. Before
  /// a state is stored. @param path  empty: none is written  @throws as TrainingHistory
  void begin_history(const std::string& path);

  /// The output is there, and this training would make the same: nothing is left to do.
  bool is_finished() const { return finished_; }
  /// A state of before is there to go on from.
  bool resumes() const { return stored_.has_value(); }
  /// What is gone on from, as a text that two different ones do not share; empty where nothing is.
  std::string state() const;
  /// What the training goes on with, of those that may change.
  const std::vector<Fingerprint::Difference>& changes() const { return changes_; }
  TrainingHistory& history() { return *history_; }
  /// Where a part of the training is stored, and what it goes on from. Outlived by this.
  TrainingStore store(TrainingPart part);
  /// Where the last good state is, or nothing: "; --resume with another --lr ..."
  std::string advice() const;

  /// Writes the output, which says how it was made, and removes the checkpoint. @throws IoError
  void finish(Safetensors file) const;

 private:
  std::string output_;
  bool writes_;
  Fingerprint fingerprint_;
  TrainingCheckpoint checkpoint_;
  bool finished_ = false;
  std::optional<TrainingCheckpoint::Stored> stored_;
  std::vector<Fingerprint::Difference> changes_;
  std::optional<TrainingHistory> history_;
};

}  // namespace shrinkwarp
