// CUDA body of group_sets: a block a problem, all in double, by the steps of GroupSet (group_set.cpp).
//
// Story, medium lead field in groups of 3 at .5 / .3 / .1 of lambda_max, as 200 samples have it on the CPU: |W| 67 / 137 / 349 atoms
// and |S| 35 / 76 / 165 at the end, 4 / 8 / 19 steps of Newton's in 4 / 6 / 9 rounds. A panel of a factorisation takes some 500 /
// 900 / 2,500 cycles of latency, and there are 9 / 19 / 41 in a step; a group that a sweep moves takes some 1,000, and a round
// moves about |S| of them. 132 multiprocessors with 4 blocks each make that .1 / .4 / 3 us a problem (on paper). A matrix of 165 atoms
// lies in device memory: (165^3 / 24) doubles a factorisation, 37 MB a problem from L2 in all, 7 us: that is the bound there.
//
// Codes, correlations and what a step needs by position of W lie in shared memory; the Gram matrix of W in device memory, of which
// a step reads s |S| columns from L1 or L2. The matrix of a step, which is written and factored anew each time, lies in shared
// memory while its size lets it (tiers of 32, 64 and 96 atoms), else in device memory; where it lies does not touch its bits.
// A factorisation goes by panels of four columns: each element of a panel is one sum over the columns to its left, read once
// for four of them, and three barriers end the panel. The right-hand side is one more row of it, so that the forward
// solution comes with it. A sweep over groups looks for the next one that is aside in all threads at once, moves it in
// one warp and tells the correlations in all threads: what GroupSet does, which looks at one group after the other.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/active_set/add_to_set.cuh>
#include <shrinkwarp/kernels/active_set/tiers.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/group_set/group_rules.hpp>
#include <shrinkwarp/kernels/group_set/group_sets.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kPanel = 4;  // columns of a factorisation that are brought up to date together

/// Doubles of shared memory that a block's vectors take, beside the matrix.
__host__ __device__ constexpr std::int64_t vector_doubles(std::int64_t capacity, std::int64_t group_size) {
  return 6 * capacity + 5 * (capacity / group_size);
}

/// A block's problem. Everything that is no array has the same value in all threads; the methods are called by all of them unless
/// they say otherwise, begin when what they read is visible to all and end so.
struct BlockGroups {
  // In device memory.
  const double* G;  // columns `capacity` apart
  double* home;     // of the matrix, if there is no room inside
  const std::int32_t* atom;
  const double *vectors, *values;  // of the basis
  // In shared memory.
  double* inside;  // [room, room]
  int room;
  double* rows;  // the vectors below
  int s, capacity;
  int size, groups;  // |W|, in atoms and in groups
  int steps;
  double ridge;

  // By position of W.
  __device__ __forceinline__ double* code() const { return rows; }
  __device__ __forceinline__ double* correlation() const { return rows + capacity; }
  __device__ __forceinline__ double* first() const { return rows + 2 * capacity; }
  __device__ __forceinline__ double* second() const { return rows + 3 * capacity; }
  __device__ __forceinline__ double* change() const { return rows + 4 * capacity; }
  // By place in S, s each.
  __device__ __forceinline__ double* right() const { return rows + 5 * capacity; }
  // By group of W.
  __device__ __forceinline__ double* of_groups() const { return rows + 6 * capacity; }
  __device__ __forceinline__ double& length(int p) const { return of_groups()[p]; }
  __device__ __forceinline__ double& threshold(int p) const { return of_groups()[capacity / s + p]; }
  // By place in S.
  __device__ __forceinline__ double& radial(int k) const { return of_groups()[2 * (capacity / s) + k]; }
  __device__ __forceinline__ double& across(int k) const { return of_groups()[3 * (capacity / s) + k]; }
  __device__ __forceinline__ int* lists() const { return reinterpret_cast<int*>(of_groups() + 4 * (capacity / s)); }
  __device__ __forceinline__ int& active(int k) const { return lists()[k]; }
  __device__ __forceinline__ int& sorted(int k) const { return lists()[capacity / s + k]; }

