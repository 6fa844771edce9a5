#include <shrinkwarp/models/lasso/prepared_lasso.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/common/packed_product_cpu.hpp>
#include <shrinkwarp/models/lasso/checks.hpp>
#include <shrinkwarp/models/lasso/memory_plan.hpp>
#include <shrinkwarp/models/lasso/proximal_gradient.hpp>
#include <shrinkwarp/models/lasso/stopping.hpp>
#include <shrinkwarp/models/lasso/unpenalised.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

using FloatBatch = ProximalGradientBatch<float>;
using DoubleBatch = ProximalGradientBatch<double>;

/// Problems that go on in double at a time: few ever have to, and a place in double takes twice the memory.
std::int64_t double_places(std::int64_t problems) {
  return std::min(problems, std::max<std::int64_t>(32, problems / 8));
}

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

/// Has every thread of the context make the scratch that it keeps for the products. Each takes one index and waits for
/// the others, so that none takes two.
void prepare_threads(const Context& context, std::int64_t rows, std::int64_t problems) {
  if (context.is_cuda()) return;
  std::atomic<int> arrived{0};
  context.parallel_for(context.threads(), [&](std::int64_t, int) {
    ++arrived;
    while (arrived < context.threads()) std::this_thread::yield();
    cpu::thread_scratch<float>(product_scratch(rows, problems));
    cpu::thread_scratch<double>(product_scratch(rows, problems));
  });
}

/// What the solver is refused before anything of it is made.
void check(const Context& context, const Dictionary& dictionary, std::int64_t problems) {
  SHRINKWARP_REQUIRE(problems >= 1 && problems <= std::numeric_limits<std::int32_t>::max(), ValueError,
                     "PreparedLasso: problems is ", problems, ", wanted 1 to 2147483647");
  SHRINKWARP_REQUIRE(dictionary.device() == context.device(), DeviceError, "PreparedLasso: the dictionary lies on ",
                     dictionary.device(), ", wanted ", context.device());
}

}  // namespace

struct PreparedLasso::Impl {
  Impl(const Context& context, const Dictionary& dictionary, const LassoOptions& options, std::int64_t problems,
       VectorView<std::byte> memory)
      : context(context), dictionary(dictionary), options(options), problems(problems) {
    const std::int64_t group_size = options.penalty.group_size;
    const std::int64_t float_bytes = aligned(FloatBatch::workspace(context, dictionary, problems, group_size));
    const std::int64_t needed = workspace(context, dictionary, problems, group_size);
    if (memory.empty()) {
      owned = Tensor<std::byte>(context, needed);
      memory = owned.vector();
    }
    SHRINKWARP_REQUIRE(memory.device == context.device(), DeviceError, "PreparedLasso: memory lies on ", memory.device,
                       ", wanted ", context.device());
    SHRINKWARP_REQUIRE(memory.size >= needed, ShapeError, "PreparedLasso: memory has ", memory.size,
                       " bytes, wanted at least ", needed);
    float_batch.emplace(context, dictionary, momentum_of(options), options.penalty, problems, options.profile,
                        memory.slice(0, float_bytes));
    double_batch.emplace(context, dictionary, momentum_of(options), options.penalty, double_places(problems),
                         options.profile, memory.slice(float_bytes, needed - float_bytes));
    prepare_threads(context, dictionary.rows(), problems);
    if (!options.penalty.weights.empty())
      least_weight = *std::min_element(options.penalty.weights.begin(), options.penalty.weights.end());
    const Context host = Context::cpu(1);
    observations = Tensor<double>(host, dictionary.rows(), problems);
    arriving = Tensor<float>(host, dictionary.rows(), problems);
    staging = Tensor<double>(host, dictionary.rows(), problems);
    const auto size = static_cast<std::size_t>(problems);
    kept.resize(size);
    for (std::vector<double>* vector : {&lambda, &objective, &dual_gap}) vector->resize(size);
    iterations.resize(size);
    converged.resize(size);
    leave.reserve(size);
    float_problems.reserve(size);
    double_problems.reserve(static_cast<std::size_t>(double_places(problems)));
    handed_over.reserve(size);
  }

