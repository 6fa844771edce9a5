// CUDA bodies of linear: products of cuBLAS in float32, one elementwise pass behind that of the forward pass, one before those
// of the backward pass, and sums of rows in two stages.
//
// Story: bound by the products. 256 x 512, 1024 samples, float, one layer forward: 0.27 GFLOP, on paper 5 us of an H100's 50
// TFLOP/s float32; the elementwise pass reads and writes 2 MiB each, in L2 1 us. Backward 0.54 GFLOP, 11 us; the pass over
// dY, Y and H is 6 MiB, 2 us, and the sums of rows 2 MiB more.
#include <cstdint>
#include <type_traits>

#include <shrinkwarp/kernels/common/channel_sums.cuh>
#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/linear/activation.hpp>
#include <shrinkwarp/kernels/linear/bodies.hpp>

namespace shrinkwarp::cuda {
namespace {

template <class T, int kCount>
struct ProductAndBias {
  Lanes<T, kCount> u, b;
};

/// u = product + alpha b;  U <- u unless it is empty;  Y <- act(u). The product may lie in U or in Y.
template <Activation activation, class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    epilogue_kernel(MatrixView<const T> product, T alpha, const T* bias, MatrixView<T> U, MatrixView<T> Y) {
  const std::int64_t col = warp_column();
  if (col >= Y.cols) return;
  const T* const source = product.column(col);
  T* const u = U.data == nullptr ? nullptr : U.column(col);
  T* const y = Y.column(col);
  walk_column<kCount>(
      Y.rows,
      [&](std::int64_t row, auto width) {
        ProductAndBias<T, width.value> loaded{load_lanes<width.value>(source + row), {}};
        if (bias != nullptr) loaded.b = load_lanes<width.value>(bias + row);
        return loaded;
      },
      [&](std::int64_t row, auto width, auto loaded) {
#pragma unroll
        for (int i = 0; i < width.value; ++i) loaded.u.value[i] = std::fma(alpha, loaded.b.value[i], loaded.u.value[i]);
        if (u != nullptr) store_lanes<width.value>(u + row, loaded.u);
#pragma unroll
        for (int i = 0; i < width.value; ++i) loaded.u.value[i] = activate<activation>(loaded.u.value[i]);
        store_lanes<width.value>(y + row, loaded.u);
      });
}

template <class T, int kCount>
struct ValueAndGradient {
  Lanes<T, kCount> value, dy, target;
};

/// H = beta H + dY act', H is read where kAdds
template <Activation activation, bool kAdds, class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    gradient_kernel(MatrixView<const T> value, MatrixView<const T> dY, T beta, MatrixView<T> H) {
  const std::int64_t col = warp_column();
  if (col >= H.cols) return;
  const T* const v = value.column(col);
  const T* const dy = dY.column(col);
  T* const h = H.column(col);
  walk_column<kCount>(
      H.rows,
      [&](std::int64_t row, auto width) {
        ValueAndGradient<T, width.value> loaded{
            load_lanes<width.value>(v + row), load_lanes<width.value>(dy + row), {}};
        if constexpr (kAdds) loaded.target = load_lanes<width.value>(static_cast<const T*>(h + row));
        return loaded;
      },
      [&](std::int64_t row, auto width, auto loaded) {
#pragma unroll
        for (int i = 0; i < width.value; ++i) {
          loaded.dy.value[i] = activation_gradient<activation>(loaded.value.value[i], loaded.dy.value[i]);
          if constexpr (kAdds) loaded.dy.value[i] = std::fma(beta, loaded.target.value[i], loaded.dy.value[i]);
        }
        store_lanes<width.value>(h + row, loaded.dy);
      });
}

template <Activation activation, class T>
void epilogue(const Context& context, MatrixView<const T> product, T alpha, VectorView<const T> b, MatrixView<T> U,
              MatrixView<T> Y) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const bool wide = aligned16(product) && aligned16(Y) && (U.empty() || aligned16(U)) && aligned16(b.data);
  launch(wide ? epilogue_kernel<activation, T, kWide> : epilogue_kernel<activation, T, 1>, column_grid(Y.rows, Y.cols),
         dim3(kColumnThreads), 0, context.stream(), product, alpha, b.empty() ? nullptr : b.data, U, Y);
}

template <Activation activation, bool kAdds, class T>
void gradient(const Context& context, MatrixView<const T> value, MatrixView<const T> dY, T beta, MatrixView<T> H) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const bool wide = aligned16(value) && aligned16(dY) && aligned16(H);
  launch(wide ? gradient_kernel<activation, kAdds, T, kWide> : gradient_kernel<activation, kAdds, T, 1>,
         column_grid(H.rows, H.cols), dim3(kColumnThreads), 0, context.stream(), value, dY, beta, H);
}

