#include <shrinkwarp/kernels/prox/prox.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_PROX                                                                              \
  template <class T>                                                                                         \
  void soft_threshold_columns(const Context& context, MatrixView<const T> U, VectorView<const T> thresholds, \
                              MatrixView<T> Z);                                                              \
  template <class T>                                                                                         \
  void prox_step(const Context& context, MatrixView<const T> grad, T step, VectorView<const T> lambda,       \
                 VectorView<const std::uint8_t> active, MatrixView<T> Z);
namespace cpu {
SHRINKWARP_DECLARE_PROX
}
namespace cuda {
SHRINKWARP_DECLARE_PROX
}
#undef SHRINKWARP_DECLARE_PROX

template <class T>
void soft_threshold_columns(const Context& context, identity_t<MatrixView<const T>> U,
                            identity_t<VectorView<const T>> thresholds, MatrixView<T> Z) {
  check_matrix(context, "soft_threshold_columns", "Z", Z, Z.rows, Z.cols);
  check_matrix(context, "soft_threshold_columns", "U", U, Z.rows, Z.cols);
  check_vector(context, "soft_threshold_columns", "thresholds", thresholds, Z.cols);
  if (Z.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::soft_threshold_columns<T>(context, U, thresholds, Z);
  }
  cpu::soft_threshold_columns<T>(context, U, thresholds, Z);
}

template <class T>
void prox_step(const Context& context, identity_t<MatrixView<const T>> grad, T step,
               identity_t<VectorView<const T>> lambda, VectorView<const std::uint8_t> active, MatrixView<T> Z) {
  SHRINKWARP_REQUIRE(step > T(0), ValueError, "prox_step: step is ", step, ", wanted > 0");
  check_matrix(context, "prox_step", "Z", Z, Z.rows, Z.cols);
  check_matrix(context, "prox_step", "grad", grad, Z.rows, Z.cols);
  check_vector(context, "prox_step", "lambda", lambda, Z.cols);
  if (!active.empty()) check_vector(context, "prox_step", "active", active, Z.cols);
  if (Z.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::prox_step<T>(context, grad, step, lambda, active, Z);
  }
  cpu::prox_step<T>(context, grad, step, lambda, active, Z);
}

template void soft_threshold_columns<float>(const Context&, MatrixView<const float>, VectorView<const float>,
                                            MatrixView<float>);
template void soft_threshold_columns<double>(const Context&, MatrixView<const double>, VectorView<const double>,
                                             MatrixView<double>);
template void prox_step<float>(const Context&, MatrixView<const float>, float, VectorView<const float>,
                               VectorView<const std::uint8_t>, MatrixView<float>);
template void prox_step<double>(const Context&, MatrixView<const double>, double, VectorView<const double>,
                                VectorView<const std::uint8_t>, MatrixView<double>);

}  // namespace shrinkwarp
