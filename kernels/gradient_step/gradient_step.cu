// CUDA body of gradient_step: two tiled products of our own (common/tile_product.cuh) with everything else fused into
// their loads and epilogues, a sum over the pieces of the first one, and the momentum update.
//
// Bits. An element of R is X - P_0 - P_1 - ..., P_c being the product over atoms [512 c, 512 c + 512) summed in order.
// The cut depends on nothing but m, so a column's bits depend neither on the batch nor on the device. How the pieces are
// scheduled does depend on both: few columns give a block to each piece and sum them in a second kernel, many columns
// let one block walk the pieces and subtract them from R itself.
//
// Story, medium lead field (n 302, m 6138, float), N problems, on an H100 (67 TFLOP/s fp32, 3.0 TB/s, L2 5.5 TB/s; on
// paper, not measured):
//   residual       3.71 MFLOP a problem; current and previous 49 KB, pieces 14.5 KB written and read
//   gradient step  3.71 MFLOP a problem; current, previous, anchor read and previous written, 98 KB
//   N =  512: 28 us + 28 us of arithmetic, everything stays in L2; expected 50 + 45 us: tiles do not fill the device
//             evenly and four of five issue slots are multiply-adds
//   N = 8192: 455 us + 455 us of arithmetic against 170 us + 270 us of memory; expected 650 + 570 us
// Both are bound by multiply-adds. n = 302 fills 5 row tiles of 64 to 94 %, m = 6138 fills 48 of 128 to 99.9 %.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/gradient_step/operands.hpp>

