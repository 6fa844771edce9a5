// CUDA body of compaction. Selection and scan are CUB's, called through compaction_cub.hpp.
//
// Story, medium lead field (m 6138, float), on an H100 (3.0 TB/s; on paper, not measured). What finished problems cost
// is reading their codes twice, 49 KB a problem: all 8192 of a batch take 70 us in each of sparse_offsets and
// sparse_fill, the usual hundred a dozen microseconds of latency. Moving 100 columns of the five matrices of a batch is
// 20 MB, 7 us. Selecting and scanning N numbers are CUB's three small launches, 5 us each.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/compaction/compaction.hpp>
#include <shrinkwarp/kernels/compaction/compaction_cub.hpp>

namespace shrinkwarp::cuda {
namespace {

/// matrix[:, to[i]] <- matrix[:, from[i]], a warp a piece of a column, 16 bytes a lane where columns allow it. No
/// column is both read and written, so the order does not matter.
template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    move_columns_kernel(MatrixView<T> matrix, const std::int32_t* from, const std::int32_t* to, std::int64_t count) {
  const std::int64_t i = warp_column();
  if (i >= count) return;
  const T* const source = matrix.data + from[i] * matrix.ld;
  T* const target = matrix.data + to[i] * matrix.ld;
  walk_column<kCount>(
      matrix.rows, [&](std::int64_t row, auto width) { return load_lanes<width.value>(source + row); },
      [&](std::int64_t row, auto width, auto lanes) { store_lanes<width.value>(target + row, lanes); });
}

/// target[:, to[i]] <- factor[i] source[:, from[i]], a warp a piece of a column.
template <class From, class To>
__global__ void __launch_bounds__(kColumnThreads)
    scale_columns_kernel(MatrixView<const From> source, const std::int32_t* from, const double* factor,
                         const std::int32_t* to, std::int64_t count, MatrixView<To> target) {
  const std::int64_t i = warp_column();
  if (i >= count) return;
  const From* const in = source.data + from[i] * source.ld;
  To* const out = target.data + to[i] * target.ld;
  const double f = factor[i];
  walk_column<1>(
      target.rows, [&](std::int64_t row, auto) { return in[row]; },
      [&](std::int64_t row, auto, From value) { out[row] = static_cast<To>(static_cast<double>(value) * f); });
}

/// Rows of 32 that a warp reads before it looks at the first: codes are mostly zero, so time is loads.
constexpr int kRounds = 8;

/// Calls body(base, value, nonzero, mask) for each 32 rows of a column from the first to the last: this lane's row is
/// base + lane, `mask` holds the lanes with a nonzero (NaN is one). A whole warp calls it.
template <class T, class Body>
__device__ __forceinline__ void walk_nonzeros(const T* z, std::int64_t rows, const Body& body) {
  const int lane = static_cast<int>(threadIdx.x % kWarpSize);
  for (std::int64_t base = 0; base < rows; base += kRounds * kWarpSize) {
    T value[kRounds];
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const std::int64_t row = base + i * kWarpSize + lane;
      value[i] = row < rows ? z[row] : T(0);
    }
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const bool nonzero = value[i] != T(0);
      body(base + i * kWarpSize, value[i], nonzero, __ballot_sync(kFullMask, nonzero));
    }
  }
}

/// counts[i] = nonzeros of codes[:, columns[i]], a warp a column.
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    count_nonzeros_kernel(MatrixView<const T> codes, const std::int32_t* columns, std::int64_t count,
                          std::int64_t* counts) {
  const std::int64_t i = warp_column();
  if (i >= count) return;  // a whole warp
  std::int64_t nonzeros = 0;
  walk_nonzeros(codes.data + columns[i] * codes.ld, codes.rows,
                [&](std::int64_t, T, bool, unsigned mask) { nonzeros += __popc(mask); });
  if (threadIdx.x % kWarpSize == 0) counts[i] = nonzeros;
}

/// Writes the nonzeros of codes[:, columns[i]] from offsets[i] on, a warp a column: a lane's place is the number of
/// nonzeros in the lanes before it.
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    sparse_fill_kernel(MatrixView<const T> codes, const std::int32_t* columns, std::int64_t count,
                       const std::int64_t* offsets, std::int32_t* indices, double* values) {
  const std::int64_t i = warp_column();
  if (i >= count) return;  // a whole warp
  const unsigned before = (1u << (threadIdx.x % kWarpSize)) - 1;
  std::int64_t place = offsets[i];
  walk_nonzeros(codes.data + columns[i] * codes.ld, codes.rows,
                [&](std::int64_t base, T value, bool nonzero, unsigned mask) {
                  if (nonzero) {
                    const std::int64_t target = place + __popc(mask & before);
                    indices[target] = static_cast<std::int32_t>(base + threadIdx.x % kWarpSize);
                    values[target] = static_cast<double>(value);
                  }
                  place += __popc(mask);
                });
}

}  // namespace

