#include <shrinkwarp/models/lasso/unpenalised.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <shrinkwarp/kernels/singular_values/singular_values.hpp>
#include <shrinkwarp/models/lasso/memory_plan.hpp>
#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

constexpr double kUnit = std::numeric_limits<double>::epsilon();

double product(const double* a, const double* b, std::int64_t size) {
  double sum = 0;
  for (std::int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

/// Of finite entries. Their squares may be beyond the range of double.
double norm(const double* v, std::int64_t size) {
  double largest = 0;
  for (std::int64_t i = 0; i < size; ++i) largest = std::max(largest, std::fabs(v[i]));
  if (largest == 0) return 0;
  double sum = 0;
  for (std::int64_t i = 0; i < size; ++i) sum += (v[i] / largest) * (v[i] / largest);
  return largest * std::sqrt(sum);
}

void add_scaled(double factor, const double* from, double* to, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) to[i] += factor * from[i];
}

/// The unpenalised atoms, decomposed, and what they do to vectors. All in the user's units, on the host.
class Fit {
 public:
  Fit(const Context& context, const Dictionary& dictionary, const Penalty& penalty)
      : ridge_(penalty.ridge), D_(dictionary.in_user_units(context)) {
    for (std::int64_t j = 0; j < dictionary.atoms(); ++j)
      if (penalty.weight_of(j) == 0) atoms_.push_back(static_cast<std::int32_t>(j));
    const Context one = Context::cpu(1);
    const Tensor<double> unpenalised(one, D_.rows(), static_cast<std::int64_t>(atoms_.size()));
    for (std::size_t k = 0; k < atoms_.size(); ++k)
      std::copy_n(atom(atoms_[k]), D_.rows(), unpenalised.matrix().column(static_cast<std::int64_t>(k)));
    parts_ = singular_values(one, unpenalised.matrix());
    rank_ = parts_.rank();
  }

  std::int64_t rows() const { return D_.rows(); }
  const std::vector<std::int32_t>& atoms() const { return atoms_; }
  const double* atom(std::int64_t j) const { return D_.matrix().column(j); }

  /// v <- M v; what is left of a vector in the span of D_0 is rounding, and becomes 0.
  void reduce(double* v) const {
    const double before = norm(v, rows());
    if (!std::isfinite(before)) return;
    for (int time = 0; time < (ridge_ > 0 ? 1 : 2); ++time) {  // a projection is better made twice
      for (std::int64_t k = 0; k < rank_; ++k) {
        const double along = product(left(k), v, rows());
        const double value = parts_.values[static_cast<std::size_t>(k)];
        // Without a ridge nothing is kept; the square of a small value may be 0.
        const double kept = ridge_ > 0 ? std::sqrt(ridge_ / (value * value + ridge_)) : 0;
        add_scaled((kept - 1) * along, left(k), v, rows());
      }
    }
    if (norm(v, rows()) <= 32 * kUnit * before) std::fill_n(v, rows(), 0.0);
  }

  /// z_0 for the residual v = x - D_1 z_1, atom by atom; v <- x - D z.
  std::vector<double> solve(double* v) const {
    std::vector<double> code(atoms_.size(), 0.0);
    // Once more for what rounding has left, which without a ridge is as good as new.
    for (int time = 0; time < (ridge_ > 0 ? 1 : 2); ++time) {
      std::vector<double> change(atoms_.size(), 0.0);
      for (std::int64_t k = 0; k < rank_; ++k) {
        const double value = parts_.values[static_cast<std::size_t>(k)];
        const double along = product(left(k), v, rows()) / (value + ridge_ / value);
        for (std::size_t i = 0; i < atoms_.size(); ++i)
          change[i] += along * parts_.right.matrix()(k, static_cast<std::int64_t>(i));
      }
      for (std::size_t i = 0; i < atoms_.size(); ++i) {
        add_scaled(-change[i], atom(atoms_[i]), v, rows());
        code[i] += change[i];
      }
    }
    return code;
  }

  /// M D, with columns of 0 for the unpenalised atoms.
  Dictionary reduced(const Context& context) const {
    const Tensor<double> MD(Context::cpu(1), D_.rows(), D_.cols());
    const Context host = Context::cpu(context.is_cuda() ? 0 : context.threads());
    host.parallel_for(D_.cols(), [&](std::int64_t j, int) {
      double* const column = MD.matrix().column(j);
      if (std::binary_search(atoms_.begin(), atoms_.end(), static_cast<std::int32_t>(j))) {
        std::fill_n(column, rows(), 0.0);
      } else {
        std::copy_n(atom(j), rows(), column);
        reduce(column);
      }
    });
    return Dictionary(context, MD.matrix());
  }

 private:
  const double* left(std::int64_t k) const { return parts_.left.matrix().column(k); }

  double ridge_;
  Tensor<double> D_;                 // [n, m]
  std::vector<std::int32_t> atoms_;  // unpenalised, ascending
  SingularValues parts_;             // of these
  std::int64_t rank_ = 0;
};

/// M x for x of a source.
class ReducedSource : public ObservationSource {
 public:
  ReducedSource(ObservationSource& source, const Fit& fit) : source_(source), fit_(fit) {}
  std::int64_t size() const override { return source_.size(); }
  std::int64_t dimension() const override { return source_.dimension(); }
  std::string name() const override { return source_.name(); }
  void read(std::int64_t first, MatrixView<double> X) override {
    source_.read(first, X);
    // An observation that is not finite stays what it is, for whoever refuses it.
    for (std::int64_t b = 0; b < X.cols; ++b)
      if (std::all_of(X.column(b), X.column(b) + X.rows, [](double v) { return std::isfinite(v); }))
        fit_.reduce(X.column(b));
  }

 private:
  ObservationSource& source_;
  const Fit& fit_;
};

/// Takes codes z_1 and hands on whole codes.
class WholeCodes : public CodeSink {
 public:
  WholeCodes(ObservationSource& source, const Fit& fit, const LassoOptions& options, CodeSink& sink)
      : source_(source), fit_(fit), options_(options), sink_(sink) {}

  void append(const LassoBatch& batch) override {
    LassoBatch whole;
    for (std::int64_t i = 0; i < batch.size(); ++i) append_whole(batch, static_cast<std::size_t>(i), whole);
    sink_.append(whole);
    summary_.problems += whole.size();
    summary_.nonzeros += static_cast<std::int64_t>(whole.codes.values.size());
    for (std::size_t i = 0; i < whole.index.size(); ++i) {
      summary_.unconverged += whole.converged[i] ? 0 : 1;
      summary_.iterations += whole.iterations[i];
    }
  }
  const LassoSummary& summary() const { return summary_; }

 private:
  void append_whole(const LassoBatch& batch, std::size_t i, LassoBatch& whole) {
    const std::int64_t n = fit_.rows();
    std::vector<double> x(static_cast<std::size_t>(n));
    source_.read(batch.index[i], {x.data(), n, 1, n, {}});
    const double energy = product(x.data(), x.data(), n) / 2;
    std::vector<std::pair<std::int32_t, double>> code;
    for (auto k = batch.codes.offsets[i]; k < batch.codes.offsets[i + 1]; ++k) {
      const auto at = static_cast<std::size_t>(k);
      code.emplace_back(batch.codes.indices[at], batch.codes.values[at]);
      add_scaled(-batch.codes.values[at], fit_.atom(batch.codes.indices[at]), x.data(), n);
    }
    const std::vector<double> free = fit_.solve(x.data());
    for (std::size_t k = 0; k < free.size(); ++k)
      if (free[k] != 0) code.emplace_back(fit_.atoms()[k], free[k]);
    std::sort(code.begin(), code.end());
    // x is the residual now. The dual value is that of the reduced problem; the objective is the whole code's.
    const Penalty& penalty = options_.penalty;
    double squares = 0, magnitude = 0;
    double group_squares = 0;  // of the entries so far of the group at hand
    for (std::size_t k = 0; k < code.size(); ++k) {
      const auto [atom, value] = code[k];
      squares += value * value;
      group_squares += value * value;
      whole.codes.indices.push_back(atom);
      whole.codes.values.push_back(value);
      if (k + 1 < code.size() && code[k + 1].first / penalty.group_size == atom / penalty.group_size) continue;
      magnitude += penalty.weight_of(atom) * (penalty.grouped() ? std::sqrt(group_squares) : std::fabs(value));
      group_squares = 0;
    }
    whole.codes.offsets.push_back(static_cast<std::int64_t>(whole.codes.values.size()));
    const double objective =
        (product(x.data(), x.data(), n) + penalty.ridge * squares) / 2 + batch.lambda[i] * magnitude;
    const double gap =
        std::max(batch.dual_gap[i], batch.dual_gap[i] + (objective - batch.objective[i])) + 16 * kUnit * objective;
    SHRINKWARP_REQUIRE(std::isfinite(objective) && std::isfinite(gap), ValueError, source_.name(),
                       ": the result of row ", batch.index[i],
                       " leaves the range of float64, wanted a dictionary and observations in closer units");
    whole.index.push_back(batch.index[i]);
    whole.lambda.push_back(batch.lambda[i]);
    whole.objective.push_back(objective);
    whole.dual_gap.push_back(gap);
    whole.iterations.push_back(batch.iterations[i]);
    whole.converged.push_back(gap <= options_.gap * energy ? 1 : 0);
    summary_.worst_gap = std::max(summary_.worst_gap, energy > 0 ? gap / energy : gap);
  }

  ObservationSource& source_;
  const Fit& fit_;
  const LassoOptions& options_;
  CodeSink& sink_;
  LassoSummary summary_;
};

/// Hands on codes whose lambda is 0.
class ZeroLambdas : public CodeSink {
 public:
  explicit ZeroLambdas(CodeSink& sink) : sink_(sink) {}
  void append(const LassoBatch& batch) override {
    LassoBatch zero = batch;
    std::fill(zero.lambda.begin(), zero.lambda.end(), 0.0);
    sink_.append(zero);
  }

 private:
  CodeSink& sink_;
};

/// What the reduced problem is solved with: atoms that are unpenalised are left out of it.
LassoOptions reduced_options(const Dictionary& dictionary, const LassoOptions& options) {
  LassoOptions reduced = options;
  for (double& weight : reduced.penalty.weights)
    if (weight == 0) weight = std::numeric_limits<double>::infinity();
  reduced.memory_limit -= unpenalised_bytes(dictionary.rows(), dictionary.atoms(), options.penalty);
  return reduced;
}

}  // namespace

