// Several threads, a context each, and one dictionary.
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>

#include "expect.hpp"

int main() {
  const std::int64_t n = 8, m = 20, N = 50;
  std::vector<double> D(static_cast<std::size_t>(n * m)), X(static_cast<std::size_t>(n * N));
  for (std::size_t k = 0; k < D.size(); ++k) D[k] = std::cos(1.1 * static_cast<double>(k) * static_cast<double>(k));
  for (std::size_t k = 0; k < X.size(); ++k) X[k] = std::sin(0.7 * static_cast<double>(k));
  shrinkwarp::LassoOptions options;
  options.gap = 1e-9;  // below what float reaches, so the double form of the dictionary is used

  const shrinkwarp::Context context = shrinkwarp::Context::cpu(1);
  const shrinkwarp::Dictionary dictionary(context, {D.data(), n, m, n, {}});

  std::vector<shrinkwarp::LassoBatch> batches(3);
  std::vector<std::thread> threads;
  for (shrinkwarp::LassoBatch& batch : batches) {
    threads.emplace_back([&] {
      const shrinkwarp::Context own = shrinkwarp::Context::cpu(1);
      batch = shrinkwarp::solve_lasso(own, dictionary, {X.data(), n, N, n, {}},
                                      shrinkwarp::LambdaRule::sample_fraction(0.3), options);
    });
  }
  for (std::thread& thread : threads) thread.join();

  for (const shrinkwarp::LassoBatch& batch : batches) {
    expect(batch.codes.values == batches.front().codes.values, "the same bits from every thread");
    for (const std::uint8_t converged : batch.converged) expect(converged, "every problem has reached its gap");
  }
}
