// Very many Lasso problems with one dictionary: z_i = argmin 1/2 ||x_i - D z||^2 + lambda_i ||z||_1, each with a
// certificate; with weights, in groups, as elastic nets or for nonnegative codes where options.penalty says so. This is the
// interface; how the iterations run is in proximal_gradient.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/profile.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// The smallest relative gap that float64 can certify: what is added to a gap for rounding is 1.1e-14 of 1/2 ||x||^2 for
/// the code 0 and little more near it.
constexpr double kSmallestGap = 2e-14;

enum class Solver {
  automatic,  ///< the fastest that does what is asked; see resolved
  ista,       ///< proximal gradient (Daubechies, Defrise and De Mol 2004)
  fista,      ///< accelerated (Beck and Teboulle 2009), with restarts (O'Donoghue and Candes 2015) unless switched off
  working_set,  ///< exact solves on growing sets of atoms
  /// The same without what makes many problems faster and takes time to prepare: principal coordinates and clusters of the
  /// dictionary. On CUDA no different from working_set.
  plain_working_set,
};

/// Sparse codes by problem: problem i has atoms indices[offsets[i] .. offsets[i+1]), ascending, with their values.
/// This is scipy's CSR of shape (N, m).
struct SparseCodes {
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> indices;
  std::vector<double> values;
  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

/// What is added to 1/2 ||x - D z||^2: lambda sum_g w_g ||z_g||_2 + ridge / 2 ||z||^2, group g being the consecutive atoms
/// g group_size .. (g + 1) group_size - 1; in groups of one, lambda sum_j w_j |z_j|, and z >= 0 where `nonnegative`. The default
/// is the Lasso, lambda ||z||_1. All of it goes together, but for weights of 0, and groups of more than one, with z >= 0.
struct Penalty {
  /// [m / group_size] w, or empty for 1. 0 leaves a group unpenalised, infinity leaves it out: z_g = 0. Others from 1e-18 to
  /// 1e18. Of dependent unpenalised atoms the code of least norm is taken. lambda_max is the smallest lambda for which no
  /// penalised atom is in use: max_g ||D_g'x||_2 / w_g, where the fit of x by the unpenalised ones is taken from x first.
  std::vector<double> weights;
  /// >= 1, divides m. Working sets on CUDA have room for 1024 atoms: problems that want more go on by FISTA in double.
  std::int64_t group_size = 1;
  bool nonnegative = false;              ///< lambda_max is then max(0, max_j d_j'x / w_j)
  double ridge = 0;                      ///< mu of an elastic net, 0 to 1e30 ||D||^2
  std::string weights_name = "weights";  ///< begins the message of an error: a file, say

  bool plain() const { return weights.empty() && !nonnegative && ridge == 0 && !grouped(); }
  bool grouped() const { return group_size != 1; }
  /// w of the group that an atom is in.
  double weight_of(std::int64_t atom) const {
    return weights.empty() ? 1 : weights[static_cast<std::size_t>(atom / group_size)];
  }
};

/// The problems of one source, shared out to solves that run side by side in processes of their own: each asks for its next
/// ones as places become free, so that those with hard problems get fewer. Used from the solving thread. What it throws ends
/// the solve.
class ProblemShare {
 public:
  struct Range {
    std::int64_t first = 0, last = 0;  ///< problems first .. last - 1
    bool empty() const { return first >= last; }
  };
  virtual ~ProblemShare() = default;
  /// All problems are to be shared out once more: a solve goes through them once or twice, as its lambdas say, and all solves
  /// that share them do so alike. @param problems  of the source
  virtual void begin(std::int64_t problems) = 0;
  /// The next problems of this solve, over those that it had before; nobody else gets them. Empty when none are left.
  virtual Range next() = 0;
  /// How many problems a solve may have under way. Fewer when few are left: what one has taken no other can do.
  /// @param least  that keep it busy
  virtual std::int64_t fair(std::int64_t least) const = 0;
};

struct LassoOptions {
  Penalty penalty;
  Solver solver = Solver::automatic;
  bool restart = true;                   ///< adaptive restart of fista, per problem
  double gap = 1e-6;                     ///< relative: a problem is done when its gap <= gap * 1/2 ||x||^2
  std::int64_t max_iterations = 100000;  ///< per problem; of working_set: times that a set of atoms is solved
  std::int64_t memory_limit = std::int64_t{4}
                              << 30;  ///< bytes of all that a solve holds, on each side; see least_memory
  /// Warm start: valid codes of all N problems; nullptr starts at 0. Entries that the penalty does not allow count as 0. The
  /// working-set solver starts with their atoms as its set, on CUDA from the code 0 where an initial one is worse.
  const SparseCodes* initial = nullptr;
  /// How many problems there are in all where the source is one block of them: `automatic` chooses a solver by it, so that
  /// each block has the bits of a solve of the whole. 0 for a source that is the whole.
  std::int64_t problems_in_all = 0;
  std::function<bool(std::int64_t)> skip;  ///< problems that are left out, solved before perhaps; empty for none
  ProblemShare* share = nullptr;  ///< who else solves some of the problems that are not left out; nullptr for nobody
  ProgressCallback progress;      ///< may be empty
  LogCallback log;                ///< what the solve decides, line by line; may be empty
  const CancelToken* cancel = nullptr;  ///< may be nullptr
  Profile* profile = nullptr;           ///< collects time by phase; nullptr for none
};

/// How lambda of each problem is found.
struct LambdaRule {
  enum class Kind {
    value,               ///< the same lambda for all
    per_problem,         ///< values[i]
    sample_fraction,     ///< fraction of the problem's own lambda_max = ||D'x_i||_inf
    recording_fraction,  ///< fraction of the largest lambda_max of all problems
    // Points of a problem's exact path, lambda from lambda_max downwards; see follows_path.
    l1_radius,      ///< where sum_j w_j |z_j| comes to the number, or 0: z minimises 1/2 ||x - D z||^2 in that radius
    residual_norm,  ///< the largest with ||x - D z|| <= the number; lambda_max where the code 0 is as good
    max_nonzeros,   ///< where one nonzero more than the number would come into use, or 1e-6 lambda_max
  };
  Kind kind = Kind::sample_fraction;
  double number = 0;            ///< the value, the fraction, the radius ...
  std::vector<double> values;   ///< [N] for per_problem
  std::string name = "lambda";  ///< begins the message of an error: a file, say
  double lambda_max = -1;       ///< for recording_fraction, from recording_lambda_max(); negative has it found first

