// CUDA body of working_set: a block a problem.
//
// Story, medium lead field (n 302, m 6138, 768 panels) on an H100, on paper. A look reads a problem's 3 KB of keys some 40
// times from L1 to find the 16 to 64 highest panels by bits: 10 us of a block, 10 ns a problem with a dozen blocks on each
// multiprocessor. Near the end 30 to 100 panels are open: their atoms in half precision are 5 KB a panel, and float64 columns
// of the 20 to 150 atoms that their own bound leaves open 2.4 KB each, 300 to 900 KB from L2: 50 to 160 ns. Residuals read 31
// to 160 KB of columns. All of it is bound by L2, none by arithmetic.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/ptx.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/working_set/working_set.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;

// The CPU's solver has the same rules (models/lasso/working_set_pool.hpp, atom_pool.cpp and, for groups, group_pool.cpp).
constexpr int kFirstAtoms = 16;
constexpr int kFirstGroups = 8;
constexpr double kGrowth = 0.8;
constexpr double kLookFrom = 0.999;
constexpr double kFarOver = 1.1;
constexpr int kIdleRounds = 2;
constexpr double kLeastTolerance = 1e-12, kLeastGroupTolerance = 1e-14;
constexpr double kLoose = 0.1;
constexpr double kLargestLambda = 1e30;

__device__ __forceinline__ double dot(const double* a, const double* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x % kWarpSize; i < n; i += kWarpSize) sum = std::fma(a[i], b[i], sum);
  return warp_sum(sum);
}

// ---- problems come in --------------------------------------------------------------------------------------------

/// @tparam kStarts  some of them start at codes
template <bool kStarts>
__global__ void __launch_bounds__(kThreads)
    admit_kernel(MatrixView<const double> X, const std::int32_t* places, const double* lambda, double dictionary_scale,
                 WorkingSetProblems problems, ActiveSets sets, StartCodes starts) {
  const std::int64_t p = places[blockIdx.x];
  const double* const x = X.data + blockIdx.x * X.ld;
  double largest = 0;
  for (std::int64_t i = threadIdx.x; i < X.rows; i += kThreads) largest = fmax(largest, std::fabs(x[i]));
  largest = block_max<kThreads>(largest);
  const double scale = largest > 0 ? ldexp(1.0, ilogb(largest)) : 1.0;
  double energy = 0;
  for (std::int64_t i = threadIdx.x; i < X.rows; i += kThreads) {
    const double value = x[i] / scale;
    problems.x.column(p)[i] = problems.r.column(p)[i] = value;
    energy = std::fma(value, value, energy);
  }
  energy = block_sum<kThreads>(energy);
  if constexpr (kStarts) {
    const int start = starts.count[blockIdx.x];
    const double unit = dictionary_scale / scale;
    const std::int64_t first = starts.first[blockIdx.x];
    for (int k = threadIdx.x; k < start && start <= sets.capacity; k += kThreads) {
      sets.atom.column(p)[k] = starts.indices[first + k];
      sets.code.column(p)[k] = starts.values[first + k] * unit;
    }
    if (threadIdx.x == 0) problems.start[p] = start;
  }
  if (threadIdx.x != 0) return;
  if constexpr (!kStarts) problems.start[p] = 0;
  problems.weighted[p] = problems.squares[p] = 0;
  const double given = lambda[blockIdx.x];
  problems.scale[p] = scale;
  problems.energy[p] = energy / 2;
  problems.lambda[p] = given < 0 ? -1.0 : fmin(given / scale / dictionary_scale, kLargestLambda);
  problems.magnitude[p] = problems.primal[p] = problems.gap[p] = problems.tolerance[p] = 0;
  problems.state[p] = kProblemRuns;
  problems.support[p] = problems.iterations[p] = problems.fresh_count[p] = problems.idle[p] = 0;
  sets.size[p] = sets.support[p] = sets.steps[p] = sets.outcome[p] = 0;
  sets.largest[p] = 0;
}