  static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ int lane() { return thread() % kWarpSize; }
  static __device__ __forceinline__ int warp() { return thread() / kWarpSize; }
  __device__ __forceinline__ const double* gram(int position) const {
    return G + static_cast<std::int64_t>(position) * capacity;
  }
  __device__ __forceinline__ double product(const double* a, const double* b) const {
    double sum = 0;
    for (int i = 0; i < s; ++i) sum = std::fma(a[i], b[i], sum);
    return sum;
  }

  /// z_g at p has changed. By one thread.
  __device__ __forceinline__ void settle_length(int p) const {
    double* const z = code() + p * s;
    const double reached = std::sqrt(product(z, z));
    length(p) = reached;
    for (int i = 0; i < s && !(reached > 0); ++i) z[i] = 0;  // its squares are under the range
  }

  /// Element i of how far position p of S is from where it has to be. By one thread.
  __device__ __forceinline__ double aside_of(int p, int i) const {
    return correlation()[p * s + i] - threshold(p) / length(p) * code()[p * s + i];
  }
  /// The norm of that, or what p beside S is over its threshold by, in units of the threshold. By one thread.
  __device__ __forceinline__ double aside(int p) const {
    double square = 0;
    const bool active = length(p) > 0;
    for (int i = 0; i < s; ++i) {
      const double value = active ? aside_of(p, i) : correlation()[p * s + i];
      square = std::fma(value, value, square);
    }
    return std::sqrt(square) / threshold(p) - (active ? 0.0 : 1.0);
  }
  __device__ __forceinline__ double farthest() const {
    double most = 0;
    for (int p = thread(); p < groups; p += kThreads) most = fmax(most, aside(p));
    return block_max<kThreads>(most);
  }

  /// The minimum over z_g alone: to right(). By a warp. @return false where nothing is known of it
  __device__ __forceinline__ bool best_code(int p) const {
    const std::int64_t g = atom[p * s] / s;
    const double* const Q = vectors + g * s * s;
    const double* const value = values + g * s;
    const double* const z = code() + p * s;
    const double* const c = correlation() + p * s;
    double* const b = second();  // Q'(corr_g + G_gg z_g), in which G_gg is diagonal
    double energy = 0, top = 0;
    for (int k = lane(); k < s; k += kWarpSize) {
      const double* const q = Q + static_cast<std::int64_t>(k) * s;
      const double entry = std::fma(value[k] + ridge, product(q, z), product(q, c));
      b[k] = entry;
      energy = std::fma(entry, entry, energy);
      top = fmax(top, value[k]);
    }
    const double whole = std::sqrt(warp_sum(energy));
    top = warp_max(top);
    if (whole <= threshold(p)) {
      for (int i = lane(); i < s; i += kWarpSize) right()[i] = 0;
      __syncwarp(kFullMask);
      return true;
    }
    double rho = (whole - threshold(p)) / (top + ridge);
    if (!std::isfinite(rho)) return false;  // columns of zeros, whose correlation is rounding
    for (int time = 0; time < GroupRules::kRootSteps; ++time) {
      double sum = 0, slope = 0;
      for (int k = lane(); k < s; k += kWarpSize) {
        const double stretched = value[k] + ridge;
        const double inverse = 1 / (stretched * rho + threshold(p));
        const double term = b[k] * inverse * b[k] * inverse;
        sum += term;
        slope += term * stretched * inverse;
      }
      sum = warp_sum(sum);
      slope = warp_sum(slope);
      const double moved = sum * (std::sqrt(sum) - 1) / slope;
      if (!std::isfinite(rho + moved)) return false;
      rho += moved;
      if (!(std::fabs(moved) > GroupRules::kRootNear * rho)) break;
    }
    for (int k = lane(); k < s; k += kWarpSize) b[k] = b[k] * rho / ((value[k] + ridge) * rho + threshold(p));
    __syncwarp(kFullMask);
    for (int i = lane(); i < s; i += kWarpSize) {
      double sum = 0;
      for (int k = 0; k < s; ++k) sum = std::fma(b[k], Q[i + static_cast<std::int64_t>(k) * s], sum);
      right()[i] = sum;
    }
    __syncwarp(kFullMask);
    return true;
  }

