// CUDA body of the fused forward pass: a block takes a tile of 64, 32 or 16 problems through all layers. Their codes stay
// in shared memory, weights come through L2, and each is read by one warp and used for the whole tile.
//
//   free, momentum  U [m x tile] = [W1, W2] [z; x]                 a warp makes 32 rows, K = m + n
//   coupled         R [n x tile] = x - D z, U = z + W' R           warps share R in pieces of 32 rows x 16 problems
//
// Products are split_tf32 on tensor cores, m16n8k8: atoms are the rows, problems the columns. A step of 16 along K is a
// panel of 32 x 16 weights, of which a lane (g = lane / 4, t = lane % 4) has a block of 4 x 4: the rows of its accumulators
// and depths 4t to 4t + 3, in memory 16 bytes whichever way the matrix lies. So a lane multiplies exactly what it has
// copied itself: rings of panels, three deep, belong to lanes and need no barrier. K is counted as it suits: mma `half` of
// a step takes depths 4t + 2 half for the t-th and 4t + 2 half + 1 for the (t + 4)-th.
// Codes lie [problem][atom], lines of a multiple of 32 floats, their 16-byte units reordered by place(): the operand's reads
// (8 lanes: two problems, four units) and the accumulators' writes (four problems, two units) are free of bank conflicts.
// Where something is not a multiple of 16 bytes (momentum: gamma's one float a layer), a lane's rows lie 8 apart and copies
// are of 4 bytes: 32 bytes together.
//
// Two barriers a layer: all have read z; z is complete (coupled: R is complete; z is complete). Panels of the next product
// are on their way before each. Results leave from shared memory, a warp a column, while the next product begins.
//
// Story on paper, free, n 64, m 256, T 16, N 8192 on an H100 (132 multiprocessors of 1.755 GHz; mma.sync 540 tf32
// multiply-adds a clock and multiprocessor, some 60 % of the data sheet; L2 5.5 TB/s). 128 tiles of 64, one a
// multiprocessor. A layer of a tile is 5.2 million multiply-adds; a scheduler's two warps take 20 steps each of
//   96 mma                                                                        730 clocks of its tensor core
//   48 splits of 4 instructions, 3 of integers at half rate; 12 reads of 16 bytes, 4 copies       about 450
// and 2 thousand clocks for epilogue and barriers. Overlapped that is 31 thousand clocks a layer, one after the other 49:
//   split_tf32 here                             0.27 to 0.43 ms     (20.4 GFLOP; L2 gives 42 MB a layer in 18 us: 2.4 TB/s)
//   fp32 multiply-adds, tiles as tile_product   0.46 ms             (41 thousand clocks a layer at full issue, 0.8 of it)
//   cuBLAS fp32 and elementwise kernels         0.56 ms             (a layer 27 us, 5 us and 3 launches)
// which is why it is split_tf32. Codes kept for a way back: 8 MB a layer, 3 us of memory behind 18 us. Coupled, a layer: 2.1
// million multiply-adds, 13 thousand clocks, but as much from L2 (each piece of R reads its rows of D), 5.7 TB/s: L2 bounds
// it, 0.13 ms in all. N = 2000: 63 tiles of 32, 0.14 to 0.24 ms. Not measured yet.
// Over 256 atoms a block's 512 threads have 128 registers each and tiles of 32, weights come from L2 twice as often; over
// 512 that would take longer than cuBLAS.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/ptx.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/lista_network/fused_pass.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kWarpRows = 32;
constexpr int kStep = 16;         // along K
constexpr int kStages = 3;        // panels of a ring
constexpr int kPieces = 4;        // of 16 bytes, a lane and panel
constexpr int kColumns = 8;       // problems of an accumulator
constexpr int kPieceColumns = 2;  // accumulators across that a piece of R has
constexpr int kLine = 32;         // lines are multiples of it

struct Pass {
  const float* parameters;
  std::int64_t layer_size, theta, gamma;  // of a layer, and where in it thresholds and momentum begin
  MatrixView<const float> D, X;
  const float* lambda;  // [N]
  KeptLayers<float> kept;
  MatrixView<float> Z;  // or without data
  int n, m, layers;
  int code_line;   // floats from problem to problem in shared memory: [z; x], coupled: z
  int other_line;  // coupled: x, and R; momentum: v
};

