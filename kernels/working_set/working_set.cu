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

// The CPU's solver has the same rules (models/lasso/working_set.cpp).
constexpr int kFirstAtoms = 16;
constexpr double kGrowth = 0.8;
constexpr double kLookFrom = 0.999;
constexpr double kFarOver = 1.1;
constexpr int kIdleRounds = 2;
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
};

/// What is compared with lambda: |d_j'r| or, under a penalty, of c = d_j'r - ridge z_j.
template <bool kPlain>
__device__ __forceinline__ double over(const Look& in, std::int64_t atom, double c) {
  if constexpr (kPlain) return std::fabs(c);
  const double divided = in.penalty.weights.data != nullptr ? c / in.penalty.weights[atom] : c;
  return in.penalty.nonnegative ? divided : std::fabs(divided);
}

/// One problem's keys and working set, in a block.
template <bool kPlain>
struct BlockLook {
  const Look& in;
  std::uint32_t* keys;
  int panels;
  const std::uint32_t* in_set;  // a bit an atom, in shared memory

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
  __device__ bool holds(std::int64_t atom) const { return (in_set[atom / 32] >> (atom % 32) & 1u) != 0; }
  /// Whether any atom of a panel is in W.
  __device__ bool holds_some(int panel) const {
    constexpr int kPanels = 32 / static_cast<int>(kPanelAtoms);  // of a word
    return (in_set[panel / kPanels] >> (panel % kPanels * kPanelAtoms) & ((1u << kPanelAtoms) - 1u)) != 0;
  }

  /// The atoms of keys from `floor` on, in the order of panels: to `fresh`, at most `most` of them. Their number.
  __device__ int atoms_from(std::uint32_t floor, std::int32_t* fresh, int most) const {
    SHRINKWARP_SHARED_ARRAY(int, warp_counts, kWarps);
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    int count = 0;
    for (int first = 0; first < panels; first += kThreads) {
      const int q = first + static_cast<int>(threadIdx.x);
      const std::uint32_t key = q < panels ? keys[q] : 0;
      const std::int64_t atom = static_cast<std::int64_t>(q) * kPanelAtoms + key % kPanelAtoms;
      bool taken = key != 0 && key >= floor && atom < in.D.cols && !holds(atom);
      if constexpr (!kPlain)
        if (taken && in.penalty.weights.data != nullptr) taken = std::isfinite(in.penalty.weights[atom]);
      const unsigned votes = __ballot_sync(kFullMask, taken);
      if (lane == 0) warp_counts[warp] = __popc(votes);
      __syncthreads();
      int place = count + __popc(votes & ((1u << lane) - 1u));
      for (int w = 0; w < kWarps; ++w) {
        if (w < warp) place += warp_counts[w];
        count += warp_counts[w];
      }
      if (taken && place < most) fresh[place] = static_cast<std::int32_t>(atom);
      __syncthreads();
    }
    return count < most ? count : most;
  }
};

/// |d_j'r| / w_j can be so large: from the halves once more, for one atom by a warp.
__device__ __forceinline__ double atom_bound(const Look& in, std::int64_t atom, std::int64_t b) {
  const unsigned* const d = reinterpret_cast<const unsigned*>(in.half.data + atom * in.half.ld);
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
  const double c = std::fabs(static_cast<double>(sum)) * static_cast<double>(in.factor[atom]) *
                   static_cast<double>(in.its_factor[b]);
  const double length = static_cast<double>(in.length[atom]);
  const double rounding = static_cast<double>(in.rounding[atom]) + static_cast<double>(in.accumulation) * length;
  return c + rounding * static_cast<double>(in.its_length[b]) + length * static_cast<double>(in.its_rounding[b]);
}

