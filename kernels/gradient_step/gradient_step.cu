// CUDA body of gradient_step: two tiled products of our own (common/tile_product.cuh) with everything else fused into
// their loads and epilogues, a sum over the pieces of the first one, and the momentum update.
//
// Bits. An element of R is X - P_0 - P_1 - ..., P_c being the product over one piece of the atoms, summed in order. The
// cut into pieces depends on n and m alone, so a column's bits depend neither on the batch nor on the device.
//
// Story, medium lead field (n 306, m 6138, float), N problems, on an H100 (67 TFLOP/s fp32, 3.0 TB/s, L2 5.5 TB/s).
//   residual       3.76 MFLOP a problem; current and previous 49 KB, pieces 14.7 KB written and read
//   gradient step  3.76 MFLOP a problem; current, previous, anchor read and previous written, 98 KB
//            on paper at full issue rate    measured (H100 80GB HBM3, 2026-11, shrinkwarp bench iteration)
//   N =  512        50 us +  42 us                97 us +   91 us   (cuBLAS, both products alone: 123 us)
//   N = 1024       100 us +  84 us               238 us +  178 us   (205 us)
//   N = 8192       705 us + 650 us              1199 us + 1222 us   (1479 us)
// Both are bound by issue slots on paper: multiply-adds are 0.75 of them in the residual (forming Y takes a fifth) and
// 0.82 in the gradient step, whose epilogue adds 15 %. The profiler finds 57 % and 55 % of the slots taken with 2.9 warps
// a scheduler and 18 % of the memory's rate: what is lost is latency between dependent instructions, not memory. At 1024
// columns the residual's 480 blocks make two waves of 396. Tiles tried there and found no better than 8 %: kDepth 8 and
// 32, 128 x 128 with 256 threads, 64 x 64 with 64 threads, 8 x 16 and 16 x 8 a thread, two to six blocks resident.
// n = 306 fills 5 row tiles of 64 to 96 %, m = 6138 fills 48 of 128.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/gradient_step/operands.hpp>

