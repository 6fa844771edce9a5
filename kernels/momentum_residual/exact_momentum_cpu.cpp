// CPU bodies of exact momentum layers, a task a few tiles.
//
// An element of a layer takes some 60 integer instructions, among them two products of 64 bits to 128, and no division.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/momentum_residual/bodies.hpp>
#include <shrinkwarp/kernels/momentum_residual/information_tile.hpp>
#include <shrinkwarp/kernels/momentum_residual/momentum_element.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr int kTile = static_cast<int>(kInformationTile);
constexpr std::int64_t kTilesOfTask = 64;

using List = TileList<kInformationWordBits>;

/// What a layer's tiles share.
struct LayerTask {
  MomentumGamma gamma;
  std::uint64_t other_K;  // of the layer before
  double share;
  bool more;  // layers come before
};

LayerTask task_of(const ExactLayer& layer) {
  const MomentumGamma& gamma = layer.gammas[layer.index];
  const MomentumGamma& before = layer.gammas[std::max<std::int64_t>(layer.index - 1, 0)];
  return {gamma, before.K, share_of(gamma, layer.form), layer.index > 0};
}

/// The first element of a tile's, and its list.
struct TilePlace {
  std::int64_t first;
  int size;
  List list;
};

#define SHRINKWARP_EXACT_LOOPS(T)                                                                                   \
  /* @return whether all stayed within range and the list within its own */                                         \
  SHRINKWARP_CPU_CLONES bool forward_tile(const LayerTask& task, const BranchPointers<T>& branch, TilePlace& tile,  \
                                          std::int64_t* x, std::int64_t* v, std::uint64_t* states, T* x_in_T) {     \
    const InformationLimits<kInformationWordBits> limits(task.gamma);                                               \
    const int size = tile.size;                                                                                     \
    std::int64_t added[kTile];                                                                                      \
    bool fits = true;                                                                                               \
    std::int64_t row = tile.first % branch.features;                                                                \
    for (int e = 0; e < size; ++e) {                                                                                \
      added[e] = impulse(branch.f(tile.first + e, row, x_in_T[e]), task.share, fits);                               \
      row = row + 1 == branch.features ? 0 : row + 1;                                                               \
    }                                                                                                               \
    tile.list.move_interval(states, size, task.other_K, task.gamma.K);                                              \
    tile.list.give(states, size, limits.before_push);                                                               \
    std::int64_t wraps = 0;                                                                                         \
    for (int e = 0; e < size; ++e) {                                                                                \
      const std::int64_t kept = scaled_down(task.gamma, v[e], states[e]);                                           \
      const std::int64_t speed = wrapped_sum(kept, added[e]);                                                       \
      const std::int64_t place = wrapped_sum(x[e], speed);                                                          \
      wraps |= ((kept ^ speed) & (added[e] ^ speed)) | ((x[e] ^ place) & (speed ^ place));                          \
      v[e] = speed;                                                                                                 \
      x[e] = place;                                                                                                 \
      x_in_T[e] = rounded<T>(place);                                                                                \
    }                                                                                                               \
    tile.list.take(states, size, limits.K);                                                                         \
    return fits && wraps >= 0;                                                                                      \
  }                                                                                                                 \
  SHRINKWARP_CPU_CLONES bool inverse_tile(const LayerTask& task, const BranchPointers<T>& branch, TilePlace& tile,  \
                                          std::int64_t* x, std::int64_t* v, std::uint64_t* states, const T* x_in_T, \
                                          T* x_before, T* f) {                                                      \
    const InformationLimits<kInformationWordBits> limits(task.gamma);                                               \
    const int size = tile.size;                                                                                     \
    std::int64_t u[kTile];                                                                                          \
    std::uint64_t s[kTile];                                                                                         \
    bool fits = true;                                                                                               \
    std::int64_t row = tile.first % branch.features;                                                                \
    for (int e = 0; e < size; ++e) {                                                                                \
      f[e] = branch.f(tile.first + e, row, x_in_T[e]);                                                              \
      u[e] = taken_apart(task.gamma.p, wrapped_difference(v[e], impulse(f[e], task.share, fits)), s[e]);            \
      row = row + 1 == branch.features ? 0 : row + 1;                                                               \
    }                                                                                                               \
    tile.list.give(states, size, limits.before_undone_pop);                                                         \
    for (int e = 0; e < size; ++e) v[e] = scaled_up(task.gamma, u[e], s[e], states[e]);                             \
    tile.list.take(states, size, limits.K);                                                                         \
    tile.list.move_interval(states, size, task.gamma.K, task.other_K);                                              \
    if (task.more) {                                                                                                \
      for (int e = 0; e < size; ++e) {                                                                              \
        x[e] = wrapped_difference(x[e], v[e]);                                                                      \
        x_before[e] = rounded<T>(x[e]);                                                                             \
      }                                                                                                             \
    }                                                                                                               \
    return fits;                                                                                                    \
  }                                                                                                                 \
  SHRINKWARP_CPU_CLONES double adjoint_tile(T gamma, T share, bool damped, bool whole, int size, const T* f,        \
                                            const std::int64_t* v, T* dx, T* dv, T* dbranch) {                      \
    double sum = 0;                                                                                                 \
    for (int e = 0; e < size; ++e)                                                                                  \
      sum += step_adjoint(gamma, share, damped, whole, f[e], rounded<T>(v[e]), dx[e], dv[e], dbranch[e]);           \
    return sum;                                                                                                     \
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
  const LayerTask task = task_of(layer);
  const BranchPointers<T> pointers(branch);
  in_tiles(context, state, layer.index, [&](TilePlace& tile) {
    const std::int64_t first = tile.first;
    if (!forward_tile(task, pointers, tile, state.x.data + first, state.v.data + first,
                      state.buffer.states.data + first, x_in_T.data + first))
      lower(state.status.data, static_cast<std::int32_t>(layer.index + 1));
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
  const LayerTask task = task_of(layer);
  const BranchPointers<T> pointers(branch);
  const auto gamma = static_cast<T>(task.gamma.value), share = static_cast<T>(task.share);
  const bool learns = adjoint != nullptr && !adjoint->dgamma.empty();
  in_tiles(context, state, layer.index, [&](TilePlace& tile) {
    const std::int64_t first = tile.first;
    T f[kTile];
    if (!inverse_tile(task, pointers, tile, state.x.data + first, state.v.data + first,
                      state.buffer.states.data + first, x_in_T.data + first,
                      task.more ? x_before.data + first : nullptr, f))
      lower(state.status.data, static_cast<std::int32_t>(layer.index + 1));
    if (adjoint == nullptr) return;
    const double sum =
        adjoint_tile(gamma, share, layer.form == MomentumForm::damped, branch.whole, tile.size, f, state.v.data + first,
                     adjoint->dx.data + first, adjoint->dv.data + first, adjoint->dbranch.data + first);
    if (learns) adjoint->scratch[first / kTile] = sum;
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
