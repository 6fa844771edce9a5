// CUDA body of active_sets: a block a problem, all in double.
//
// Story, medium lead field at .5 / .3 / .1 of lambda_max: |W| 58 / 100 / 158 and |S| 13 / 29 / 67 at the end, 17 / 44 / 146
// linear solves a problem. A linear solve is two products with a small matrix and a dozen barriers, 1,000 to 4,000 cycles of
// latency; 132 multiprocessors with 5 to 12 blocks each make that 15 / 60 / 500 ns a problem (on paper). The Gram matrix of W
// stays in device memory: a solve reads |S| columns of it, 6 / 23 / 85 KB, from L1 or L2. The inverse, which is read and
// rewritten whole, lies in shared memory while |S| lets it (tiers of 32, 64 and 96 atoms), else in device memory too; where
// it lies does not touch its bits. A set that outgrows its tier on the way moves out.
// New Gram entries are gathered from D'D, 32 bytes of traffic for 8; without it each is a sum that one thread makes.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/active_set/active_sets.hpp>
#include <shrinkwarp/kernels/active_set/add_to_set.cuh>
#include <shrinkwarp/kernels/active_set/tiers.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/tile_product.cuh>

namespace shrinkwarp::cuda {
namespace {

// ---- D'D ---------------------------------------------------------------------------------------------------------

/// Both operands are contiguous along n.
using GramTile = ProductTile<double, 64, 64, 8, 8, 4, 3, Contiguous::depth>;

__global__ void __launch_bounds__(GramTile::kThreads, GramTile::kResident)
    gram_kernel(MatrixView<const double> D, MatrixView<double> G) {
  using Tile = GramTile;
  SHRINKWARP_SHARED_ARRAY(double, ring, Tile::kRing);
  const TileSpot<Tile> spot(D.cols, D.cols);
  DepthOperand<Tile, Tile::kRows, 8> a(D.data + spot.row0 * D.ld, D.ld, spot.rows);
  DepthOperand<Tile, Tile::kCols, 8> b(D.data + spot.col0 * D.ld, D.ld, spot.cols);
  double acc[Tile::kThreadRows][Tile::kThreadCols];
  tile_product<Tile>(ring, a, b, 0, D.rows, acc);
  const ThreadPlace<Tile> place;
#pragma unroll
  for (int j = 0; j < Tile::kThreadCols; ++j) {
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const int row = place.row(i), col = place.col(j);
      if (row < spot.rows && col < spot.cols) G.data[spot.row0 + row + (spot.col0 + col) * G.ld] = acc[i][j];
    }
  }
}

// ---- new atoms ---------------------------------------------------------------------------------------------------

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;

template <bool kPlain>
__global__ void __launch_bounds__(kThreads)
    add_atoms_kernel(AtomOperands in, const std::int32_t* places, MatrixView<const std::int32_t> fresh,
                     const std::int32_t* fresh_count, ActiveSets sets) {
  const std::int64_t p = places[blockIdx.x];
  const int count = fresh_count[p];
  const int first = sets.size[p];
  for (int f = threadIdx.x; f < count; f += kThreads) sets.code.column(p)[first + f] = 0;
  add_to_set<kThreads, kPlain>(in, p, first, fresh.data + p * fresh.ld, count, sets);
}

// ---- the active set ----------------------------------------------------------------------------------------------

// As in active_set.cpp for double: under kSuspicious of its energy what is left of an atom outside the span of S is computed
// once more, and under kDependent of what it is computed from it counts as nothing.
constexpr double kSuspicious = 1e-6, kDependent = 1e-12;

/// Elements of shared memory that a block's vectors take, beside the inverse.
__host__ __device__ constexpr std::int64_t vector_doubles(std::int64_t capacity) {
  return 10 * capacity + (3 * capacity + 1) / 2;
}

/// A block's problem. Everything that is no array has the same value in all threads; the methods are called by all of them,
/// begin when what they read is visible to all and end so.
/// @tparam kPlain  every threshold is lambda, and codes have either sign
template <bool kPlain>
struct BlockSet {
  // In device memory.
  const double* G;
  double* home;           // of the inverse
  const double* weights;  // of all atoms, nullptr for 1; like what follows only where not kPlain
  const std::int32_t* atom;
  bool nonnegative;
  int capacity;
  // The inverse, in shared or device memory: columns are ld apart, and there is room for so many.
  double* H;
  int ld, room;
  double* vectors;  // in shared memory, `capacity` apart
  int size, support, steps;
  double lambda, guard_factor, largest;