/// A warp's stream of 32 x 16 panels of a matrix A [rows x depth], through a ring in shared memory of which each lane has its
/// own part. kWide: rows and lines are multiples of 16 bytes.
template <bool kWide>
class Panels {
 public:
  /// `ring` has kStages kPieces 32 pieces for each warp.
  __device__ explicit Panels(Vector<float>* ring)
      : slots_(ring + static_cast<int>(threadIdx.x) / kWarpSize * (kStages * kPieces * kWarpSize) +
               static_cast<int>(threadIdx.x) % kWarpSize) {}

  /// Row of this lane's block, counted from the panel's first.
  static __device__ __forceinline__ int row(int i) {
    const int g = static_cast<int>(threadIdx.x) % kWarpSize / 4;
    return kWide ? 4 * g + i : 8 * i + g;
  }

  /// Queues the first panels of rows [first_row, first_row + 32), from step `first_step` on; depths under `begin` count as 0
  /// and are not read. kAlongDepth: element (r, k) at A[r ld + k], else at A[r + k ld].
  template <bool kAlongDepth>
  __device__ void start(const float* A, std::int64_t ld, int rows, int depth, int first_row, int begin = 0) {
    const int k = begin / kStep * kStep + 4 * (static_cast<int>(threadIdx.x) % 4);
    const std::int64_t r = first_row + row(0);
    base_ = A;
    ld_ = ld;
    cursor_ = kAlongDepth ? A + r * ld + k : A + r + k * ld;
    rows_ = rows - first_row - row(0);
    begin_ = begin - k;
    end_ = depth - k;
    step_ = 0;
    cp_async_wait<0>();  // what the stream before had queued past its end writes the same slots
#pragma unroll
    for (int s = 0; s < kStages - 1; ++s) fetch<kAlongDepth>(s);
  }

  /// The next panel's block of this lane: row i at depth c is block[kAlongDepth ? i : c].lane[kAlongDepth ? c : i].
  template <bool kAlongDepth>
  __device__ __forceinline__ void next(Vector<float> (&block)[kPieces]) {
    cp_async_wait<kStages - 2>();
    fetch<kAlongDepth>(step_ == 0 ? kStages - 1 : step_ - 1);
#pragma unroll
    for (int p = 0; p < kPieces; ++p) block[p] = slots_[(step_ * kPieces + p) * kWarpSize];
    step_ = step_ == kStages - 1 ? 0 : step_ + 1;
  }

 private:
  template <bool kAlongDepth>
  __device__ __forceinline__ void fetch(int slot) {
#pragma unroll(kWide ? kPieces : 1)
    for (int p = 0; p < kPieces; ++p) {
      Vector<float>* const target = slots_ + (slot * kPieces + p) * kWarpSize;
      const int line = kAlongDepth ? row(p) - row(0) : p;
      const float* const source = cursor_ + line * ld_;
      if constexpr (kWide) {
        const bool valid = kAlongDepth ? line < rows_ && begin_ <= 0 && end_ > 0 : rows_ > 0 && p >= begin_ && p < end_;
        copy_async<16>(target, source, valid, base_);
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int r = kAlongDepth ? line : 8 * e, k = kAlongDepth ? e : p;
          copy_async<4>(target->lane + e, source + (kAlongDepth ? e : 8 * e), r < rows_ && k >= begin_ && k < end_,
                        base_);
        }
      }
    }
    cp_async_commit();
    cursor_ += kAlongDepth ? kStep : kStep * ld_;
    begin_ -= kStep;
    end_ -= kStep;
  }

  Vector<float>* slots_;
  const float* base_ = nullptr;
  const float* cursor_ = nullptr;  // the block's first element in the next panel to queue
  std::int64_t ld_ = 0;
  int rows_ = 0, begin_ = 0, end_ = 0;  // counted from the block's first row, and from its first depth in that panel
  int step_ = 0;                        // the next slot to take
};

