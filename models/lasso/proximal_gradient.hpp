// The batch behind Ista and Fista: a fixed number of places, each holding one problem that iterates, is certified on
// its own schedule and leaves when it is done. Device work only; which problem comes next is the caller's business.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/graph.hpp>
#include <shrinkwarp/runtime/profile.hpp>

namespace shrinkwarp {

/// A batch of running problems with iterates in T.
///
/// Between two certificates every problem makes kCheckInterval iterations, so that its trajectory depends on itself
/// alone. After a certificate the code has been rounded to T and is the anchor of the iterations that follow.
template <class T>
class ProximalGradientBatch {
 public:
  /// Iterations between two certificates. One certificate costs about what one iteration does (2 n m flops in double
  /// against 4 n m in float), so this keeps certifying at some 4 % of the time.
  static constexpr std::int64_t kCheckInterval = 25;

  /// What the host knows of a running problem. Numbers are in the batch's own units, in which the dictionary's norm and
  /// the observation's largest entry are near 1 (powers of two, so nothing is rounded): float does not leave its range
  /// whatever units the user measures in.
  struct Problem {
    std::int64_t index = 0;   ///< of the observation
    double scale = 1;         ///< the observation's entries were divided by this
    double lambda = 0;        ///< negative until it is known
    double asked_lambda = 0;  ///< in the user's units: lambda itself has a largest value and may lose digits
    double energy = 0;        ///< 1/2 ||x||^2
    std::int64_t iterations = 0;
    double primal = 0;    ///< of the code at the last certificate
    double gap = 0;       ///< absolute, likewise
    double best_gap = 0;  ///< smallest gap that was a clear progress, for telling a stall
    std::int64_t best_iterations = 0;
    double relative_gap() const { return energy > 0 ? gap / energy : gap; }
  };

  /// What problems start from: sparse codes, one for each in their order, or the columns of a dense matrix on the
  /// device, column `index` for each; in the user's units. Neither starts at 0.
  struct Start {
    const SparseCodes* sparse = nullptr;
    MatrixView<const double> dense = {};
  };

  /// Bytes on the device for `places` problems; groups of more than one atom take m elements of T a problem more.
  static std::int64_t workspace(const Context& context, const Dictionary& dictionary, std::int64_t places,
                                std::int64_t group_size = 1);
  /// @param penalty  in the user's units, without weights of 0
  /// @param memory   workspace() bytes on the device, aligned to 256, that outlive the batch; empty has it allocate them
  /// @throws OutOfMemory
  ProximalGradientBatch(const Context& context, const Dictionary& dictionary, Momentum momentum, const Penalty& penalty,
                        std::int64_t places, Profile* profile = nullptr, VectorView<std::byte> memory = {});

  std::int64_t places() const { return places_; }
  std::int64_t running() const { return static_cast<std::int64_t>(problems_.size()); }
  const std::vector<Problem>& problems() const { return problems_; }

  /// Takes in new problems and certifies their starting codes.
  /// @param X           [n, count] on the host, count <= places() - running(); in the user's units; scaled in place
  /// @param problems    [count], with index and iterations set, and lambda where it is known
  /// @param start       of the new problems
  /// @param lambda_of   gives lambda, in the user's units, from the index and lambda_max in the user's units; asked for
  ///                    each problem whose lambda is negative
  /// Allocates no, but for what lambda_of does.
  void admit(MatrixView<double> X, const std::vector<Problem>& problems, const Start& start,
             FunctionRef<double(std::int64_t, double)> lambda_of);

  /// Runs to the next certificate, or to max_iterations where that comes first, and certifies every problem. Allocates
  /// no on the host and none on the device, but for recording: where as many problems run as in the call before, their
  /// iterations are recorded as a graph on CUDA and launched as one from then on.
  void advance(std::int64_t max_iterations);

