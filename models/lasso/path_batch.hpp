// Problems whose lambda is a point of their exact path: where ||z||_1 reaches a radius, where ||x - D z|| comes down to a
// noise level, or where one atom more than allowed comes into use. On the CPU, in float64.
//
// The path of a problem is followed on a working set of atoms (kernels/lasso_path). The code at its end is looked at by a
// pass over all atoms; those over their threshold there join the set, and the path is followed again, until there are none:
// the code is then the solution for its lambda among all atoms, and radius and noise level belong to one lambda only. The
// number of atoms does not, so for that the whole path has to be right: correlations are linear in lambda between two of its
// events, so it is if no atom passes its threshold at any event.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/flow.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp {

class PathBatch {
 public:
  /// What a call found.
  struct Result {
    std::vector<Retired> problems;
    SparseCodes codes;  ///< in the user's units
    /// The first problem whose path has no such point, or -1, and ||x - D z|| at its end.
    std::int64_t unreachable = -1;
    double distance = 0;
  };

  static constexpr std::int64_t kGroup = 16;  ///< problems whose residuals share a pass

  /// @param dictionary  on the CPU  @param options  no weight is 0  @param workers  at most one for each thread
  PathBatch(const Context& context, const Dictionary& dictionary, const LambdaRule& rule, const LassoOptions& options,
            std::int64_t workers);
  /// Bytes of all that, with working sets as large as n atoms in use make them.
  static std::int64_t bytes(std::int64_t rows, std::int64_t atoms, std::int64_t workers);
  ~PathBatch();

  /// Solves problems with these rows, X [n, count] in the user's units. After a cancel what has not come to its end is missing
  /// from the result.
  /// Determinism  a problem's bits do not depend on the others or on the number of threads
  Result solve(const std::vector<std::int64_t>& rows, MatrixView<const double> X);

 private:
  struct Worker;

  const Context& context_;
  const LassoOptions& options_;
  const Penalty penalty_;  // in the batch's units
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace shrinkwarp