  // By position in W.
  __device__ __forceinline__ double& code(int i) const { return vectors[i]; }
  __device__ __forceinline__ double& correlation(int i) const { return vectors[capacity + i]; }
  __device__ __forceinline__ double& guard(int i) const { return vectors[2 * capacity + i]; }
  __device__ __forceinline__ double& norm(int i) const { return vectors[3 * capacity + i]; }
  __device__ __forceinline__ double& moved(int i) const { return vectors[4 * capacity + i]; }
  // By place in S.
  __device__ __forceinline__ double* right() const { return vectors + 5 * capacity; }
  __device__ __forceinline__ double* direction() const { return vectors + 6 * capacity; }
  __device__ __forceinline__ double* rho() const { return vectors + 7 * capacity; }
  __device__ __forceinline__ double* correction() const { return vectors + 8 * capacity; }
  __device__ __forceinline__ double& before(int k) const { return vectors[9 * capacity + k]; }
  __device__ __forceinline__ std::int32_t* integers() const {
    return reinterpret_cast<std::int32_t*>(vectors + 10 * capacity);
  }
  __device__ __forceinline__ std::int32_t& place(int i) const { return integers()[i]; }              // in S, or -1
  __device__ __forceinline__ std::int32_t& active(int k) const { return integers()[capacity + k]; }  // position in W
  __device__ __forceinline__ std::int32_t& touched(int k) const { return integers()[2 * capacity + k]; }  // likewise

  static __device__ __forceinline__ double unknown() { return NAN; }
  __device__ __forceinline__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ double gram(int i, int j) const { return G[i + static_cast<std::int64_t>(j) * capacity]; }
  __device__ __forceinline__ double threshold(int i) const {
    if constexpr (!kPlain)
      if (weights != nullptr) return lambda * weights[atom[i]];
    return lambda;
  }
  __device__ __forceinline__ double place_of(int i) const { return code(i) > 0 ? threshold(i) : -threshold(i); }

  /// The thread that has the largest value wins, the lowest index where they are equal; -1 where all have -1.
  static __device__ __forceinline__ int winner(double value, int index) {
    const double best = block_max<kThreads>(index >= 0 ? value : -INFINITY);
    constexpr int kNobody = 0x7fffffff;
    const int found = block_min<kThreads>(index >= 0 && value == best ? index : kNobody);
    return found == kNobody ? -1 : found;
  }

  /// to = H from, [support]. Without a barrier at its end: thread k has its own element, others' wait for one.
  __device__ __forceinline__ void multiply(const double* from, double* to) const {
    for (int i = thread(); i < support; i += kThreads) {
      double even = 0, odd = 0;
      int k = 0;
#pragma unroll 4
      for (; k + 1 < support; k += 2) {
        even = std::fma(H[i + k * ld], from[k], even);
        odd = std::fma(H[i + (k + 1) * ld], from[k + 1], odd);
      }
      if (k < support) even = std::fma(H[i + k * ld], from[k], even);
      to[i] = even + odd;
    }
  }

  /// H += factor v v', [support]
  __device__ __forceinline__ void rank_one(const double* v, double factor) const {
    const int lane = thread() % kWarpSize;
    for (int c = thread() / kWarpSize; c < support; c += kWarps) {
      const double scaled = factor * v[c];
      for (int i = lane; i < support; i += kWarpSize) H[i + c * ld] = std::fma(scaled, v[i], H[i + c * ld]);
    }
    __syncthreads();
  }

  /// correlation -= sum over k < count of factor(k) column(k) of G.
  template <class Column, class Factor>
  __device__ __forceinline__ void subtract_columns(int count, Column column, Factor factor) const {
    for (int i = thread(); i < size; i += kThreads) {
      double sum = correlation(i);
#pragma unroll 4
      for (int k = 0; k < count; ++k) sum = std::fma(-factor(k), gram(i, column(k)), sum);
      correlation(i) = sum;
    }
    __syncthreads();
  }

