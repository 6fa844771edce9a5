// Problems that another method could not bring to their gap, on their way through proximal gradients in double.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <shrinkwarp/models/lasso/flow.hpp>
#include <shrinkwarp/models/lasso/proximal_gradient.hpp>

namespace shrinkwarp {

/// A queue of such problems, and the batch that finishes them.
class DoubleStage {
 public:
  /// @param staging  [n, places], where observations are read
  DoubleStage(const Context& context, const Dictionary& dictionary, const LassoOptions& options, Flow& flow,
              MatrixView<double> staging);

  std::int64_t waiting() const { return static_cast<std::int64_t>(waiting_.size()); }
  std::int64_t places() const { return staging_.cols; }
  /// A problem that starts from code i of `codes`, in the user's units.
  void add(const Retired& problem, const SparseCodes& codes, std::int64_t i);
  /// Solves all that wait; they are delivered to the flow.
  void finish();

 private:
  using Batch = ProximalGradientBatch<double>;
  struct Waiting {
    std::int64_t index;
    double lambda, asked_lambda;  // in the batch's units, and in the user's
    std::int64_t iterations;
    std::vector<std::int32_t> indices;
    std::vector<double> values;
  };
  void admit();
  void settle();

  const Context& context_;
  const Dictionary& dictionary_;
  const LassoOptions& options_;
  Flow& flow_;
  MatrixView<double> staging_;
  std::deque<Waiting> waiting_;
  std::unique_ptr<Batch> batch_;  // made when it is first needed
};

}  // namespace shrinkwarp
