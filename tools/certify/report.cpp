#include <shrinkwarp/tools/certify/report.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/runtime/io/npz.hpp>
#include <shrinkwarp/tools/certify/codes_file.hpp>

namespace shrinkwarp::certify {
namespace {

constexpr std::int64_t kBlock = 32;        // problems that a thread takes at a time (the certifier's panel)
constexpr double kLambdaTolerance = 1e-9;  // lambda_max of another program carries its own rounding
constexpr double kSingleUnit = 0x1p-24;    // unit roundoff of float32

std::vector<double> read_dictionary(const NpyFile& file) {
  const std::int64_t n = file.rows(), m = file.cols();
  std::vector<double> D(static_cast<std::size_t>(n * m));
  file.read_matrix(MatrixView<double>{D.data(), n, m, n, Device{}});
  for (std::int64_t j = 0; j < m; ++j) {
    for (std::int64_t i = 0; i < n; ++i) {
      const double value = D[static_cast<std::size_t>(j * n + i)];
      SHRINKWARP_REQUIRE(std::isfinite(value), ValueError, file.path(), ": entry (", i, ", ", j, ") is ", value,
                         ", wanted a finite number");
    }
  }
  return D;
}

/// The observations, block by block in order.
class Observations {
 public:
  explicit Observations(const std::string& path) : file_(NpyFile::open(path)) { file_.rows(); }
  const NpyFile& file() const { return file_; }
  std::int64_t size() const { return file_.rows(); }
  MatrixView<const double> read(std::int64_t first, std::int64_t count) {
    const std::int64_t n = file_.cols();
    buffer_.resize(static_cast<std::size_t>(n * count));
    const MatrixView<double> X{buffer_.data(), n, count, n, Device{}};
    file_.read_rows(first, count, X);
    file_.prefetch_rows(first + count, count);
    for (std::int64_t b = 0; b < count; ++b) {
      for (std::int64_t i = 0; i < n; ++i) {
        SHRINKWARP_REQUIRE(std::isfinite(X(i, b)), ValueError, file_.path(), ": entry ", i, " of row ", first + b,
                           " is ", X(i, b), ", wanted a finite number");
      }
    }
    return X;
  }

 private:
  NpyFile file_;
  std::vector<double> buffer_;
};

std::vector<double> lambdas_of_file(const LambdaChoice& choice, const CodesFile& codes) {
  if (choice.kind == LambdaChoice::Kind::of_codes_file) {
    SHRINKWARP_REQUIRE(codes.claims().lambda, ValueError, codes.path(),
                       ": found no array 'lambda', wanted one, or --lambda, --lambda-fraction or --lambda-file");
    return codes.claims().lambda->values;
  }
  std::vector<double> values = NpyFile::open(choice.path).read_vector();
  SHRINKWARP_REQUIRE(static_cast<std::int64_t>(values.size()) == codes.size(), ShapeError, choice.path, ": found ",
                     values.size(), " lambdas, wanted one for each of ", codes.size(), " codes");
  for (std::size_t i = 0; i < values.size(); ++i) {
    SHRINKWARP_REQUIRE(values[i] >= 0 && std::isfinite(values[i]), ValueError, choice.path, ": lambda of problem ", i,
                       " is ", values[i], ", wanted a finite number >= 0");
  }
  return values;
}

void contradict(ClaimCheck& check, std::int64_t problem, double difference) {
  if (check.contradicted++ == 0) check.first = problem;
  // A claim that is no number differs by no number.
  check.worst = std::max(check.worst, std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference);
}

/// Holds what the file states of one problem against what was found at the lambda that it states.
void check_claims(const Claims& claims, const Measures& measures, const Row& row, double gap, Report& report) {
  const auto i = static_cast<std::size_t>(row.problem);
  const double stated_lambda = claims.lambda ? claims.lambda->values[i] : row.lambda;
  if (claims.lambda) {
    const double difference = std::fabs(stated_lambda - row.lambda);
    const double allowed = claims.lambda->single ? kSingleUnit + kLambdaTolerance : kLambdaTolerance;
    if (difference > allowed * row.lambda) contradict(report.lambda_claim, row.problem, difference / row.lambda);
  }
  const auto relative = [energy = row.certificate.energy](double difference) {
    return energy > 0 ? difference / energy : difference;
  };
  if (claims.objective || claims.dual_gap) {
    const Certificate found = stated_lambda == row.lambda ? row.certificate : measures.at(stated_lambda);
    const Float64Slack slack = measures.float64_slack(stated_lambda);
    if (claims.objective) {
      const double claim = claims.objective->values[i];
      const double allowed =
          found.objective_rounding + slack.objective + (claims.objective->single ? kSingleUnit * std::fabs(claim) : 0);
      const double difference = std::fabs(claim - found.objective);
      if (!(difference <= allowed)) contradict(report.objective_claim, row.problem, relative(difference));
    }
    if (claims.dual_gap) {
      const double claim = claims.dual_gap->values[i];
      const double allowed =
          found.rounding + slack.dual_gap + (claims.dual_gap->single ? kSingleUnit * std::fabs(claim) : 0);
      const double difference = found.dual_gap - claim;
      if (!(difference <= allowed)) contradict(report.gap_claim, row.problem, relative(difference));
    }
  }
  if (claims.converged && (*claims.converged)[i] != 0 && row.certificate.relative_gap > gap)
    contradict(report.converged_claim, row.problem, row.certificate.relative_gap);
}

/// Certifies the problems whose lambda is 0: every atom is unpenalised there.
class Unpenalised {
 public:
  Unpenalised(const Context& context, MatrixView<const double> D, const Penalty& penalty)
      : context_(context), D_(D), penalty_(penalty) {}