  /// Each group once, in their order, those that are where they have to be left out.
  __device__ __forceinline__ void sweep(double tolerance) const {
    SHRINKWARP_SHARED_ARRAY(int, known, 1);
    constexpr int kNone = 0x7fffffff;
    for (int from = 0;;) {
      int mine = kNone;
      for (int p = from + thread(); p < groups && mine == kNone; p += kThreads)
        if (aside(p) > GroupRules::kSweepShare * tolerance) mine = p;
      const int p = block_min<kThreads>(mine);
      if (p == kNone) return;
      if (warp() == 0) {
        const bool found = best_code(p);
        for (int i = lane(); i < s && found; i += kWarpSize) {
          first()[i] = right()[i] - code()[p * s + i];
          code()[p * s + i] = right()[i];
        }
        __syncwarp(kFullMask);
        if (lane() == 0) {
          if (found) settle_length(p);
          known[0] = found ? 1 : 0;
        }
      }
      __syncthreads();
      for (int i = thread(); i < size && known[0] != 0; i += kThreads) {
        double sum = correlation()[i];
        for (int q = 0; q < s; ++q) sum = std::fma(-gram(p * s + q)[i], first()[q], sum);
        correlation()[i] = sum;
      }
      __syncthreads();
      from = p + 1;
    }
  }

  /// change = -G step, of the first `all` groups in the list. @return step'G step
  __device__ __forceinline__ double multiply(int all, const double* step) const {
    for (int i = thread(); i < size; i += kThreads) {
      double sum = 0;
      for (int k = 0; k < all; ++k)
        for (int q = active(k) * s; q < (active(k) + 1) * s; ++q) sum = std::fma(-gram(q)[i], step[q], sum);
      change()[i] = sum;
    }
    __syncthreads();
    double square = 0;
    for (int k = thread(); k < all; k += kThreads) square -= product(step + active(k) * s, change() + active(k) * s);
    return block_sum<kThreads>(square);
  }

  // ---- H on the first `count` groups of the list, its factor L and the right-hand side --------------------------------

  /// Its lower triangle, and diagonal blocks of a panel whole.
  __device__ __forceinline__ void assemble(double* H, int ld, int count, double lift) const {
    for (int j = warp(); j < count * s; j += kWarps) {
      const int k = j / s, own = j % s, p = active(k);
      const double bent = threshold(p) / length(p);
      const double along = bent * code()[p * s + own] / length(p) / length(p);
      const double* const from = gram(p * s + own);
      for (int i = j - j % kPanel + lane(); i < count * s; i += kWarpSize) {
        const int l = i / s, other = i % s;
        double value = from[active(l) * s + other];
        if (l == k) value -= along * code()[p * s + other];
        if (i == j) value += bent + lift * from[p * s + own];
        H[i + static_cast<std::int64_t>(j) * ld] = value;
      }
    }
    for (int i = thread(); i < count * s; i += kThreads) change()[i] = right()[i];
    __syncthreads();
  }