  template <class T>
  void fetch(MatrixView<const T> X) {
    const MatrixView<double> to = observations.matrix().columns(0, X.cols);
    if constexpr (std::is_same_v<T, double>) {
      copy(context, X, to);
      context.synchronize();
    } else {
      const MatrixView<float> raw = arriving.matrix().columns(0, X.cols);
      copy(context, X, raw);
      context.synchronize();
      for (std::int64_t b = 0; b < X.cols; ++b) std::copy_n(raw.column(b), X.rows, to.column(b));
    }
    for (std::int64_t b = 0; b < X.cols; ++b)
      for (std::int64_t i = 0; i < X.rows; ++i)
        SHRINKWARP_REQUIRE(std::isfinite(to(i, b)), ValueError, "PreparedLasso::solve: entry ", i, " of observation ",
                           b, " is ", to(i, b), ", wanted a finite number");
  }

  double lambda_of(const LambdaRule& rule, std::int64_t index, double lambda_max) const {
    if (rule.kind == LambdaRule::Kind::sample_fraction) return fraction_of(rule.number, lambda_max);
    return rule.kind == LambdaRule::Kind::value ? rule.number : rule.values[static_cast<std::size_t>(index)];
  }

  template <class P>
  void keep(const P& problem) {
    const auto i = static_cast<std::size_t>(problem.index);
    const InUserUnits result = fitting(problem);
    lambda[i] = problem.asked_lambda;
    objective[i] = result.objective;
    dual_gap[i] = result.dual_gap;
    kept[i] = 1;
    iterations[i] = problem.iterations;
    converged[i] = problem.gap <= options.gap * problem.energy ? 1 : 0;
    finished_so_far.done += 1;
    finished_so_far.unconverged += converged[i] ? 0 : 1;
    finished_so_far.iterations += problem.iterations;
    finished_so_far.worst_gap = std::max(finished_so_far.worst_gap, problem.relative_gap());
  }

  // @throws ValueError (a number, or perhaps the code, is beyond float64)
  template <class P>
  InUserUnits fitting(const P& problem) const {
    const InUserUnits result = in_user_units(problem, dictionary.scale());
    // The codes are on the device: no value of one is larger than objective / (lambda least weight), and those of x = 0 are 0.
    const double largest_code =
        problem.lambda > 0 ? problem.primal / problem.lambda / least_weight * result.code_unit : 0;
    const bool codes_fit = problem.energy == 0 || (result.codes_fit && std::isfinite(largest_code));
    SHRINKWARP_REQUIRE(result.numbers_fit && codes_fit, ValueError, "PreparedLasso::solve: the result of observation ",
                       problem.index,
                       " leaves the range of float64, wanted a dictionary and observations in closer units");
    return result;
  }

  // Takes finished problems out of a batch, and out of the float batch those that have to go on in double: their codes
  // wait in Z.
  template <class T>
  void settle(ProximalGradientBatch<T>& batch, MatrixView<double> Z) {
    leave.clear();
    for (const auto& problem : batch.problems())
      leave.push_back(finished(problem, options) || (std::is_same_v<T, float> && beyond_float(problem, options)) ? 1
                                                                                                                 : 0);
    for (const auto& problem : batch.retire(leave, Z)) {
      if (finished(problem, options)) {
        keep(problem);
      } else if constexpr (std::is_same_v<T, float>) {
        fitting(problem);  // it goes on from its code in Z
        handed_over.push_back(problem);
      }
    }
  }

  void between_blocks() {
    if (options.cancel && options.cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "PreparedLasso::solve: cancelled with ", finished_so_far.done, " of ",
                       finished_so_far.total, " problems finished");
    if (options.progress) options.progress(finished_so_far);
  }

