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
#include <shrinkwarp/runtime/error.hpp>

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

/// The shape of a block's work: C tile kRows x kCols, K in steps of kDepth, kThreadRows x kThreadCols a thread. The
/// compiler keeps to registers that let kResident blocks share a multiprocessor.
template <class T, int kRows_, int kCols_, int kDepth_, int kThreadRows_, int kThreadCols_, int kResident_ = 3,
          Contiguous kOrderA_ = Contiguous::rows>
struct ProductTile {
  using Element = T;
  static constexpr int kRows = kRows_;
  static constexpr int kCols = kCols_;
  static constexpr int kDepth = kDepth_;
  static constexpr int kThreadRows = kThreadRows_;
  static constexpr int kThreadCols = kThreadCols_;
  static constexpr int kResident = kResident_;
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

/// How many of a tile's `most` rows exist where `left` are left.
__device__ __forceinline__ int clip(std::int64_t left, int most) {
  return left < most ? static_cast<int>(left) : most;
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// `blocks` as the x of a grid. @throws ShapeError (2^31 or more)
inline unsigned grid_size(std::int64_t blocks, const char* function) {
  SHRINKWARP_REQUIRE(blocks <= 0x7fffffff, ShapeError, function, ": needs ", blocks, " blocks, wanted under 2^31");
  return static_cast<unsigned>(blocks);
}

/// x of the grid that covers a rows x cols result with tiles.
template <class Tile>
unsigned tile_grid(std::int64_t rows, std::int64_t cols, const char* function) {
  return grid_size(ceil_div(rows, Tile::kRows) * ceil_div(cols, Tile::kCols), function);
}

/// The part of the result that is this block's. Blocks are numbered down the row tiles first: neighbours read the same
/// columns of B, and write neighbouring memory.
template <class Tile>
struct TileSpot {
  std::int64_t row_tile;
  std::int64_t row0;
  std::int64_t col0;
  int rows;  // that exist
  int cols;

  __device__ TileSpot(std::int64_t all_rows, std::int64_t all_cols) {
    const auto down = static_cast<unsigned>((all_rows + Tile::kRows - 1) / Tile::kRows);
    row_tile = blockIdx.x % down;
    row0 = row_tile * Tile::kRows;
    col0 = static_cast<std::int64_t>(blockIdx.x / down) * Tile::kCols;
    rows = clip(all_rows - row0, Tile::kRows);
    cols = clip(all_cols - col0, Tile::kCols);
  }
};

/// An operand that is contiguous along k lies in its shared tile [extent][kDepth] with the 16-byte pieces of row x
/// reordered by this key, so that the same piece of neighbouring rows lies in different banks.
template <class T, int kDepth>
struct Swizzle {
  static constexpr int kVector = Vector<T>::kSize;
  static constexpr int kPieces = kDepth / kVector;                    // a row's 16-byte pieces
  static constexpr int kRowsPerLine = kPieces < 8 ? 8 / kPieces : 1;  // rows that share the 128 bytes of all banks
  static constexpr int kMask = kPieces < 8 ? kPieces - 1 : 7;
  static constexpr int kPeriod = kRowsPerLine * (kMask + 1);  // rows after which the keys repeat

  static __device__ __forceinline__ unsigned key(int x) { return static_cast<unsigned>(x) / kRowsPerLine & kMask; }
};

/// Where element (x, k) lies.
template <class T, int kDepth>
__device__ __forceinline__ int swizzled(int x, int k) {
  using S = Swizzle<T, kDepth>;
  const auto depth = static_cast<unsigned>(k);
  return x * kDepth + static_cast<int>(((depth / S::kVector) ^ S::key(x)) * S::kVector + depth % S::kVector);
}

/// Where element (x + i * kStride, k) lies, k a multiple of the vector: written so that only x and k, not i, cost
/// instructions.
template <class T, int kDepth, int kStride>
__device__ __forceinline__ int swizzled(int x, int i, int k) {
  if constexpr (kStride % Swizzle<T, kDepth>::kPeriod == 0)
    return swizzled<T, kDepth>(x, k) + i * (kStride * kDepth);
  else
    return swizzled<T, kDepth>(x + i * kStride, k);
}

/// Queues a copy of kBytes into shared memory; zeros unless `valid`, and then `source` is replaced by `elsewhere`, which
/// is an address in device memory, too.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* target, const void* source, bool valid, const void* elsewhere) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  const void* const from = valid ? source : elsewhere;
  if constexpr (kBytes == 4) cp_async4_zfill(target, from, valid);
  if constexpr (kBytes == 8) cp_async8_zfill(target, from, valid);
  if constexpr (kBytes == 16) cp_async16_zfill(target, from, valid);
}

/// Queues a copy of kBytes of T whose first `count` elements exist (count may be negative or too large).
template <int kBytes, class T>
__device__ __forceinline__ void copy_piece(T* target, const T* source, int count, const T* elsewhere) {
  constexpr int kElements = kBytes / static_cast<int>(sizeof(T));
  if (kElements == 1 || count <= 0 || count >= kElements) {
    copy_async<kBytes>(target, source, count > 0, elsewhere);
  } else {
#pragma unroll
    for (int e = 0; e < kElements; ++e) copy_async<sizeof(T)>(target + e, source + e, e < count, elsewhere);
  }
}

/// How the threads of a block share the kBytes pieces of an operand tile, kLines contiguous lines of kLength elements:
/// `kLanes` threads stand along a line, each with the pieces kLanes apart of the lines first, first + kStep, ... Lanes
/// cover whole 32-byte sectors, but no more than all threads need, as a step to the next line costs an address.
template <class Source, int kLines, int kLength, int kThreads, int kBytes>
struct Pieces {
  static constexpr int kElements = kBytes / static_cast<int>(sizeof(Source));
  static constexpr int kPerLine = kLength / kElements;
  static constexpr int kSector = kBytes < 16 ? 32 / kBytes : kPerLine;  // 16-byte pieces take the line as it is
  static constexpr int kWanted = kThreads / kLines > kSector ? kThreads / kLines : kSector;
  static constexpr int kLanes = kPerLine < kWanted ? kPerLine : kWanted;
  static constexpr int kAlong = kPerLine / kLanes;
  static constexpr int kStep = kThreads / kLanes;
  static constexpr int kDown = (kLines + kStep - 1) / kStep;
  static constexpr int kEach = kDown * kAlong;
  static_assert(kElements >= 1 && kLength % kElements == 0 && kPerLine % kLanes == 0, "lines are whole pieces");
  static_assert(kThreads % kLanes == 0, "the threads cover whole lines");

