#include <shrinkwarp/kernels/compaction/compaction.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_COMPACTION                                                                                  \
  template <class T>                                                                                                   \
  void move_columns(const Context& context, MatrixView<T> matrix, VectorView<const std::int32_t> from,                 \
                    VectorView<const std::int32_t> to);                                                                \
  template <class From, class To>                                                                                      \
  void scale_columns(const Context& context, MatrixView<const From> source, VectorView<const std::int32_t> from,       \
                     VectorView<const double> factor, VectorView<const std::int32_t> to, MatrixView<To> target);       \
  std::int64_t compaction_scratch(const Context& context, std::int64_t problems);                                      \
  void select_columns(const Context& context, VectorView<const std::uint8_t> flags, VectorView<std::int32_t> selected, \
                      VectorView<std::int64_t> count, VectorView<std::uint8_t> scratch);                               \
  template <class T>                                                                                                   \
  void sparse_offsets(const Context& context, MatrixView<const T> codes, VectorView<const std::int32_t> columns,       \
                      VectorView<std::int64_t> offsets, VectorView<std::uint8_t> scratch);                             \
  template <class T>                                                                                                   \
  void sparse_fill(const Context& context, MatrixView<const T> codes, VectorView<const std::int32_t> columns,          \
                   VectorView<const std::int64_t> offsets, VectorView<std::int32_t> indices,                           \
                   VectorView<double> values);
namespace cpu {
SHRINKWARP_DECLARE_COMPACTION
}
namespace cuda {
SHRINKWARP_DECLARE_COMPACTION
}
#undef SHRINKWARP_DECLARE_COMPACTION

template <class T>
void move_columns(const Context& context, MatrixView<T> matrix, VectorView<const std::int32_t> from,
                  VectorView<const std::int32_t> to) {
  check_matrix(context, "move_columns", "matrix", matrix, matrix.rows, matrix.cols);
  check_vector(context, "move_columns", "from", from, to.size);
  check_vector(context, "move_columns", "to", to, to.size);
  if (matrix.empty() || to.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::move_columns<T>(context, matrix, from, to);
  }
  cpu::move_columns<T>(context, matrix, from, to);
}

template <class From, class To>
void scale_columns(const Context& context, identity_t<MatrixView<const From>> source,
                   VectorView<const std::int32_t> from, VectorView<const double> factor,
                   VectorView<const std::int32_t> to, MatrixView<To> target) {
  check_matrix(context, "scale_columns", "source", source, target.rows, source.cols);
  check_matrix(context, "scale_columns", "target", target, target.rows, target.cols);
  check_vector(context, "scale_columns", "from", from, to.size);
  check_vector(context, "scale_columns", "factor", factor, to.size);
  check_vector(context, "scale_columns", "to", to, to.size);
  if (target.empty() || to.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::scale_columns<From, To>(context, source, from, factor, to, target);
  }
  cpu::scale_columns<From, To>(context, source, from, factor, to, target);
}

std::int64_t compaction_scratch(const Context& context, std::int64_t problems) {
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::compaction_scratch(context, problems);
  }
  return cpu::compaction_scratch(context, problems);
}

namespace {
void check_scratch(const Context& context, const char* function, VectorView<std::uint8_t> scratch,
                   std::int64_t problems) {
  const std::int64_t needed = compaction_scratch(context, problems);
  SHRINKWARP_REQUIRE(scratch.size >= needed, ShapeError, function, ": scratch has ", scratch.size,
                     " bytes, wanted at least ", needed);
  check_vector(context, function, "scratch", scratch, scratch.size);
}
}  // namespace

void select_columns(const Context& context, VectorView<const std::uint8_t> flags, VectorView<std::int32_t> selected,
                    VectorView<std::int64_t> count, VectorView<std::uint8_t> scratch) {
  check_vector(context, "select_columns", "flags", flags, flags.size);
  check_vector(context, "select_columns", "selected", selected, flags.size);
  check_vector(context, "select_columns", "count", count, 1);
  check_scratch(context, "select_columns", scratch, flags.size);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::select_columns(context, flags, selected, count, scratch);
  }
  cpu::select_columns(context, flags, selected, count, scratch);
}

template <class T>
void sparse_offsets(const Context& context, identity_t<MatrixView<const T>> codes,
                    VectorView<const std::int32_t> columns, VectorView<std::int64_t> offsets,
                    VectorView<std::uint8_t> scratch) {
  check_matrix(context, "sparse_offsets", "codes", codes, codes.rows, codes.cols);
  check_vector(context, "sparse_offsets", "columns", columns, columns.size);
  check_vector(context, "sparse_offsets", "offsets", offsets, columns.size + 1);
  check_scratch(context, "sparse_offsets", scratch, columns.size);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::sparse_offsets<T>(context, codes, columns, offsets, scratch);
  }
  cpu::sparse_offsets<T>(context, codes, columns, offsets, scratch);
}

template <class T>
void sparse_fill(const Context& context, identity_t<MatrixView<const T>> codes, VectorView<const std::int32_t> columns,
                 VectorView<const std::int64_t> offsets, VectorView<std::int32_t> indices, VectorView<double> values) {
  check_matrix(context, "sparse_fill", "codes", codes, codes.rows, codes.cols);
  check_vector(context, "sparse_fill", "columns", columns, columns.size);
  check_vector(context, "sparse_fill", "offsets", offsets, columns.size + 1);
  check_vector(context, "sparse_fill", "indices", indices, indices.size);
  check_vector(context, "sparse_fill", "values", values, indices.size);
  if (columns.empty() || indices.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::sparse_fill<T>(context, codes, columns, offsets, indices, values);
  }
  cpu::sparse_fill<T>(context, codes, columns, offsets, indices, values);
}

#define SHRINKWARP_INSTANTIATE_SPARSE(T)                                                               \
  template void sparse_offsets<T>(const Context&, MatrixView<const T>, VectorView<const std::int32_t>, \
                                  VectorView<std::int64_t>, VectorView<std::uint8_t>);                 \
  template void sparse_fill<T>(const Context&, MatrixView<const T>, VectorView<const std::int32_t>,    \
                               VectorView<const std::int64_t>, VectorView<std::int32_t>, VectorView<double>);
SHRINKWARP_INSTANTIATE_SPARSE(float)
SHRINKWARP_INSTANTIATE_SPARSE(double)

template void move_columns<float>(const Context&, MatrixView<float>, VectorView<const std::int32_t>,
                                  VectorView<const std::int32_t>);
template void move_columns<double>(const Context&, MatrixView<double>, VectorView<const std::int32_t>,
                                   VectorView<const std::int32_t>);

#define SHRINKWARP_INSTANTIATE_SCALE(From, To)                                                                  \
  template void scale_columns<From, To>(const Context&, MatrixView<const From>, VectorView<const std::int32_t>, \
                                        VectorView<const double>, VectorView<const std::int32_t>, MatrixView<To>);
SHRINKWARP_INSTANTIATE_SCALE(float, float)
SHRINKWARP_INSTANTIATE_SCALE(float, double)
SHRINKWARP_INSTANTIATE_SCALE(double, float)
SHRINKWARP_INSTANTIATE_SCALE(double, double)
#undef SHRINKWARP_INSTANTIATE_SCALE

}  // namespace shrinkwarp
