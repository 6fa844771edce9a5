// Lasso problems with normal numbers, for tests of the models on every backend.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp::testing {

class OnRandomProblems : public OnContext {
 protected:
  std::int64_t n = 0, m = 0, N = 0;
  std::vector<double> D, X;  // [n, m], [n, N]

  void make(std::int64_t rows, std::int64_t atoms, std::int64_t problems, std::uint64_t seed = 5) {
    n = rows, m = atoms, N = problems;
    D.resize(static_cast<std::size_t>(n * m));
    X.resize(static_cast<std::size_t>(n * N));
    const Context host = Context::cpu(1);
    fill_normal(host, seed, 0, 0, VectorView<double>{D.data(), n * m, {}});
    fill_normal(host, seed, 1, 0, VectorView<double>{X.data(), n * N, {}});
  }

  LassoBatch solve(const LambdaRule& rule, const LassoOptions& options) const {
    const Dictionary dictionary(context(), {D.data(), n, m, n, {}});
    return solve_lasso(context(), dictionary, {X.data(), n, N, n, {}}, rule, options);
  }

  /// Code i of a batch, [m].
  std::vector<double> code(const LassoBatch& batch, std::int64_t i) const {
    std::vector<double> z(static_cast<std::size_t>(m), 0.0);
    for (auto k = batch.codes.offsets[static_cast<std::size_t>(i)];
         k < batch.codes.offsets[static_cast<std::size_t>(i) + 1]; ++k)
      z[static_cast<std::size_t>(batch.codes.indices[static_cast<std::size_t>(k)])] =
          batch.codes.values[static_cast<std::size_t>(k)];
    return z;
  }
};

}  // namespace shrinkwarp::testing
