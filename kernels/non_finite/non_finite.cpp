#include <shrinkwarp/kernels/non_finite/non_finite.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

namespace cpu {
template <class T>
void count_non_finite(const Context& context, MatrixView<const T> A, std::int64_t* count);
}
namespace cuda {
template <class T>
void count_non_finite(const Context& context, MatrixView<const T> A, std::int64_t* count);
}

template <class T>
void count_non_finite(const Context& context, identity_t<MatrixView<const T>> A, VectorView<std::int64_t> count) {
  check_matrix(context, "count_non_finite", "A", A, A.rows, A.cols);
  check_vector(context, "count_non_finite", "count", count, 1);
  context.zero_bytes(count.data, sizeof(std::int64_t));
  if (A.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::count_non_finite<T>(context, A, count.data);
  }
  cpu::count_non_finite<T>(context, A, count.data);
}

template void count_non_finite<float>(const Context&, MatrixView<const float>, VectorView<std::int64_t>);
template void count_non_finite<double>(const Context&, MatrixView<const double>, VectorView<std::int64_t>);

}  // namespace shrinkwarp
