// The two uses of least squares beside the Lasso, on every backend.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/debias.hpp>
#include <shrinkwarp/models/lasso/minimum_norm.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp {
namespace {

class LeastSquaresCodes : public testing::OnContext {
 protected:
  std::vector<double> D = std::vector<double>(12 * 30), X = std::vector<double>(12 * 5);
  void SetUp() override {
    testing::OnContext::SetUp();
    if (IsSkipped()) return;
    const Context host = Context::cpu(1);
    fill_normal(host, 9, 0, 0, VectorView<double>{D.data(), 12 * 30, {}});
    fill_normal(host, 9, 1, 0, VectorView<double>{X.data(), 12 * 5, {}});
  }
  double correlation(std::int64_t atom, const std::vector<double>& r) const {
    double sum = 0;
    for (std::size_t i = 0; i < 12; ++i) sum += D[i + static_cast<std::size_t>(atom) * 12] * r[i];
    return sum;
  }
};
SHRINKWARP_ON_EVERY_CONTEXT(LeastSquaresCodes);

TEST_P(LeastSquaresCodes, AmplitudesLeaveAResidualThatNoAtomOfTheCodeSees) {
  for (double& value : D) value *= 0x1p100;  // the dictionary has a scale of its own
  const Dictionary dictionary(context(), {D.data(), 12, 30, 12, {}});
  const Debias debias(context(), dictionary);
  SparseCodes codes;
  for (std::int32_t i = 0; i < 5; ++i) {  // the first has no atom
    for (std::int32_t k = 0; k < 2 * i; ++k) {
      codes.indices.push_back((7 * k + i) % 30);
      codes.values.push_back(1);
    }
    codes.offsets.push_back(static_cast<std::int64_t>(codes.values.size()));
  }
  const std::vector<double> found = debias.amplitudes({X.data(), 12, 5, 12, {}}, codes);
  ASSERT_EQ(found.size(), codes.values.size());
  for (std::size_t i = 0; i < 5; ++i) {
    std::vector<double> r(X.begin() + static_cast<std::ptrdiff_t>(12 * i),
                          X.begin() + static_cast<std::ptrdiff_t>(12 * i + 12));
    for (auto k = static_cast<std::size_t>(codes.offsets[i]); k < static_cast<std::size_t>(codes.offsets[i + 1]); ++k)
      for (std::size_t row = 0; row < 12; ++row)
        r[row] -= found[k] * D[row + static_cast<std::size_t>(codes.indices[k]) * 12];
    for (auto k = static_cast<std::size_t>(codes.offsets[i]); k < static_cast<std::size_t>(codes.offsets[i + 1]); ++k)
      EXPECT_NEAR(correlation(codes.indices[k], r) * 0x1p-100, 0, 1e-12);
  }
  EXPECT_THROW(debias.amplitudes({X.data(), 12, 4, 12, {}}, codes), ShapeError);
}

TEST_P(LeastSquaresCodes, TheMinimumNormFitsAndIsInTheRowSpace) {
  if (context().is_cuda()) {
    EXPECT_THROW(MinimumNorm(context(), {D.data(), 12, 30, 12, {}}), DeviceError);  // it has no body there
    return;
  }
  const MinimumNorm solver(context(), {D.data(), 12, 30, 12, {}});
  EXPECT_EQ(solver.rank(), 12);
  std::vector<double> Z(30 * 5);
  solver.solve(context(), {X.data(), 12, 5, 12, {}}, {Z.data(), 30, 5, 30, {}});
  // x = D z, and z = D'y for y = (D D')^-1 x, which is what z'v = 0 for all v with D v = 0 says: the norm of z is that of
  // the solution of least norm, x'(D D')^-1 x = z'z.
  for (std::size_t b = 0; b < 5; ++b) {
    for (std::size_t row = 0; row < 12; ++row) {
      double sum = 0;
      for (std::size_t j = 0; j < 30; ++j) sum += D[row + 12 * j] * Z[j + 30 * b];
      EXPECT_NEAR(sum, X[row + 12 * b], 1e-12);
    }
    // Any other fit is longer: z moved by a v with D v = 0, made from another solution's difference.
    double norm = 0, along = 0;
    const std::size_t other = (b + 1) % 5;
    std::vector<double> shifted(12);  // D e_b, whose minimum-norm code is w; v = e_b - w
    for (std::size_t row = 0; row < 12; ++row) shifted[row] = D[row + 12 * other];
    std::vector<double> w(30);
    solver.solve(context(), {shifted.data(), 12, 1, 12, {}}, {w.data(), 30, 1, 30, {}});
    for (std::size_t j = 0; j < 30; ++j) {
      const double v = (j == other ? 1.0 : 0.0) - w[j];
      norm += v * v;
      along += v * Z[j + 30 * b];
    }
    EXPECT_GT(norm, 0.1);
    EXPECT_NEAR(along, 0, 1e-12);
  }
}

}  // namespace
}  // namespace shrinkwarp
