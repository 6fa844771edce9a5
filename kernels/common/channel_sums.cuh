// Sums over the samples and positions of each channel of a matrix [channels * positions, N] (feature = channel * positions +
// position), in double and in an order that is fixed by the shape: pieces of columns, a block each, then the pieces in turn.
//
// Where a channel has one position a warp takes 32 channels of a column at once, else the positions of one channel; either way
// neighbouring lanes read neighbouring rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/tile_product.cuh>

namespace shrinkwarp::cuda {

inline constexpr int kSumWarps = 8;
inline constexpr int kSumThreads = kSumWarps * kWarpSize;

/// Columns of a piece: some 4096 elements of a channel, 64 where a channel has one position; no more than 256 pieces.
inline std::int64_t sum_columns(std::int64_t positions, std::int64_t N) {
  const std::int64_t usual = positions == 1 ? 64 : std::max<std::int64_t>(kSumWarps, 4096 / positions);
  return std::max(usual, ceil_div(N, 256));
}
/// Pieces of N columns, at least one.
inline std::int64_t sum_pieces(std::int64_t positions, std::int64_t N) {
  return std::max<std::int64_t>(1, ceil_div(N, sum_columns(positions, N)));
}

/// partials[(piece * kSums + q) * channels + channel] = sum number q over the columns of a piece, of channels of one position.
/// Term: add(channel, row, column, double (&sums)[kSums]) adds what an element contributes.
template <int kSums, class Term>
__global__ void __launch_bounds__(kSumThreads)
    row_sums_kernel(Term term, std::int64_t channels, std::int64_t N, std::int64_t columns, double* partials) {
  SHRINKWARP_SHARED_ARRAY(double, shares, kSums, kSumWarps, kWarpSize);
  const int lane = static_cast<int>(threadIdx.x % kWarpSize), warp = static_cast<int>(threadIdx.x / kWarpSize);
  const std::int64_t channel = static_cast<std::int64_t>(blockIdx.x) * kWarpSize + lane;
  const std::int64_t first = blockIdx.y * columns, last = first + columns < N ? first + columns : N;
  double sums[kSums] = {};
  if (channel < channels)
    for (std::int64_t j = first + warp; j < last; j += kSumWarps) term.add(channel, channel, j, sums);
#pragma unroll
  for (int q = 0; q < kSums; ++q) shares[q][warp][lane] = sums[q];
  __syncthreads();  // all shares of a piece are there
  if (warp == 0 && channel < channels) {
#pragma unroll
    for (int q = 0; q < kSums; ++q) {
      double sum = 0;
#pragma unroll
      for (int w = 0; w < kSumWarps; ++w) sum += shares[q][w][lane];
      partials[(blockIdx.y * kSums + q) * channels + channel] = sum;
    }
  }
}

/// The same of channels of several positions, a channel a block.
template <int kSums, class Term>
__global__ void __launch_bounds__(kSumThreads)
    position_sums_kernel(Term term, std::int64_t positions, std::int64_t N, std::int64_t columns, double* partials) {
  const std::int64_t channel = blockIdx.x, channels = gridDim.x;
  const std::int64_t first = blockIdx.y * columns, last = first + columns < N ? first + columns : N;
  double sums[kSums] = {};
  for (std::int64_t j = first + threadIdx.x / kWarpSize; j < last; j += kSumWarps) {
    for (std::int64_t p = threadIdx.x % kWarpSize; p < positions; p += kWarpSize)
      term.add(channel, channel * positions + p, j, sums);
  }
#pragma unroll
  for (int q = 0; q < kSums; ++q) {
    const double sum = block_sum<kSumThreads>(sums[q]);
    if (threadIdx.x == 0) partials[(blockIdx.y * kSums + q) * channels + channel] = sum;
  }
}

/// finish(channel, sums) for each channel, a thread each. Finish: finish(channel, const double (&sums)[kSums]).
template <int kSums, class Finish>
__global__ void __launch_bounds__(kSumThreads)
    finish_sums_kernel(Finish finish, std::int64_t channels, std::int64_t pieces, const double* partials) {
  const std::int64_t channel = static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  if (channel >= channels) return;
  double sums[kSums] = {};
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
#pragma unroll
    for (int q = 0; q < kSums; ++q) sums[q] += partials[(piece * kSums + q) * channels + channel];
  }
  finish.finish(channel, sums);
}

/// kSums sums of every channel, then what becomes of them.
///
/// @param partials  kSums * channels * sum_pieces(positions, N) doubles
template <int kSums, class Term, class Finish>
void channel_sums(const Context& context, std::int64_t channels, std::int64_t positions, std::int64_t N,
                  const Term& term, const Finish& finish, double* partials) {
  const std::int64_t columns = sum_columns(positions, N), pieces = sum_pieces(positions, N);
  if (positions == 1) {
    launch(row_sums_kernel<kSums, Term>,
           dim3(grid_size(ceil_div(channels, kWarpSize), "channel_sums"), static_cast<unsigned>(pieces)),
           dim3(kSumThreads), 0, context.stream(), term, channels, N, columns, partials);
  } else {
    launch(position_sums_kernel<kSums, Term>, dim3(grid_size(channels, "channel_sums"), static_cast<unsigned>(pieces)),
           dim3(kSumThreads), 0, context.stream(), term, positions, N, columns, partials);
  }
  launch(finish_sums_kernel<kSums, Finish>, dim3(grid_size(ceil_div(channels, kSumThreads), "channel_sums")),
         dim3(kSumThreads), 0, context.stream(), finish, channels, pieces, partials);
}

}  // namespace shrinkwarp::cuda
