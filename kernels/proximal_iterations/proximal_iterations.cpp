#include <shrinkwarp/kernels/proximal_iterations/proximal_iterations.hpp>

#include <algorithm>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_PROXIMAL_ITERATIONS                                                                        \
  void proximal_iterations(const Context& context, const StepDictionary<float>& D, const IterationPlan& plan,         \
                           MatrixView<const float> X, MatrixView<const float> anchor, VectorView<const float> lambda, \
                           VectorView<const std::uint8_t> active, StepSizes steps, std::int64_t iterations,           \
                           Momentum rule, MathMode mode, MatrixView<float> current, MatrixView<float> previous,       \
                           VectorView<double> t, VectorView<float> beta, VectorView<float> scratch);
namespace cpu {
SHRINKWARP_DECLARE_PROXIMAL_ITERATIONS
std::int64_t iterations_scratch(const Context& context, const StepDictionary<float>& D, std::int64_t problems);
}  // namespace cpu
namespace cuda {
SHRINKWARP_DECLARE_PROXIMAL_ITERATIONS
}
#undef SHRINKWARP_DECLARE_PROXIMAL_ITERATIONS

namespace {

constexpr std::int64_t kWarps = 8;

std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

std::optional<IterationPlan> iteration_plan(std::int64_t rows, std::int64_t atoms, std::int64_t problems,
                                            std::int64_t shared_memory, int multiprocessors) {
  SHRINKWARP_REQUIRE(rows >= 0 && atoms >= 0 && problems >= 0 && shared_memory >= 0 && multiprocessors >= 0, ShapeError,
                     "iteration_plan: ", rows, " rows, ", atoms, " atoms, ", problems, " problems, ", shared_memory,
                     " bytes, ", multiprocessors, " multiprocessors, wanted >= 0");
  // Beyond this many rows no tile fits any device, and what follows might overflow.
  constexpr std::int64_t kMostRows = 1 << 16;
  if (atoms > kMostIterationAtoms || rows > kMostRows) return std::nullopt;
  const std::int64_t padded_rows = round_up(rows, 8), padded_atoms = round_up(atoms, 8);
  IterationPlan plan;
  plan.atom_tiles = padded_atoms <= 16 * kWarps ? 2 : padded_atoms <= 32 * kWarps ? 4 : 8;
  plan.line = padded_rows % 16 == 8 ? padded_rows : padded_rows + 8;
  for (const std::int64_t tile : {32, 16}) {
    plan.tile = tile;
    plan.shared_bytes = static_cast<std::int64_t>(sizeof(float)) *
                        (plan.line * padded_atoms + ((kWarps + 2) * padded_rows + kWarps) * tile);
    const std::int64_t tiles = (problems + tile - 1) / tile;
    plan.blocks = std::min<std::int64_t>(tiles, std::max(multiprocessors, 1));
    const bool wide_does = plan.atom_tiles <= 4 && tiles >= multiprocessors;
    if (plan.shared_bytes <= shared_memory && (tile == 16 || wide_does)) return plan;
  }
  return std::nullopt;
}

std::optional<IterationPlan> iteration_plan(const Context& context, std::int64_t rows, std::int64_t atoms,
                                            std::int64_t problems) {
  if (!context.is_cuda()) return IterationPlan{};
  return iteration_plan(rows, atoms, problems, context.block_memory(), context.multiprocessors());
}

std::int64_t iterations_scratch(const Context& context, const StepDictionary<float>& D, std::int64_t problems) {
  SHRINKWARP_REQUIRE(problems >= 0, ShapeError, "iterations_scratch: problems is ", problems, ", wanted >= 0");
  return context.is_cuda() ? 0 : cpu::iterations_scratch(context, D, problems);
}

void proximal_iterations(const Context& context, const StepDictionary<float>& D, MatrixView<const float> X,
                         MatrixView<const float> anchor, VectorView<const float> lambda,
                         VectorView<const std::uint8_t> active, StepSizes steps, std::int64_t iterations, Momentum rule,
                         MathMode mode, MatrixView<float> current, MatrixView<float> previous, VectorView<double> t,
                         VectorView<float> beta, VectorView<float> scratch) {
  constexpr const char* kFunction = "proximal_iterations";
  SHRINKWARP_REQUIRE(iterations >= 0, ValueError, kFunction, ": iterations is ", iterations, ", wanted >= 0");
  SHRINKWARP_REQUIRE(mode != MathMode::fp32, ValueError, kFunction, ": mode is fp32, wanted tf32 or split_tf32");
  SHRINKWARP_REQUIRE(D.device() == context.device(), DeviceError, kFunction, ": D lies on ", D.device(), ", wanted ",
                     context.device());
  const std::int64_t problems = current.cols;
  check_matrix(context, kFunction, "current", current, D.cols(), problems);
  if (!previous.empty()) check_matrix(context, kFunction, "previous", previous, D.cols(), problems);
  if (!anchor.empty()) check_matrix(context, kFunction, "anchor", anchor, D.cols(), problems);
  check_matrix(context, kFunction, "X", X, D.rows(), problems);
  check_vector(context, kFunction, "lambda", lambda, problems);
  check_vector(context, kFunction, "t", t, problems);
  check_vector(context, kFunction, "beta", beta, problems);
  if (!active.empty()) check_vector(context, kFunction, "active", active, problems);
  if (steps.each.empty())
    SHRINKWARP_REQUIRE(steps.all > 0, ValueError, kFunction, ": steps.all is ", steps.all, ", wanted > 0");
  else
    check_vector(context, kFunction, "steps.each", steps.each, iterations);
  const std::optional<IterationPlan> plan = iteration_plan(context, D.rows(), D.cols(), problems);
  SHRINKWARP_REQUIRE(plan, ShapeError, kFunction, ": D is ", D.rows(), " x ", D.cols(),
                     ", wanted one that fits into the ", context.block_memory(), " bytes of a block of ",
                     context.device(), " and has at most ", kMostIterationAtoms, " atoms");
  const std::int64_t wanted = iterations_scratch(context, D, problems);
  SHRINKWARP_REQUIRE(scratch.size >= wanted, ShapeError, kFunction, ": scratch has ", scratch.size,
                     " elements, wanted at least ", wanted);
  if (wanted > 0) check_vector(context, kFunction, "scratch", scratch, scratch.size);
  if (current.empty() || iterations == 0) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::proximal_iterations(context, D, *plan, X, anchor, lambda, active, steps, iterations, rule, mode,
                                       current, previous, t, beta, scratch);
  }
  cpu::proximal_iterations(context, D, *plan, X, anchor, lambda, active, steps, iterations, rule, mode, current,
                           previous, t, beta, scratch);
}

}  // namespace shrinkwarp
