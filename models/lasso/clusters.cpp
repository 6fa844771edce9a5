#include <shrinkwarp/models/lasso/clusters.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>

namespace shrinkwarp {
namespace {

constexpr float kSame = 0.75F;
// After so many clusters they must have gathered twice as many atoms, or there is nothing to be gathered.
constexpr std::int32_t kTrial = 64;

}  // namespace

std::vector<std::int32_t> similar_atoms(MatrixView<const float> columns) {
  const auto size = static_cast<std::size_t>(columns.cols);
  std::vector<std::int32_t> cluster(size), left(size);
  std::iota(left.begin(), left.end(), 0);
  std::vector<float> norm(size), product(size);
  for (std::size_t j = 0; j < size; ++j) {
    const float* const d = columns.column(static_cast<std::int64_t>(j));
    double energy = 0;
    for (std::int64_t i = 0; i < columns.rows; ++i) energy += static_cast<double>(d[i]) * static_cast<double>(d[i]);
    norm[j] = static_cast<float>(std::sqrt(energy));
  }
  for (std::int32_t number = 0; !left.empty(); ++number) {
    if (number == kTrial && size - left.size() < static_cast<std::size_t>(2 * kTrial)) {
      std::iota(cluster.begin(), cluster.end(), 0);
      return cluster;
    }
    const std::int32_t first = left.front();
    const auto count = static_cast<std::int64_t>(left.size());
    correlate_atoms(columns, left.data(), count, columns.column(first), product.data());
    const float mine = norm[static_cast<std::size_t>(first)];
    std::size_t kept = 0;
    for (std::size_t k = 0; k < left.size(); ++k) {
      const auto j = static_cast<std::size_t>(left[k]);
      if (k == 0 || std::fabs(product[k]) > kSame * mine * norm[j])
        cluster[j] = number;
      else
        left[kept++] = left[k];
    }
    left.resize(kept);
  }
  return cluster;
}

}  // namespace shrinkwarp