  /// H <- L of H = L L', change() <- L^-1 change(). @return false at a pivot that is not over 0
  __device__ __forceinline__ bool factor(double* H, int ld, int q) const {
    double* const y = change();
    // The right-hand side is row q.
    const auto entry = [=](int row, int col) -> double& {
      return row < q ? H[row + static_cast<std::int64_t>(col) * ld] : y[col];
    };
    for (int start = 0; start < q; start += kPanel) {
      const int width = q - start < kPanel ? q - start : kPanel;
      for (int i = start + thread(); i <= q && start > 0; i += kThreads) {
        double sums[kPanel];
#pragma unroll
        for (int c = 0; c < kPanel; ++c) sums[c] = c < width ? entry(i, start + c) : 0.0;
        for (int k = 0; k < start; ++k) {
          const double mine = entry(i, k);
          const double* const column = H + start + static_cast<std::int64_t>(k) * ld;
#pragma unroll
          for (int c = 0; c < kPanel; ++c)
            if (c < width) sums[c] = std::fma(-mine, column[c], sums[c]);
        }
#pragma unroll
        for (int c = 0; c < kPanel; ++c)
          if (c < width) entry(i, start + c) = sums[c];
      }
      __syncthreads();
      // Every thread factors the block on the diagonal for itself.
      double L[kPanel][kPanel], inverse[kPanel];
#pragma unroll
      for (int c = 0; c < kPanel; ++c)
#pragma unroll
        for (int r = c; r < kPanel; ++r) L[r][c] = r < width ? entry(start + r, start + c) : (r == c ? 1.0 : 0.0);
      bool positive = true;
#pragma unroll
      for (int c = 0; c < kPanel; ++c) {
#pragma unroll
        for (int k = 0; k < c; ++k) L[c][c] = std::fma(-L[c][k], L[c][k], L[c][c]);
        positive = positive && L[c][c] > 0;
        inverse[c] = 1 / std::sqrt(L[c][c]);
#pragma unroll
        for (int r = c + 1; r < kPanel; ++r) {
#pragma unroll
          for (int k = 0; k < c; ++k) L[r][c] = std::fma(-L[r][k], L[c][k], L[r][c]);
          L[r][c] *= inverse[c];
        }
      }
      __syncthreads();  // all have read it
      if (!positive) return false;
      for (int i = start + thread(); i <= q; i += kThreads) {
        double row[kPanel];
#pragma unroll
        for (int c = 0; c < kPanel; ++c) {
          if (c >= width) continue;
          double value = entry(i, start + c);
#pragma unroll
          for (int k = 0; k < c; ++k) value = std::fma(-row[k], L[c][k], value);
          entry(i, start + c) = row[c] = value * inverse[c];
        }
      }
      __syncthreads();
    }
    return true;
  }

  /// change() <- L'^-1 change()
  __device__ __forceinline__ void solve_transposed(const double* L, int ld, int q) const {
    SHRINKWARP_SHARED_ARRAY(double, sums, kPanel);
    static_assert(kPanel == kWarps, "a warp a column");
    double* const y = change();
    for (int start = (q - 1) / kPanel * kPanel; start >= 0; start -= kPanel) {
      const int width = q - start < kPanel ? q - start : kPanel;
      if (warp() < width) {
        const double* const column = L + static_cast<std::int64_t>(start + warp()) * ld;
        double sum = 0;
        for (int i = start + width + lane(); i < q; i += kWarpSize) sum = std::fma(column[i], y[i], sum);
        sum = warp_sum(sum);
        if (lane() == 0) sums[warp()] = sum;
      }
      __syncthreads();
      if (thread() == 0) {
        for (int c = start + width - 1; c >= start; --c) {
          const double* const column = L + static_cast<std::int64_t>(c) * ld;
          double value = y[c] - sums[c - start];
          for (int i = c + 1; i < start + width; ++i) value = std::fma(-column[i], y[i], value);
          y[c] = value / column[c];
        }
      }
      __syncthreads();
    }
  }

  /// The step to the lowest point of the objective's second-order model: the first `count` of the `all` groups in the list move
  /// freely, the others to 0. To `step`, where S moves. @return false where rounding lets it have none
  __device__ __forceinline__ bool model_step(int count, int all, double lift, double* step) const {
    for (int k = thread(); k < all; k += kThreads)
      for (int i = active(k) * s; i < (active(k) + 1) * s; ++i) step[i] = k < count ? 0.0 : -code()[i];
    __syncthreads();
    if (count == 0) return true;
    if (count < all) multiply(all, step);
    for (int k = thread(); k < count; k += kThreads)
      for (int i = 0; i < s; ++i)
        right()[k * s + i] = aside_of(active(k), i) + (count < all ? change()[active(k) * s + i] : 0.0);
    __syncthreads();
    const int q = count * s;
    double* const H = q <= room ? inside : home;
    const int ld = q <= room ? room : capacity;
    for (;; lift *= GroupRules::kLiftFactor) {
      if (!(lift <= GroupRules::kLargestLift)) return false;
      assemble(H, ld, count, lift);
      if (factor(H, ld, q)) break;
    }
    solve_transposed(H, ld, q);
    int unknown = 0;
    for (int k = thread(); k < count; k += kThreads) {
      for (int i = 0; i < s; ++i) {
        const double value = change()[k * s + i];
        step[active(k) * s + i] = value;
        if (!std::isfinite(value)) unknown = 1;
      }
    }
    return block_max<kThreads>(unknown) == 0;
  }