  static LambdaRule value(double lambda) { return {Kind::value, lambda, {}, "lambda", -1}; }
  static LambdaRule per_problem(std::vector<double> lambdas) {
    return {Kind::per_problem, 0, std::move(lambdas), "lambda", -1};
  }
  static LambdaRule sample_fraction(double fraction) { return {Kind::sample_fraction, fraction, {}, "lambda", -1}; }
  static LambdaRule recording_fraction(double fraction) {
    return {Kind::recording_fraction, fraction, {}, "lambda", -1};
  }
  static LambdaRule l1_radius(double radius) { return {Kind::l1_radius, radius, {}, "radius", -1}; }
  static LambdaRule residual_norm(double norm) { return {Kind::residual_norm, norm, {}, "residual norm", -1}; }
  static LambdaRule max_nonzeros(std::int64_t count) {
    return {Kind::max_nonzeros, static_cast<double>(count), {}, "number of nonzeros", -1};
  }
  /// Whether lambda is a point of the exact path. It is then found on working sets on the CPU, whatever the device: the solver
  /// has to be automatic or one of the two. With l1_radius, objective is 1/2 ||x - D z||^2 and dual_gap that of the problem in
  /// the radius; there is no ridge with it.
  bool follows_path() const {
    return kind == Kind::l1_radius || kind == Kind::residual_norm || kind == Kind::max_nonzeros;
  }
};

/// Where observations come from. Reads may come in any order and more than once.
class ObservationSource {
 public:
  virtual ~ObservationSource() = default;
  virtual std::int64_t size() const = 0;                       ///< N
  virtual std::int64_t dimension() const = 0;                  ///< n
  virtual std::string name() const { return "observations"; }  ///< begins the message of an error: a file, say
  /// Observations first .. first + X.cols - 1 into the columns of X [n, count] on the host.
  virtual void read(std::int64_t first, MatrixView<double> X) = 0;
};

/// Problems that have finished. Everything belongs to the code that is delivered: objective and gap are recomputed from
/// it in float64.
struct LassoBatch {
  std::vector<std::int64_t> index;  ///< which observations they are of, ascending
  SparseCodes codes;
  std::vector<double> lambda;
  std::vector<double> objective;         ///< 1/2 ||x - D z||^2 + the penalty
  std::vector<double> dual_gap;          ///< absolute
  std::vector<std::int64_t> iterations;  ///< that it took, counted as max_iterations
  std::vector<std::uint8_t> converged;   ///< dual_gap <= gap * 1/2 ||x||^2
  std::int64_t size() const { return static_cast<std::int64_t>(index.size()); }
};

/// Takes problems as they finish: each once, in whatever order. Exceptions end the solve.
class CodeSink {
 public:
  virtual ~CodeSink() = default;
  virtual void append(const LassoBatch& batch) = 0;
};

/// Of the problems that a call solved.
struct LassoSummary {
  std::int64_t problems = 0;
  std::int64_t unconverged = 0;
  std::int64_t nonzeros = 0;
  std::int64_t iterations = 0;  ///< sum over problems
  double worst_gap = 0;         ///< largest relative gap

