// The tiled product that the hand-written kernels share: a block makes one tile of C = A B in registers.
//
//   acc(row, col) = sum over k in [begin, end) of A(row, k) B(k, col),   k ascending, one fused multiply-add a term
//
// The order of the terms is fixed, so an element has the same bits whatever the tile's shape, its place and the number
// of columns. No tensor cores: float products are exact float products.
//
// Story. K is walked in steps of kDepth through two halves of a ring in shared memory. cp.async fills one half while
// the other is multiplied; one barrier a step. An operand that must be formed from what memory holds (an extrapolated
// point, a widened float) arrives raw, and each thread forms exactly the elements that it copied itself once its own
// copies are complete: no second barrier, and no registers held across the multiplication.
//   A, rows contiguous:  stored [k][row] as it comes; a thread reads 16 bytes of its rows at one k
//   B (and A) contiguous along k:  stored [col][k] with the 16-byte pieces of a line swizzled; a thread reads 16 bytes,
//       that is several k of one column. Both ways a warp's reads are free of bank conflicts and nothing is padded.
// An 8 x 8 thread tile of floats costs 16 16-byte reads for 256 multiply-adds. Two halves are enough: a step multiplies
// for about 1000 cycles a warp, which covers the latency of device memory.
//
// All sizes are template parameters; sizes that a test can fill (16 x 8 x 4) work like the large ones.
#pragma once

#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/ptx.cuh>

namespace shrinkwarp::cuda {

/// 16 bytes of T, moved by one instruction.
template <class T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / sizeof(T);
  T lane[kSize];
};

template <class T>
__device__ __forceinline__ Vector<T> load_vector(const T* source) {
  return *reinterpret_cast<const Vector<T>*>(source);
}
template <class T>
__device__ __forceinline__ void store_vector(T* target, const Vector<T>& value) {
  *reinterpret_cast<Vector<T>*>(target) = value;
}

/// Which index of A runs along its contiguous direction in memory.
enum class Contiguous { rows, depth };

/// The shape of a block's work: C tile kRows x kCols, K in steps of kDepth, kThreadRows x kThreadCols a thread.
template <class T, int kRows_, int kCols_, int kDepth_, int kThreadRows_, int kThreadCols_,
          Contiguous kOrderA_ = Contiguous::rows>
struct ProductTile {
  using Element = T;
  static constexpr int kRows = kRows_;
  static constexpr int kCols = kCols_;
  static constexpr int kDepth = kDepth_;
  static constexpr int kThreadRows = kThreadRows_;
  static constexpr int kThreadCols = kThreadCols_;
  static constexpr Contiguous kOrderA = kOrderA_;

  static constexpr int kVector = Vector<T>::kSize;
  static constexpr int kThreadsDown = kRows / kThreadRows;
  static constexpr int kThreadsAcross = kCols / kThreadCols;
  static constexpr int kThreads = kThreadsDown * kThreadsAcross;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kWarpDown = kThreadsDown < 8 ? kThreadsDown : 8;  // threads of a warp: down x across
  static constexpr int kWarpAcross = 32 / kWarpDown;

  static constexpr int kSizeA = kRows * kDepth;
  static constexpr int kSizeB = kCols * kDepth;
  static constexpr int kRing = 2 * (kSizeA + kSizeB);  // elements of T

  // The sums leave through shared memory, some thread columns a pass; the pad of 32 bytes keeps the writes free of
  // bank conflicts.
  static constexpr int kPasses = kThreadCols > 1 ? 2 : 1;
  static constexpr int kPassCols = kCols / kPasses;
  static constexpr int kStagingLd = kRows + 32 / static_cast<int>(sizeof(T));
  static constexpr int kStaging = kPassCols * kStagingLd;
  static constexpr int kShared = kRing > kStaging ? kRing : kStaging;  // elements of T that a kernel declares

