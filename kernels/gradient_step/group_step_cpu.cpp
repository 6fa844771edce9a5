// CPU body of the second pass of group_step: column by column, tile by tile.
#include <algorithm>
#include <cmath>
#include <limits>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/gradient_step/operands.hpp>

namespace shrinkwarp::cpu {
namespace {

// Sums run in eight interleaved lanes that are added in a fixed order: the same bits whatever the vector width.
constexpr int kGroupLanes = 8;

template <class T>
T add_lanes(const T* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/// What a column's step needs beside its data; see anchored_group_shrinkage.
template <class T>
struct ColumnStep {
  T beta, threshold, keep, pull;
  const T* weights;  // or nullptr
  std::int64_t size;
};

#define SHRINKWARP_GROUP_LOOPS(T)                                                                                      \
  /* Sum of squares of u = anchor + moved over a group that begins with atom j. */                                     \
  SHRINKWARP_CPU_CLONES double squares_of(const T* anchor, const T* moved, std::int64_t j, std::int64_t size) {        \
    double lane[kGroupLanes] = {};                                                                                     \
    const auto add = [&](int k, std::int64_t i) {                                                                      \
      const T u = anchor ? anchor[i] + moved[i] : moved[i];                                                            \
      lane[k] += static_cast<double>(u) * static_cast<double>(u);                                                      \
    };                                                                                                                 \
    std::int64_t i = 0;                                                                                                \
    for (; i + kGroupLanes <= size; i += kGroupLanes)                                                                  \
      for (int k = 0; k < kGroupLanes; ++k) add(k, j + i + k);                                                         \
    for (int k = 0; i < size; ++i, ++k) add(k, j + i);                                                                 \
    return add_lanes(lane);                                                                                            \
  }                                                                                                                    \
  /* The same of `count` groups of three. */                                                                           \
  SHRINKWARP_CPU_CLONES void squares_of_threes(const T* anchor, const T* moved, std::int64_t j, std::int64_t count,    \
                                               double* squares) {                                                      \
    for (std::int64_t g = 0; g < count; ++g) {                                                                         \
      double sum = 0;                                                                                                  \
      for (std::int64_t i = j + 3 * g; i < j + 3 * g + 3; ++i) {                                                       \
        const T u = anchor ? anchor[i] + moved[i] : moved[i];                                                          \
        sum += static_cast<double>(u) * static_cast<double>(u);                                                        \
      }                                                                                                                \
      squares[g] = sum;                                                                                                \
    }                                                                                                                  \
  }                                                                                                                    \
  /* The shares of `count` groups from `first` on. */                                                                  \
  SHRINKWARP_CPU_CLONES void shares_of(const double* squares, std::int64_t first, std::int64_t count,                  \
                                       const ColumnStep<T>& step, T* shares) {                                         \
    if (step.weights) {                                                                                                \
      for (std::int64_t g = 0; g < count; ++g)                                                                         \
        shares[g] = group_share(std::sqrt(squares[g]), step.threshold * step.weights[first + g]);                      \
    } else {                                                                                                           \
      for (std::int64_t g = 0; g < count; ++g) shares[g] = group_share(std::sqrt(squares[g]), step.threshold);         \
    }                                                                                                                  \
  }                                                                                                                    \
  /* A tile whose entries' shares are known. Returns the sum of the restart test; `support` is its nonzeros. */        \
  SHRINKWARP_CPU_CLONES T shrink_tile(const T* anchor, const T* moved, const T* current, T* previous, const T* shares, \
                                      std::int64_t count, const ColumnStep<T>& step, std::int32_t& support) {          \
    T lane[kGroupLanes] = {};                                                                                          \
    std::int32_t nonzeros[kGroupLanes] = {};                                                                           \
    T origin[kTileAtoms], y[kTileAtoms]; /* so that the loop that works has no branch */                               \
    if (anchor)                                                                                                        \
      std::copy_n(anchor, count, origin);                                                                              \
    else                                                                                                               \
      std::fill_n(origin, count, T(0));                                                                                \
    std::copy_n(current, count, y);                                                                                    \
    if (step.beta != T(0))                                                                                             \
      for (std::int64_t j = 0; j < count; ++j) y[j] += step.beta * (y[j] - previous[j]);                               \
    const auto shrink = [&](int k, std::int64_t i) {                                                                   \
      const T next = anchored_group_shrinkage(origin[i], moved[i], shares[i], step.keep, step.pull) + T(0);            \
      lane[k] += (y[i] - next) * (next - current[i]);                                                                  \
      nonzeros[k] += next != -origin[i] ? 1 : 0;                                                                       \
      previous[i] = next;                                                                                              \
    };                                                                                                                 \
    std::int64_t i = 0;                                                                                                \
    for (; i + kGroupLanes <= count; i += kGroupLanes)                                                                 \
      for (int k = 0; k < kGroupLanes; ++k) shrink(k, i + k);                                                          \
    for (int k = 0; i < count; ++i, ++k) shrink(k, i);                                                                 \
    support = 0;                                                                                                       \
    for (const std::int32_t found : nonzeros) support += found;                                                        \
    return add_lanes(lane);                                                                                            \
  }
SHRINKWARP_GROUP_LOOPS(float)
SHRINKWARP_GROUP_LOOPS(double)
#undef SHRINKWARP_GROUP_LOOPS

/// The column stays as it is: previous <- current. Returns the tile's nonzeros.
template <class T>
std::int32_t keep_tile(const T* anchor, const T* current, T* previous, std::int64_t count) {
  std::int32_t support = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    previous[i] = current[i];
    support += current[i] != (anchor ? -anchor[i] : T(0)) ? 1 : 0;
  }
  return support;
}

}  // namespace

template <class T>
void shrink_groups(const Context& context, MatrixView<const T> moved, const StepInputs<T>& arguments) {
  const std::int64_t atoms = moved.rows;
  const std::int64_t size = arguments.penalty.group_size;
  const double pull = static_cast<double>(arguments.step) * arguments.penalty.ridge;
  const std::int64_t block =
      std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(atoms, 1));  // columns worth a task
  const std::int64_t tasks = (moved.cols + block - 1) / block;
  context.parallel_for(tasks, [&](std::int64_t task, int) {
    T shares[kTileAtoms], group_shares[kTileAtoms];  // of atoms and of groups
    double squares[kTileAtoms];
    for (std::int64_t b = task * block; b < std::min(moved.cols, (task + 1) * block); ++b) {
      const bool moves = arguments.active.empty() || arguments.active[b] != 0;
      // Not 0, so that an infinite weight leaves its group out where lambda is 0.
      const T threshold = std::max(arguments.step * arguments.lambda[b], std::numeric_limits<T>::min());
      const ColumnStep<T> step{arguments.beta[b],
                               threshold,
                               static_cast<T>(1 / (1 + pull)),
                               static_cast<T>(pull / (1 + pull)),
                               arguments.penalty.weights.empty() ? nullptr : arguments.penalty.weights.data,
                               size};
      const T* const anchor = arguments.anchor.empty() ? nullptr : arguments.anchor.column(b);
      T share = 0;  // of the group that the last tile ended in
      for (std::int64_t first = 0, tile = 0; first < atoms; first += kTileAtoms, ++tile) {
        const std::int64_t count = std::min(kTileAtoms, atoms - first);
        const T* const origin = anchor ? anchor + first : nullptr;
        T& restart = arguments.partials.restart(tile, b);
        std::int32_t& support = arguments.partials.support(tile, b);
        if (!moves) {
          support = keep_tile(origin, arguments.current.column(b) + first, arguments.previous.column(b) + first, count);
          restart = T(0);
          continue;
        }
        // The groups that begin in the tile; the rest of the one before has its share.
        const std::int64_t begins = (first + size - 1) / size;
        const std::int64_t groups = std::max<std::int64_t>(0, (first + count - 1) / size + 1 - begins);
        if (size == 3) {
          squares_of_threes(anchor, moved.column(b), 3 * begins, groups, squares);
        } else {
          for (std::int64_t g = 0; g < groups; ++g)
            squares[g] = squares_of(anchor, moved.column(b), (begins + g) * size, size);
        }
        shares_of(squares, begins, groups, step, group_shares);
        std::int64_t i = std::min(count, begins * size - first);
        std::fill_n(shares, i, share);
        for (std::int64_t g = 0; g < groups; ++g) {
          share = group_shares[g];
          const std::int64_t end = std::min(count, i + size);
          for (; i < end; ++i) shares[i] = share;
        }
        restart = shrink_tile(origin, moved.column(b) + first, arguments.current.column(b) + first,
                              arguments.previous.column(b) + first, shares, count, step, support);
      }
    }
  });
}

#define SHRINKWARP_INSTANTIATE(T) \
  template void shrink_groups<T>(const Context&, MatrixView<const T>, const StepInputs<T>&);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
