// The two products of a small dictionary that stays in a block's shared memory with a tile of 16 or 32 problems whose codes
// stay in the registers of its 8 warps: what kernels that keep a whole solve or network on the chip are made of.
//
// Problems are the rows of tensor-core products, m16n8k8 in tf32:
//
//   Y' D'  [tile x n]   each of the 8 warps sums over its own atoms; the 8 parts are added in shared memory
//   R' D   [tile x m]   each warp for its own atoms: what it gets are elements of the codes that it holds
//
// An accumulator of the second product lies as an operand of the first wants it, and one of the first as an operand of the
// second, once K is counted in another order (2t, 2t + 1 for t, t + 4): codes and residuals never change their places.
// Warp w holds atoms 8 (8 j + w) to 8 (8 j + w) + 7 for j = 0, 1, ..., and of a tile's 8 columns column c is atom
// c ^ c / 4. That, with lines of 8 (mod 16) floats, keeps both products' reads of the one copy of D free of bank conflicts:
//   first product   a float at atoms 2t (or 2t + 1) and sensor g of a tile: lines 0, 2, 5, 7 (or 1, 3, 4, 6), 8 banks each
//   second product  two floats at atom g, sensors 2t and 2t + 1; half a warp has lines 0, 1, 2, 3 (or 5, 4, 7, 6)
//
// A problem's bits depend on it alone: not on the tile's width or its neighbours.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/ptx.cuh>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::cuda {

inline constexpr int kResidentWarps = 8;
inline constexpr int kResidentThreads = kResidentWarps * kWarpSize;

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

/// Atom of column c of a tile of 8.
__device__ __forceinline__ int atom_of_column(int c) {
  return c ^ (c >> 2);
}

/// A thread's view of its block's dictionary and tile: kAtomTiles tiles of 8 atoms a warp, kRowTiles tiles of 16 problems a
/// block. In shared memory, as IterationPlan counts it: D [atoms][line], X, R and the warps' parts of a product, in fragments
/// of 32 lanes of 4 floats each, [row tile][sensor tile]; then what is left. The barriers are the kernel's:
///
///   write_parts   barrier   left_over, to R   barrier   correlate
///
/// A fragment is always the same thread's business, in load_rows and for_each_fragment: X needs no barrier.
template <int kAtomTiles, int kRowTiles, bool kSplit>
class ResidentTile {
 public:
  static constexpr int kTile = 16 * kRowTiles;  // problems
  /// Codes of the warp's atoms, element e as in an accumulator: of problem row_at(p, e) and atom_at(j, e).
  using Codes = float[kAtomTiles][kRowTiles][4];

  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int g = lane / 4, t = lane % 4;

  /// @param D     [n, m] in device memory
  /// @param line  floats from one atom to the next in shared memory
  __device__ __forceinline__ ResidentTile(const MatrixView<const float>& D, int line)
      : line_(line),
        n_(static_cast<int>(D.rows)),
        sensor_tiles_(static_cast<int>((D.rows + 7) / 8)),
        atom_tiles_(static_cast<int>((D.cols + 7) / 8)),
        fragments_(kRowTiles * sensor_tiles_),
        d_(dynamic_shared<float>()),
        x_(reinterpret_cast<float4*>(d_ + 8 * atom_tiles_ * line)),
        r_(x_ + fragments_ * kWarpSize),
        parts_(r_ + fragments_ * kWarpSize) {}

  __device__ __forceinline__ int fragments() const { return fragments_; }
  /// Shared memory behind the parts: kResidentWarps floats a problem.
  __device__ __forceinline__ float* rest() const {
    return reinterpret_cast<float*>(parts_ + kResidentWarps * fragments_ * kWarpSize);
  }
  __device__ __forceinline__ float4& x(int f) const { return x_[f * kWarpSize + lane]; }
  __device__ __forceinline__ float4& r(int f) const { return r_[f * kWarpSize + lane]; }

  __device__ __forceinline__ int row_at(int p, int e) const { return 16 * p + g + e / 2 * 8; }
  __device__ __forceinline__ int atom_at(int j, int e) const {
    return 8 * (j * kResidentWarps + warp) + atom_of_column(2 * t + e % 2);
  }

  /// D to shared memory, by all threads.
  __device__ __forceinline__ void load_dictionary(const MatrixView<const float>& D) const {
    const int m = static_cast<int>(D.cols);
    for (int i = static_cast<int>(threadIdx.x); i < 8 * atom_tiles_ * line_; i += kResidentThreads) {
      const int atom = i / line_, sensor = i % line_;
      const float value = atom < m && sensor < n_ ? D.data[sensor + atom * D.ld] : 0.0f;
      d_[i] = kSplit ? value : __uint_as_float(tf32_from_float(value));
    }
  }