  void run_float(std::int64_t count, const LambdaRule& rule, MatrixView<double> Z) {
    FloatBatch& batch = *float_batch;
    const MatrixView<double> X = staging.matrix().columns(0, count);
    for (std::int64_t b = 0; b < count; ++b) {
      std::copy_n(observations.matrix().column(b), X.rows, X.column(b));
      FloatBatch::Problem problem;
      problem.index = b;
      problem.lambda = -1;
      float_problems.push_back(problem);
    }
    batch.admit(X, float_problems, {},
                [&](std::int64_t index, double lambda_max) { return lambda_of(rule, index, lambda_max); });
    settle(batch, Z);
    while (batch.running() > 0) {
      between_blocks();
      batch.advance(options.max_iterations);
      settle(batch, Z);
    }
  }

  void run_double(MatrixView<double> Z) {
    DoubleBatch& batch = *double_batch;
    std::size_t next = 0;
    if (options.log && !handed_over.empty())
      options.log(LogLevel::info, concat(handed_over.size(), " problems go on in double"));
    while (next < handed_over.size() || batch.running() > 0) {
      between_blocks();
      double_problems.clear();
      while (next < handed_over.size() &&
             batch.running() + static_cast<std::int64_t>(double_problems.size()) < batch.places()) {
        const FloatBatch::Problem& from = handed_over[next++];
        DoubleBatch::Problem problem;
        problem.index = from.index;
        problem.lambda = from.lambda;
        problem.asked_lambda = from.asked_lambda;
        problem.iterations = from.iterations;
        std::copy_n(observations.matrix().column(from.index), dictionary.rows(),
                    staging.matrix().column(static_cast<std::int64_t>(double_problems.size())));
        double_problems.push_back(problem);
      }
      if (!double_problems.empty()) {
        DoubleBatch::Start start;
        start.dense = Z;
        batch.admit(staging.matrix().columns(0, static_cast<std::int64_t>(double_problems.size())), double_problems,
                    start, [](std::int64_t, double lambda_max) { return lambda_max; });
        settle(batch, Z);
      }
      if (batch.running() == 0) continue;
      batch.advance(options.max_iterations);
      settle(batch, Z);
    }
  }

  // Problems that were handed over and have not finished have left codes that nothing certifies.
  void withdraw(MatrixView<double> Z) {
    for (const FloatBatch::Problem& problem : handed_over)
      if (!kept[static_cast<std::size_t>(problem.index)])
        context.zero_bytes(Z.column(problem.index), Z.rows * static_cast<std::int64_t>(sizeof(double)));
    context.synchronize();
  }

  // Problems of a call that did not come to its end must not meet those of the next.
  void clear() {
    float_problems.clear();
    handed_over.clear();
    finished_so_far = {};
    std::fill(kept.begin(), kept.end(), std::uint8_t{0});
    float_batch->clear();
    double_batch->clear();
  }

  const Context& context;
  const Dictionary& dictionary;
  LassoOptions options;
  std::int64_t problems;
  double least_weight = 1;
  Tensor<std::byte> owned;
  std::optional<FloatBatch> float_batch;
  std::optional<DoubleBatch> double_batch;
  Tensor<double> observations;  // [n, problems], in the user's units
  Tensor<float> arriving;       // [n, problems], float observations on their way there
  Tensor<double> staging;       // [n, problems], on their way into a batch, which scales them
  std::vector<FloatBatch::Problem> float_problems, handed_over;
  std::vector<DoubleBatch::Problem> double_problems;
  std::vector<std::uint8_t> leave;
  std::vector<double> lambda, objective, dual_gap;  // [problems]
  std::vector<std::int64_t> iterations;             // [problems]
  std::vector<std::uint8_t> converged, kept;        // [problems]; kept: finished in this call
  Progress finished_so_far;
  PreparedResults results;
};

std::int64_t PreparedLasso::workspace(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                                      std::int64_t group_size) {
  check(context, dictionary, problems);
  SHRINKWARP_REQUIRE(group_size >= 1, ValueError, "PreparedLasso: the group size is ", group_size, ", wanted >= 1");
  return aligned(FloatBatch::workspace(context, dictionary, problems, group_size)) +
         DoubleBatch::workspace(context, dictionary, double_places(problems), group_size);
}