bool has_unpenalised(const Penalty& penalty) {
  return std::find(penalty.weights.begin(), penalty.weights.end(), 0.0) != penalty.weights.end();
}

LassoSummary solve_with_unpenalised(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                    const LambdaRule& rule, const LassoOptions& options, CodeSink& sink) {
  const LassoOptions reduced = reduced_options(dictionary, options);
  const Fit fit(context, dictionary, options.penalty);
  const Dictionary reduced_dictionary = fit.reduced(context);
  ReducedSource reduced_source(source, fit);
  WholeCodes codes(source, fit, options, sink);
  solve_lasso(context, reduced_dictionary, reduced_source, rule, reduced, codes);
  return codes.summary();
}

void find_lambda_max_with_unpenalised(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                      const LassoOptions& options,
                                      FunctionRef<void(std::int64_t, VectorView<const double>)> found) {
  const Fit fit(context, dictionary, options.penalty);
  const Dictionary reduced_dictionary = fit.reduced(context);
  ReducedSource reduced_source(source, fit);
  find_lambda_max(context, reduced_dictionary, reduced_source, reduced_options(dictionary, options), found);
}

bool has_zero_lambda(const LambdaRule& rule) {
  if (rule.kind == LambdaRule::Kind::value) return rule.number == 0;
  return rule.kind == LambdaRule::Kind::per_problem &&
         std::find(rule.values.begin(), rule.values.end(), 0.0) != rule.values.end();
}

