// CPU bodies of exact momentum layers, a task a few tiles: whole tiles in the vectors of the processor at hand.
//
// What costs is not only arithmetic: with q = 2^9 more than a quarter of the elements give a word and take one in every layer,
// which no branch can predict. So words are packed and spread in vectors too. One thread of an AMD EPYC (Zen 3, AVX2), float,
// gamma .9, the best of 9 runs, nanoseconds an element: forward 3.3, and 5.0 element by element with branches; back with the
// adjoint 3.4, and 6.3.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/highway_targets.hpp>
#include <shrinkwarp/kernels/momentum_residual/bodies.hpp>
#include <shrinkwarp/kernels/momentum_residual/information_tile.hpp>
#include <shrinkwarp/kernels/momentum_residual/momentum_element.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/momentum_residual/exact_momentum_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/momentum_residual/exact_momentum_cpu_simd.hpp>

namespace shrinkwarp::cpu {
namespace {

HWY_EXPORT(ExactTilesF32);
HWY_EXPORT(ExactTilesF64);

template <class T>
const ExactTileLoops<T>& tile_loops() {
  if constexpr (sizeof(T) == sizeof(float)) {
    static const ExactTileLoops<float> chosen = HWY_DYNAMIC_DISPATCH(ExactTilesF32)();
    return chosen;
  } else {
    static const ExactTileLoops<double> chosen = HWY_DYNAMIC_DISPATCH(ExactTilesF64)();
    return chosen;
  }
}

constexpr int kTile = static_cast<int>(kInformationTile);
constexpr std::int64_t kTilesOfTask = 64;

ExactTask task_of(const ExactLayer& layer) {
  const MomentumGamma& gamma = layer.gammas[layer.index];
  const MomentumGamma& before = layer.gammas[std::max<std::int64_t>(layer.index - 1, 0)];
  return {gamma, before.K, share_of(gamma, layer.form)};
}

/// The first element of a tile's, and its list.
struct TilePlace {
  std::int64_t first;
  int size;
  InformationList list;
};

/// A tile element by element: the last one where it is not whole, others where that is quicker. @return as of ExactTileLoops
template <class T>
bool forward_tile(const ExactTask& task, const T* f, TilePlace& tile, std::int64_t* x, std::int64_t* v,
                  std::uint64_t* states, T* x_in_T) {
  const InformationLimits<kInformationWordBits> limits(task.gamma);
  tile.list.move_interval(states, tile.size, task.other_K, task.gamma.K);
  tile.list.give(states, tile.size, limits.before_push);
  bool fits = true;
  for (int e = 0; e < tile.size; ++e) {
    const std::int64_t added = impulse(f[e], task.share, fits);
    const std::int64_t kept = scaled_down(task.gamma, v[e], states[e]);
    v[e] = wrapped_sum(kept, added);
    const std::int64_t place = wrapped_sum(x[e], v[e]);
    fits = fits && !sum_wraps(kept, added, v[e]) && !sum_wraps(x[e], v[e], place);
    x[e] = place;
    x_in_T[e] = rounded<T>(place);
  }
  tile.list.take(states, tile.size, limits.K);
  return fits;
}
template <class T>
bool inverse_tile(const ExactTask& task, const T* f, TilePlace& tile, std::int64_t* x, std::int64_t* v,
                  std::uint64_t* states, T* x_in_T) {
  const InformationLimits<kInformationWordBits> limits(task.gamma);
  tile.list.give(states, tile.size, limits.before_undone_pop);
  bool fits = true;
  for (int e = 0; e < tile.size; ++e) {
    std::uint64_t s = 0;
    const std::int64_t u = taken_apart(task.gamma.p, wrapped_difference(v[e], impulse(f[e], task.share, fits)), s);
    v[e] = scaled_up(task.gamma, u, s, states[e]);
    if (x_in_T == nullptr) continue;
    x[e] = wrapped_difference(x[e], v[e]);
    x_in_T[e] = rounded<T>(x[e]);
  }
  tile.list.take(states, tile.size, limits.K);
  tile.list.move_interval(states, tile.size, task.gamma.K, task.other_K);
  return fits;
}

#define SHRINKWARP_EXACT_LOOPS(T)                                                                                  \
  /* f of a tile's elements; x_in_T and f from the tile's first element on, which is of row `row` */               \
  SHRINKWARP_CPU_CLONES void branch_tile(const BranchPointers<T>& branch, std::int64_t first, std::int64_t row,    \
                                         int size, const T* x_in_T, T* f) {                                        \
    for (int e = 0; e < size;) {                                                                                   \
      const int count = branch.bias == nullptr                                                                     \
                            ? size - e                                                                             \
                            : static_cast<int>(std::min<std::int64_t>(size - e, branch.features - row));           \
      for (int k = 0; k < count; ++k) f[e + k] = branch.f(first + e + k, row + k, x_in_T[e + k]);                  \
      e += count, row = 0;                                                                                         \
    }                                                                                                              \
  }                                                                                                                \
  SHRINKWARP_CPU_CLONES void adjoint_tile(T gamma, T share, bool whole, int size, T* dx, T* dv, T* dbranch) {      \
    for (int e = 0; e < size; ++e) step_adjoint(gamma, share, false, whole, T(0), T(0), dx[e], dv[e], dbranch[e]); \
  }                                                                                                                \
  /* The same with the gradient of gamma. @return what the tile adds to it */                                      \
  SHRINKWARP_CPU_CLONES double learning_tile(T gamma, T share, bool damped, bool whole, int size, const T* f,      \
                                             const std::int64_t* v, T* dx, T* dv, T* dbranch) {                    \
    double sum = 0;                                                                                                \
    for (int e = 0; e < size; ++e)                                                                                 \
      sum += step_adjoint(gamma, share, damped, whole, f[e], rounded<T>(v[e]), dx[e], dv[e], dbranch[e]);          \
    return sum;                                                                                                    \
  }
SHRINKWARP_EXACT_LOOPS(float)
SHRINKWARP_EXACT_LOOPS(double)
#undef SHRINKWARP_EXACT_LOOPS

/// status <- min(status, value), from any thread.
void lower(std::int32_t* status, std::int32_t value) {
  std::int32_t seen = __atomic_load_n(status, __ATOMIC_RELAXED);
  while (value < seen && !__atomic_compare_exchange_n(status, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

/// body(tile) for all tiles of the state; writes the counts back and reports lists that ran dry or over.
template <class Body>
void in_tiles(const Context& context, const ExactState& state, std::int64_t index, const Body& body) {
  const InformationBuffer& buffer = state.buffer;
  const std::int64_t size = state.x.size, tiles = InformationBuffer::tiles(size);
  context.parallel_for((tiles + kTilesOfTask - 1) / kTilesOfTask, [&](std::int64_t task, int) {
    bool fits = true;
    for (std::int64_t i = task * kTilesOfTask; i < std::min(tiles, (task + 1) * kTilesOfTask); ++i) {
      const std::int64_t first = i * kTile;
      TilePlace tile{first,
                     static_cast<int>(std::min<std::int64_t>(kTile, size - first)),
                     {buffer.words.data + i * buffer.capacity, buffer.counts[i], buffer.capacity}};
      body(tile);
      buffer.counts[i] = static_cast<std::int32_t>(tile.list.count);
      fits = fits && tile.list.fits;
    }
    if (!fits) lower(state.status.data, -static_cast<std::int32_t>(index + 1));
  });
}

}  // namespace

void clear_status(const Context&, VectorView<std::int32_t> status) {
  std::fill_n(status.data, status.size, ExactStatus::kAllWell);
}

template <class T>
void exact_momentum_begin(const Context& context, VectorView<const T> x, VectorView<const T> v,
                          const MomentumGamma* gamma, const ExactState& state, VectorView<T> x_in_T) {
  const InformationBuffer& buffer = state.buffer;
  const std::int64_t size = state.x.size, tiles = InformationBuffer::tiles(size);
  context.parallel_for(tiles, [&](std::int64_t i, int) {
    const std::int64_t first = i * kTile, end = std::min(size, first + kTile);
    bool fits = true;
    for (std::int64_t e = first; e < end; ++e) {
      state.x[e] = impulse(x[e], 1, fits);
      state.v[e] = v.empty() ? 0 : impulse(v[e], 1, fits);
      x_in_T[e] = rounded<T>(state.x[e]);
      buffer.states[e] = gamma->K;
      buffer.words[i * buffer.capacity + e - first] = 0;
    }
    buffer.counts[i] = static_cast<std::int32_t>(end - first);
    if (!fits) lower(state.status.data, 1);
  });
}

template <class T>
void exact_momentum_forward(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,
                            const ExactState& state, VectorView<T> x_in_T) {
  const ExactTask task = task_of(layer);
  const BranchPointers<T> pointers(branch);
  const ExactTileLoops<T>& loops = tile_loops<T>();
  in_tiles(context, state, layer.index, [&](TilePlace& tile) {
    const std::int64_t first = tile.first;
    std::int64_t* const x = state.x.data + first;
    std::int64_t* const v = state.v.data + first;
    std::uint64_t* const states = state.buffer.states.data + first;
    T f[kTile];
    branch_tile(pointers, first, first % pointers.features, tile.size, x_in_T.data + first, f);
    const bool fits = tile.size == kTile && loops.forward != nullptr
                          ? loops.forward(task, f, tile.list, x, v, states, x_in_T.data + first)
                          : forward_tile(task, f, tile, x, v, states, x_in_T.data + first);
    if (!fits) lower(state.status.data, static_cast<std::int32_t>(layer.index + 1));
  });
}

template <class T>
void exact_momentum_step_back(const Context& context, const ExactState& state, VectorView<T> x_in_T) {
  const std::int64_t size = state.x.size;
  context.parallel_for(InformationBuffer::tiles(size), [&](std::int64_t i, int) {
    for (std::int64_t e = i * kTile; e < std::min(size, (i + 1) * kTile); ++e) {
      state.x[e] = wrapped_difference(state.x[e], state.v[e]);
      x_in_T[e] = rounded<T>(state.x[e]);
    }
  });
}

template <class T>
void exact_momentum_inverse(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,
                            const MomentumAdjoint<T>* adjoint, const ExactState& state, VectorView<const T> x_in_T,
                            VectorView<T> x_before) {
  const ExactTask task = task_of(layer);
  const BranchPointers<T> pointers(branch);
  const ExactTileLoops<T>& loops = tile_loops<T>();
  const auto gamma = static_cast<T>(task.gamma.value), share = static_cast<T>(task.share);
  const bool learns = adjoint != nullptr && !adjoint->dgamma.empty();
  in_tiles(context, state, layer.index, [&](TilePlace& tile) {
    const std::int64_t first = tile.first;
    std::int64_t* const x = state.x.data + first;
    std::int64_t* const v = state.v.data + first;
    std::uint64_t* const states = state.buffer.states.data + first;
    T* const before = layer.index > 0 ? x_before.data + first : nullptr;
    T f[kTile];
    branch_tile(pointers, first, first % pointers.features, tile.size, x_in_T.data + first, f);
    const bool fits = tile.size == kTile && loops.inverse != nullptr
                          ? loops.inverse(task, f, tile.list, x, v, states, before)
                          : inverse_tile(task, f, tile, x, v, states, before);
    if (!fits) lower(state.status.data, static_cast<std::int32_t>(layer.index + 1));
    if (adjoint == nullptr) return;
    T* const dx = adjoint->dx.data + first;
    T* const dv = adjoint->dv.data + first;
    T* const dbranch = adjoint->dbranch.data + first;
    if (learns) {
      adjoint->scratch[first / kTile] = learning_tile(gamma, share, layer.form == MomentumForm::damped, branch.whole,
                                                      tile.size, f, v, dx, dv, dbranch);
    } else {
      adjoint_tile(gamma, share, branch.whole, tile.size, dx, dv, dbranch);
    }
  });
  if (learns) add_to_dgamma(task.gamma, state.x.size, *adjoint);
}

template <class T>
void exact_momentum_velocity(const Context& context, const ExactState& state, VectorView<T> v) {
  context.parallel_for(InformationBuffer::tiles(v.size), [&](std::int64_t i, int) {
    for (std::int64_t e = i * kTile; e < std::min(v.size, (i + 1) * kTile); ++e) v[e] = rounded<T>(state.v[e]);
  });
}

#define SHRINKWARP_INSTANTIATE(T)                                                                            \
  template void exact_momentum_begin<T>(const Context&, VectorView<const T>, VectorView<const T>,            \
                                        const MomentumGamma*, const ExactState&, VectorView<T>);             \
  template void exact_momentum_forward<T>(const Context&, const ExactLayer&, const BranchValues<T>&,         \
                                          const ExactState&, VectorView<T>);                                 \
  template void exact_momentum_step_back<T>(const Context&, const ExactState&, VectorView<T>);               \
  template void exact_momentum_inverse<T>(const Context&, const ExactLayer&, const BranchValues<T>&,         \
                                          const MomentumAdjoint<T>*, const ExactState&, VectorView<const T>, \
                                          VectorView<T>);                                                    \
  template void exact_momentum_velocity<T>(const Context&, const ExactState&, VectorView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
