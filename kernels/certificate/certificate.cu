// CUDA body of certificate: the anchor's refresh, two float64 tiled products (common/tile_product.cuh) that never write
// D'R, and one block a problem for the gap.
//
// Story, medium lead field (n 302, m 6138, codes in float), N problems, on an H100 (34 TFLOP/s fp64 without tensor
// cores, 3.0 TB/s; on paper, not measured). A product is 3.71 MFLOP a problem:
//   refresh_anchor    147 KB a problem                        N = 512: 14 us from L2     N = 8192: 400 us
//   code_residual     X, R and the rounded R 6 KB, codes 25   56 us of fp64, 110 expected  890 us, 1.1 ms
//   correlation_max   R 2.4 KB, D once a column tile          56 us of fp64, 75 expected   890 us, 1.05 ms
//   dual_gap          X, R 4.8 KB, codes 25 KB                5 us                         80 us
// A certificate is due every 25 iterations: 2 of their 30 ms at N = 8192. The products count every atom though
// codes are sparse: where fp64 is slow (1/64 of fp32 on consumer cards) they are most of a certificate.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/certificate/group_pieces.hpp>
#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/group.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>

namespace shrinkwarp::cuda {
namespace {

// ---- anchors -----------------------------------------------------------------------------------------------------

template <class T, int kCount>
struct AnchorLanes {
  Lanes<T, kCount> anchor;
  Lanes<T, kCount> current;
  Lanes<T, kCount> previous;
};

/// a = (T)(anchor + current); previous <- (anchor + previous) - a; current <- 0; anchor <- a. A warp a piece of a
/// column: 6 accesses an element, memory bound.
template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    refresh_anchor_kernel(MatrixView<T> anchor, MatrixView<T> current, MatrixView<T> previous) {
  const std::int64_t col = warp_column();
  if (col >= anchor.cols) return;
  T* const a = anchor.data + col * anchor.ld;
  T* const now = current.data + col * current.ld;
  T* const before = previous.data + col * previous.ld;
  walk_column<kCount>(
      anchor.rows,
      [&](std::int64_t row, auto width) {
        return AnchorLanes<T, width.value>{load_lanes<width.value>(a + row), load_lanes<width.value>(now + row),
                                           load_lanes<width.value>(before + row)};
      },
      [&](std::int64_t row, auto width, auto lanes) {
#pragma unroll
        for (int i = 0; i < width.value; ++i) {
          const double old = lanes.anchor.value[i];
          const T moved = static_cast<T>(old + static_cast<double>(lanes.current.value[i]));
          lanes.previous.value[i] =
              static_cast<T>((old + static_cast<double>(lanes.previous.value[i])) - static_cast<double>(moved));
          lanes.current.value[i] = T(0);
          lanes.anchor.value[i] = moved;
        }
        store_lanes<width.value>(a + row, lanes.anchor);
        store_lanes<width.value>(now + row, lanes.current);
        store_lanes<width.value>(before + row, lanes.previous);
      });
}

// ---- R = X - D anchor --------------------------------------------------------------------------------------------

/// 32 x 64 tiles: R has few rows, and 302 of them make 10 row tiles. K is every atom, in order.
using ResidualTile = ProductTile<double, 32, 64, 8, 4, 4, 4>;

/// What forms the codes for the product: nothing in double, widening in float.
template <class T>
struct Codes {
  using Operand = WidenedOperand<ResidualTile, ResidualTile::kCols, T>;
  static constexpr int kRaw = Operand::kRaw;
  static __device__ Operand make(const T* data, std::int64_t ld, int extent, T* raw) { return {data, ld, extent, raw}; }
};
template <>
struct Codes<double> {
  using Operand = DepthOperand<ResidualTile, ResidualTile::kCols, 8>;
  static constexpr int kRaw = 2;  // not used
  static __device__ Operand make(const double* data, std::int64_t ld, int extent, double*) {
    return {data, ld, extent};
  }
};

/// One tile of R in double, and rounded. A step of 8 atoms is 128 multiply-adds a thread, on half-rate units; 14 KB of
/// shared memory, four blocks a multiprocessor. N = 512 makes 80 blocks, 0.6 of the device.
template <class T>
__global__ void __launch_bounds__(ResidualTile::kThreads, ResidualTile::kResident)
    code_residual_kernel(MatrixView<const double> D, MatrixView<const T> codes, MatrixView<const double> X,
                         MatrixView<double> R, MatrixView<T> rounded) {
  using Tile = ResidualTile;
  SHRINKWARP_SHARED_ARRAY(double, shared, Tile::kShared);
  SHRINKWARP_SHARED_ARRAY(T, raw, Codes<T>::kRaw);

  const TileSpot<Tile> spot(R.rows, R.cols);
  RowsOperand<Tile, 8> a(D.data + spot.row0, D.ld, spot.rows);
  auto b = Codes<T>::make(codes.data + spot.col0 * codes.ld, codes.ld, spot.cols, raw);
  double acc[Tile::kThreadRows][Tile::kThreadCols];
  tile_product<Tile>(shared, a, b, 0, D.cols, acc);

  for_each_column<Tile>(shared, acc, [&](int c, const double* sums) {
    const int r = static_cast<int>(threadIdx.x) % 32;
    if (c >= spot.cols || r >= spot.rows) return;
    static_assert(Tile::kRows == 32, "a lane a row");
    const std::int64_t row = spot.row0 + r;
    const std::int64_t col = spot.col0 + c;
    const double residual = X.data[row + col * X.ld] - sums[r];
    R.data[row + col * R.ld] = residual;
    if (rounded.data != nullptr) rounded.data[row + col * rounded.ld] = static_cast<T>(residual);
  });
}

// ---- max |D'R| ---------------------------------------------------------------------------------------------------

/// Both operands are contiguous along n. 96 row tiles at m = 6138.
using CorrelationTile = ProductTile<double, 64, 64, 8, 8, 4, 3, Contiguous::depth>;

/// One tile of D'R, of which only the largest magnitude of each column leaves: partials[tile][col]. A step of 8 sensors
/// is 256 multiply-adds a thread on half-rate units; 16 KB of shared memory, three blocks a multiprocessor.
/// kPenalised: of what the penalty makes of D'R - ridge Z, Z = `codes` where there are any; a division an element more.
template <bool kPenalised, class T>
__global__ void __launch_bounds__(CorrelationTile::kThreads, CorrelationTile::kResident)
    correlation_kernel(MatrixView<const double> D, MatrixView<const double> R, double* partials,
                       MatrixView<const T> codes, PenaltyView<double> penalty) {
  using Tile = CorrelationTile;
  SHRINKWARP_SHARED_ARRAY(double, shared, Tile::kRing);
  static_assert(Tile::kThreadsDown * Tile::kCols <= Tile::kRing);

  const TileSpot<Tile> spot(D.cols, R.cols);
  DepthOperand<Tile, Tile::kRows, 8> a(D.data + spot.row0 * D.ld, D.ld, spot.rows);
  DepthOperand<Tile, Tile::kCols, 8> b(R.data + spot.col0 * R.ld, R.ld, spot.cols);
  double acc[Tile::kThreadRows][Tile::kThreadCols];
  tile_product<Tile>(shared, a, b, 0, D.rows, acc);

  // Rows beyond the last atom are sums of zeros and do not count (NaN where the column has one anyway).
  const ThreadPlace<Tile> place;
  __syncthreads();
#pragma unroll
  for (int j = 0; j < Tile::kThreadCols; ++j) {
    double largest = 0;
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      double value = acc[i][j];
      if constexpr (kPenalised) {
        const int row = place.row(i);
        if (row >= spot.rows || place.col(j) >= spot.cols) continue;
        const std::int64_t atom = spot.row0 + row;
        if (codes.data != nullptr)
          value = std::fma(-penalty.ridge,
                           static_cast<double>(codes.data[atom + (spot.col0 + place.col(j)) * codes.ld]), value);
        if (penalty.weights.data != nullptr) value /= penalty.weights.data[atom];
        if (penalty.nonnegative && value < 0) value = 0;
      }
      largest = max_or_nan(largest, std::fabs(value));
    }
    shared[place.down * Tile::kCols + place.col(j)] = largest;
  }
  __syncthreads();
  const int col = static_cast<int>(threadIdx.x);
  if (col >= spot.cols) return;
  double largest = 0;
#pragma unroll
  for (int down = 0; down < Tile::kThreadsDown; ++down) largest = max_or_nan(largest, shared[down * Tile::kCols + col]);
  partials[spot.row_tile * R.cols + spot.col0 + col] = largest;
}

constexpr int kMaxCols = 32;
constexpr int kMaxSlices = 8;

/// result = max over the tiles, 8 threads a column: tiles x N x 8 bytes, 2 us from L2 at N = 512, 3 at 8192.
__global__ void __launch_bounds__(kMaxCols* kMaxSlices)
    partial_max_kernel(const double* partials, std::int64_t tiles, std::int64_t cols, double* result) {
  SHRINKWARP_SHARED_ARRAY(double, slices, kMaxSlices, kMaxCols);
  const int lane = static_cast<int>(threadIdx.x) % kMaxCols;
  const int slice = static_cast<int>(threadIdx.x) / kMaxCols;
  const std::int64_t col = static_cast<std::int64_t>(blockIdx.x) * kMaxCols + lane;
  double largest = 0;
  if (col < cols) {
#pragma unroll 4
    for (std::int64_t tile = slice; tile < tiles; tile += kMaxSlices)
      largest = max_or_nan(largest, partials[tile * cols + col]);
  }
  slices[slice][lane] = largest;
  __syncthreads();
  if (slice != 0 || col >= cols) return;
#pragma unroll
  for (int other = 1; other < kMaxSlices; ++other) largest = max_or_nan(largest, slices[other][lane]);
  result[col] = largest;
}

// ---- max ||(D'R)_g|| ----------------------------------------------------------------------------------------------

/// One tile of D'R, of which the pieces of its groups leave (group_pieces.hpp): pieces[piece][tile][col]. A warp a column,
/// as many lanes a group as it has atoms: beside the product 64 squares, 22 roots and divisions a column in groups of 3.
template <class T>
__global__ void __launch_bounds__(CorrelationTile::kThreads, CorrelationTile::kResident)
    group_correlation_kernel(MatrixView<const double> D, MatrixView<const double> R, double* pieces, std::int64_t tiles,
                             MatrixView<const T> codes, PenaltyView<double> penalty) {
  using Tile = CorrelationTile;
  SHRINKWARP_SHARED_ARRAY(double, shared, Tile::kShared);

  const TileSpot<Tile> spot(D.cols, R.cols);
  DepthOperand<Tile, Tile::kRows, 8> a(D.data + spot.row0 * D.ld, D.ld, spot.rows);
  DepthOperand<Tile, Tile::kCols, 8> b(R.data + spot.col0 * R.ld, R.ld, spot.cols);
  double acc[Tile::kThreadRows][Tile::kThreadCols];
  tile_product<Tile>(shared, a, b, 0, D.rows, acc);

  const int size = static_cast<int>(penalty.group_size);  // m is under 2^31
  const int row0 = static_cast<int>(spot.row0);
  const int first = row0 / size;
  const int groups = (row0 + spot.rows - 1) / size - first + 1;
  const int lanes = group_lanes(size);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for_each_column<Tile>(shared, acc, [&](int c, const double* sums) {
    if (c >= spot.cols) return;
    const std::int64_t col = spot.col0 + c;
    const T* const z = codes.data != nullptr ? codes.data + spot.row0 + col * codes.ld : nullptr;
    const auto leave = [&](GroupPiece piece, double value) {
      pieces[(static_cast<std::int64_t>(piece) * tiles + spot.row_tile) * R.cols + col] = value;
    };
    double largest = 0;
    for (int start = 0; start < groups; start += kWarpSize / lanes) {
      const int group = start + lane / lanes;
      const std::int64_t begin =
          static_cast<std::int64_t>(first + group) * size - row0;  // in the tile, or beyond its ends
      const std::int64_t end = begin + size;
      double squares = 0;
      if (group < groups) {
        const int stop = clip(end, spot.rows);
        for (int i = (begin < 0 ? 0 : static_cast<int>(begin)) + lane % lanes; i < stop; i += lanes) {
          const double value = z != nullptr ? std::fma(-penalty.ridge, static_cast<double>(z[i]), sums[i]) : sums[i];
          squares = std::fma(value, value, squares);
        }
      }
      squares = group_sum(squares, lanes);
      if (group >= groups || lane % lanes != 0) continue;
      if (begin < 0)
        leave(GroupPiece::head, squares);
      else if (end > spot.rows)
        leave(GroupPiece::tail, squares);
      else
        largest = max_or_nan(largest, group_correlation(squares, penalty.weights.data, first + group));
    }
    largest = warp_max(largest);
    if (lane == 0) leave(GroupPiece::whole, largest);
  });
}

constexpr int kGroupMaxThreads = 64;

/// result = the largest group of each column, a thread a column: up to 3 tiles x N x 8 bytes.
__global__ void __launch_bounds__(kGroupMaxThreads)
    group_max_kernel(const double* pieces, std::int64_t tiles, std::int64_t atoms, std::int64_t group_size,
                     const double* weights, std::int64_t cols, double* result) {
  const std::int64_t col = static_cast<std::int64_t>(blockIdx.x) * kGroupMaxThreads + threadIdx.x;
  if (col >= cols) return;
  result[col] =
      largest_group(atoms, CorrelationTile::kRows, group_size, weights, [&](GroupPiece piece, std::int64_t tile) {
        return pieces[(static_cast<std::int64_t>(piece) * tiles + tile) * cols + col];
      });
}

// ---- gap ---------------------------------------------------------------------------------------------------------

constexpr int kGapThreads = 256;

/// This thread's share of sum_g w_g ||z_g||, neighbouring lanes a group; every thread of the block calls it.
template <class T>
__device__ __forceinline__ double norms_of_thread(const T* z, std::int64_t atoms, const PenaltyView<double>& penalty) {
  const int size = static_cast<int>(penalty.group_size);
  const int groups = static_cast<int>(atoms) / size;
  const int lanes = group_lanes(size);
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  double sum = 0;
  for (int start = 0; start < groups; start += kGapThreads / lanes) {
    const int group = start + static_cast<int>(threadIdx.x) / lanes;
    double squares = 0;
    if (group < groups) {
      const T* const part = z + static_cast<std::int64_t>(group) * size;
      for (int i = lane; i < size; i += lanes)
        squares = std::fma(static_cast<double>(part[i]), static_cast<double>(part[i]), squares);
    }
    squares = group_sum(squares, lanes);
    if (lane != 0 || squares == 0) continue;  // infinite weights have no z; a group that does not exist has none
    sum = std::fma(penalty.weights.data != nullptr ? penalty.weights.data[group] : 1.0, std::sqrt(squares), sum);
  }
  return sum;
}

/// A block a problem: ||r||^2, <x, r> and ||z||_1 in one pass over 2 n doubles and m codes, memory bound. The threads'
/// shares and the order in which they are summed depend on n and m alone.
template <bool kPenalised, class T>
__global__ void __launch_bounds__(kGapThreads)
    dual_gap_kernel(MatrixView<const double> X, MatrixView<const double> R, const double* correlation,
                    MatrixView<const T> codes, double atom_norm, const double* lambda, double* primal, double* gap,
                    PenaltyView<double> penalty) {
  const std::int64_t col = blockIdx.x;
  const double* const x = X.data + col * X.ld;
  const double* const r = R.data + col * R.ld;
  const T* const z = codes.data + col * codes.ld;
  double energy = 0;
  double alignment = 0;
  double magnitude = 0;
  double weighted = 0, squares = 0;  // of a penalty that is not plain
  for (std::int64_t i = threadIdx.x; i < R.rows; i += kGapThreads) {
    energy = std::fma(r[i], r[i], energy);
    alignment = std::fma(x[i], r[i], alignment);
  }
#pragma unroll 8
  for (std::int64_t j = threadIdx.x; j < codes.rows; j += kGapThreads) {
    const double value = std::fabs(static_cast<double>(z[j]));
    magnitude += value;
    if constexpr (kPenalised) {
      squares = std::fma(value, value, squares);
      if (penalty.group_size != 1) continue;
      const double weight = penalty.weights.data != nullptr ? penalty.weights.data[j] : 1.0;
      if (value != 0) weighted = std::fma(weight, value, weighted);  // infinite weights have no z
    }
  }
  energy = block_sum<kGapThreads>(energy);
  alignment = block_sum<kGapThreads>(alignment);
  magnitude = block_sum<kGapThreads>(magnitude);
  if constexpr (kPenalised) {
    if (penalty.group_size != 1) weighted = norms_of_thread(z, codes.rows, penalty);
    squares = block_sum<kGapThreads>(squares);
    weighted = block_sum<kGapThreads>(weighted);
  }
  if (threadIdx.x != 0) return;
  if constexpr (kPenalised) {
    energy = std::fma(penalty.ridge, squares, energy);
    const double value = std::fma(lambda[col], weighted, 0.5 * energy);
    primal[col] = value;
    gap[col] = gap_under_penalty(value, energy, alignment, correlation[col], lambda[col], atom_norm * magnitude,
                                 penalty.nonnegative);
    return;
  }
  const double value = std::fma(lambda[col], magnitude, 0.5 * energy);
  primal[col] = value;
  gap[col] = gap_at_best_scale(value, energy, alignment, correlation[col], lambda[col], atom_norm * magnitude);
}

}  // namespace

