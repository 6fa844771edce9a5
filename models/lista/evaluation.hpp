// How good a network's codes are: beside the optimum, and beside ISTA and FISTA of as many iterations.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp {

/// Of one way to codes, over all problems; in the user's units.
struct CodesQuality {
  double mean_excess = 0;        ///< mean of F - min F
  double mean_relative_gap = 0;  ///< mean of the duality gap over 1/2 ||x||^2
  double worst_relative_gap = 0;
  std::int64_t not_finite =
      0;  ///< problems whose objective or gap is not a number, or too large for one: their gap is infinite
};

struct Evaluation {
  std::int64_t problems = 0;
  std::int64_t layers = 0;
  double mean_optimum = 0;          ///< mean of min F, from the exact solver to a relative gap of 1e-12
  double optimum_gap = 0;           ///< the worst relative gap of what was taken for min F
  std::int64_t optimum_missed = 0;  ///< problems where it is over 1e-11
  CodesQuality network, ista, fista;
  std::optional<CodesQuality> oracle_ista;
};

/// Runs a network on all observations of a source, with lambda a fraction of each one's lambda_max.
/// @param oracle  whether oracle ISTA is judged too, which takes its time
/// @param codes  called with the codes of the next problems in their order, [m, count] on the host in the user's units; may be
///               empty
/// Objectives and gaps are in double, from the codes as they are. @throws as solve_lasso, and what codes throws
template <class T>
Evaluation evaluate(const Context& context, const Dictionary& dictionary, const Network<T>& network,
                    ObservationSource& source, double lambda_fraction, bool oracle,
                    const std::function<void(MatrixView<const double>)>& codes, const CancelToken* cancel);

/// The gradient of the mean Lasso cost of a network's codes over all observations of a source, with lambda a fraction of each
/// one's lambda_max: tensors of the names and shapes of the network's own, in double, by parameters in the user's units.
/// Products are in T. Reads the source up to twice. @throws as Samples, ValueError (float and scalar layers)
template <class T>
Safetensors cost_gradient(const Context& context, const Dictionary& dictionary, const Network<T>& network,
                          ObservationSource& source, double lambda_fraction);

/// The codes of `iterations` iterations of ISTA or FISTA from 0 with the step 1 / L, for D / scale() in double.
/// @param X  [n, N] on the device  @param lambda  [N]  @param Z  [m, N], written
void proximal_codes(const Context& context, const Dictionary& dictionary, MatrixView<const double> X,
                    VectorView<const double> lambda, std::int64_t iterations, Momentum momentum, MatrixView<double> Z);

}  // namespace shrinkwarp