namespace shrinkwarp::cuda {
namespace {

/// Atoms that one piece of the residual sums, for each kPieceRows rows: 12 pieces for the medium lead field, so that
/// 512 columns make 240 blocks. With more rows there are more blocks anyway; the pieces then never take more than a
/// fifth of the memory of the codes.
constexpr std::int64_t kPieceAtoms = 512;
constexpr std::int64_t kPieceRows = 320;
template <class T>
struct Shapes;
template <>
struct Shapes<float> {
  using Residual = ProductTile<float, 64, 128, 16, 8, 8>;
  using Step = ProductTile<float, kStepAtoms, 64, 16, 8, 8>;
};
template <>
struct Shapes<double> {
  using Residual = ProductTile<double, 64, 64, 8, 8, 4, 2>;
  using Step = ProductTile<double, kStepAtoms, 32, 8, 8, 4, 2>;
};

template <class T>
constexpr std::int64_t padded(std::int64_t rows) {
  return ceil_div(rows, Vector<T>::kSize) * Vector<T>::kSize;
}

// ---- packing: once a dictionary, 3 copies of D through memory ----------------------------------------------------

constexpr int kPackTile = 32;
constexpr int kPackRows = 8;

/// Both operands at once, a 32 x 32 tile a block, the transposition through shared memory. Padding is written as 0.
template <class T>
__global__ void __launch_bounds__(kPackTile* kPackRows)
    pack_kernel(MatrixView<const T> D, T* residual_operand, std::int64_t residual_ld, T* correlation_operand,
                std::int64_t correlation_ld) {
  SHRINKWARP_SHARED_ARRAY(T, tile, kPackTile, kPackTile + 1);
  const int x = static_cast<int>(threadIdx.x) % kPackTile;
  const int y = static_cast<int>(threadIdx.x) / kPackTile;
  const std::int64_t row0 = static_cast<std::int64_t>(blockIdx.y) * kPackTile;
  const std::int64_t col0 = static_cast<std::int64_t>(blockIdx.x) * kPackTile;
  for (int c = y; c < kPackTile; c += kPackRows) {
    const std::int64_t i = row0 + x;
    const std::int64_t j = col0 + c;
    const T value = i < D.rows && j < D.cols ? D.data[i + j * D.ld] : T(0);
    tile[c][x] = value;
    if (i < residual_ld && j < D.cols) residual_operand[i + j * residual_ld] = value;
  }
  __syncthreads();
  for (int r = y; r < kPackTile; r += kPackRows) {
    const std::int64_t i = row0 + r;
    const std::int64_t j = col0 + x;
    if (i < D.rows && j < correlation_ld) correlation_operand[j + i * correlation_ld] = tile[x][r];
  }
}

// ---- residual ----------------------------------------------------------------------------------------------------

/// One 64 x 128 tile of R (64 x 64 in double) for one piece of the atoms.
/// With `pieces`: pieces[piece][col][row] = sum over the piece. Without, for one piece: R = X - sum.
/// 33 KB of shared memory, three blocks a multiprocessor. A step of 16 atoms is 1024 multiply-adds a thread in about
/// 1390 instructions, 1450 where columns start at odd elements.
template <class Tile, int kBytes, class T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kResident)
    residual_kernel(MatrixView<const T> D, MatrixView<const T> current, MatrixView<const T> previous, const T* beta,
                    MatrixView<const T> X, MatrixView<T> R, std::int64_t piece_atoms, T* pieces) {
  using B = ExtrapolatedOperand<Tile, kBytes>;
  SHRINKWARP_SHARED_ARRAY(T, shared, Tile::kShared);
  SHRINKWARP_SHARED_ARRAY(T, raw, B::kRaw);
  SHRINKWARP_SHARED_ARRAY(T, betas, Tile::kCols);

  const TileSpot<Tile> spot(R.rows, R.cols);
  for (int col = static_cast<int>(threadIdx.x); col < Tile::kCols; col += Tile::kThreads)
    betas[col] = col < spot.cols ? beta[spot.col0 + col] : T(0);
  __syncthreads();

  const std::int64_t begin = blockIdx.y * piece_atoms;
  const std::int64_t end = begin + piece_atoms < D.cols ? begin + piece_atoms : D.cols;
  RowsOperand<Tile, 16> a(D.data + spot.row0, D.ld, clip(D.ld - spot.row0, Tile::kRows));
  B b(current.data + spot.col0 * current.ld, current.ld, previous.data + spot.col0 * previous.ld, previous.ld,
      spot.cols, betas, raw);
  T acc[Tile::kThreadRows][Tile::kThreadCols];
  tile_product<Tile>(shared, a, b, begin, end, acc);

  for_each_column<Tile>(shared, acc, [&](int c, const T* sums) {
    if (c >= spot.cols) return;
    const std::int64_t col = spot.col0 + c;
    for (int r = static_cast<int>(threadIdx.x) % 32; r < spot.rows; r += 32) {
      const std::int64_t row = spot.row0 + r;
      if (pieces != nullptr)
        pieces[(blockIdx.y * R.cols + col) * R.rows + row] = sums[r];
      else
        R.data[row + col * R.ld] = X.data[row + col * X.ld] - sums[r];
    }
  });
}

constexpr int kSumThreads = 128;

/// R = X - pieces[0] - pieces[1] - ..., a thread an element. (pieces + 2) n N sizeof(T) bytes: 2 us at N = 512 from L2,
/// 46 us at 8192.
template <class T>
__global__ void __launch_bounds__(kSumThreads)
    piece_sum_kernel(MatrixView<const T> X, const T* pieces, int count, MatrixView<T> R) {
  const std::int64_t col = blockIdx.x;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kSumThreads + threadIdx.x;
  if (row >= R.rows) return;
  const T* piece = pieces + col * R.rows + row;
  const std::int64_t stride = R.rows * R.cols;
  T sum = X.data[row + col * X.ld];
#pragma unroll 4
  for (int i = 0; i < count; ++i) sum -= piece[i * stride];
  R.data[row + col * R.ld] = sum;
}

// ---- gradient step -----------------------------------------------------------------------------------------------

/// The smallest normal number.
template <class T>
constexpr T kSmallest = std::numeric_limits<T>::min();

template <class T>
struct StepArguments {
  MatrixView<const T> operand;  // D' [m, n] with its padding
  MatrixView<const T> R;        // [n, N]
  MatrixView<const T> anchor;   // [m, N], looked at where `anchored`
  MatrixView<const T> current;  // [m, N]
  MatrixView<T> previous;       // [m, N]
  const T* beta;                // [N]
  const T* lambda;              // [N]
  const std::uint8_t* active;   // [N] or null
  T step;
  bool anchored;
  StepPartials<T> partials;  // [tiles, N]
  // Of a penalty that is not plain; see anchored_shrinkage.
  const T* weights;  // [m] or null
  T keep, pull;
  bool nonnegative;
};

/// The epilogue for one column of a tile, by a warp with its lanes along the atoms, whatever the leading dimensions.
/// kWhole: all rows exist. kPenalised: the penalty is not plain. `gradient` holds the tile's D'R.
template <class Tile, bool kWhole, bool kPenalised, class T = typename Tile::Element>
__device__ __forceinline__ void step_column(const StepArguments<T>& args, const TileSpot<Tile>& spot, int c,
                                            const T* gradient) {
  constexpr int kEach = Tile::kRows / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t col = spot.col0 + c;
  const T* const current = args.current.data + col * args.current.ld + spot.row0 + lane;
  const T* const anchor = args.anchor.data + col * args.anchor.ld + spot.row0 + lane;
  T* const previous = args.previous.data + col * args.previous.ld + spot.row0 + lane;
  const bool moves = args.active == nullptr || args.active[col] != 0;
  const T beta = moves ? args.beta[col] : T(0);
  const T threshold = args.step * args.lambda[col];
  T z[kEach];       // d_k
  T before[kEach];  // d_(k-1), where it counts
  T origin[kEach];  // anchor
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const bool exists = kWhole || lane + 32 * e < spot.rows;
    z[e] = exists ? current[32 * e] : T(0);
    origin[e] = exists && args.anchored ? anchor[32 * e] : T(0);
    before[e] = exists && beta != T(0) ? previous[32 * e] : T(0);
  }
  T restart = 0;
  int support = 0;
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const T y = extrapolate(z[e], before[e], beta);
    const T w = std::fma(args.step, gradient[lane + 32 * e], y);
    T moved;
    if constexpr (kPenalised) {
      const bool exists = kWhole || lane + 32 * e < spot.rows;
      // Not 0, so that an infinite weight leaves its atom out where lambda is 0.
      const T least = threshold > kSmallest<T> ? threshold : kSmallest<T>;
      const T weight = args.weights != nullptr && exists ? args.weights[spot.row0 + lane + 32 * e] : T(1);
      moved = anchored_shrinkage(origin[e], w, least * weight, args.keep, args.pull, args.nonnegative) + T(0);
    } else {
      // Never -0, so that this is the plain soft-threshold where the anchor is 0.
      moved = anchored_soft_threshold(origin[e], w, threshold) + T(0);
    }
    const T next = moves ? moved : z[e];
    if (!kWhole && lane + 32 * e >= spot.rows) continue;
    if (moves) restart = std::fma(y - next, next - z[e], restart);
    previous[32 * e] = next;
    support += next != -origin[e] ? 1 : 0;
  }
  restart = warp_sum(restart);
  support = warp_sum(support);
  if (lane == 0) {
    args.partials.restart.data[spot.row_tile + col * args.partials.restart.ld] = restart;
    args.partials.support.data[spot.row_tile + col * args.partials.support.ld] = support;
  }
}

