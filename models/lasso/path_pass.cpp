#include <shrinkwarp/models/lasso/path_pass.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>

namespace shrinkwarp {
namespace {

// Atoms whose products with one residual after the other are made before the next atoms: they stay in the second-level
// cache.
constexpr std::int64_t kAtomBlock = 64;

std::int64_t padded(std::int64_t size) {
  return (size + kAtomPadding - 1) / kAtomPadding * kAtomPadding;
}

}  // namespace

PathPass::PathPass(const Context& context, const WorkingSetDictionary& parts, const Penalty& penalty,
                   std::int64_t places)
    : parts_(parts), penalty_(penalty) {
  const std::int64_t m = parts.exact_columns.cols;
  if (parts.quantized.atoms() > 0 && penalty.weights.empty()) {
    residuals_ = QuantizedResiduals(context, parts.quantized, places);
    C_ = Tensor<float>(context, parts.quantized.padded_atoms(), residuals_.places());
    highest_ = Tensor<float>(context, parts.quantized.panels(), residuals_.places());
  } else {
    correlations_ = Tensor<double>(context, padded(m), places);
  }
  places_.resize(static_cast<std::size_t>(places));
  std::iota(places_.begin(), places_.end(), 0);
  all_.resize(static_cast<std::size_t>(m));
  std::iota(all_.begin(), all_.end(), 0);
  open_.resize(static_cast<std::size_t>(std::max(m, parts.quantized.padded_atoms())));
  values_.resize(static_cast<std::size_t>(m));
}

std::int64_t PathPass::bytes(std::int64_t rows, std::int64_t atoms, std::int64_t places) {
  return (places + 8) * (2 * padded(rows) + 8 * padded(atoms)) + 16 * padded(atoms);
}

double PathPass::over(std::int32_t j, double correlation) const {
  return (penalty_.nonnegative ? correlation : std::fabs(correlation)) / weight(j);
}

void PathPass::run(std::int64_t count, FunctionRef<const double*(std::int64_t)> residual) {
  const std::int64_t m = parts_.exact_columns.cols;
  if (bounded()) {
    const QuantizedDictionary& D = parts_.quantized;
    for (std::int64_t b = 0; b < count; ++b) residuals_.set(D, b, D.levels() - 1, residual(b));
    bounded_correlation(context_, D, D.bounds(), residuals_, places_.data(), count, C_.matrix(), highest_.matrix());
  } else if (parts_.transposed.size() > 0) {
    for (std::int64_t b = 0; b < count; ++b)
      correlate_all(parts_.transposed.matrix(), residual(b), correlations_.matrix().column(b));
  } else {
    for (std::int64_t j = 0; j < m; j += kAtomBlock)
      for (std::int64_t b = 0; b < count; ++b)
        correlate_atoms(parts_.exact_columns, all_.data() + j, std::min(kAtomBlock, m - j), residual(b),
                        correlations_.matrix().column(b) + j);
  }
}

double PathPass::about(std::int64_t place, std::int32_t j) const {
  return over(j, bounded() ? static_cast<double>(C_.matrix()(parts_.place_of[static_cast<std::size_t>(j)], place))
                           : correlations_.matrix()(j, place));
}

std::vector<std::int32_t> PathPass::furthest(std::int64_t place, std::int64_t count) const {
  std::vector<std::int32_t> atoms = all_;
  std::nth_element(atoms.begin(), atoms.begin() + count - 1, atoms.end(), [&](std::int32_t a, std::int32_t b) {
    const double x = about(place, a), y = about(place, b);
    return x > y || (x == y && a < b);
  });
  atoms.resize(static_cast<std::size_t>(count));
  std::sort(atoms.begin(), atoms.end());
  return atoms;
}

std::int64_t PathPass::look(std::int64_t place, const double* r, double from) {
  if (bounded()) {
    const std::int64_t count =
        open_atoms(parts_.quantized, parts_.quantized.bounds(), residuals_, place, C_.matrix().column(place),
                   highest_.matrix().column(place), from, open_.data());
    for (std::int64_t k = 0; k < count; ++k) {
      std::int32_t& j = open_[static_cast<std::size_t>(k)];
      j = parts_.order[static_cast<std::size_t>(j)];
    }
    correlate_atoms(parts_.exact_columns, open_.data(), count, r, values_.data());
    return count;
  }
  std::int64_t count = 0;
  const double* const c = correlations_.matrix().column(place);
  for (const std::int32_t j : all_) {
    if (over(j, c[j]) < from) continue;
    open_[static_cast<std::size_t>(count)] = j;
    values_[static_cast<std::size_t>(count++)] = c[j];
  }
  return count;
}

}  // namespace shrinkwarp
