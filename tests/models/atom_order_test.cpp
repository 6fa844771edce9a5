// What a working-set dictionary makes of its atoms beside numbers: their order in passes, and which are much the same.
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

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
std::vector<std::int32_t> clusters_of(const GuardedHost<double>& D) {
  const Tensor<double> columns = padded<double>(D);
  MatrixView<const double> whole = columns.matrix();
  whole.rows = D.rows;
  const std::vector<std::int32_t> order = atoms_by_norm(columns.matrix());
  std::vector<std::int32_t> place_of(order.size());
  for (std::size_t k = 0; k < order.size(); ++k)
    place_of[static_cast<std::size_t>(order[k])] = static_cast<std::int32_t>(k);
  return similar_atoms(QuantizedDictionary(Context::cpu(1), whole, {}, order), columns.matrix(), place_of);
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

TEST(SimilarAtoms, OfIncoherentAtomsEachIsForItself) {
  const std::vector<std::int32_t> cluster = clusters_of(normal_atoms(80, 200, 1));
  std::vector<std::int32_t> each(200);
  std::iota(each.begin(), each.end(), 0);
  EXPECT_EQ(cluster, each);
}

}  // namespace
}  // namespace shrinkwarp
