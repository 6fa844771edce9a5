// Non-owning views. Column-major with an explicit leading dimension (cuBLAS order): column b is problem b, which is
// the same memory as a C-order NumPy array with a row a problem. A view is copied freely and never frees anything.
#pragma once

#include <cstdint>
#include <ostream>
#include <type_traits>

#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

enum class DeviceType { cpu, cuda };

/// Where memory lies and where work runs.
struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  bool operator==(const Device& other) const { return type == other.type && index == other.index; }
  bool operator!=(const Device& other) const { return !(*this == other); }
};

inline std::ostream& operator<<(std::ostream& out, const Device& device) {
  return device.type == DeviceType::cpu ? out << "cpu" : out << "cuda:" << device.index;
}

/// `size` contiguous elements.
template <class T>
struct VectorView {
  T* data = nullptr;
  std::int64_t size = 0;
  Device device;

  bool empty() const { return size == 0; }
  SHRINKWARP_HOST_DEVICE T& operator[](std::int64_t i) const { return data[i]; }
  /// Elements [first, first + count).
  VectorView slice(std::int64_t first, std::int64_t count) const { return {data + first, count, device}; }
  /// To the read-only form; a template, so that the read-only form itself has none.
  template <class U = T, class = std::enable_if_t<std::is_same_v<U, T> && !std::is_const_v<U>>>
  operator VectorView<const U>() const {
    return {data, size, device};
  }
};

/// `rows` x `cols` elements, element (i, j) at `data[i + j * ld]`, ld >= rows.
template <class T>
struct MatrixView {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t ld = 0;
  Device device;

  bool empty() const { return rows == 0 || cols == 0; }
  SHRINKWARP_HOST_DEVICE T& operator()(std::int64_t i, std::int64_t j) const { return data[i + j * ld]; }
  SHRINKWARP_HOST_DEVICE T* column(std::int64_t j) const { return data + j * ld; }
  /// Columns [first, first + count).
  MatrixView columns(std::int64_t first, std::int64_t count) const {
    return {data + first * ld, rows, count, ld, device};
  }
  template <class U = T, class = std::enable_if_t<std::is_same_v<U, T> && !std::is_const_v<U>>>
  operator MatrixView<const U>() const {
    return {data, rows, cols, ld, device};
  }
};

/// The read-only form of a view, for parameters whose element type is deduced elsewhere.
template <class T>
using ConstVector = VectorView<const T>;
template <class T>
using ConstMatrix = MatrixView<const T>;

/// Keeps a parameter out of template argument deduction, so that a view converts to its read-only form at the call.
template <class T>
struct identity {
  using type = T;
};
template <class T>
using identity_t = typename identity<T>::type;

}  // namespace shrinkwarp
