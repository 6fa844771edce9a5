// One allocation cut into pieces, so that a solver's whole workspace is known and made before it runs.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Hands out pieces of one block of device memory, each aligned to 256 bytes. Made without memory it only counts: run
/// the same layout function once on a counting arena and once on one of `used()` bytes.
class Arena {
 public:
  /// Counts, hands out null pointers.
  explicit Arena(Device device) : device_(device), counting_(true) {}
  /// Owns `bytes` bytes, not cleared. @throws OutOfMemory
  Arena(const Context& context, std::int64_t bytes)
      : device_(context.device()), counting_(false), memory_(context, bytes) {}

  /// @throws OutOfMemory (the arena is used up)
  template <class T>
  MatrixView<T> matrix(std::int64_t rows, std::int64_t cols) {
    return {static_cast<T*>(take(rows * cols * static_cast<std::int64_t>(sizeof(T)))), rows, cols, rows, device_};
  }
  template <class T>
  VectorView<T> vector(std::int64_t size) {
    return {static_cast<T*>(take(size * static_cast<std::int64_t>(sizeof(T)))), size, device_};
  }
  /// Bytes handed out so far, padding included.
  std::int64_t used() const { return used_; }

 private:
  static constexpr std::int64_t kAlignment = 256;

  void* take(std::int64_t bytes) {
    void* piece = counting_ ? nullptr : memory_.data() + used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (!counting_ && used_ > memory_.size()) {
      throw OutOfMemory(concat("Arena: ", used_, " bytes taken, wanted at most its ", memory_.size()), __FILE__,
                        __LINE__, used_);
    }
    return piece;
  }

  Device device_;
  bool counting_;
  Tensor<char> memory_;
  std::int64_t used_ = 0;
};

}  // namespace shrinkwarp
