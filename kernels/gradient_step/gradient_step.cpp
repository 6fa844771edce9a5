#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/gradient_step/operands.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_GRADIENT_STEP                                                                            \
  template <class T>                                                                                                \
  void extrapolated_residual(const Context& context, const StepDictionary<T>& D, MatrixView<const T> current,       \
                             MatrixView<const T> previous, VectorView<const T> beta, MatrixView<const T> X,         \
                             MatrixView<T> R, VectorView<T> scratch);                                               \
  template <class T>                                                                                                \
  void gradient_step(const Context& context, const StepDictionary<T>& D, MatrixView<const T> R,                     \
                     MatrixView<const T> anchor, MatrixView<const T> current, MatrixView<T> previous,               \
                     VectorView<const T> beta, T step, VectorView<const T> lambda,                                  \
                     VectorView<const std::uint8_t> active, StepPartials<T> partials, PenaltyView<T> penalty);      \
  template <class T>                                                                                                \
  void update_momentum(const Context& context, Momentum rule, StepPartials<const T> partials, VectorView<double> t, \
                       VectorView<T> beta, VectorView<std::int32_t> support);
namespace cpu {
SHRINKWARP_DECLARE_GRADIENT_STEP
}
namespace cuda {
SHRINKWARP_DECLARE_GRADIENT_STEP
}
#undef SHRINKWARP_DECLARE_GRADIENT_STEP

namespace {

template <class T>
OperandLayout operand_layout(const Context& context, std::int64_t rows, std::int64_t cols) {
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::operand_layout<T>(rows, cols);
  }
  return cpu::operand_layout<T>(rows, cols);
}

template <class T>
void pack(const Context& context, MatrixView<const T> D, T* residual_operand, T* correlation_operand) {
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::pack<T>(context, D, residual_operand, correlation_operand);
  }
  cpu::pack<T>(context, D, residual_operand, correlation_operand);
}

template <class T>
void check_dictionary(const Context& context, const char* function, const StepDictionary<T>& D) {
  SHRINKWARP_REQUIRE(D.device() == context.device(), DeviceError, function, ": D lies on ", D.device(), ", wanted ",
                     context.device());
}

}  // namespace

template <class T>
StepDictionary<T>::StepDictionary(const Context& context, MatrixView<const T> D)
    : rows_(D.rows), cols_(D.cols), device_(context.device()) {
  check_matrix(context, "StepDictionary", "D", D, D.rows, D.cols);
  const OperandLayout layout = operand_layout<T>(context, rows_, cols_);
  residual_ld_ = layout.residual_ld;
  correlation_ld_ = layout.correlation_ld;
  residual_operand_ = Tensor<T>(context, layout.residual_elements);
  correlation_operand_ = Tensor<T>(context, layout.correlation_elements);
  if (!D.empty()) pack<T>(context, D, residual_operand_.data(), correlation_operand_.data());
}

std::int64_t step_tiles(const Context& context, std::int64_t atoms) {
  SHRINKWARP_REQUIRE(atoms >= 0, ShapeError, "step_tiles: atoms is ", atoms, ", wanted >= 0");
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::step_tiles(context, atoms);
  }
  return cpu::step_tiles(context, atoms);
}

std::int64_t residual_scratch(const Context& context, std::int64_t rows, std::int64_t atoms, std::int64_t problems) {
  SHRINKWARP_REQUIRE(rows >= 0 && atoms >= 0 && problems >= 0, ShapeError, "residual_scratch: sizes are ", rows, ", ",
                     atoms, " and ", problems, ", wanted >= 0");
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::residual_scratch(context, rows, atoms, problems);
  }
  return 0;
}

