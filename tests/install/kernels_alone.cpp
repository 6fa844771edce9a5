// One kernel, on whatever device there is.
#include <vector>

#include <shrinkwarp/kernels/prox/prox.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "expect.hpp"

int main() {
  const shrinkwarp::Context context = shrinkwarp::Context::best();
  const std::vector<float> values = {3, -0.5f, 0, -2, 1, 4};
  const std::vector<float> thresholds = {1.25f, 0.75f};
  shrinkwarp::Tensor<float> Z(context, 3, 2), t(context, 2);
  copy(context, shrinkwarp::MatrixView<const float>{values.data(), 3, 2, 3, {}}, Z.matrix());
  copy(context, shrinkwarp::VectorView<const float>{thresholds.data(), 2, {}}, t.vector());
  shrinkwarp::soft_threshold_columns<float>(context, Z.matrix(), t.vector(), Z.matrix());
  std::vector<float> result(6);
  copy(context, Z.matrix(), shrinkwarp::MatrixView<float>{result.data(), 3, 2, 3, {}});
  context.synchronize();
  for (std::size_t k = 0; k < 6; ++k)
    expect_near("z", result[k], soft_threshold(values[k], thresholds[k / 3]), 0);  // exact in float
}