// ---- launchers ---------------------------------------------------------------------------------------------------

template <class T>
void move_columns(const Context& context, MatrixView<T> matrix, VectorView<const std::int32_t> from,
                  VectorView<const std::int32_t> to) {
  if (matrix.empty() || to.empty()) return;
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  launch(aligned16(matrix) ? move_columns_kernel<T, kWide> : move_columns_kernel<T, 1>,
         column_grid(matrix.rows, to.size), dim3(kColumnThreads), 0, context.stream(), matrix, from.data, to.data,
         to.size);
}

template <class From, class To>
void scale_columns(const Context& context, MatrixView<const From> source, VectorView<const std::int32_t> from,
                   VectorView<const double> factor, VectorView<const std::int32_t> to, MatrixView<To> target) {
  launch(scale_columns_kernel<From, To>, column_grid(target.rows, to.size), dim3(kColumnThreads), 0, context.stream(),
         source, from.data, factor.data, to.data, to.size, target);
}

std::int64_t compaction_scratch(const Context&, std::int64_t problems) {
  if (problems == 0) return 0;
  std::size_t select_bytes = 0;
  std::size_t scan_bytes = 0;
  SHRINKWARP_CUDA_CHECK(select_flagged(nullptr, select_bytes, nullptr, nullptr, nullptr, problems, nullptr));
  SHRINKWARP_CUDA_CHECK(sum_inclusive(nullptr, scan_bytes, nullptr, problems, nullptr));
  return static_cast<std::int64_t>(std::max(select_bytes, scan_bytes));
}

void select_columns(const Context& context, VectorView<const std::uint8_t> flags, VectorView<std::int32_t> selected,
                    VectorView<std::int64_t> count, VectorView<std::uint8_t> scratch) {
  if (flags.empty()) return context.zero_bytes(count.data, sizeof(std::int64_t));
  auto bytes = static_cast<std::size_t>(scratch.size);
  SHRINKWARP_CUDA_CHECK(
      select_flagged(scratch.data, bytes, flags.data, selected.data, count.data, flags.size, context.stream()));
}

template <class T>
void sparse_offsets(const Context& context, MatrixView<const T> codes, VectorView<const std::int32_t> columns,
                    VectorView<std::int64_t> offsets, VectorView<std::uint8_t> scratch) {
  context.zero_bytes(offsets.data, sizeof(std::int64_t));
  if (columns.empty()) return;
  std::int64_t* const counts = offsets.data + 1;
  launch(count_nonzeros_kernel<T>, column_grid(1, columns.size), dim3(kColumnThreads), 0, context.stream(), codes,
         columns.data, columns.size, counts);
  auto bytes = static_cast<std::size_t>(scratch.size);
  SHRINKWARP_CUDA_CHECK(sum_inclusive(scratch.data, bytes, counts, columns.size, context.stream()));
}

template <class T>
void sparse_fill(const Context& context, MatrixView<const T> codes, VectorView<const std::int32_t> columns,
                 VectorView<const std::int64_t> offsets, VectorView<std::int32_t> indices, VectorView<double> values) {
  if (columns.empty() || indices.empty()) return;
  launch(sparse_fill_kernel<T>, column_grid(1, columns.size), dim3(kColumnThreads), 0, context.stream(), codes,
         columns.data, columns.size, offsets.data, indices.data, values.data);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                      \
  template void move_columns<T>(const Context&, MatrixView<T>, VectorView<const std::int32_t>,         \
                                VectorView<const std::int32_t>);                                       \
  template void sparse_offsets<T>(const Context&, MatrixView<const T>, VectorView<const std::int32_t>, \
                                  VectorView<std::int64_t>, VectorView<std::uint8_t>);                 \
  template void sparse_fill<T>(const Context&, MatrixView<const T>, VectorView<const std::int32_t>,    \
                               VectorView<const std::int64_t>, VectorView<std::int32_t>, VectorView<double>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

#define SHRINKWARP_INSTANTIATE_SCALE(From, To)                                                                  \
  template void scale_columns<From, To>(const Context&, MatrixView<const From>, VectorView<const std::int32_t>, \
                                        VectorView<const double>, VectorView<const std::int32_t>, MatrixView<To>);
SHRINKWARP_INSTANTIATE_SCALE(float, float)
SHRINKWARP_INSTANTIATE_SCALE(float, double)
SHRINKWARP_INSTANTIATE_SCALE(double, float)
SHRINKWARP_INSTANTIATE_SCALE(double, double)
#undef SHRINKWARP_INSTANTIATE_SCALE

}  // namespace shrinkwarp::cuda
