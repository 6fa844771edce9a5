#include <shrinkwarp/kernels/lista_network/lista_network.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/lista_network/bodies.hpp>

namespace shrinkwarp {
namespace {

template <class T>
void check_network(const Context& context, const char* function, const ListaNetwork<T>& network) {
  const ListaLayout& layout = network.layout;
  SHRINKWARP_REQUIRE(layout.rows >= 0 && layout.atoms >= 0 && layout.layers >= 1, ShapeError, function,
                     ": the layout has ", layout.rows, " rows, ", layout.atoms, " atoms and ", layout.layers,
                     " layers, wanted none negative and at least one layer");
  check_matrix(context, function, "D", network.D, layout.rows, layout.atoms);
  check_vector(context, function, "parameters", network.parameters, layout.size());
}

template <class T>
void check_problems(const Context& context, const char* function, const ListaNetwork<T>& network, MatrixView<const T> X,
                    VectorView<const T> lambda, VectorView<std::byte> scratch, bool gradient) {
  check_network(context, function, network);
  check_matrix(context, function, "X", X, network.layout.rows, X.cols);
  check_vector(context, function, "lambda", lambda, X.cols);
  const std::int64_t wanted = lista_network_scratch(context, network, X.cols, gradient);
  SHRINKWARP_REQUIRE(scratch.size >= wanted, ShapeError, function, ": scratch has ", scratch.size,
                     " bytes, wanted at least ", wanted);
  if (wanted > 0) check_vector(context, function, "scratch", scratch, scratch.size);
}

}  // namespace

template <class T>
std::int64_t lista_network_scratch(const Context& context, const ListaNetwork<T>& network, std::int64_t problems,
                                   bool gradient) {
  check_network(context, "lista_network_scratch", network);
  SHRINKWARP_REQUIRE(problems >= 0, ShapeError, "lista_network_scratch: problems is ", problems, ", wanted >= 0");
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::lista_network_scratch<T>(context, network, problems, gradient);
  }
  return cpu::lista_network_scratch<T>(context, network, problems, gradient);
}

template <class T>
void lista_network_forward(const Context& context, const ListaNetwork<T>& network, identity_t<MatrixView<const T>> X,
                           identity_t<VectorView<const T>> lambda, MatrixView<T> Z, VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "lista_network_forward";
  check_problems<T>(context, kFunction, network, X, lambda, scratch, false);
  check_matrix(context, kFunction, "Z", Z, network.layout.atoms, X.cols);
  if (Z.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::lista_network_forward<T>(context, network, X, lambda, Z, scratch);
  }
  cpu::lista_network_forward<T>(context, network, X, lambda, Z, scratch);
}

template <class T>
void lista_network_loss(const Context& context, const ListaNetwork<T>& network, identity_t<MatrixView<const T>> X,
                        identity_t<VectorView<const T>> lambda, VectorView<double> loss, VectorView<T> gradient,
                        VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "lista_network_loss";
  check_problems<T>(context, kFunction, network, X, lambda, scratch, true);
  SHRINKWARP_REQUIRE(X.cols > 0, ShapeError, kFunction, ": found no problems, wanted at least one");
  check_vector(context, kFunction, "loss", loss, 1);
  check_vector(context, kFunction, "gradient", gradient, network.layout.size());
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::lista_network_loss<T>(context, network, X, lambda, loss, gradient, scratch);
  }
  cpu::lista_network_loss<T>(context, network, X, lambda, loss, gradient, scratch);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                             \
  template std::int64_t lista_network_scratch<T>(const Context&, const ListaNetwork<T>&, std::int64_t, bool); \
  template void lista_network_forward<T>(const Context&, const ListaNetwork<T>&, MatrixView<const T>,         \
                                         VectorView<const T>, MatrixView<T>, VectorView<std::byte>);          \
  template void lista_network_loss<T>(const Context&, const ListaNetwork<T>&, MatrixView<const T>,            \
                                      VectorView<const T>, VectorView<double>, VectorView<T>, VectorView<std::byte>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
