// Compiled with -ffp-contract=off: a product is rounded before it is added.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/weighted_sum/weighted_sum.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kPiece = 1024;  // rows: their sums stay in the first cache

// The same loops for both element types: multiversioned functions cannot be templates.
#define SHRINKWARP_WEIGHTED_SUM_LOOPS(T)                                                                \
  SHRINKWARP_CPU_CLONES void add_piece(double weight, const T* part, double* sums, std::int64_t size) { \
    for (std::int64_t i = 0; i < size; ++i) sums[i] += weight * static_cast<double>(part[i]);           \
  }                                                                                                     \
  SHRINKWARP_CPU_CLONES void round_piece(const double* sums, T* rounded, std::int64_t size) {           \
    for (std::int64_t i = 0; i < size; ++i) rounded[i] = static_cast<T>(sums[i]);                       \
  }
SHRINKWARP_WEIGHTED_SUM_LOOPS(float)
SHRINKWARP_WEIGHTED_SUM_LOOPS(double)
#undef SHRINKWARP_WEIGHTED_SUM_LOOPS

}  // namespace

template <class T>
void weighted_sum(const Context& context, VectorView<const double> weights, MatrixView<const T> parts,
                  VectorView<T> sums) {
  context.parallel_for((sums.size + kPiece - 1) / kPiece, [&](std::int64_t piece, int) {
    const std::int64_t first = piece * kPiece;
    const std::int64_t size = std::min(kPiece, sums.size - first);
    double its[kPiece];
    std::fill_n(its, size, 0.0);
    for (std::int64_t c = 0; c < parts.cols; ++c) add_piece(weights.data[c], parts.column(c) + first, its, size);
    round_piece(its, sums.data + first, size);
  });
}

#define SHRINKWARP_INSTANTIATE(T) \
  template void weighted_sum<T>(const Context&, VectorView<const double>, MatrixView<const T>, VectorView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