/// One tile of 128 atoms by 64 problems (32 in double): D'R, then the epilogue, a warp a column. 25 KB of shared memory,
/// three blocks a multiprocessor. A step of 16 sensors is 1024 multiply-adds a thread in about 1240 instructions.
template <class Tile, bool kPenalised, class T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kResident) step_kernel(StepArguments<T> args) {
  SHRINKWARP_SHARED_ARRAY(T, shared, Tile::kShared);

  const TileSpot<Tile> spot(args.previous.rows, args.previous.cols);
  RowsOperand<Tile, 16> a(args.operand.data + spot.row0, args.operand.ld,
                          clip(args.operand.ld - spot.row0, Tile::kRows));
  DepthOperand<Tile, Tile::kCols, sizeof(T)> b(args.R.data + spot.col0 * args.R.ld, args.R.ld, spot.cols);
  T acc[Tile::kThreadRows][Tile::kThreadCols];
  tile_product<Tile>(shared, a, b, 0, args.R.rows, acc);

  for_each_column<Tile>(shared, acc, [&](int c, const T* gradient) {
    if (c >= spot.cols) return;
    if (spot.rows == Tile::kRows)
      step_column<Tile, true, kPenalised>(args, spot, c, gradient);
    else
      step_column<Tile, false, kPenalised>(args, spot, c, gradient);
  });
}

