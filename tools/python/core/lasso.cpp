// The solver: a prepared dictionary, and solves of rows with it.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <shrinkwarp/models/lasso/debias.hpp>
#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/minimum_norm.hpp>
#include <shrinkwarp/models/lasso/solver_name.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/python/core/arrays.hpp>
#include <shrinkwarp/tools/python/core/calls.hpp>
#include <shrinkwarp/tools/python/core/contexts.hpp>
#include <shrinkwarp/tools/python/core/interpreter_lock.hpp>
#include <shrinkwarp/tools/python/core/parts.hpp>
#include <shrinkwarp/tools/python/core/prepared_dictionary.hpp>

namespace shrinkwarp::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

using DenseRows = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Codes = std::tuple<Vector<std::int64_t>, Vector<std::int32_t>, Vector<double>>;

constexpr std::int64_t kRowsAtATime = 1024;  // of what goes over rows after a solve

Solver solver_named(const std::string& name) {
  for (const Solver solver :
       {Solver::automatic, Solver::working_set, Solver::plain_working_set, Solver::fista, Solver::ista})
    if (name == name_of(solver)) return solver;
  SHRINKWARP_THROW(ValueError, "solver: found '", name,
                   "', wanted 'auto', 'working-set', 'plain-working-set', 'fista' or 'ista'");
}

/// @param lambda_max  of all observations where X is a block of them, for recording_fraction
LambdaRule rule_of(const std::string& kind, double number, const std::optional<Vector<double>>& values,
                   std::optional<double> lambda_max) {
  if (kind == "per_problem") {
    LambdaRule rule = LambdaRule::per_problem(to_vector<double>(*values));
    rule.name = "lam";
    return rule;
  }
  if (kind == "value") return LambdaRule::value(number);
  if (kind == "sample_fraction") return LambdaRule::sample_fraction(number);
  if (kind == "recording_fraction") {
    LambdaRule rule = LambdaRule::recording_fraction(number);
    if (lambda_max) rule.lambda_max = *lambda_max;
    return rule;
  }
  if (kind == "l1_radius") return LambdaRule::l1_radius(number);
  if (kind == "residual_norm") return LambdaRule::residual_norm(number);
  SHRINKWARP_REQUIRE(kind == "max_nonzeros", ValueError, "found the rule '", kind, "', wanted one of the seven");
  return LambdaRule::max_nonzeros(static_cast<std::int64_t>(number));
}

Penalty penalty_of(const std::optional<Vector<double>>& weights, std::int64_t group_size, bool nonnegative) {
  Penalty penalty;
  if (weights) penalty.weights = to_vector<double>(*weights);
  penalty.group_size = group_size;
  penalty.nonnegative = nonnegative;
  return penalty;
}

/// A value for each observation, `none` for those that were not reached.
template <class To, class From>
nb::ndarray<nb::numpy, To, nb::ndim<1>> spread(const LassoBatch& batch, const std::vector<From>& values, std::int64_t N,
                                               To none) {
  std::vector<To> all(static_cast<std::size_t>(N), none);
  for (std::size_t k = 0; k < values.size(); ++k)
    all[static_cast<std::size_t>(batch.index[k])] = static_cast<To>(values[k]);
  return to_numpy(std::move(all));
}

/// Amplitudes of the problems of a batch, in its pattern.
std::vector<double> debiased(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                             const LassoBatch& batch) {
  const Debias debias(context, dictionary);
  std::vector<double> amplitudes, X;
  for (std::int64_t k = 0; k < batch.size();) {
    // Problems that follow one another are read together.
    std::int64_t count = 1;
    while (k + count < batch.size() && count < kRowsAtATime && batch.index[k + count] == batch.index[k] + count)
      ++count;
    X.resize(static_cast<std::size_t>(count * source.dimension()));
    const MatrixView<double> rows{X.data(), source.dimension(), count, source.dimension(), {}};
    source.read(batch.index[k], rows);
    SparseCodes codes;
    const std::int64_t begin = batch.codes.offsets[k], end = batch.codes.offsets[k + count];
    for (std::int64_t i = 1; i <= count; ++i) codes.offsets.push_back(batch.codes.offsets[k + i] - begin);
    codes.indices.assign(batch.codes.indices.begin() + begin, batch.codes.indices.begin() + end);
    codes.values.assign(batch.codes.values.begin() + begin, batch.codes.values.begin() + end);
    const std::vector<double> some = debias.amplitudes(rows, codes);
    amplitudes.insert(amplitudes.end(), some.begin(), some.end());
    k += count;
  }
  return amplitudes;
}

