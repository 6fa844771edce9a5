// Internal to step_network: what each backend provides.
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/kernels/step_network/step_network.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_STEP_NETWORK                                                                           \
  template <class T>                                                                                              \
  std::int64_t step_network_scratch(const Context& context, const StepNetwork<T>& network, std::int64_t problems, \
                                    bool gradient);                                                               \
  template <class T>                                                                                              \
  void step_network_forward(const Context& context, const StepNetwork<T>& network, MatrixView<const T> X,         \
                            VectorView<const T> lambda, MatrixView<T> Z, VectorView<std::byte> scratch);          \
  template <class T>                                                                                              \
  void step_network_loss(const Context& context, const StepNetwork<T>& network, MatrixView<const T> X,            \
                         VectorView<const T> lambda, VectorView<double> loss, VectorView<double> steps,           \
                         VectorView<double> thresholds, VectorView<std::byte> scratch);
namespace cpu {
SHRINKWARP_DECLARE_STEP_NETWORK
}
namespace cuda {
SHRINKWARP_DECLARE_STEP_NETWORK
}
#undef SHRINKWARP_DECLARE_STEP_NETWORK

}  // namespace shrinkwarp