// ---- launchers ---------------------------------------------------------------------------------------------------

template <class T>
void refresh_anchor(const Context& context, MatrixView<T> anchor, MatrixView<T> current, MatrixView<T> previous) {
  if (anchor.empty()) return;
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const bool wide = aligned16(anchor) && aligned16(current) && aligned16(previous);
  launch(wide ? refresh_anchor_kernel<T, kWide> : refresh_anchor_kernel<T, 1>, column_grid(anchor.rows, anchor.cols),
         dim3(kColumnThreads), 0, context.stream(), anchor, current, previous);
}

template <class T>
void code_residual(const Context& context, const CertificateDictionary& dictionary, MatrixView<const T> anchor,
                   MatrixView<const double> X, MatrixView<double> R, MatrixView<T> rounded) {
  const MatrixView<const double> D = dictionary.matrix();
  if (R.empty()) return;
  launch(code_residual_kernel<T>, dim3(tile_grid<ResidualTile>(R.rows, R.cols, "code_residual")),
         dim3(ResidualTile::kThreads), 0, context.stream(), D, anchor, X, R,
         rounded.empty() ? MatrixView<T>{} : rounded);
}

std::int64_t correlation_scratch(const Context&, std::int64_t atoms, std::int64_t problems, std::int64_t group_size) {
  return (group_size > 1 ? kGroupPieces : 1) * ceil_div(atoms, CorrelationTile::kRows) * problems;
}

