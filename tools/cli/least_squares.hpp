// `shrinkwarp solve --solver least-squares`.
#pragma once

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/solve_options.hpp>
#include <shrinkwarp/tools/files/npy_observations.hpp>

namespace shrinkwarp::cli {

/// Writes D^+ x of all observations to the output, a .npy (N, m) of float64, block by block. @return the exit status
int run_least_squares(const SolveOptions& options, const Context& context, const NpyFile& dictionary,
                      NpyObservations& observations);

}  // namespace shrinkwarp::cli