  /// Measures such problems once more, where their atoms let them.
  void measure(MatrixView<const double> X, const CodeRows& Z, VectorView<const double> lambda, std::int64_t first,
               Measures* out) {
    std::vector<std::int64_t> problems;
    std::vector<double> columns;
    CodeRows codes;
    for (std::int64_t b = 0; b < X.cols; ++b) {
      if (lambda[b] != 0 || std::all_of(X.column(b), X.column(b) + X.rows, [](double v) { return v == 0; })) continue;
      problems.push_back(b);
      columns.insert(columns.end(), X.column(b), X.column(b) + X.rows);
      const auto begin = Z.offsets[static_cast<std::size_t>(b)], end = Z.offsets[static_cast<std::size_t>(b) + 1];
      codes.indices.insert(codes.indices.end(), Z.indices.begin() + begin, Z.indices.begin() + end);
      codes.values.insert(codes.values.end(), Z.values.begin() + begin, Z.values.begin() + end);
      codes.offsets.push_back(static_cast<std::int64_t>(codes.values.size()));
    }
    if (problems.empty() || !prepare()) return;
    const auto count = static_cast<std::int64_t>(problems.size());
    std::vector<double> zero(problems.size(), 0.0);
    std::vector<Measures> found(problems.size());
    certifier_->measure(context_, {columns.data(), X.rows, count, X.rows, Device{}}, codes,
                        {zero.data(), count, Device{}}, first + problems.front(), found.data());
    for (std::size_t k = 0; k < problems.size(); ++k) out[problems[k]] = found[k];
  }

 private:
  bool prepare() {
    if (tried_) return certifier_ != nullptr;
    tried_ = true;
    // More atoms than rows are dependent, but for a ridge; where they span all of x the objective is 0, and that is enough.
    if (penalty_.nonnegative || penalty_.radius >= 0 || (D_.cols > D_.rows && penalty_.ridge == 0)) return false;
    penalty_.weights.resize(static_cast<std::size_t>(D_.cols / penalty_.group_size), 0.0);
    for (double& weight : penalty_.weights)
      if (std::isfinite(weight)) weight = 0;
    try {
      certifier_ = std::make_unique<Certifier>(context_, D_, penalty_);
    } catch (const ValueError&) {  // dependent
    }
    return certifier_ != nullptr;
  }

