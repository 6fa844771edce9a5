// The batch behind the working-set solver on the CPU: problems wait in a queue, each thread runs a pool of them side by
// side, and those that are done are taken out. Which problem comes next is the caller's business.
//
// A problem keeps a working set W of atoms, or of groups of them, and is solved exactly on it (kernels/active_set, group_set).
// One pass over all atoms in 16-bit integers for the whole pool (kernels/bounded_correlation) then bounds every correlation of
// its residual: it names what is to be added to W or, with float64 for the few atoms that the bounds leave open, certifies
// the code.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include <shrinkwarp/kernels/group_set/group_set.hpp>
#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

class WorkingSetPool;

/// A queue of problems and the pools that solve them.
///
/// Numerics     inner solves in float with float64 residuals, those of groups in double; certificates in float64 from the
///              code that is delivered. What float cannot bring to its gap is finished in double by the same method
/// Determinism  a problem's bits do not depend on the others, on the number of threads or of places
class WorkingSetBatch {
 public:
  /// What is known of a problem. Numbers are in the batch's own units, as in ProximalGradientBatch::Problem.
  struct Problem {
    std::int64_t index = 0;       ///< of the observation
    double scale = 1;             ///< the observation's entries were divided by this
    double lambda = -1;           ///< negative until it is known
    double asked_lambda = 0;      ///< in the user's units, as in ProximalGradientBatch::Problem
    double energy = 0;            ///< 1/2 ||x||^2
    std::int64_t iterations = 0;  ///< times that its working set was solved
    double primal = 0;
    double gap = 0;      ///< absolute, of the code in its last pass
    bool stuck = false;  ///< given up: another method has to go on
    double relative_gap() const { return energy > 0 ? gap / energy : gap; }
  };

  static constexpr std::int64_t kPlaces = 64;  ///< most problems of a pool: one pass reads the dictionary for all

  /// @param parts            of the dictionary
  /// @param workers, places  pools, at most one for each thread of the context, and how many problems one runs
  /// @param queue            most problems that wait
  WorkingSetBatch(const Context& context, const Dictionary& dictionary, const WorkingSetDictionary& parts,
                  const LassoOptions& options, std::int64_t workers, std::int64_t places, std::int64_t queue);
  /// Bytes of all that, at most, for a dictionary [n, m].
  static std::int64_t bytes(std::int64_t rows, std::int64_t atoms, std::int64_t group_size, std::int64_t workers,
                            std::int64_t places, std::int64_t queue);
  ~WorkingSetBatch();

  /// Problems that wait or run.
  std::int64_t running() const;
  /// Problems that can be admitted.
  std::int64_t room() const;
  /// [n, queue] where observations are put, in the user's units, that admit() takes.
  MatrixView<double> staging() { return staging_.matrix(); }
  /// Takes in the first columns of staging(). @param problems  [count <= room()]
  void admit(const std::vector<Problem>& problems);

  /// Solves for a fraction of a second, or until the queue is empty; where no more problems will come, until all are done.
  /// A problem that is begun in double is not left within, but a cancel is heard there too: it is then given up.
  /// @param more       whether problems will come
  /// @param lambda_of  gives lambda from the index and lambda_max, in the user's units; where lambda_max is negative, lambda if
  ///                   it depends on the index alone, else a negative number. From any thread
  void advance(bool more, FunctionRef<double(std::int64_t, double)> lambda_of);

  /// Problems that are done, or stuck, since the last call; their codes, in the user's units, are appended to `codes`.
  const std::vector<Problem>& retire(SparseCodes& codes);

 private:
  AtomBounds divided_bounds();
  bool take(WorkingSetPool& pool);
  void work(WorkingSetPool& pool, bool more, FunctionRef<double(std::int64_t, double)> lambda_of);

  const Context& context_;
  const Dictionary& dictionary_;
  const WorkingSetDictionary& parts_;
  const LassoOptions& options_;
  const Penalty penalty_;               // in the batch's units
  GroupBasis basis_;                    // where the penalty is of groups
  Tensor<float> divided_;               // [padded m, 3 + levels], bounds divided by the weights, where there are any
  std::vector<float> divided_largest_;  // [panels], likewise
  std::vector<std::unique_ptr<WorkingSetPool>> pools_;
  Tensor<double> staging_;             // [n, queue]
  Tensor<double> waiting_;             // [n, queue]
  std::vector<Problem> queue_;         // [queue]
  std::int64_t queued_ = 0;            // of them
  std::atomic<std::int64_t> next_{0};  // the first that no pool has taken
  std::vector<Problem> retired_;
};

}  // namespace shrinkwarp
