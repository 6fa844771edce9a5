#include <algorithm>
#include <cmath>

#include <shrinkwarp/kernels/common/highway_targets.hpp>
#include <shrinkwarp/kernels/gradient_step/operands.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/gradient_step/gradient_step_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/gradient_step/gradient_step_cpu_simd.hpp>

namespace shrinkwarp::cpu {
namespace {

HWY_EXPORT(KernelsF32);
HWY_EXPORT(KernelsF64);

/// The loops for this processor: the same for the life of the process, so that packed panels keep their meaning.
template <class T>
const Kernels<T>& kernels() {
  if constexpr (sizeof(T) == 4) {
    static const Kernels<T> chosen = HWY_DYNAMIC_DISPATCH(KernelsF32)();
    return chosen;
  } else {
    static const Kernels<T> chosen = HWY_DYNAMIC_DISPATCH(KernelsF64)();
    return chosen;
  }
}

}  // namespace

template <class T>
OperandLayout operand_layout(std::int64_t rows, std::int64_t cols) {
  const std::int64_t lanes = kernels<T>().shape.lanes;
  const std::int64_t residual_ld = round_up(rows, lanes);
  const std::int64_t correlation_ld = round_up(cols, lanes);
  return {residual_ld, residual_ld * cols, correlation_ld, correlation_ld * rows};
}

template <class T>
void pack(const Context& context, MatrixView<const T> D, T* residual_operand, T* correlation_operand) {
  pack_panels(context, kernels<T>().shape, D.rows, D.cols, residual_operand,
              [&](std::int64_t i, std::int64_t j) { return D(i, j); });
  pack_panels(context, kernels<T>().shape, D.cols, D.rows, correlation_operand,
              [&](std::int64_t j, std::int64_t i) { return D(i, j); });
}

std::int64_t step_tiles(const Context&, std::int64_t atoms) {
  return divide_up(atoms, kTileAtoms);
}

template <class T>
void extrapolated_residual(const Context& context, const StepDictionary<T>& D, MatrixView<const T> current,
                           MatrixView<const T> previous, VectorView<const T> beta, MatrixView<const T> X,
                           MatrixView<T> R, VectorView<T>) {
  const Kernels<T>& loops = kernels<T>();
  const std::int64_t vectors = divide_up(D.rows(), loops.shape.lanes);
  // Columns first: tasks that share columns would each form their Y.
  const std::int64_t wanted = std::min<std::int64_t>(context.threads(), affordable_tasks(D.rows(), D.cols(), R.cols));
  Split cut;
  split_columns(cut, R.cols, loops.shape.columns, wanted);
  split_rows(cut, vectors, divide_up(wanted, cut.blocks));
  context.parallel_for(cut.blocks * cut.ranges, [&](std::int64_t i, int) {
    ResidualTask<T> task{D.residual_operand(), D.cols(), current, previous, X, beta, R};
    task.first_column = i / cut.ranges * cut.block_columns;
    task.last_column = std::min(R.cols, task.first_column + cut.block_columns);
    task.first_vector = i % cut.ranges * cut.range_units;
    task.last_vector = std::min(vectors, task.first_vector + cut.range_units);
    task.scratch = thread_scratch<T>(loops.residual_scratch((task.last_vector - task.first_vector) * loops.shape.lanes,
                                                            task.last_column - task.first_column));
    loops.residual(task);
  });
}

namespace {

/// Shares the product D'R and its epilogue out; `whole` says all but which part is whose.
template <class T>
void share_step(const Context& context, std::int64_t rows, std::int64_t atoms, const StepTask<T>& whole) {
  const Kernels<T>& loops = kernels<T>();
  const std::int64_t tiles = cpu::step_tiles(context, atoms);
  const std::int64_t columns = whole.R.cols;
  // Atoms first: a task then finds its part of D' in its own cache. More tasks than threads even the load out.
  const std::int64_t wanted = context.threads() == 1 ? 1
                                                     : std::min<std::int64_t>(3 * std::int64_t{context.threads()},
                                                                              affordable_tasks(rows, atoms, columns));
  Split cut;
  split_rows(cut, tiles, divide_up(wanted, divide_up(columns, kBlockColumns)));
  split_columns(cut, columns, loops.shape.columns, divide_up(wanted, cut.ranges));
  context.parallel_for(cut.blocks * cut.ranges, [&](std::int64_t i, int) {
    StepTask<T> task = whole;
    task.first_column = i / cut.ranges * cut.block_columns;
    task.last_column = std::min(columns, task.first_column + cut.block_columns);
    task.first_tile = i % cut.ranges * cut.range_units;
    task.last_tile = std::min(tiles, task.first_tile + cut.range_units);
    task.scratch = thread_scratch<T>(loops.step_scratch(rows, task.last_column - task.first_column));
    loops.step(task);
  });
}

}  // namespace

template <class T>
void gradient_step(const Context& context, const StepDictionary<T>& D, MatrixView<const T> R,
                   MatrixView<const T> anchor, MatrixView<const T> current, MatrixView<T> previous,
                   VectorView<const T> beta, T step, VectorView<const T> lambda, VectorView<const std::uint8_t> active,
                   StepPartials<T> partials, PenaltyView<T> penalty) {
  StepTask<T> task{
      D.correlation_operand(), R, anchor, current, previous, previous, true, beta, lambda, step, active, partials};
  task.penalty = penalty;
  share_step(context, D.rows(), D.cols(), task);
}

template <class T>
void extrapolated_step(const Context& context, const StepDictionary<T>& D, MatrixView<const T> R,
                       MatrixView<const T> current, MatrixView<const T> previous, VectorView<const T> beta, T step,
                       MatrixView<T> moved) {
  const StepTask<T> task{D.correlation_operand(), R, {}, current, previous, moved, false, beta, {}, step, {}, {}};
  share_step(context, D.rows(), D.cols(), task);
}

template <class T>
void update_momentum(const Context& context, Momentum rule, StepPartials<const T> partials, VectorView<double> t,
                     VectorView<T> beta, VectorView<std::int32_t> support) {
  const std::int64_t tiles = partials.restart.rows;
  const std::int64_t block = divide_up(65536, std::max<std::int64_t>(tiles, 1));  // columns worth a task
  context.parallel_for(divide_up(beta.size, block), [&](std::int64_t task, int) {
    for (std::int64_t b = task * block; b < std::min(beta.size, (task + 1) * block); ++b) {
      double restart = 0;
      std::int32_t nonzeros = 0;
      for (std::int64_t tile = 0; tile < tiles; ++tile) {
        restart += static_cast<double>(partials.restart(tile, b));
        nonzeros += partials.support(tile, b);
      }
      if (!support.empty()) support[b] = nonzeros;
      if (rule == Momentum::none) {
        beta[b] = T(0);
      } else if (rule == Momentum::fista_restart && restart > 0) {
        t[b] = 1;
        beta[b] = T(0);
      } else {
        const double next = (1 + std::sqrt(1 + 4 * t[b] * t[b])) / 2;
        beta[b] = static_cast<T>((t[b] - 1) / next);
        t[b] = next;
      }
    }
  });
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                      \
  template OperandLayout operand_layout<T>(std::int64_t, std::int64_t);                                                \
  template void pack<T>(const Context&, MatrixView<const T>, T*, T*);                                                  \
  template void extrapolated_residual<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>,                \
                                         MatrixView<const T>, VectorView<const T>, MatrixView<const T>, MatrixView<T>, \
                                         VectorView<T>);                                                               \
  template void gradient_step<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>, MatrixView<const T>,   \
                                 MatrixView<const T>, MatrixView<T>, VectorView<const T>, T, VectorView<const T>,      \
                                 VectorView<const std::uint8_t>, StepPartials<T>, PenaltyView<T>);                     \
  template void extrapolated_step<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>,                    \
                                     MatrixView<const T>, MatrixView<const T>, VectorView<const T>, T, MatrixView<T>); \
  template void update_momentum<T>(const Context&, Momentum, StepPartials<const T>, VectorView<double>, VectorView<T>, \
                                   VectorView<std::int32_t>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
