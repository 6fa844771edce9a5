// Dictionaries and vectors for the CPU kernels that read columns in whole vectors: zeros below the rows, aligned to 64
// bytes.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

#include "tests/support/guarded.hpp"

namespace shrinkwarp::testing {

inline std::int64_t padded_rows(std::int64_t rows) {
  return (rows + kAtomPadding - 1) / kAtomPadding * kAtomPadding;
}

/// Standard normal numbers; other streams, other numbers.
inline GuardedHost<double> normal_atoms(std::int64_t rows, std::int64_t cols, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(rows * cols));
  fill_normal(Context::cpu(1), 47, stream, 0, VectorView<double>{values.data(), rows * cols, {}});
  return GuardedHost<double>::make(
      rows, cols, [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * rows)]; });
}

inline MatrixView<const double> view_of(const GuardedHost<double>& host) {
  return {host.memory.data() + GuardedHost<double>::kGuard, host.rows, host.cols, host.ld, {}};
}

/// The matrix in T with zeros below.
template <class T>
Tensor<T> padded(const GuardedHost<double>& host) {
  auto tensor = Tensor<T>::zeros(Context::cpu(1), padded_rows(host.rows), host.cols);
  for (std::int64_t j = 0; j < host.cols; ++j) {
    for (std::int64_t i = 0; i < host.rows; ++i) tensor.matrix()(i, j) = static_cast<T>(host(i, j));
  }
  return tensor;
}

/// `size` elements that start as NaN, aligned, between guard bands of NaN.
template <class T>
class AlignedBand {
 public:
  explicit AlignedBand(std::int64_t size) : size_(size), memory_(Context::cpu(1), size + 2 * kGuard) {
    for (std::int64_t i = 0; i < memory_.size(); ++i) memory_.data()[i] = std::numeric_limits<T>::quiet_NaN();
  }
  std::int64_t size() const { return size_; }
  T* data() const { return memory_.data() + kGuard; }
  T& operator[](std::int64_t i) const { return data()[i]; }
  ::testing::AssertionResult guards_intact() const {
    for (std::int64_t i = 0; i < memory_.size(); ++i) {
      if (i == kGuard) i += size_;
      if (!std::isnan(memory_.data()[i])) return ::testing::AssertionFailure() << i - kGuard << " was written";
    }
    return ::testing::AssertionSuccess();
  }

 private:
  static constexpr std::int64_t kGuard = 64;
  std::int64_t size_;
  Tensor<T> memory_;
};

/// Small integers from a hash: the same on every machine.
class Integers {
 public:
  explicit Integers(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15U + 1) {}
  std::int64_t operator()(std::int64_t least, std::int64_t most) {
    state_ ^= state_ << 13U;
    state_ ^= state_ >> 7U;
    state_ ^= state_ << 17U;
    return least + static_cast<std::int64_t>((state_ >> 11U) % static_cast<std::uint64_t>(most - least + 1));
  }

 private:
  std::uint64_t state_;
};

}  // namespace shrinkwarp::testing
