// Correlations of residuals with all atoms for problems on their paths: bounded in integers where the dictionary is quantised and
// there are no weights, which a bound in integers does not know here, else in float64.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>
#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// One pass after the other, on the calling thread. All in the batch's units.
class PathPass {
 public:
  /// @param penalty  no weight is 0, no groups  @param places  residuals of a pass
  PathPass(const Context& context, const WorkingSetDictionary& parts, const Penalty& penalty, std::int64_t places);
  static std::int64_t bytes(std::int64_t rows, std::int64_t atoms, std::int64_t places);

  double weight(std::int32_t j) const { return penalty_.weight_of(j); }
  /// What is compared with lambda.
  double over(std::int32_t j, double correlation) const;

  /// Takes `count` residuals. @param residual  [n padded] of a place
  void run(std::int64_t count, FunctionRef<const double*(std::int64_t)> residual);
  /// The `count` atoms that are about the furthest over, ascending; of equal ones the first.
  std::vector<std::int32_t> furthest(std::int64_t place, std::int64_t count) const;
  /// Finds the atoms that may be over `from`: open() and values(), in float64. @param r  the residual of the place
  /// @return their number
  std::int64_t look(std::int64_t place, const double* r, double from);
  std::int32_t open(std::int64_t k) const { return open_[static_cast<std::size_t>(k)]; }
  double value(std::int64_t k) const { return values_[static_cast<std::size_t>(k)]; }

 private:
  bool bounded() const { return C_.size() > 0; }
  double about(std::int64_t place, std::int32_t j) const;

  Context context_ = Context::cpu(1);
  const WorkingSetDictionary& parts_;
  const Penalty& penalty_;
  QuantizedResiduals residuals_;
  Tensor<float> C_, highest_;         // of a pass in integers
  Tensor<double> correlations_;       // [m padded, places] of one in float64
  std::vector<std::int64_t> places_;  // all
  std::vector<std::int32_t> all_;     // [m] atoms
  std::vector<std::int32_t> open_;
  std::vector<double> values_;
};

}  // namespace shrinkwarp
