#include <algorithm>

#include <shrinkwarp/kernels/compaction/compaction.hpp>

namespace shrinkwarp::cpu {

template <class T>
void move_columns(const Context& context, MatrixView<T> matrix, VectorView<const std::int32_t> from,
                  VectorView<const std::int32_t> to) {
  context.parallel_for(
      to.size, [&](std::int64_t i, int) { std::copy_n(matrix.column(from[i]), matrix.rows, matrix.column(to[i])); });
}

template <class From, class To>
void scale_columns(const Context& context, MatrixView<const From> source, VectorView<const std::int32_t> from,
                   VectorView<const double> factor, VectorView<const std::int32_t> to, MatrixView<To> target) {
  context.parallel_for(to.size, [&](std::int64_t i, int) {
    const From* in = source.column(from[i]);
    std::transform(in, in + target.rows, target.column(to[i]),
                   [f = factor[i]](From value) { return static_cast<To>(static_cast<double>(value) * f); });
  });
}

std::int64_t compaction_scratch(const Context&, std::int64_t) {
  return 0;
}

void select_columns(const Context&, VectorView<const std::uint8_t> flags, VectorView<std::int32_t> selected,
                    VectorView<std::int64_t> count, VectorView<std::uint8_t>) {
  std::int64_t found = 0;
  for (std::int64_t b = 0; b < flags.size; ++b)
    if (flags[b] != 0) selected[found++] = static_cast<std::int32_t>(b);
  count[0] = found;
}

template <class T>
void sparse_offsets(const Context& context, MatrixView<const T> codes, VectorView<const std::int32_t> columns,
                    VectorView<std::int64_t> offsets, VectorView<std::uint8_t>) {
  context.parallel_for(columns.size, [&](std::int64_t i, int) {
    const T* z = codes.column(columns[i]);
    offsets[i + 1] = std::count_if(z, z + codes.rows, [](T value) { return value != T(0); });
  });
  offsets[0] = 0;
  for (std::int64_t i = 0; i < columns.size; ++i) offsets[i + 1] += offsets[i];
}

template <class T>
void sparse_fill(const Context& context, MatrixView<const T> codes, VectorView<const std::int32_t> columns,
                 VectorView<const std::int64_t> offsets, VectorView<std::int32_t> indices, VectorView<double> values) {
  context.parallel_for(columns.size, [&](std::int64_t i, int) {
    const T* z = codes.column(columns[i]);
    std::int64_t place = offsets[i];
    for (std::int64_t j = 0; j < codes.rows; ++j) {
      if (z[j] == T(0)) continue;
      indices[place] = static_cast<std::int32_t>(j);
      values[place++] = static_cast<double>(z[j]);
    }
  });
}

#define SHRINKWARP_INSTANTIATE_COMPACTION(T)                                                           \
  template void move_columns<T>(const Context&, MatrixView<T>, VectorView<const std::int32_t>,         \
                                VectorView<const std::int32_t>);                                       \
  template void sparse_offsets<T>(const Context&, MatrixView<const T>, VectorView<const std::int32_t>, \
                                  VectorView<std::int64_t>, VectorView<std::uint8_t>);                 \
  template void sparse_fill<T>(const Context&, MatrixView<const T>, VectorView<const std::int32_t>,    \
                               VectorView<const std::int64_t>, VectorView<std::int32_t>, VectorView<double>);
SHRINKWARP_INSTANTIATE_COMPACTION(float)
SHRINKWARP_INSTANTIATE_COMPACTION(double)

#define SHRINKWARP_INSTANTIATE_SCALE(From, To)                                                                  \
  template void scale_columns<From, To>(const Context&, MatrixView<const From>, VectorView<const std::int32_t>, \
                                        VectorView<const double>, VectorView<const std::int32_t>, MatrixView<To>);
SHRINKWARP_INSTANTIATE_SCALE(float, float)
SHRINKWARP_INSTANTIATE_SCALE(float, double)
SHRINKWARP_INSTANTIATE_SCALE(double, float)
SHRINKWARP_INSTANTIATE_SCALE(double, double)
#undef SHRINKWARP_INSTANTIATE_SCALE

}  // namespace shrinkwarp::cpu
