// What every way to run a stream of problems shares: which rows come next, how they are read, what their lambda is, and
// how finished problems leave.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// Adds code i of `from` to `to`.
void append_code(const SparseCodes& from, std::int64_t i, SparseCodes& to);

/// Adds what problem i starts from: initial code i, without entries that the penalty does not allow.
void append_start(const SparseCodes& initial, std::int64_t i, const Penalty& penalty, SparseCodes& to);

/// A problem that a batch has taken out, in the batch's units.
struct Retired {
  std::int64_t index = 0;
  double scale = 1;
  double lambda = 0;
  double asked_lambda = 0;  // in the user's
  double energy = 0;
  std::int64_t iterations = 0;
  double primal = 0;
  double gap = 0;
};

/// From a batch's own record.
template <class Problem>
Retired retired(const Problem& problem) {
  return {problem.index,  problem.scale,      problem.lambda, problem.asked_lambda,
          problem.energy, problem.iterations, problem.primal, problem.gap};
}

/// Between a source and a sink.
class Flow {
 public:
  Flow(const Context& context, const Dictionary& dictionary, ObservationSource& source, const LambdaRule& rule,
       const LassoOptions& options, CodeSink& sink);

  std::int64_t total() const { return total_; }  ///< problems to be solved, those of others who share them included
  /// Once, before problems are taken: finds the recording's lambda_max where the rule needs it. @throws as the source does
  void begin();
  /// Rows may be there that have not been taken, and none was in the way.
  bool more() const { return !again_.empty() || (next_ < size_ && !stopped_); }
  /// The next `count` problems that are to be solved, or as many as there are; ascending.
  std::vector<std::int64_t> take(std::int64_t count);
  /// How many problems to take: `free`, but where others share them no more than is fair. Above 0 while under_way < least.
  /// @param under_way  problems that were taken and have not left
  /// @param least      of them that keep the threads or the device busy, >= 1
  std::int64_t wanted(std::int64_t free, std::int64_t under_way, std::int64_t least) const;
  /// Lets problems that were taken come again.
  void put_back(const std::vector<std::int64_t>& rows);
  /// Reads ascending rows into the columns of X. At one that cannot be had the list ends, and the flow is stopped.
  void read(std::vector<std::int64_t>& rows, MatrixView<double> X);
  /// lambda of a problem, from its lambda_max; both in the user's units. From any thread.
  double lambda_of(std::int64_t index, double lambda_max) const;

  /// lambda of a problem where its lambda_max does not matter, else negative: it is fraction() of that.
  double known_lambda(std::int64_t index) const;
  double fraction() const { return rule_.kind == LambdaRule::Kind::sample_fraction ? rule_.number : -1; }

  /// Problems that are finished, with codes in the user's units.
  void deliver(const std::vector<Retired>& problems, const SparseCodes& codes);

  /// Lets no more problems in: those that run are finished, then the first error that came here, the one that is being
  /// handled, ends the solve.
  void stop();
  /// @throws Cancelled
  void check_cancel() const;
  void report() const;
  template <class... Parts>
  void log(LogLevel level, const Parts&... parts) const {
    if (options_.log) options_.log(level, concat(parts...));
  }
  /// What was solved. @throws the error that stopped the flow
  LassoSummary summary() const;

 private:
  void append_result(const Retired& problem, const SparseCodes& codes, std::int64_t i, LassoBatch& finished);
  void count(const LassoBatch& batch);

  const Context& context_;
  const Dictionary& dictionary_;
  ObservationSource& source_;
  const LambdaRule& rule_;
  const LassoOptions& options_;
  CodeSink& sink_;
  std::int64_t size_;       // of the source
  std::int64_t total_ = 0;  // of them to be solved
  std::int64_t next_ = 0;   // first problem that has not been taken
  std::int64_t end_;        // behind the last that may be taken; where problems are shared, before asking for more
  std::deque<std::int64_t> again_;  // problems that were put back, ascending
  double fixed_lambda_ = 0;
  std::exception_ptr stopped_;  // why no more problems are let in
  double worst_gap_ = 0;
  LassoSummary summary_;
};

}  // namespace shrinkwarp