  /// The inverse goes to device memory, where there is room for all of W.
  __device__ __forceinline__ void move_out() {
    const int lane = thread() % kWarpSize;
    for (int c = thread() / kWarpSize; c < support; c += kWarps)
      for (int i = lane; i < support; i += kWarpSize) home[i + static_cast<std::int64_t>(c) * capacity] = H[i + c * ld];
    H = home;
    ld = room = capacity;
    __syncthreads();
  }

  /// The inverse of G_SS, by the sweep operator. False where S is dependent: H is no inverse then.
  __device__ __forceinline__ bool invert() {
    const int lane = thread() % kWarpSize, warp = thread() / kWarpSize;
    for (int c = warp; c < support; c += kWarps)
      for (int i = lane; i < support; i += kWarpSize) H[i + c * ld] = gram(active(i), active(c));
    __syncthreads();
    for (int p = 0; p < support; ++p) {
      const double pivot = H[p * (ld + 1)];
      if (!(pivot > kDependent * gram(active(p), active(p)))) {
        __syncthreads();  // all have read what the caller may write now
        return false;
      }
      const double inverse = 1 / pivot;
      for (int i = thread(); i < support; i += kThreads) right()[i] = H[i + p * ld];
      __syncthreads();
      for (int c = warp; c < support; c += kWarps) {
        const double scaled = right()[c] * inverse;
        for (int i = lane; i < support; i += kWarpSize) {
          double& entry = H[i + c * ld];
          entry = c == p ? (i == p ? -inverse : right()[i] * inverse)
                         : (i == p ? scaled : std::fma(-scaled, right()[i], entry));
        }
      }
      __syncthreads();
    }
    for (int c = warp; c < support; c += kWarps)
      for (int i = lane; i < support; i += kWarpSize) H[i + c * ld] = -H[i + c * ld];
    __syncthreads();
    return true;
  }

  /// Position j joins S; direction holds u = G_SS^-1 G_Sj and complement = G_jj - u'G_Sj.
  __device__ __forceinline__ void join(int j, double complement, double value) {
    if (support == room) move_out();
    const double inverse = 1 / complement;
    rank_one(direction(), inverse);
    for (int k = thread(); k < support; k += kThreads)
      H[k + support * ld] = H[support + k * ld] = -direction()[k] * inverse;
    if (thread() == 0) {
      H[support * (ld + 1)] = inverse;
      active(support) = j;
      place(j) = support;
      guard(j) = INFINITY;
      code(j) = value;
    }
    ++support;
    __syncthreads();
  }

  /// The atom at place k leaves S with the code 0; the last one takes its place. False where H was no inverse of a positive
  /// definite matrix any more.
  __device__ __forceinline__ bool leave(int k) {
    const int last = support - 1;
    const int j = active(k);
    const double pivot = H[k * (ld + 1)];
    const bool worn = !(pivot > 0) || !isfinite(1 / pivot);
    for (int i = thread(); i < support; i += kThreads) right()[i] = H[i + k * ld];
    __syncthreads();
    if (!worn) rank_one(right(), -1 / pivot);
    if (k != last) {
      for (int i = thread(); i < last; i += kThreads)
        if (i != k) H[i + k * ld] = H[k + i * ld] = H[i + last * ld];
      if (thread() == 0) {
        H[k * (ld + 1)] = H[last * (ld + 1)];
        active(k) = active(last);
        place(active(last)) = k;
      }
    }
    __syncthreads();
    if (thread() == 0) {
      place(j) = -1;
      code(j) = 0;
      guard(j) = threshold(j) * guard_factor;
    }
    support = last;
    __syncthreads();
    return !worn;
  }

  /// All atoms of S that have come to zero leave it. False as from leave().
  __device__ __forceinline__ bool leave_at_zero() {
    bool whole = true;
    for (int k = support - 1; k >= 0; --k) {
      const bool leaves = code(active(k)) == 0;
      __syncthreads();
      if (leaves) whole &= leave(k);
    }
    return whole;
  }

