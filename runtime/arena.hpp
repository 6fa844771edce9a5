// One allocation cut into pieces, so that a solver's whole workspace is known and made before it runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Hands out pieces of one block of device memory, its own or the caller's, each aligned to 256 bytes. Made without
/// memory it only counts: run the same layout function once on a counting arena and once on one of `used()` bytes.
class Arena {
 public:
  /// Counts, hands out null pointers.
  explicit Arena(Device device) : device_(device), counting_(true) {}
  /// Owns `bytes` bytes, not cleared. @throws OutOfMemory
  Arena(const Context& context, std::int64_t bytes)
      : device_(context.device()), counting_(false), owned_(context, bytes), base_(owned_.data()), bytes_(bytes) {}
  /// Cuts up the caller's memory, which outlives all pieces. @throws ValueError (not aligned to 256 bytes)
  explicit Arena(VectorView<std::byte> memory)
      : device_(memory.device), counting_(false), base_(reinterpret_cast<char*>(memory.data)), bytes_(memory.size) {
    SHRINKWARP_REQUIRE(reinterpret_cast<std::uintptr_t>(base_) % kAlignment == 0, ValueError, "Arena: memory at ",
                       static_cast<const void*>(base_), ", wanted a multiple of ", kAlignment, " bytes");
  }

  /// @throws OutOfMemory (the arena is used up, or more than 2^63 bytes are counted)
  template <class T>
  MatrixView<T> matrix(std::int64_t rows, std::int64_t cols) {
    return {static_cast<T*>(take(bytes_of<T>(rows, cols))), rows, cols, rows, device_};
  }
  template <class T>
  VectorView<T> vector(std::int64_t size) {
    return {static_cast<T*>(take(bytes_of<T>(size, 1))), size, device_};
  }
  /// Bytes handed out so far, padding included.
  std::int64_t used() const { return used_; }

 private:
  static constexpr std::int64_t kAlignment = 256;

  template <class T>
  static std::int64_t bytes_of(std::int64_t rows, std::int64_t cols) {
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(rows, cols, &bytes) ||
        __builtin_mul_overflow(bytes, static_cast<std::int64_t>(sizeof(T)), &bytes))
      throw_too_much();
    return bytes;
  }
  [[noreturn]] static void throw_too_much() {
    constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
    throw OutOfMemory("Arena: found more than 2^63 bytes wanted", __FILE__, __LINE__, kMost);
  }
  void* take(std::int64_t bytes) {
    void* piece = counting_ ? nullptr : base_ + used_;
    if (__builtin_add_overflow(used_, bytes, &used_) || __builtin_add_overflow(used_, kAlignment - 1, &used_))
      throw_too_much();
    used_ = used_ / kAlignment * kAlignment;
    if (!counting_ && used_ > bytes_) {
      throw OutOfMemory(concat("Arena: ", used_, " bytes taken, wanted at most its ", bytes_), __FILE__, __LINE__,
                        used_);
    }
    return piece;
  }

  Device device_;
  bool counting_;
  Tensor<char> owned_;
  char* base_ = nullptr;
  std::int64_t bytes_ = 0;
  std::int64_t used_ = 0;
};

}  // namespace shrinkwarp