/// The same without a threshold: moved = y + step D'R.
template <class Tile, class T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kResident)
    extrapolated_step_kernel(MatrixView<const T> operand, MatrixView<const T> R, MatrixView<const T> current,
                             MatrixView<const T> previous, const T* beta, T step, MatrixView<T> moved) {
  SHRINKWARP_SHARED_ARRAY(T, shared, Tile::kShared);

  const TileSpot<Tile> spot(moved.rows, moved.cols);
  RowsOperand<Tile, 16> a(operand.data + spot.row0, operand.ld, clip(operand.ld - spot.row0, Tile::kRows));
  DepthOperand<Tile, Tile::kCols, sizeof(T)> b(R.data + spot.col0 * R.ld, R.ld, spot.cols);
  T acc[Tile::kThreadRows][Tile::kThreadCols];
  tile_product<Tile>(shared, a, b, 0, R.rows, acc);

  for_each_column<Tile>(shared, acc, [&](int c, const T* gradient) {
    if (c >= spot.cols) return;
    const std::int64_t col = spot.col0 + c;
    const T momentum = beta[col];
#pragma unroll 4
    for (int r = static_cast<int>(threadIdx.x) % 32; r < spot.rows; r += 32) {
      const std::int64_t row = spot.row0 + r;
      const T now = current.data[row + col * current.ld];
      const T before = momentum != T(0) ? previous.data[row + col * previous.ld] : T(0);
      moved.data[row + col * moved.ld] = std::fma(step, gradient[r], extrapolate(now, before, momentum));
    }
  });
}

// ---- momentum ----------------------------------------------------------------------------------------------------

constexpr int kMomentumThreads = 64;

/// A thread a problem walks its partials, which lie together: 8 bytes a tile, 48 tiles at m = 6138, 2 to 3 us of
/// latency and one wave at any batch.
template <class T>
__global__ void __launch_bounds__(kMomentumThreads)
    momentum_kernel(Momentum rule, MatrixView<const T> restart, MatrixView<const std::int32_t> support, double* t,
                    T* beta, std::int64_t problems, std::int32_t* nonzeros) {
  const std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * kMomentumThreads + threadIdx.x;
  if (b >= problems) return;
  double restart_sum = 0;
  std::int32_t support_sum = 0;
#pragma unroll 4
  for (std::int64_t tile = 0; tile < restart.rows; ++tile) {
    restart_sum += static_cast<double>(restart.data[tile + b * restart.ld]);
    support_sum += support.data[tile + b * support.ld];
  }
  if (nonzeros != nullptr) nonzeros[b] = support_sum;
  if (rule == Momentum::none) {
    beta[b] = T(0);
  } else if (rule == Momentum::fista_restart && restart_sum > 0) {
    t[b] = 1;
    beta[b] = T(0);
  } else {
    const double before = t[b];
    const double next = (1 + std::sqrt(std::fma(4 * before, before, 1.0))) / 2;
    beta[b] = static_cast<T>((before - 1) / next);
    t[b] = next;
  }
}

