// Host memory that a CUDA device reads and writes by itself, beside what the host does meanwhile.
#pragma once

#include <cstdint>
#include <utility>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Bytes of page-locked host memory, as PinnedMatrix needs them. nullptr for 0. @throws OutOfMemory, BackendUnavailable (CPU)
void* allocate_pinned(const Context& context, std::int64_t bytes);
void deallocate_pinned(void* pointer) noexcept;

/// Owns rows x cols elements of page-locked host memory, column-major with ld = rows, not cleared. A copy() between it and a
/// CUDA device returns before it has run; who reads or writes the memory then waits for the stream. Move-only.
template <class T>
class PinnedMatrix {
 public:
  PinnedMatrix() = default;
  /// @throws OutOfMemory, BackendUnavailable (a context on the CPU)
  PinnedMatrix(const Context& context, std::int64_t rows, std::int64_t cols = 1)
      : rows_(rows),
        cols_(cols),
        data_(static_cast<T*>(allocate_pinned(context, rows * cols * static_cast<std::int64_t>(sizeof(T))))) {}
  PinnedMatrix(PinnedMatrix&& other) noexcept { swap(other); }
  PinnedMatrix& operator=(PinnedMatrix&& other) noexcept {
    PinnedMatrix(std::move(other)).swap(*this);
    return *this;
  }
  ~PinnedMatrix() { deallocate_pinned(data_); }

  T* data() const { return data_; }
  std::int64_t size() const { return rows_ * cols_; }
  /// Both are views of host memory.
  MatrixView<T> matrix() const { return {data_, rows_, cols_, rows_, {}}; }
  VectorView<T> vector() const { return {data_, size(), {}}; }

 private:
  void swap(PinnedMatrix& other) noexcept {
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
    std::swap(data_, other.data_);
  }
  std::int64_t rows_ = 0, cols_ = 0;
  T* data_ = nullptr;
};

}  // namespace shrinkwarp
