// CUDA body of optimizer: elementwise updates, 16 bytes of each array a thread and turn, and a sum of squares in two stages.
//
// Story: memory bound. A float element costs 12 bytes without momentum, 20 with it, 28 in Adam, and of the norm 4; Adam's
// root and quotient are some 40 instructions, an H200 could do 170 in the time of 28 bytes at 4.8 TB/s. On paper, float:
//   P = 1e8   squared_norm 83 us, sgd_step 250 us, with momentum 417 us, adam_step 583 us
//   P = 1e6   1, 3, 4 and 6 us, near what a launch takes: a network of that size wants its step in a graph
// All threads read the same few doubles of the schedule first: one trip to L2, which the first loads of a grid wait for.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/optimizer/update.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlocksPerMultiprocessor = 8;  // no more can run at once; the stride loop does the rest

/// Elements in 16 bytes.
template <class T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));

/// use(i, width) for elements [i, i + width) until all `size` are done: kCount at once, then what is left over.
template <int kCount, class Use>
__device__ __forceinline__ void walk_vector(std::int64_t size, const Use& use) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t group = thread; group < size / kCount; group += stride) use(group * kCount, Width<kCount>());
  if (kCount > 1 && thread < size % kCount) use(size - size % kCount + thread, Width<1>());
}

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    sgd_kernel(const T* grad, SgdOptions options, const double* schedule, T* parameters, std::int64_t size) {
  if (is_skipped(schedule)) return;
  const SgdConstants<T> constants(options, schedule);
  walk_vector<kCount>(size, [&](std::int64_t i, auto width) {
    const auto g = load_lanes<width.value>(grad + i);
    auto p = load_lanes<width.value>(parameters + i);
#pragma unroll
    for (int k = 0; k < width.value; ++k) descend(constants, g.value[k], p.value[k]);
    store_lanes<width.value>(parameters + i, p);
  });
}

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads) momentum_kernel(const T* grad, SgdOptions options, const double* schedule,
                                                            T* velocity, T* parameters, std::int64_t size) {
  if (is_skipped(schedule)) return;
  const SgdConstants<T> constants(options, schedule);
  walk_vector<kCount>(size, [&](std::int64_t i, auto width) {
    const auto g = load_lanes<width.value>(grad + i);
    auto v = load_lanes<width.value>(velocity + i);
    auto p = load_lanes<width.value>(parameters + i);
#pragma unroll
    for (int k = 0; k < width.value; ++k) descend(constants, g.value[k], v.value[k], p.value[k]);
    store_lanes<width.value>(velocity + i, v);
    store_lanes<width.value>(parameters + i, p);
  });
}

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads) adam_kernel(const T* grad, AdamOptions options, const double* schedule,
                                                        T* first, T* second, T* parameters, std::int64_t size) {
  if (is_skipped(schedule)) return;
  const AdamConstants<T> constants(options, schedule);
  walk_vector<kCount>(size, [&](std::int64_t i, auto width) {
    const auto g = load_lanes<width.value>(grad + i);
    auto m = load_lanes<width.value>(first + i);
    auto v = load_lanes<width.value>(second + i);
    auto p = load_lanes<width.value>(parameters + i);
#pragma unroll
    for (int k = 0; k < width.value; ++k) descend(constants, g.value[k], m.value[k], v.value[k], p.value[k]);
    store_lanes<width.value>(first + i, m);
    store_lanes<width.value>(second + i, v);
    store_lanes<width.value>(parameters + i, p);
  });
}

/// The squares of a piece of the gradient, a block a piece. Which thread adds which elements in which order does not depend on
/// kCount, how they are loaded.
template <class T, int kCount>
__global__ void __launch_bounds__(kThreads) squared_norm_kernel(const T* grad, std::int64_t size, double* sums) {
  constexpr int kTurn = kThreads * kWide<T>;
  constexpr int kTurns = static_cast<int>(kNormPiece) / kTurn;
  static_assert(kTurns * kTurn == kNormPiece, "a piece is whole turns");
  const std::int64_t begin = blockIdx.x * kNormPiece;
  const int count = static_cast<int>(size - begin < kNormPiece ? size - begin : kNormPiece);
  const T* const g = grad + begin;
  Lanes<T, kWide<T>> loaded[kTurns];
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int first = turn * kTurn + static_cast<int>(threadIdx.x) * kWide<T>;
    if (kCount == kWide<T> && first + kWide<T> <= count) {
      loaded[turn] = load_lanes<kWide<T>>(g + first);
    } else {
#pragma unroll
      for (int k = 0; k < kWide<T>; ++k) loaded[turn].value[k] = first + k < count ? g[first + k] : T(0);
    }
  }
  double sum = 0;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
    for (int k = 0; k < kWide<T>; ++k) {
      const auto element = static_cast<double>(loaded[turn].value[k]);
      sum = std::fma(element, element, sum);
    }
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/// The sum of the pieces, by one block.
__global__ void __launch_bounds__(kThreads) add_pieces_kernel(const double* sums, std::int64_t count, double* result) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += sums[i];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) *result = sum;
}

