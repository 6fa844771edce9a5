// The entry points: arguments are checked here, once. The work is in the streams.
#include <shrinkwarp/models/lasso/lasso.hpp>

#include <algorithm>
#include <chrono>

#include <shrinkwarp/models/lasso/checks.hpp>
#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lasso/stream.hpp>
#include <shrinkwarp/models/lasso/unpenalised.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

LassoSummary solve_lasso(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                         const LambdaRule& rule, const LassoOptions& options, CodeSink& sink) {
  check_options(options);
  check_rule(rule, source.size());
  SHRINKWARP_REQUIRE(dictionary.device() == context.device(), DeviceError, "lasso: the dictionary lies on ",
                     dictionary.device(), ", wanted ", context.device());
  SHRINKWARP_REQUIRE(source.dimension() == dictionary.rows() || source.size() == 0, ShapeError,
                     "lasso: observations have length ", source.dimension(), ", wanted the dictionary's ",
                     dictionary.rows(), " rows");
  if (options.initial) check_initial(*options.initial, source.size(), dictionary.atoms());
  check_penalty(options.penalty, dictionary.atoms());
  check_ridge(options.penalty, dictionary);
  check_path(rule, options);
  if (rule.follows_path()) return stream_path(context, dictionary, source, rule, options, sink);
  if (has_zero_lambda(rule)) return solve_with_zero_lambdas(context, dictionary, source, rule, options, sink);
  if (has_unpenalised(options.penalty)) {
    const std::int64_t least =
        least_memory(context, dictionary.rows(), dictionary.atoms(), options.solver, options.penalty);
    SHRINKWARP_REQUIRE(options.memory_limit >= least, ValueError, "lasso: memory_limit is ", options.memory_limit,
                       " bytes, wanted at least ", least, " for a dictionary of ", dictionary.rows(), " x ",
                       dictionary.atoms(), " with unpenalised atoms");
    return solve_with_unpenalised(context, dictionary, source, rule, options, sink);
  }
  const std::int64_t problems = std::max(source.size(), options.problems_in_all);
  const Solver solver = resolved(context, dictionary.rows(), dictionary.atoms(), problems, options);
  if (has_working_sets(solver)) return stream_working_set(context, dictionary, source, rule, options, solver, sink);
  return stream_proximal_gradient(context, dictionary, source, rule, options, sink, [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  });
}

void prepare_dictionary(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                        const LambdaRule& rule, const LassoOptions& options) {
  if (has_unpenalised(options.penalty)) return;  // a dictionary of the other atoms takes its place
  if (rule.kind == LambdaRule::Kind::value && has_zero_lambda(rule)) return;  // least squares
  const Solver solver = rule.follows_path() ? Solver::plain_working_set
                                            : resolved(context, dictionary.rows(), dictionary.atoms(),
                                                       std::max(problems, options.problems_in_all), options);
  if (rule.kind == LambdaRule::Kind::recording_fraction) dictionary.exact().panels(context);
  if (!has_working_sets(solver)) {
    dictionary.exact().panels(context);
    dictionary.lipschitz(context);
    dictionary.packed<float>(context);
    dictionary.packed<double>(context);  // for what float does not bring to its gap
  } else if (context.is_cuda()) {
    dictionary.device_working_set(context);
  } else {
    dictionary.working_set(context, solver == Solver::plain_working_set);
  }
}

LassoSummary& LassoSummary::operator+=(const LassoSummary& others) {
  problems += others.problems;
  unconverged += others.unconverged;
  nonzeros += others.nonzeros;
  iterations += others.iterations;
  worst_gap = std::max(worst_gap, others.worst_gap);
  return *this;
}

Solver resolved(const Context& context, std::int64_t rows, std::int64_t atoms, std::int64_t problems,
                const LassoOptions& options) {
  if (options.solver != Solver::automatic) return options.solver;
  if (context.is_cuda() || !options.restart || options.penalty.ridge > 0) return Solver::fista;
  const std::int64_t least = least_memory(context, rows, atoms, Solver::working_set, options.penalty);
  if (options.memory_limit < least) return Solver::fista;
  // Preparing costs some 3 n^2 m flops and the clusters, which few nonzeros are slow to win back: `bench solve --calls 0` of
  // 2,400 problems on the medium lead field of docs/benchmarks/ (302 x 6138) took .90 times as long with it at .1 of lambda_max,
  // 1.03 times at .3 and 1.36 times at .8.
  return problems <= 8 * rows ? Solver::plain_working_set : Solver::working_set;
}

LassoBatch solve_lasso(const Context& context, const Dictionary& dictionary, MatrixView<const double> X,
                       const LambdaRule& rule, const LassoOptions& options) {
  MemorySource source(X);
  MemorySink sink;
  solve_lasso(context, dictionary, source, rule, options, sink);
  return sink.in_order();
}

}  // namespace shrinkwarp