// ---- policy ------------------------------------------------------------------------------------------------------

/// How the sum over the atoms is cut.
struct Cut {
  std::int64_t atoms;  // of a piece; the last one may have fewer
  std::int64_t count;  // at least 1

  Cut(std::int64_t rows, std::int64_t all_atoms)
      : atoms(kPieceAtoms * std::max<std::int64_t>(1, ceil_div(rows, kPieceRows))),
        count(std::max<std::int64_t>(1, ceil_div(all_atoms, atoms))) {}
};

/// Whether every column starts at a multiple of 8 bytes: always in double, for an even ld in float.
template <class T>
bool pairs_aligned(MatrixView<const T> view) {
  return (reinterpret_cast<std::uintptr_t>(view.data) | static_cast<std::uintptr_t>(view.ld) * sizeof(T)) % 8 == 0;
}

}  // namespace

// ---- launchers ---------------------------------------------------------------------------------------------------

template <class T>
OperandLayout operand_layout(std::int64_t rows, std::int64_t cols) {
  return {padded<T>(rows), padded<T>(rows) * cols, padded<T>(cols), padded<T>(cols) * rows};
}

template <class T>
void pack(const Context& context, MatrixView<const T> D, T* residual_operand, T* correlation_operand) {
  const std::int64_t residual_ld = padded<T>(D.rows);
  const std::int64_t correlation_ld = padded<T>(D.cols);
  const dim3 grid(grid_size(ceil_div(correlation_ld, kPackTile), "pack"),
                  grid_size(ceil_div(residual_ld, kPackTile), "pack"));
  launch(pack_kernel<T>, grid, dim3(kPackTile * kPackRows), 0, context.stream(), D, residual_operand, residual_ld,
         correlation_operand, correlation_ld);
}

std::int64_t step_tiles(const Context&, std::int64_t atoms) {
  return ceil_div(atoms, kStepAtoms);
}

std::int64_t residual_scratch(const Context&, std::int64_t rows, std::int64_t atoms, std::int64_t problems) {
  const Cut cut(rows, atoms);
  return cut.count == 1 ? 0 : cut.count * rows * problems;
}

template <class T>
void extrapolated_residual(const Context& context, const StepDictionary<T>& D, MatrixView<const T> current,
                           MatrixView<const T> previous, VectorView<const T> beta, MatrixView<const T> X,
                           MatrixView<T> R, VectorView<T> scratch) {
  using Tile = typename Shapes<T>::Residual;
  constexpr const char* kFunction = "extrapolated_residual";
  if (R.empty()) return;
  const Cut cut(D.rows(), D.cols());
  T* const pieces = cut.count == 1 ? nullptr : scratch.data;
  const MatrixView<const T> operand{D.residual_operand(), D.rows(), D.cols(), D.residual_ld(), D.device()};
  const dim3 grid(tile_grid<Tile>(R.rows, R.cols, kFunction), grid_size(cut.count, kFunction));
  const bool pairs = pairs_aligned(current) && pairs_aligned(previous);
  launch(pairs ? residual_kernel<Tile, 8> : residual_kernel<Tile, sizeof(T)>, grid, dim3(Tile::kThreads), 0,
         context.stream(), operand, current, previous, beta.data, X, R, cut.atoms, pieces);
  if (pieces == nullptr) return;
  const dim3 sum_grid(grid_size(R.cols, kFunction), grid_size(ceil_div(R.rows, kSumThreads), kFunction));
  launch(piece_sum_kernel<T>, sum_grid, dim3(kSumThreads), 0, context.stream(), X, static_cast<const T*>(pieces),
         static_cast<int>(cut.count), R);
}

