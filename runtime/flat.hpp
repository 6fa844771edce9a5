// Objects made of numbers and tensors as one block of bytes, which another process can map anywhere and use where it lies. An
// object lists its parts in one order, to a FlatWriter that counts, to one that writes, and to a FlatReader:
//
//   template <class Self, class Flat>
//   static void list(Self& self, Flat& flat) {
//     flat.value(self.rows_);
//     flat.tensor(self.columns_);
//   }
//
// Bytes are those of this build on this processor: for processes that run now, not for files.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Counts the bytes of what is listed to it, or writes them. Tensors are on the CPU.
class FlatWriter {
 public:
  /// Counts.
  FlatWriter() : arena_(Device{}), counting_(true) {}
  /// @param memory  on the CPU, aligned to 256 bytes
  explicit FlatWriter(VectorView<std::byte> memory) : arena_(memory), counting_(false) {}

  template <class T>
  void value(const T& value) {
    write(&value, 1);
  }
  template <class T>
  void vector(const std::vector<T>& values) {
    value(static_cast<std::int64_t>(values.size()));
    write(values.data(), static_cast<std::int64_t>(values.size()));
  }
  template <class T>
  void tensor(const Tensor<T>& tensor) {
    value(tensor.rows());
    value(tensor.cols());
    write(tensor.data(), tensor.size());
  }
  /// Bytes so far.
  std::int64_t used() const { return arena_.used(); }

 private:
  template <class T>
  void write(const T* values, std::int64_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const VectorView<T> place = arena_.vector<T>(count);
    if (!counting_) std::copy_n(values, count, place.data);
  }

  Arena arena_;
  bool counting_;
};

/// Gives what a FlatWriter has written: numbers and vectors as copies, tensors where they lie.
class FlatReader {
 public:
  /// @param memory  that was written, on the CPU, aligned to 256 bytes  @param owner  of it: tensors keep it alive
  FlatReader(VectorView<std::byte> memory, std::shared_ptr<const void> owner)
      : arena_(memory), owner_(std::move(owner)) {}

  template <class T>
  void value(T& value) {
    value = *read<T>(1);
  }
  template <class T>
  void vector(std::vector<T>& values) {
    std::int64_t size = 0;
    value(size);
    const T* const begin = read<T>(size);
    values.assign(begin, begin + size);
  }
  template <class T>
  void tensor(Tensor<T>& tensor) {
    std::int64_t rows = 0, cols = 0;
    value(rows);
    value(cols);
    tensor = Tensor<T>::shared(owner_, read<T>(rows * cols), {}, rows, cols);
  }
  /// Bytes so far.
  std::int64_t used() const { return arena_.used(); }

 private:
  template <class T>
  T* read(std::int64_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    return arena_.vector<T>(count).data;
  }

  Arena arena_;
  std::shared_ptr<const void> owner_;
};

}  // namespace shrinkwarp
