#include <shrinkwarp/kernels/gradient_step/group_step.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/gradient_step/operands.hpp>

namespace shrinkwarp {

template <class T>
void group_step(const Context& context, const StepDictionary<T>& D, identity_t<MatrixView<const T>> R,
                identity_t<MatrixView<const T>> anchor, identity_t<MatrixView<const T>> current, MatrixView<T> previous,
                identity_t<VectorView<const T>> beta, T step, identity_t<VectorView<const T>> lambda,
                VectorView<const std::uint8_t> active, StepPartials<T> partials, PenaltyView<T> penalty,
                MatrixView<T> moved) {
  constexpr const char* kFunction = "group_step";
  SHRINKWARP_REQUIRE(!penalty.nonnegative, ValueError, kFunction,
                     ": the penalty is nonnegative, wanted codes of any sign");
  SHRINKWARP_REQUIRE(D.device() == context.device(), DeviceError, kFunction, ": D lies on ", D.device(), ", wanted ",
                     context.device());
  check_groups(context, kFunction, penalty, D.cols());
  const StepInputs<T> inputs{anchor, current, previous, beta, lambda, step, active, partials, penalty};
  check_step<T>(context, kFunction, D, R, inputs);
  check_matrix(context, kFunction, "moved", moved, D.cols(), previous.cols);
  if (previous.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) {
      cuda::extrapolated_step<T>(context, D, R, current, previous, beta, step, moved);
      return cuda::shrink_groups<T>(context, moved, inputs);
    }
  }
  cpu::extrapolated_step<T>(context, D, R, current, previous, beta, step, moved);
  cpu::shrink_groups<T>(context, moved, inputs);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                 \
  template void group_step<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>, MatrixView<const T>, \
                              MatrixView<const T>, MatrixView<T>, VectorView<const T>, T, VectorView<const T>,    \
                              VectorView<const std::uint8_t>, StepPartials<T>, PenaltyView<T>, MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