  /// Puts those of the first `count` groups in the list that a step does not take past 0 before the others. @return their number
  __device__ __forceinline__ int sort_that_stay(int count, const double* step) const {
    const auto stays = [&](int k) {
      const int p = active(k);
      return product(code() + p * s, step + p * s) > -length(p) * length(p);
    };
    const int left = block_compact<kThreads>(count, stays, [&](int place, int k) { sorted(place) = active(k); });
    if (left == count) return count;
    block_compact<kThreads>(
        count, [&](int k) { return !stays(k); }, [&](int place, int k) { sorted(left + place) = active(k); });
    for (int k = thread(); k < count; k += kThreads) active(k) = sorted(k);
    __syncthreads();
    return left;
  }

  // ---- the objective along a step, less what it is at its beginning: F(a) = a^2 / 2 step'G step - a slope + what bends ---

  struct Line {
    int all;
    double square, slope;
  };
  /// `change` is -G step after it.
  __device__ __forceinline__ Line line(int all, const double* step) const {
    const double square = multiply(all, step);
    double slope = 0;
    for (int k = thread(); k < all; k += kThreads) {
      const int p = active(k);
      const double* const d = step + p * s;
      for (int i = 0; i < s; ++i) slope = std::fma(aside_of(p, i), d[i], slope);
      const double out = product(code() + p * s, d) / length(p);
      radial(k) = out;
      across(k) = fmax(0.0, product(d, d) - out * out);
    }
    return {all, square, block_sum<kThreads>(slope)};
  }
  __device__ __forceinline__ GroupOnLine on_line(int k) const {
    return {threshold(active(k)), length(active(k)), radial(k), across(k)};
  }
  __device__ __forceinline__ double change_at(const Line& line, double a) const {
    double sum = 0;
    for (int k = thread(); k < line.all; k += kThreads) sum += change_along(on_line(k), a);
    return a * (a / 2 * line.square - line.slope) + block_sum<kThreads>(sum);
  }
  /// A little before its lowest point: it is convex, and rises from there on.
  __device__ __forceinline__ double lowest(const Line& line) const {
    double low = 0, high = 1;
    for (int time = 0; time < GroupRules::kHalvings && high - low > GroupRules::kNearLowest * high; ++time) {
      const double middle = (low + high) / 2;
      double sum = 0;
      for (int k = thread(); k < line.all; k += kThreads) sum += slope_along(on_line(k), middle);
      const bool rises = middle * line.square - line.slope + block_sum<kThreads>(sum) > 0;
      (rises ? high : low) = middle;
    }
    return low;
  }

  /// A step of Newton's on S, if there is one that descends. @return whether it was taken whole
  __device__ __forceinline__ bool newton(double lift) {
    const int all = block_compact<kThreads>(
        groups, [&](int p) { return length(p) > 0; }, [&](int place, int p) { active(place) = p; });
    ++steps;
    if (all == 0) return false;

    // Groups that would pass 0 stop there, and the others have the step that suits that, until none would pass.
    double* step = first();
    for (int count = all;; step = second()) {
      if (!model_step(count, all, lift, step)) return false;
      const int left = sort_that_stay(count, step);
      if (left == count) break;
      count = left;
    }

    // That whole where it brings enough, else the better of it and the straight step to its lowest point.
    double promised = 0, part = 1;
    for (int k = thread(); k < all; k += kThreads)
      for (int i = 0; i < s; ++i) promised = std::fma(aside_of(active(k), i), first()[active(k) * s + i], promised);
    promised = block_sum<kThreads>(promised);
    const double gained = change_at(line(all, step), 1);
    if (!(gained <= -GroupRules::kEnough * promised)) {
      const Line straight = line(all, first());
      const double nearest = lowest(straight);
      const double descent = change_at(straight, nearest);
      if (step == first() || !(gained <= descent)) {
        part = nearest;
        step = first();
        if (!(descent < 0)) return false;
      } else {
        if (!(gained < 0)) return false;
        multiply(all, step);
      }
    }
    for (int k = thread(); k < all; k += kThreads) {
      const int p = active(k);
      for (int i = p * s; i < (p + 1) * s; ++i) code()[i] += part * step[i];
      settle_length(p);
    }
    for (int i = thread(); i < size; i += kThreads) correlation()[i] += part * change()[i];
    __syncthreads();
    return part == 1;
  }

