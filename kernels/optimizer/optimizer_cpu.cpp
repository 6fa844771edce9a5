// CPU body of optimizer: plain loops over pieces of fixed size, a piece a task. A square root that could set errno would
// keep the loop of Adam from being vectorised: kernels/CMakeLists.txt says that it does not.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/optimizer/update.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kPiece = 16384;   // elements that a task updates
constexpr std::int64_t kNormPieces = 8;  // pieces of a norm that a task sums
constexpr std::int64_t kSums = 16;       // side by side, or each would wait for the one before

// The same loops for both element types: multiversioned functions cannot be templates.
#define SHRINKWARP_OPTIMIZER_LOOPS(T)                                                                                 \
  SHRINKWARP_CPU_CLONES double sum_of_squares(const T* g, std::int64_t size) {                                        \
    double sums[kSums] = {};                                                                                          \
    std::int64_t i = 0;                                                                                               \
    for (; i + kSums <= size; i += kSums)                                                                             \
      for (std::int64_t k = 0; k < kSums; ++k)                                                                        \
        sums[k] = std::fma(static_cast<double>(g[i + k]), static_cast<double>(g[i + k]), sums[k]);                    \
    for (std::int64_t k = 0; i + k < size; ++k)                                                                       \
      sums[k] = std::fma(static_cast<double>(g[i + k]), static_cast<double>(g[i + k]), sums[k]);                      \
    double sum = 0;                                                                                                   \
    for (const double one : sums) sum += one;                                                                         \
    return sum;                                                                                                       \
  }                                                                                                                   \
  SHRINKWARP_CPU_CLONES void sgd_loop(SgdConstants<T> constants, const T* g, T* p, std::int64_t size) {               \
    for (std::int64_t i = 0; i < size; ++i) descend(constants, g[i], p[i]);                                           \
  }                                                                                                                   \
  SHRINKWARP_CPU_CLONES void momentum_loop(SgdConstants<T> constants, const T* g, T* v, T* p, std::int64_t size) {    \
    for (std::int64_t i = 0; i < size; ++i) descend(constants, g[i], v[i], p[i]);                                     \
  }                                                                                                                   \
  SHRINKWARP_CPU_CLONES void adam_loop(AdamConstants<T> constants, const T* g, T* m, T* v, T* p, std::int64_t size) { \
    for (std::int64_t i = 0; i < size; ++i) descend(constants, g[i], m[i], v[i], p[i]);                               \
  }
SHRINKWARP_OPTIMIZER_LOOPS(float)
SHRINKWARP_OPTIMIZER_LOOPS(double)
#undef SHRINKWARP_OPTIMIZER_LOOPS

/// body(first, count) for every piece of `size` elements.
template <class Body>
void for_pieces(const Context& context, std::int64_t size, const Body& body) {
  context.parallel_for((size + kPiece - 1) / kPiece, [&](std::int64_t piece, int) {
    const std::int64_t first = piece * kPiece;
    body(first, std::min(kPiece, size - first));
  });
}

}  // namespace

template <class T>
void squared_norm(const Context& context, VectorView<const T> grad, VectorView<double> scratch,
                  VectorView<double> result) {
  const std::int64_t pieces = norm_scratch(grad.size);
  context.parallel_for((pieces + kNormPieces - 1) / kNormPieces, [&](std::int64_t task, int) {
    for (std::int64_t piece = task * kNormPieces; piece < std::min((task + 1) * kNormPieces, pieces); ++piece) {
      const std::int64_t first = piece * kNormPiece;
      scratch[piece] = sum_of_squares(grad.data + first, std::min(kNormPiece, grad.size - first));
    }
  });
  double sum = 0;
  for (std::int64_t piece = 0; piece < pieces; ++piece) sum += scratch[piece];
  result[0] = sum;
}

void advance_schedule(const Context&, VectorView<const double> rates, VectorView<const double> square, double limit,
                      const AdamOptions& adam, VectorView<double> schedule) {
  advance(rates.data, rates.size, square.empty() ? nullptr : square.data, limit, adam, schedule.data);
}

template <class T>
void sgd_step(const Context& context, VectorView<const T> grad, const SgdOptions& options,
              VectorView<const double> schedule, VectorView<T> velocity, VectorView<T> parameters) {
  if (is_skipped(schedule.data)) return;
  const SgdConstants<T> constants(options, schedule.data);
  for_pieces(context, parameters.size, [&](std::int64_t first, std::int64_t count) {
    if (velocity.empty()) return sgd_loop(constants, grad.data + first, parameters.data + first, count);
    momentum_loop(constants, grad.data + first, velocity.data + first, parameters.data + first, count);
  });
}

template <class T>
void adam_step(const Context& context, VectorView<const T> grad, const AdamOptions& options,
               VectorView<const double> schedule, VectorView<T> first_moment, VectorView<T> second_moment,
               VectorView<T> parameters) {
  if (is_skipped(schedule.data)) return;
  const AdamConstants<T> constants(options, schedule.data);
  for_pieces(context, parameters.size, [&](std::int64_t first, std::int64_t count) {
    adam_loop(constants, grad.data + first, first_moment.data + first, second_moment.data + first,
              parameters.data + first, count);
  });
}

#define SHRINKWARP_INSTANTIATE(T)                                                                               \
  template void squared_norm<T>(const Context&, VectorView<const T>, VectorView<double>, VectorView<double>);   \
  template void sgd_step<T>(const Context&, VectorView<const T>, const SgdOptions&, VectorView<const double>,   \
                            VectorView<T>, VectorView<T>);                                                      \
  template void adam_step<T>(const Context&, VectorView<const T>, const AdamOptions&, VectorView<const double>, \
                             VectorView<T>, VectorView<T>, VectorView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