/// What reorders the 16-byte units of a problem's line.
__device__ __forceinline__ int key(int problem) {
  return ((problem / 2 % 4) ^ (problem % 2 * 2)) * 2;
}
/// Where entry k lies in a line with that key.
__device__ __forceinline__ int place(int k, int key) {
  return ((k / 4) ^ key) * 4 + k % 4;
}

struct SplitLeft {
  unsigned high[4], low[4];
};
struct SplitRight {
  unsigned high[2], low[2];
};

/// sums += A S for the warp's 32 rows and kCols x 8 problems, `steps` steps from `first` on; the panels have been started.
template <bool kAlongDepth, int kCols, bool kWide>
__device__ __forceinline__ void multiply(Panels<kWide>& panels, int first, int steps, const float* codes, int line,
                                         float (&sums)[2][kCols][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const float* const column = codes + g * line;
#pragma unroll 1  // more would cost registers
  for (int step = first; step < steps; ++step) {
    Vector<float> block[kPieces];
    panels.template next<kAlongDepth>(block);
    SplitLeft a[2][2];  // [half][row tile]
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int p = 0; p < 2; ++p) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int r = 2 * p + i % 2, c = 2 * half + i / 2;
          split_tf32(kAlongDepth ? block[r].lane[c] : block[c].lane[r], a[half][p].high[i], a[half][p].low[i]);
        }
      }
    }
    const float* const unit = column + ((4 * step + t) ^ key(g)) * 4;
#pragma unroll
    for (int col = 0; col < kCols; ++col) {
      const Vector<float> entries = load_vector(unit + col * kColumns * line);
      SplitRight b[2];
#pragma unroll
      for (int c = 0; c < 4; ++c) split_tf32(entries.lane[c], b[c / 2].high[c % 2], b[c / 2].low[c % 2]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int p = 0; p < 2; ++p) mma_tf32(sums[p][col], a[half][p].low, b[half].high);
#pragma unroll
        for (int p = 0; p < 2; ++p) mma_tf32(sums[p][col], a[half][p].high, b[half].low);
#pragma unroll
        for (int p = 0; p < 2; ++p) mma_tf32(sums[p][col], a[half][p].high, b[half].high);
      }
    }
  }
}

/// This lane's four rows from `first_row` on, of a line in shared memory whose entries up to `rows` exist.
template <bool kWide>
__device__ __forceinline__ Vector<float> load_rows(const float* line, int key, int first_row, int rows) {
  Vector<float> values;
  if constexpr (kWide) {
    const int row = first_row + Panels<kWide>::row(0);
#pragma unroll
    for (int i = 0; i < 4; ++i) values.lane[i] = 0.0f;
    if (row < rows) values = load_vector(line + place(row, key));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + Panels<kWide>::row(i);
      values.lane[i] = row < rows ? line[place(row, key)] : 0.0f;
    }
  }
  return values;
}
template <bool kWide>
__device__ __forceinline__ void store_rows(float* line, int key, int first_row, int rows, const Vector<float>& values) {
  if constexpr (kWide) {
    const int row = first_row + Panels<kWide>::row(0);
    if (row < rows) store_vector(line + place(row, key), values);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + Panels<kWide>::row(i);
      if (row < rows) line[place(row, key)] = values.lane[i];
    }
  }
}

/// The first `count` lines to columns of device memory, a warp a column; nothing without data. Not from the registers: the
/// addresses of a lane's columns would take more of them than there are.
__device__ __forceinline__ void store_lines(const float* lines, int line, int count, const MatrixView<float>& to,
                                            std::int64_t first_col) {
  if (to.data == nullptr) return;
  const int rows = static_cast<int>(to.rows);
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
#pragma unroll 1
  for (int problem = static_cast<int>(threadIdx.x) / kWarpSize; problem < count; problem += warps) {
    const float* const source = lines + problem * line;
    float* const column = to.data + (first_col + problem) * to.ld;
#pragma unroll 4
    for (int row = static_cast<int>(threadIdx.x) % kWarpSize; row < rows; row += kWarpSize)
      column[row] = source[place(row, key(problem))];
  }
}