namespace shrinkwarp::cuda {
namespace {

/// Atoms that one piece of the residual sums: 12 pieces at m = 6138, so that 512 columns make 240 blocks.
constexpr std::int64_t kPieceAtoms = 512;
/// From this many tiles of R a multiprocessor on, blocks walk all the pieces themselves: the uneven last round then
/// costs less than the pieces' way through memory.
constexpr std::int64_t kTilesPerMultiprocessor = 8;
/// Atoms a tile of the gradient step, for every T: step_tiles() promises one number.
constexpr int kStepAtoms = 128;

template <class T>
struct Shapes;
template <>
struct Shapes<float> {
  using Residual = ProductTile<float, 64, 128, 16, 8, 8>;
  using Step = ProductTile<float, kStepAtoms, 64, 16, 8, 8>;
};
template <>
struct Shapes<double> {
  using Residual = ProductTile<double, 64, 64, 8, 8, 4>;
  using Step = ProductTile<double, kStepAtoms, 32, 8, 8, 4>;
};

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
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

/// One 64 x 128 tile of R (64 x 64 in double) and one piece of K, or all of them. Blocks are numbered row tiles first,
/// so that neighbours share the columns of Y that they read.
/// With `pieces`: pieces[piece][col][row] = sum over the piece. Without: R = X - sum, piece after piece.
/// 33 KB of shared memory, four blocks a multiprocessor. A step of 16 atoms is 1024 multiply-adds a thread, 64 16-byte
/// shared reads and, at 8-byte pieces, 18 copies and 8 formed pairs: 0.80 of the issue slots multiply and add.
template <class Tile, int kBytes, class T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, 3)
    residual_kernel(MatrixView<const T> D, MatrixView<const T> current, MatrixView<const T> previous, const T* beta,
                    MatrixView<const T> X, MatrixView<T> R, T* pieces) {
  using B = ExtrapolatedOperand<Tile, kBytes>;
  SHRINKWARP_SHARED_ARRAY(T, shared, Tile::kShared);
  SHRINKWARP_SHARED_ARRAY(T, raw, B::kRaw);
  SHRINKWARP_SHARED_ARRAY(T, betas, Tile::kCols);

  const auto row_tiles = static_cast<unsigned>((R.rows + Tile::kRows - 1) / Tile::kRows);
  const std::int64_t row0 = static_cast<std::int64_t>(blockIdx.x % row_tiles) * Tile::kRows;
  const std::int64_t col0 = static_cast<std::int64_t>(blockIdx.x / row_tiles) * Tile::kCols;
  const int cols = static_cast<int>(R.cols - col0 < Tile::kCols ? R.cols - col0 : Tile::kCols);
  for (int col = static_cast<int>(threadIdx.x); col < Tile::kCols; col += Tile::kThreads)
    betas[col] = col < cols ? beta[col0 + col] : T(0);
  __syncthreads();

  RowsOperand<Tile, 16> a(D.data + row0, D.ld, static_cast<int>(D.ld - row0 < Tile::kRows ? D.ld - row0 : Tile::kRows));
  B b(current.data + col0 * current.ld, current.ld, previous.data + col0 * previous.ld, previous.ld, cols, betas,
            raw);
  std::int64_t begin = blockIdx.y * kPieceAtoms;
  do {
    const std::int64_t end = begin + kPieceAtoms < D.cols ? begin + kPieceAtoms : D.cols;
    T acc[Tile::kThreadRows][Tile::kThreadCols];
    tile_product<Tile>(shared, a, b, begin, end, acc);
    for_each_column<Tile>(shared, acc, [&](int c, const T* sums) {
      const std::int64_t col = col0 + c;
      if (col >= R.cols) return;
      for (int r = static_cast<int>(threadIdx.x) % 32; r < Tile::kRows; r += 32) {
        const std::int64_t row = row0 + r;
        if (row >= R.rows) continue;
        if (pieces != nullptr) {
          pieces[(blockIdx.y * R.cols + col) * R.rows + row] = sums[r];
        } else {
          T* const place = R.data + row + col * R.ld;
          *place = (begin == 0 ? X.data[row + col * X.ld] : *place) - sums[r];
        }
      }
    });
    begin = end;
    __syncthreads();
  } while (pieces == nullptr && begin < D.cols);
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

template <class T>
struct StepArguments {
  MatrixView<const T> operand;  // D' [m, n] with its padding
  MatrixView<const T> R;        // [n, N]
  MatrixView<const T> anchor;   // [m, N]; data null for zero
  MatrixView<const T> current;  // [m, N]
  MatrixView<T> previous;       // [m, N]
  const T* beta;                // [N]
  const T* lambda;              // [N]
  const std::uint8_t* active;   // [N] or null
  T step;
  StepPartials<T> partials;     // [tiles, N]
};

/// One tile of 128 atoms by 64 problems (32 in double): D'R, then a warp takes a column at a time through the epilogue,
/// lanes along the atoms, whatever the leading dimensions. 25 KB of shared memory, four blocks a multiprocessor; a step
/// of 16 sensors is 1024 multiply-adds a thread, 64 16-byte shared reads and 12 copies: 0.87 of the issue slots
/// multiply and add, the epilogue adds 7 % at n = 302.
template <class Tile, class T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, 3) step_kernel(StepArguments<T> args) {
  SHRINKWARP_SHARED_ARRAY(T, shared, Tile::kShared);

  const std::int64_t atoms = args.previous.rows;
  const std::int64_t problems = args.previous.cols;
  const auto tiles = static_cast<unsigned>((atoms + Tile::kRows - 1) / Tile::kRows);
  const auto tile = static_cast<std::int64_t>(blockIdx.x % tiles);
  const std::int64_t row0 = tile * Tile::kRows;
  const std::int64_t col0 = static_cast<std::int64_t>(blockIdx.x / tiles) * Tile::kCols;

  const std::int64_t rows = args.operand.ld - row0 < Tile::kRows ? args.operand.ld - row0 : Tile::kRows;
  const std::int64_t cols = problems - col0 < Tile::kCols ? problems - col0 : Tile::kCols;
  RowsOperand<Tile, 16> a(args.operand.data + row0, args.operand.ld, static_cast<int>(rows));
  DepthOperand<Tile, Tile::kCols, sizeof(T)> b(args.R.data + col0 * args.R.ld, args.R.ld, static_cast<int>(cols));
  T acc[Tile::kThreadRows][Tile::kThreadCols];
  tile_product<Tile>(shared, a, b, 0, args.R.rows, acc);

  for_each_column<Tile>(shared, acc, [&](int c, const T* gradient) {
    const std::int64_t col = col0 + c;
    if (col >= problems) return;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const T beta = args.beta[col];
    const T threshold = args.step * args.lambda[col];
    const bool moves = args.active == nullptr || args.active[col] != 0;
    T restart = 0;
    int support = 0;
#pragma unroll
    for (int r = lane; r < Tile::kRows; r += 32) {
      const std::int64_t j = row0 + r;
      if (j >= atoms) continue;
      const T current = args.current.data[j + col * args.current.ld];
      const T anchor = args.anchor.data == nullptr ? T(0) : args.anchor.data[j + col * args.anchor.ld];
      T* const place = args.previous.data + j + col * args.previous.ld;
      T next = current;
      if (moves) {
        const T y = beta == T(0) ? current : extrapolate(current, *place, beta);
        const T w = std::fma(args.step, gradient[r], y);
        next = args.anchor.data == nullptr ? soft_threshold(w, threshold) : anchored_soft_threshold(anchor, w, threshold);
        restart = std::fma(y - next, next - current, restart);
      }
      *place = next;
      support += next != -anchor ? 1 : 0;
    }
    restart = warp_sum(restart);
    support = warp_sum(support);
    if (lane == 0) {
      args.partials.restart.data[tile + col * args.partials.restart.ld] = restart;
      args.partials.support.data[tile + col * args.partials.support.ld] = support;
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

std::int64_t piece_count(std::int64_t atoms) { return std::max<std::int64_t>(1, ceil_div(atoms, kPieceAtoms)); }

/// The most columns for which the pieces get blocks of their own; 0 where there is one piece.
template <class T>
std::int64_t split_limit(const Context& context, std::int64_t rows, std::int64_t atoms) {
  using Tile = typename Shapes<T>::Residual;
  if (piece_count(atoms) == 1) return 0;
  const std::int64_t tiles = kTilesPerMultiprocessor * std::max(1, context.multiprocessors());
  return tiles / std::max<std::int64_t>(1, ceil_div(rows, Tile::kRows)) * Tile::kCols;
}

unsigned grid_size(std::int64_t blocks, const char* function) {
  SHRINKWARP_REQUIRE(blocks <= 0x7fffffff, ShapeError, function, ": needs ", blocks, " blocks, wanted under 2^31");
  return static_cast<unsigned>(blocks);
}

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

std::int64_t step_tiles(const Context&, std::int64_t atoms) { return ceil_div(atoms, kStepAtoms); }

template <class T>
std::int64_t residual_scratch(const Context& context, const StepDictionary<T>& D, std::int64_t problems) {
  const std::int64_t columns = std::min(problems, split_limit<T>(context, D.rows(), D.cols()));
  return piece_count(D.cols()) * D.rows() * columns;
}

template <class T>
void extrapolated_residual(const Context& context, const StepDictionary<T>& D, MatrixView<const T> current,
                           MatrixView<const T> previous, VectorView<const T> beta, MatrixView<const T> X,
                           MatrixView<T> R, VectorView<T> scratch) {
  using Tile = typename Shapes<T>::Residual;
  if (R.empty()) return;
  const std::int64_t count = piece_count(D.cols());
  const bool split = R.cols <= split_limit<T>(context, D.rows(), D.cols());
  T* const pieces = split ? scratch.data : nullptr;
  const MatrixView<const T> operand{D.residual_operand(), D.rows(), D.cols(), D.residual_ld(), D.device()};
  const std::int64_t tiles = ceil_div(R.rows, Tile::kRows) * ceil_div(R.cols, Tile::kCols);
  const dim3 grid(grid_size(tiles, "extrapolated_residual"), split ? static_cast<unsigned>(count) : 1u);
  const auto run = [&](auto kernel) {
    launch(kernel, grid, dim3(Tile::kThreads), 0, context.stream(), operand, current, previous, beta.data, X, R,
           pieces);
  };
  if (pairs_aligned(current) && pairs_aligned(previous))
    run(residual_kernel<Tile, 8>);
  else
    run(residual_kernel<Tile, sizeof(T)>);
  if (!split) return;
  launch(piece_sum_kernel<T>, dim3(grid_size(R.cols, "extrapolated_residual"), static_cast<unsigned>(ceil_div(R.rows, kSumThreads))),
         dim3(kSumThreads), 0, context.stream(), X, static_cast<const T*>(pieces), static_cast<int>(count), R);
}

template <class T>
void gradient_step(const Context& context, const StepDictionary<T>& D, MatrixView<const T> R,
                   MatrixView<const T> anchor, MatrixView<const T> current, MatrixView<T> previous,
                   VectorView<const T> beta, T step, VectorView<const T> lambda, VectorView<const std::uint8_t> active,
                   StepPartials<T> partials) {
  using Tile = typename Shapes<T>::Step;
  if (previous.empty()) return;
  const StepArguments<T> arguments{{D.correlation_operand(), D.cols(), D.rows(), D.correlation_ld(), D.device()},
                                   R,
                                   anchor.empty() ? MatrixView<const T>{} : anchor,
                                   current,
                                   previous,
                                   beta.data,
                                   lambda.data,
                                   active.empty() ? nullptr : active.data,
                                   step,
                                   partials};
  const std::int64_t tiles = ceil_div(previous.rows, Tile::kRows) * ceil_div(previous.cols, Tile::kCols);
  launch(step_kernel<Tile>, dim3(grid_size(tiles, "gradient_step")), dim3(Tile::kThreads), 0, context.stream(), arguments);
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
  template std::int64_t residual_scratch<T>(const Context&, const StepDictionary<T>&, std::int64_t);                   \
  template void extrapolated_residual<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>,                \
                                         MatrixView<const T>, VectorView<const T>, MatrixView<const T>, MatrixView<T>, \
                                         VectorView<T>);                                                               \
  template void gradient_step<T>(const Context&, const StepDictionary<T>&, MatrixView<const T>, MatrixView<const T>,   \
                                 MatrixView<const T>, MatrixView<T>, VectorView<const T>, T, VectorView<const T>,      \
                                 VectorView<const std::uint8_t>, StepPartials<T>);                                     \
  template void update_momentum<T>(const Context&, Momentum, StepPartials<const T>, VectorView<double>, VectorView<T>, \
                                   VectorView<std::int32_t>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
