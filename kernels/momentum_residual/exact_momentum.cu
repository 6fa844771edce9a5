// CUDA bodies of exact momentum layers: an element a thread, a warp a tile and its list; no block knows of another.
//
// Story: memory bound on paper. An element reads and writes x, v and B, 48 bytes, and in float f and x in T, 8 more; an inverse with
// the adjoint 20 on top. Width 256, batch 1024: 15 MB forward, 20 MB back, which an H200 moves in 3 and 4 us at 4.8 TB/s, out of its
// L2 sooner. The integer work is some 60 instructions, two of them 64-bit high products of four 32-bit ones each: 262,144 elements
// are 16 M lane operations, under 1 us. Words are few: at gamma = .9 one an element in 210 layers, and a tile's lie side by side.
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/momentum_residual/bodies.hpp>
#include <shrinkwarp/kernels/momentum_residual/momentum_element.hpp>

namespace shrinkwarp::cuda {

/// momentum_residual.cu has it.
template <class T>
void add_to_dgamma(const Context& context, const MomentumGamma* gamma, std::int64_t size,
                   const MomentumAdjoint<T>& adjoint);

namespace {

constexpr int kThreads = 256;
constexpr int kWordBits = kInformationWordBits;
static_assert(kInformationTile == kWarpSize, "a warp takes a tile");

unsigned blocks_of(std::int64_t size) {
  return static_cast<unsigned>((size + kThreads - 1) / kThreads);
}

__device__ __forceinline__ std::int64_t element() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

/// The state as kernels take it.
struct StatePointers {
  std::int64_t* x;
  std::int64_t* v;
  std::uint64_t* states;
  std::uint32_t* words;
  std::int32_t* counts;
  std::int32_t* status;
  std::int64_t capacity, size;

  explicit StatePointers(const ExactState& state)
      : x(state.x.data),
        v(state.v.data),
        states(state.buffer.states.data),
        words(state.buffer.words.data),
        counts(state.buffer.counts.data),
        status(state.status.data),
        capacity(state.buffer.capacity),
        size(state.x.size) {}
};

/// status <- min(status, value).
__device__ __forceinline__ void report(std::int32_t* status, std::int64_t value) {
  atomicMin(status, static_cast<int>(value));
}

/// The list of this warp's tile; all 32 lanes call together, with `has` false where there is no element. Its barriers order memory,
/// which a ballot does not on a device (in the executor it does, so that no mutation test can take them out).
struct WarpList {
  std::uint32_t* words;
  int count, capacity;
  bool fits = true;

  __device__ WarpList(const StatePointers& state, std::int64_t tile, bool exists)
      : words(state.words + tile * state.capacity),
        count(exists ? state.counts[tile] : 0),
        capacity(static_cast<int>(state.capacity)) {}

  __device__ static unsigned lanes_before() { return (1u << (threadIdx.x % kWarpSize)) - 1u; }

