// CUDA body of proximal_iterations: one launch, in which each block keeps D in shared memory and goes from tile to tile of
// 32 or 16 problems, whose codes stay in registers through all iterations.
//
// The products, and how D, codes and residuals lie: common/resident_product.cuh. R = X - D Y and D'R with Y extrapolated.
//
// Between two barriers: parts of R; R; gradient, soft-threshold and restart sums; momentum, which every warp computes for
// itself. Three barriers an iteration, two where nothing restarts.
//
// Story on paper, n 64, m 256, tile of 32 on an H100 (132 multiprocessors of 1.755 GHz, tf32 400 TFLOP/s by data sheet,
// of which mma.sync reaches some 60 %: 540 multiply-adds a clock and multiprocessor; shared memory 128 bytes a clock). An
// iteration of a tile is 1.05 million multiply-adds and moves through shared memory
//   D, read once in each product by the warp whose atoms they are     131 KB
//   parts of R, written and read                                      131 KB
//   R, written once and read by each warp                              74 KB
//   in all 336 KB or 2.6 thousand clocks; the products take 1.9 thousand in tf32 and 5.8 thousand in split_tf32.
// N = 100,000, K = 100: 655 GFLOP in 24 rounds of 132 tiles. Between the larger of the two and their sum that is
//   tf32        3.6 to 6.2 ms     (1.6 ms at the rate of tf32, 43 us for X and the codes through memory)
//   split_tf32  8.0 to 11.5 ms    (4.9 ms)
// against 17 ms for the elementwise traffic alone of separate library calls. Parts of R are what a wider tile, or warps
// that share their problems, would save; registers (96 for codes and anchors of 32 problems, 32 for G) do not let them.
// D comes through L2 once a block and launch, 64 KB. Not measured yet.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/ptx.cuh>
#include <shrinkwarp/kernels/common/resident_product.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/proximal_iterations/proximal_iterations.hpp>

namespace shrinkwarp::cuda {
namespace {

struct Problem {
  MatrixView<const float> D;       // [n, m], lines of a multiple of 4 floats
  MatrixView<const float> X;       // [n, N]
  MatrixView<const float> anchor;  // [m, N] or without data
  const float* lambda;             // [N]
  const std::uint8_t* active;      // [N] or null
  float step;
  const float* steps;  // [K] or null
  std::int64_t iterations;
  Momentum rule;
  MatrixView<float> current;   // [m, N]
  MatrixView<float> previous;  // [m, N] or without data
  double* t;                   // [N]
  float* beta;                 // [N]
  int line;                    // floats from atom to atom in shared memory
};

__device__ __forceinline__ float4 rounded_to_tf32(const float4& v) {
  return make_float4(__uint_as_float(tf32_from_float(v.x)), __uint_as_float(tf32_from_float(v.y)),
                     __uint_as_float(tf32_from_float(v.z)), __uint_as_float(tf32_from_float(v.w)));
}

/// kAtomTiles tiles of 8 atoms a warp, kRowTiles tiles of 16 problems a block.
template <int kAtomTiles, int kRowTiles, bool kSplit>
__global__ void __launch_bounds__(kResidentThreads, 1) iterations_kernel(Problem in) {
  using Tile = ResidentTile<kAtomTiles, kRowTiles, kSplit>;
  const Tile tile(in.D, in.line);
  const int lane = tile.lane, g = tile.g, t = tile.t;
  const int m = static_cast<int>(in.D.cols);
  float* const restarts = tile.rest();  // [warps][kTile]
  tile.load_dictionary(in.D);

  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * Tile::kTile; first < in.current.cols;
       first += static_cast<std::int64_t>(gridDim.x) * Tile::kTile) {
    const int count = clip(in.current.cols - first, Tile::kTile);
    tile.load_rows(in.X, first, count);
    // Momentum of problem `lane`, in every warp the same.
    const bool mine = lane < count;
    double its_t = mine ? in.t[first + lane] : 1.0;
    float its_beta = mine && in.previous.data != nullptr ? in.beta[first + lane] : 0.0f;
    float lambda[kRowTiles][2];
    bool moves[kRowTiles][2], has_momentum[kRowTiles][2];
#pragma unroll
    for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = 16 * p + g + 8 * h;
        lambda[p][h] = row < count ? in.lambda[first + row] : 0.0f;
        moves[p][h] = row < count && (in.active == nullptr || in.active[first + row] != 0);
        has_momentum[p][h] = __shfl_sync(kFullMask, its_beta, row) != 0.0f;
      }
    }
    // Codes of the warp's atoms: d_k, and d_(k-1) or the extrapolated point; element e as in an accumulator.
    typename Tile::Codes now, other, anchor;
#pragma unroll
    for (int j = 0; j < kAtomTiles; ++j) {
#pragma unroll
      for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = tile.row_at(p, e), atom = tile.atom_at(j, e);
          const bool exists = row < count && atom < m;
          now[j][p][e] = exists ? in.current.data[atom + (first + row) * in.current.ld] : 0.0f;
          other[j][p][e] =
              exists && has_momentum[p][e / 2] ? in.previous.data[atom + (first + row) * in.previous.ld] : 0.0f;
          anchor[j][p][e] =
              exists && in.anchor.data != nullptr ? in.anchor.data[atom + (first + row) * in.anchor.ld] : 0.0f;
        }
      }
    }
    __syncthreads();  // D and X have come

    for (std::int64_t k = 0; k < in.iterations; ++k) {
      const float step = in.steps != nullptr ? in.steps[k] : in.step;
#pragma unroll
      for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float beta = __shfl_sync(kFullMask, its_beta, 16 * p + g + 8 * h);
#pragma unroll
          for (int j = 0; j < kAtomTiles; ++j) {
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; ++e)
              other[j][p][e] = moves[p][h] ? extrapolate(now[j][p][e], other[j][p][e], beta) : now[j][p][e];
          }
        }
      }

      tile.write_parts(other);
      __syncthreads();  // all parts of R are there

      tile.for_each_fragment([&](int f) {
        const float4 residual = tile.left_over(f, tile.x(f));
        tile.r(f) = kSplit ? residual : rounded_to_tf32(residual);
      });
      __syncthreads();  // R is complete

      typename Tile::Codes gradient;
      tile.correlate(gradient);

