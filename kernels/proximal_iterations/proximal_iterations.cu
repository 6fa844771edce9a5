// CUDA body of proximal_iterations: one launch, in which each block keeps D in shared memory and goes from tile to tile of
// 32 or 16 problems, whose codes stay in registers through all iterations.
//
// Problems are the rows of tensor-core products, m16n8k8 in tf32:
//
//   R' [tile x n] = X' - Y' D'        each of the 8 warps sums over its own atoms; the 8 parts are added in shared memory
//   G' [tile x m] = R' D              each warp for its own atoms: what it gets are elements of the codes that it holds
//
// An accumulator of the second product lies as an operand of the first wants it, and one of the first as an operand of the
// second, once K is counted in another order (2t, 2t + 1 for t, t + 4): codes and residuals never change their places.
// Warp w holds atoms 8 (8 j + w) to 8 (8 j + w) + 7 for j = 0, 1, ..., and of a tile's 8 columns column c is atom
// c ^ c / 4. That, with lines of 8 (mod 16) floats, keeps both products' reads of the one copy of D free of bank conflicts:
//   first product   a float at atoms 2t (or 2t + 1) and sensor g of a tile: lines 0, 2, 5, 7 (or 1, 3, 4, 6), 8 banks each
//   second product  two floats at atom g, sensors 2t and 2t + 1; half a warp has lines 0, 1, 2, 3 (or 5, 4, 7, 6)
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
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/proximal_iterations/proximal_iterations.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kChunk = 4;  // tiles of 8 sensors whose sums a warp makes at a time

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

/// Four elements of the left operand, given in the order of an accumulator: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8,
/// 2t + 1). kRounded: they are tf32 already.
template <bool kSplit>
struct LeftOperand {
  unsigned high[4];
  unsigned low[kSplit ? 4 : 1];
};
template <bool kSplit, bool kRounded = false>
__device__ __forceinline__ LeftOperand<kSplit> left_operand(float c0, float c1, float c2, float c3) {
  const float ordered[4] = {c0, c2, c1, c3};
  LeftOperand<kSplit> a;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (kSplit)
      split_tf32(ordered[i], a.high[i], a.low[i]);
    else
      a.high[i] = kRounded ? __float_as_uint(ordered[i]) : tf32_from_float(ordered[i]);
  }
  return a;
}

/// Two elements of the right operand, of D as it lies in shared memory: for tf32 rounded when it came.
template <bool kSplit>
struct RightOperand {
  unsigned high[2];
  unsigned low[kSplit ? 2 : 1];
  __device__ __forceinline__ RightOperand(float first, float second) {
    if constexpr (kSplit) {
      split_tf32(first, high[0], low[0]);
      split_tf32(second, high[1], low[1]);
    } else {
      high[0] = __float_as_uint(first);
      high[1] = __float_as_uint(second);
    }
  }
};

template <bool kSplit>
__device__ __forceinline__ void multiply_add(float (&c)[4], const LeftOperand<kSplit>& a,
                                             const RightOperand<kSplit>& b) {
  if constexpr (kSplit) {
    mma_tf32(c, a.low, b.high);
    mma_tf32(c, a.high, b.low);
  }
  mma_tf32(c, a.high, b.high);
}

__device__ __forceinline__ float4 rounded_to_tf32(const float4& v) {
  return make_float4(__uint_as_float(tf32_from_float(v.x)), __uint_as_float(tf32_from_float(v.y)),
                     __uint_as_float(tf32_from_float(v.z)), __uint_as_float(tf32_from_float(v.w)));
}

/// Atom of column c of a tile of 8.
__device__ __forceinline__ int atom_of_column(int c) {
  return c ^ (c >> 2);
}