// ---- a pass is looked at -----------------------------------------------------------------------------------------

/// What look_kernel reads beside the problems.
struct Look {
  MatrixView<const double> D;
  MatrixView<const std::uint16_t> half, residuals;      // [K, padded]
  const float *factor, *length, *rounding;              // of atoms
  const float *its_factor, *its_length, *its_rounding;  // of residuals
  float accumulation;
  MatrixView<std::uint32_t> keys;
  const std::int32_t* places;
  LookRules rules;
  PenaltyView<double> penalty;
  int group_columns;  // of half
};

/// What is compared with lambda: |d_j'r| or, under a penalty, of c = d_j'r - ridge z_j.
template <bool kPlain>
__device__ __forceinline__ double over(const Look& in, std::int64_t atom, double c) {
  if constexpr (kPlain) return std::fabs(c);
  const double divided = in.penalty.weights.data != nullptr ? c / in.penalty.weights[atom] : c;
  return in.penalty.nonnegative ? divided : std::fabs(divided);
}

/// |d_j'r| / w_j can be so large: from the halves once more, for one column by a warp.
__device__ __forceinline__ double column_bound(const Look& in, std::int64_t column, std::int64_t b) {
  const unsigned* const d = reinterpret_cast<const unsigned*>(in.half.data + column * in.half.ld);
  const unsigned* const r = reinterpret_cast<const unsigned*>(in.residuals.data + b * in.residuals.ld);
  float sum = 0;
  for (int w = static_cast<int>(threadIdx.x % kWarpSize); w < in.half.rows / 2; w += kWarpSize) {
    const unsigned x = d[w], y = r[w];
    sum =
        std::fma(float_from_half(static_cast<unsigned short>(x)), float_from_half(static_cast<unsigned short>(y)), sum);
    sum = std::fma(float_from_half(static_cast<unsigned short>(x >> 16)),
                   float_from_half(static_cast<unsigned short>(y >> 16)), sum);
  }
  sum = warp_sum(sum);
  const double c = std::fabs(static_cast<double>(sum)) * static_cast<double>(in.factor[column]) *
                   static_cast<double>(in.its_factor[b]);
  const double length = static_cast<double>(in.length[column]);
  const double rounding = static_cast<double>(in.rounding[column]) + static_cast<double>(in.accumulation) * length;
  return c + rounding * static_cast<double>(in.its_length[b]) + length * static_cast<double>(in.its_rounding[b]);
}

/// One problem's keys and working set, in a block. Both speak of atoms, or where the penalty has groups of these.
template <bool kPlain, bool kGrouped>
struct BlockLook {
  const Look& in;
  std::uint32_t* keys;
  int panels;
  const std::uint32_t* in_set;  // a bit an atom or group, in shared memory
  const ActiveSets& sets;
  std::int64_t p, b;  // its place, and its column in the pass
  int size;           // |W| in atoms

  __device__ __forceinline__ int group_size() const { return kGrouped ? static_cast<int>(in.penalty.group_size) : 1; }
  __device__ __forceinline__ int members() const { return static_cast<int>(in.D.cols) / group_size(); }
  /// Members of a panel.
  __device__ __forceinline__ int per_panel() const {
    constexpr int kAtoms = static_cast<int>(kPanelAtoms);
    if constexpr (!kGrouped) return kAtoms;
    return in.group_columns < kAtoms ? kAtoms / in.group_columns : 1;
  }

