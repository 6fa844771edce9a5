// The matrix of ALISTA: of all W with w_i'd_i = 1 the one whose W'D is least off its diagonal.
#pragma once

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// W [n, m] on the CPU that minimises ||W'D||_F under w_i'd_i = 1 (Liu, Chen, Wang, Yin 2019), in closed form:
///
///   w_i = A d_i / (d_i'A d_i),   A = (D D' + ridge ||D||_2^2 I)^(-1)
///
/// and for ridge = 0 the pseudo-inverse, in which singular values count that are over max(n, m) eps times the largest. w_i = 0
/// where d_i = 0. A ridge is for dictionaries of whitened recordings, whose small singular values are noise.
///
/// @param D      [n, m] on the CPU, finite
/// @param ridge  >= 0
/// Cost some 10 n m min(n, m) flops. @throws ValueError (ridge), and as singular_values
Tensor<double> analytic_weights(const Context& context, MatrixView<const double> D, double ridge);

/// The spectral radius of W'D as a fixed number of power iterations finds it, and a few percent more; 1 where W'D = 0. No
/// bound: where eigenvalues lie close together the true one may be above.
/// @param W, D  [n, m] on the CPU. Cost some 200 n m flops
double spectral_radius(const Context& context, MatrixView<const double> W, MatrixView<const double> D);

}  // namespace shrinkwarp