  int first = static_cast<int>(threadIdx.x / kLanes);
  int lane = static_cast<int>(threadIdx.x % kLanes);

  __device__ Pieces() {}
  __device__ int line(int p) const { return first + p * kStep; }
  __device__ bool exists(int p) const { return kLines % kStep == 0 || line(p) < kLines; }
  /// First element of piece q of a line, and how far that is from piece 0.
  __device__ int start(int q) const { return lane * kElements + offset(q); }
  __device__ static constexpr int offset(int q) { return q * kLanes * kElements; }
  /// Place of piece (p, q) in memory that only this thread uses, kEach pieces a thread.
  __device__ static int own(int p, int q) {
    return ((p * kAlong + q) * kThreads + static_cast<int>(threadIdx.x)) * kElements;
  }
};

// ---- operands ----------------------------------------------------------------------------------------------------
// seek(k) goes to element k of K; copy(tile, depth) queues the next `depth` <= kDepth elements, the rest of the tile
// and what lies beyond the matrix become zero, and moves on by kDepth; form(tile) turns what this thread copied into
// what is multiplied. `extent` is how many of the tile's rows (or columns) exist. What is not a multiply-add here takes
// an issue slot from one: sources are walked by adding strides, and whole tiles are copied without conditions.

/// A with contiguous rows: element (x, k) at data[x + k * ld]; `data`, `ld` and `extent` are multiples of kBytes.
template <class Tile, int kBytes>
class RowsOperand {
 public:
  using T = typename Tile::Element;

  __device__ RowsOperand(const T* data, std::int64_t ld, int extent)
      : data_(data), ld_(ld), extent_(extent), cursor_(data) {}
  __device__ void seek(std::int64_t k) { cursor_ = data_ + plan_.start(0) + (k + plan_.first) * ld_; }
  __device__ void copy(T* tile, int depth) {
    if (depth == Tile::kDepth && extent_ == Tile::kRows)
      copy<true>(tile, depth);
    else
      copy<false>(tile, depth);
    cursor_ += Tile::kDepth * ld_;
  }
  __device__ void form(T*) const {}

 private:
  using Plan = Pieces<T, Tile::kDepth, Tile::kRows, Tile::kThreads, kBytes>;

