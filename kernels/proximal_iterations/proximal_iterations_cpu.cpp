// The contract in its own words: the operations of gradient_step, one iteration after the other, a block of problems at a
// time so that what a block works on stays in cache.
#include <algorithm>

#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/kernels/proximal_iterations/proximal_iterations.hpp>

namespace shrinkwarp::cpu {
namespace {

/// Problems of a block for each thread: their codes for 512 atoms take 512 KiB.
constexpr std::int64_t kProblemsAThread = 128;

std::int64_t block_of(const Context& context, std::int64_t problems) {
  return std::min<std::int64_t>(problems, kProblemsAThread * context.threads());
}

/// What a block needs beside the caller's arrays.
struct IterationWorkspace {
  MatrixView<float> R;           // [n, block]
  StepPartials<float> partials;  // [tiles, block]
  MatrixView<float> previous;    // [m, block], for a caller who brings none
  std::int64_t floats = 0;       // of all that

  IterationWorkspace(const Context& context, const StepDictionary<float>& D, std::int64_t block, float* memory) {
    const std::int64_t tiles = step_tiles(context, D.cols());
    static_assert(sizeof(std::int32_t) == sizeof(float));
    const auto take = [&](std::int64_t rows) {
      float* const first = memory == nullptr ? nullptr : memory + floats;
      floats += rows * block;
      return first;
    };
    R = {take(D.rows()), D.rows(), block, D.rows(), context.device()};
    partials.restart = {take(tiles), tiles, block, tiles, context.device()};
    partials.support = {reinterpret_cast<std::int32_t*>(take(tiles)), tiles, block, tiles, context.device()};
    previous = {take(D.cols()), D.cols(), block, D.cols(), context.device()};
  }
};

}  // namespace

std::int64_t iterations_scratch(const Context& context, const StepDictionary<float>& D, std::int64_t problems) {
  return IterationWorkspace(context, D, block_of(context, problems), nullptr).floats;
}

void proximal_iterations(const Context& context, const StepDictionary<float>& D, const IterationPlan&,
                         MatrixView<const float> X, MatrixView<const float> anchor, VectorView<const float> lambda,
                         VectorView<const std::uint8_t> active, StepSizes steps, std::int64_t iterations, Momentum rule,
                         MathMode, MatrixView<float> current, MatrixView<float> previous, VectorView<double> t,
                         VectorView<float> beta, VectorView<float> scratch) {
  const std::int64_t block = block_of(context, current.cols);
  const IterationWorkspace workspace(context, D, block, scratch.data);
  for (std::int64_t first = 0; first < current.cols; first += block) {
    const std::int64_t count = std::min(block, current.cols - first);
    MatrixView<float> now = current.columns(first, count);
    MatrixView<float> before = previous.empty() ? workspace.previous.columns(0, count) : previous.columns(first, count);
    const VectorView<float> betas = beta.slice(first, count);
    if (previous.empty()) std::fill_n(betas.data, count, 0.0f);
    const MatrixView<float> R = workspace.R.columns(0, count);
    const StepPartials<float> partials{workspace.partials.restart.columns(0, count),
                                       workspace.partials.support.columns(0, count)};
    for (std::int64_t k = 0; k < iterations; ++k) {
      extrapolated_residual(context, D, now, before, betas, X.columns(first, count), R, VectorView<float>{});
      gradient_step(context, D, R, anchor.empty() ? anchor : anchor.columns(first, count), now, before, betas,
                    steps.each.empty() ? steps.all : steps.each[k], lambda.slice(first, count),
                    active.empty() ? active : active.slice(first, count), partials);
      std::swap(now, before);
      update_momentum(context, rule, {partials.restart, partials.support}, t.slice(first, count), betas, {});
    }
    if (now.data == current.column(first)) continue;
    // After an odd number of iterations the last code lies where the one before it belongs.
    for (std::int64_t b = 0; b < count; ++b)
      std::swap_ranges(now.column(b), now.column(b) + D.cols(), before.column(b));
  }
}

}  // namespace shrinkwarp::cpu
