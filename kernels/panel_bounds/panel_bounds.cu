// CUDA body of panel_bounds: rounding of columns, a warp each, and one product on tensor cores whose sums stay in registers
// until nothing but a key a panel is left of them.
//
// Story, medium lead field (n 302, K 320, m 6138), N residuals, on an H100 (990 TFLOP/s of half precision by data sheet, of
// which mma.sync reaches some 60 %). The product is 3.9 MFLOP a residual, 6.6 ns; its epilogue makes 6138 sums into 768 keys
// with some 8 instructions each, 2.5 ns; keys are 3 KB, 1 ns.
// A block makes 128 residuals x 128 atoms in eight warps of 64 x 32. K goes by in steps of 32 through two halves of a ring:
// cp.async fills one while the other is multiplied. Lines of the ring are 80 bytes apart, so that the eight rows and four
// words that a warp reads at once lie in 32 different banks. Two blocks a multiprocessor hide each other's epilogue.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/ptx.cuh>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/panel_bounds/panel_bounds.hpp>

namespace shrinkwarp::cuda {
namespace {

// ---- rounding ----------------------------------------------------------------------------------------------------

/// A float that is not under the root of a sum of squares in double, which rounding has moved by a unit for each of a lane's
/// terms: good for half a million rows.
__device__ __forceinline__ float rounded_up(double value) {
  return __double2float_ru(value * (1.0 + 1e-12));
}

constexpr int kRoundingWarps = 4;

__global__ void __launch_bounds__(kRoundingWarps* kWarpSize)
    round_to_half_kernel(MatrixView<const double> V, const std::int32_t* from, std::int64_t count,
                         MatrixView<std::uint16_t> values, float* factor, float* length, float* rounding) {
  const std::int64_t col = static_cast<std::int64_t>(blockIdx.x) * kRoundingWarps + threadIdx.x / kWarpSize;
  if (col >= count) return;
  const int lane = static_cast<int>(threadIdx.x % kWarpSize);
  const std::int64_t rows = from[col] < 0 ? 0 : V.rows;
  const double* const v = V.data + (rows > 0 ? from[col] : 0) * V.ld;
  double largest = 0;
  for (std::int64_t i = lane; i < rows; i += kWarpSize) largest = fmax(largest, std::fabs(v[i]));
  largest = warp_max(largest);
  const int exponent = largest > 0 ? ilogb(largest) : -1000;
  const bool in_range = exponent >= -120 && exponent <= 120;
  const double unit = in_range ? ldexp(1.0, exponent) : 0.0;
  const double inverse = in_range ? ldexp(1.0, -exponent) : 0.0;
  double energy = 0, lost = 0, kept = 0;
  for (std::int64_t i = lane; i < values.rows; i += kWarpSize) {
    const double value = i < rows ? v[i] : 0.0;
    const unsigned short bits = half_from_float(static_cast<float>(value * inverse));
    values.data[i + col * values.ld] = bits;
    const double q = static_cast<double>(float_from_half(bits)) * unit;
    energy = std::fma(value, value, energy);
    lost = std::fma(value - q, value - q, lost);
    kept = std::fma(q, q, kept);
  }
  energy = warp_sum(energy);
  lost = warp_sum(lost);
  kept = warp_sum(kept);
  if (lane != 0) return;
  factor[col] = static_cast<float>(unit);
  length[col] = rounded_up(std::sqrt(fmax(energy, kept)));
  rounding[col] = rounded_up(std::sqrt(lost));
}

// ---- the product -------------------------------------------------------------------------------------------------

constexpr int kTile = 128;        // residuals, and atoms, of a block
constexpr int kStep = 32;         // of K
constexpr int kLine = kStep + 8;  // halves from one column of the ring to the next
constexpr int kThreads = 256;
constexpr int kWarpResiduals = 64, kWarpAtoms = 32;
constexpr int kDown = kWarpResiduals / 16, kAcross = kWarpAtoms / 8;  // fragments of a warp
constexpr int kHalf = 2 * kTile * kLine;                              // halves of a ring's half: residuals, then atoms

/// Two halves beside each other.
__device__ __forceinline__ unsigned word_at(const std::uint16_t* pair) {
  return *reinterpret_cast<const unsigned*>(pair);
}

/// 128 columns, 32 rows from k on. Padding makes all of them exist.
__device__ __forceinline__ void copy_step(std::uint16_t* ring, MatrixView<const std::uint16_t> columns,
                                          std::int64_t first, std::int64_t k) {
  constexpr int kPieces = kStep / 8;
#pragma unroll
  for (int i = 0; i < kTile * kPieces / kThreads; ++i) {
    const int piece = static_cast<int>(threadIdx.x) + i * kThreads;
    const int column = piece / kPieces;
    const int start = piece % kPieces * 8;
    cp_async16(ring + column * kLine + start, columns.data + (first + column) * columns.ld + k + start);
  }
}

/// A bound and its place in the panel.
__device__ __forceinline__ unsigned key_of(float bound, int place) {
  return ((__float_as_uint(bound) + 7u) & ~7u) | static_cast<unsigned>(place);
}

struct PanelOperands {
  MatrixView<const std::uint16_t> D, R;
  const float *atom_factor, *atom_length, *atom_rounding;
  const float *factor, *length, *rounding;
};

/// @tparam kNonnegative  sums under 0 are no better than 0
/// @tparam kTogether     columns of a group, or of its part that lies in a panel
template <bool kNonnegative, int kTogether>
__global__ void __launch_bounds__(kThreads, 2)
    panel_bounds_kernel(PanelOperands in, float accumulation, std::int64_t count, MatrixView<std::uint32_t> keys) {
  SHRINKWARP_SHARED_ARRAY(std::uint16_t, ring, 2 * kHalf);
  const std::int64_t atom_tiles = in.D.cols / kTile;
  const std::int64_t first_atom = blockIdx.x % atom_tiles * kTile;
  const std::int64_t first_residual = blockIdx.x / atom_tiles * kTile;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int residual0 = warp % (kTile / kWarpResiduals) * kWarpResiduals;
  const int atom0 = warp / (kTile / kWarpResiduals) * kWarpAtoms;

  float c[kDown][kAcross][4] = {};
  const auto fill = [&](int half, std::int64_t k) {
    copy_step(ring + half * kHalf, in.R, first_residual, k);
    copy_step(ring + half * kHalf + kTile * kLine, in.D, first_atom, k);
    cp_async_commit();
  };
  fill(0, 0);
  int half = 0;
  for (std::int64_t k = 0; k < in.D.rows; k += kStep, half = 1 - half) {
    cp_async_wait<0>();
    __syncthreads();  // this half has arrived, and all are done with the other
    if (k + kStep < in.D.rows) fill(1 - half, k + kStep);
    const std::uint16_t* const r = ring + half * kHalf + (residual0 + g) * kLine + 2 * t;
    const std::uint16_t* const d = ring + half * kHalf + (kTile + atom0 + g) * kLine + 2 * t;
#pragma unroll
    for (int step = 0; step < kStep; step += 16) {
      unsigned a[kDown][4], b[kAcross][2];
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
        a[i][0] = word_at(r + 16 * i * kLine + step);
        a[i][1] = word_at(r + (16 * i + 8) * kLine + step);
        a[i][2] = word_at(r + 16 * i * kLine + step + 8);
        a[i][3] = word_at(r + (16 * i + 8) * kLine + step + 8);
      }
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        b[j][0] = word_at(d + 8 * j * kLine + step);
        b[j][1] = word_at(d + 8 * j * kLine + step + 8);
      }
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int j = 0; j < kAcross; ++j) mma_f16(c[i][j], a[i], b[j]);
      }
    }
  }

  // A fragment is 16 residuals and the 8 atoms of a panel, of which the lane has two.
  constexpr float kLeast = 1e-37f, kLeastNorm = 4e-19f;
  constexpr unsigned kMost = 0x7f7ffff8u;  // the largest float but for a place
  float factor[kAcross][2], rounding[kAcross][2], length[kAcross][2];