  template <bool kWhole>
  __device__ void copy(T* tile, int depth) const {
    const T* source = cursor_;
#pragma unroll(kWhole ? Plan::kDown : 1)
    for (int p = 0; p < Plan::kDown; ++p, source += Plan::kStep * ld_) {
      if (!plan_.exists(p)) continue;
#pragma unroll
      for (int q = 0; q < Plan::kAlong; ++q)
        copy_async<kBytes>(tile + plan_.line(p) * Tile::kRows + plan_.start(q), source + Plan::offset(q),
                           kWhole || (plan_.line(p) < depth && plan_.start(q) < extent_), data_);
    }
  }

  const T* data_;
  std::int64_t ld_;
  int extent_;
  const T* cursor_;
  Plan plan_;
};

/// A or B contiguous along k: element (x, k) at data[x * ld + k], kExtent of x in a tile; `data` and `ld` are multiples
/// of kBytes.
template <class Tile, int kExtent, int kBytes>
class DepthOperand {
 public:
  using T = typename Tile::Element;

  __device__ DepthOperand(const T* data, std::int64_t ld, int extent)
      : data_(data), ld_(ld), extent_(extent), cursor_(data) {}
  __device__ void seek(std::int64_t k) { cursor_ = data_ + plan_.first * ld_ + plan_.start(0) + k; }
  __device__ void copy(T* tile, int depth) {
    if (depth == Tile::kDepth && extent_ == kExtent)
      copy<true>(tile, depth);
    else
      copy<false>(tile, depth);
    cursor_ += Tile::kDepth;
  }
  __device__ void form(T*) const {}

 private:
  using Plan = Pieces<T, kExtent, Tile::kDepth, Tile::kThreads, kBytes>;

  template <bool kWhole>
  __device__ void copy(T* tile, int depth) const {
    const T* source = cursor_;
#pragma unroll(kWhole ? Plan::kDown : 1)
    for (int p = 0; p < Plan::kDown; ++p, source += Plan::kStep * ld_) {
      if (!plan_.exists(p)) continue;
#pragma unroll
      for (int q = 0; q < Plan::kAlong; ++q)
        copy_piece<kBytes>(tile + swizzled<T, Tile::kDepth>(plan_.line(p), plan_.start(q)), source + Plan::offset(q),
                           kWhole                    ? Plan::kElements
                           : plan_.line(p) < extent_ ? depth - plan_.start(q)
                                                     : 0,
                           data_);
    }
  }

  const T* data_;
  std::int64_t ld_;
  int extent_;
  const T* cursor_;
  Plan plan_;
};

/// The same, stored as Source and widened to the product's type. `raw` is shared memory for kRaw elements of Source.
template <class Tile, int kExtent, class Source>
class WidenedOperand {
  using Plan = Pieces<Source, kExtent, Tile::kDepth, Tile::kThreads, static_cast<int>(sizeof(Source))>;

 public:
  using T = typename Tile::Element;
  static constexpr int kRaw = Plan::kEach * Tile::kThreads;

  __device__ WidenedOperand(const Source* data, std::int64_t ld, int extent, Source* raw)
      : data_(data), ld_(ld), extent_(extent), raw_(raw), cursor_(data) {}
  __device__ void seek(std::int64_t k) { cursor_ = data_ + plan_.first * ld_ + plan_.start(0) + k; }
  __device__ void copy(T*, int depth) {
    const Source* source = cursor_;
#pragma unroll
    for (int p = 0; p < Plan::kDown; ++p, source += Plan::kStep * ld_) {
      if (!plan_.exists(p)) continue;
#pragma unroll
      for (int q = 0; q < Plan::kAlong; ++q)
        copy_async<sizeof(Source)>(raw_ + Plan::own(p, q), source + Plan::offset(q),
                                   plan_.line(p) < extent_ && plan_.start(q) < depth, data_);
    }
    cursor_ += Tile::kDepth;
  }
  __device__ void form(T* tile) const {
#pragma unroll
    for (int p = 0; p < Plan::kDown; ++p) {
      if (!plan_.exists(p)) continue;
#pragma unroll
      for (int q = 0; q < Plan::kAlong; ++q)
        tile[swizzled<T, Tile::kDepth>(plan_.line(p), plan_.start(q))] = static_cast<T>(raw_[Plan::own(p, q)]);
    }
  }

 private:
  const Source* data_;
  std::int64_t ld_;
  int extent_;
  Source* raw_;
  const Source* cursor_;
  Plan plan_;
};

/// y = current + beta (current - previous), one rounding for the difference and one for the rest; current where beta is
/// 0, so that nothing in previous can reach y then.
template <class T>
__device__ __forceinline__ T extrapolate(T current, T previous, T beta) {
  return beta == T(0) ? current : std::fma(beta, current - previous, current);
}

/// B formed from two matrices: y = current + beta (current - previous), one beta a column. Where beta is 0 previous is
/// not read. `betas` [kCols], 0 beyond `extent`, and `raw` [kRaw] lie in shared memory; the constructor stands after
/// the barrier that makes betas visible.
template <class Tile, int kBytes>
class ExtrapolatedOperand {
  using Plan = Pieces<typename Tile::Element, Tile::kCols, Tile::kDepth, Tile::kThreads, kBytes>;

