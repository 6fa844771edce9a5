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
  SHRINKWARP_REQUIRE(step > T(0), ValueError, kFunction, ": step is ", step, ", wanted > 0");
  SHRINKWARP_REQUIRE(!penalty.nonnegative, ValueError, kFunction,
                     ": the penalty is nonnegative, wanted codes of any sign");
  SHRINKWARP_REQUIRE(D.device() == context.device(), DeviceError, kFunction, ": D lies on ", D.device(), ", wanted ",
                     context.device());
  const std::int64_t problems = previous.cols;
  const std::int64_t tiles = step_tiles(context, D.cols());
  check_groups(context, kFunction, penalty, D.cols());
  check_matrix(context, kFunction, "previous", previous, D.cols(), problems);
  check_matrix(context, kFunction, "current", current, D.cols(), problems);
  check_matrix(context, kFunction, "moved", moved, D.cols(), problems);
  if (!anchor.empty()) check_matrix(context, kFunction, "anchor", anchor, D.cols(), problems);
  check_matrix(context, kFunction, "R", R, D.rows(), problems);
  check_vector(context, kFunction, "beta", beta, problems);
  check_vector(context, kFunction, "lambda", lambda, problems);
  if (!active.empty()) check_vector(context, kFunction, "active", active, problems);
  check_matrix(context, kFunction, "partials.restart", partials.restart, tiles, problems);
  check_matrix(context, kFunction, "partials.support", partials.support, tiles, problems);
  if (previous.empty()) return;
  const GroupShrinkage<T> shrinkage{anchor, current, previous, beta, lambda, step, active, partials, penalty};
  if (context.select_cuda()) {
    if constexpr (kHasCuda) {
      cuda::extrapolated_step<T>(context, D, R, current, previous, beta, step, moved);
      return cuda::shrink_groups<T>(context, moved, shrinkage);
    }
  }
  cpu::extrapolated_step<T>(context, D, R, current, previous, beta, step, moved);
  cpu::shrink_groups<T>(context, moved, shrinkage);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                 \
  template void group_step<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>, MatrixView<const T>, \
                              MatrixView<const T>, MatrixView<T>, VectorView<const T>, T, VectorView<const T>,    \
                              VectorView<const std::uint8_t>, StepPartials<T>, PenaltyView<T>, MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
