// The solvers by name.
#pragma once

#include <shrinkwarp/models/lasso/lasso.hpp>

namespace shrinkwarp {

/// "ista", "fista", "working-set", "plain-working-set"; "auto" for `automatic`.
inline const char* name_of(Solver solver) {
  switch (solver) {
    case Solver::ista:
      return "ista";
    case Solver::fista:
      return "fista";
    case Solver::working_set:
      return "working-set";
    case Solver::plain_working_set:
      return "plain-working-set";
    case Solver::automatic:
      break;
  }
  return "auto";
}

}  // namespace shrinkwarp