#pragma unroll
  for (int j = 0; j < kAcross; ++j) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const std::int64_t atom = first_atom + atom0 + 8 * j + 2 * t + e;
      factor[j][e] = in.atom_factor[atom];
      length[j][e] = in.atom_length[atom];
      rounding[j][e] = std::fma(accumulation, length[j][e], in.atom_rounding[atom]);
    }
  }
  const std::int64_t panel = (first_atom + atom0) / kPanelAtoms + t;
#pragma unroll
  for (int i = 0; i < kDown; ++i) {
#pragma unroll
    for (int high = 0; high < 2; ++high) {
      const std::int64_t residual = first_residual + residual0 + 16 * i + 8 * high + g;
      const float its_factor = in.factor[residual], its_rounding = in.rounding[residual];
      const float its_length = in.length[residual];
      unsigned mine = 0;  // of panel t of the warp's four
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        unsigned key = 0;
        float square = 0;  // of a group's bounds
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          // The factors first: what is out of range then is so in the end.
          const float sum = c[i][j][2 * high + e];
          const float correlation = (kNonnegative ? fmaxf(sum, 0.0f) : std::fabs(sum)) * (factor[j][e] * its_factor);
          const float error = std::fma(rounding[j][e], its_length, length[j][e] * its_rounding);
          // Five operations, each off by half a unit, and the place in the last three bits.
          const float bound = (correlation + error) * (1.0f + 4e-7f) + kLeast;
          if constexpr (kTogether == 1) {
            const unsigned bits = key_of(bound, 2 * t + e);
            key = key > bits ? key : bits;
          } else {
            square = std::fma(bound, bound, square);
          }
        }
        if constexpr (kTogether > 1) {
#pragma unroll
          for (int offset = 1; 2 * offset < kTogether; offset *= 2)
            square += __shfl_xor_sync(kFullMask, square, offset);
          // Seven operations at most, the root halves what came before it; and squares that were under the range.
          key = key_of(std::sqrt(square) * (1.0f + 6e-7f) + kLeastNorm, 2 * t / kTogether);
        }
#pragma unroll
        for (int offset = kTogether / 2 > 1 ? kTogether / 2 : 1; offset < 4; offset *= 2) {
          const unsigned other = __shfl_xor_sync(kFullMask, key, offset);
          key = key > other ? key : other;
        }
        if (j == t) mine = key;
      }
      // Infinity, and what comes of zero times infinity, with a place would be NaN.
      if (mine > kMost) mine = kMost | (mine & 7u);
      if (residual < count && panel < keys.rows) keys.data[panel + residual * keys.ld] = mine;
    }
  }
}

}  // namespace

