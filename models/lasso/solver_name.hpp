// The solvers by name, and what `automatic` stands for.
#pragma once

#include <shrinkwarp/models/lasso/lasso.hpp>

namespace shrinkwarp {

/// The solver that runs: fista where `automatic` leaves the choice.
inline Solver resolved(Solver solver) {
  return solver == Solver::automatic ? Solver::fista : solver;
}

/// "ista", "fista", "working-set"; "auto" for `automatic`.
inline const char* name_of(Solver solver) {
  switch (solver) {
    case Solver::ista:
      return "ista";
    case Solver::fista:
      return "fista";
    case Solver::working_set:
      return "working-set";
    case Solver::automatic:
      break;
  }
  return "auto";
}

}  // namespace shrinkwarp
