// ISTA with the steps that its code's support allows: what learned steps are measured against.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Iterations of oracle ISTA (Ablin, Moreau, Massias, Gramfort 2019, algorithm 1) from 0, each problem with its own steps:
///
///   S = supp(z),   z+ = st(z + a D'(x - D z), lambda a)   with a = 1 / ||D_S||_2^2, taken where supp(z+) lies in S,
///                                                          else with a = 1 / L; likewise where S is empty
///
/// `oracle` because a step costs a spectral norm and sometimes two products; a benchmark for iterations, not for time.
///
/// @param context    on the CPU
/// @param D          [n, m]  @param lipschitz  L >= ||D||_2^2, > 0
/// @param X          [n, N]  @param lambda  [N]  @param Z  [m, N], written
/// Numerics     double; ||D_S||_2^2 by power iterations and 1 % more
/// Determinism  same bits whatever the threads
/// Cost         some 4 n m + 100 n |S| flops an iteration. Allocates for each problem
/// @throws ShapeError, DeviceError, ValueError (iterations < 0, L)
void oracle_ista_codes(const Context& context, MatrixView<const double> D, double lipschitz, MatrixView<const double> X,
                       VectorView<const double> lambda, std::int64_t iterations, MatrixView<double> Z);

}  // namespace shrinkwarp