#pragma unroll
      for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float threshold = step * lambda[p][h];
          float restart = 0;
#pragma unroll
          for (int j = 0; j < kAtomTiles; ++j) {
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; ++e) {
              const float z = now[j][p][e], y = other[j][p][e];
              const float moved =
                  anchored_soft_threshold(anchor[j][p][e], std::fma(step, gradient[j][p][e], y), threshold) + 0.0f;
              const float next = moves[p][h] ? moved : z;
              restart = std::fma(y - next, next - z, restart);
              other[j][p][e] = z;
              now[j][p][e] = next;
            }
          }
          if (in.rule != Momentum::fista_restart) continue;
          restart += __shfl_xor_sync(kFullMask, restart, 1);
          restart += __shfl_xor_sync(kFullMask, restart, 2);
          if (t == 0) restarts[tile.warp * Tile::kTile + 16 * p + g + 8 * h] = restart;
        }
      }
      double restart = 0;
      if (in.rule == Momentum::fista_restart) {
        __syncthreads();  // the sums of all warps are there
        if (mine) {
#pragma unroll
          for (int w = 0; w < kResidentWarps; ++w) restart += static_cast<double>(restarts[w * Tile::kTile + lane]);
        }
      }
      if (in.rule == Momentum::none) {
        its_beta = 0;
      } else if (restart > 0) {
        its_t = 1;
        its_beta = 0;
      } else {
        const double next = (1 + std::sqrt(std::fma(4 * its_t, its_t, 1.0))) / 2;
        its_beta = static_cast<float>((its_t - 1) / next);
        its_t = next;
      }
    }

#pragma unroll
    for (int j = 0; j < kAtomTiles; ++j) {
#pragma unroll
      for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = tile.row_at(p, e), atom = tile.atom_at(j, e);
          if (row >= count || atom >= m) continue;
          in.current.data[atom + (first + row) * in.current.ld] = now[j][p][e];
          if (in.previous.data != nullptr) in.previous.data[atom + (first + row) * in.previous.ld] = other[j][p][e];
        }
      }
    }
    if (tile.warp == 0 && mine) {
      in.t[first + lane] = its_t;
      in.beta[first + lane] = its_beta;
    }
  }
}

using Kernel = void (*)(Problem);

template <bool kSplit>
Kernel kernel_of(const IterationPlan& plan) {
  if (plan.tile == 16)
    return plan.atom_tiles == 2   ? iterations_kernel<2, 1, kSplit>
           : plan.atom_tiles == 4 ? iterations_kernel<4, 1, kSplit>
                                  : iterations_kernel<8, 1, kSplit>;
  return plan.atom_tiles == 2 ? iterations_kernel<2, 2, kSplit> : iterations_kernel<4, 2, kSplit>;
}

}  // namespace

void proximal_iterations(const Context& context, const StepDictionary<float>& D, const IterationPlan& plan,
                         MatrixView<const float> X, MatrixView<const float> anchor, VectorView<const float> lambda,
                         VectorView<const std::uint8_t> active, StepSizes steps, std::int64_t iterations, Momentum rule,
                         MathMode mode, MatrixView<float> current, MatrixView<float> previous, VectorView<double> t,
                         VectorView<float> beta, VectorView<float>) {
  const Problem problem{{D.residual_operand(), D.rows(), D.cols(), D.residual_ld(), D.device()},
                        X,
                        anchor.empty() ? MatrixView<const float>{} : anchor,
                        lambda.data,
                        active.empty() ? nullptr : active.data,
                        steps.all,
                        steps.each.empty() ? nullptr : steps.each.data,
                        iterations,
                        rule,
                        current,
                        previous.empty() ? MatrixView<float>{} : previous,
                        t.data,
                        beta.data,
                        static_cast<int>(plan.line)};
  launch(mode == MathMode::split_tf32 ? kernel_of<true>(plan) : kernel_of<false>(plan),
         dim3(grid_size(plan.blocks, "proximal_iterations")), dim3(kResidentThreads),
         static_cast<std::size_t>(plan.shared_bytes), context.stream(), problem);
}

}  // namespace shrinkwarp::cuda