/// body(the activation as a constant)
template <class Body>
void with_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::none:
      return body(std::integral_constant<Activation, Activation::none>());
    case Activation::relu:
      return body(std::integral_constant<Activation, Activation::relu>());
    case Activation::gelu:
      return body(std::integral_constant<Activation, Activation::gelu>());
    case Activation::tanh:
      return body(std::integral_constant<Activation, Activation::tanh>());
  }
}

/// The sum of a row of H.
template <class T>
struct RowTerm {
  MatrixView<const T> H;
  __device__ void add(std::int64_t, std::int64_t row, std::int64_t col, double (&sums)[1]) const {
    sums[0] += static_cast<double>(H(row, col));
  }
};
template <class T>
struct AddToBias {
  T* db;
  __device__ void finish(std::int64_t row, const double (&sums)[1]) const { db[row] += static_cast<T>(sums[0]); }
};

}  // namespace

std::int64_t linear_pieces(std::int64_t, std::int64_t N) {
  return sum_pieces(1, N);
}

template <class T>
void linear_forward(const Context& context, MatrixView<const T> W, VectorView<const T> b, Activation activation,
                    MatrixView<const T> X, MatrixView<T> Y, MatrixView<T> U) {
  const MatrixView<T> product = U.empty() ? Y : U;
  gemm<T>(context, Transpose::yes, Transpose::no, T(1), W, X, T(0), product);
  if (activation == Activation::none && b.empty() && U.empty()) return;
  with_activation(activation, [&](auto its) { epilogue<its.value, T>(context, product, T(1), b, U, Y); });
}

template <class T>
void linear_blend(const Context& context, MatrixView<const T> W, VectorView<const T> b, T alpha, MatrixView<const T> X,
                  T beta, MatrixView<T> Y) {
  gemm<T>(context, Transpose::yes, Transpose::no, alpha, W, X, beta, Y);
  if (!b.empty()) epilogue<Activation::none, T>(context, Y, alpha, b, {}, Y);
}

template <class T>
void activation_forward(const Context& context, Activation activation, MatrixView<const T> X, MatrixView<T> Y) {
  with_activation(activation, [&](auto its) { epilogue<its.value, T>(context, X, T(1), {}, {}, Y); });
}

template <class T>
void activation_backward(const Context& context, Activation activation, MatrixView<const T> value,
                         MatrixView<const T> dY, T beta, MatrixView<T> dX) {
  with_activation(activation, [&](auto its) {
    if (beta == T(0))
      gradient<its.value, false, T>(context, value, dY, beta, dX);
    else
      gradient<its.value, true, T>(context, value, dY, beta, dX);
  });
}

template <class T>
void linear_backward(const Context& context, MatrixView<const T> W, Activation activation, MatrixView<const T> X,
                     MatrixView<const T> value, MatrixView<const T> dY, MatrixView<T> dW, VectorView<T> db, T beta,
                     MatrixView<T> dX, const LinearScratch<T>& scratch) {
  const bool direct = activation == Activation::none;
  const MatrixView<const T> H = direct ? dY : MatrixView<const T>(scratch.H);
  if (!direct) activation_backward<T>(context, activation, value, dY, T(0), scratch.H);
  if (!db.empty()) channel_sums<1>(context, H.rows, 1, H.cols, RowTerm<T>{H}, AddToBias<T>{db.data}, scratch.sums.data);
  gemm<T>(context, Transpose::no, Transpose::yes, T(1), X, H, T(1), dW);
  if (!dX.empty()) gemm<T>(context, Transpose::no, Transpose::no, T(1), W, H, beta, dX);
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

}  // namespace shrinkwarp::cuda