  /// Where groups take several panels: a key a group, of the panels' norms.
  __device__ void join_parts() {
    const int parts = in.group_columns / static_cast<int>(kPanelAtoms);
    constexpr std::uint32_t kMost = 0x7f7ffff8u;
    for (int first = 0; first < members(); first += kThreads) {
      const int g = first + static_cast<int>(threadIdx.x);
      double square = 0;
      for (int part = 0; part < parts && g < members(); ++part) {
        const double norm = static_cast<double>(__uint_as_float(keys[g * parts + part] & ~7u));
        square = std::fma(norm, norm, square);
      }
      const std::uint32_t key = (__float_as_uint(__double2float_ru(std::sqrt(square) * (1 + 1e-12))) + 7u) & ~7u;
      __syncthreads();  // keys are read at their places and later ones
      if (g < members()) keys[g] = key < kMost ? key : kMost;
      __syncthreads();
    }
    panels = members();
  }

  __device__ int count_from(std::uint32_t floor) const {
    int count = 0;
    for (int q = threadIdx.x; q < panels; q += kThreads) count += keys[q] >= floor ? 1 : 0;
    return block_sum<kThreads>(count);
  }
  /// The k-th largest key, 0 where there are fewer.
  __device__ std::uint32_t kth_largest(int k) const {
    std::uint32_t found = 0;
    for (int bit = 30; bit >= 0; --bit) {
      const std::uint32_t candidate = found | 1u << bit;
      if (count_from(candidate) >= k) found = candidate;
    }
    return found;
  }
  __device__ bool holds(std::int64_t member) const { return (in_set[member / 32] >> (member % 32) & 1u) != 0; }
  /// Whether any member of a panel is in W.
  __device__ bool holds_some(int panel) const {
    const int first = panel * per_panel();  // a panel lies within a word
    return (in_set[first / 32] >> (first % 32) & ((1u << per_panel()) - 1u)) != 0;
  }

  /// The members of keys from `floor` on, in the order of panels: their atoms to `fresh`, at most those of `most` of them. The
  /// number of these.
  __device__ int members_from(std::uint32_t floor, std::int32_t* fresh, int most) const {
    const auto member = [&](int q) {
      return static_cast<std::int64_t>(q) * per_panel() + keys[q] % static_cast<std::uint32_t>(kPanelAtoms);
    };
    const auto wanted = [&](int q) {
      const std::uint32_t key = keys[q];
      if (key == 0 || key < floor || member(q) >= members() || holds(member(q))) return false;
      if constexpr (!kPlain)
        if (in.penalty.weights.data != nullptr) return std::isfinite(in.penalty.weights[member(q)]);
      return true;
    };
    const int count = block_compact<kThreads>(panels, wanted, [&](int place, int q) {
      const int s = group_size();
      for (int i = 0; i < s && place < most; ++i) fresh[place * s + i] = static_cast<std::int32_t>(member(q) * s + i);
    });
    return count < most ? count : most;
  }

  /// What is compared with lambda can be so large. By a warp.
  __device__ __forceinline__ double bound(std::int64_t member) const {
    if constexpr (!kGrouped) return column_bound(in, member, b);
    double square = 0;
    for (int i = 0; i < group_size(); ++i) {
      const double most = column_bound(in, member * in.group_columns + i, b);
      square = std::fma(most, most, square);
    }
    return std::sqrt(square) * (1 + 1e-12);
  }

  /// Where a member of W lies in it, -1 for others. By a warp.
  __device__ __forceinline__ int position_of(std::int64_t member) const {
    if (!holds(member)) return -1;
    const int s = group_size();
    int position = -1;
    for (int i = static_cast<int>(threadIdx.x) % kWarpSize * s; i < size; i += kWarpSize * s)
      if (sets.atom.column(p)[i] / s == member) position = i;
    return warp_max(position);
  }

