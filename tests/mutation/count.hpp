// A kernel with an atomic, which those of the library have not, for the mutation that removes it.
#pragma once

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::testing {

/// total[0] += nonzeros of `values`, several blocks at once. Both on the context's CUDA device.
void count_nonzeros(const Context& context, VectorView<const float> values, VectorView<int> total);

}  // namespace shrinkwarp::testing