  static_assert(kRows % kThreadRows == 0 && kCols % kThreadCols == 0, "a tile is a whole number of thread tiles");
  static_assert(kThreads % 32 == 0, "blocks are whole warps");
  static_assert(kWarpDown >= 2 && kWarpDown % 2 == 0 && 32 % kWarpDown == 0 && kThreadsDown % kWarpDown == 0 &&
                    kThreadsAcross % kWarpAcross == 0,
                "the block is a whole number of warp tiles");
  static_assert(kDepth % kVector == 0 && (kDepth & (kDepth - 1)) == 0, "a step is whole 16-byte pieces, a power of 2");
  static_assert(kOrderA == Contiguous::depth || kThreadRows % kVector == 0, "rows are read 16 bytes at a time");
  static_assert(kThreadCols % kPasses == 0, "the passes are equal");
};

/// A thread's place in its block's tile. Lanes are laid out two rows at a time, so that each quarter of a warp reads
/// few different pieces.
template <class Tile>
struct ThreadPlace {
  int down;
  int across;

  __device__ ThreadPlace() {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    constexpr int kWarpsDown = Tile::kThreadsDown / Tile::kWarpDown;
    down = warp % kWarpsDown * Tile::kWarpDown + lane / (2 * Tile::kWarpAcross) * 2 + lane % 2;
    across = warp / kWarpsDown * Tile::kWarpAcross + lane / 2 % Tile::kWarpAcross;
  }
  /// Row in the tile of the thread's i-th row; for A contiguous along rows they come in runs of kVector.
  __device__ int row(int i) const {
    if constexpr (Tile::kOrderA == Contiguous::rows)
      return (i / Tile::kVector * Tile::kThreadsDown + down) * Tile::kVector + i % Tile::kVector;
    else
      return i * Tile::kThreadsDown + down;
  }
  __device__ int col(int j) const { return j * Tile::kThreadsAcross + across; }
};

/// Where element (x, k) of an operand that is contiguous along k lies in its shared tile [extent][kDepth].
template <class T, int kDepth>
__device__ __forceinline__ int swizzled(int x, int k) {
  constexpr unsigned kVector = Vector<T>::kSize;
  constexpr unsigned kPieces = kDepth / kVector;                    // a row's 16-byte pieces
  constexpr unsigned kRowsPerLine = kPieces < 8 ? 8 / kPieces : 1;  // rows that share the 128 bytes of all banks
  constexpr unsigned kMask = kPieces < 8 ? kPieces - 1 : 7;
  const auto row = static_cast<unsigned>(x);
  const auto depth = static_cast<unsigned>(k);
  return static_cast<int>(row * kDepth + (((depth / kVector) ^ (row / kRowsPerLine & kMask)) * kVector) +
                          depth % kVector);
}

/// Queues a copy of kBytes into shared memory, or zeros unless `valid`.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* target, const void* source, bool valid) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 4) cp_async4_zfill(target, source, valid);
  if constexpr (kBytes == 8) cp_async8_zfill(target, source, valid);
  if constexpr (kBytes == 16) cp_async16_zfill(target, source, valid);
}

/// Queues a copy of kBytes of T whose first `count` elements exist (count may be negative or too large).
template <int kBytes, class T>
__device__ __forceinline__ void copy_piece(T* target, const T* source, int count) {
  constexpr int kElements = kBytes / static_cast<int>(sizeof(T));
  if (kElements == 1 || count <= 0 || count >= kElements) {
    copy_async<kBytes>(target, source, count > 0);
  } else {
#pragma unroll
    for (int e = 0; e < kElements; ++e) copy_async<sizeof(T)>(target + e, source + e, e < count);
  }
}

/// How the threads of a block share the kBytes pieces of an operand tile, kLines contiguous lines of kLength elements.
/// A thread's pieces start at one place of their lines: piece p holds elements [start, start + kElements) of line
/// first + p * kStep.
template <class Source, int kLines, int kLength, int kThreads, int kBytes>
struct Pieces {
  static constexpr int kElements = kBytes / static_cast<int>(sizeof(Source));
  static constexpr int kPerLine = kLength / kElements;
  static constexpr int kTotal = kLines * kPerLine;
  static constexpr int kEach = (kTotal + kThreads - 1) / kThreads;
  static constexpr int kStep = kThreads / kPerLine;
  static_assert(kElements >= 1 && kLength % kElements == 0, "lines are whole pieces");
  static_assert(kThreads % kPerLine == 0, "the threads cover whole lines");

