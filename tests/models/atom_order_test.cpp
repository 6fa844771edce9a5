// What a working-set dictionary makes of its atoms beside numbers: their order in passes, and which are much the same.
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/principal_basis/principal_basis.hpp>
#include <shrinkwarp/models/lasso/atom_order.hpp>
#include <shrinkwarp/models/lasso/clusters.hpp>

#include "tests/support/atoms.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::normal_atoms;
using testing::padded;

TEST(AtomOrder, LargeOnesComeFirstAndAlikeOnesKeepTheirOrder) {
  // Norms 1, 4, 0, 1.01, 1e-200, 4.02, 2, 0.
  const double norms[] = {1, 4, 0, 1.01, 1e-200, 4.02, 2, 0};
  const auto D = GuardedHost<double>::make(3, 8, [&](std::int64_t i, std::int64_t j) { return i == 1 ? norms[j] : 0; });
  EXPECT_EQ(atoms_by_norm(padded<double>(D).matrix()), (std::vector<std::int32_t>{1, 5, 6, 0, 3, 2, 4, 7}));
}

/// similar_atoms() of a dictionary in the order that passes take it in.
std::vector<std::int32_t> clusters_of(const GuardedHost<double>& D, MatrixView<const double> basis = {}) {
  const Tensor<double> columns = padded<double>(D);
  MatrixView<const double> whole = columns.matrix();
  whole.rows = D.rows;
  const std::vector<std::int32_t> order = atoms_by_norm(columns.matrix());
  std::vector<std::int32_t> place_of(order.size());
  for (std::size_t k = 0; k < order.size(); ++k)
    place_of[static_cast<std::size_t>(order[k])] = static_cast<std::int32_t>(k);
  return similar_atoms(QuantizedDictionary(Context::cpu(1), whole, basis, order), columns.matrix(), place_of);
}

TEST(SimilarAtoms, TheFirstOfThemGathersTheOthers) {
  // Atom j is a multiple of direction j mod 30, one in three of them negative, and its angle to it grows with j: the cosine is
  // from .99 to .80, and of the last thirty atoms .70 and less.
  const std::int64_t n = 90, m = 150;
  const auto D = GuardedHost<double>::make(n, m, [](std::int64_t i, std::int64_t j) {
    const std::int64_t copy = j / 30, direction = j % 30;
    const double angle = copy == 0 ? 0 : copy == 4 ? 0.8 : 0.2 * static_cast<double>(copy);
    const double size = (j % 3 == 0 ? -1 : 1) * std::exp2(static_cast<double>(j % 11));
    return size * (i == direction ? std::cos(angle) : i == 30 + direction ? std::sin(angle) : 0);
  });
  const std::vector<std::int32_t> cluster = clusters_of(D);
  for (std::int64_t j = 0; j < 120; ++j) EXPECT_EQ(cluster[static_cast<std::size_t>(j)], j % 30) << j;
  for (std::int64_t j = 120; j < m; ++j) EXPECT_EQ(cluster[static_cast<std::size_t>(j)], j - 90) << j;
}

TEST(SimilarAtoms, AreFoundByTheirFirstCoordinates) {
  // 300 mixtures of ten directions among 80, with a little of all, of sizes over two octaves; then each of them once more, nearly.
  const std::int64_t n = 80, half = 300;
  const GuardedHost<double> mixture = normal_atoms(10, half, 1), noise = normal_atoms(n, 2 * half, 2);
  const auto D = GuardedHost<double>::make(n, 2 * half, [&](std::int64_t i, std::int64_t j) {
    const double much = i < 10 ? mixture(i, j % half) : 0;
    return std::exp2(static_cast<double>(j % 5) / 2) * (much + 0.03 * noise(i, j));
  });
  const Tensor<double> basis = principal_basis(Context::cpu(1), testing::view_of(D));
  const std::vector<std::int32_t> cluster = clusters_of(D, basis.matrix());
  for (std::int64_t j = 0; j < half; ++j) {
    double product = 0, mine = 0, its = 0;  // with its copy
    for (std::int64_t i = 0; i < n; ++i) {
      product += D(i, j) * D(i, j + half);
      mine += D(i, j) * D(i, j);
      its += D(i, j + half) * D(i, j + half);
    }
    ASSERT_GT(product / std::sqrt(mine * its), 0.9);
  }
  // Whoever began a cluster is like all that are in it, and unlike those that began other ones before.
  std::vector<std::int64_t> first(static_cast<std::size_t>(2 * half), -1);
  std::int32_t clusters = 0;
  const auto cosine = [&](std::int64_t a, std::int64_t b) {
    double product = 0, of_a = 0, of_b = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      product += D(i, a) * D(i, b);
      of_a += D(i, a) * D(i, a);
      of_b += D(i, b) * D(i, b);
    }
    return std::fabs(product) / std::sqrt(of_a * of_b);
  };
  for (std::int64_t j = 0; j < 2 * half; ++j) {
    const std::int32_t its = cluster[static_cast<std::size_t>(j)];
    ASSERT_LE(its, clusters);
    if (its == clusters) {
      for (std::int32_t other = 0; other < clusters; ++other)
        EXPECT_LT(cosine(first[static_cast<std::size_t>(other)], j), 0.8);
      first[static_cast<std::size_t>(clusters++)] = j;
    }
    EXPECT_GT(cosine(first[static_cast<std::size_t>(its)], j), 0.7);
  }
  EXPECT_LT(clusters, half);
}

TEST(SimilarAtoms, OfIncoherentAtomsEachIsForItself) {
  const std::vector<std::int32_t> cluster = clusters_of(normal_atoms(80, 200, 1));
  std::vector<std::int32_t> each(200);
  std::iota(each.begin(), each.end(), 0);
  EXPECT_EQ(cluster, each);
}

}  // namespace
}  // namespace shrinkwarp
