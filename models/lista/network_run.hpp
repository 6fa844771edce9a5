// A network at work on observations as they come from a user: in any units, each with its own lambda.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// A batch of problems and the network's codes of them. Each observation is divided by a power of two that brings its largest
/// entry to [1, 2): the network's numbers then stay in the range of float, and its codes are what they would be without.
template <class T>
class NetworkRun {
 public:
  /// @param width  most problems of a batch
  NetworkRun(const Context& context, const Dictionary& dictionary, const Network<T>& network, std::int64_t width);

  /// Takes problems in and runs the network.
  /// @param x          [n, count] on the host, finite, count <= width
  /// @param lambda_of  gives problem b its lambda, from its lambda_max; both in the user's units
  void run(MatrixView<const double> x, FunctionRef<double(std::int64_t b, double lambda_max)> lambda_of);

  std::int64_t count() const { return count_; }
  /// On the device, in the batch's units.
  MatrixView<const double> X() const { return X_.matrix().columns(0, count_); }
  VectorView<const double> lambda() const { return lambda_.vector().slice(0, count_); }
  /// The first two on the host.
  MatrixView<const double> scaled() const { return scaled_.matrix().columns(0, count_); }
  VectorView<const double> host_lambda() const { return {lambdas_.data(), count_, {}}; }
  MatrixView<const T> codes() const { return codes_.matrix().columns(0, count_); }
  /// The codes in the user's units on the host, in double for their range, until the next call. Synchronises.
  MatrixView<const double> user_codes();
  /// What observation b was divided by, and 1/2 ||x||^2 of what is left.
  double unit(std::int64_t b) const { return units_[static_cast<std::size_t>(b)]; }
  double energy(std::int64_t b) const { return energies_[static_cast<std::size_t>(b)]; }

 private:
  const Context& context_;
  const Dictionary& dictionary_;
  const Network<T>& network_;
  std::int64_t count_ = 0;
  Tensor<double> scaled_, X_, lambda_, largest_, correlation_scratch_;
  Tensor<T> rounded_, X_in_T_, lambda_in_T_, codes_, codes_on_host_;
  Tensor<double> user_codes_;
  Tensor<std::byte> scratch_;
  std::vector<double> units_, energies_, lambdas_;
  std::vector<T> lambdas_in_T_;
};

/// The codes of all observations of a source, for a solver to start from.
/// @param rule    value, per_problem, sample_fraction or recording_fraction with its lambda_max
/// @param memory  bytes that the codes may take: observations whose codes find no room, and all after them, start at 0
/// A row that is not finite gets the code 0, which a solve then refuses.
/// @throws ValueError (another rule), Cancelled, and as source.read
template <class T>
SparseCodes network_codes(const Context& context, const Dictionary& dictionary, const Network<T>& network,
                          ObservationSource& source, const LambdaRule& rule, std::int64_t memory,
                          const CancelToken* cancel);

}  // namespace shrinkwarp
