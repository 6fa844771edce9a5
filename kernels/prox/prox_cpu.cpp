#include <cmath>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/prox/prox.hpp>

namespace shrinkwarp::cpu {
namespace {

// The same loop for both element types: multiversioned functions cannot be templates.
#define SHRINKWARP_PROX_LOOPS(T)                                                                           \
  SHRINKWARP_CPU_CLONES void threshold_column(const T* u, T threshold, T* z, std::int64_t rows) {          \
    for (std::int64_t j = 0; j < rows; ++j) z[j] = soft_threshold(u[j], threshold);                        \
  }                                                                                                        \
  SHRINKWARP_CPU_CLONES void step_column(const T* g, T step, T threshold, T* z, std::int64_t rows) {       \
    for (std::int64_t j = 0; j < rows; ++j) z[j] = soft_threshold(std::fma(-step, g[j], z[j]), threshold); \
  }
SHRINKWARP_PROX_LOOPS(float)
SHRINKWARP_PROX_LOOPS(double)
#undef SHRINKWARP_PROX_LOOPS

}  // namespace

template <class T>
void soft_threshold_columns(const Context& context, MatrixView<const T> U, VectorView<const T> thresholds,
                            MatrixView<T> Z) {
  context.parallel_for(Z.cols,
                       [&](std::int64_t b, int) { threshold_column(U.column(b), thresholds[b], Z.column(b), Z.rows); });
}

template <class T>
void prox_step(const Context& context, MatrixView<const T> grad, T step, VectorView<const T> lambda,
               VectorView<const std::uint8_t> active, MatrixView<T> Z) {
  context.parallel_for(Z.cols, [&](std::int64_t b, int) {
    if (active.empty() || active[b] != 0) step_column(grad.column(b), step, step * lambda[b], Z.column(b), Z.rows);
  });
}

template void soft_threshold_columns<float>(const Context&, MatrixView<const float>, VectorView<const float>,
                                            MatrixView<float>);
template void soft_threshold_columns<double>(const Context&, MatrixView<const double>, VectorView<const double>,
                                             MatrixView<double>);
template void prox_step<float>(const Context&, MatrixView<const float>, float, VectorView<const float>,
                               VectorView<const std::uint8_t>, MatrixView<float>);
template void prox_step<double>(const Context&, MatrixView<const double>, double, VectorView<const double>,
                                VectorView<const std::uint8_t>, MatrixView<double>);

}  // namespace shrinkwarp::cpu
