// Whole step networks in one launch: each block keeps D in shared memory and takes tile after tile of 32 or 16 problems through
// all layers and, for the loss, back. Codes and their gradients stay in registers; products as common/resident_product.cuh
// makes them, in split_tf32. One copy of D serves all four products of a layer, which are two of a kind:
//
//   there   R_t = X - D z_t,  z_(t+1) = st(z_t + step D'R_t, threshold lambda)      R_0 = X without a product
//   back    H = G where z_(t+1) is not 0,  V = -D H,  G <- H + step D'V             not for t = 0
//   sums    d steps[t] = <H, D'R_t> = -<V, R_t>,  d thresholds[t] = -lambda <H, sign z_(t+1)>
//
// So the way back wants no codes: R_t, and two bits an entry that say whether it is 0 and its sign. They go to memory, each
// thread's own part, which it alone reads back.
//
// Two barriers a layer and way: parts of D z; R. Sums of a layer are folded in each warp and added, in double, to a number of
// the warp's own in memory, so that no layer has to keep any; one more launch makes means of them.
//
// Story on paper, n 64, m 256, T 16, N 8192 on an H100, in tiles of 32: 256 tiles, two rounds of 132 blocks. As
// proximal_iterations.cu counts it, two products of a tile are 5.8 thousand clocks of tensor cores in split_tf32 and 2.6
// thousand of shared memory, so between 5.8 and 8.4.
//   forward   31 products    90 to 130 thousand clocks a tile     103 to 149 us
//   loss      64 products   186 to 269 thousand                   212 to 306 us
//   states    R 8 KB, bits 2 KB a tile and layer: 164 KB a block, 22 MB in all, which stay in L2 (codes would be 69 MB).
//             Written and read once 84 MB: 15 us at 5.5 TB/s, mostly behind the products
//   sums      <H, sign z> takes 32 conversions and additions a thread and layer in double: 0.5 to 1 thousand clocks a layer,
//             up to 9 us
// By separate launches codes alone would be moved 5 times a layer and way there and back: 16 x 2 x 5 x 8.4 MB, 450 us at 3.0
// TB/s if they leave L2. The flops of the loss, 8 T n m N = 17 GFLOP, are 129 us at the rate of split_tf32. Compiled for sm_90a
// it takes 198 registers a thread there and back, 173 there. Not measured yet.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/resident_product.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/step_network/layer.cuh>
#include <shrinkwarp/kernels/step_network/resident_network.hpp>

namespace shrinkwarp::cuda {
namespace {

struct Network {
  MatrixView<const float> D;  // [n, m]
  int line;                   // floats from atom to atom in shared memory
  MatrixView<const float> X;  // [n, N]
  const float* lambda;        // [N]
  Layers<float> layers;
  MatrixView<float> Z;      // [m, N], written on the way there alone
  float4* residuals;        // [blocks][layers][fragments][32]
  uint2* supports;          // [blocks][layers][threads]: not 0, and under 0 or NaN; bit e + 4 (p + kRowTiles j)
  MatrixView<double> sums;  // [blocks kResidentWarps, sums_of(layers)]
};

__device__ __forceinline__ double dot(const float4& a, const float4& b) {
  double sum = static_cast<double>(a.x) * static_cast<double>(b.x);
  sum = std::fma(static_cast<double>(a.y), static_cast<double>(b.y), sum);
  sum = std::fma(static_cast<double>(a.z), static_cast<double>(b.z), sum);
  return std::fma(static_cast<double>(a.w), static_cast<double>(b.w), sum);
}

/// kAtomTiles tiles of 8 atoms a warp, kRowTiles tiles of 16 problems a block; kLoss: there and back.
template <int kAtomTiles, int kRowTiles, bool kLoss>
__global__ void __launch_bounds__(kResidentThreads, 1) network_kernel(Network in) {
  using Tile = ResidentTile<kAtomTiles, kRowTiles, true>;
  static_assert(kAtomTiles * kRowTiles * 4 <= 32, "a bit for each code of a thread");
  const Tile tile(in.D, in.line);
  const std::int64_t layers = in.layers.count;
  const auto bit = [](int j, int p, int e) { return 1u << (e + 4 * (p + kRowTiles * j)); };
  const auto state = [&](std::int64_t t) { return blockIdx.x * layers + t; };
  const auto residual_at = [&](std::int64_t t, int f) -> float4& {
    return in.residuals[(state(t) * tile.fragments() + f) * kWarpSize + tile.lane];
  };
  tile.load_dictionary(in.D);

  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * Tile::kTile; first < in.X.cols;
       first += static_cast<std::int64_t>(gridDim.x) * Tile::kTile) {
    const int count = clip(in.X.cols - first, Tile::kTile);
    tile.load_rows(in.X, first, count);
    float lambda[kRowTiles][2];
#pragma unroll
    for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = tile.row_at(p, 2 * h);
        lambda[p][h] = row < count ? in.lambda[first + row] : 0.0f;
      }
    }
    typename Tile::Codes codes = {};
    typename Tile::Codes product;
    [[maybe_unused]] double cost = 0;