  int first = static_cast<int>(threadIdx.x / kPerLine);
  int start = static_cast<int>(threadIdx.x % kPerLine) * kElements;

  __device__ Pieces() {}
  __device__ int line(int p) const { return first + p * kStep; }
  __device__ bool exists(int p) const { return kTotal % kThreads == 0 || line(p) < kLines; }
  /// Number of the piece among all of the block.
  static __device__ int index(int p) { return p * kThreads + static_cast<int>(threadIdx.x); }
};

// ---- operands ----------------------------------------------------------------------------------------------------
// copy(tile, k, depth) queues elements [k, k + depth) of K, depth <= kDepth, zero beyond the matrix; form(tile) turns
// what this thread copied into what is multiplied. `extent` is how many of the tile's rows (or columns) exist. Sources
// are walked by adding a stride: addresses kept for every piece would fill the registers.

/// A with contiguous rows: element (x, k) at data[x + k * ld]; `data`, `ld` and `extent` are multiples of kBytes.
template <class Tile, int kBytes>
struct RowsOperand {
  using T = typename Tile::Element;
  using Plan = Pieces<T, Tile::kDepth, Tile::kRows, Tile::kThreads, kBytes>;

  const T* data;
  std::int64_t ld;
  int extent;

  __device__ void copy(T* tile, std::int64_t k, int depth) const {
    const Plan plan;
    const T* source = data + plan.start + (k + plan.first) * ld;
    if (plan.start >= extent) depth = 0;
#pragma unroll
    for (int p = 0; p < Plan::kEach; ++p, source += Plan::kStep * ld) {
      if (!plan.exists(p)) continue;
      copy_async<kBytes>(tile + plan.line(p) * Tile::kRows + plan.start, source, plan.line(p) < depth);
    }
  }
  __device__ void form(T*) const {}
};

/// A or B contiguous along k: element (x, k) at data[x * ld + k], kExtent of x in a tile; `data` and `ld` are multiples
/// of kBytes.
template <class Tile, int kExtent, int kBytes>
struct DepthOperand {
  using T = typename Tile::Element;
  using Plan = Pieces<T, kExtent, Tile::kDepth, Tile::kThreads, kBytes>;

  const T* data;
  std::int64_t ld;
  int extent;

  __device__ void copy(T* tile, std::int64_t k, int depth) const {
    const Plan plan;
    const T* source = data + plan.first * ld + plan.start + k;
#pragma unroll
    for (int p = 0; p < Plan::kEach; ++p, source += Plan::kStep * ld) {
      if (!plan.exists(p)) continue;
      copy_piece<kBytes>(tile + swizzled<T, Tile::kDepth>(plan.line(p), plan.start), source,
                         plan.line(p) < extent ? depth - plan.start : 0);
    }
  }
  __device__ void form(T*) const {}
};

/// The same, stored as Source and widened to the product's type. `raw` is shared memory for kRaw elements of Source.
template <class Tile, int kExtent, class Source>
struct WidenedOperand {
  using T = typename Tile::Element;
  static constexpr int kBytes = static_cast<int>(sizeof(Source));
  using Plan = Pieces<Source, kExtent, Tile::kDepth, Tile::kThreads, kBytes>;
  static constexpr int kRaw = Plan::kTotal;

  const Source* data;
  std::int64_t ld;
  int extent;
  Source* raw;