  const Context& context_;
  MatrixView<const double> D_;
  Penalty penalty_;
  bool tried_ = false;
  std::unique_ptr<Certifier> certifier_;
};

/// The per-problem numbers as an .npz.
class RowsFile {
 public:
  explicit RowsFile(const std::string& path)
      : writer_(path),
        lambda_(writer_.add("lambda", ElementType::f8)),
        objective_(writer_.add("objective", ElementType::f8)),
        objective_rounding_(writer_.add("objective_rounding", ElementType::f8)),
        dual_gap_(writer_.add("dual_gap", ElementType::f8)),
        rounding_(writer_.add("rounding", ElementType::f8)),
        relative_gap_(writer_.add("relative_gap", ElementType::f8)),
        nonzeros_(writer_.add("nonzeros", ElementType::i8)),
        correlation_excess_(writer_.add("correlation_excess", ElementType::f8)),
        kkt_violation_(writer_.add("kkt_violation", ElementType::f8)),
        sign_errors_(writer_.add("sign_errors", ElementType::i8)) {}
  void append(const Row& row) {
    writer_.append(lambda_, &row.lambda, 1);
    writer_.append(objective_, &row.certificate.objective, 1);
    writer_.append(objective_rounding_, &row.certificate.objective_rounding, 1);
    writer_.append(dual_gap_, &row.certificate.dual_gap, 1);
    writer_.append(rounding_, &row.certificate.rounding, 1);
    writer_.append(relative_gap_, &row.certificate.relative_gap, 1);
    writer_.append(nonzeros_, &row.nonzeros, 1);
    writer_.append(correlation_excess_, &row.correlation_excess, 1);
    writer_.append(kkt_violation_, &row.kkt_violation, 1);
    writer_.append(sign_errors_, &row.sign_errors, 1);
  }
  void finish() { writer_.finish(); }