LassoSummary solve_with_zero_lambdas(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                     const LambdaRule& rule, const LassoOptions& options, CodeSink& sink) {
  SHRINKWARP_REQUIRE(!options.penalty.nonnegative, ValueError, rule.name,
                     ": found 0, wanted > 0 where codes are to be nonnegative");
  const auto is_zero = [&rule](std::int64_t i) {
    return rule.kind == LambdaRule::Kind::value || rule.values[static_cast<std::size_t>(i)] == 0;
  };
  LassoSummary summary;
  LassoOptions others = options;
  others.skip = [&](std::int64_t i) { return is_zero(i) || (options.skip && options.skip(i)); };
  std::int64_t first_total = 0;  // problems of the first pass, those of others who share them included
  if (rule.kind == LambdaRule::Kind::per_problem) {
    if (options.progress) {
      others.progress = [&](const Progress& progress) {
        first_total = progress.total;
        options.progress(progress);
      };
    }
    LambdaRule positive = rule;
    std::replace(positive.values.begin(), positive.values.end(), 0.0, 1.0);  // of problems that are left out
    summary = solve_lasso(context, dictionary, source, positive, others, sink);
  }

  LassoOptions free = options;
  free.initial = nullptr;
  free.skip = [&](std::int64_t i) { return !is_zero(i) || (options.skip && options.skip(i)); };
  free.penalty.weights.resize(static_cast<std::size_t>(dictionary.atoms() / free.penalty.group_size), 0.0);
  for (double& weight : free.penalty.weights)
    if (std::isfinite(weight)) weight = 0;
  if (options.progress) {
    free.progress = [&](Progress progress) {
      progress.done += summary.problems;
      progress.total += first_total;
      progress.unconverged += summary.unconverged;
      progress.iterations += summary.iterations;
      progress.worst_gap = std::max(progress.worst_gap, summary.worst_gap);
      options.progress(progress);
    };
  }
  ZeroLambdas zero(sink);
  summary += solve_lasso(context, dictionary, source, LambdaRule::value(1), free, zero);
  return summary;
}

}  // namespace shrinkwarp