  /// z at position i moves by `change`, not beyond 0. What it moved by.
  __device__ __forceinline__ double move(int i, double change) const {
    const double z = code(i);
    const double target = z + change;
    const double moves_to = (z > 0) != (target > 0) ? 0.0 : target;
    code(i) = moves_to;
    return moves_to - z;
  }

  /// What correlations of S are beside their places: to `right`. That along the direction is returned, 0 where it is rounding.
  __device__ __forceinline__ void set_aside() const {
    for (int k = thread(); k < support; k += kThreads) right()[k] = correlation(active(k)) - place_of(active(k));
    __syncthreads();
  }
  __device__ __forceinline__ double along() const {
    double sum = 0, magnitude = 0;
    for (int k = thread(); k < support; k += kThreads) {
      sum = std::fma(right()[k], direction()[k], sum);
      magnitude = std::fma(std::fabs(correlation(active(k))), std::fabs(direction()[k]), magnitude);
    }
    sum = block_sum<kThreads>(sum);
    magnitude = block_sum<kThreads>(magnitude);
    return std::fabs(sum) <= kDependent * magnitude ? 0.0 : isfinite(sum) ? sum : unknown();
  }

  enum class Settled { there, crossed, worn };

  /// ActiveSet::settle, up to where an atom of S comes to zero. Where the inverse is worn out S stays where it is.
  __device__ __forceinline__ Settled settle() {
    ++steps;
    set_aside();
    multiply(right(), direction());
    const double descent = along();
    if (!(descent >= 0)) return Settled::worn;
    double step = 1;
    int mine = -1;
    for (int k = thread(); k < support; k += kThreads) {
      const double z = code(active(k)), change = direction()[k];
      if (z > 0 ? z + change * step <= 0 : z + change * step >= 0) {
        step = -z / change;
        mine = k;
      }
    }
    const int crossing = winner(-step, mine);
    step = crossing >= 0 ? -code(active(crossing)) / direction()[crossing] : 1.0;
    for (int k = thread(); k < support; k += kThreads)
      moved(k) = k == crossing ? -code(active(k)) : step * direction()[k];
    __syncthreads();
    double sign = 1;
    for (;;) {
      subtract_columns(
          support, [this](int k) { return active(k); }, [this, sign](int k) { return sign * moved(k); });
      if (sign < 0) return Settled::worn;
      set_aside();
      if (descent + along() >= 0) break;
      sign = -1;  // it would rise: back again
    }
    for (int k = thread(); k < support; k += kThreads) move(active(k), moved(k));
    __syncthreads();
    return crossing >= 0 ? Settled::crossed : Settled::there;
  }

  /// to = right - G_SS direction, and its largest magnitude over the norm of the atom.
  __device__ __forceinline__ double residual(double* to) const {
    double most = 0;
    for (int i = thread(); i < support; i += kThreads) {
      double sum = right()[i];
      for (int k = 0; k < support; ++k) sum = std::fma(-gram(active(k), active(i)), direction()[k], sum);
      to[i] = sum;
      most = fmax(most, std::fabs(sum) / norm(active(i)));
    }
    return block_max<kThreads>(most);
  }

  /// ActiveSet::project: u in direction; what is left of atom j outside the span of S, or the most that it is with a minus,
  /// or unknown(). `worn`: the inverse should be renewed, and the projection made once more.
  __device__ __forceinline__ double project(int j, bool renewed, bool& worn) {
    for (int k = thread(); k < support; k += kThreads) {
      right()[k] = gram(active(k), j);
      direction()[k] = 0;
      rho()[k] = right()[k];
    }
    ++steps;
    const double whole = gram(j, j);
    double complement = whole, off = INFINITY;
    worn = false;
    __syncthreads();
    for (int round = 0; support > 0; ++round) {  // from the second one on u is corrected by its residual rho
      multiply(rho(), correction());
      double sum = 0;
      for (int k = thread(); k < support; k += kThreads) {
        direction()[k] += correction()[k];
        sum = std::fma(right()[k], direction()[k], sum);
      }
      complement = whole - block_sum<kThreads>(sum);  // with a barrier
      if (round == 0 && complement > kSuspicious * whole) return complement;
      const double after = residual(rho());
      const bool better = after <= off / 2;
      off = after;
      if (round == 0) continue;
      if (after <= kDependent / 4 * norm(j)) break;
      if (better) continue;
      worn = !renewed;
      break;
    }
    if (support == 0 || worn) return complement;
    double more = 0, length = 0;
    for (int k = thread(); k < support; k += kThreads) {
      more = std::fma(rho()[k], direction()[k], more);
      length = std::fma(norm(active(k)), std::fabs(direction()[k]), length);
    }
    complement -= block_sum<kThreads>(more);
    length = norm(j) + block_sum<kThreads>(length);
    const double limit = kDependent * norm(j) * length;
    if (!(4 * off * norm(j) <= fmax(complement, limit))) return unknown();
    return complement > limit ? complement : -limit;
  }