  /// The lanes whose state is `limit` or more give its low word, in their order.
  __device__ void give(bool has, std::uint64_t limit, std::uint64_t& B) {
    const bool gives = has && B >= limit;
    const unsigned givers = __ballot_sync(kFullMask, gives);
    if (gives) {
      const int place = count + __popc(givers & lanes_before());
      if (place < capacity)
        words[place] = static_cast<std::uint32_t>(B);
      else
        fits = false;
      B >>= kWordBits;
    }
    count += __popc(givers);
    if (count > capacity) count = capacity;
    __syncwarp(kFullMask);  // lanes take what others gave
  }
  /// The lanes whose state is under K take back what was given last, in the order in which it was given.
  __device__ void take(bool has, std::uint64_t K, std::uint64_t& B) {
    const bool takes = has && B < K;
    const unsigned takers = __ballot_sync(kFullMask, takes);
    const int first = count - __popc(takers);
    if (takes) {
      const int place = first + __popc(takers & lanes_before());
      std::uint64_t word = 0;
      if (place >= 0)
        word = words[place];
      else
        fits = false;
      B = (B << kWordBits) | word;
    }
    count = first < 0 ? 0 : first;
    __syncwarp(kFullMask);  // words are given where all have been taken
  }
  __device__ void move_interval(bool has, std::uint64_t from_K, std::uint64_t to_K, std::uint64_t& B) {
    if (to_K < from_K) give(has, to_K << kWordBits, B);
    if (to_K > from_K) take(has, to_K, B);
  }
  /// Lane 0 keeps the count, and each lane says what went wrong.
  __device__ void close(const StatePointers& state, std::int64_t tile, bool exists, std::int64_t index) {
    if (exists && threadIdx.x % kWarpSize == 0) state.counts[tile] = count;
    if (!fits) report(state.status, -(index + 1));
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    begin_kernel(const T* x, const T* v, const MomentumGamma* gamma, StatePointers state, T* x_in_T) {
  const std::int64_t i = element();
  if (i >= state.size) return;
  bool fits = true;
  const std::int64_t place = impulse(x[i], 1, fits);
  state.x[i] = place;
  state.v[i] = v == nullptr ? 0 : impulse(v[i], 1, fits);
  x_in_T[i] = rounded<T>(place);
  state.states[i] = gamma->K;
  const std::int64_t tile = i / kInformationTile, lane = i % kInformationTile;
  state.words[tile * state.capacity + lane] = 0;
  if (lane == 0) {
    const std::int64_t left = state.size - i;
    state.counts[tile] = static_cast<std::int32_t>(left < kInformationTile ? left : kInformationTile);
  }
  if (!fits) report(state.status, 1);
}

__global__ void __launch_bounds__(kThreads) clear_status_kernel(std::int32_t* status, std::int64_t size) {
  const std::int64_t i = element();
  if (i < size) status[i] = ExactStatus::kAllWell;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    exact_forward_kernel(const MomentumGamma* gammas, std::int64_t index, MomentumForm form, BranchPointers<T> branch,
                         StatePointers state, T* x_in_T) {
  const std::int64_t i = element();
  const bool has = i < state.size;
  const std::int64_t tile = i / kInformationTile;
  const bool exists = tile * kInformationTile < state.size;
  std::int64_t place = 0, speed = 0;
  std::uint64_t B = 0;
  T seen = T(0), f = T(0);
  if (has) {
    place = state.x[i];
    speed = state.v[i];
    B = state.states[i];
    seen = x_in_T[i];
    f = branch.f(i, i % branch.features, seen);
  }
  const MomentumGamma gamma = gammas[index];
  const std::uint64_t other_K = gammas[index > 0 ? index - 1 : 0].K;
  const InformationLimits<kWordBits> limits(gamma);
  WarpList list(state, tile, exists);
  list.move_interval(has, other_K, gamma.K, B);
  list.give(has, limits.before_push, B);
  bool fits = true;
  if (has) {
    const std::int64_t kept = scaled_down(gamma, speed, B);
    const std::int64_t added = impulse(f, share_of(gamma, form), fits);
    speed = wrapped_sum(kept, added);
    fits = fits && !sum_wraps(kept, added, speed);
    const std::int64_t next = wrapped_sum(place, speed);
    fits = fits && !sum_wraps(place, speed, next);
    place = next;
  }
  list.take(has, limits.K, B);
  if (has) {
    state.x[i] = place;
    state.v[i] = speed;
    state.states[i] = B;
    x_in_T[i] = rounded<T>(place);
  }
  if (!fits) report(state.status, index + 1);
  list.close(state, tile, exists, index);
}

template <class T>
__global__ void __launch_bounds__(kThreads) exact_step_back_kernel(StatePointers state, T* x_in_T) {
  const std::int64_t i = element();
  if (i >= state.size) return;
  const std::int64_t place = wrapped_difference(state.x[i], state.v[i]);
  state.x[i] = place;
  x_in_T[i] = rounded<T>(place);
}

/// With an adjoint unless `dx` is null; its part of dgamma to `sums` unless that is null.
template <class T>
__global__ void __launch_bounds__(kThreads)
    exact_inverse_kernel(const MomentumGamma* gammas, std::int64_t index, MomentumForm form, BranchPointers<T> branch,
                         StatePointers state, const T* x_in_T, T* x_before, T* dx, T* dv, T* dbranch, double* sums) {
  const std::int64_t i = element();
  const bool has = i < state.size;
  const std::int64_t tile = i / kInformationTile;
  const bool exists = tile * kInformationTile < state.size;
  std::int64_t speed = 0;
  std::uint64_t B = 0;
  T f = T(0);
  if (has) {
    speed = state.v[i];
    B = state.states[i];
    f = branch.f(i, i % branch.features, x_in_T[i]);
  }
  const MomentumGamma gamma = gammas[index];
  const std::uint64_t other_K = gammas[index > 0 ? index - 1 : 0].K;
  const InformationLimits<kWordBits> limits(gamma);
  bool fits = true;
  std::uint64_t s = 0;
  const std::int64_t u = taken_apart(gamma.p, wrapped_difference(speed, impulse(f, share_of(gamma, form), fits)), s);
  WarpList list(state, tile, exists);
  list.give(has, limits.before_undone_pop, B);
  if (has) speed = scaled_up(gamma, u, s, B);
  list.take(has, limits.K, B);
  list.move_interval(has, gamma.K, other_K, B);
  double sum = 0;
  if (has) {
    state.v[i] = speed;
    state.states[i] = B;
    if (index > 0) {
      const std::int64_t place = wrapped_difference(state.x[i], speed);
      state.x[i] = place;
      x_before[i] = rounded<T>(place);
    }
    if (dx != nullptr) {
      T to_x = dx[i], to_v = dv[i], to_branch;
      sum = step_adjoint(static_cast<T>(gamma.value), static_cast<T>(share_of(gamma, form)),
                         form == MomentumForm::damped, branch.whole, f, rounded<T>(speed), to_x, to_v, to_branch);
      if (branch.whole) dx[i] = to_x;
      dv[i] = to_v;
      dbranch[i] = to_branch;
    }
  }
  if (!fits) report(state.status, index + 1);
  list.close(state, tile, exists, index);
  if (sums == nullptr) return;
  sum = warp_sum(sum);
  if (exists && threadIdx.x % kWarpSize == 0) sums[tile] = sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads) velocity_kernel(const std::int64_t* fixed, T* v, std::int64_t size) {
  const std::int64_t i = element();
  if (i < size) v[i] = rounded<T>(fixed[i]);
}

}  // namespace

void clear_status(const Context& context, VectorView<std::int32_t> status) {
  launch(clear_status_kernel, dim3(blocks_of(status.size)), dim3(kThreads), 0, context.stream(), status.data,
         status.size);
}

template <class T>
void exact_momentum_begin(const Context& context, VectorView<const T> x, VectorView<const T> v,
                          const MomentumGamma* gamma, const ExactState& state, VectorView<T> x_in_T) {
  launch(begin_kernel<T>, dim3(blocks_of(x.size)), dim3(kThreads), 0, context.stream(), x.data,
         v.empty() ? nullptr : v.data, gamma, StatePointers(state), x_in_T.data);
}

template <class T>
void exact_momentum_forward(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,
                            const ExactState& state, VectorView<T> x_in_T) {
  launch(exact_forward_kernel<T>, dim3(blocks_of(state.x.size)), dim3(kThreads), 0, context.stream(), layer.gammas.data,
         layer.index, layer.form, BranchPointers<T>(branch), StatePointers(state), x_in_T.data);
}

template <class T>
void exact_momentum_step_back(const Context& context, const ExactState& state, VectorView<T> x_in_T) {
  launch(exact_step_back_kernel<T>, dim3(blocks_of(state.x.size)), dim3(kThreads), 0, context.stream(),
         StatePointers(state), x_in_T.data);
}

template <class T>
void exact_momentum_inverse(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,
                            const MomentumAdjoint<T>* adjoint, const ExactState& state, VectorView<const T> x_in_T,
                            VectorView<T> x_before) {
  const bool learns = adjoint != nullptr && !adjoint->dgamma.empty();
  launch(exact_inverse_kernel<T>, dim3(blocks_of(state.x.size)), dim3(kThreads), 0, context.stream(), layer.gammas.data,
         layer.index, layer.form, BranchPointers<T>(branch), StatePointers(state), x_in_T.data, x_before.data,
         adjoint != nullptr ? adjoint->dx.data : nullptr, adjoint != nullptr ? adjoint->dv.data : nullptr,
         adjoint != nullptr ? adjoint->dbranch.data : nullptr, learns ? adjoint->scratch.data : nullptr);
  if (learns) add_to_dgamma(context, layer.gammas.data + layer.index, state.x.size, *adjoint);
}

template <class T>
void exact_momentum_velocity(const Context& context, const ExactState& state, VectorView<T> v) {
  launch(velocity_kernel<T>, dim3(blocks_of(v.size)), dim3(kThreads), 0, context.stream(), state.v.data, v.data,
         v.size);
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

}  // namespace shrinkwarp::cuda