nb::dict result(LassoBatch batch, std::int64_t N, bool debias, std::vector<double> amplitudes,
                const Listener& listener) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  nb::dict result;
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(N) + 1, 0);
  for (std::int64_t k = 0; k < batch.size(); ++k)
    offsets[static_cast<std::size_t>(batch.index[k]) + 1] = batch.codes.offsets[k + 1] - batch.codes.offsets[k];
  for (std::size_t i = 1; i < offsets.size(); ++i) offsets[i] += offsets[i - 1];
  result["lam"] = spread(batch, batch.lambda, N, kNone);
  result["objective"] = spread(batch, batch.objective, N, kNone);
  result["dual_gap"] = spread(batch, batch.dual_gap, N, kNone);
  result["iterations"] = spread(batch, batch.iterations, N, std::int64_t{0});
  result["converged"] = spread(batch, batch.converged, N, std::uint8_t{0});
  result["finished"] = batch.size();
  result["indptr"] = to_numpy(std::move(offsets));
  result["indices"] = to_numpy(std::move(batch.codes.indices));
  result["values"] = to_numpy(std::move(batch.codes.values));
  if (debias) result["debiased"] = to_numpy(std::move(amplitudes));
  result["raised"] = listener.raised();
  return result;
}

nb::dict solve(const PreparedDictionary& prepared, nb::object X, const std::string& kind, double number,
               const std::optional<Vector<double>>& values, const std::string& solver, double gap,
               std::int64_t max_iterations, const std::optional<Vector<double>>& weights, std::int64_t group_size,
               bool nonnegative, double ridge, const std::optional<Codes>& initial,
               std::optional<std::int64_t> memory_limit, bool debias, nb::object progress, nb::object log,
               std::int64_t problems_in_all, std::optional<double> lambda_max) {
  const LambdaRule rule = rule_of(kind, number, values, lambda_max);
  LassoOptions options;
  options.solver = solver_named(solver);
  options.gap = gap;
  options.max_iterations = max_iterations;
  options.penalty = penalty_of(weights, group_size, nonnegative);
  options.penalty.ridge = ridge;
  options.problems_in_all = problems_in_all;
  if (memory_limit) options.memory_limit = *memory_limit;
  SparseCodes start;
  if (initial) {
    start = {to_vector<std::int64_t>(std::get<0>(*initial)), to_vector<std::int32_t>(std::get<1>(*initial)),
             to_vector<double>(std::get<2>(*initial))};
    options.initial = &start;
  }
  Listener listener(std::move(progress), std::move(log));
  options.progress = listener.progress();
  options.log = listener.log();
  options.cancel = listener.token();

  const Contexts::Lease lease(prepared.contexts());
  const Context& context = *lease;
  const std::unique_ptr<ObservationSource> source = observations_of(context, X, "X");
  LassoBatch batch;
  std::vector<double> amplitudes;
  {
    const Unlocked unlocked;
    MemorySink sink;
    try {
      solve_lasso(context, prepared.dictionary(), *source, rule, options, sink);
    } catch (const Cancelled&) {  // the listener knows why
    }
    batch = sink.in_order();
    if (debias) amplitudes = debiased(context, prepared.dictionary(), *source, batch);
  }
  return result(std::move(batch), source->size(), debias, std::move(amplitudes), listener);
}

/// The largest lambda_max of all rows, as a solve with recording_fraction finds it.
double recording_lambda_max(const PreparedDictionary& prepared, nb::object X,
                            const std::optional<Vector<double>>& weights, std::int64_t group_size, bool nonnegative,
                            std::optional<std::int64_t> memory_limit) {
  LassoOptions options;
  options.penalty = penalty_of(weights, group_size, nonnegative);
  if (memory_limit) options.memory_limit = *memory_limit;
  const Contexts::Lease lease(prepared.contexts());
  const Context& context = *lease;
  const std::unique_ptr<ObservationSource> source = observations_of(context, X, "X");
  const Unlocked unlocked;
  return shrinkwarp::recording_lambda_max(context, prepared.dictionary(), *source, options);
}

/// lambda_max of each row.
nb::ndarray<nb::numpy, double, nb::ndim<1>> lambda_max(const PreparedDictionary& prepared, nb::object X,
                                                       const std::optional<Vector<double>>& weights,
                                                       std::int64_t group_size, bool nonnegative) {
  LassoOptions options;
  options.penalty = penalty_of(weights, group_size, nonnegative);
  const Contexts::Lease lease(prepared.contexts());
  const std::unique_ptr<ObservationSource> source = observations_of(*lease, X, "X");
  std::vector<double> found;
  {
    const Unlocked unlocked;
    found = shrinkwarp::lambda_max(*lease, prepared.dictionary(), *source, options);
  }
  return to_numpy(std::move(found));
}

