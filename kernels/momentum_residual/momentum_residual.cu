// CUDA bodies of momentum residual layers in floating point: an element a thread.
//
// Story: memory bound. On paper, width 256, batch 1024, float (1 MiB an array), which stays in the L2 of an H200: forward and
// inverse 5.2 MB, 1.1 us at 4.8 TB/s; adjoint 4.2 MB, with dgamma 6.3 MB. That is what a launch takes, so a network of such layers
// wants its pass in a graph; the bias is added here and not in a pass of its own.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/momentum_residual/bodies.hpp>
#include <shrinkwarp/kernels/momentum_residual/momentum_element.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kThreads = 256;

unsigned blocks_of(std::int64_t size) {
  return static_cast<unsigned>((size + kThreads - 1) / kThreads);
}

/// This thread's element.
__device__ __forceinline__ std::int64_t element() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    prepare_kernel(const T* learned, GammaRange range, MomentumGamma* gammas, std::int64_t layers) {
  const std::int64_t t = element();
  if (t < layers) gammas[t] = prepared_gamma(static_cast<double>(learned[t]), range);
}

template <class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(const MomentumGamma* gamma, MomentumForm form,
                                                           BranchPointers<T> branch, T* x, T* v, std::int64_t size) {
  const std::int64_t i = element();
  if (i >= size) return;
  T place = x[i], speed = v[i];
  const T f = branch.f(i, i % branch.features, place);
  step_forward(static_cast<T>(gamma->value), static_cast<T>(share_of(*gamma, form)), f, place, speed);
  x[i] = place;
  v[i] = speed;
}

template <class T>
__global__ void __launch_bounds__(kThreads) step_back_kernel(const T* v, T* x, std::int64_t size) {
  const std::int64_t i = element();
  if (i < size) x[i] -= v[i];
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    inverse_kernel(const MomentumGamma* gamma, MomentumForm form, BranchPointers<T> branch, const T* x, T* v,
                   T* x_before, std::int64_t size) {
  const std::int64_t i = element();
  if (i >= size) return;
  const T place = x[i];
  const T f = branch.f(i, i % branch.features, place);
  const T speed = velocity_before(static_cast<T>(gamma->value), static_cast<T>(share_of(*gamma, form)), f, v[i]);
  v[i] = speed;
  if (x_before != nullptr) x_before[i] = place - speed;
}

/// A warp a tile; its part of dgamma to `sums` unless that is null.
template <class T>
__global__ void __launch_bounds__(kThreads)
    adjoint_kernel(const MomentumGamma* gamma, MomentumForm form, BranchPointers<T> branch, const T* x, const T* v,
                   T* dx, T* dv, T* dbranch, double* sums, std::int64_t size) {
  const std::int64_t i = element();
  double sum = 0;
  if (i < size) {
    T to_x = dx[i], to_v = dv[i], to_branch;
    T f = T(0), speed = T(0);
    if (sums != nullptr) {
      f = branch.f(i, i % branch.features, branch.whole ? x[i] : T(0));
      speed = v[i];
    }
    sum = step_adjoint(static_cast<T>(gamma->value), static_cast<T>(share_of(*gamma, form)),
                       form == MomentumForm::damped, branch.whole, f, speed, to_x, to_v, to_branch);
    if (branch.whole) dx[i] = to_x;
    dv[i] = to_v;
    dbranch[i] = to_branch;
  }
  if (sums == nullptr) return;
  sum = warp_sum(sum);
  if (i < size && threadIdx.x % kWarpSize == 0) sums[i / kInformationTile] = sum;
}

/// dgamma += the sum of the tiles' parts, by one block.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dgamma_kernel(const MomentumGamma* gamma, const double* sums, std::int64_t tiles, T* dgamma) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < tiles; i += kThreads) sum += sums[i];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0 && !is_held_against(*gamma, sum)) dgamma[0] += static_cast<T>(sum);
}

}  // namespace

template <class T>
void prepare_gammas(const Context& context, VectorView<const T> learned, const GammaRange& range,
                    VectorView<MomentumGamma> gammas) {
  launch(prepare_kernel<T>, dim3(blocks_of(gammas.size)), dim3(kThreads), 0, context.stream(), learned.data, range,
         gammas.data, gammas.size);
}

template <class T>
void momentum_forward(const Context& context, const MomentumGamma* gamma, MomentumForm form,
                      const BranchValues<T>& branch, VectorView<T> x, VectorView<T> v) {
  launch(forward_kernel<T>, dim3(blocks_of(x.size)), dim3(kThreads), 0, context.stream(), gamma, form,
         BranchPointers<T>(branch), x.data, v.data, x.size);
}

template <class T>
void momentum_step_back(const Context& context, VectorView<const T> v, VectorView<T> x) {
  launch(step_back_kernel<T>, dim3(blocks_of(x.size)), dim3(kThreads), 0, context.stream(), v.data, x.data, x.size);
}

template <class T>
void momentum_inverse(const Context& context, const MomentumGamma* gamma, MomentumForm form,
                      const BranchValues<T>& branch, VectorView<const T> x, VectorView<T> v, VectorView<T> x_before) {
  launch(inverse_kernel<T>, dim3(blocks_of(x.size)), dim3(kThreads), 0, context.stream(), gamma, form,
         BranchPointers<T>(branch), x.data, v.data, x_before.empty() ? nullptr : x_before.data, x.size);
}

template <class T>
void add_to_dgamma(const Context& context, const MomentumGamma* gamma, std::int64_t size,
                   const MomentumAdjoint<T>& adjoint) {
  launch(dgamma_kernel<T>, dim3(1), dim3(kThreads), 0, context.stream(), gamma, adjoint.scratch.data,
         InformationBuffer::tiles(size), adjoint.dgamma.data);
}

template <class T>
void momentum_adjoint(const Context& context, const MomentumGamma* gamma, MomentumForm form,
                      const BranchValues<T>& branch, VectorView<const T> x, VectorView<const T> v,
                      const MomentumAdjoint<T>& adjoint) {
  const bool learns = !adjoint.dgamma.empty();
  launch(adjoint_kernel<T>, dim3(blocks_of(v.size)), dim3(kThreads), 0, context.stream(), gamma, form,
         BranchPointers<T>(branch), x.data, v.data, adjoint.dx.data, adjoint.dv.data, adjoint.dbranch.data,
         learns ? adjoint.scratch.data : nullptr, v.size);
  if (learns) add_to_dgamma(context, gamma, v.size, adjoint);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                     \
  template void prepare_gammas<T>(const Context&, VectorView<const T>, const GammaRange&, VectorView<MomentumGamma>); \
  template void momentum_forward<T>(const Context&, const MomentumGamma*, MomentumForm, const BranchValues<T>&,       \
                                    VectorView<T>, VectorView<T>);                                                    \
  template void momentum_step_back<T>(const Context&, VectorView<const T>, VectorView<T>);                            \
  template void momentum_inverse<T>(const Context&, const MomentumGamma*, MomentumForm, const BranchValues<T>&,       \
                                    VectorView<const T>, VectorView<T>, VectorView<T>);                               \
  template void add_to_dgamma<T>(const Context&, const MomentumGamma*, std::int64_t, const MomentumAdjoint<T>&);      \
  template void momentum_adjoint<T>(const Context&, const MomentumGamma*, MomentumForm, const BranchValues<T>&,       \
                                    VectorView<const T>, VectorView<const T>, const MomentumAdjoint<T>&);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
