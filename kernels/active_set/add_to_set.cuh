// Atoms come into the working sets of active_sets.hpp: their correlations and their part of the Gram matrix.
#pragma once

#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/active_set/active_sets.hpp>
#include <shrinkwarp/kernels/common/device.cuh>

namespace shrinkwarp::cuda {

/// What atoms are added from.
struct AtomOperands {
  MatrixView<const double> D, gram, R;
  double ridge;  // where kPlain is false
};

/// Adds `count` atoms to place p behind its first ones; their codes are the caller's business. By a block of so many threads;
/// no barrier at the end.
/// @tparam kPlain  no ridge is added to the Gram matrix
template <int kThreads, bool kPlain>
__device__ __forceinline__ void add_to_set(const AtomOperands& in, std::int64_t p, int first, const std::int32_t* added,
                                           int count, const ActiveSets& sets) {
  constexpr int kWarps = kThreads / kWarpSize;
  const MatrixView<const double>&D = in.D, &gram = in.gram;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const double* const r = in.R.data + p * in.R.ld;
  std::int32_t* const atom = sets.atom.column(p);
  double* const G = sets.gram.column(p);
  double largest = 0;
  for (int f = warp; f < count; f += kWarps) {
    const double* const d = D.data + added[f] * D.ld;
    double correlation = 0, energy = 0;
    for (std::int64_t i = lane; i < D.rows; i += kWarpSize) {
      correlation = std::fma(d[i], r[i], correlation);
      energy = std::fma(d[i], d[i], energy);
    }
    correlation = warp_sum(correlation);
    energy = warp_sum(energy);
    if constexpr (!kPlain) energy += in.ridge;
    if (energy > 0) largest = fmax(largest, std::fabs(correlation) / std::sqrt(energy));
    if (lane == 0) {
      atom[first + f] = added[f];
      sets.correlation.column(p)[first + f] = correlation;
    }
  }
  largest = block_max<kThreads>(largest);  // with a barrier: all atoms are known
  for (int f = warp; f < count; f += kWarps) {
    const int col = first + f;
    const std::int64_t j = added[f];
    for (int i = lane; i <= col; i += kWarpSize) {
      double entry = 0;
      if (gram.data != nullptr) {
        entry = gram.data[atom[i] + j * gram.ld];
      } else {
        const double* const a = D.data + atom[i] * D.ld;
        const double* const b = D.data + j * D.ld;
        for (std::int64_t k = 0; k < D.rows; ++k) entry = std::fma(a[k], b[k], entry);
      }
      if constexpr (!kPlain) entry += i == col ? in.ridge : 0.0;
      G[i + col * sets.capacity] = G[col + i * sets.capacity] = entry;
    }
  }
  if (threadIdx.x == 0) {
    sets.size[p] = first + count;
    sets.largest[p] = first > 0 ? fmax(sets.largest[p], largest) : largest;
  }
}

}  // namespace shrinkwarp::cuda
