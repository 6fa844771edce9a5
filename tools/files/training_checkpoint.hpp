// A training's state on disk, so that it goes on where it was: OUTPUT.checkpoint beside the network that it makes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/io/safetensors.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>

namespace shrinkwarp {

/// What a training is at.
enum class TrainingPart {
  start,    ///< the step network that a network with matrices begins as
  network,  ///< the network itself
};

/// How far a training's history had been written when its state was stored.
struct HistoryMark {
  std::int64_t bytes = 0;
  std::uint64_t hash = 0;  ///< of these bytes
};

class TrainingCheckpoint {
 public:
  /// @param output       the network's file
  /// @param fingerprint  of the training: all that its bits depend on
  TrainingCheckpoint(const std::string& output, const Fingerprint& fingerprint)
      : path_(path_of(output)), fingerprint_(fingerprint) {}

  static std::string path_of(const std::string& output) { return output + ".checkpoint"; }
  const std::string& path() const { return path_; }
  bool exists() const;
  struct Stored {
    TrainingPart part = TrainingPart::network;
    HistoryMark history;
    Safetensors state;
    std::vector<Fingerprint::Difference> changes;  ///< of those that may change
  };
  /// What is stored. @param may_change  names in the fingerprint: a training that differs in these alone may go on
  /// @throws IoError (no checkpoint, or a damaged one), ValueError (of another training: says the difference)
  Stored read(const std::vector<std::string>& may_change) const;
  /// Replaces what is stored, in one step. @throws IoError
  void write(TrainingPart part, HistoryMark history, Safetensors state) const;
  void remove() const noexcept;

 private:
  std::string path_;
  Fingerprint fingerprint_;
};

}  // namespace shrinkwarp
