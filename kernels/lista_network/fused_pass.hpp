// Internal to lista_network on CUDA: the forward pass of a float network whose tiles of problems fit into a block's shared
// memory, as one launch.
#pragma once

#include <cstdint>
#include <optional>

#include <shrinkwarp/kernels/lista_network/lista_network.hpp>

namespace shrinkwarp::cuda {

/// What a pass leaves for the way back; without data where nothing is kept. Layer t, of T, has columns [t N, (t + 1) N).
template <class T>
struct KeptLayers {
  MatrixView<T> codes;      ///< [m, N T]: z_(t+1)
  MatrixView<T> residuals;  ///< [n, N T], coupled: x - D z_t; not written for t = 0
  MatrixView<T> shrunk;     ///< [m, N T], momentum: st(...)
};

/// How a block works on `tile` problems, a warp 32 atoms.
struct FusedPlan {
  int tile = 0, warps = 0;
  std::int64_t shared_bytes = 0;
};

/// Whether weights can be copied by 16 bytes.
bool fused_wide(const ListaNetwork<float>& network);

/// The plan with the least time on paper, or none where no tile fits: over 512 atoms, over 256 with momentum, or more rows than
/// `shared_memory` bytes take. Whether there is one depends on layout and device alone.
std::optional<FusedPlan> fused_plan(const ListaLayout& layout, std::int64_t problems, std::int64_t shared_memory,
                                    int multiprocessors, bool wide);

/// z_T to Z where that has data, and what `kept` has data for. A column's bits depend on that column alone.
void fused_forward(const Context& context, const ListaNetwork<float>& network, const FusedPlan& plan,
                   MatrixView<const float> X, VectorView<const float> lambda, const KeptLayers<float>& kept,
                   MatrixView<float> Z);

}  // namespace shrinkwarp::cuda