/// D [n, m] in Fortran order, as it was given.
nb::ndarray<nb::numpy, double, nb::ndim<2>, nb::f_contig> values(const PreparedDictionary& prepared) {
  const std::int64_t n = prepared.dictionary().rows(), m = prepared.dictionary().atoms();
  auto D = std::make_unique<Tensor<double>>();
  {
    const Unlocked unlocked;
    const Contexts::Lease lease(prepared.contexts());
    *D = prepared.dictionary().in_user_units(*lease);
  }
  double* const data = D->data();
  nb::capsule owner(D.release(), [](void* p) noexcept { delete static_cast<Tensor<double>*>(p); });
  return nb::ndarray<nb::numpy, double, nb::ndim<2>, nb::f_contig>(
      data, {static_cast<std::size_t>(n), static_cast<std::size_t>(m)}, owner, {1, n});
}

/// [N, m] of the least-squares codes of least norm.
nb::ndarray<nb::numpy, double, nb::ndim<2>> minimum_norm(const DictionaryArray& D, const DenseRows& X, int threads) {
  const auto N = static_cast<std::int64_t>(X.shape(0)), n = static_cast<std::int64_t>(X.shape(1));
  const auto m = static_cast<std::int64_t>(D.shape(1));
  std::unique_ptr<double[]> Z(new double[static_cast<std::size_t>(N * m)]);
  {
    const Unlocked unlocked;
    const Context context = Context::cpu(threads);
    const MinimumNorm solver(context, view_of(D));
    for (std::int64_t first = 0; first < N; first += kRowsAtATime) {
      const std::int64_t count = std::min(kRowsAtATime, N - first);
      solver.solve(context, {X.data() + first * n, n, count, n, {}}, {Z.get() + first * m, m, count, m, {}});
    }
  }
  double* const data = Z.release();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<double*>(p); });
  return nb::ndarray<nb::numpy, double, nb::ndim<2>>(data, {static_cast<std::size_t>(N), static_cast<std::size_t>(m)},
                                                     owner);
}

}  // namespace

void add_lasso(nb::module_& module) {
  nb::class_<PreparedDictionary>(
      module, "PreparedDictionary",
      "A dictionary (n, m) of float64 in Fortran order, on its device, for any number of solves "
      "on any threads.")
      .def(nb::init<const DictionaryArray&, const std::string&, int>(), "D"_a, "device"_a, "threads"_a,
           nb::call_guard<Unlocked>())
      .def_prop_ro("rows", [](const PreparedDictionary& self) { return self.dictionary().rows(); })
      .def_prop_ro("atoms", [](const PreparedDictionary& self) { return self.dictionary().atoms(); })
      .def_prop_ro("device", [](const PreparedDictionary& self) { return concat(self.dictionary().device()); })
      .def("solve", &solve, "X"_a, "kind"_a, "number"_a, "values"_a.none(), "solver"_a, "gap"_a, "max_iterations"_a,
           "weights"_a.none(), "group_size"_a, "nonnegative"_a, "ridge"_a, "initial"_a.none(), "memory_limit"_a.none(),
           "debias"_a, "progress"_a.none(), "log"_a.none(), "problems_in_all"_a = 0, "lambda_max"_a = nb::none(),
           "Solves the Lasso for every row of X. Gives CSR arrays and one value a row; rows that were not reached, "
           "where Python "
           "raised what `raised` is, have no gap. Of a block of observations `problems_in_all` and `lambda_max` (of "
           "recording_fraction) are those of the whole.")
      .def("lambda_max", &lambda_max, "X"_a, "weights"_a.none(), "group_size"_a, "nonnegative"_a,
           "lambda_max of each row.")
      .def("recording_lambda_max", &recording_lambda_max, "X"_a, "weights"_a.none(), "group_size"_a, "nonnegative"_a,
           "memory_limit"_a.none(), "The largest lambda_max of all rows, as a solve with recording_fraction finds it.")
      .def("values", &values, "D (n, m) in Fortran order, as it was given: a copy.");
  module.def(
      "address_of", [](const AnyMatrix& X) { return reinterpret_cast<std::uintptr_t>(X.data()); }, "X"_a,
      "Where the first element lies that a solve of X reads.");
  module.def("minimum_norm", &minimum_norm, "D"_a, "X"_a, "threads"_a,
             "The least-squares codes of least norm (N, m) of the rows of X (N, n).");
}

}  // namespace shrinkwarp::python