  /// What it is, in float64; where its position in W is >= 0, correlations there are told, of which a ridge takes its share. By a
  /// warp.
  __device__ __forceinline__ double exactly(std::int64_t member, int position, const double* r) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int s = group_size();
    double square = 0, value = 0;
    for (int i = 0; i < s; ++i) {
      const std::int64_t atom = member * s + i;
      double correlation = dot(in.D.data + atom * in.D.ld, r, in.D.rows);
      if (position >= 0) {
        if constexpr (!kPlain) correlation -= in.penalty.ridge * sets.code.column(p)[position + i];
        if (lane == 0) sets.correlation.column(p)[position + i] = correlation;
      }
      if constexpr (kGrouped)
        square = std::fma(correlation, correlation, square);
      else
        value = over<kPlain>(in, atom, correlation);
    }
    if constexpr (kGrouped)
      value = std::sqrt(square) / (in.penalty.weights.data != nullptr ? in.penalty.weights[member] : 1.0);
    return value;
  }
};

/// @tparam kPlain    the penalty is, and no problem waits to start at a code
/// @tparam kGrouped  the penalty is: a working set grows by groups
template <bool kPlain, bool kGrouped>
__global__ void __launch_bounds__(kThreads, kPlain ? 6 : 5)
    look_kernel(Look in, WorkingSetProblems problems, ActiveSets sets) {
  const std::int64_t b = blockIdx.x;
  const std::int64_t p = in.places[b];
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  std::uint32_t* const in_set = dynamic_shared<std::uint32_t>();
  SHRINKWARP_SHARED_ARRAY(double, sums, 3);
  const int size = sets.size[p], support = sets.support[p];
  const std::int32_t* const atoms = sets.atom.column(p);
  BlockLook<kPlain, kGrouped> look{in, in.keys.column(b), static_cast<int>(in.keys.rows), in_set, sets, p, b, size};
  const int s = look.group_size(), members = look.members(), per_panel = look.per_panel();
  const int words = (members + 31) / 32;
  for (int w = threadIdx.x; w < words; w += kThreads) in_set[w] = 0;
  __syncthreads();
  for (int i = threadIdx.x * s; i < size; i += kThreads * s) {
    const int member = atoms[i] / s;
    atomicOr(&in_set[member / 32], 1u << member % 32);
  }
  __syncthreads();
  if constexpr (kGrouped)
    if (in.group_columns > static_cast<int>(kPanelAtoms)) look.join_parts();
  const double* const x = problems.x.column(p);
  const double* const r = problems.r.column(p);
  const std::int64_t n = in.D.rows;
  const int start = kPlain ? 0 : problems.start[p];

  // lambda_max: exact for the member of the highest key, then for all that may have more.
  double lambda = problems.lambda[p];
  if (lambda < 0) {
    const std::uint32_t highest = look.kth_largest(1);
    int panel = 0x7fffffff;
    for (int q = threadIdx.x; q < look.panels; q += kThreads)
      if (look.keys[q] == highest && q < panel) panel = q;
    panel = block_min<kThreads>(panel);
    const std::int64_t best =
        static_cast<std::int64_t>(panel) * per_panel + highest % static_cast<std::uint32_t>(kPanelAtoms);
    double low = best < members ? look.exactly(best, -1, r) : 0.0;
    if constexpr (!kPlain) low = fmax(low, 0.0);
    double most = low;
    for (int q = warp; q < look.panels; q += kWarps) {
      if (static_cast<double>(__uint_as_float(look.keys[q])) < low) continue;
      for (int a = 0; a < per_panel; ++a) {
        const std::int64_t j = static_cast<std::int64_t>(q) * per_panel + a;
        if (j >= members || look.bound(j) < low) continue;
        most = fmax(most, look.exactly(j, -1, r));
      }
    }
    lambda = fmin(in.rules.fraction * block_max<kThreads>(most), kLargestLambda);
  }

  const int iteration = problems.iterations[p];
  const bool last = iteration >= in.rules.max_iterations;
  const int grown = static_cast<int>(kGrowth * support) / s;
  const int most_new = static_cast<int>(problems.fresh.rows) / s;
  constexpr int kFirst = kGrouped ? kFirstGroups : kFirstAtoms;
  const int first = kFirst < most_new ? kFirst : most_new;
  const int wanted = size == 0 || grown < first ? first : grown > most_new ? most_new : grown;
  std::int32_t* const fresh = problems.fresh.column(p);
  std::int32_t state = kProblemRuns;
  int fresh_count = 0;  // members
  double primal = 0, gap = 0, energy = 0;
  const bool magnitude_counts = kPlain || (!kGrouped && in.penalty.weights.data == nullptr);
  const double weighted = magnitude_counts ? problems.magnitude[p] : problems.weighted[p];

  const std::uint32_t far_over = __float_as_uint(static_cast<float>(kFarOver * lambda));
  const bool many = start == 0 && !last && lambda > 0 && look.count_from(far_over) >= wanted;
  if (many) fresh_count = look.members_from(look.kth_largest(wanted), fresh, most_new);
  if (start == 0 && (!many || (size > 0 && (fresh_count == 0 || fresh_count < wanted / 2)))) {
    // Where nothing is chosen yet the highest panels will be wanted, if this is not the end.
    const std::uint32_t highest = size == 0 ? look.kth_largest(wanted) : 0;
    const int first_count = size == 0 ? look.members_from(highest, fresh, most_new) : 0;
    const double from = kLookFrom * lambda;
    double most = from;
    for (int q = warp; q < look.panels; q += kWarps) {
      std::uint32_t violator = 0;
      // What a ridge takes from correlations of W the bounds do not know.
      const bool with_ridge = !kPlain && in.penalty.ridge > 0;
      if (static_cast<double>(__uint_as_float(look.keys[q])) >= from || (with_ridge && look.holds_some(q))) {
        for (int a = 0; a < per_panel; ++a) {
          const std::int64_t j = static_cast<std::int64_t>(q) * per_panel + a;
          if (j >= members || (look.bound(j) < from && !(with_ridge && look.holds(j)))) continue;
          const int position = look.position_of(j);
          const double value = look.exactly(j, position, r);
          most = fmax(most, value);
          if (position < 0 && value > lambda) {
            const std::uint32_t key =
                ((__float_as_uint(static_cast<float>(value)) + 7u) & ~7u) | static_cast<std::uint32_t>(a);
            violator = violator > key ? violator : key;
          }
        }
      }
      __syncwarp(kFullMask);
      if (lane == 0) look.keys[q] = violator;
    }
    most = block_max<kThreads>(most);
    if (warp == 0) {
      const double own = dot(r, r, n), along = dot(x, r, n);
      if (lane == 0) {
        sums[0] = own;
        sums[1] = along;
      }
    }
    __syncthreads();
    energy = problems.energy[p];
    const double magnitude = problems.magnitude[p], reach = in.rules.atom_norm * magnitude;
    if constexpr (kPlain) {
      primal = sums[0] / 2 + lambda * magnitude;
      gap = gap_at_best_scale(primal, sums[0], sums[1], most, lambda, reach);
    } else {
      const double own = in.penalty.ridge > 0 ? sums[0] + in.penalty.ridge * problems.squares[p] : sums[0];
      primal = own / 2 + lambda * weighted;
      gap = gap_under_penalty(primal, own, sums[1], most, lambda, reach, in.penalty.nonnegative);
    }
    if (gap <= in.rules.gap * energy || last)
      state = kProblemDone;
    else
      fresh_count = size == 0 ? first_count : look.members_from(look.kth_largest(wanted), fresh, most_new);
  }
  // Groups that are stuck in a solve come nearer in the next.
  const bool stuck = !kGrouped && sets.outcome[p] == kSetsStuck;
  int idle = fresh_count == 0 || stuck ? problems.idle[p] + 1 : 0;
  if constexpr (!kPlain) idle = start > 0 ? 0 : idle;
  if (state == kProblemRuns && idle > kIdleRounds) state = kProblemStuck;
  if (state == kProblemRuns && size + fresh_count * s + start > sets.capacity) state = kProblemFull;
  const double room = fmax(lambda * weighted, 1e-300);
  double tolerance = fmax(kGrouped ? kLeastGroupTolerance : kLeastTolerance,
                          fmin(0.2 * in.rules.gap * problems.energy[p] / room, 1e-3));
  if constexpr (kGrouped) {  // while groups are missing, W is solved to a share of what the furthest is over lambda by
    std::uint32_t furthest = 0;
    for (int q = threadIdx.x; q < look.panels; q += kThreads) {
      const std::int64_t member =
          static_cast<std::int64_t>(q) * per_panel + look.keys[q] % static_cast<std::uint32_t>(kPanelAtoms);
      if (member < members && !look.holds(member)) furthest = look.keys[q] > furthest ? look.keys[q] : furthest;
    }
    furthest = block_max<kThreads>(furthest);
    if (fresh_count > 0) {
      const double excess = static_cast<double>(__uint_as_float(furthest)) / lambda - 1;
      tolerance = fmax(tolerance, fmin(kLoose, kLoose * excess));
    }
  }
  __syncthreads();  // all have read what is written now
  if (threadIdx.x != 0) return;
  const bool runs = state == kProblemRuns;
  problems.lambda[p] = lambda;
  problems.state[p] = state;
  problems.support[p] = support;
  problems.primal[p] = primal;
  problems.gap[p] = gap;
  problems.iterations[p] = iteration + (runs && start == 0 ? 1 : 0);
  problems.idle[p] = idle;
  problems.fresh_count[p] = runs ? fresh_count * s : 0;
  problems.tolerance[p] = runs ? tolerance : -1.0;
}

