// Matrices with padding and guard bands: made on the host, copied whole to where a kernel runs and back, so that a
// write outside of the elements shows.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::testing {

/// rows x cols elements on the host with ld > rows and a guard band at both ends; everything starts as a sentinel.
template <class T>
struct GuardedHost {
  static constexpr std::int64_t kGuard = 67;
  std::int64_t rows = 0, cols = 0, ld = 0;
  std::vector<T> memory;

  GuardedHost() = default;
  GuardedHost(std::int64_t rows, std::int64_t cols, std::int64_t padding = 3)
      : rows(rows), cols(cols), ld(rows + padding), memory(static_cast<std::size_t>(ld * cols + 2 * kGuard)) {
    // NaN for floating point, so that whoever computes with a sentinel shows it.
    const T sentinel = std::numeric_limits<T>::has_quiet_NaN ? std::numeric_limits<T>::quiet_NaN() : T(113);
    for (T& element : memory) element = sentinel;
  }
  std::size_t at(std::int64_t i, std::int64_t j) const { return static_cast<std::size_t>(kGuard + i + j * ld); }
  T& operator()(std::int64_t i, std::int64_t j = 0) { return memory[at(i, j)]; }
  const T& operator()(std::int64_t i, std::int64_t j = 0) const { return memory[at(i, j)]; }

  /// rows x cols elements with element(i, j).
  template <class Element>
  static GuardedHost make(std::int64_t rows, std::int64_t cols, Element element, std::int64_t padding = 3) {
    GuardedHost matrix(rows, cols, padding);
    for (std::int64_t j = 0; j < cols; ++j) {
      for (std::int64_t i = 0; i < rows; ++i) matrix(i, j) = static_cast<T>(element(i, j));
    }
    return matrix;
  }
};

/// A GuardedHost copied whole, padding and guard bands included, to a context's device.
template <class T>
struct Guarded {
  std::int64_t rows = 0, cols = 0, ld = 0;
  Device device;
  Tensor<T> memory;

  MatrixView<T> matrix() const { return {memory.data() + GuardedHost<T>::kGuard, rows, cols, ld, device}; }
  /// The first column.
  VectorView<T> vector() const { return {memory.data() + GuardedHost<T>::kGuard, cols > 0 ? rows : 0, device}; }
};

template <class T>
Guarded<T> to_device(const Context& context, const GuardedHost<T>& host) {
  const auto size = static_cast<std::int64_t>(host.memory.size());
  Guarded<T> placed{host.rows, host.cols, host.ld, context.device(), Tensor<T>(context, size)};
  copy(context, VectorView<const T>{host.memory.data(), size, Device{}}, placed.memory.vector());
  context.synchronize();
  return placed;
}

template <class T>
GuardedHost<T> to_host(const Context& context, const Guarded<T>& placed) {
  GuardedHost<T> host;
  host.rows = placed.rows;
  host.cols = placed.cols;
  host.ld = placed.ld;
  host.memory.resize(static_cast<std::size_t>(placed.memory.size()));
  copy(context, placed.memory.vector(), VectorView<T>{host.memory.data(), placed.memory.size(), Device{}});
  context.synchronize();
  return host;
}

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// Everything outside the rows x cols elements still holds the bits of `before`.
template <class T>
::testing::AssertionResult guards_intact(const GuardedHost<T>& before, const GuardedHost<T>& after) {
  for (std::size_t k = 0; k < after.memory.size(); ++k) {
    const auto offset = static_cast<std::int64_t>(k) - GuardedHost<T>::kGuard;
    if (offset >= 0 && offset < after.ld * after.cols && offset % after.ld < after.rows) continue;
    if (!same_bits(before.memory[k], after.memory[k]))
      return ::testing::AssertionFailure() << "element " << offset << " outside the matrix was overwritten";
  }
  return ::testing::AssertionSuccess();
}

/// The rows x cols elements, and nothing else, have the same bits.
template <class T>
::testing::AssertionResult same_elements(const GuardedHost<T>& a, const GuardedHost<T>& b) {
  if (a.rows != b.rows || a.cols != b.cols) return ::testing::AssertionFailure() << "sizes differ";
  for (std::int64_t j = 0; j < a.cols; ++j) {
    for (std::int64_t i = 0; i < a.rows; ++i) {
      if (!same_bits(a(i, j), b(i, j)))
        return ::testing::AssertionFailure() << "(" << i << ", " << j << "): " << a(i, j) << " and " << b(i, j);
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace shrinkwarp::testing
