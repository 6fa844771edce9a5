// CPU body of dropout: bits of a piece of a column to the stack, then the products.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/dropout/bodies.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kPiece = 1024;     // bits at once
constexpr std::int64_t kElements = 8192;  // of a task, about

/// bits[i] = word first + i of a sequence.
SHRINKWARP_CPU_CLONES void draw(std::uint64_t seed, std::uint64_t stream, std::int64_t first, std::int64_t size,
                                std::uint32_t* bits) {
  using Draw = philox::BitsDraw;
  for (std::int64_t block = philox::first_block<Draw>(first); block < philox::end_block<Draw>(first + size); ++block)
    philox::draw_block<Draw>(seed, stream, block, first, size, bits);
}

// The same loop for both element types: multiversioned functions cannot be templates.
#define SHRINKWARP_DROPOUT_LOOP(T)                                                                          \
  SHRINKWARP_CPU_CLONES void apply(const DropoutMask<T>& mask, const std::uint32_t* bits, const T* x, T* y, \
                                   std::int64_t size) {                                                     \
    for (std::int64_t i = 0; i < size; ++i) y[i] = mask.apply(bits[i], x[i]);                               \
  }
SHRINKWARP_DROPOUT_LOOP(float)
SHRINKWARP_DROPOUT_LOOP(double)
#undef SHRINKWARP_DROPOUT_LOOP

}  // namespace

template <class T>
void dropout(const Context& context, const DropoutMask<T>& mask, VectorView<const std::int64_t> step,
             MatrixView<const T> X, MatrixView<T> Y) {
  const std::uint64_t stream = mask.stream(step[0]);
  const std::int64_t columns = std::max<std::int64_t>(1, kElements / X.rows);
  context.parallel_for((X.cols + columns - 1) / columns, [&](std::int64_t task, int) {
    std::uint32_t bits[kPiece];
    for (std::int64_t j = task * columns; j < std::min(X.cols, (task + 1) * columns); ++j) {
      for (std::int64_t i = 0; i < X.rows; i += kPiece) {
        const std::int64_t size = std::min(kPiece, X.rows - i);
        draw(mask.seed, stream, i + j * X.rows, size, bits);
        apply(mask, bits, X.column(j) + i, Y.column(j) + i, size);
      }
    }
  });
}

template void dropout<float>(const Context&, const DropoutMask<float>&, VectorView<const std::int64_t>,
                             MatrixView<const float>, MatrixView<float>);
template void dropout<double>(const Context&, const DropoutMask<double>&, VectorView<const std::int64_t>,
                              MatrixView<const double>, MatrixView<double>);

}  // namespace shrinkwarp::cpu