// ---- residuals ---------------------------------------------------------------------------------------------------

template <bool kPlain>
__global__ void __launch_bounds__(kThreads)
    residual_kernel(MatrixView<const double> D, const std::int32_t* places, WorkingSetProblems problems,
                    ActiveSets sets, PenaltyView<double> penalty) {
  const std::int64_t p = places[blockIdx.x];
  if (problems.state[p] != kProblemRuns) return;  // the whole block
  const int support = sets.support[p];
  const std::int32_t* const active = sets.active.column(p);
  const std::int32_t* const atom = sets.atom.column(p);
  const double* const code = sets.code.column(p);
  for (std::int64_t i = threadIdx.x; i < D.rows; i += kThreads) {
    double sum = problems.x.column(p)[i];
#pragma unroll 4
    for (int k = 0; k < support; ++k) {
      const std::int32_t position = active[k];
      sum = std::fma(-code[position], D.data[i + atom[position] * D.ld], sum);
    }
    problems.r.column(p)[i] = sum;
  }
  double magnitude = 0;
  for (int k = threadIdx.x; k < support; k += kThreads) magnitude += std::fabs(code[active[k]]);
  magnitude = block_sum<kThreads>(magnitude);
  if (threadIdx.x == 0) problems.magnitude[p] = magnitude;
  if constexpr (!kPlain) {
    const int s = static_cast<int>(penalty.group_size);
    double weighted = 0, squares = 0;
    for (int k = threadIdx.x; k < support; k += kThreads) {
      const double z = code[active[k]];
      if (s == 1 && penalty.weights.data != nullptr)
        weighted = std::fma(penalty.weights[atom[active[k]]], std::fabs(z), weighted);
      squares = std::fma(z, z, squares);
    }
    for (int g = threadIdx.x; s > 1 && g < sets.size[p] / s; g += kThreads) {
      double square = 0;
      for (int i = g * s; i < (g + 1) * s; ++i) square = std::fma(code[i], code[i], square);
      const double weight = penalty.weights.data != nullptr ? penalty.weights[atom[g * s] / s] : 1.0;
      if (square > 0) weighted = std::fma(weight, std::sqrt(square), weighted);
    }
    weighted = block_sum<kThreads>(weighted);
    squares = block_sum<kThreads>(squares);
    if (threadIdx.x == 0) {
      problems.weighted[p] = weighted;
      problems.squares[p] = squares;
    }
  }
}