  __device__ __forceinline__ int support() const {
    int count = 0;
    for (int p = thread(); p < groups; p += kThreads) count += length(p) > 0 ? 1 : 0;
    return block_sum<kThreads>(count);
  }

  /// GroupSet::solve.
  __device__ __forceinline__ ActiveSetsOutcome solve(double tolerance, int last_step) {
    double nearest = INFINITY, lift = GroupRules::kLift;
    int before = -1, idle = 0;
    bool whole = false;
    for (;;) {
      sweep(tolerance);
      const double left = farthest();
      if (left <= tolerance) return kSetsSolved;
      // Whole steps that nothing holds back, with the same groups in use, come nearer and nearer, but for rounding.
      const int now = support();
      const bool nearer = left <= nearest / 2;
      idle = whole && lift == GroupRules::kLift && now == before && !nearer ? idle + 1 : 0;
      if (idle == GroupRules::kIdleSteps || steps >= last_step) return kSetsStuck;
      nearest = left;
      before = now;
      whole = newton(lift);
      lift = whole ? fmax(lift / GroupRules::kLiftFactor, GroupRules::kLift)
                   : fmin(fmax(GroupRules::kFirstLift, lift * GroupRules::kLiftFactor), GroupRules::kLargestLift);
    }
  }
};

__device__ __forceinline__ double threshold_of(const PenaltyView<double>& penalty, double lambda, std::int64_t group) {
  constexpr double kLeast = 2.2250738585072014e-308;  // thresholds divide
  return fmax(lambda, kLeast) * (penalty.weights.data != nullptr ? penalty.weights[group] : 1.0);
}

/// The list of atoms that are in use. @return their number
__device__ __forceinline__ int list_active(const double* code, int size, std::int32_t* active) {
  return block_compact<kThreads>(
      size, [=](int i) { return code[i] != 0; }, [=](int place, int i) { active[place] = i; });
}

// The first launch writes down the others' places, as ~tier in their outcome: supports change, and each is solved once.
__global__ void __launch_bounds__(kThreads, 4)
    solve_kernel(int tier, bool first, GroupBasisView basis, const std::int32_t* places, const double* lambda,
                 const double* tolerance, int max_steps, ActiveSets sets, PenaltyView<double> penalty) {
  const std::int64_t p = places[blockIdx.x];
  if (tolerance[p] < 0) return;  // the whole block, here and below
  const int size = sets.size[p];
  const std::int64_t vectors = vector_doubles(sets.capacity, penalty.group_size);
  const int its_tier = first ? tier_of(vectors, size, sets.support[p]) : ~sets.outcome[p];
  if (its_tier != tier) {
    if (first && threadIdx.x == 0) sets.outcome[p] = ~its_tier;
    return;
  }
  BlockGroups set;
  set.rows = dynamic_shared<double>();
  set.inside = set.rows + vectors;
  set.room = tier_room(tier);
  set.G = sets.gram.column(p);
  set.home = sets.inverse.column(p);
  set.atom = sets.atom.column(p);
  set.vectors = basis.vectors.data;
  set.values = basis.values.data;
  set.s = static_cast<int>(penalty.group_size);
  set.capacity = static_cast<int>(sets.capacity);
  set.size = size;
  set.groups = size / set.s;
  set.steps = sets.steps[p];
  set.ridge = penalty.ridge;
  const int thread = BlockGroups::thread();
  for (int i = thread; i < size; i += kThreads) {
    set.code()[i] = sets.code.column(p)[i];
    set.correlation()[i] = sets.correlation.column(p)[i];
  }
  __syncthreads();
  for (int g = thread; g < set.groups; g += kThreads) {
    set.threshold(g) = threshold_of(penalty, lambda[p], set.atom[g * set.s] / set.s);
    set.settle_length(g);
  }
  __syncthreads();

  const ActiveSetsOutcome outcome = set.solve(tolerance[p], set.steps + max_steps);

  for (int i = thread; i < size; i += kThreads) {
    sets.code.column(p)[i] = set.code()[i];
    sets.correlation.column(p)[i] = set.correlation()[i];
  }
  const int support = list_active(set.code(), size, sets.active.column(p));
  if (thread == 0) {
    sets.support[p] = support;
    sets.steps[p] = set.steps;
    sets.outcome[p] = outcome;
  }
}

