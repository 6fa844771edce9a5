// CUDA bodies of shrink_layer: a warp a piece of a column, 16 bytes a lane (columns.cuh), and sums over the samples in two stages
// (channel_sums.cuh).
//
// Story: memory bound. 512 atoms, 4096 samples, float, 8 MiB each: on paper, at the 3.0 TB/s of an H100, forward 6 us, backward 8 us
// for H and 6 us for the sums, which find H and Y in L2.
#include <cstdint>

#include <shrinkwarp/kernels/common/channel_sums.cuh>
#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/shrink_layer/bodies.hpp>

namespace shrinkwarp::cuda {
namespace {

template <class T, int kCount>
struct Pair {
  Lanes<T, kCount> a, b;
};

/// Of each element of a column and the one beside it, of another column or a vector: target = operation(a, b, lambda).
template <class Operation, class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    shrink_kernel(Operation operation, MatrixView<const T> A, MatrixView<const T> B, const T* lambda,
                  MatrixView<T> target) {
  const std::int64_t col = warp_column();
  if (col >= target.cols) return;
  const T* const a = A.column(col);
  const T* const b = B.column(col);
  T* const t = target.column(col);
  const T its = lambda[col];
  walk_column<kCount>(
      target.rows,
      [&](std::int64_t row, auto width) {
        return Pair<T, width.value>{load_lanes<width.value>(a + row), load_lanes<width.value>(b + row)};
      },
      [&](std::int64_t row, auto width, auto loaded) {
#pragma unroll
        for (int i = 0; i < width.value; ++i) loaded.a.value[i] = operation(loaded.a.value[i], loaded.b.value[i], its);
        store_lanes<width.value>(t + row, loaded.a);
      });
}

struct Shrunk {
  template <class T>
  __device__ T operator()(T u, T theta, T lambda) const {
    return shrunk(u, lambda, theta);
  }
};
struct ThroughSupport {
  template <class T>
  __device__ T operator()(T y, T dy, T) const {
    return through_support(y, dy);
  }
};

template <class T, class Operation>
void run(const Context& context, const Operation& operation, MatrixView<const T> A, MatrixView<const T> B,
         VectorView<const T> lambda, MatrixView<T> target) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const bool wide = aligned16(A) && aligned16(B) && aligned16(target);
  launch(wide ? shrink_kernel<Operation, T, kWide> : shrink_kernel<Operation, T, 1>,
         column_grid(target.rows, target.cols), dim3(kColumnThreads), 0, context.stream(), operation, A, B, lambda.data,
         target);
}

template <class T>
struct ThresholdTerm {
  MatrixView<const T> Y, H;
  const T* lambda;
  __device__ void add(std::int64_t, std::int64_t row, std::int64_t col, double (&sums)[1]) const {
    sums[0] += threshold_slope(Y(row, col), H(row, col), lambda[col]);
  }
};
template <class T>
struct AddToThreshold {
  const T* theta;
  T* dtheta;
  __device__ void finish(std::int64_t row, const double (&sums)[1]) const {
    if (!(theta[row] < T(0))) dtheta[row] += static_cast<T>(sums[0]);
  }
};

}  // namespace

std::int64_t shrink_layer_pieces(std::int64_t N) {
  return sum_pieces(1, N);
}

template <class T>
void shrink_layer_forward(const Context& context, VectorView<const T> theta, VectorView<const T> lambda,
                          MatrixView<const T> U, MatrixView<T> Y) {
  const MatrixView<const T> beside{theta.data, Y.rows, Y.cols, 0, theta.device};  // the same column each time
  run(context, Shrunk(), U, beside, lambda, Y);
}

template <class T>
void shrink_layer_backward(const Context& context, VectorView<const T> theta, VectorView<const T> lambda,
                           MatrixView<const T> Y, MatrixView<const T> dY, MatrixView<T> H, VectorView<T> dtheta,
                           VectorView<double> sums) {
  run(context, ThroughSupport(), Y, dY, lambda, H);
  channel_sums<1>(context, H.rows, 1, H.cols, ThresholdTerm<T>{Y, H, lambda.data},
                  AddToThreshold<T>{theta.data, dtheta.data}, sums.data);
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

}  // namespace shrinkwarp::cuda