 public:
  using T = typename Tile::Element;
  static constexpr int kRaw = Plan::kEach * Plan::kElements * Tile::kThreads;

  __device__ ExtrapolatedOperand(const T* current, std::int64_t current_ld, const T* previous, std::int64_t previous_ld,
                                 int extent, const T* betas, T* raw)
      : current_(current),
        current_ld_(current_ld),
        previous_(previous),
        previous_ld_(previous_ld),
        extent_(extent),
        betas_(betas),
        raw_(raw),
        now_(current),
        before_(previous) {
    static_assert(Plan::kDown <= 32);
#pragma unroll
    for (int p = 0; p < Plan::kDown; ++p)
      if (plan_.exists(p) && betas[plan_.line(p)] != T(0)) moving_ |= 1u << p;
  }
  __device__ void seek(std::int64_t k) {
    now_ = current_ + plan_.first * current_ld_ + plan_.start(0) + k;
    before_ = previous_ + plan_.first * previous_ld_ + plan_.start(0) + k;
  }
  __device__ void copy(T* tile, int depth) {
    if (depth == Tile::kDepth && extent_ == Tile::kCols)
      copy<true>(tile, depth);
    else
      copy<false>(tile, depth);
    now_ += Tile::kDepth;
    before_ += Tile::kDepth;
  }
  __device__ void form(T* tile) const {
    struct alignas(kBytes) Piece {
      T lane[Plan::kElements];
    };
#pragma unroll
    for (int p = 0; p < Plan::kDown; ++p) {
      if ((moving_ >> p & 1u) == 0) continue;
      const T beta = betas_[plan_.line(p)];
#pragma unroll
      for (int q = 0; q < Plan::kAlong; ++q) {
        Piece* const place = reinterpret_cast<Piece*>(tile + swizzled<T, Tile::kDepth>(plan_.line(p), plan_.start(q)));
        const Piece before = *reinterpret_cast<const Piece*>(raw_ + Plan::own(p, q));
        Piece y = *place;
#pragma unroll
        for (int e = 0; e < Plan::kElements; ++e) y.lane[e] = std::fma(beta, y.lane[e] - before.lane[e], y.lane[e]);
        *place = y;
      }
    }
  }

 private:
  template <bool kWhole>
  __device__ void copy(T* tile, int depth) const {
    const T* now = now_;
    const T* before = before_;
#pragma unroll(kWhole ? Plan::kDown : 1)
    for (int p = 0; p < Plan::kDown; ++p, now += Plan::kStep * current_ld_, before += Plan::kStep * previous_ld_) {
      if (!plan_.exists(p)) continue;
#pragma unroll
      for (int q = 0; q < Plan::kAlong; ++q)
        copy_piece<kBytes>(tile + swizzled<T, Tile::kDepth>(plan_.line(p), plan_.start(q)), now + Plan::offset(q),
                           kWhole                    ? Plan::kElements
                           : plan_.line(p) < extent_ ? depth - plan_.start(q)
                                                     : 0,
                           current_);
      if ((moving_ >> p & 1u) == 0) continue;
#pragma unroll
      for (int q = 0; q < Plan::kAlong; ++q)
        copy_piece<kBytes>(raw_ + Plan::own(p, q), before + Plan::offset(q),
                           kWhole ? Plan::kElements : depth - plan_.start(q), previous_);
    }
  }