PreparedLasso::PreparedLasso(const Context& context, const Dictionary& dictionary, const LassoOptions& options,
                             std::int64_t problems, VectorView<std::byte> memory) {
  check(context, dictionary, problems);
  check_options(options);
  SHRINKWARP_REQUIRE(options.initial == nullptr && !options.skip && options.share == nullptr, ValueError,
                     "PreparedLasso: found initial codes, problems to skip or to share, wanted none of them");
  SHRINKWARP_REQUIRE(!has_working_sets(options.solver), ValueError,
                     "PreparedLasso: found the solver working-set, wanted fista, ista or auto");
  check_penalty(options.penalty, dictionary.atoms());
  for (std::size_t j = 0; j < options.penalty.weights.size(); ++j)
    SHRINKWARP_REQUIRE(options.penalty.weights[j] > 0, ValueError, "PreparedLasso: the weight of ",
                       options.penalty.grouped() ? "group " : "atom ", j,
                       " is 0, wanted > 0; solve_lasso takes unpenalised atoms");
  check_ridge(options.penalty, dictionary);
  impl_ = std::make_unique<Impl>(context, dictionary, options, problems, memory);
}

PreparedLasso::PreparedLasso(PreparedLasso&&) noexcept = default;
PreparedLasso& PreparedLasso::operator=(PreparedLasso&&) noexcept = default;
PreparedLasso::~PreparedLasso() = default;

std::int64_t PreparedLasso::problems() const {
  return impl_->problems;
}

template <class T>
const PreparedResults& PreparedLasso::solve(MatrixView<const T> X, const LambdaRule& rule, MatrixView<double> Z) {
  Impl& impl = *impl_;
  const std::int64_t count = X.cols;
  SHRINKWARP_REQUIRE(count <= impl.problems, ShapeError, "PreparedLasso::solve: X has ", count,
                     " columns, wanted at most the ", impl.problems, " that the solver was prepared for");
  check_matrix(impl.context, "PreparedLasso::solve", "X", X, impl.dictionary.rows(), count);
  check_matrix(impl.context, "PreparedLasso::solve", "Z", Z, impl.dictionary.atoms(), count);
  check_rule(rule, count);
  constexpr const char* kWanted =
      ", wanted a value, one for each problem, or a fraction of each problem's own lambda_max";
  SHRINKWARP_REQUIRE(rule.kind != LambdaRule::Kind::recording_fraction, ValueError,
                     "PreparedLasso::solve: found a fraction of the recording's lambda_max", kWanted);
  SHRINKWARP_REQUIRE(!rule.follows_path(), ValueError, "PreparedLasso::solve: found a lambda on the exact path",
                     kWanted);
  SHRINKWARP_REQUIRE(!has_zero_lambda(rule), ValueError, "PreparedLasso::solve: found a lambda of 0, wanted > 0");
  impl.clear();
  impl.finished_so_far.total = count;
  if (count > 0) {
    impl.fetch(X);
    for (std::int64_t b = 0; b < count; ++b)
      impl.context.zero_bytes(Z.column(b), Z.rows * static_cast<std::int64_t>(sizeof(double)));
    try {
      impl.run_float(count, rule, Z);
      impl.run_double(Z);
    } catch (const Cancelled&) {
      impl.withdraw(Z);
      throw;
    }
    impl.context.synchronize();
  }
  const auto view = [count](const auto& values) {
    return VectorView<const typename std::decay_t<decltype(values)>::value_type>{values.data(), count, {}};
  };
  impl.results = {view(impl.lambda),
                  view(impl.objective),
                  view(impl.dual_gap),
                  view(impl.iterations),
                  view(impl.converged),
                  impl.finished_so_far.unconverged,
                  impl.finished_so_far.worst_gap};
  return impl.results;
}

template const PreparedResults& PreparedLasso::solve<float>(MatrixView<const float>, const LambdaRule&,
                                                            MatrixView<double>);
template const PreparedResults& PreparedLasso::solve<double>(MatrixView<const double>, const LambdaRule&,
                                                             MatrixView<double>);

}  // namespace shrinkwarp