/// A tile of kCols x 8 problems through all layers.
template <ListaKind kKind, int kCols, bool kWide, int kThreads>
__global__ void __launch_bounds__(kThreads, 1) forward_kernel(Pass in) {
  constexpr bool kCoupled = kKind == ListaKind::coupled, kMomentum = kKind == ListaKind::momentum;
  constexpr int kTile = kColumns * kCols;
  const int threads = static_cast<int>(blockDim.x), warps = threads / kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int t = static_cast<int>(threadIdx.x) % 4;
  const int first_row = warp * kWarpRows;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int count = clip(in.X.cols - first, kTile);

  float* const z = dynamic_shared<float>();  // [kTile][code_line]
  float* const other = z + kTile * in.code_line;
  float* const x = other;                          // [kTile][other_line], coupled
  float* const r = other + kTile * in.other_line;  // [kTile][other_line], coupled
  float* const velocity = other;                   // [kTile][other_line], momentum
  constexpr int kOthers = kCoupled ? 2 : kMomentum ? 1 : 0;
  Panels<kWide> panels(reinterpret_cast<Vector<float>*>(other + kOthers * kTile * in.other_line));
  SHRINKWARP_SHARED_ARRAY(float, lambdas, kTile);

  // Pieces of R, 32 rows x 16 problems each.
  constexpr int kAcross = kCols / kPieceColumns;
  const int pieces = (in.n + kWarpRows - 1) / kWarpRows * kAcross;
  const auto start_weights = [&](int layer) {
    const float* const W = in.parameters + layer * in.layer_size;
    if constexpr (kCoupled)
      panels.template start<true>(W, in.n, in.m, in.n, first_row);
    else
      panels.template start<false>(W, in.m, in.m, in.m + in.n, first_row, layer == 0 ? in.m : 0);
  };
  const auto start_residual = [&](int piece) {
    panels.template start<false>(in.D.data, in.D.ld, in.n, in.m, piece / kAcross * kWarpRows);
  };
  start_weights(0);

  const int begin = kCoupled ? 0 : in.m;  // of x in its line
  float* const observed = kCoupled ? x : z;
  const int observed_line = kCoupled ? in.other_line : in.code_line;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * observed_line; i += threads) {
    const int problem = i / observed_line, k = i % observed_line;
    const bool exists = problem < count && k >= begin && k < begin + in.n;
    observed[problem * observed_line + place(k, key(problem))] =
        exists ? in.X.data[k - begin + (first + problem) * in.X.ld] : 0.0f;
  }
  if constexpr (kCoupled)
    for (int i = static_cast<int>(threadIdx.x); i < kTile * in.code_line; i += threads) z[i] = 0.0f;
  if constexpr (kCoupled)
    for (int i = static_cast<int>(threadIdx.x); i < kTile * in.other_line; i += threads) r[i] = 0.0f;
  if constexpr (kMomentum)
    for (int i = static_cast<int>(threadIdx.x); i < kTile * in.other_line; i += threads) velocity[i] = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < kTile; i += threads)
    lambdas[i] = i < count ? in.lambda[first + i] : 0.0f;
  __syncthreads();  // X and lambda have come

  for (int layer = 0; layer < in.layers; ++layer) {
    const float* const of_layer = in.parameters + layer * in.layer_size;
    const std::int64_t kept_first = layer * in.X.cols + first;
    float theta[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + Panels<kWide>::row(i);
      const float factor = row < in.m ? of_layer[in.theta + row] : 0.0f;
      theta[i] = factor < 0.0f ? 0.0f : factor;
    }
    const float gamma = kMomentum ? of_layer[in.gamma] : 0.0f;

    float sums[2][kCols][4] = {};
    if constexpr (kCoupled) {
      if (layer > 0) {
        if (warp >= pieces) start_weights(layer);
        for (int piece = warp; piece < pieces; piece += warps) {
          const int row0 = piece / kAcross * kWarpRows, problem0 = piece % kAcross * kPieceColumns * kColumns;
          float part[2][kPieceColumns][4] = {};
          multiply<false>(panels, 0, (in.m + kStep - 1) / kStep, z + problem0 * in.code_line, in.code_line, part);
          if (piece + warps < pieces)
            start_residual(piece + warps);
          else
            start_weights(layer);
#pragma unroll
          for (int e = 0; e < 2; ++e) {
#pragma unroll
            for (int col = 0; col < kPieceColumns; ++col) {
              const int line = (problem0 + col * kColumns + 2 * t + e) * in.other_line;
              Vector<float> values = load_rows<kWide>(x + line, key(2 * t + e), row0, in.n);
#pragma unroll
              for (int i = 0; i < 4; ++i) values.lane[i] -= part[i / 2][col][i % 2 * 2 + e];
              store_rows<kWide>(r + line, key(2 * t + e), row0, in.n, values);
            }
          }
        }
        __syncthreads();  // R is complete
        store_lines(r, in.other_line, count, in.kept.residuals, kept_first);
      }
      multiply<true>(panels, 0, (in.n + kStep - 1) / kStep, layer > 0 ? r : x, in.other_line, sums);
      if (layer + 1 < in.layers && warp < pieces) start_residual(warp);
    } else {
      multiply<false>(panels, layer > 0 ? 0 : in.m / kStep, (in.m + in.n + kStep - 1) / kStep, z, in.code_line, sums);
      if (layer + 1 < in.layers) start_weights(layer + 1);
      __syncthreads();  // all have read z
    }

#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int problem0 = 2 * t + e;
#pragma unroll
      for (int col = 0; col < kCols; ++col) {
        const int problem = problem0 + col * kColumns;
        const float lambda = lambdas[problem];
        float* const line = z + problem * in.code_line;
        Vector<float> before{};
        if constexpr (kKind != ListaKind::free) before = load_rows<kWide>(line, key(problem0), first_row, in.m);
        float* const its_velocity = velocity + problem * in.other_line;
        Vector<float> v{};
        if constexpr (kMomentum) v = load_rows<kWide>(its_velocity, key(problem0), first_row, in.m);
        Vector<float> shrunk, codes;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float sum = sums[i / 2][col][i % 2 * 2 + e];
          shrunk.lane[i] = soft_threshold(kCoupled ? before.lane[i] + sum : sum, lambda * theta[i]);
          codes.lane[i] = shrunk.lane[i];
          if constexpr (kMomentum) {
            v.lane[i] = std::fma(gamma, v.lane[i], (1.0f - gamma) * (shrunk.lane[i] - before.lane[i]));
            codes.lane[i] = before.lane[i] + v.lane[i];
          }
        }
        if constexpr (kMomentum) store_rows<kWide>(its_velocity, key(problem0), first_row, in.m, v);
        store_rows<kWide>(line, key(problem0), first_row, in.m, codes);
        if (!kMomentum || in.kept.shrunk.data == nullptr || problem >= count) continue;
        float* const column = in.kept.shrunk.data + (kept_first + problem) * in.kept.shrunk.ld;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int row = first_row + Panels<kWide>::row(i);
          if (row < in.m) column[row] = shrunk.lane[i];
        }
      }
    }
    __syncthreads();  // z is complete
    store_lines(z, in.code_line, count, in.kept.codes, kept_first);
  }
  store_lines(z, in.code_line, count, in.Z, first);
}