  /// Whether correlations of S are so far from their places that more than a few updates of the inverse must be to blame.
  __device__ __forceinline__ bool is_worn() const {
    const double limit = 10 * kDependent * largest;
    bool worn = false;
    for (int k = thread(); k < support; k += kThreads) {
      const int i = active(k);
      worn |= !(std::fabs(correlation(i) - place_of(i)) <= limit * norm(i));
    }
    return __syncthreads_or(worn) != 0;
  }

  /// An atom on its way into S.
  struct Growth {
    int j = 0, before = 0;  // |S| when it began
    double sign = 0, excess = 0, grown = 0;
  };

  __device__ __forceinline__ Growth begin_growth(int j) const {
    for (int k = thread(); k < support; k += kThreads) {
      const int i = active(k);
      touched(k) = i;
      moved(i) = 0;
      before(k) = code(i);
    }
    const double c = correlation(j);
    __syncthreads();
    return {j, support, c > 0 ? 1.0 : -1.0, std::fabs(c) - threshold(j), 0.0};
  }

  /// S and its codes as they were before a growth began; the inverse is none of S.
  __device__ __forceinline__ void restore(const Growth& growth) {
    support = growth.before;
    for (int k = thread(); k < support; k += kThreads) {
      const int i = touched(k);
      active(k) = i;
      code(i) = before(k);
      place(i) = k;
      guard(i) = INFINITY;
    }
    __syncthreads();
  }

  enum class Grown { joined, goes_on, spanned, refused };

  /// One step of ActiveSet::grow: z_j grows until j joins S or an atom of S is at zero.
  __device__ __forceinline__ Grown grow(Growth& growth, double complement) {
    // Of an atom that S spans, corr_j = u'corr_S: over its threshold by rounding, perhaps.
    constexpr double kRounding = 4 * 2.220446049250313e-16 / kDependent;
    const double sign = growth.sign;
    if (complement <= 0 && growth.grown == 0 && growth.excess * norm(growth.j) <= kRounding * -complement * largest)
      return Grown::spanned;
    double step = growth.excess / std::fabs(complement);  // at least so far the objective descends
    double mine_step = step;
    int mine = -1;
    for (int k = thread(); k < support; k += kThreads) {
      const double z = code(active(k)), rate = -sign * direction()[k];
      if (z * rate < 0 && std::fabs(z) < std::fabs(rate) * mine_step) {
        mine_step = -z / rate;
        mine = k;
      }
    }
    const int crossing = winner(-mine_step, mine);
    if (crossing < 0 ? !(complement > 0) : isnan(complement)) return Grown::refused;
    if (crossing >= 0) step = code(active(crossing)) / (sign * direction()[crossing]);
    __syncthreads();  // all have read the code that crosses
    for (int k = thread(); k < support; k += kThreads) {
      const int i = active(k);
      moved(i) += move(i, k == crossing ? -code(i) : -sign * direction()[k] * step);
    }
    growth.grown += sign * step;
    growth.excess -= step * fmax(complement, 0.0);
    __syncthreads();
    return crossing < 0 ? Grown::joined : Grown::goes_on;
  }