  /// body(f) for the fragments that are this thread's.
  template <class Body>
  __device__ __forceinline__ void for_each_fragment(const Body& body) const {
    for (int f = warp; f < fragments_; f += kResidentWarps) body(f);
  }

  /// Problems [first, first + count) of X [n, N] to x, zeros where there are none.
  __device__ __forceinline__ void load_rows(const MatrixView<const float>& X, std::int64_t first, int count) const {
    for_each_fragment([&](int f) {
      float value[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = f / sensor_tiles_ * 16 + g + e / 2 * 8, sensor = f % sensor_tiles_ * 8 + 2 * t + e % 2;
        value[e] = row < count && sensor < n_ ? X.data[sensor + (first + row) * X.ld] : 0.0f;
      }
      x(f) = make_float4(value[0], value[1], value[2], value[3]);
    });
  }

  /// The warp's part of Y' D', Y being `codes`.
  __device__ __forceinline__ void write_parts(const Codes& codes) const {
    constexpr int kChunk = 4;  // tiles of 8 sensors whose sums a warp makes at a time
    for (int s0 = 0; s0 < sensor_tiles_; s0 += kChunk) {
      float sums[kChunk][kRowTiles][4] = {};
#pragma unroll
      for (int j = 0; j < kAtomTiles; ++j) {
        if (j * kResidentWarps + warp >= atom_tiles_) continue;
        const float* const line0 = d_ + atom_at(j, 0) * line_ + g;
        const float* const line1 = d_ + atom_at(j, 1) * line_ + g;
        LeftOperand<kSplit> y[kRowTiles];
#pragma unroll
        for (int p = 0; p < kRowTiles; ++p)
          y[p] = left_operand<kSplit>(codes[j][p][0], codes[j][p][1], codes[j][p][2], codes[j][p][3]);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          if (s0 + i >= sensor_tiles_) continue;
          const RightOperand<kSplit> b(line0[8 * (s0 + i)], line1[8 * (s0 + i)]);
#pragma unroll
          for (int p = 0; p < kRowTiles; ++p) multiply_add<kSplit>(sums[i][p], y[p], b);
        }
      }
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        if (s0 + i >= sensor_tiles_) continue;
#pragma unroll
        for (int p = 0; p < kRowTiles; ++p)
          parts_[(warp * fragments_ + p * sensor_tiles_ + s0 + i) * kWarpSize + lane] =
              make_float4(sums[i][p][0], sums[i][p][1], sums[i][p][2], sums[i][p][3]);
      }
    }
  }

  /// `from` less the fragment's parts, in the order of the warps.
  __device__ __forceinline__ float4 left_over(int f, float4 from) const {
#pragma unroll
    for (int w = 0; w < kResidentWarps; ++w) {
      const float4 part = parts_[(w * fragments_ + f) * kWarpSize + lane];
      from.x -= part.x;
      from.y -= part.y;
      from.z -= part.z;
      from.w -= part.w;
    }
    return from;
  }

  /// result <- R' D for the warp's atoms; where not kSplit, r is tf32 already.
  __device__ __forceinline__ void correlate(Codes& result) const {
#pragma unroll
    for (int j = 0; j < kAtomTiles; ++j)
#pragma unroll
      for (int p = 0; p < kRowTiles; ++p)
#pragma unroll
        for (int e = 0; e < 4; ++e) result[j][p][e] = 0;
    for (int s = 0; s < sensor_tiles_; ++s) {
      LeftOperand<kSplit> a[kRowTiles];
#pragma unroll
      for (int p = 0; p < kRowTiles; ++p) {
        const float4 residual = r(p * sensor_tiles_ + s);
        a[p] = left_operand<kSplit, true>(residual.x, residual.y, residual.z, residual.w);
      }
#pragma unroll
      for (int j = 0; j < kAtomTiles; ++j) {
        if (j * kResidentWarps + warp >= atom_tiles_) continue;
        const float2 pair = *reinterpret_cast<const float2*>(
            d_ + (8 * (j * kResidentWarps + warp) + atom_of_column(g)) * line_ + 8 * s + 2 * t);
        const RightOperand<kSplit> b(pair.x, pair.y);
#pragma unroll
        for (int p = 0; p < kRowTiles; ++p) multiply_add<kSplit>(result[j][p], a[p], b);
      }
    }
  }

 private:
  int line_, n_, sensor_tiles_, atom_tiles_, fragments_;
  float* d_;
  float4* x_;
  float4* r_;
  float4* parts_;
};

}  // namespace shrinkwarp::cuda
