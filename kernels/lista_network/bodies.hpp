// Internal to lista_network: what each backend provides.
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/kernels/lista_network/lista_network.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_LISTA_NETWORK                                                                            \
  template <class T>                                                                                                \
  std::int64_t lista_network_scratch(const Context& context, const ListaNetwork<T>& network, std::int64_t problems, \
                                     bool gradient);                                                                \
  template <class T>                                                                                                \
  void lista_network_forward(const Context& context, const ListaNetwork<T>& network, MatrixView<const T> X,         \
                             VectorView<const T> lambda, MatrixView<T> Z, VectorView<std::byte> scratch);           \
  template <class T>                                                                                                \
  void lista_network_loss(const Context& context, const ListaNetwork<T>& network, MatrixView<const T> X,            \
                          VectorView<const T> lambda, VectorView<double> loss, VectorView<T> gradient,              \
                          VectorView<std::byte> scratch);
namespace cpu {
SHRINKWARP_DECLARE_LISTA_NETWORK
}
namespace cuda {
SHRINKWARP_DECLARE_LISTA_NETWORK
}
#undef SHRINKWARP_DECLARE_LISTA_NETWORK

}  // namespace shrinkwarp
