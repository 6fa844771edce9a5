// Keeps two processes from making the same output at the same time, as a requeued job may.
#pragma once

#include <string>

namespace shrinkwarp {

/// Holds OUTPUT.lock beside an output, which is there as long as this lives. One that a killed process has left is taken over.
/// On a file system without locks nothing is held.
class OutputLock {
 public:
  /// @throws Error (another process holds it, or the file cannot be made)
  explicit OutputLock(const std::string& output);
  ~OutputLock();
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace shrinkwarp
