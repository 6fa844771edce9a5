// Internal to step_network's CUDA body: whole networks in one launch, for dictionaries that fit into a block's shared memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include <shrinkwarp/kernels/proximal_iterations/proximal_iterations.hpp>
#include <shrinkwarp/kernels/step_network/step_network.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp::cuda {

/// The plan of a launch, or nothing where the network is not of this kind: D that does not fit, a W of its own, support
/// selection. Which kind it is does not depend on the number of problems.
std::optional<IterationPlan> resident_plan(const Context& context, const StepNetwork<float>& network,
                                           std::int64_t problems);

/// What the way back reads of the way there: for each block and layer the residual, and which codes are not 0 or are negative.
struct ResidentStates {
  VectorView<float> residuals;
  VectorView<std::uint32_t> supports;
  MatrixView<double> sums;  ///< [parts, sums_of(layers)], each part the sums of one warp: what a loss is made of
};
ResidentStates lay_out_states(Arena& arena, const StepNetwork<float>& network, const IterationPlan& plan);

/// Codes of the last layer.
void resident_forward(const Context& context, const StepNetwork<float>& network, const IterationPlan& plan,
                      MatrixView<const float> X, VectorView<const float> lambda, MatrixView<float> Z);

/// There and back: writes states.sums.
void resident_loss(const Context& context, const StepNetwork<float>& network, const IterationPlan& plan,
                   MatrixView<const float> X, VectorView<const float> lambda, const ResidentStates& states);

}  // namespace shrinkwarp::cuda