template <class T>
void extrapolated_residual(const Context& context, const StepDictionary<T>& D, identity_t<MatrixView<const T>> current,
                           identity_t<MatrixView<const T>> previous, identity_t<VectorView<const T>> beta,
                           identity_t<MatrixView<const T>> X, MatrixView<T> R, VectorView<T> scratch) {
  constexpr const char* kFunction = "extrapolated_residual";
  check_dictionary(context, kFunction, D);
  check_matrix(context, kFunction, "R", R, D.rows(), R.cols);
  check_matrix(context, kFunction, "X", X, D.rows(), R.cols);
  check_matrix(context, kFunction, "current", current, D.cols(), R.cols);
  check_matrix(context, kFunction, "previous", previous, D.cols(), R.cols);
  check_vector(context, kFunction, "beta", beta, R.cols);
  if (R.empty()) return;
  const std::int64_t wanted = residual_scratch(context, D.rows(), D.cols(), R.cols);
  SHRINKWARP_REQUIRE(scratch.size >= wanted, ShapeError, kFunction, ": scratch has ", scratch.size,
                     " elements, wanted at least ", wanted);
  if (wanted > 0) check_vector(context, kFunction, "scratch", scratch, scratch.size);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::extrapolated_residual<T>(context, D, current, previous, beta, X, R, scratch);
  }
  cpu::extrapolated_residual<T>(context, D, current, previous, beta, X, R, scratch);
}

template <class T>
void gradient_step(const Context& context, const StepDictionary<T>& D, identity_t<MatrixView<const T>> R,
                   identity_t<MatrixView<const T>> anchor, identity_t<MatrixView<const T>> current,
                   MatrixView<T> previous, identity_t<VectorView<const T>> beta, T step,
                   identity_t<VectorView<const T>> lambda, VectorView<const std::uint8_t> active,
                   StepPartials<T> partials, PenaltyView<T> penalty) {
  constexpr const char* kFunction = "gradient_step";
  check_dictionary(context, kFunction, D);
  check_step<T>(context, kFunction, D, R, {anchor, current, previous, beta, lambda, step, active, partials, penalty});
  SHRINKWARP_REQUIRE(!penalty.grouped(), ValueError, kFunction, ": penalty.group_size is ", penalty.group_size,
                     ", wanted 1; group_step takes groups");
  check_groups(context, kFunction, penalty, D.cols());
  if (previous.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::gradient_step<T>(context, D, R, anchor, current, previous, beta, step, lambda, active, partials,
                                    penalty);
  }
  cpu::gradient_step<T>(context, D, R, anchor, current, previous, beta, step, lambda, active, partials, penalty);
}

template <class T>
void update_momentum(const Context& context, Momentum rule, StepPartials<const T> partials, VectorView<double> t,
                     VectorView<T> beta, VectorView<std::int32_t> support) {
  constexpr const char* kFunction = "update_momentum";
  const std::int64_t problems = beta.size;
  check_vector(context, kFunction, "beta", beta, problems);
  check_vector(context, kFunction, "t", t, problems);
  check_matrix(context, kFunction, "partials.restart", partials.restart, partials.restart.rows, problems);
  check_matrix(context, kFunction, "partials.support", partials.support, partials.restart.rows, problems);
  if (!support.empty()) check_vector(context, kFunction, "support", support, problems);
  if (problems == 0) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::update_momentum<T>(context, rule, partials, t, beta, support);
  }
  cpu::update_momentum<T>(context, rule, partials, t, beta, support);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                      \
  template class StepDictionary<T>;                                                                                    \
  template void extrapolated_residual<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>,                \
                                         MatrixView<const T>, VectorView<const T>, MatrixView<const T>, MatrixView<T>, \
                                         VectorView<T>);                                                               \
  template void gradient_step<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>, MatrixView<const T>,   \
                                 MatrixView<const T>, MatrixView<T>, VectorView<const T>, T, VectorView<const T>,      \
                                 VectorView<const std::uint8_t>, StepPartials<T>, PenaltyView<T>);                     \
  template void update_momentum<T>(const Context&, Momentum, StepPartials<const T>, VectorView<double>, VectorView<T>, \
                                   VectorView<std::int32_t>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
