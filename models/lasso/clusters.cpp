#include <shrinkwarp/models/lasso/clusters.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

constexpr double kSame = 0.75;
// Products may be off by this share of both norms, which is what coordinates are left out for.
constexpr double kBlur = 0.02;
// After so many clusters they must have gathered twice as many atoms, or there is nothing to be gathered.
constexpr std::int32_t kTrial = 64;

std::int64_t level_for_products(const QuantizedDictionary& D) {
  std::int64_t level = 0;
  while (level + 1 < D.levels() && std::pow(D.typical_tail(level), 2) > kBlur * std::pow(D.typical_norm(), 2)) ++level;
  return level;
}

}  // namespace

std::vector<std::int32_t> similar_atoms(const QuantizedDictionary& quantized, MatrixView<const double> D,
                                        const std::vector<std::int32_t>& place_of) {
  const Context one = Context::cpu(1);
  const auto size = static_cast<std::size_t>(D.cols);
  std::vector<std::int32_t> cluster(size), left(size);
  std::iota(left.begin(), left.end(), 0);
  const std::int64_t level = level_for_products(quantized);
  // Products of the next few atoms that are left, whether those before them among the few will have gathered them or not.
  constexpr std::int64_t kFew = 8;
  QuantizedResiduals firsts(one, quantized, kFew);
  std::vector<std::int64_t> places(static_cast<std::size_t>(firsts.places()));
  std::iota(places.begin(), places.end(), 0);
  const Tensor<float> C(one, quantized.padded_atoms(), firsts.places());
  const Tensor<float> highest(one, quantized.panels(), firsts.places());
  const AtomBounds bounds = quantized.bounds();
  const auto norm = [&](std::int32_t j) {
    return static_cast<double>(bounds.norm[place_of[static_cast<std::size_t>(j)]]);
  };
  std::int32_t number = 0;
  while (!left.empty()) {
    const std::int64_t count = std::min(static_cast<std::int64_t>(left.size()), firsts.places());
    const std::vector<std::int32_t> few(left.begin(), left.begin() + count);
    for (std::int64_t b = 0; b < count; ++b)
      firsts.set(quantized, b, level, D.column(few[static_cast<std::size_t>(b)]));
    bounded_correlation(one, quantized, bounds, firsts, places.data(), count, C.matrix(), highest.matrix());
    for (std::int64_t b = 0; b < count; ++b) {
      const std::int32_t first = few[static_cast<std::size_t>(b)];
      if (left.empty() || left.front() != first) continue;  // gathered
      if (number == kTrial && size - left.size() < static_cast<std::size_t>(2 * kTrial)) {
        std::iota(cluster.begin(), cluster.end(), 0);
        return cluster;
      }
      const float* const product = C.matrix().column(b);
      const double same = kSame * norm(first);
      // Atoms of zeros go to the first cluster that there is.
      const auto gathered = [&](std::int32_t j) {
        if (j != first &&
            std::fabs(static_cast<double>(product[place_of[static_cast<std::size_t>(j)]])) < same * norm(j))
          return false;
        cluster[static_cast<std::size_t>(j)] = number;
        return true;
      };
      left.erase(std::remove_if(left.begin(), left.end(), gathered), left.end());
      ++number;
    }
  }
  return cluster;
}

}  // namespace shrinkwarp
