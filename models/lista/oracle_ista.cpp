#include <shrinkwarp/models/lista/oracle_ista.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr int kPowerIterations = 25;
constexpr double kMargin = 1.01;

using Support = std::vector<std::int64_t>;

Support support_of(const std::vector<double>& z) {
  Support support;
  for (std::size_t j = 0; j < z.size(); ++j)
    if (z[j] != 0) support.push_back(static_cast<std::int64_t>(j));
  return support;
}

double norm_of(const std::vector<double>& v) {
  double sum = 0;
  for (const double value : v) sum += value * value;
  return std::sqrt(sum);
}

/// ||D_S||_2^2 and a little more; 0 where all atoms of S are 0.
double squared_norm_on(MatrixView<const double> D, const Support& support) {
  std::vector<double> v(support.size(), 1.0), image(static_cast<std::size_t>(D.rows));
  // A start that no singular vector is likely to be orthogonal to.
  for (std::size_t k = 0; k < v.size(); ++k) v[k] += 0.5 * std::sin(static_cast<double>(k + 1));
  double value = 0;
  for (int iteration = 0; iteration < kPowerIterations; ++iteration) {
    const double norm = norm_of(v);
    if (!(norm > 0)) return 0;
    std::fill(image.begin(), image.end(), 0.0);
    for (std::size_t k = 0; k < v.size(); ++k) {
      const double* const atom = D.column(support[k]);
      for (std::int64_t i = 0; i < D.rows; ++i) image[static_cast<std::size_t>(i)] += atom[i] * v[k] / norm;
    }
    for (std::size_t k = 0; k < v.size(); ++k) {
      const double* const atom = D.column(support[k]);
      double sum = 0;
      for (std::int64_t i = 0; i < D.rows; ++i) sum += atom[i] * image[static_cast<std::size_t>(i)];
      v[k] = sum;
    }
    value = norm_of(v);
  }
  return kMargin * value;
}

}  // namespace

void oracle_ista_codes(const Context& context, MatrixView<const double> D, double lipschitz, MatrixView<const double> X,
                       VectorView<const double> lambda, std::int64_t iterations, MatrixView<double> Z) {
  constexpr const char* kFunction = "oracle_ista_codes";
  check_matrix(context, kFunction, "D", D, D.rows, D.cols);
  check_matrix(context, kFunction, "X", X, D.rows, X.cols);
  check_vector(context, kFunction, "lambda", lambda, X.cols);
  check_matrix(context, kFunction, "Z", Z, D.cols, X.cols);
  SHRINKWARP_REQUIRE(iterations >= 0 && lipschitz > 0, ValueError, kFunction, ": iterations is ", iterations,
                     ", lipschitz ", lipschitz, ", wanted >= 0 and > 0");
  context.parallel_for(X.cols, [&](std::int64_t b, int) {
    std::vector<double> z(static_cast<std::size_t>(D.cols)), next(z.size()), correlation(z.size());
    std::vector<double> r(static_cast<std::size_t>(D.rows));
    for (std::int64_t k = 0; k < iterations; ++k) {
      const Support support = support_of(z);
      std::copy_n(X.column(b), D.rows, r.begin());
      for (const std::int64_t j : support)
        for (std::int64_t i = 0; i < D.rows; ++i)
          r[static_cast<std::size_t>(i)] -= D(i, j) * z[static_cast<std::size_t>(j)];
      for (std::int64_t j = 0; j < D.cols; ++j) {
        double sum = 0;
        for (std::int64_t i = 0; i < D.rows; ++i) sum += D(i, j) * r[static_cast<std::size_t>(i)];
        correlation[static_cast<std::size_t>(j)] = sum;
      }
      const auto step_by = [&](double step) {
        for (std::size_t j = 0; j < z.size(); ++j)
          next[j] = soft_threshold(z[j] + step * correlation[j], step * lambda[b]);
      };
      const double on_support = support.empty() ? 0 : squared_norm_on(D, support);
      bool stays = on_support > 0;
      if (stays) {
        step_by(1 / on_support);
        for (std::size_t j = 0; stays && j < z.size(); ++j) stays = next[j] == 0 || z[j] != 0;
      }
      if (!stays) step_by(1 / lipschitz);
      std::swap(z, next);
    }
    std::copy(z.begin(), z.end(), Z.column(b));
  });
}

}  // namespace shrinkwarp