using Kernel = void (*)(Pass);

/// With momentum more atoms would take longer than cuBLAS.
constexpr int most_atoms(ListaKind kind) {
  return kind == ListaKind::momentum ? 256 : 512;
}
/// A thread of a block for up to 256 atoms has 255 registers, of one for up to 512 it has 128, too few for tiles of 64 and,
/// where copies are of 4 bytes, of 32.
constexpr int most_threads(ListaKind kind, int tile, bool wide) {
  return tile == 64 || (tile == 32 && !wide) ? 256 : most_atoms(kind);
}

template <ListaKind kKind, bool kWide>
Kernel kernel_of(int tile) {
  return tile == 64   ? forward_kernel<kKind, 8, kWide, most_threads(kKind, 64, kWide)>
         : tile == 32 ? forward_kernel<kKind, 4, kWide, most_threads(kKind, 32, kWide)>
                      : forward_kernel<kKind, 2, kWide, most_threads(kKind, 16, kWide)>;
}

std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return ceil_div(value, unit) * unit;
}

bool multiple_of_16(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

std::int64_t code_line(const ListaLayout& layout) {
  return round_up(layout.kind == ListaKind::coupled ? layout.atoms : layout.atoms + layout.rows, kLine);
}
std::int64_t other_line(const ListaLayout& layout) {
  switch (layout.kind) {
    case ListaKind::coupled:
      return round_up(layout.rows, kLine);
    case ListaKind::momentum:
      return round_up(layout.atoms, kLine);
    default:
      return 0;
  }
}

}  // namespace

