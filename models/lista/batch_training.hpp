// Training by optimizers that see a batch of the samples at a time: SGD with momentum, Adam.
#pragma once

#include <shrinkwarp/models/lista/training_run.hpp>

namespace shrinkwarp {

/// Depth by depth; parameters and the optimizer's buffers stay on the device, where a step is recorded as a graph.
template <class T>
void train_on_batches(const TrainingRun<T>& run);

}  // namespace shrinkwarp
