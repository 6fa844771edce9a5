// Small dictionaries and observations for tests of networks, and a network's codes of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp::testing {

inline std::vector<double> normal_numbers(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 53, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

/// D with atoms of norm 1, X normal; both on the host.
struct NetworkProblems {
  std::int64_t n, m, N;
  std::vector<double> D, X;

  NetworkProblems(std::int64_t n, std::int64_t m, std::int64_t N, std::uint64_t stream = 0)
      : n(n), m(m), N(N), D(normal_numbers(n * m, 2 * stream)), X(normal_numbers(n * N, 2 * stream + 1)) {
    for (std::int64_t j = 0; j < m; ++j) {
      double norm = 0;
      for (std::int64_t i = 0; i < n; ++i) norm = std::hypot(norm, d(i, j));
      for (std::int64_t i = 0; i < n; ++i) D[static_cast<std::size_t>(i + j * n)] /= norm;
    }
  }
  double d(std::int64_t i, std::int64_t j) const { return D[static_cast<std::size_t>(i + j * n)]; }
  double x(std::int64_t i, std::int64_t b) const { return X[static_cast<std::size_t>(i + b * n)]; }
  MatrixView<const double> dictionary() const { return {D.data(), n, m, n, {}}; }
  MatrixView<const double> observations() const { return {X.data(), n, N, n, {}}; }
  /// Both times these.
  NetworkProblems scaled(double of_D, double of_X) const {
    NetworkProblems result = *this;
    for (double& value : result.D) value *= of_D;
    for (double& value : result.X) value *= of_X;
    return result;
  }
  double lambda_max(std::int64_t b) const {
    double largest = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      double sum = 0;
      for (std::int64_t i = 0; i < n; ++i) sum += d(i, j) * x(i, b);
      largest = std::max(largest, std::fabs(sum));
    }
    return largest;
  }
};

/// A network's codes [m, N] of observations [n, N], both in its own units.
template <class T>
std::vector<T> codes_of(const Context& context, const Network<T>& network, const std::vector<double>& X,
                        const std::vector<double>& lambda) {
  const auto N = static_cast<std::int64_t>(lambda.size());
  const Tensor<T> its_X = to_device(context, std::vector<T>(X.begin(), X.end()), network.rows(), N);
  const Tensor<T> its_lambda = to_device(context, std::vector<T>(lambda.begin(), lambda.end()), N);
  const Tensor<T> Z(context, network.atoms(), N);
  const Tensor<std::byte> scratch(context, network.scratch(context, N, false));
  network.forward(context, its_X.matrix(), its_lambda.vector(), Z.matrix(), scratch.vector());
  return to_host(context, Z);
}

}  // namespace shrinkwarp::testing