  /// ActiveSet::solve, from settle() on. It is written as one loop whose passes do one thing each, so that each of the steps
  /// above stands in it once: a kernel that repeats them is four times as long and wants more registers than there are.
  __device__ __forceinline__ ActiveSetsOutcome solve(double tolerance, int last_step) {
    guard_factor = 1 + tolerance;
    for (int i = thread(); i < size; i += kThreads) guard(i) = place(i) >= 0 ? INFINITY : threshold(i) * guard_factor;
    __syncthreads();
    enum class Doing { settle, search, grow, tell, check } doing = Doing::settle;
    Growth growth;
    bool renew = false;    // the inverse, before anything else
    bool renewed = false;  // it has been, and is no better for it
    bool settled = false;  // since an atom last joined
    bool mending = false;  // S was worn when an atom had joined: the inverse is renewed and S settled
    for (;;) {
      if (renew && doing != Doing::tell) {  // telling needs none, and must not be left out
        if (!invert()) {
          if (doing == Doing::grow && growth.grown != 0) restore(growth);
          return kSetsStuck;
        }
        renew = false;
        renewed = true;
      }
      bool zeros = false;
      if (doing == Doing::settle) {
        const Settled how = support > 0 ? settle() : Settled::there;
        zeros = how == Settled::crossed;
        renew = how == Settled::worn && !renewed;
        if (!zeros && !renew) doing = mending ? Doing::check : Doing::search;
      } else if (doing == Doing::search) {
        double most = 0;
        int mine = -1;
        for (int i = thread(); i < size; i += kThreads) {
          const double c = correlation(i);
          const double over = (!kPlain && nonnegative ? c : std::fabs(c)) - guard(i);
          if (over > most) {
            most = over;
            mine = i;
          }
        }
        const int j = winner(most, mine);
        if (j < 0) return kSetsSolved;
        if (steps >= last_step) return kSetsStuck;
        growth = begin_growth(j);
        renewed = false;
        doing = Doing::grow;
      } else if (doing == Doing::grow) {
        const double complement = project(growth.j, renewed, renew);
        if (renew) continue;
        const Grown how = grow(growth, complement);
        if (how == Grown::joined) {
          join(growth.j, complement, growth.grown);
          doing = Doing::tell;
        }
        zeros = how == Grown::joined || how == Grown::goes_on;
        if (how == Grown::spanned || how == Grown::refused) {
          if (how == Grown::spanned && thread() == 0) guard(growth.j) = growth.sign * correlation(growth.j);
          if (growth.grown != 0) {
            restore(growth);
            renew = true;
          }
          __syncthreads();
          if (how == Grown::refused && settled) return kSetsStuck;
          doing = how == Grown::spanned ? Doing::search : Doing::settle;
          settled = doing == Doing::settle;
          renewed = false;
        }
      } else if (doing == Doing::tell) {  // the correlations are told what has moved
        if (thread() == 0) {
          touched(growth.before) = growth.j;
          moved(growth.j) = growth.grown;
        }
        __syncthreads();
        subtract_columns(
            growth.before + 1, [this](int k) { return touched(k); }, [this](int k) { return moved(touched(k)); });
        doing = Doing::check;
      } else {  // whether S is where it should be, after an atom has joined and once more when that has been mended
        const bool worn = is_worn();
        if (worn && mending && settled) return kSetsStuck;
        doing = worn ? Doing::settle : Doing::search;
        settled = worn && mending;
        mending = renew = worn && !mending;
        renewed = false;
      }
      if (zeros && !leave_at_zero()) renew = true;
    }
  }
};

/// Bytes of shared memory that a place wants in a tier.
__host__ __device__ constexpr std::int64_t shared_bytes(std::int64_t capacity, int tier) {
  return tier_bytes(vector_doubles(capacity), tier);
}

/// A set in `vectors`, which are in shared memory, with its inverse in device memory; not loaded yet.
template <bool kPlain>
__device__ __forceinline__ BlockSet<kPlain> block_set(double* vectors, std::int64_t p, double lambda,
                                                      const PenaltyView<double>& penalty, const ActiveSets& sets) {
  BlockSet<kPlain> set;
  set.vectors = vectors;
  set.G = sets.gram.column(p);
  set.H = set.home = sets.inverse.column(p);
  set.ld = set.room = set.capacity = static_cast<int>(sets.capacity);
  if constexpr (!kPlain) {
    set.weights = penalty.weights.data;
    set.atom = sets.atom.column(p);
    set.nonnegative = penalty.nonnegative;
  }
  set.lambda = lambda;
  set.guard_factor = 1;
  return set;
}

// Five blocks a multiprocessor, or four: left to itself the compiler aims at more, with spills.
// The first launch writes down the others' places, as ~tier in their outcome: supports change, and each is solved once.
template <bool kPlain>
__global__ void __launch_bounds__(kThreads, kPlain ? 5 : 4)
    solve_kernel(int tier, bool first, const std::int32_t* places, const double* lambda, const double* tolerance,
                 int max_steps, ActiveSets sets, PenaltyView<double> penalty) {
  const std::int64_t p = places[blockIdx.x];
  if (tolerance[p] < 0) return;  // the whole block, here and below
  const int size = sets.size[p], support = sets.support[p];
  const int its_tier = first ? tier_of(vector_doubles(sets.capacity), size, support) : ~sets.outcome[p];
  if (its_tier != tier) {
    if (first && threadIdx.x == 0) sets.outcome[p] = ~its_tier;
    return;
  }
  const int capacity = static_cast<int>(sets.capacity);
  const int thread = static_cast<int>(threadIdx.x);
  BlockSet<kPlain> set = block_set<kPlain>(dynamic_shared<double>(), p, lambda[p], penalty, sets);
  set.size = size;
  set.support = support;
  set.steps = sets.steps[p];
  set.largest = sets.largest[p];
  const bool inside = tier_room(tier) > 0;
  if (inside) {
    set.H = set.vectors + vector_doubles(capacity);
    set.ld = set.room = tier_room(tier);
  }

  for (int i = thread; i < size; i += kThreads) {
    set.code(i) = sets.code.column(p)[i];
    set.correlation(i) = sets.correlation.column(p)[i];
    set.norm(i) = std::sqrt(set.gram(i, i));
    set.guard(i) = INFINITY;
    set.place(i) = -1;
  }
  const int lane = thread % kWarpSize, warp = thread / kWarpSize;
  for (int c = warp; c < support && inside; c += kWarps)
    for (int i = lane; i < support; i += kWarpSize)
      set.H[i + c * set.ld] = set.home[i + static_cast<std::int64_t>(c) * capacity];
  __syncthreads();
  for (int k = thread; k < support; k += kThreads) {
    set.active(k) = sets.active.column(p)[k];
    set.place(set.active(k)) = k;
  }
  __syncthreads();

  const int last_step = set.steps + max_steps * size + 100;
  const ActiveSetsOutcome outcome = set.solve(tolerance[p], last_step);

  for (int i = thread; i < size; i += kThreads) {
    sets.code.column(p)[i] = set.code(i);
    sets.correlation.column(p)[i] = set.correlation(i);
  }
  for (int k = thread; k < set.support; k += kThreads) sets.active.column(p)[k] = set.active(k);
  if (set.H != set.home) {
    for (int c = warp; c < set.support; c += kWarps)
      for (int i = lane; i < set.support; i += kWarpSize)
        set.home[i + static_cast<std::int64_t>(c) * capacity] = set.H[i + c * set.ld];
  }
  if (thread == 0) {
    sets.support[p] = set.support;
    sets.steps[p] = set.steps;
    sets.outcome[p] = outcome;
  }
}

// ---- codes to start at -------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(kThreads, 5)
    start_kernel(AtomOperands in, const std::int32_t* places, const double* lambda, std::int32_t* start,
                 ActiveSets sets, PenaltyView<double> penalty) {
  const std::int64_t p = places[blockIdx.x];
  const int count = start[p];
  if (count <= 0 || count > sets.capacity) return;  // the whole block
  add_to_set<kThreads, false>(in, p, 0, sets.atom.column(p), count, sets);
  BlockSet<false> set = block_set<false>(dynamic_shared<double>(), p, lambda[p], penalty, sets);
  set.size = set.support = count;
  double* const code = sets.code.column(p);
  double* const correlation = sets.correlation.column(p);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    set.code(i) = set.moved(i) = code[i];
    set.correlation(i) = correlation[i];
    set.active(i) = i;
  }
  __syncthreads();
  set.subtract_columns(
      count, [](int k) { return k; }, [&set](int k) { return set.moved(k); });
  // F(z) - F(0) = lambda sum w_j |z_j| - 1/2 z'(D'x) - 1/2 z'(D'r - ridge z)
  double more = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads)
    more += set.threshold(i) * std::fabs(code[i]) - 0.5 * code[i] * (correlation[i] + set.correlation(i));
  more = block_sum<kThreads>(more);
  const bool started = more <= 0 && set.invert();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    if (started) {
      correlation[i] = set.correlation(i);
      sets.active.column(p)[i] = i;
    } else {
      code[i] = 0;
    }
  }
  if (threadIdx.x == 0) {
    sets.support[p] = started ? count : 0;
    start[p] = 0;
  }
}

}  // namespace