__global__ void __launch_bounds__(kThreads, 5)
    start_kernel(AtomOperands in, const std::int32_t* places, const double* lambda, std::int32_t* start,
                 ActiveSets sets, PenaltyView<double> penalty) {
  const std::int64_t p = places[blockIdx.x];
  const int count = start[p];
  if (count <= 0 || count > sets.capacity) return;  // the whole block
  add_to_set<kThreads, false>(in, p, 0, sets.atom.column(p), count, sets);
  __syncthreads();
  const double* const G = sets.gram.column(p);
  double* const code = sets.code.column(p);
  double* const correlation = sets.correlation.column(p);
  const int s = static_cast<int>(penalty.group_size);
  // F(z) - F(0) = lambda sum w_g ||z_g|| - 1/2 z'(D'x) - 1/2 z'(D'r - ridge z)
  const auto told = [&](int i) {
    double sum = correlation[i];
    for (int k = 0; k < count; ++k) sum = std::fma(-G[i + k * sets.capacity], code[k], sum);
    return sum;
  };
  double more = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads)
    more -= 0.5 * code[i] * (correlation[i] + told(i));
  for (int g = static_cast<int>(threadIdx.x); g < count / s; g += kThreads) {
    double square = 0;
    for (int i = g * s; i < (g + 1) * s; ++i) square = std::fma(code[i], code[i], square);
    if (square > 0) more += threshold_of(penalty, lambda[p], sets.atom.column(p)[g * s] / s) * std::sqrt(square);
  }
  const bool started = block_sum<kThreads>(more) <= 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    if (started)
      correlation[i] = told(i);
    else
      code[i] = 0;  // nobody asks for another's any more
  }
  __syncthreads();
  const int support = list_active(code, count, sets.active.column(p));
  if (threadIdx.x == 0) {
    sets.support[p] = support;
    start[p] = 0;
  }
}

}  // namespace

// ---- launchers ---------------------------------------------------------------------------------------------------

void start_group_sets(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
                      MatrixView<const double> R, VectorView<const std::int32_t> places,
                      VectorView<const double> lambda, VectorView<std::int32_t> start, const ActiveSets& sets,
                      const PenaltyView<double>& penalty) {
  launch(start_kernel, dim3(grid_size(places.size, "start_group_sets")), dim3(kThreads), 0, context.stream(),
         AtomOperands{D, gram, R, penalty.ridge}, places.data, lambda.data, start.data, sets, penalty);
}

void solve_group_sets(const Context& context, const GroupBasisView& basis, VectorView<const std::int32_t> places,
                      VectorView<const double> lambda, VectorView<const double> tolerance, std::int64_t max_steps,
                      const ActiveSets& sets, const PenaltyView<double>& penalty) {
  const std::int64_t vectors = vector_doubles(sets.capacity, penalty.group_size);
  SHRINKWARP_REQUIRE(tier_bytes(vectors, kTiers - 1) <= kSharedBytes, ValueError, "solve_group_sets: capacity is ",
                     sets.capacity, ", wanted vectors of at most ", kSharedBytes, " bytes, ",
                     tier_bytes(vectors, kTiers - 1), " found");
  // Steps are counted in 32 bits; no place gets near so many.
  constexpr std::int64_t kMostSteps = std::int64_t{1} << 20;
  bool first = true;
  for (int tier = 0; tier < kTiers; ++tier) {
    const std::int64_t bytes = tier_bytes(vectors, tier);
    if (bytes > kSharedBytes) continue;  // no place belongs to it
    launch(solve_kernel, dim3(grid_size(places.size, "solve_group_sets")), dim3(kThreads),
           static_cast<std::size_t>(bytes), context.stream(), tier, first, basis, places.data, lambda.data,
           tolerance.data, static_cast<int>(max_steps < kMostSteps ? max_steps : kMostSteps), sets, penalty);
    first = false;
  }
}

}  // namespace shrinkwarp::cuda
