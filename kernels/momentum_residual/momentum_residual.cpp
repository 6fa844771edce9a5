#include <shrinkwarp/kernels/momentum_residual/momentum_residual.hpp>

#include <cmath>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/momentum_residual/bodies.hpp>

namespace shrinkwarp {
namespace {

// Checks that the operations in floating point and the exact ones share.
void check_gammas(const Context& context, const char* function, VectorView<const MomentumGamma> gammas,
                  std::int64_t least) {
  SHRINKWARP_REQUIRE(gammas.size >= least, ShapeError, function, ": gammas has ", gammas.size,
                     " elements, wanted at least ", least);
  check_vector(context, function, "gammas", gammas, gammas.size);
}

template <class T>
void check_branch(const Context& context, const char* function, const BranchValues<T>& branch, std::int64_t size) {
  check_vector(context, function, "branch.values", branch.values, size);
  if (branch.bias.empty()) return;
  check_vector(context, function, "branch.bias", branch.bias, branch.bias.size);
  SHRINKWARP_REQUIRE(size % branch.bias.size == 0, ShapeError, function, ": branch.bias has ", branch.bias.size,
                     " elements, wanted a divisor of the ", size, " that branch.values has");
}

template <class T>
void check_adjoint(const Context& context, const char* function, const MomentumAdjoint<T>& adjoint, std::int64_t size) {
  check_vector(context, function, "adjoint.dx", adjoint.dx, size);
  check_vector(context, function, "adjoint.dv", adjoint.dv, size);
  check_vector(context, function, "adjoint.dbranch", adjoint.dbranch, size);
  if (adjoint.dgamma.empty()) return;
  check_vector(context, function, "adjoint.dgamma", adjoint.dgamma, 1);
  const std::int64_t wanted = momentum_adjoint_scratch(size);
  SHRINKWARP_REQUIRE(adjoint.scratch.size >= wanted, ShapeError, function, ": adjoint.scratch has ",
                     adjoint.scratch.size, " elements, wanted at least ", wanted);
  check_vector(context, function, "adjoint.scratch", adjoint.scratch, adjoint.scratch.size);
}

void check_state(const Context& context, const char* function, const ExactState& state) {
  const std::int64_t size = state.x.size, tiles = InformationBuffer::tiles(size);
  const InformationBuffer& buffer = state.buffer;
  check_vector(context, function, "state.x", state.x, size);
  check_vector(context, function, "state.v", state.v, size);
  check_vector(context, function, "state.buffer.states", buffer.states, size);
  SHRINKWARP_REQUIRE(buffer.capacity >= kInformationTile, ShapeError, function, ": state.buffer.capacity is ",
                     buffer.capacity, ", wanted at least the ", kInformationTile, " that a list begins with");
  check_vector(context, function, "state.buffer.words", buffer.words, tiles * buffer.capacity);
  check_vector(context, function, "state.buffer.counts", buffer.counts, tiles);
  check_vector(context, function, "state.status", state.status, 1);
}

void check_layer(const Context& context, const char* function, const ExactLayer& layer) {
  SHRINKWARP_REQUIRE(layer.index >= 0, ValueError, function, ": layer.index is ", layer.index, ", wanted >= 0");
  check_gammas(context, function, layer.gammas, layer.index + 1);
}

}  // namespace

std::int64_t momentum_adjoint_scratch(std::int64_t size) {
  return InformationBuffer::tiles(size);
}

std::int64_t information_capacity(double bits) {
  // An element holds 2^(32 words) B, which starts under 2^(32 + 31) and grows by log2(q / p) a layer; what its words are of it
  // is most where B has just given one and is still over K / q, K > 2^30. Roundings of 2^-30 a layer are in the hundredth.
  const double words = 1 + (1.01 + bits * (1 + 1e-6) + kLargestLog2Q) / kInformationWordBits;
  return kInformationTile * static_cast<std::int64_t>(words);
}

template <class T>
void prepare_gammas(const Context& context, identity_t<VectorView<const T>> learned, const GammaRange& range,
                    VectorView<MomentumGamma> gammas) {
  constexpr const char* kFunction = "prepare_gammas";
  check_vector(context, kFunction, "gammas", gammas, gammas.size);
  check_vector(context, kFunction, "learned", learned, gammas.size);
  SHRINKWARP_REQUIRE(range.low <= range.high, ValueError, kFunction, ": range is ", range.low, " to ", range.high,
                     ", wanted the smaller number first");
  if (range.exact) {
    const bool inside = range.low >= kLeastExactGamma && (range.high <= kLargestExactGamma || range.low == 1);
    SHRINKWARP_REQUIRE(inside, ValueError, kFunction, ": range is ", range.low, " to ", range.high, ", wanted within ",
                       kLeastExactGamma, " and ", kLargestExactGamma, ", or 1 alone, in exact mode");
  }
  if (gammas.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::prepare_gammas<T>(context, learned, range, gammas);
  }
  cpu::prepare_gammas<T>(context, learned, range, gammas);
}

template <class T>
void momentum_forward(const Context& context, VectorView<const MomentumGamma> gamma, MomentumForm form,
                      const BranchValues<T>& branch, VectorView<T> x, VectorView<T> v) {
  constexpr const char* kFunction = "momentum_forward";
  check_vector(context, kFunction, "gamma", gamma, 1);
  check_vector(context, kFunction, "x", x, x.size);
  check_vector(context, kFunction, "v", v, x.size);
  check_branch(context, kFunction, branch, x.size);
  if (x.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::momentum_forward<T>(context, gamma.data, form, branch, x, v);
  }
  cpu::momentum_forward<T>(context, gamma.data, form, branch, x, v);
}

template <class T>
void momentum_step_back(const Context& context, identity_t<VectorView<const T>> v, VectorView<T> x) {
  check_vector(context, "momentum_step_back", "x", x, x.size);
  check_vector(context, "momentum_step_back", "v", v, x.size);
  if (x.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::momentum_step_back<T>(context, v, x);
  }
  cpu::momentum_step_back<T>(context, v, x);
}

template <class T>
void momentum_inverse(const Context& context, VectorView<const MomentumGamma> gamma, MomentumForm form,
                      const BranchValues<T>& branch, identity_t<VectorView<const T>> x, VectorView<T> v,
                      VectorView<T> x_before) {
  constexpr const char* kFunction = "momentum_inverse";
  if (!x_before.empty()) check_vector(context, kFunction, "x_before", x_before, x.size);
  check_vector(context, kFunction, "gamma", gamma, 1);
  check_vector(context, kFunction, "x", x, x.size);
  check_vector(context, kFunction, "v", v, x.size);
  check_branch(context, kFunction, branch, x.size);
  if (x.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::momentum_inverse<T>(context, gamma.data, form, branch, x, v, x_before);
  }
  cpu::momentum_inverse<T>(context, gamma.data, form, branch, x, v, x_before);
}

template <class T>
void momentum_adjoint(const Context& context, VectorView<const MomentumGamma> gamma, MomentumForm form,
                      const BranchValues<T>& branch, identity_t<VectorView<const T>> x,
                      identity_t<VectorView<const T>> v, const MomentumAdjoint<T>& adjoint) {
  constexpr const char* kFunction = "momentum_adjoint";
  check_vector(context, kFunction, "gamma", gamma, 1);
  check_branch(context, kFunction, branch, v.size);
  check_vector(context, kFunction, "v", v, v.size);
  if (branch.whole || !x.empty()) check_vector(context, kFunction, "x", x, v.size);
  check_adjoint(context, kFunction, adjoint, v.size);
  if (v.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::momentum_adjoint<T>(context, gamma.data, form, branch, x, v, adjoint);
  }
  cpu::momentum_adjoint<T>(context, gamma.data, form, branch, x, v, adjoint);
}

void clear_status(const Context& context, VectorView<std::int32_t> status) {
  check_vector(context, "clear_status", "status", status, status.size);
  if (status.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::clear_status(context, status);
  }
  cpu::clear_status(context, status);
}

template <class T>
void exact_momentum_begin(const Context& context, identity_t<VectorView<const T>> x, identity_t<VectorView<const T>> v,
                          VectorView<const MomentumGamma> gammas, const ExactState& state, VectorView<T> x_in_T) {
  constexpr const char* kFunction = "exact_momentum_begin";
  check_state(context, kFunction, state);
  check_vector(context, kFunction, "x", x, state.x.size);
  if (!v.empty()) check_vector(context, kFunction, "v", v, state.x.size);
  check_gammas(context, kFunction, gammas, 1);
  check_vector(context, kFunction, "x_in_T", x_in_T, state.x.size);
  if (x.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::exact_momentum_begin<T>(context, x, v, gammas.data, state, x_in_T);
  }
  cpu::exact_momentum_begin<T>(context, x, v, gammas.data, state, x_in_T);
}

template <class T>
void exact_momentum_forward(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,
                            const ExactState& state, VectorView<T> x_in_T) {
  constexpr const char* kFunction = "exact_momentum_forward";
  check_layer(context, kFunction, layer);
  check_state(context, kFunction, state);
  check_branch(context, kFunction, branch, state.x.size);
  check_vector(context, kFunction, "x_in_T", x_in_T, state.x.size);
  if (state.x.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::exact_momentum_forward<T>(context, layer, branch, state, x_in_T);
  }
  cpu::exact_momentum_forward<T>(context, layer, branch, state, x_in_T);
}

template <class T>
void exact_momentum_step_back(const Context& context, const ExactState& state, VectorView<T> x_in_T) {
  constexpr const char* kFunction = "exact_momentum_step_back";
  check_state(context, kFunction, state);
  check_vector(context, kFunction, "x_in_T", x_in_T, state.x.size);
  if (state.x.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::exact_momentum_step_back<T>(context, state, x_in_T);
  }
  cpu::exact_momentum_step_back<T>(context, state, x_in_T);
}

template <class T>
void exact_momentum_inverse(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,
                            const MomentumAdjoint<T>* adjoint, const ExactState& state,
                            identity_t<VectorView<const T>> x_in_T, VectorView<T> x_before) {
  constexpr const char* kFunction = "exact_momentum_inverse";
  check_layer(context, kFunction, layer);
  check_state(context, kFunction, state);
  check_branch(context, kFunction, branch, state.x.size);
  if (adjoint != nullptr) check_adjoint(context, kFunction, *adjoint, state.x.size);
  if (layer.index > 0) check_vector(context, kFunction, "x_before", x_before, state.x.size);
  check_vector(context, kFunction, "x_in_T", x_in_T, state.x.size);
  if (state.x.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::exact_momentum_inverse<T>(context, layer, branch, adjoint, state, x_in_T, x_before);
  }
  cpu::exact_momentum_inverse<T>(context, layer, branch, adjoint, state, x_in_T, x_before);
}

template <class T>
void exact_momentum_velocity(const Context& context, const ExactState& state, VectorView<T> v) {
  constexpr const char* kFunction = "exact_momentum_velocity";
  check_state(context, kFunction, state);
  check_vector(context, kFunction, "v", v, state.x.size);
  if (v.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::exact_momentum_velocity<T>(context, state, v);
  }
  cpu::exact_momentum_velocity<T>(context, state, v);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                     \
  template void prepare_gammas<T>(const Context&, VectorView<const T>, const GammaRange&, VectorView<MomentumGamma>); \
  template void momentum_forward<T>(const Context&, VectorView<const MomentumGamma>, MomentumForm,                    \
                                    const BranchValues<T>&, VectorView<T>, VectorView<T>);                            \
  template void momentum_step_back<T>(const Context&, VectorView<const T>, VectorView<T>);                            \
  template void momentum_inverse<T>(const Context&, VectorView<const MomentumGamma>, MomentumForm,                    \
                                    const BranchValues<T>&, VectorView<const T>, VectorView<T>, VectorView<T>);       \
  template void momentum_adjoint<T>(const Context&, VectorView<const MomentumGamma>, MomentumForm,                    \
                                    const BranchValues<T>&, VectorView<const T>, VectorView<const T>,                 \
                                    const MomentumAdjoint<T>&);                                                       \
  template void exact_momentum_begin<T>(const Context&, VectorView<const T>, VectorView<const T>,                     \
                                        VectorView<const MomentumGamma>, const ExactState&, VectorView<T>);           \
  template void exact_momentum_forward<T>(const Context&, const ExactLayer&, const BranchValues<T>&,                  \
                                          const ExactState&, VectorView<T>);                                          \
  template void exact_momentum_step_back<T>(const Context&, const ExactState&, VectorView<T>);                        \
  template void exact_momentum_inverse<T>(const Context&, const ExactLayer&, const BranchValues<T>&,                  \
                                          const MomentumAdjoint<T>*, const ExactState&, VectorView<const T>,          \
                                          VectorView<T>);                                                             \
  template void exact_momentum_velocity<T>(const Context&, const ExactState&, VectorView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
