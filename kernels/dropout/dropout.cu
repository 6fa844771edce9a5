// CUDA body of dropout: a thread evaluates Philox once for four neighbouring elements of a column.
//
// Story: a float element is 8 bytes and some 30 integer operations; an H100 does 60 of them in the time of the bytes at 3.0 TB/s,
// so on paper memory bound: 512 x 1024, 4 MiB, in L2 1 us.
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/dropout/bodies.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kThreads = 256;

/// A block's threads walk the groups of four words that the column blockIdx.x touches; blockIdx.y shares them out. A column may
/// start within a group.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(DropoutMask<T> mask, const std::int64_t* step, MatrixView<const T> X, MatrixView<T> Y) {
  using Draw = philox::BitsDraw;
  const std::int64_t col = blockIdx.x, begin = (mask.first + col) * X.rows;
  const T* const x = X.column(col);
  T* const y = Y.column(col);
  const std::uint64_t stream = mask.stream(*step);
  const std::int64_t end = philox::end_block<Draw>(begin + X.rows);
  for (std::int64_t group =
           philox::first_block<Draw>(begin) + blockIdx.y * static_cast<std::int64_t>(kThreads) + threadIdx.x;
       group < end; group += static_cast<std::int64_t>(gridDim.y) * kThreads) {
    const philox::Words words = philox::bits(mask.seed, stream, static_cast<std::uint64_t>(group));
    const std::int64_t first = group * Draw::kLanes - begin;
#pragma unroll
    for (int lane = 0; lane < Draw::kLanes; ++lane) {
      const std::int64_t i = first + lane;
      if (i >= 0 && i < X.rows) y[i] = mask.apply(words.word[lane], x[i]);
    }
  }
}

}  // namespace

template <class T>
void dropout(const Context& context, const DropoutMask<T>& mask, VectorView<const std::int64_t> step,
             MatrixView<const T> X, MatrixView<T> Y) {
  constexpr std::int64_t kMostPieces = 65535;
  const std::int64_t pieces = ceil_div(X.rows / philox::BitsDraw::kLanes + 2, kThreads);
  launch(dropout_kernel<T>,
         dim3(grid_size(X.cols, "dropout"), static_cast<unsigned>(pieces < kMostPieces ? pieces : kMostPieces)),
         dim3(kThreads), 0, context.stream(), mask, step.data, X, Y);
}

template void dropout<float>(const Context&, const DropoutMask<float>&, VectorView<const std::int64_t>,
                             MatrixView<const float>, MatrixView<float>);
template void dropout<double>(const Context&, const DropoutMask<double>&, VectorView<const std::int64_t>,
                              MatrixView<const double>, MatrixView<double>);

}  // namespace shrinkwarp::cuda
