// Minimisers of trainings by name: in options, in Python.
#pragma once

#include <utility>

#include <shrinkwarp/models/lista/training.hpp>
#include <shrinkwarp/runtime/named_values.hpp>

namespace shrinkwarp {

inline constexpr std::pair<const char*, Optimizer> kOptimizers[] = {{"auto", Optimizer::automatic},
                                                                    {"adam", Optimizer::adam},
                                                                    {"sgd", Optimizer::sgd},
                                                                    {"linesearch", Optimizer::line_search},
                                                                    {"lbfgs", Optimizer::lbfgs}};

}  // namespace shrinkwarp