// ---- launchers ---------------------------------------------------------------------------------------------------

void gram_matrix(const Context& context, MatrixView<const double> D, MatrixView<double> G) {
  launch(gram_kernel, dim3(tile_grid<GramTile>(D.cols, D.cols, "gram_matrix")), dim3(GramTile::kThreads), 0,
         context.stream(), D, G);
}

void add_atoms(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
               MatrixView<const double> R, VectorView<const std::int32_t> places, MatrixView<const std::int32_t> fresh,
               VectorView<const std::int32_t> fresh_count, const ActiveSets& sets, const PenaltyView<double>& penalty) {
  const AtomOperands in{D, gram, R, penalty.ridge};
  launch(penalty.ridge > 0 ? add_atoms_kernel<false> : add_atoms_kernel<true>,
         dim3(grid_size(places.size, "add_atoms")), dim3(kThreads), 0, context.stream(), in, places.data, fresh,
         fresh_count.data, sets);
}

namespace {

void check_capacity(const char* function, std::int64_t capacity) {
  SHRINKWARP_REQUIRE(shared_bytes(capacity, kTiers - 1) <= kSharedBytes, ValueError, function, ": capacity is ",
                     capacity, ", wanted vectors of at most ", kSharedBytes, " bytes, ",
                     shared_bytes(capacity, kTiers - 1), " found");
}

}  // namespace