std::optional<FusedPlan> fused_plan(const ListaLayout& layout, std::int64_t problems, std::int64_t shared_memory,
                                    int multiprocessors, bool wide) {
  // Beyond this many rows no tile fits any device, and what follows might overflow.
  constexpr std::int64_t kMostRows = 1 << 16;
  if (layout.atoms > most_atoms(layout.kind) || layout.rows > kMostRows) return std::nullopt;
  std::optional<FusedPlan> best;
  std::int64_t least = 0;
  for (const int tile : {64, 32, 16}) {
    FusedPlan plan;
    plan.tile = tile;
    plan.warps = static_cast<int>(std::max<std::int64_t>(ceil_div(layout.atoms, kWarpRows), 1));
    plan.shared_bytes =
        4 * (tile * (code_line(layout) + (layout.kind == ListaKind::coupled ? 2 : 1) * other_line(layout))) +
        16 * std::int64_t{plan.warps} * kStages * kPieces * kWarpSize;
    const std::int64_t lambdas = 4 * tile;  // beside it
    if (plan.shared_bytes + lambdas > shared_memory || plan.warps * kWarpSize > most_threads(layout.kind, tile, wide))
      continue;
    // A tile costs its columns and, for its weights, as much as 16 more.
    const std::int64_t time = ceil_div(ceil_div(problems, tile), std::max(multiprocessors, 1)) * (tile + 16);
    if (best && time >= least) continue;
    best = plan;
    least = time;
  }
  return best;
}

bool fused_wide(const ListaNetwork<float>& network) {
  const ListaLayout& layout = network.layout;
  return layout.atoms % 4 == 0 && layout.layer_size() % 4 == 0 && multiple_of_16(network.parameters.data) &&
         (layout.kind != ListaKind::coupled || (layout.rows % 4 == 0 && aligned16(network.D)));
}

void fused_forward(const Context& context, const ListaNetwork<float>& network, const FusedPlan& plan,
                   MatrixView<const float> X, VectorView<const float> lambda, const KeptLayers<float>& kept,
                   MatrixView<float> Z) {
  const ListaLayout& layout = network.layout;
  const Pass pass{network.parameters.data,
                  layout.layer_size(),
                  layout.thresholds(0),
                  layout.gamma(0),
                  network.D,
                  X,
                  lambda.data,
                  kept,
                  Z,
                  static_cast<int>(layout.rows),
                  static_cast<int>(layout.atoms),
                  static_cast<int>(layout.layers),
                  static_cast<int>(code_line(layout)),
                  static_cast<int>(other_line(layout))};
  const bool wide = fused_wide(network);
  Kernel kernel = kernel_of<ListaKind::momentum, false>(plan.tile);
  if (layout.kind == ListaKind::free)
    kernel = wide ? kernel_of<ListaKind::free, true>(plan.tile) : kernel_of<ListaKind::free, false>(plan.tile);
  if (layout.kind == ListaKind::coupled)
    kernel = wide ? kernel_of<ListaKind::coupled, true>(plan.tile) : kernel_of<ListaKind::coupled, false>(plan.tile);
  launch(kernel, dim3(grid_size(ceil_div(X.cols, plan.tile), "lista_network_forward")),
         dim3(static_cast<unsigned>(plan.warps * kWarpSize)), static_cast<std::size_t>(plan.shared_bytes),
         context.stream(), pass);
}

}  // namespace shrinkwarp::cuda