template <class T>
void gradient_step(const Context& context, const StepDictionary<T>& D, MatrixView<const T> R,
                   MatrixView<const T> anchor, MatrixView<const T> current, MatrixView<T> previous,
                   VectorView<const T> beta, T step, VectorView<const T> lambda, VectorView<const std::uint8_t> active,
                   StepPartials<T> partials, PenaltyView<T> penalty) {
  using Tile = typename Shapes<T>::Step;
  if (previous.empty()) return;
  const double pull = static_cast<double>(step) * penalty.ridge;
  const StepArguments<T> arguments{{D.correlation_operand(), D.cols(), D.rows(), D.correlation_ld(), D.device()},
                                   R,
                                   anchor.empty() ? current : anchor,
                                   current,
                                   previous,
                                   beta.data,
                                   lambda.data,
                                   active.empty() ? nullptr : active.data,
                                   step,
                                   !anchor.empty(),
                                   partials,
                                   penalty.weights.empty() ? nullptr : penalty.weights.data,
                                   static_cast<T>(1 / (1 + pull)),
                                   static_cast<T>(pull / (1 + pull)),
                                   penalty.nonnegative};
  launch(penalty.plain() ? step_kernel<Tile, false> : step_kernel<Tile, true>,
         dim3(tile_grid<Tile>(previous.rows, previous.cols, "gradient_step")), dim3(Tile::kThreads), 0,
         context.stream(), arguments);
}

template <class T>
void extrapolated_step(const Context& context, const StepDictionary<T>& D, MatrixView<const T> R,
                       MatrixView<const T> current, MatrixView<const T> previous, VectorView<const T> beta, T step,
                       MatrixView<T> moved) {
  using Tile = typename Shapes<T>::Step;
  if (moved.empty()) return;
  const MatrixView<const T> operand{D.correlation_operand(), D.cols(), D.rows(), D.correlation_ld(), D.device()};
  launch(extrapolated_step_kernel<Tile>, dim3(tile_grid<Tile>(moved.rows, moved.cols, "group_step")),
         dim3(Tile::kThreads), 0, context.stream(), operand, R, current, previous, beta.data, step, moved);
}

template <class T>
void update_momentum(const Context& context, Momentum rule, StepPartials<const T> partials, VectorView<double> t,
                     VectorView<T> beta, VectorView<std::int32_t> support) {
  if (beta.empty()) return;
  launch(momentum_kernel<T>, dim3(grid_size(ceil_div(beta.size, kMomentumThreads), "update_momentum")),
         dim3(kMomentumThreads), 0, context.stream(), rule, partials.restart,
         MatrixView<const std::int32_t>(partials.support), t.data, beta.data, beta.size,
         support.empty() ? nullptr : support.data);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                      \
  template OperandLayout operand_layout<T>(std::int64_t, std::int64_t);                                                \
  template void pack<T>(const Context&, MatrixView<const T>, T*, T*);                                                  \
  template void extrapolated_residual<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>,                \
                                         MatrixView<const T>, VectorView<const T>, MatrixView<const T>, MatrixView<T>, \
                                         VectorView<T>);                                                               \
  template void gradient_step<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>, MatrixView<const T>,   \
                                 MatrixView<const T>, MatrixView<T>, VectorView<const T>, T, VectorView<const T>,      \
                                 VectorView<const std::uint8_t>, StepPartials<T>, PenaltyView<T>);                     \
  template void extrapolated_step<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>,                    \
                                     MatrixView<const T>, MatrixView<const T>, VectorView<const T>, T, MatrixView<T>); \
  template void update_momentum<T>(const Context&, Momentum, StepPartials<const T>, VectorView<double>, VectorView<T>, \
                                   VectorView<std::int32_t>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
