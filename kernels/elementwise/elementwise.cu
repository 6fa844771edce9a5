// CUDA bodies of elementwise: a warp a piece of a column, 16 bytes a lane (columns.cuh).
//
// Story: memory bound, 3 or 4 accesses an element. 64 x 56 x 56 features, 128 samples, float, 103 MB each: on paper, at the 3.0
// TB/s of an H100, add_relu and relu_backward 103 us.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/elementwise/elementwise.hpp>

namespace shrinkwarp::cuda {
namespace {

/// What an element of Y becomes of one of A, of one of B and of its own, where that is read.
struct Add {
  static constexpr bool kReadsTarget = false;
  template <class T>
  __device__ T operator()(T a, T b, T) const {
    return a + b;
  }
};
struct AddRelu {
  static constexpr bool kReadsTarget = false;
  template <class T>
  __device__ T operator()(T a, T b, T) const {
    return relu(a + b);
  }
};
struct ReluSlope {
  static constexpr bool kReadsTarget = false;
  template <class T>
  __device__ T operator()(T y, T dy, T) const {
    return relu_slope(y, dy);
  }
};
template <class U>
struct AddReluSlope {
  static constexpr bool kReadsTarget = true;
  U beta;
  template <class T>
  __device__ T operator()(T y, T dy, T dx) const {
    return std::fma(beta, dx, relu_slope(y, dy));
  }
};

template <class T, int kCount>
struct Operands {
  Lanes<T, kCount> a, b, target;
};

template <class Operation, class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    elementwise_kernel(Operation operation, MatrixView<const T> A, MatrixView<const T> B, MatrixView<T> target) {
  const std::int64_t col = warp_column();
  if (col >= target.cols) return;
  const T* const a = A.column(col);
  const T* const b = B.column(col);
  T* const t = target.column(col);
  walk_column<kCount>(
      target.rows,
      [&](std::int64_t row, auto width) {
        Operands<T, width.value> loaded{load_lanes<width.value>(a + row), load_lanes<width.value>(b + row), {}};
        if constexpr (Operation::kReadsTarget) loaded.target = load_lanes<width.value>(static_cast<const T*>(t + row));
        return loaded;
      },
      [&](std::int64_t row, auto width, auto loaded) {
#pragma unroll
        for (int i = 0; i < width.value; ++i)
          loaded.a.value[i] = operation(loaded.a.value[i], loaded.b.value[i], loaded.target.value[i]);
        store_lanes<width.value>(t + row, loaded.a);
      });
}

template <class T, class Operation>
void run(const Context& context, const Operation& operation, MatrixView<const T> A, MatrixView<const T> B,
         MatrixView<T> target) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const bool wide = aligned16(A) && aligned16(B) && aligned16(target);
  launch(wide ? elementwise_kernel<Operation, T, kWide> : elementwise_kernel<Operation, T, 1>,
         column_grid(target.rows, target.cols), dim3(kColumnThreads), 0, context.stream(), operation, A, B, target);
}

}  // namespace

template <class T>
void add(const Context& context, MatrixView<const T> A, MatrixView<const T> B, MatrixView<T> Y) {
  run(context, Add(), A, B, Y);
}

template <class T>
void add_relu(const Context& context, MatrixView<const T> A, MatrixView<const T> B, MatrixView<T> Y) {
  run(context, AddRelu(), A, B, Y);
}

template <class T>
void relu_backward(const Context& context, MatrixView<const T> Y, MatrixView<const T> dY, T beta, MatrixView<T> dX) {
  if (beta == T(0))
    run(context, ReluSlope(), Y, dY, dX);
  else
    run(context, AddReluSlope<T>{beta}, Y, dY, dX);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                     \
  template void add<T>(const Context&, MatrixView<const T>, MatrixView<const T>, MatrixView<T>);      \
  template void add_relu<T>(const Context&, MatrixView<const T>, MatrixView<const T>, MatrixView<T>); \
  template void relu_backward<T>(const Context&, MatrixView<const T>, MatrixView<const T>, T, MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
