// CPU bodies of shrink_layer: a task is 256 samples, whatever the threads, so that neither bits nor the order of sums depend on
// them.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/shrink_layer/bodies.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kSamples = 256;  // of a task

// The same loops for both element types: multiversioned functions cannot be templates. y may be u, h may be dy.
#define SHRINKWARP_SHRINK_LOOPS(T)                                                                                     \
  SHRINKWARP_CPU_CLONES void shrink_loop(const T* theta, T lambda, const T* u, T* y, std::int64_t size) {              \
    for (std::int64_t j = 0; j < size; ++j) y[j] = shrunk(u[j], lambda, theta[j]);                                     \
  }                                                                                                                    \
  SHRINKWARP_CPU_CLONES void gradient_loop(T lambda, const T* y, const T* dy, T* h, double* sums, std::int64_t size) { \
    for (std::int64_t j = 0; j < size; ++j) {                                                                          \
      const T its = through_support(y[j], dy[j]);                                                                      \
      sums[j] += threshold_slope(y[j], its, lambda);                                                                   \
      h[j] = its;                                                                                                      \
    }                                                                                                                  \
  }
SHRINKWARP_SHRINK_LOOPS(float)
SHRINKWARP_SHRINK_LOOPS(double)
#undef SHRINKWARP_SHRINK_LOOPS

}  // namespace

std::int64_t shrink_layer_pieces(std::int64_t N) {
  return (N + kSamples - 1) / kSamples;
}

template <class T>
void shrink_layer_forward(const Context& context, VectorView<const T> theta, VectorView<const T> lambda,
                          MatrixView<const T> U, MatrixView<T> Y) {
  context.parallel_for(shrink_layer_pieces(Y.cols), [&](std::int64_t piece, int) {
    for (std::int64_t b = piece * kSamples; b < std::min(Y.cols, (piece + 1) * kSamples); ++b)
      shrink_loop(theta.data, lambda[b], U.column(b), Y.column(b), Y.rows);
  });
}

template <class T>
void shrink_layer_backward(const Context& context, VectorView<const T> theta, VectorView<const T> lambda,
                           MatrixView<const T> Y, MatrixView<const T> dY, MatrixView<T> H, VectorView<T> dtheta,
                           VectorView<double> sums) {
  const std::int64_t pieces = shrink_layer_pieces(H.cols);
  context.parallel_for(pieces, [&](std::int64_t piece, int) {
    double* const its = sums.data + piece * H.rows;
    std::fill_n(its, H.rows, 0.0);
    for (std::int64_t b = piece * kSamples; b < std::min(H.cols, (piece + 1) * kSamples); ++b)
      gradient_loop(lambda[b], Y.column(b), dY.column(b), H.column(b), its, H.rows);
  });
  for (std::int64_t j = 0; j < H.rows; ++j) {
    double sum = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) sum += sums[piece * H.rows + j];
    if (!(theta[j] < T(0))) dtheta[j] += static_cast<T>(sum);
  }
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                      \
  template void shrink_layer_forward<T>(const Context&, VectorView<const T>, VectorView<const T>, MatrixView<const T>, \
                                        MatrixView<T>);                                                                \
  template void shrink_layer_backward<T>(const Context&, VectorView<const T>, VectorView<const T>,                     \
                                         MatrixView<const T>, MatrixView<const T>, MatrixView<T>, VectorView<T>,       \
                                         VectorView<double>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