  /// Takes out the problems whose flag is set, in ascending place; their codes, in the user's units, are appended to
  /// `codes`. Places are closed up, so problems() changes. @return those taken out, until the next call
  const std::vector<Problem>& retire(const std::vector<std::uint8_t>& leave, SparseCodes& codes);
  /// The same, with the code of each written to column `index` of Z [m, more than any index] on the device. Allocates no.
  const std::vector<Problem>& retire(const std::vector<std::uint8_t>& leave, MatrixView<double> Z);
  /// Drops all problems.
  void clear() { problems_.clear(); }

 private:
  struct State {
    MatrixView<T> anchor, current, previous;                 // [m, places]
    MatrixView<double> observations;                         // [n, places]
    MatrixView<double> residual;                             // [n, places], x - D anchor
    MatrixView<T> offset;                                    // [n, places], the same in T: what the products see as X
    MatrixView<T> step_residual;                             // [n, places], at the extrapolated point
    VectorView<double> lambda, t, correlation, primal, gap;  // [places]
    VectorView<T> lambda_t, beta;                            // [places]
    VectorView<std::uint8_t> active;                         // [places], iterating; also which leave
    MatrixView<T> restart_partials;                          // [step_tiles, places]
    MatrixView<std::int32_t> support_partials;               // [step_tiles, places]
    VectorView<T> residual_scratch;
    VectorView<double> correlation_scratch;
    VectorView<std::int32_t> columns, targets;  // [places], for retiring and starting
    VectorView<double> factors;                 // [places], of codes on their way in or out
    VectorView<std::int64_t> sparse_offsets;    // [places + 1]
    VectorView<std::int64_t> selected;          // [1], how many leave
    VectorView<std::uint8_t> compaction_scratch;
    VectorView<std::int32_t> sparse_indices;  // [max(m, kSparsePerPlace places)]
    VectorView<double> sparse_values;         // the same
    VectorView<double> weights;               // [groups], where there are any
    VectorView<T> step_weights;               // [groups], likewise
    MatrixView<T> moved;                      // [m, places], where groups have more than one atom
  };
  static State lay_out(Arena& arena, const Context& context, const Dictionary& dictionary, std::int64_t places,
                       std::int64_t group_size);

  double product_flops(std::int64_t count) const;
  double state_bytes(std::int64_t rows, std::int64_t count) const;
  void iterate(std::int64_t steps, bool use_active);
  void iterate_recorded();
  void certify(std::int64_t first, std::int64_t count);
  void start_at(std::int64_t first, const SparseCodes& initial);
  void start_at(std::int64_t first, MatrixView<const double> initial);
  void select(const std::vector<std::uint8_t>& leave);
  void close_up();
  void extract(std::int64_t first, std::int64_t count, SparseCodes& codes);

  // What the host sends and receives, kept so that nothing is allocated while problems run.
  struct Host {
    std::vector<double> lambda_max, lambda, t, primal, gap, factors;
    std::vector<T> lambda_t;
    std::vector<std::uint8_t> active;
    std::vector<std::int32_t> leaving, staying, from, to, columns;
    std::vector<std::int64_t> offsets;
    std::vector<Problem> retired;
    explicit Host(std::int64_t places);
  };
  // kCheckInterval iterations of `count` problems whose current codes lie at `current`.
  struct Recorded {
    std::int64_t count = 0;
    const T* current = nullptr;
    Graph graph;
  };

  const Context& context_;
  const Dictionary& dictionary_;
  const StepDictionary<T>& packed_;
  Momentum momentum_;
  PenaltyView<double> penalty_;  // in the batch's units
  PenaltyView<T> step_penalty_;  // likewise
  Profile* profile_;
  bool on_chip_ = false;  // the iterations between two certificates are one launch, and the codes do not change places
  T step_;
  std::int64_t places_;
  Arena arena_;
  State state_;
  Host host_;
  std::vector<Problem> problems_;
  std::int64_t last_count_ = 0;         // problems that ran in the last advance
  std::array<Recorded, 2> recorded_{};  // an odd number of iterations swaps current and previous
};

}  // namespace shrinkwarp
