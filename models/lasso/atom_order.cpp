#include <shrinkwarp/models/lasso/atom_order.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>

namespace shrinkwarp {

std::vector<std::int32_t> atoms_by_norm(MatrixView<const double> D) {
  // Narrow enough that a panel's largest norm says something of all its atoms, wide enough that neighbours stay together.
  constexpr double kClassesAnOctave = 3;
  std::vector<double> level(static_cast<std::size_t>(D.cols));
  for (std::int64_t j = 0; j < D.cols; ++j) {
    const double energy = dot(D.column(j), D.column(j), D.rows);
    level[static_cast<std::size_t>(j)] =
        energy > 0 ? std::floor(kClassesAnOctave / 2 * std::log2(energy)) : -std::numeric_limits<double>::infinity();
  }
  std::vector<std::int32_t> order(level.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&level](std::int32_t a, std::int32_t b) {
    return level[static_cast<std::size_t>(a)] > level[static_cast<std::size_t>(b)];
  });
  return order;
}

}  // namespace shrinkwarp