/// kAtomTiles tiles of 8 atoms a warp, kRowTiles tiles of 16 problems a block.
template <int kAtomTiles, int kRowTiles, bool kSplit>
__global__ void __launch_bounds__(kThreads, 1) iterations_kernel(Problem in) {
  constexpr int kTile = 16 * kRowTiles;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int n = static_cast<int>(in.D.rows), m = static_cast<int>(in.D.cols);
  const int sensor_tiles = (n + 7) / 8, atom_tiles = (m + 7) / 8;
  const int fragments = kRowTiles * sensor_tiles;  // of R: [row tile][sensor tile], 32 lanes of 4 floats each

  float* const d = dynamic_shared<float>();                                                  // [8 atom_tiles][line]
  float4* const x = reinterpret_cast<float4*>(d + 8 * atom_tiles * in.line);                 // [fragments][32]
  float4* const r = x + fragments * kWarpSize;                                               // [fragments][32]
  float4* const parts = r + fragments * kWarpSize;                                           // [warps][fragments][32]
  float* const restarts = reinterpret_cast<float*>(parts + kWarps * fragments * kWarpSize);  // [warps][kTile]

  for (int i = static_cast<int>(threadIdx.x); i < 8 * atom_tiles * in.line; i += kThreads) {
    const int atom = i / in.line, sensor = i % in.line;
    const float value = atom < m && sensor < n ? in.D.data[sensor + atom * in.D.ld] : 0.0f;
    d[i] = kSplit ? value : __uint_as_float(tf32_from_float(value));
  }

  const int column[2] = {atom_of_column(2 * t), atom_of_column(2 * t + 1)};
  // Element e of an accumulator is of problem g + 8 (e / 2) of the row tile and of column[e % 2].
  const auto atom_at = [&](int j, int e) { return 8 * (j * kWarps + warp) + column[e % 2]; };

  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTile; first < in.current.cols;
       first += static_cast<std::int64_t>(gridDim.x) * kTile) {
    const int count = clip(in.current.cols - first, kTile);

    for (int f = warp; f < fragments; f += kWarps) {
      float value[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = f / sensor_tiles * 16 + g + e / 2 * 8, sensor = f % sensor_tiles * 8 + 2 * t + e % 2;
        value[e] = row < count && sensor < n ? in.X.data[sensor + (first + row) * in.X.ld] : 0.0f;
      }
      x[f * kWarpSize + lane] = make_float4(value[0], value[1], value[2], value[3]);
    }
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
    float now[kAtomTiles][kRowTiles][4], other[kAtomTiles][kRowTiles][4], anchor[kAtomTiles][kRowTiles][4];
#pragma unroll
    for (int j = 0; j < kAtomTiles; ++j) {
#pragma unroll
      for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = 16 * p + g + e / 2 * 8, atom = atom_at(j, e);
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

      for (int s0 = 0; s0 < sensor_tiles; s0 += kChunk) {
        float sums[kChunk][kRowTiles][4] = {};
#pragma unroll
        for (int j = 0; j < kAtomTiles; ++j) {
          if (j * kWarps + warp >= atom_tiles) continue;
          const float* const line0 = d + atom_at(j, 0) * in.line + g;
          const float* const line1 = d + atom_at(j, 1) * in.line + g;
          LeftOperand<kSplit> y[kRowTiles];
#pragma unroll
          for (int p = 0; p < kRowTiles; ++p)
            y[p] = left_operand<kSplit>(other[j][p][0], other[j][p][1], other[j][p][2], other[j][p][3]);
#pragma unroll
          for (int i = 0; i < kChunk; ++i) {
            if (s0 + i >= sensor_tiles) continue;
            const RightOperand<kSplit> b(line0[8 * (s0 + i)], line1[8 * (s0 + i)]);
#pragma unroll
            for (int p = 0; p < kRowTiles; ++p) multiply_add<kSplit>(sums[i][p], y[p], b);
          }
        }
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          if (s0 + i >= sensor_tiles) continue;
#pragma unroll
          for (int p = 0; p < kRowTiles; ++p)
            parts[(warp * fragments + p * sensor_tiles + s0 + i) * kWarpSize + lane] =
                make_float4(sums[i][p][0], sums[i][p][1], sums[i][p][2], sums[i][p][3]);
        }
      }
      __syncthreads();  // all parts of R are there

      for (int f = warp; f < fragments; f += kWarps) {
        float4 sum = x[f * kWarpSize + lane];
#pragma unroll
        for (int w = 0; w < kWarps; ++w) {
          const float4 part = parts[(w * fragments + f) * kWarpSize + lane];
          sum.x -= part.x;
          sum.y -= part.y;
          sum.z -= part.z;
          sum.w -= part.w;
        }
        r[f * kWarpSize + lane] = kSplit ? sum : rounded_to_tf32(sum);
      }
      __syncthreads();  // R is complete

      float gradient[kAtomTiles][kRowTiles][4] = {};
      for (int s = 0; s < sensor_tiles; ++s) {
        LeftOperand<kSplit> a[kRowTiles];
#pragma unroll
        for (int p = 0; p < kRowTiles; ++p) {
          const float4 residual = r[(p * sensor_tiles + s) * kWarpSize + lane];
          a[p] = left_operand<kSplit, true>(residual.x, residual.y, residual.z, residual.w);
        }
#pragma unroll
        for (int j = 0; j < kAtomTiles; ++j) {
          if (j * kWarps + warp >= atom_tiles) continue;
          const float2 pair = *reinterpret_cast<const float2*>(
              d + (8 * (j * kWarps + warp) + atom_of_column(g)) * in.line + 8 * s + 2 * t);
          const RightOperand<kSplit> b(pair.x, pair.y);
#pragma unroll
          for (int p = 0; p < kRowTiles; ++p) multiply_add<kSplit>(gradient[j][p], a[p], b);
        }
      }

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
          if (t == 0) restarts[warp * kTile + 16 * p + g + 8 * h] = restart;
        }
      }
      double restart = 0;
      if (in.rule == Momentum::fista_restart) {
        __syncthreads();  // the sums of all warps are there
        if (mine) {
#pragma unroll
          for (int w = 0; w < kWarps; ++w) restart += static_cast<double>(restarts[w * kTile + lane]);
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
          const int row = 16 * p + g + e / 2 * 8, atom = atom_at(j, e);
          if (row >= count || atom >= m) continue;
          in.current.data[atom + (first + row) * in.current.ld] = now[j][p][e];
          if (in.previous.data != nullptr) in.previous.data[atom + (first + row) * in.previous.ld] = other[j][p][e];
        }
      }
    }
    if (warp == 0 && mine) {
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
         dim3(grid_size(plan.blocks, "proximal_iterations")), dim3(kThreads),
         static_cast<std::size_t>(plan.shared_bytes), context.stream(), problem);
}

}  // namespace shrinkwarp::cuda
