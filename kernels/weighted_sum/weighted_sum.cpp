#include <shrinkwarp/kernels/weighted_sum/weighted_sum.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

namespace cpu {
template <class T>
void weighted_sum(const Context& context, VectorView<const double> weights, MatrixView<const T> parts,
                  VectorView<T> sums);
}
namespace cuda {
template <class T>
void weighted_sum(const Context& context, VectorView<const double> weights, MatrixView<const T> parts,
                  VectorView<T> sums);
}

template <class T>
void weighted_sum(const Context& context, VectorView<const double> weights, identity_t<MatrixView<const T>> parts,
                  VectorView<T> sums) {
  SHRINKWARP_REQUIRE(parts.cols >= 1, ShapeError, "weighted_sum: parts has ", parts.cols,
                     " columns, wanted at least 1");
  check_matrix(context, "weighted_sum", "parts", parts, parts.rows, parts.cols);
  check_vector(context, "weighted_sum", "weights", weights, parts.cols);
  check_vector(context, "weighted_sum", "sums", sums, parts.rows);
  if (sums.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::weighted_sum<T>(context, weights, parts, sums);
  }
  cpu::weighted_sum<T>(context, weights, parts, sums);
}

#define SHRINKWARP_INSTANTIATE(T) \
  template void weighted_sum<T>(const Context&, VectorView<const double>, MatrixView<const T>, VectorView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