// ---- codes leave -------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(kThreads)
    collect_kernel(const std::int32_t* places, const std::int64_t* offsets, double dictionary_scale,
                   WorkingSetProblems problems, ActiveSets sets, std::int32_t* indices, double* values) {
  const std::int64_t p = places[blockIdx.x];
  const int support = sets.support[p];
  const std::int32_t* const active = sets.active.column(p);
  const std::int32_t* const atom = sets.atom.column(p);
  const double unit = problems.scale[p] / dictionary_scale;
  for (int k = threadIdx.x; k < support; k += kThreads) {
    const std::int32_t position = active[k];
    const std::int32_t j = atom[position];
    int before = 0;
    for (int other = 0; other < support; ++other) before += atom[active[other]] < j ? 1 : 0;
    indices[offsets[blockIdx.x] + before] = j;
    values[offsets[blockIdx.x] + before] = sets.code.column(p)[position] * unit;
  }
}

}  // namespace

// ---- launchers ---------------------------------------------------------------------------------------------------

void admit_problems(const Context& context, MatrixView<const double> X, VectorView<const std::int32_t> places,
                    VectorView<const double> lambda, double dictionary_scale, const WorkingSetProblems& problems,
                    const ActiveSets& sets, const StartCodes& starts) {
  launch(starts.count.empty() ? admit_kernel<false> : admit_kernel<true>,
         dim3(grid_size(places.size, "admit_problems")), dim3(kThreads), 0, context.stream(), X, places.data,
         lambda.data, dictionary_scale, problems, sets, starts);
}

