#include <shrinkwarp/kernels/dropout/dropout.hpp>

#include <algorithm>
#include <cmath>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/dropout/bodies.hpp>

namespace shrinkwarp {

template <class T>
void dropout(const Context& context, double probability, std::uint64_t seed, std::int64_t layer,
             VectorView<const std::int64_t> step, std::int64_t first, identity_t<MatrixView<const T>> X,
             MatrixView<T> Y) {
  SHRINKWARP_REQUIRE(probability >= 0 && probability < 1, ValueError, "dropout: probability is ", probability,
                     ", wanted at least 0 and less than 1");
  SHRINKWARP_REQUIRE(layer >= 0 && layer < (std::int64_t{1} << 24), ValueError, "dropout: layer is ", layer,
                     ", wanted from 0 to 16777215");
  SHRINKWARP_REQUIRE(first >= 0, ValueError, "dropout: first is ", first, ", wanted >= 0");
  check_vector(context, "dropout", "step", step, 1);
  check_matrix(context, "dropout", "X", X, X.rows, X.cols);
  check_matrix(context, "dropout", "Y", Y, X.rows, X.cols);
  if (X.empty()) return;
  const double threshold = std::min(std::ceil(probability * 4294967296.0), 4294967295.0);
  const DropoutMask<T> mask{seed, static_cast<std::uint64_t>(layer), static_cast<std::uint32_t>(threshold),
                            static_cast<T>(1 / (1 - probability)), first};
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::dropout<T>(context, mask, step, X, Y);
  }
  cpu::dropout<T>(context, mask, step, X, Y);
}

template void dropout<float>(const Context&, double, std::uint64_t, std::int64_t, VectorView<const std::int64_t>,
                             std::int64_t, MatrixView<const float>, MatrixView<float>);
template void dropout<double>(const Context&, double, std::uint64_t, std::int64_t, VectorView<const std::int64_t>,
                              std::int64_t, MatrixView<const double>, MatrixView<double>);

}  // namespace shrinkwarp
