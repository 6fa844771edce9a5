// CUDA body of the second pass of group_step: a block a tile of one column. The norms of the groups that lie in the tile,
// be it in part, are summed in an order that depends on the group alone, so that all its tiles shrink it alike; then the
// tile is shrunk, a thread an atom.
//
// Story, medium lead field (m 6138, groups of 3, float), N problems, on an H100 (3.0 TB/s, L2 5.5 TB/s; on paper, not
// measured): moved, anchor, current and previous read and previous written, 123 KB a problem: 11 us at N = 512 from L2,
// 330 us at 8192. A block is 43 groups in 2 rounds of 32, some 150 instructions a thread: 260 us of issue slots at 8192.
#include <cmath>
#include <cstdint>
#include <limits>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/group.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/gradient_step/operands.hpp>

namespace shrinkwarp::cuda {
namespace {

/// The smallest normal number.
template <class T>
constexpr T kSmallest = std::numeric_limits<T>::min();

template <class T>
struct ShrinkArguments {
  unsigned tiles;               // of a column
  MatrixView<const T> moved;    // [m, N]
  MatrixView<const T> anchor;   // [m, N], looked at where `anchored`
  MatrixView<const T> current;  // [m, N]
  MatrixView<T> previous;       // [m, N]
  const T* beta;                // [N]
  const T* lambda;              // [N]
  const std::uint8_t* active;   // [N] or null
  T step;
  bool anchored;
  StepPartials<T> partials;  // [tiles, N]
  const T* weights;          // [m / group_size] or null
  int group_size;
  T keep, pull;
};

template <class T>
__global__ void __launch_bounds__(kStepAtoms) shrink_groups_kernel(ShrinkArguments<T> args) {
  SHRINKWARP_SHARED_ARRAY(T, shares, kStepAtoms / 2 + 2);
  const int size = args.group_size;
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t col = blockIdx.x / args.tiles;
  const unsigned tile = blockIdx.x % args.tiles;
  const int row0 = static_cast<int>(tile) * kStepAtoms;  // m is under 2^31
  const int rows = clip(args.previous.rows - row0, kStepAtoms);
  const int first = row0 / size;
  const int groups = (row0 + rows - 1) / size - first + 1;
  const T* const moved = args.moved.data + col * args.moved.ld;
  const T* const anchor = args.anchor.data + col * args.anchor.ld;
  const bool moves = args.active == nullptr || args.active[col] != 0;
  // Not 0, so that an infinite weight leaves its group out where lambda is 0.
  const T threshold = args.step * args.lambda[col];
  const T least = threshold > kSmallest<T> ? threshold : kSmallest<T>;

  const int lanes = group_lanes(size);
  const int lane = thread % lanes;
  for (int start = 0; start < groups; start += kStepAtoms / lanes) {
    const int group = start + thread / lanes;
    double squares = 0;
    if (moves && group < groups) {
      const std::int64_t begin = static_cast<std::int64_t>(first + group) * size;
#pragma unroll 2
      for (int i = lane; i < size; i += lanes) {
        const T u = args.anchored ? anchor[begin + i] + moved[begin + i] : moved[begin + i];
        squares = std::fma(static_cast<double>(u), static_cast<double>(u), squares);
      }
    }
    squares = group_sum(squares, lanes);
    if (lane == 0 && group < groups) {
      const T weight = args.weights != nullptr ? args.weights[first + group] : T(1);
      shares[group] = group_share(std::sqrt(squares), least * weight);
    }
  }
  __syncthreads();  // all shares are there

  T restart = 0;
  int support = 0;
  if (thread < rows) {
    const std::int64_t row = row0 + thread;
    const T z = args.current.data[row + col * args.current.ld];
    const T origin = args.anchored ? anchor[row] : T(0);
    T* const previous = args.previous.data + row + col * args.previous.ld;
    T next = z;
    if (moves) {
      const T beta = args.beta[col];
      const T y = extrapolate(z, beta != T(0) ? *previous : T(0), beta);
      const T share = shares[(row0 + thread) / size - first];
      // Never -0, as in gradient_step.
      next = anchored_group_shrinkage(origin, moved[row], share, args.keep, args.pull) + T(0);
      restart = (y - next) * (next - z);
    }
    *previous = next;
    support = next != -origin ? 1 : 0;
  }
  restart = block_sum<kStepAtoms>(restart);
  support = block_sum<kStepAtoms>(support);
  if (thread != 0) return;
  args.partials.restart.data[tile + col * args.partials.restart.ld] = restart;
  args.partials.support.data[tile + col * args.partials.support.ld] = support;
}

}  // namespace

template <class T>
void shrink_groups(const Context& context, MatrixView<const T> moved, const StepInputs<T>& arguments) {
  const MatrixView<T> previous = arguments.previous;
  if (previous.empty()) return;
  const double pull = static_cast<double>(arguments.step) * arguments.penalty.ridge;
  const std::int64_t tiles = ceil_div(previous.rows, kStepAtoms);
  const ShrinkArguments<T> args{static_cast<unsigned>(tiles),
                                moved,
                                arguments.anchor.empty() ? moved : arguments.anchor,
                                arguments.current,
                                previous,
                                arguments.beta.data,
                                arguments.lambda.data,
                                arguments.active.empty() ? nullptr : arguments.active.data,
                                arguments.step,
                                !arguments.anchor.empty(),
                                arguments.partials,
                                arguments.penalty.weights.empty() ? nullptr : arguments.penalty.weights.data,
                                static_cast<int>(arguments.penalty.group_size),
                                static_cast<T>(1 / (1 + pull)),
                                static_cast<T>(pull / (1 + pull))};
  launch(shrink_groups_kernel<T>, dim3(grid_size(tiles * previous.cols, "group_step")), dim3(kStepAtoms), 0,
         context.stream(), args);
}

#define SHRINKWARP_INSTANTIATE(T) \
  template void shrink_groups<T>(const Context&, MatrixView<const T>, const StepInputs<T>&);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