  __device__ void copy(T*, std::int64_t k, int depth) const {
    const Plan plan;
    const Source* source = data + plan.first * ld + plan.start + k;
#pragma unroll
    for (int p = 0; p < Plan::kEach; ++p, source += Plan::kStep * ld) {
      if (!plan.exists(p)) continue;
      copy_async<kBytes>(raw + Plan::index(p), source, plan.line(p) < extent && plan.start < depth);
    }
  }
  __device__ void form(T* tile) const {
    const Plan plan;
#pragma unroll
    for (int p = 0; p < Plan::kEach; ++p) {
      if (!plan.exists(p)) continue;
      tile[swizzled<T, Tile::kDepth>(plan.line(p), plan.start)] = static_cast<T>(raw[Plan::index(p)]);
    }
  }
};

/// y = current + beta (current - previous), one rounding for the difference and one for the rest; current where beta is
/// 0, so that nothing in previous can reach y then.
template <class T>
__device__ __forceinline__ T extrapolate(T current, T previous, T beta) {
  return beta == T(0) ? current : std::fma(beta, current - previous, current);
}

/// B formed from two matrices: y = current + beta (current - previous), one beta a column. Where beta is 0 previous is
/// not read. `betas` [kCols] and `raw` [kRaw] lie in shared memory.
template <class Tile, int kBytes>
struct ExtrapolatedOperand {
  using T = typename Tile::Element;
  using Plan = Pieces<T, Tile::kCols, Tile::kDepth, Tile::kThreads, kBytes>;
  static constexpr int kRaw = Plan::kTotal * Plan::kElements;

  const T* current;
  std::int64_t current_ld;
  const T* previous;
  std::int64_t previous_ld;
  int extent;
  const T* betas;
  T* raw;

  __device__ void copy(T* tile, std::int64_t k, int depth) const {
    const Plan plan;
    const T* now = current + plan.first * current_ld + plan.start + k;
    const T* before = previous + plan.first * previous_ld + plan.start + k;
#pragma unroll
    for (int p = 0; p < Plan::kEach; ++p, now += Plan::kStep * current_ld, before += Plan::kStep * previous_ld) {
      if (!plan.exists(p)) continue;
      const int count = plan.line(p) < extent ? depth - plan.start : 0;
      copy_piece<kBytes>(tile + swizzled<T, Tile::kDepth>(plan.line(p), plan.start), now, count);
      copy_piece<kBytes>(raw + Plan::index(p) * Plan::kElements, before, betas[plan.line(p)] == T(0) ? 0 : count);
    }
  }
  __device__ void form(T* tile) const {
    struct alignas(kBytes) Piece {
      T lane[Plan::kElements];
    };
    const Plan plan;
#pragma unroll
    for (int p = 0; p < Plan::kEach; ++p) {
      if (!plan.exists(p)) continue;
      Piece* const place = reinterpret_cast<Piece*>(tile + swizzled<T, Tile::kDepth>(plan.line(p), plan.start));
      const Piece before = *reinterpret_cast<const Piece*>(raw + Plan::index(p) * Plan::kElements);
      const T beta = betas[plan.line(p)];
      Piece y = *place;
#pragma unroll
      for (int e = 0; e < Plan::kElements; ++e) y.lane[e] = extrapolate(y.lane[e], before.lane[e], beta);
      *place = y;
    }
  }
};

// ---- the product -------------------------------------------------------------------------------------------------

/// acc += A tile x B tile for one step of K.
template <class Tile, class T = typename Tile::Element>
__device__ __forceinline__ void multiply_step(const T* a, const T* b, const ThreadPlace<Tile>& place,
                                              T (&acc)[Tile::kThreadRows][Tile::kThreadCols]) {
  constexpr int kVector = Tile::kVector;
#pragma unroll
  for (int k = 0; k < Tile::kDepth; k += kVector) {
    Vector<T> cols[Tile::kThreadCols];
#pragma unroll
    for (int j = 0; j < Tile::kThreadCols; ++j)
      cols[j] = load_vector(b + swizzled<T, Tile::kDepth>(place.col(j), k));
    if constexpr (Tile::kOrderA == Contiguous::rows) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        Vector<T> rows[Tile::kThreadRows / kVector];
#pragma unroll
        for (int g = 0; g < Tile::kThreadRows / kVector; ++g)
          rows[g] = load_vector(a + (k + v) * Tile::kRows + place.row(g * kVector));
#pragma unroll
        for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
          for (int j = 0; j < Tile::kThreadCols; ++j)
            acc[i][j] = std::fma(rows[i / kVector].lane[i % kVector], cols[j].lane[v], acc[i][j]);
      }
    } else {
      Vector<T> rows[Tile::kThreadRows];
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; ++i)
        rows[i] = load_vector(a + swizzled<T, Tile::kDepth>(place.row(i), k));
