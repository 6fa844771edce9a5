// Owners of device memory, or of a share in what keeps it. A Tensor is move-only and lies on the device of the context that made
// it; functions take its views.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Owns rows x cols elements, column-major with ld = rows (a vector is one column), or shares in their owner.
template <class T>
class Tensor {
 public:
  Tensor() = default;
  /// Not cleared. @throws ShapeError (a negative size), OutOfMemory
  Tensor(const Context& context, std::int64_t rows, std::int64_t cols = 1)
      : device_(context.device()), rows_(rows), cols_(cols) {
    SHRINKWARP_REQUIRE(rows >= 0 && cols >= 0, ShapeError, "Tensor: size ", rows, " x ", cols, ", wanted >= 0");
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(rows, cols, &bytes) ||
        __builtin_mul_overflow(bytes, static_cast<std::int64_t>(sizeof(T)), &bytes))
      throw OutOfMemory(concat("Tensor: ", rows, " x ", cols, " elements, wanted less than 2^63 bytes"), __FILE__,
                        __LINE__, std::numeric_limits<std::int64_t>::max());
    data_ = static_cast<T*>(context.allocate(bytes));
  }
  /// All elements zero (ordered on the stream).
  static Tensor zeros(const Context& context, std::int64_t rows, std::int64_t cols = 1) {
    Tensor tensor(context, rows, cols);
    context.zero_bytes(tensor.data_, tensor.bytes());
    return tensor;
  }
  /// Elements that belong to `owner`, which lives as long as this at least; nothing is allocated or freed.
  static Tensor shared(std::shared_ptr<const void> owner, T* data, Device device, std::int64_t rows,
                       std::int64_t cols = 1) {
    Tensor tensor;
    tensor.owner_ = std::move(owner);
    tensor.device_ = device;
    tensor.data_ = data;
    tensor.rows_ = rows;
    tensor.cols_ = cols;
    return tensor;
  }
  Tensor(Tensor&& other) noexcept { swap(other); }
  Tensor& operator=(Tensor&& other) noexcept {
    Tensor(std::move(other)).swap(*this);
    return *this;
  }
  ~Tensor() {
    if (!owner_) Context::deallocate(device_, data_);
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::int64_t size() const { return rows_ * cols_; }
  std::int64_t bytes() const { return size() * static_cast<std::int64_t>(sizeof(T)); }
  T* data() const { return data_; }
  MatrixView<T> matrix() const { return {data_, rows_, cols_, rows_, device_}; }
  VectorView<T> vector() const { return {data_, size(), device_}; }

 private:
  void swap(Tensor& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
  }
  std::shared_ptr<const void> owner_;  // of the elements, where that is not this
  Device device_;
  T* data_ = nullptr;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
};

/// Copies `source` to `target`, each on the CPU or on the context's device; ordered on the stream.
/// @throws ShapeError, CudaError
template <class T>
void copy(const Context& context, identity_t<MatrixView<const T>> source, MatrixView<T> target) {
  SHRINKWARP_REQUIRE(source.rows == target.rows && source.cols == target.cols, ShapeError, "copy: source is ",
                     source.rows, " x ", source.cols, ", target ", target.rows, " x ", target.cols);
  const auto size = static_cast<std::int64_t>(sizeof(T));
  if (target.empty()) return;
  context.copy_bytes_2d(target.data, target.device, target.ld * size, source.data, source.device, source.ld * size,
                        target.rows * size, target.cols);
}

template <class T>
void copy(const Context& context, identity_t<VectorView<const T>> source, VectorView<T> target) {
  SHRINKWARP_REQUIRE(source.size == target.size, ShapeError, "copy: source has ", source.size, " elements, target ",
                     target.size);
  if (target.empty()) return;
  context.copy_bytes(target.data, target.device, source.data, source.device,
                     target.size * static_cast<std::int64_t>(sizeof(T)));
}

}  // namespace shrinkwarp