    // The loss takes one more residual, that of the codes of the last layer.
    for (std::int64_t t = 0; t < layers + (kLoss ? 1 : 0); ++t) {
      if (t > 0) tile.write_parts(codes);
      __syncthreads();  // all parts of R are there, and the last one is not read any more
      tile.for_each_fragment([&](int f) {
        const float4 residual = t > 0 ? tile.left_over(f, tile.x(f)) : tile.x(f);
        tile.r(f) = residual;
        if constexpr (kLoss) {
          if (t < layers)
            residual_at(t, f) = residual;
          else
            cost = std::fma(0.5, dot(residual, residual), cost);
        }
      });
      __syncthreads();  // R is complete
      tile.correlate(product);
      if (t == layers) break;

      const float step = in.layers.step(t), threshold = in.layers.threshold(t);
      [[maybe_unused]] unsigned support = 0, negative = 0;
#pragma unroll
      for (int j = 0; j < kAtomTiles; ++j) {
#pragma unroll
        for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float z =
                soft_threshold(std::fma(step, product[j][p][e], codes[j][p][e]), lambda[p][e / 2] * threshold);
            codes[j][p][e] = z;
            if (z != 0.0f) support |= bit(j, p, e);
            if (!(z > 0.0f)) negative |= bit(j, p, e);
          }
        }
      }
      if constexpr (kLoss) in.supports[state(t) * kResidentThreads + threadIdx.x] = make_uint2(support, negative);
    }

    if constexpr (!kLoss) {
#pragma unroll
      for (int j = 0; j < kAtomTiles; ++j) {
#pragma unroll
        for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int row = tile.row_at(p, e), atom = tile.atom_at(j, e);
            if (row < count && atom < static_cast<int>(in.D.cols))
              in.Z.data[atom + (first + row) * in.Z.ld] = codes[j][p][e];
          }
        }
      }
    } else {
      const bool begins = first == static_cast<std::int64_t>(blockIdx.x) * Tile::kTile;
      const auto add = [&](std::int64_t k, double value) {
        value = warp_sum(value);
        double* const sum = in.sums.data + k * in.sums.ld + blockIdx.x * kResidentWarps + tile.warp;
        if (tile.lane == 0) *sum = begins ? value : *sum + value;
      };
      // G_T = lambda sign(z_T) - D'R_T takes the place of the codes.
#pragma unroll
      for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          double magnitude = 0;
#pragma unroll
          for (int j = 0; j < kAtomTiles; ++j) {
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; ++e) {
              const float z = codes[j][p][e], slope = lambda[p][h];
              magnitude += std::fabs(static_cast<double>(z));
              codes[j][p][e] = (z > 0.0f ? slope : z < 0.0f ? -slope : 0.0f) - product[j][p][e];
            }
          }
          cost = std::fma(static_cast<double>(lambda[p][h]), magnitude, cost);
        }
      }
      add(2 * layers, cost);

      for (std::int64_t t = layers - 1; t >= 0; --t) {
        const uint2 bits = in.supports[state(t) * kResidentThreads + threadIdx.x];
        double signs = 0;
#pragma unroll
        for (int p = 0; p < kRowTiles; ++p) {
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            double sum = 0;
#pragma unroll
            for (int j = 0; j < kAtomTiles; ++j) {
#pragma unroll
              for (int e = 2 * h; e < 2 * h + 2; ++e) {
                const float kept = (bits.x & bit(j, p, e)) != 0 ? codes[j][p][e] : 0.0f;
                sum += static_cast<double>((bits.y & bit(j, p, e)) != 0 ? -kept : kept);
                codes[j][p][e] = kept;
              }
            }
            signs = std::fma(static_cast<double>(lambda[p][h]), sum, signs);
          }
        }
        tile.write_parts(codes);
        __syncthreads();  // all parts of V are there, and the last one is not read any more
        double moved = 0;
        tile.for_each_fragment([&](int f) {
          const float4 negated = tile.left_over(f, make_float4(0, 0, 0, 0));
          tile.r(f) = negated;
          moved -= dot(negated, residual_at(t, f));
        });
        __syncthreads();  // V is complete
        add(t, moved);
        add(layers + t, -signs);
        if (t == 0) break;
        tile.correlate(product);
        const float step = in.layers.step(t);