 private:
  NpzWriter writer_;
  int lambda_, objective_, objective_rounding_, dual_gap_, rounding_, relative_gap_, nonzeros_, correlation_excess_,
      kkt_violation_, sign_errors_;
};

void add_row(const Row& row, double gap, Report& report) {
  const Certificate& certificate = row.certificate;
  if (certificate.relative_gap > gap) ++report.missed;
  if (certificate.energy > 0)
    report.worst_rounding = std::max(report.worst_rounding, certificate.rounding / certificate.energy);
  report.objective += certificate.objective;
  report.nonzeros += row.nonzeros;
  report.largest_support = std::max(report.largest_support, row.nonzeros);
  report.worst_excess = std::max(report.worst_excess, row.correlation_excess);
  report.worst_kkt = std::max(report.worst_kkt, row.kkt_violation);
  report.sign_errors += row.sign_errors;
  const auto place = std::find_if(report.worst.begin(), report.worst.end(), [&](const Row& other) {
    return certificate.relative_gap > other.certificate.relative_gap;
  });
  if (place == report.worst.end() && report.worst.size() >= Report::kWorstRows) return;
  report.worst.insert(place, row);
  if (report.worst.size() > Report::kWorstRows) report.worst.pop_back();
}

}  // namespace

Report certify_codes(const Context& context, const Request& request) {
  CodesFile codes = CodesFile::open(request.codes);
  const NpyFile dictionary_file = NpyFile::open(request.dictionary);
  Observations observations(request.observations);
  Report report;
  report.rows = dictionary_file.rows();
  report.atoms = dictionary_file.cols();
  report.problems = observations.size();
  SHRINKWARP_REQUIRE(report.rows > 0 && report.atoms > 0, ShapeError, request.dictionary, ": found a dictionary of ",
                     report.rows, " x ", report.atoms, ", wanted at least one row and one atom (n, m)");
  SHRINKWARP_REQUIRE(report.problems > 0, ShapeError, request.observations,
                     ": found no rows, wanted at least one observation (N, n)");
  SHRINKWARP_REQUIRE(observations.file().cols() == report.rows, ShapeError, request.observations,
                     ": found observations of length ", observations.file().cols(), ", wanted ", report.rows,
                     ", the number of rows of ", request.dictionary);
  SHRINKWARP_REQUIRE(codes.size() == report.problems && codes.atoms() == report.atoms, ShapeError, request.codes,
                     ": found codes (", codes.size(), ", ", codes.atoms(), "), wanted (", report.problems, ", ",
                     report.atoms, "): a row for each observation and a column for each atom");
  std::vector<double> lambdas;
  if (request.lambda.kind == LambdaChoice::Kind::of_codes_file ||
      request.lambda.kind == LambdaChoice::Kind::per_problem)
    lambdas = lambdas_of_file(request.lambda, codes);
  std::unique_ptr<RowsFile> output;
  if (!request.output.empty()) output = std::make_unique<RowsFile>(request.output);

  const std::vector<double> D = read_dictionary(dictionary_file);
  Penalty penalty{{}, request.nonnegative, request.ridge, request.radius, request.weights, request.group_size};
  if (!request.weights.empty()) {
    penalty.weights = NpyFile::open(request.weights).read_vector();
    SHRINKWARP_REQUIRE(!penalty.weights.empty(), ShapeError, request.weights,
                       ": found no weights, wanted one for each ", request.group_size > 1 ? "group" : "atom");
  }
  const MatrixView<const double> dictionary{D.data(), report.rows, report.atoms, report.rows, Device{}};
  Unpenalised unpenalised(context, dictionary, penalty);
  const Certifier certifier(context, dictionary, std::move(penalty));
  const std::int64_t chunk = std::min<std::int64_t>(report.problems, 4 * kBlock * context.threads());
  std::vector<double> lambda(static_cast<std::size_t>(chunk), request.lambda.number);
  if (request.lambda.kind == LambdaChoice::Kind::recording_fraction) {
    double largest = 0;
    for (std::int64_t first = 0; first < report.problems; first += chunk) {
      const std::int64_t count = std::min(chunk, report.problems - first);
      certifier.lambda_max(context, observations.read(first, count), {lambda.data(), count, Device{}});
      largest = std::max(largest, *std::max_element(lambda.begin(), lambda.begin() + count));
    }
    std::fill(lambda.begin(), lambda.end(), request.lambda.number * largest);
  }

  report.lambda_claim.stated = codes.claims().lambda.has_value();
  report.objective_claim.stated = codes.claims().objective.has_value();
  report.gap_claim.stated = codes.claims().dual_gap.has_value();
  report.converged_claim.stated = codes.claims().converged.has_value();
  CodeRows Z;
  std::vector<Measures> measures(static_cast<std::size_t>(chunk));
  std::vector<double> gaps;
  for (std::int64_t first = 0; first < report.problems; first += chunk) {
    const std::int64_t count = std::min(chunk, report.problems - first);
    const MatrixView<const double> X = observations.read(first, count);
    codes.read(count, Z);
    const VectorView<double> here{lambda.data(), count, Device{}};
    if (!lambdas.empty()) std::copy_n(lambdas.begin() + first, count, lambda.begin());
    if (request.lambda.kind == LambdaChoice::Kind::sample_fraction) {
      certifier.lambda_max(context, X, here);
      for (std::int64_t b = 0; b < count; ++b) here[b] *= request.lambda.number;
    }
    for (std::int64_t b = 0; b < count; ++b) {
      SHRINKWARP_REQUIRE(std::isfinite(here[b]), ValueError, request.observations, ": lambda of problem ", first + b,
                         " is ", here[b], ", wanted a finite number");
    }
    certifier.measure(context, X, Z, here, first, measures.data());
    unpenalised.measure(X, Z, here, first, measures.data());
    for (std::int64_t b = 0; b < count; ++b) {
      const Measures& found = measures[static_cast<std::size_t>(b)];
      const Row row{first + b,           here[b],          found.at(here[b]), found.nonzeros, found.correlation_excess,
                    found.kkt_violation, found.sign_errors};
      add_row(row, request.gap, report);
      check_claims(codes.claims(), found, row, request.gap, report);
      gaps.push_back(row.certificate.relative_gap);
      if (output) output->append(row);
    }
    if (request.progress)
      request.progress(
          {first + count, report.problems, report.missed, report.worst.front().certificate.relative_gap, 0});
  }
  if (output) output->finish();

  std::sort(gaps.begin(), gaps.end());
  const auto percentile = [&](double percent) {
    const double place = std::ceil(percent / 100 * static_cast<double>(gaps.size()));
    return gaps[static_cast<std::size_t>(std::max(place, 1.0)) - 1];
  };
  report.worst_gap = gaps.back();
  report.median_gap = percentile(50);
  report.gap_90 = percentile(90);
  report.gap_99 = percentile(99);
  return report;
}

}  // namespace shrinkwarp::certify