namespace {

template <bool kPenalised, class T>
void launch_correlation(const Context& context, const CertificateDictionary& dictionary, MatrixView<const double> R,
                        MatrixView<const T> codes, PenaltyView<double> penalty, VectorView<double> result,
                        VectorView<double> scratch) {
  const MatrixView<const double> D = dictionary.matrix();
  if (result.empty()) return;
  const std::int64_t tiles = ceil_div(D.cols, CorrelationTile::kRows);
  launch(correlation_kernel<kPenalised, T>, dim3(tile_grid<CorrelationTile>(D.cols, R.cols, "correlation_max")),
         dim3(CorrelationTile::kThreads), 0, context.stream(), D, R, scratch.data, codes, penalty);
  launch(partial_max_kernel, dim3(grid_size(ceil_div(R.cols, kMaxCols), "correlation_max")),
         dim3(kMaxCols * kMaxSlices), 0, context.stream(), static_cast<const double*>(scratch.data), tiles, R.cols,
         result.data);
}

}  // namespace

void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                     VectorView<double> result, VectorView<double> scratch) {
  launch_correlation<false>(context, D, R, MatrixView<const double>{}, {}, result, scratch);
}

template <class T>
void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                     MatrixView<const T> codes, PenaltyView<double> penalty, VectorView<double> result,
                     VectorView<double> scratch) {
  launch_correlation<true>(context, D, R, codes.empty() ? MatrixView<const T>{} : codes, penalty, result, scratch);
}

