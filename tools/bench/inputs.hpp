// Numbers that benchmarks of kernels run on.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp::bench {

/// Standard normal values on the context's device.
template <class T>
Tensor<T> normal_numbers(const Context& context, std::int64_t rows, std::int64_t cols, std::uint64_t seed);

/// Normal values, all but `density` of them set to zero.
Tensor<float> sparse_codes(const Context& context, std::int64_t atoms, std::int64_t problems, double density,
                           std::uint64_t seed);

/// `size` times the same value.
template <class T>
Tensor<T> filled(const Context& context, std::int64_t size, T value) {
  const std::vector<T> values(static_cast<std::size_t>(size), value);
  Tensor<T> tensor(context, size);
  copy(context, VectorView<const T>{values.data(), size, {}}, tensor.vector());
  context.synchronize();
  return tensor;
}

}  // namespace shrinkwarp::bench