void start_active_sets(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
                       MatrixView<const double> R, VectorView<const std::int32_t> places,
                       VectorView<const double> lambda, VectorView<std::int32_t> start, const ActiveSets& sets,
                       const PenaltyView<double>& penalty) {
  check_capacity("start_active_sets", sets.capacity);
  const AtomOperands in{D, gram, R, penalty.ridge};
  launch(start_kernel, dim3(grid_size(places.size, "start_active_sets")), dim3(kThreads),
         static_cast<std::size_t>(shared_bytes(sets.capacity, kTiers - 1)), context.stream(), in, places.data,
         lambda.data, start.data, sets, penalty);
}

void solve_active_sets(const Context& context, VectorView<const std::int32_t> places, VectorView<const double> lambda,
                       VectorView<const double> tolerance, std::int64_t max_steps, const ActiveSets& sets,
                       const PenaltyView<double>& penalty) {
  check_capacity("solve_active_sets", sets.capacity);
  const bool plain = penalty.weights.empty() && !penalty.nonnegative;  // the ridge is in the Gram matrices
  // Steps are counted in 32 bits; no place gets near so many.
  constexpr std::int64_t kMostSteps = std::int64_t{1} << 20;
  bool first = true;
  for (int tier = 0; tier < kTiers; ++tier) {
    const std::int64_t bytes = shared_bytes(sets.capacity, tier);
    if (bytes > kSharedBytes) continue;  // no place belongs to it
    launch(plain ? solve_kernel<true> : solve_kernel<false>, dim3(grid_size(places.size, "solve_active_sets")),
           dim3(kThreads), static_cast<std::size_t>(bytes), context.stream(), tier, first, places.data, lambda.data,
           tolerance.data, static_cast<int>(max_steps < kMostSteps ? max_steps : kMostSteps), sets, penalty);
    first = false;
  }
}

}  // namespace shrinkwarp::cuda