  /// With other problems.
  LassoSummary& operator+=(const LassoSummary& others);
};

/// Solves all problems of a source on the context's device; memory is bounded by options.memory_limit, not by N.
///
/// Iterations run in float on differences to anchors that float64 refreshes; problems that float cannot bring to their
/// gap go on in double, with their momentum started afresh. A problem leaves the batch on its own certificate, goes to
/// the sink at once and its place is filled. The work on problems that have not left is that on 1000 of them or of two
/// seconds, whichever is more (pace.hpp): that much is lost with the process.
///
/// @param dictionary  made on the same device
/// @param source      N observations of length n; N = 0 is legal. A row of zeros has the solution 0
/// @param rule        numbers must be finite; values >= 0, where 0 takes the least-squares code of least norm (with a ridge,
///                    ridge regression); fractions, radius and residual norm > 0; lambda >= lambda_max gives the code 0, and
///                    a fraction of a row of zeros is lambda = 0
///
/// Numerics     certificates in float64 from the codes as delivered. Not converging is a result with its gap
/// Determinism  a problem's bits do not depend on the others, on N, on the memory limit or on the number of threads; the
///              order in which they are delivered does
/// @throws ShapeError, ValueError (also for a row with NaN or infinity, or whose result leaves the range of float64:
///         names it; for a residual norm that no code of the row has), DeviceError, OutOfMemory, Cancelled, whatever source and sink throw. What has finished has been
///         delivered; where a row cannot be read or is refused, so has every problem that was read before it
LassoSummary solve_lasso(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                         const LambdaRule& rule, const LassoOptions& options, CodeSink& sink);

/// The same for observations in memory: X [n, N] on the host. The result is in the order of the observations.
LassoBatch solve_lasso(const Context& context, const Dictionary& dictionary, MatrixView<const double> X,
                       const LambdaRule& rule, const LassoOptions& options);

/// Makes what solve_lasso, called with the same and that many observations, will use of the dictionary, so that
/// Dictionary::write_flat() has it: ista and fista in float and in double. Left is what problems go on with that the working-set
/// solver gives up, and what is made in the place of the dictionary where atoms are unpenalised or lambda is 0.
/// @throws as solve_lasso
void prepare_dictionary(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                        const LambdaRule& rule, const LassoOptions& options);

/// lambda_max = ||D'x_i||_inf of each observation [N], under options.penalty (see Penalty); of the other options memory_limit and
/// cancel count. Rounded in float64, so a solve with it as lambda may find an entry that is as good as 0.
/// Cost: 2 n m N flops, reads the source once. @throws as solve_lasso, of a row whose lambda_max leaves the range of float64 too
std::vector<double> lambda_max(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                               const LassoOptions& options);

/// The largest lambda_max of all observations, in memory that does not depend on N. @throws as lambda_max, of the largest alone
double recording_lambda_max(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                            const LassoOptions& options);

/// The solver that runs: options.solver, and where that is automatic, working sets on the CPU, which on every dictionary and
/// lambda that was measured are faster than fista (docs/benchmarks), but fista on CUDA, where restart is off, where
/// memory_limit is too small for working sets, and for elastic nets: a ridge makes codes full, which costs working sets much,
/// and gives fista its pace.
/// @param problems  of the source, those that are left out included; up to 8 rows of them do not earn what working_set has to
///                  prepare, and get plain_working_set
Solver resolved(const Context& context, std::int64_t rows, std::int64_t atoms, std::int64_t problems,
                const LassoOptions& options);
/// Whether a solver is one of the two that solve on working sets.
constexpr bool has_working_sets(Solver solver) {
  return solver == Solver::working_set || solver == Solver::plain_working_set;
}

/// The smallest memory_limit for a dictionary [n, m] and a solver: what making it takes, or what it takes with one problem running
/// where that is more. Asked before the dictionary is made, which is large. Not counted are the caller's own arrays (but
/// for the D that a dictionary is made from, where it is float64), the program itself and its libraries.
/// With unpenalised atoms among `penalty` a second dictionary is made for the solve.
std::int64_t least_memory(const Context& context, std::int64_t rows, std::int64_t atoms,
                          Solver solver = Solver::automatic, const Penalty& penalty = {});

}  // namespace shrinkwarp
