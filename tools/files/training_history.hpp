// A training's history: a line of JSON for each look at the validation samples, that goes on where it was.
#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/tools/files/training_checkpoint.hpp>

namespace shrinkwarp {

class TrainingHistory {
 public:
  /// @param path     empty: nothing is written
  /// @param resumed  how far it was when the state that the training goes on from was stored: what is beyond is written
  ///                 again. Nothing where it starts afresh
  /// @throws ValueError (a file whose beginning is another one's), Error
  TrainingHistory(const std::string& path, std::optional<HistoryMark> resumed);
  bool is_written() const { return !path_.empty(); }
  /// @param line  without its line break  @throws Error
  void add(const std::string& line);
  HistoryMark mark() const { return mark_; }

 private:
  void keep(const HistoryMark& stored);

  std::string path_;
  std::ofstream file_;
  HistoryMark mark_;
  Hash hash_;
};

}  // namespace shrinkwarp