__global__ void advance_kernel(const double* rates, std::int64_t rate_count, const double* square, double limit,
                               AdamOptions adam, double* schedule) {
  if (threadIdx.x == 0) advance(rates, rate_count, square, limit, adam, schedule);
}

/// Whether all start at a multiple of 16 bytes.
template <class... T>
bool all_aligned16(const T*... data) {
  return ((reinterpret_cast<std::uintptr_t>(data) % 16 == 0) && ...);
}

template <class T>
dim3 update_grid(const Context& context, std::int64_t size, bool wide) {
  const std::int64_t block = kThreads * (wide ? kWide<T> : 1);
  return dim3(static_cast<unsigned>(
      std::min((size + block - 1) / block, kBlocksPerMultiprocessor * context.multiprocessors())));
}

}  // namespace

template <class T>
void squared_norm(const Context& context, VectorView<const T> grad, VectorView<double> scratch,
                  VectorView<double> result) {
  const std::int64_t pieces = norm_scratch(grad.size);
  launch(all_aligned16(grad.data) ? squared_norm_kernel<T, kWide<T>> : squared_norm_kernel<T, 1>,
         dim3(static_cast<unsigned>(pieces)), dim3(kThreads), 0, context.stream(), grad.data, grad.size, scratch.data);
  launch(add_pieces_kernel, dim3(1), dim3(kThreads), 0, context.stream(), scratch.data, pieces, result.data);
}

void advance_schedule(const Context& context, VectorView<const double> rates, VectorView<const double> square,
                      double limit, const AdamOptions& adam, VectorView<double> schedule) {
  launch(advance_kernel, dim3(1), dim3(kWarpSize), 0, context.stream(), rates.data, rates.size,
         square.empty() ? nullptr : square.data, limit, adam, schedule.data);
}

template <class T>
void sgd_step(const Context& context, VectorView<const T> grad, const SgdOptions& options,
              VectorView<const double> schedule, VectorView<T> velocity, VectorView<T> parameters) {
  const std::int64_t size = parameters.size;
  if (velocity.empty()) {
    const bool wide = all_aligned16(grad.data, parameters.data);
    launch(wide ? sgd_kernel<T, kWide<T>> : sgd_kernel<T, 1>, update_grid<T>(context, size, wide), dim3(kThreads), 0,
           context.stream(), grad.data, options, schedule.data, parameters.data, size);
    return;
  }
  const bool wide = all_aligned16(grad.data, velocity.data, parameters.data);
  launch(wide ? momentum_kernel<T, kWide<T>> : momentum_kernel<T, 1>, update_grid<T>(context, size, wide),
         dim3(kThreads), 0, context.stream(), grad.data, options, schedule.data, velocity.data, parameters.data, size);
}

template <class T>
void adam_step(const Context& context, VectorView<const T> grad, const AdamOptions& options,
               VectorView<const double> schedule, VectorView<T> first, VectorView<T> second, VectorView<T> parameters) {
  const std::int64_t size = parameters.size;
  const bool wide = all_aligned16(grad.data, first.data, second.data, parameters.data);
  launch(wide ? adam_kernel<T, kWide<T>> : adam_kernel<T, 1>, update_grid<T>(context, size, wide), dim3(kThreads), 0,
         context.stream(), grad.data, options, schedule.data, first.data, second.data, parameters.data, size);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                               \
  template void squared_norm<T>(const Context&, VectorView<const T>, VectorView<double>, VectorView<double>);   \
  template void sgd_step<T>(const Context&, VectorView<const T>, const SgdOptions&, VectorView<const double>,   \
                            VectorView<T>, VectorView<T>);                                                      \
  template void adam_step<T>(const Context&, VectorView<const T>, const AdamOptions&, VectorView<const double>, \
                             VectorView<T>, VectorView<T>, VectorView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
