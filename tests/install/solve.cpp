// Two Lasso problems with the identity as dictionary, whose solution is known.
#include <cstdint>
#include <cstdio>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>

#include "expect.hpp"

int main() {
  const shrinkwarp::Context context = shrinkwarp::Context::best();

  // Column-major: an atom is a column of D [n, m], an observation a column of X [n, N].
  const std::int64_t n = 3, m = 3, N = 2;
  const std::vector<double> D = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const std::vector<double> X = {3, -0.5, 0, -2, 1, 4};

  const shrinkwarp::Dictionary dictionary(context, {D.data(), n, m, n, {}});
  const shrinkwarp::LassoBatch batch = shrinkwarp::solve_lasso(
      context, dictionary, {X.data(), n, N, n, {}}, shrinkwarp::LambdaRule::value(1.25), shrinkwarp::LassoOptions{});

  std::vector<double> Z(static_cast<std::size_t>(m * N));  // [m, N]
  for (std::int64_t i = 0; i < N; ++i) {
    for (std::int64_t k = batch.codes.offsets[i]; k < batch.codes.offsets[i + 1]; ++k)
      Z[batch.codes.indices[k] + m * i] = batch.codes.values[k];
    std::printf("problem %d: objective %g, at most %g from the optimum\n", static_cast<int>(i), batch.objective[i],
                batch.dual_gap[i]);
  }

  // The objective is strongly convex here: 1/2 ||z - z*||^2 <= gap.
  for (std::int64_t i = 0; i < N; ++i) {
    expect(batch.converged[i], "every problem has reached its gap");
    for (std::int64_t j = 0; j < m; ++j)
      expect_near("z", Z[j + m * i], soft_threshold(X[j + n * i], 1.25), std::sqrt(2 * batch.dual_gap[i]));
  }
}
