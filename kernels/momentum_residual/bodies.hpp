// Internal to momentum_residual: the bodies of both backends.
#pragma once

#include <shrinkwarp/kernels/momentum_residual/exact_momentum.hpp>
#include <shrinkwarp/kernels/momentum_residual/momentum_element.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_MOMENTUM                                                                                   \
  template <class T>                                                                                                  \
  void prepare_gammas(const Context& context, VectorView<const T> learned, const GammaRange& range,                   \
                      VectorView<MomentumGamma> gammas);                                                              \
  template <class T>                                                                                                  \
  void momentum_forward(const Context& context, const MomentumGamma* gamma, MomentumForm form,                        \
                        const BranchValues<T>& branch, VectorView<T> x, VectorView<T> v);                             \
  template <class T>                                                                                                  \
  void momentum_step_back(const Context& context, VectorView<const T> v, VectorView<T> x);                            \
  template <class T>                                                                                                  \
  void momentum_inverse(const Context& context, const MomentumGamma* gamma, MomentumForm form,                        \
                        const BranchValues<T>& branch, VectorView<const T> x, VectorView<T> v,                        \
                        VectorView<T> x_before);                                                                      \
  template <class T>                                                                                                  \
  void momentum_adjoint(const Context& context, const MomentumGamma* gamma, MomentumForm form,                        \
                        const BranchValues<T>& branch, VectorView<const T> x, VectorView<const T> v,                  \
                        const MomentumAdjoint<T>& adjoint);                                                           \
  void clear_status(const Context& context, VectorView<std::int32_t> status);                                         \
  template <class T>                                                                                                  \
  void exact_momentum_begin(const Context& context, VectorView<const T> x, VectorView<const T> v,                     \
                            const MomentumGamma* gamma, const ExactState& state, VectorView<T> x_in_T);               \
  template <class T>                                                                                                  \
  void exact_momentum_forward(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,         \
                              const ExactState& state, VectorView<T> x_in_T);                                         \
  template <class T>                                                                                                  \
  void exact_momentum_step_back(const Context& context, const ExactState& state, VectorView<T> x_in_T);               \
  template <class T>                                                                                                  \
  void exact_momentum_inverse(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,         \
                              const MomentumAdjoint<T>* adjoint, const ExactState& state, VectorView<const T> x_in_T, \
                              VectorView<T> x_before);                                                                \
  template <class T>                                                                                                  \
  void exact_momentum_velocity(const Context& context, const ExactState& state, VectorView<T> v);
namespace cpu {
SHRINKWARP_DECLARE_MOMENTUM

/// dgamma += the sum of the tiles' parts in adjoint.scratch, in their order.
template <class T>
void add_to_dgamma(const MomentumGamma& gamma, std::int64_t size, const MomentumAdjoint<T>& adjoint) {
  double sum = 0;
  for (std::int64_t i = 0; i < InformationBuffer::tiles(size); ++i) sum += adjoint.scratch[i];
  if (!is_held_against(gamma, sum)) adjoint.dgamma[0] += static_cast<T>(sum);
}
}  // namespace cpu
namespace cuda {
SHRINKWARP_DECLARE_MOMENTUM
}
#undef SHRINKWARP_DECLARE_MOMENTUM

}  // namespace shrinkwarp