void round_to_half(const Context& context, MatrixView<const double> V, VectorView<const std::int32_t> from,
                   MatrixView<std::uint16_t> values, float* factor, float* length, float* rounding) {
  launch(round_to_half_kernel, dim3(grid_size(ceil_div(from.size, kRoundingWarps), "HalfColumns::set")),
         dim3(kRoundingWarps * kWarpSize), 0, context.stream(), V, from.data, from.size, values, factor, length,
         rounding);
}

void panel_bounds(const Context& context, const HalfColumns& D, const HalfBounds& atoms, const HalfColumns& R,
                  std::int64_t count, const PanelPenalty& penalty, MatrixView<std::uint32_t> keys) {
  static_assert(kAcross == 4, "a lane of four writes the key of each panel of a warp");
  const PanelOperands in{D.values(),          R.values(),      atoms.factor.data, atoms.length.data,
                         atoms.rounding.data, R.factor().data, R.length().data,   R.rounding().data};
  const auto chosen = penalty.nonnegative          ? panel_bounds_kernel<true, 1>
                      : penalty.group_columns == 1 ? panel_bounds_kernel<false, 1>
                      : penalty.group_columns == 2 ? panel_bounds_kernel<false, 2>
                      : penalty.group_columns == 4 ? panel_bounds_kernel<false, 4>
                                                   : panel_bounds_kernel<false, 8>;
  launch(chosen, dim3(grid_size(ceil_div(in.D.cols, kTile) * ceil_div(count, kTile), "panel_bounds")), dim3(kThreads),
         0, context.stream(), in, panel_accumulation(D), count, keys);
}

}  // namespace shrinkwarp::cuda