/// @tparam kPlain  the penalty is, and no problem waits to start at a code
template <bool kPlain>
__global__ void __launch_bounds__(kThreads, kPlain ? 6 : 5)
    look_kernel(Look in, WorkingSetProblems problems, ActiveSets sets) {
  const std::int64_t b = blockIdx.x;
  const std::int64_t p = in.places[b];
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  std::uint32_t* const in_set = dynamic_shared<std::uint32_t>();
  SHRINKWARP_SHARED_ARRAY(double, sums, 3);
  const int words = static_cast<int>((in.D.cols + 31) / 32);
  const int size = sets.size[p], support = sets.support[p];
  const std::int32_t* const atoms = sets.atom.column(p);
  for (int w = threadIdx.x; w < words; w += kThreads) in_set[w] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < size; i += kThreads) atomicOr(&in_set[atoms[i] / 32], 1u << atoms[i] % 32);
  __syncthreads();
  BlockLook<kPlain> look{in, in.keys.column(b), static_cast<int>(in.keys.rows), in_set};
  const double* const x = problems.x.column(p);
  const double* const r = problems.r.column(p);
  const std::int64_t n = in.D.rows;
  const int start = kPlain ? 0 : problems.start[p];

  // lambda_max: exact for the atom of the highest key, then for all that may have more.
  double lambda = problems.lambda[p];
  if (lambda < 0) {
    const std::uint32_t highest = look.kth_largest(1);
    int panel = 0x7fffffff;
    for (int q = threadIdx.x; q < look.panels; q += kThreads)
      if (look.keys[q] == highest && q < panel) panel = q;
    panel = block_min<kThreads>(panel);
    const std::int64_t best = static_cast<std::int64_t>(panel) * kPanelAtoms + highest % kPanelAtoms;
    double low = best < in.D.cols ? over<kPlain>(in, best, dot(in.D.data + best * in.D.ld, r, n)) : 0.0;
    if constexpr (!kPlain) low = fmax(low, 0.0);
    double most = low;
    for (int q = warp; q < look.panels; q += kWarps) {
      if (static_cast<double>(__uint_as_float(look.keys[q])) < low) continue;
      for (int a = 0; a < kPanelAtoms; ++a) {
        const std::int64_t j = static_cast<std::int64_t>(q) * kPanelAtoms + a;
        if (j >= in.D.cols || atom_bound(in, j, b) < low) continue;
        most = fmax(most, over<kPlain>(in, j, dot(in.D.data + j * in.D.ld, r, n)));
      }
    }
    lambda = fmin(in.rules.fraction * block_max<kThreads>(most), kLargestLambda);
  }

  const int iteration = problems.iterations[p];
  const bool last = iteration >= in.rules.max_iterations;
  const int grown = static_cast<int>(kGrowth * support);
  constexpr int kMost = static_cast<int>(WorkingSetProblems::kMostNewAtoms);
  const int wanted = size == 0 ? kFirstAtoms : grown < kFirstAtoms ? kFirstAtoms : grown > kMost ? kMost : grown;
  std::int32_t* const fresh = problems.fresh.column(p);
  std::int32_t state = kProblemRuns;
  int fresh_count = 0;
  double primal = 0, gap = 0, energy = 0;
  const double weighted = kPlain || in.penalty.weights.data == nullptr ? problems.magnitude[p] : problems.weighted[p];

  const std::uint32_t far_over = __float_as_uint(static_cast<float>(kFarOver * lambda));
  const bool many = start == 0 && !last && lambda > 0 && look.count_from(far_over) >= wanted;
  if (many) fresh_count = look.atoms_from(look.kth_largest(wanted), fresh, kMost);
  if (start == 0 && (!many || (size > 0 && fresh_count < wanted / 2))) {
    // Where nothing is chosen yet the highest panels will be wanted, if this is not the end.
    const std::uint32_t highest = size == 0 ? look.kth_largest(wanted) : 0;
    const int first_count = size == 0 ? look.atoms_from(highest, fresh, kMost) : 0;
    const double from = kLookFrom * lambda;
    double most = from;
    for (int q = warp; q < look.panels; q += kWarps) {
      std::uint32_t violator = 0;
      // What a ridge takes from correlations of W the bounds do not know.
      const bool with_ridge = !kPlain && in.penalty.ridge > 0;
      if (static_cast<double>(__uint_as_float(look.keys[q])) >= from || (with_ridge && look.holds_some(q))) {
        for (int a = 0; a < kPanelAtoms; ++a) {
          const std::int64_t j = static_cast<std::int64_t>(q) * kPanelAtoms + a;
          if (j >= in.D.cols || (atom_bound(in, j, b) < from && !(with_ridge && look.holds(j)))) continue;
          double correlation = dot(in.D.data + j * in.D.ld, r, n);
          if (with_ridge && look.holds(j)) {
            double z = 0;
            for (int i = lane; i < size; i += kWarpSize)
              if (atoms[i] == j) z = sets.code.column(p)[i];
            correlation -= in.penalty.ridge * warp_sum(z);
          }
          const double value = over<kPlain>(in, j, correlation);
          most = fmax(most, value);
          if (look.holds(j)) {
            for (int i = lane; i < size; i += kWarpSize)
              if (atoms[i] == j) sets.correlation.column(p)[i] = correlation;
          } else if (value > lambda) {
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
      fresh_count = size == 0 ? first_count : look.atoms_from(look.kth_largest(wanted), fresh, kMost);
  }
  int idle = fresh_count == 0 || sets.outcome[p] == kSetsStuck ? problems.idle[p] + 1 : 0;
  if constexpr (!kPlain) idle = start > 0 ? 0 : idle;
  if (state == kProblemRuns && idle > kIdleRounds) state = kProblemStuck;
  if (state == kProblemRuns && size + fresh_count + start > sets.capacity) state = kProblemFull;
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
  problems.fresh_count[p] = runs ? fresh_count : 0;
  const double room = fmax(lambda * weighted, 1e-300);
  problems.tolerance[p] = runs ? fmax(1e-12, fmin(0.2 * in.rules.gap * problems.energy[p] / room, 1e-3)) : -1.0;
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
    double weighted = 0, squares = 0;
    for (int k = threadIdx.x; k < support; k += kThreads) {
      const double z = code[active[k]];
      if (penalty.weights.data != nullptr)
        weighted = std::fma(penalty.weights[atom[active[k]]], std::fabs(z), weighted);
      squares = std::fma(z, z, squares);
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
                penalty};
  launch(penalty.plain() && !rules.starts ? look_kernel<true> : look_kernel<false>,
         dim3(grid_size(places.size, "look_at_bounds")), dim3(kThreads),
         static_cast<std::size_t>(ceil_div(D.cols, 32)) * sizeof(std::uint32_t), context.stream(), in, problems, sets);
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
