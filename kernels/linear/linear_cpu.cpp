// CPU bodies of linear: products of the BLAS, each on the thread of its task, with bias and activation while the task's
// columns are in cache. Tasks are blocks whose sizes do not depend on the threads, so neither do bits.
//
// One thread of an AMD EPYC (AVX2), float, 256 to 512 features, 1024 samples, slices of 1024, 512, 256, 128 and 64 samples: 72, 72,
// 71, 68 and 64 Gflop/s of the BLAS alone, for it packs the weights once a slice; the gradient of the weights whole, in blocks of
// 256, 128 and 64 features: 70, 68, 66 and 64. Whole layers beside the BLAS at 86: forward with relu 85, tanh 70, gelu 47; backward
// 78, 79 and 47.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>

#include <shrinkwarp/kernels/common/columns_cpu.hpp>
#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/highway_targets.hpp>
#include <shrinkwarp/kernels/common/this_thread.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/gemm/single_threaded_blas.hpp>
#include <shrinkwarp/kernels/linear/activation.hpp>
#include <shrinkwarp/kernels/linear/bodies.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/linear/tanh_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/linear/tanh_cpu_simd.hpp>

namespace shrinkwarp::cpu {
namespace {

HWY_EXPORT(TanhF32);
HWY_EXPORT(TanhF64);

void tanh_loop(const float* u, float* y, std::int64_t size) {
  static const TanhLoop<float> chosen = HWY_DYNAMIC_DISPATCH(TanhF32)();
  chosen(u, y, size);
}
void tanh_loop(const double* u, double* y, std::int64_t size) {
  static const TanhLoop<double> chosen = HWY_DYNAMIC_DISPATCH(TanhF64)();
  chosen(u, y, size);
}

constexpr std::int64_t kSamples = 256;           // of a task
constexpr std::int64_t kFeatures = 512;          // of a task's product
constexpr std::int64_t kGradientFeatures = 128;  // columns of dW of a task, or one whole matrix would be one task

template <class T>
MatrixView<T> rows_of(const MatrixView<T>& view, std::int64_t first, std::int64_t count) {
  return {view.data + first, count, view.cols, view.ld, view.device};
}

/// The same loops for both element types: multiversioned functions cannot be templates. y may be u, h may be dy.
#define SHRINKWARP_LINEAR_LOOPS(T)                                                                     \
  /* y <- y + alpha b */                                                                               \
  SHRINKWARP_CPU_CLONES void add_bias(T alpha, const T* b, T* y, std::int64_t size) {                  \
    for (std::int64_t i = 0; i < size; ++i) y[i] += alpha * b[i];                                      \
  }                                                                                                    \
  SHRINKWARP_CPU_CLONES void relu_loop(const T* u, T* y, std::int64_t size) {                          \
    for (std::int64_t i = 0; i < size; ++i) y[i] = relu(u[i]);                                         \
  }                                                                                                    \
  SHRINKWARP_CPU_CLONES void gelu_loop(const T* u, T* y, std::int64_t size) {                          \
    for (std::int64_t i = 0; i < size; ++i) y[i] = gelu(u[i]);                                         \
  }                                                                                                    \
  SHRINKWARP_CPU_CLONES void relu_gradient(const T* y, const T* dy, T* h, std::int64_t size) {         \
    for (std::int64_t i = 0; i < size; ++i) h[i] = activation_gradient<Activation::relu>(y[i], dy[i]); \
  }                                                                                                    \
  SHRINKWARP_CPU_CLONES void gelu_gradient(const T* u, const T* dy, T* h, std::int64_t size) {         \
    for (std::int64_t i = 0; i < size; ++i) h[i] = activation_gradient<Activation::gelu>(u[i], dy[i]); \
  }                                                                                                    \
  SHRINKWARP_CPU_CLONES void tanh_gradient(const T* y, const T* dy, T* h, std::int64_t size) {         \
    for (std::int64_t i = 0; i < size; ++i) h[i] = activation_gradient<Activation::tanh>(y[i], dy[i]); \
  }                                                                                                    \
  /* dx <- beta dx + h */                                                                              \
  SHRINKWARP_CPU_CLONES void blend_in(const T* h, T beta, T* dx, std::int64_t size) {                  \
    for (std::int64_t i = 0; i < size; ++i) dx[i] = beta * dx[i] + h[i];                               \
  }                                                                                                    \
  SHRINKWARP_CPU_CLONES void add_to_sums(const T* h, double* sums, std::int64_t size) {                \
    for (std::int64_t i = 0; i < size; ++i) sums[i] += static_cast<double>(h[i]);                      \
  }
SHRINKWARP_LINEAR_LOOPS(float)
SHRINKWARP_LINEAR_LOOPS(double)
#undef SHRINKWARP_LINEAR_LOOPS

template <class T>
void activate_column(Activation activation, const T* u, T* y, std::int64_t size) {
  switch (activation) {
    case Activation::none:
      if (y != u) std::copy_n(u, size, y);
      return;
    case Activation::relu:
      return relu_loop(u, y, size);
    case Activation::gelu:
      return gelu_loop(u, y, size);
    case Activation::tanh:
      return tanh_loop(u, y, size);
  }
}

template <class T>
void gradient_column(Activation activation, const T* value, const T* dy, T* h, std::int64_t size) {
  switch (activation) {
    case Activation::none:
      if (h != dy) std::copy_n(dy, size, h);
      return;
    case Activation::relu:
      return relu_gradient(value, dy, h, size);
    case Activation::gelu:
      return gelu_gradient(value, dy, h, size);
    case Activation::tanh:
      return tanh_gradient(value, dy, h, size);
  }
}

/// target <- alpha W'X + beta target, and finish(sub-matrix of target, first feature, first sample) of each block of it.
template <class T, class Finish>
void multiply(const Context& context, MatrixView<const T> W, T alpha, MatrixView<const T> X, T beta,
              MatrixView<T> target, const Finish& finish) {
  const std::int64_t blocks = (target.rows + kFeatures - 1) / kFeatures;
  const SingleThreadedBlas single;
  context.parallel_for((target.cols + kSamples - 1) / kSamples * blocks, [&](std::int64_t task, int) {
    const std::int64_t i = task % blocks * kFeatures, j = task / blocks * kSamples;
    const std::int64_t features = std::min(kFeatures, target.rows - i), samples = std::min(kSamples, target.cols - j);
    const MatrixView<T> block = rows_of(target, i, features).columns(j, samples);
    gemm<T>(this_thread(), Transpose::yes, Transpose::no, alpha, W.columns(i, features), X.columns(j, samples), beta,
            block);
    finish(block, i, j);
  });
}

}  // namespace

std::int64_t linear_pieces(std::int64_t, std::int64_t N) {
  return (N + kSamples - 1) / kSamples;
}

template <class T>
void linear_forward(const Context& context, MatrixView<const T> W, VectorView<const T> b, Activation activation,
                    MatrixView<const T> X, MatrixView<T> Y, MatrixView<T> U) {
  multiply<T>(context, W, T(1), X, T(0), U.empty() ? Y : U, [&](MatrixView<T> block, std::int64_t i, std::int64_t j) {
    for (std::int64_t k = 0; k < block.cols; ++k) {
      T* const u = block.column(k);
      if (!b.empty()) add_bias(T(1), b.data + i, u, block.rows);
      activate_column(activation, u, Y.column(j + k) + i, block.rows);
    }
  });
}

template <class T>
void linear_blend(const Context& context, MatrixView<const T> W, VectorView<const T> b, T alpha, MatrixView<const T> X,
                  T beta, MatrixView<T> Y) {
  multiply<T>(context, W, alpha, X, beta, Y, [&](MatrixView<T> block, std::int64_t i, std::int64_t) {
    if (b.empty()) return;
    for (std::int64_t k = 0; k < block.cols; ++k) add_bias(alpha, b.data + i, block.column(k), block.rows);
  });
}

template <class T>
void linear_backward(const Context& context, MatrixView<const T> W, Activation activation, MatrixView<const T> X,
                     MatrixView<const T> value, MatrixView<const T> dY, MatrixView<T> dW, VectorView<T> db, T beta,
                     MatrixView<T> dX, const LinearScratch<T>& scratch) {
  const std::int64_t in = W.rows, out = W.cols, N = X.cols;
  const std::int64_t slices = (N + kSamples - 1) / kSamples;
  const bool direct = activation == Activation::none;
  const MatrixView<const T> H = direct ? dY : MatrixView<const T>(scratch.H);
  if (!direct || !db.empty()) {
    context.parallel_for(slices, [&](std::int64_t slice, int) {
      double* const sums = scratch.sums.data + slice * out;
      std::fill_n(sums, out, 0.0);
      for (std::int64_t j = slice * kSamples; j < std::min(N, (slice + 1) * kSamples); ++j) {
        if (!direct) gradient_column(activation, value.column(j), dY.column(j), scratch.H.column(j), out);
        if (!db.empty()) add_to_sums(H.column(j), sums, out);
      }
    });
  }
  if (!db.empty()) {
    for (std::int64_t i = 0; i < out; ++i) {
      double sum = 0;
      for (std::int64_t slice = 0; slice < slices; ++slice) sum += scratch.sums[slice * out + i];
      db[i] += static_cast<T>(sum);
    }
  }
  // All products are tasks of one round, so that no thread waits between dW and dX.
  const std::int64_t height = (in + kFeatures - 1) / kFeatures;
  const std::int64_t gradients = (out + kGradientFeatures - 1) / kGradientFeatures * height;
  const SingleThreadedBlas single;
  context.parallel_for(gradients + (dX.empty() ? 0 : slices * height), [&](std::int64_t task, int) {
    const bool weights = task < gradients;
    if (!weights) task -= gradients;
    const std::int64_t i = task % height * kFeatures, features = std::min(kFeatures, in - i);
    if (weights) {
      const std::int64_t o = task / height * kGradientFeatures, count = std::min(kGradientFeatures, out - o);
      gemm<T>(this_thread(), Transpose::no, Transpose::yes, T(1), rows_of(X, i, features), rows_of(H, o, count), T(1),
              rows_of(dW, i, features).columns(o, count));
    } else {
      const std::int64_t j = task / height * kSamples, samples = std::min(kSamples, N - j);
      gemm<T>(this_thread(), Transpose::no, Transpose::no, T(1), rows_of(W, i, features), H.columns(j, samples), beta,
              rows_of(dX, i, features).columns(j, samples));
    }
  });
}

template <class T>
void activation_forward(const Context& context, Activation activation, MatrixView<const T> X, MatrixView<T> Y) {
  for_columns(context, Y, [&](std::int64_t j) { activate_column(activation, X.column(j), Y.column(j), Y.rows); });
}

template <class T>
void activation_backward(const Context& context, Activation activation, MatrixView<const T> value,
                         MatrixView<const T> dY, T beta, MatrixView<T> dX) {
  for_columns(context, dX, [&](std::int64_t j) {
    if (beta == T(0)) return gradient_column(activation, value.column(j), dY.column(j), dX.column(j), dX.rows);
    T part[256];
    constexpr auto kPart = static_cast<std::int64_t>(std::size(part));
    for (std::int64_t i = 0; i < dX.rows; i += kPart) {
      const std::int64_t count = std::min(kPart, dX.rows - i);
      gradient_column(activation, value.column(j) + i, dY.column(j) + i, part, count);
      blend_in(part, beta, dX.column(j) + i, count);
    }
  });
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                    \
  template void linear_forward<T>(const Context&, MatrixView<const T>, VectorView<const T>, Activation,              \
                                  MatrixView<const T>, MatrixView<T>, MatrixView<T>);                                \
  template void linear_blend<T>(const Context&, MatrixView<const T>, VectorView<const T>, T, MatrixView<const T>, T, \
                                MatrixView<T>);                                                                      \
  template void linear_backward<T>(const Context&, MatrixView<const T>, Activation, MatrixView<const T>,             \
                                   MatrixView<const T>, MatrixView<const T>, MatrixView<T>, VectorView<T>, T,        \
                                   MatrixView<T>, const LinearScratch<T>&);                                          \
  template void activation_forward<T>(const Context&, Activation, MatrixView<const T>, MatrixView<T>);               \
  template void activation_backward<T>(const Context&, Activation, MatrixView<const T>, MatrixView<const T>, T,      \
                                       MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