void look_at_bounds(const Context& context, MatrixView<const double> D, const HalfColumns& half,
                    const HalfColumns& residuals, MatrixView<std::uint32_t> keys, VectorView<const std::int32_t> places,
                    const LookRules& rules, const WorkingSetProblems& problems, const ActiveSets& sets,
                    const PenaltyView<double>& penalty, const HalfBounds& atoms) {
  const Look in{D,
                half.values(),
                residuals.values(),
                atoms.factor.data,
                atoms.length.data,
                atoms.rounding.data,
                residuals.factor().data,
                residuals.length().data,
                residuals.rounding().data,
                panel_accumulation(half),
                keys,
                places.data,
                rules,
                penalty,
                static_cast<int>(group_columns(penalty.group_size))};
  const auto kernel = penalty.grouped()                  ? look_kernel<false, true>
                      : penalty.plain() && !rules.starts ? look_kernel<true, false>
                                                         : look_kernel<false, false>;
  launch(kernel, dim3(grid_size(places.size, "look_at_bounds")), dim3(kThreads),
         static_cast<std::size_t>(ceil_div(D.cols / penalty.group_size, 32)) * sizeof(std::uint32_t), context.stream(),
         in, problems, sets);
}

void update_residuals(const Context& context, MatrixView<const double> D, VectorView<const std::int32_t> places,
                      const WorkingSetProblems& problems, const ActiveSets& sets, const PenaltyView<double>& penalty) {
  launch(penalty.plain() ? residual_kernel<true> : residual_kernel<false>,
         dim3(grid_size(places.size, "update_residuals")), dim3(kThreads), 0, context.stream(), D, places.data,
         problems, sets, penalty);
}

void collect_codes(const Context& context, VectorView<const std::int32_t> places,
                   VectorView<const std::int64_t> offsets, double dictionary_scale, const WorkingSetProblems& problems,
                   const ActiveSets& sets, VectorView<std::int32_t> indices, VectorView<double> values) {
  launch(collect_kernel, dim3(grid_size(places.size, "collect_codes")), dim3(kThreads), 0, context.stream(),
         places.data, offsets.data, dictionary_scale, problems, sets, indices.data, values.data);
}

}  // namespace shrinkwarp::cuda
