#include <atomic>
#include <cstdint>
#include <limits>

#include <shrinkwarp/kernels/common/columns_cpu.hpp>
#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/non_finite/non_finite.hpp>

namespace shrinkwarp::cpu {
namespace {

// The same loop for both element types: multiversioned functions cannot be templates. A comparison with NaN is false.
#define SHRINKWARP_NON_FINITE_LOOP(T)                                                 \
  SHRINKWARP_CPU_CLONES std::int64_t finite_elements(const T* a, std::int64_t size) { \
    constexpr T kMost = std::numeric_limits<T>::max();                                \
    std::int64_t count = 0;                                                           \
    for (std::int64_t i = 0; i < size; ++i)                                           \
      count += static_cast<int>(a[i] <= kMost) & static_cast<int>(a[i] >= -kMost);    \
    return count;                                                                     \
  }
SHRINKWARP_NON_FINITE_LOOP(float)
SHRINKWARP_NON_FINITE_LOOP(double)
#undef SHRINKWARP_NON_FINITE_LOOP

}  // namespace

template <class T>
void count_non_finite(const Context& context, MatrixView<const T> A, std::int64_t* count) {
  std::atomic<std::int64_t> all{0};
  for_columns(context, A, [&](std::int64_t j) {
    const std::int64_t others = A.rows - finite_elements(A.column(j), A.rows);
    if (others > 0) all.fetch_add(others, std::memory_order_relaxed);
  });
  *count = all.load();
}

template void count_non_finite<float>(const Context&, MatrixView<const float>, std::int64_t*);
template void count_non_finite<double>(const Context&, MatrixView<const double>, std::int64_t*);

}  // namespace shrinkwarp::cpu
