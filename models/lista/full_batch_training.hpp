// Training by minimisers that see all samples at once: L-BFGS, and gradient descent with a line search.
#pragma once

#include <shrinkwarp/models/lista/training_run.hpp>

namespace shrinkwarp {

/// Depth by depth. Networks with scalar layers learn the logarithms of their steps and thresholds, which keeps these positive.
template <class T>
void train_on_all(const TrainingRun<T>& run);

}  // namespace shrinkwarp