#pragma unroll
      for (int v = 0; v < kVector; ++v)
#pragma unroll
        for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
          for (int j = 0; j < Tile::kThreadCols; ++j)
            acc[i][j] = std::fma(rows[i].lane[v], cols[j].lane[v], acc[i][j]);
    }
  }
}

/// acc = the tile's sums over k in [begin, end). Every thread of the block calls it. `ring` is shared memory of
/// Tile::kRing elements; whoever uses it again (or ExtrapolatedOperand::betas) puts a barrier in front.
template <class Tile, class OperandA, class OperandB, class T = typename Tile::Element>
__device__ __forceinline__ void tile_product(T* ring, const OperandA& A, const OperandB& B, std::int64_t begin,
                                             std::int64_t end, T (&acc)[Tile::kThreadRows][Tile::kThreadCols]) {
  const ThreadPlace<Tile> place;
  T* const ring_a = ring;
  T* const ring_b = ring + 2 * Tile::kSizeA;
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
    for (int j = 0; j < Tile::kThreadCols; ++j) acc[i][j] = T(0);

  const auto fetch = [&](int half, std::int64_t k) {
    if (k < end) {
      const int depth = end - k < Tile::kDepth ? static_cast<int>(end - k) : Tile::kDepth;
      A.copy(ring_a + half * Tile::kSizeA, k, depth);
      B.copy(ring_b + half * Tile::kSizeB, k, depth);
    }
    cp_async_commit();
  };
  fetch(0, begin);
  int half = 0;
  for (std::int64_t k = begin; k < end; k += Tile::kDepth) {
    T* const a = ring_a + half * Tile::kSizeA;
    T* const b = ring_b + half * Tile::kSizeB;
    cp_async_wait<0>();
    A.form(a);
    B.form(b);
    __syncthreads();  // this half is complete, and nobody multiplies the other one any more
    half ^= 1;
    fetch(half, k + Tile::kDepth);
    multiply_step<Tile>(a, b, place, acc);
  }
}

/// Hands the sums out column by column: body(col, rows) is called by a whole warp, rows[i] being the sum of row i of
/// the tile in shared memory. The barriers are inside; every thread of the block calls it. A's rows are contiguous.
template <class Tile, class Body, class T = typename Tile::Element>
__device__ __forceinline__ void for_each_column(T* staging, const T (&acc)[Tile::kThreadRows][Tile::kThreadCols],
                                                const Body& body) {
  static_assert(Tile::kOrderA == Contiguous::rows);
  const ThreadPlace<Tile> place;
  constexpr int kThreadColsPerPass = Tile::kThreadCols / Tile::kPasses;
#pragma unroll
  for (int pass = 0; pass < Tile::kPasses; ++pass) {
    __syncthreads();  // the ring, or the staged columns of the last pass, are no longer read
#pragma unroll
    for (int j = 0; j < kThreadColsPerPass; ++j)
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; i += Tile::kVector) {
        Vector<T> sums;
#pragma unroll
        for (int v = 0; v < Tile::kVector; ++v) sums.lane[v] = acc[i + v][pass * kThreadColsPerPass + j];
        store_vector(staging + place.col(j) * Tile::kStagingLd + place.row(i), sums);
      }
    __syncthreads();
    for (int col = static_cast<int>(threadIdx.x) / 32; col < Tile::kPassCols; col += Tile::kWarps)
      body(pass * Tile::kPassCols + col, static_cast<const T*>(staging + col * Tile::kStagingLd));
  }
}

}  // namespace shrinkwarp::cuda