#pragma unroll
        for (int j = 0; j < kAtomTiles; ++j)
#pragma unroll
          for (int p = 0; p < kRowTiles; ++p)
#pragma unroll
            for (int e = 0; e < 4; ++e) codes[j][p][e] = std::fma(step, product[j][p][e], codes[j][p][e]);
      }
    }
  }
}

using Kernel = void (*)(Network);

template <bool kLoss>
Kernel kernel_of(const IterationPlan& plan) {
  if (plan.tile == 16)
    return plan.atom_tiles == 2   ? network_kernel<2, 1, kLoss>
           : plan.atom_tiles == 4 ? network_kernel<4, 1, kLoss>
                                  : network_kernel<8, 1, kLoss>;
  return plan.atom_tiles == 2 ? network_kernel<2, 2, kLoss> : network_kernel<4, 2, kLoss>;
}

Network network_of(const StepNetwork<float>& network, const IterationPlan& plan, MatrixView<const float> X,
                   VectorView<const float> lambda) {
  const StepDictionary<float>& D = network.operands.packed_D();
  Network in{};
  in.D = {D.residual_operand(), D.rows(), D.cols(), D.residual_ld(), D.device()};
  in.line = static_cast<int>(plan.line);
  in.X = X;
  in.lambda = lambda.data;
  in.layers = layers_of(network);
  return in;
}

void launch_network(const Context& context, const IterationPlan& plan, Kernel kernel, const Network& network) {
  launch(kernel, dim3(grid_size(plan.blocks, "step_network")), dim3(kResidentThreads),
         static_cast<std::size_t>(plan.shared_bytes), context.stream(), network);
}

}  // namespace

std::optional<IterationPlan> resident_plan(const Context& context, const StepNetwork<float>& network,
                                           std::int64_t problems) {
  if (!network.operands.is_tied() || network.selection.selects()) return std::nullopt;
  return iteration_plan(context, network.operands.rows(), network.operands.atoms(), problems);
}

ResidentStates lay_out_states(Arena& arena, const StepNetwork<float>& network, const IterationPlan& plan) {
  const std::int64_t sensor_tiles = ceil_div(network.operands.rows(), 8), layers = network.steps.size;
  ResidentStates states;
  states.residuals = arena.vector<float>(plan.blocks * layers * sensor_tiles * 8 * plan.tile);
  states.supports = arena.vector<std::uint32_t>(plan.blocks * layers * kResidentThreads * 2);
  states.sums = arena.matrix<double>(plan.blocks * kResidentWarps, sums_of(layers));
  return states;
}

void resident_forward(const Context& context, const StepNetwork<float>& network, const IterationPlan& plan,
                      MatrixView<const float> X, VectorView<const float> lambda, MatrixView<float> Z) {
  Network in = network_of(network, plan, X, lambda);
  in.Z = Z;
  launch_network(context, plan, kernel_of<false>(plan), in);
}

void resident_loss(const Context& context, const StepNetwork<float>& network, const IterationPlan& plan,
                   MatrixView<const float> X, VectorView<const float> lambda, const ResidentStates& states) {
  Network in = network_of(network, plan, X, lambda);
  in.residuals = reinterpret_cast<float4*>(states.residuals.data);
  in.supports = reinterpret_cast<uint2*>(states.supports.data);
  in.sums = states.sums;
  launch_network(context, plan, kernel_of<true>(plan), in);
}

}  // namespace shrinkwarp::cuda
