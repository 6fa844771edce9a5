// The solvers by name, and what `automatic` stands for.
#pragma once

#include <shrinkwarp/models/lasso/lasso.hpp>

namespace shrinkwarp {

/// The solver that runs: fista where `automatic` leaves the choice.
inline Solver resolved(Solver solver) {
  return solver == Solver::automatic ? Solver::fista : solver;
}

/// "ista", "fista"; "auto" for `automatic`.
inline const char* name_of(Solver solver) {
  return solver == Solver::ista ? "ista" : solver == Solver::fista ? "fista" : "auto";
}

}  // namespace shrinkwarp