  const T* current_;
  std::int64_t current_ld_;
  const T* previous_;
  std::int64_t previous_ld_;
  int extent_;
  const T* betas_;
  T* raw_;
  const T* now_;
  const T* before_;
  unsigned moving_ = 0;  // bit p: the column of this thread's line p has a beta
  Plan plan_;
};

// ---- the product -------------------------------------------------------------------------------------------------

/// acc += A tile x B tile for one step of K.
template <class Tile, class T = typename Tile::Element>
__device__ __forceinline__ void multiply_step(const T* a, const T* b, const ThreadPlace<Tile>& place,
                                              T (&acc)[Tile::kThreadRows][Tile::kThreadCols]) {
  constexpr int kVector = Tile::kVector;
#pragma unroll 2  // more would cost registers, fewer hides less
  for (int k = 0; k < Tile::kDepth; k += kVector) {
    Vector<T> cols[Tile::kThreadCols];
#pragma unroll
    for (int j = 0; j < Tile::kThreadCols; ++j)
      cols[j] = load_vector(b + swizzled<T, Tile::kDepth, Tile::kThreadsAcross>(place.across, j, k));
    if constexpr (Tile::kOrderA == Contiguous::rows) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        Vector<T> rows[Tile::kThreadRows / kVector];
#pragma unroll
        for (int g = 0; g < Tile::kThreadRows / kVector; ++g)
          rows[g] = load_vector(a + place.down * kVector + ((k + v) * Tile::kRows + g * kVector * Tile::kThreadsDown));
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
        rows[i] = load_vector(a + swizzled<T, Tile::kDepth, Tile::kThreadsDown>(place.down, i, k));
#pragma unroll
      for (int v = 0; v < kVector; ++v)
#pragma unroll
        for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
          for (int j = 0; j < Tile::kThreadCols; ++j) acc[i][j] = std::fma(rows[i].lane[v], cols[j].lane[v], acc[i][j]);
    }
  }
}

/// acc = the tile's sums over k in [begin, end). Every thread of the block calls it. `ring` is shared memory of
/// Tile::kRing elements; whoever uses it again (or ExtrapolatedOperand::betas) puts a barrier in front.
template <class Tile, class OperandA, class OperandB, class T = typename Tile::Element>
__device__ __forceinline__ void tile_product(T* ring, OperandA& A, OperandB& B, std::int64_t begin, std::int64_t end,
                                             T (&acc)[Tile::kThreadRows][Tile::kThreadCols]) {
  const ThreadPlace<Tile> place;
  T* const ring_a = ring;
  T* const ring_b = ring + 2 * Tile::kSizeA;
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i)
#pragma unroll
    for (int j = 0; j < Tile::kThreadCols; ++j) acc[i][j] = T(0);

  std::int64_t left = end - begin;  // not queued yet
  const auto fetch = [&](int half) {
    if (left > 0) {
      const int depth = left < Tile::kDepth ? static_cast<int>(left) : Tile::kDepth;
      A.copy(ring_a + half * Tile::kSizeA, depth);
      B.copy(ring_b + half * Tile::kSizeB, depth);
      left -= depth;
    }
    cp_async_commit();
  };
  A.seek(begin);
  B.seek(begin);
  fetch(0);
  int half = 0;
  for (std::int64_t k = begin; k < end; k += Tile::kDepth) {
    T* const a = ring_a + half * Tile::kSizeA;
    T* const b = ring_b + half * Tile::kSizeB;
    cp_async_wait<0>();
    A.form(a);
    B.form(b);
    __syncthreads();  // this half is complete, and nobody multiplies the other one any more
    half ^= 1;
    fetch(half);
    multiply_step<Tile>(a, b, place, acc);
  }
}

/// Hands the sums out column by column: body(col, rows) is called by a whole warp, rows[i] being the sum of row i of
/// the tile in shared memory. The barriers are inside; every thread of the block calls it.
template <class Tile, class Body, class T = typename Tile::Element>
__device__ __forceinline__ void for_each_column(T* staging, const T (&acc)[Tile::kThreadRows][Tile::kThreadCols],
                                                const Body& body) {
  const ThreadPlace<Tile> place;
  constexpr int kThreadColsPerPass = Tile::kThreadCols / Tile::kPasses;
#pragma unroll
  for (int pass = 0; pass < Tile::kPasses; ++pass) {
    __syncthreads();  // the ring, or the staged columns of the last pass, are no longer read
#pragma unroll
    for (int j = 0; j < kThreadColsPerPass; ++j)
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; i += Tile::kVector) {
        T* const to = staging + place.col(j) * Tile::kStagingLd;
        Vector<T> sums;
#pragma unroll
        for (int v = 0; v < Tile::kVector; ++v) sums.lane[v] = acc[i + v][pass * kThreadColsPerPass + j];
        if constexpr (Tile::kOrderA == Contiguous::rows) {
          store_vector(to + place.row(i), sums);
        } else {  // whose rows come apart
#pragma unroll
          for (int v = 0; v < Tile::kVector; ++v) to[place.row(i + v)] = sums.lane[v];
        }
      }
    __syncthreads();
    for (int col = static_cast<int>(threadIdx.x) / 32; col < Tile::kPassCols; col += Tile::kWarps)
      body(pass * Tile::kPassCols + col, static_cast<const T*>(staging + col * Tile::kStagingLd));
  }
}

}  // namespace shrinkwarp::cuda
