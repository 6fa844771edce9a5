#include <shrinkwarp/tools/bench/iteration_bench.hpp>

#include <chrono>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/bench/clock.hpp>
#include <shrinkwarp/tools/bench/inputs.hpp>

namespace shrinkwarp::bench {
namespace {

template <class Call>
double seconds_a_call(const Context& context, double min_seconds, Call call) {
  call();
  context.synchronize();
  double best = 0;
  for (std::int64_t calls = 1;; calls *= 2) {
    const auto start = Clock::now();
    for (std::int64_t i = 0; i < calls; ++i) call();
    context.synchronize();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = seconds / static_cast<double>(calls);
    if (seconds >= min_seconds) return best;
  }
}

}  // namespace

IterationBenchResult run_iteration_bench(const Context& context, const IterationBenchOptions& options,
                                         std::int64_t problems) {
  const std::int64_t n = options.rows;
  const std::int64_t m = options.atoms;
  const Tensor<float> D = normal_numbers<float>(context, n, m, 1);
  const Tensor<double> D_exact = normal_numbers<double>(context, n, m, 1);
  const StepDictionary<float> packed(context, D.matrix());
  const CertificateDictionary exact(context, D_exact.matrix());

  const Tensor<float> current = sparse_codes(context, m, problems, options.density, 2);
  const Tensor<float> previous = sparse_codes(context, m, problems, options.density, 3);
  const Tensor<float> anchor = sparse_codes(context, m, problems, options.density, 4);
  const Tensor<float> X = normal_numbers<float>(context, n, problems, 5);
  const Tensor<double> X_exact = normal_numbers<double>(context, n, problems, 5);
  const Tensor<float> R(context, n, problems);
  const Tensor<double> R_exact(context, n, problems);
  const Tensor<float> beta = filled(context, problems, 0.5f);
  const Tensor<float> lambda = filled(context, problems, 1.0f);
  const Tensor<double> lambda_exact = filled(context, problems, 1.0);
  const Tensor<double> t = filled(context, problems, 1.0);
  const Tensor<double> correlation(context, problems);
  const Tensor<double> primal(context, problems);
  const Tensor<double> gap(context, problems);
  const std::int64_t tiles = step_tiles(context, m);
  const Tensor<float> restart(context, tiles, problems);
  const Tensor<std::int32_t> support(context, tiles, problems);
  const Tensor<float> scratch(context, residual_scratch(context, packed.rows(), packed.cols(), problems));
  const Tensor<double> exact_scratch(context, correlation_scratch(context, m, problems));
  const StepPartials<float> partials{restart.matrix(), support.matrix()};
  // Far below 1/L, so that repeated steps leave the codes finite.
  const float step = 1e-3f / static_cast<float>(n + m);

  IterationBenchResult result;
  result.problems = problems;
  const auto time = [&](auto call) { return seconds_a_call(context, options.min_seconds, call); };
  result.residual_seconds = time([&] {
    extrapolated_residual<float>(context, packed, current.matrix(), previous.matrix(), beta.vector(), X.matrix(),
                                 R.matrix(), scratch.vector());
  });
  result.step_seconds = time([&] {
    gradient_step<float>(context, packed, R.matrix(), anchor.matrix(), current.matrix(), previous.matrix(),
                         beta.vector(), step, lambda.vector(), {}, partials);
  });
  result.momentum_seconds = time([&] {
    update_momentum<float>(context, Momentum::fista_restart, {partials.restart, partials.support}, t.vector(),
                           beta.vector(), {});
  });
  result.certificate_seconds = time([&] {
    refresh_anchor<float>(context, anchor.matrix(), current.matrix(), previous.matrix());
    code_residual<float>(context, exact, anchor.matrix(), X_exact.matrix(), R_exact.matrix(), R.matrix());
    correlation_max(context, exact, R_exact.matrix(), correlation.vector(), exact_scratch.vector());
    dual_gap<float>(context, X_exact.matrix(), R_exact.matrix(), correlation.vector(), anchor.matrix(), 1.0,
                    lambda_exact.vector(), primal.vector(), gap.vector());
  });
  const Tensor<float> C(context, m, problems);
  result.product_seconds = time([&] {
    gemm(context, Transpose::yes, Transpose::no, 1.0f, D.matrix(), X.matrix(), 0.0f, C.matrix());
    gemm(context, Transpose::no, Transpose::no, 1.0f, D.matrix(), current.matrix(), 0.0f, R.matrix());
  });
  return result;
}

}  // namespace shrinkwarp::bench