template <class T>
void group_correlation_max(const Context& context, const CertificateDictionary& dictionary, MatrixView<const double> R,
                           MatrixView<const T> codes, PenaltyView<double> penalty, VectorView<double> result,
                           VectorView<double> scratch) {
  const MatrixView<const double> D = dictionary.matrix();
  if (result.empty()) return;
  const std::int64_t tiles = ceil_div(D.cols, CorrelationTile::kRows);
  launch(group_correlation_kernel<T>, dim3(tile_grid<CorrelationTile>(D.cols, R.cols, "correlation_max")),
         dim3(CorrelationTile::kThreads), 0, context.stream(), D, R, scratch.data, tiles,
         codes.empty() ? MatrixView<const T>{} : codes, penalty);
  launch(group_max_kernel, dim3(grid_size(ceil_div(R.cols, kGroupMaxThreads), "correlation_max")),
         dim3(kGroupMaxThreads), 0, context.stream(), static_cast<const double*>(scratch.data), tiles, D.cols,
         penalty.group_size, penalty.weights.data, R.cols, result.data);
}

template <class T>
void dual_gap(const Context& context, MatrixView<const double> X, MatrixView<const double> R,
              VectorView<const double> correlation, MatrixView<const T> codes, double atom_norm,
              VectorView<const double> lambda, VectorView<double> primal, VectorView<double> gap,
              PenaltyView<double> penalty) {
  if (gap.empty()) return;
  launch(penalty.plain() ? dual_gap_kernel<false, T> : dual_gap_kernel<true, T>, dim3(grid_size(gap.size, "dual_gap")),
         dim3(kGapThreads), 0, context.stream(), X, R, correlation.data, codes, atom_norm, lambda.data, primal.data,
         gap.data, penalty);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                     \
  template void refresh_anchor<T>(const Context&, MatrixView<T>, MatrixView<T>, MatrixView<T>);                       \
  template void code_residual<T>(const Context&, const CertificateDictionary&, MatrixView<const T>,                   \
                                 MatrixView<const double>, MatrixView<double>, MatrixView<T>);                        \
  template void correlation_max<T>(const Context&, const CertificateDictionary&, MatrixView<const double>,            \
                                   MatrixView<const T>, PenaltyView<double>, VectorView<double>, VectorView<double>); \
  template void group_correlation_max<T>(const Context&, const CertificateDictionary&, MatrixView<const double>,      \
                                         MatrixView<const T>, PenaltyView<double>, VectorView<double>,                \
                                         VectorView<double>);                                                         \
  template void dual_gap<T>(const Context&, MatrixView<const double>, MatrixView<const double>,                       \
                            VectorView<const double>, MatrixView<const T>, double, VectorView<const double>,          \
                            VectorView<double>, VectorView<double>, PenaltyView<double>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
