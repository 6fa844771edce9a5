// CPU body of dropout: bits of a piece of a column to the stack, in vectors, then the products. One thread of an AMD EPYC (AVX2),
// float: 0.9 ns an element, where one evaluation of Philox after the other takes 6.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/highway_targets.hpp>
#include <shrinkwarp/kernels/dropout/bodies.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/dropout/dropout_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/dropout/dropout_cpu_simd.hpp>

namespace shrinkwarp::cpu {
namespace {

HWY_EXPORT(DrawWords);

constexpr std::int64_t kPiece = 1024;     // elements whose bits are drawn at once
constexpr std::int64_t kElements = 8192;  // of a task, about

// The same loop for both element types: multiversioned functions cannot be templates.
#define SHRINKWARP_DROPOUT_LOOP(T)                                                                   \
  SHRINKWARP_CPU_CLONES void apply(DropoutMask<T> mask, const std::uint32_t* bits, const T* x, T* y, \
                                   std::int64_t size) {                                              \
    for (std::int64_t i = 0; i < size; ++i) y[i] = mask.apply(bits[i], x[i]);                        \
  }
SHRINKWARP_DROPOUT_LOOP(float)
SHRINKWARP_DROPOUT_LOOP(double)
#undef SHRINKWARP_DROPOUT_LOOP

}  // namespace

template <class T>
void dropout(const Context& context, const DropoutMask<T>& mask, VectorView<const std::int64_t> step,
             MatrixView<const T> X, MatrixView<T> Y) {
  static const DrawBits words = HWY_DYNAMIC_DISPATCH(DrawWords)();
  const std::uint64_t stream = mask.stream(step[0]);
  const std::int64_t columns = std::max<std::int64_t>(1, kElements / X.rows);
  context.parallel_for((X.cols + columns - 1) / columns, [&](std::int64_t task, int) {
    std::uint32_t bits[kPiece + 4 * (kMostBlocks + 1)];
    for (std::int64_t j = task * columns; j < std::min(X.cols, (task + 1) * columns); ++j) {
      for (std::int64_t i = 0; i < X.rows; i += kPiece) {
        const std::int64_t size = std::min(kPiece, X.rows - i), first = i + (mask.first + j) * X.rows,
                           within = first % 4;
        for (std::int64_t drawn = 0; drawn < within + size; drawn += 4 * words.blocks)
          words.draw(mask.seed, stream, static_cast<std::uint64_t>((first + drawn) / 4), bits + drawn);
        apply(mask, bits + within, X.column(j) + i, Y.column(j) + i, size);
      }
    }
  });
}

template void dropout<float>(const Context&, const DropoutMask<float>&, VectorView<const std::int64_t>,
                             MatrixView<const float>, MatrixView<float>);
template void dropout<double>(const Context&, const DropoutMask<double>&, VectorView<const std::int64_t>,
                              MatrixView<const double>, MatrixView<double>);

}  // namespace shrinkwarp::cpu
