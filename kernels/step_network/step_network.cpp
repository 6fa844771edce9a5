#include <shrinkwarp/kernels/step_network/step_network.hpp>

#include <algorithm>
#include <cmath>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/step_network/bodies.hpp>

namespace shrinkwarp {
namespace {

template <class T>
Tensor<T> copy_of(const Context& context, MatrixView<const T> A) {
  Tensor<T> result(context, A.rows, A.cols);
  copy<T>(context, A, result.matrix());
  return result;
}

template <class T>
void check_network(const Context& context, const char* function, const StepNetwork<T>& network) {
  SHRINKWARP_REQUIRE(network.operands.device() == context.device(), DeviceError, function, ": the operands lie on ",
                     network.operands.device(), ", wanted ", context.device());
  SHRINKWARP_REQUIRE(network.steps.size >= 1, ShapeError, function, ": found no steps, wanted at least one layer");
  check_vector(context, function, "steps", network.steps, network.steps.size);
  if (!network.thresholds.empty())
    check_vector(context, function, "thresholds", network.thresholds, network.steps.size);
  const SupportSelection& selection = network.selection;
  SHRINKWARP_REQUIRE(selection.percent_a_layer >= 0 && std::isfinite(selection.percent_a_layer), ValueError, function,
                     ": percent_a_layer is ", selection.percent_a_layer, ", wanted a number >= 0");
  SHRINKWARP_REQUIRE(selection.most_percent >= 0 && selection.most_percent <= 100, ValueError, function,
                     ": most_percent is ", selection.most_percent, ", wanted 0 to 100");
}

template <class T>
void check_problems(const Context& context, const char* function, const StepNetwork<T>& network, MatrixView<const T> X,
                    VectorView<const T> lambda, VectorView<std::byte> scratch, bool gradient) {
  check_network(context, function, network);
  check_matrix(context, function, "X", X, network.operands.rows(), X.cols);
  check_vector(context, function, "lambda", lambda, X.cols);
  const std::int64_t wanted = step_network_scratch(context, network, X.cols, gradient);
  SHRINKWARP_REQUIRE(scratch.size >= wanted, ShapeError, function, ": scratch has ", scratch.size,
                     " bytes, wanted at least ", wanted);
  if (wanted > 0) check_vector(context, function, "scratch", scratch, scratch.size);
}

/// W'D where the CPU wants it.
template <class T>
Tensor<T> gram_of(const Context& context, MatrixView<const T> W, MatrixView<const T> D, std::int64_t most) {
  if (context.is_cuda() || D.cols > most) return {};
  Tensor<T> gram(context, D.cols, D.cols);
  // On one thread: the BLAS's bits depend on how a product is shared out.
  gemm<T>(Context::cpu(1), Transpose::yes, Transpose::no, T(1), W, D, T(0), gram.matrix());
  return gram;
}

}  // namespace

template <class T>
StepNetworkOperands<T>::StepNetworkOperands(const Context& context, MatrixView<const T> D)
    : D_(copy_of(context, D)),
      gram_(gram_of<T>(context, D_.matrix(), D_.matrix(), kMostGramAtoms)),
      packed_D_(context, D_.matrix()) {}

template <class T>
StepNetworkOperands<T>::StepNetworkOperands(const Context& context, MatrixView<const T> D, MatrixView<const T> W)
    : D_(copy_of(context, D)), packed_D_(context, D_.matrix()) {
  check_matrix(context, "StepNetworkOperands", "W", W, D.rows, D.cols);
  W_ = copy_of(context, W);
  packed_W_ = StepDictionary<T>(context, W_.matrix());
  gram_ = gram_of<T>(context, W_.matrix(), D_.matrix(), kMostGramAtoms);
}

std::int64_t selected_entries(const SupportSelection& selection, std::int64_t layer, std::int64_t atoms) {
  const double percent = std::min(selection.percent_a_layer * static_cast<double>(layer + 1), selection.most_percent);
  return static_cast<std::int64_t>(std::floor(static_cast<double>(atoms) * percent / 100));
}

template <class T>
std::int64_t step_network_scratch(const Context& context, const StepNetwork<T>& network, std::int64_t problems,
                                  bool gradient) {
  check_network(context, "step_network_scratch", network);
  SHRINKWARP_REQUIRE(problems >= 0, ShapeError, "step_network_scratch: problems is ", problems, ", wanted >= 0");
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::step_network_scratch<T>(context, network, problems, gradient);
  }
  return cpu::step_network_scratch<T>(context, network, problems, gradient);
}

template <class T>
void step_network_forward(const Context& context, const StepNetwork<T>& network, identity_t<MatrixView<const T>> X,
                          identity_t<VectorView<const T>> lambda, MatrixView<T> Z, VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "step_network_forward";
  check_problems<T>(context, kFunction, network, X, lambda, scratch, false);
  check_matrix(context, kFunction, "Z", Z, network.operands.atoms(), X.cols);
  if (Z.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::step_network_forward<T>(context, network, X, lambda, Z, scratch);
  }
  cpu::step_network_forward<T>(context, network, X, lambda, Z, scratch);
}

template <class T>
void step_network_loss(const Context& context, const StepNetwork<T>& network, identity_t<MatrixView<const T>> X,
                       identity_t<VectorView<const T>> lambda, VectorView<double> loss, VectorView<double> steps,
                       VectorView<double> thresholds, VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "step_network_loss";
  check_problems<T>(context, kFunction, network, X, lambda, scratch, true);
  SHRINKWARP_REQUIRE(X.cols > 0, ShapeError, kFunction, ": found no problems, wanted at least one");
  check_vector(context, kFunction, "loss", loss, 1);
  check_vector(context, kFunction, "steps", steps, network.steps.size);
  check_vector(context, kFunction, "thresholds", thresholds, network.thresholds.size);
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::step_network_loss<T>(context, network, X, lambda, loss, steps, thresholds, scratch);
  }
  cpu::step_network_loss<T>(context, network, X, lambda, loss, steps, thresholds, scratch);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                     \
  template class StepNetworkOperands<T>;                                                                              \
  template std::int64_t step_network_scratch<T>(const Context&, const StepNetwork<T>&, std::int64_t, bool);           \
  template void step_network_forward<T>(const Context&, const StepNetwork<T>&, MatrixView<const T>,                   \
                                        VectorView<const T>, MatrixView<T>, VectorView<std::byte>);                   \
  template void step_network_loss<T>(const Context&, const StepNetwork<T>&, MatrixView<const T>, VectorView<const T>, \
                                     VectorView<double>, VectorView<double>, VectorView<double>,                      \
                                     VectorView<std::byte>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
