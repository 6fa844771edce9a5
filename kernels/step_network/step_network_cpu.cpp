// CPU bodies of the step networks. A task takes a block of problems through all layers and back, so that its states stay in
// the core's cache.
//
// Codes are sparse, so most of a layer need not be done. A layer is either
//   sparse  u = z + a (c - M z),   c = W'x, made once, M = W'D: 2 k m flops for k entries in use
//   dense   u = z + a W'(x - D z), the products of gradient_step on this thread alone, for all such problems of the block at once
// whichever is less work for the problem's own code. Backwards likewise: H is 0 where z_(t+1) is, and of G_t only what z_t has
// is wanted, so a problem whose codes have few entries goes back by these alone, 4 k n flops a layer, and those with many
// together through the products of gradient_step, 4 n m.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/this_thread.hpp>
#include <shrinkwarp/kernels/step_network/bodies.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp::cpu {
namespace {

/// Problems of a task: a fixed number, so that sums over problems do not depend on the threads.
constexpr std::int64_t kBlock = 64;

/// A layer is sparse for codes with at most this share of n entries.
constexpr double kSparseShare = 0.6;

/// A problem goes back densely where its codes have more than this share of m entries in the mean over layers.
constexpr double kDenseShare = 0.35;

/// With so few entries in H sums over pairs of entries are quicker than products with atoms.
constexpr std::int64_t kFewEntries = 16;

// Sums run in eight interleaved lanes of double that are added in a fixed order: the same bits whatever the vector width.
constexpr int kLanes = 8;

double add_lanes(const double* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/// A code's entries in use.
template <class T>
struct Entries {
  std::int32_t* atoms;
  T* values;
  std::int64_t count;
};

#define SHRINKWARP_STEP_NETWORK_LOOPS(T)                                                                            \
  SHRINKWARP_CPU_CLONES double dot(const T* a, const T* b, std::int64_t size) {                                     \
    double lane[kLanes] = {};                                                                                       \
    std::int64_t i = 0;                                                                                             \
    for (; i + kLanes <= size; i += kLanes)                                                                         \
      for (int k = 0; k < kLanes; ++k)                                                                              \
        lane[k] = std::fma(static_cast<double>(a[i + k]), static_cast<double>(b[i + k]), lane[k]);                  \
    for (int k = 0; i < size; ++i, ++k)                                                                             \
      lane[k] = std::fma(static_cast<double>(a[i]), static_cast<double>(b[i]), lane[k]);                            \
    return add_lanes(lane);                                                                                         \
  }                                                                                                                 \
  /* y <- y - sum_k values[k] A[:, atoms[k]], four columns at a time. */                                            \
  SHRINKWARP_CPU_CLONES void subtract_columns(const T* A, std::int64_t ld, Entries<T> z, T* y, std::int64_t size) { \
    std::int64_t k = 0;                                                                                             \
    for (; k + 4 <= z.count; k += 4) {                                                                              \
      const T *a0 = A + z.atoms[k] * ld, *a1 = A + z.atoms[k + 1] * ld, *a2 = A + z.atoms[k + 2] * ld,              \
              *a3 = A + z.atoms[k + 3] * ld;                                                                        \
      const T v0 = -z.values[k], v1 = -z.values[k + 1], v2 = -z.values[k + 2], v3 = -z.values[k + 3];               \
      for (std::int64_t i = 0; i < size; ++i)                                                                       \
        y[i] = std::fma(v3, a3[i], std::fma(v2, a2[i], std::fma(v1, a1[i], std::fma(v0, a0[i], y[i]))));            \
    }                                                                                                               \
    for (; k < z.count; ++k) {                                                                                      \
      const T* a = A + z.atoms[k] * ld;                                                                             \
      const T v = -z.values[k];                                                                                     \
      for (std::int64_t i = 0; i < size; ++i) y[i] = std::fma(v, a[i], y[i]);                                       \
    }                                                                                                               \
  }                                                                                                                 \
  /* next <- st(z + step g, threshold) */                                                                           \
  SHRINKWARP_CPU_CLONES void step_and_shrink(const T* z, T step, const T* g, T threshold, T* next,                  \
                                             std::int64_t size) {                                                   \
    for (std::int64_t j = 0; j < size; ++j) next[j] = soft_threshold(std::fma(step, g[j], z[j]), threshold);        \
  }                                                                                                                 \
  /* products[k] <- <A[:, atoms[k]], v>, four columns at a time, each sum in eight lanes. */                        \
  SHRINKWARP_CPU_CLONES void column_products(const T* A, std::int64_t ld, const std::int32_t* atoms,                \
                                             std::int64_t count, const T* v, std::int64_t size, T* products) {      \
    typedef T Lanes __attribute__((vector_size(kLanes * sizeof(T))));                                               \
    const auto add = [](Lanes& sum, const T* a, const T* b) {                                                       \
      Lanes left, right;                                                                                            \
      std::memcpy(&left, a, sizeof(left));                                                                          \
      std::memcpy(&right, b, sizeof(right));                                                                        \
      sum += left * right;                                                                                          \
    };                                                                                                              \
    const auto total = [&](const Lanes& s, const T* a) {                                                            \
      T sum = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));                                    \
      for (std::int64_t i = size / kLanes * kLanes; i < size; ++i) sum += a[i] * v[i];                              \
      return sum;                                                                                                   \
    };                                                                                                              \
    std::int64_t k = 0;                                                                                             \
    for (; k + 4 <= count; k += 4) {                                                                                \
      const T *a0 = A + atoms[k] * ld, *a1 = A + atoms[k + 1] * ld, *a2 = A + atoms[k + 2] * ld,                    \
              *a3 = A + atoms[k + 3] * ld;                                                                          \
      Lanes s0 = {}, s1 = {}, s2 = {}, s3 = {};                                                                     \
      for (std::int64_t i = 0; i + kLanes <= size; i += kLanes)                                                     \
        add(s0, a0 + i, v + i), add(s1, a1 + i, v + i), add(s2, a2 + i, v + i), add(s3, a3 + i, v + i);             \
      products[k] = total(s0, a0), products[k + 1] = total(s1, a1);                                                 \
      products[k + 2] = total(s2, a2), products[k + 3] = total(s3, a3);                                             \
    }                                                                                                               \
    for (; k < count; ++k) {                                                                                        \
      const T* const a = A + atoms[k] * ld;                                                                         \
      Lanes s = {};                                                                                                 \
      for (std::int64_t i = 0; i + kLanes <= size; i += kLanes) add(s, a + i, v + i);                               \
      products[k] = total(s, a);                                                                                    \
    }                                                                                                               \
  }                                                                                                                 \
  /* G <- 0 where next is 0. sums <- <G, next - z>, <G, sign(next)> */                                              \
  SHRINKWARP_CPU_CLONES void keep_support(T* G, const T* next, const T* z, std::int64_t size, double* sums) {       \
    typedef T Four __attribute__((vector_size(4 * sizeof(T))));                                                     \
    typedef double FourSums __attribute__((vector_size(4 * sizeof(double))));                                       \
    const Four zero = {};                                                                                           \
    FourSums moved[2] = {}, signs[2] = {};                                                                          \
    std::int64_t j = 0;                                                                                             \
    for (; j + 8 <= size; j += 8) {                                                                                 \
      for (int half = 0; half < 2; ++half) {                                                                        \
        const std::int64_t at = j + 4 * half;                                                                       \
        Four g, s, now;                                                                                             \
        std::memcpy(&g, G + at, sizeof(g));                                                                         \
        std::memcpy(&s, next + at, sizeof(s));                                                                      \
        std::memcpy(&now, z + at, sizeof(now));                                                                     \
        g = s != zero ? g : zero;                                                                                   \
        std::memcpy(G + at, &g, sizeof(g));                                                                         \
        const Four turned = s > zero ? g : -g;                                                                      \
        moved[half] += __builtin_convertvector(g, FourSums) *                                                       \
                       (__builtin_convertvector(s, FourSums) - __builtin_convertvector(now, FourSums));             \
        signs[half] += __builtin_convertvector(turned, FourSums);                                                   \
      }                                                                                                             \
    }                                                                                                               \
    const FourSums all_moved = moved[0] + moved[1], all_signs = signs[0] + signs[1];                                \
    sums[0] = (all_moved[0] + all_moved[2]) + (all_moved[1] + all_moved[3]);                                        \
    sums[1] = (all_signs[0] + all_signs[2]) + (all_signs[1] + all_signs[3]);                                        \
    for (; j < size; ++j) {                                                                                         \
      const double s = static_cast<double>(next[j]);                                                                \
      if (next[j] == T(0)) G[j] = T(0);                                                                             \
      sums[0] += static_cast<double>(G[j]) * (s - static_cast<double>(z[j]));                                       \
      sums[1] += static_cast<double>(s > 0 ? G[j] : -G[j]);                                                         \
    }                                                                                                               \
  }                                                                                                                 \
  /* G <- lambda sign(z); @return ||z||_1 */                                                                        \
  SHRINKWARP_CPU_CLONES double penalty_gradient(const T* z, T lambda, T* G, std::int64_t size) {                    \
    double lane[kLanes] = {};                                                                                       \
    const auto entry = [&](std::int64_t j, int k) {                                                                 \
      const T value = z[j];                                                                                         \
      const T sign = value < T(0) ? -lambda : lambda;                                                               \
      G[j] = value != T(0) ? sign : T(0);                                                                           \
      lane[k] += std::fabs(static_cast<double>(value));                                                             \
    };                                                                                                              \
    std::int64_t j = 0;                                                                                             \
    for (; j + kLanes <= size; j += kLanes)                                                                         \
      for (int k = 0; k < kLanes; ++k) entry(j + k, k);                                                             \
    for (int k = 0; j < size; ++j, ++k) entry(j, k);                                                                \
    return add_lanes(lane);                                                                                         \
  }                                                                                                                 \
  SHRINKWARP_CPU_CLONES std::int64_t count_nonzeros(const T* z, std::int64_t size) {                                \
    std::int32_t count = 0;                                                                                         \
    for (std::int64_t j = 0; j < size; ++j) count += z[j] != T(0) ? 1 : 0;                                          \
    return count;                                                                                                   \
  }                                                                                                                 \
  /* Whether any of 16 is not 0. */                                                                                 \
  SHRINKWARP_CPU_CLONES void find_blocks(const T* z, std::int64_t blocks, std::uint8_t* used) {                     \
    for (std::int64_t b = 0; b < blocks; ++b) {                                                                     \
      int count = 0;                                                                                                \
      for (int k = 0; k < 16; ++k) count += z[16 * b + k] != T(0);                                                  \
      used[b] = count != 0;                                                                                         \
    }                                                                                                               \
  }
SHRINKWARP_STEP_NETWORK_LOOPS(float)
SHRINKWARP_STEP_NETWORK_LOOPS(double)
#undef SHRINKWARP_STEP_NETWORK_LOOPS

/// What one thread needs for a block.
template <class T>
struct StepWorkspace {
  // Of each layer, or of two where nothing comes back: the codes, how many entries they have, and these where they are few.
  MatrixView<T> states;               // [m, block (layers + 1)]
  MatrixView<std::int32_t> atoms;     // [m, block (layers + 1)]
  MatrixView<T> values;               // [m, block (layers + 1)]
  VectorView<std::int64_t> counts;    // [block (layers + 1)]
  MatrixView<std::uint8_t> selected;  // [m, block layers], where the network selects and something comes back
  MatrixView<T> correlation;          // [m, block] W'x, where there is a Gram matrix
  MatrixView<T> gathered_X, R;        // [n, block]
  MatrixView<T> gathered, moved;      // [m, block]; on the way back G and H
  VectorView<T> beta, scaled_lambda;  // [block]
  VectorView<T> gradient, other;      // [m]
  VectorView<T> fit;                  // [n]
  VectorView<T> kept, products;       // [m], entries of H, and of products with atoms
  VectorView<std::uint8_t> used;      // [m / 16]
  VectorView<std::int64_t> dense;     // [block]
  VectorView<T> magnitudes;           // [m], where the network selects
  StepPartials<T> partials;
};

template <class T>
StepWorkspace<T> lay_out(Arena& arena, const Context& context, const StepNetwork<T>& network, std::int64_t block,
                         bool gradient) {
  const std::int64_t n = network.operands.rows(), m = network.operands.atoms(), layers = network.steps.size;
  const std::int64_t tiles = shrinkwarp::step_tiles(context, m), places = block * (gradient ? layers + 1 : 2);
  StepWorkspace<T> w;
  w.states = arena.matrix<T>(m, places);
  w.atoms = arena.matrix<std::int32_t>(m, places);
  w.values = arena.matrix<T>(m, places);
  w.counts = arena.vector<std::int64_t>(places);
  if (!network.operands.gram().empty()) w.correlation = arena.matrix<T>(m, block);
  w.gathered_X = arena.matrix<T>(n, block);
  w.R = arena.matrix<T>(n, block);
  w.gathered = arena.matrix<T>(m, block);
  w.moved = arena.matrix<T>(m, block);
  w.beta = arena.vector<T>(block);
  w.scaled_lambda = arena.vector<T>(block);
  w.gradient = arena.vector<T>(m);
  w.other = arena.vector<T>(m);
  w.fit = arena.vector<T>(n);
  w.kept = arena.vector<T>(m);
  w.products = arena.vector<T>(m);
  w.used = arena.vector<std::uint8_t>(m / 16 + 1);
  w.dense = arena.vector<std::int64_t>(block);
  w.partials.restart = arena.matrix<T>(tiles, block);
  w.partials.support = arena.matrix<std::int32_t>(tiles, block);
  if (network.selection.selects()) {
    w.magnitudes = arena.vector<T>(m);
    if (gradient) w.selected = arena.matrix<std::uint8_t>(m, block * layers);
  }
  return w;
}

/// Sums of a block: d steps [layers], d thresholds [layers], F.
std::int64_t sums_of(std::int64_t layers) {
  return 2 * layers + 1;
}

/// z <- st(z, threshold), but entries over the threshold and among the `kept` largest pass; `selected` says which, where it
/// is not nullptr.
template <class T>
void shrink_unselected(T* z, std::int64_t size, T threshold, std::int64_t kept, T* magnitudes, std::uint8_t* selected) {
  T least = std::numeric_limits<T>::infinity();
  if (kept > 0) {
    for (std::int64_t j = 0; j < size; ++j) magnitudes[j] = std::isnan(z[j]) ? T(0) : std::fabs(z[j]);
    std::nth_element(magnitudes, magnitudes + (kept - 1), magnitudes + size, std::greater<T>());
    least = magnitudes[kept - 1];
  }
  for (std::int64_t j = 0; j < size; ++j) {
    const bool passes = std::fabs(z[j]) >= least && std::fabs(z[j]) > threshold;
    if (selected != nullptr) selected[j] = passes;
    if (!passes) z[j] = soft_threshold(z[j], threshold);
  }
}

template <class T>
class Block {
 public:
  Block(const StepNetwork<T>& network, MatrixView<const T> X, VectorView<const T> lambda, const StepWorkspace<T>& w,
        bool keeps)
      : network_(network), X_(X), lambda_(lambda), w_(w), keeps_(keeps), count_(X.cols) {
    std::fill_n(w_.beta.data, w_.beta.size, T(0));
  }

  /// z_t of problem b.
  T* code(std::int64_t t, std::int64_t b) const { return w_.states.column(place(t, b)); }

  void forward() const {
    const MatrixView<const T> gram = network_.operands.gram();
    if (!gram.empty()) correlate(X_, network_.operands.packed_W(), w_.correlation.columns(0, count_));
    for (std::int64_t b = 0; b < count_; ++b) {
      std::fill_n(code(0, b), m(), T(0));
      w_.counts[place(0, b)] = 0;
    }
    for (std::int64_t t = 0; t < layers(); ++t) {
      std::int64_t dense = 0;
      for (std::int64_t b = 0; b < count_; ++b) {
        if (!is_listed(t, b)) {
          w_.dense[dense++] = b;
          continue;
        }
        const Entries<T> now = entries(t, b);
        const T* g = w_.correlation.column(b);
        if (now.count > 0) {
          std::copy_n(g, m(), w_.other.data);
          subtract_columns(gram.data, gram.ld, now, w_.other.data, m());
          g = w_.other.data;
        }
        finish(t, b, code(t, b), g);
      }
      if (dense > 0) dense_layer(t, dense);
    }
  }

  /// After forward(): adds up the gradient. @param sums  [sums_of(layers)]
  void backward(double* sums) const {
    std::fill_n(sums, sums_of(layers()), 0.0);
    const double most = kDenseShare * static_cast<double>(m()) * static_cast<double>(layers());
    std::int64_t dense = 0;
    for (std::int64_t b = 0; b < count_; ++b) {
      std::int64_t entries_of_all = 0;
      for (std::int64_t t = 1; t <= layers(); ++t) entries_of_all += w_.counts[place(t, b)];
      if (static_cast<double>(entries_of_all) > most) {
        w_.dense[dense++] = b;
        continue;
      }
      for (std::int64_t t = 1; t <= layers(); ++t)
        if (!is_listed(t, b)) list(t, b);
      backward_by_entries(b, sums);
    }
    if (dense > 0) backward_densely(dense, sums);
  }

 private:
  std::int64_t n() const { return network_.operands.rows(); }
  std::int64_t m() const { return network_.operands.atoms(); }
  std::int64_t layers() const { return network_.steps.size; }
  std::int64_t place(std::int64_t t, std::int64_t b) const { return (keeps_ ? t : t % 2) * w_.R.cols + b; }
  Entries<T> entries(std::int64_t t, std::int64_t b) const {
    const std::int64_t at = place(t, b);
    return {w_.atoms.column(at), w_.values.column(at), w_.counts[at]};
  }
  /// Whether forward() has listed the entries of z_t: they are so few that the layer is sparse.
  bool is_listed(std::int64_t t, std::int64_t b) const {
    return !network_.operands.gram().empty() &&
           static_cast<double>(w_.counts[place(t, b)]) <= kSparseShare * static_cast<double>(n());
  }
  MatrixView<T> states(std::int64_t t) const { return w_.states.columns(place(t, 0), count_); }
  std::uint8_t* selected(std::int64_t t, std::int64_t b) const {
    return keeps_ && network_.selection.selects() ? w_.selected.column(t * w_.R.cols + b) : nullptr;
  }
  T threshold_factor(std::int64_t t) const {
    return network_.thresholds.empty() ? network_.steps[t] : std::max(network_.thresholds[t], T(0));
  }

  /// result <- A'V, through the product of gradient_step.
  void correlate(MatrixView<const T> V, const StepDictionary<T>& packed, MatrixView<T> result) const {
    const MatrixView<T> zero = w_.gathered.columns(0, V.cols);
    for (std::int64_t b = 0; b < V.cols; ++b) {
      std::fill_n(zero.column(b), m(), T(0));
      w_.scaled_lambda[b] = T(0);
    }
    gradient_step<T>(this_thread(), packed, V, {}, zero, result, w_.beta.slice(0, V.cols), T(1),
                     w_.scaled_lambda.slice(0, V.cols), {}, partials(V.cols));
  }
  StepPartials<T> partials(std::int64_t count) const {
    return {w_.partials.restart.columns(0, count), w_.partials.support.columns(0, count)};
  }

  /// z_(t+1) of problem b from z_t and W'(x - D z_t).
  void finish(std::int64_t t, std::int64_t b, const T* z, const T* correlation) const {
    T* const next = code(t + 1, b);
    const T threshold = lambda_[b] * threshold_factor(t);
    if (network_.selection.selects()) {
      step_and_shrink(z, network_.steps[t], correlation, T(0), next, m());
      shrink_unselected(next, m(), threshold, std::min(selected_entries(network_.selection, t, m()), m()),
                        w_.magnitudes.data, selected(t, b));
    } else {
      step_and_shrink(z, network_.steps[t], correlation, threshold, next, m());
    }
    count(t + 1, b, count_nonzeros(next, m()));
  }

  /// Takes down how many entries z_t of problem b has, and which where they are few.
  void count(std::int64_t t, std::int64_t b, std::int64_t found) const {
    w_.counts[place(t, b)] = found;
    if (is_listed(t, b)) list(t, b);
  }

  void list(std::int64_t t, std::int64_t b) const {
    const T* const z = code(t, b);
    const std::int64_t at = place(t, b), blocks = m() / 16;
    std::int32_t* const atoms = w_.atoms.column(at);
    T* const values = w_.values.column(at);
    std::int64_t found = 0;
    const auto look = [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t j = first; j < last; ++j) {
        atoms[found] = static_cast<std::int32_t>(j);
        values[found] = z[j];
        found += z[j] != T(0) ? 1 : 0;
      }
    };
    find_blocks(z, blocks, w_.used.data);
    for (std::int64_t block = 0; block < blocks; ++block)
      if (w_.used[block] != 0) look(16 * block, 16 * block + 16);
    look(16 * blocks, m());
  }

  /// A layer of the problems w_.dense[0 .. count). All of a block need not be gathered.
  void dense_layer(std::int64_t t, std::int64_t count) const {
    const bool all = count == count_;
    const MatrixView<T> Z = all ? states(t) : w_.gathered.columns(0, count), R = w_.R.columns(0, count);
    MatrixView<const T> X = X_;
    if (!all) {
      for (std::int64_t i = 0; i < count; ++i) {
        std::copy_n(X_.column(w_.dense[i]), n(), w_.gathered_X.column(i));
        std::copy_n(code(t, w_.dense[i]), m(), Z.column(i));
      }
      X = w_.gathered_X.columns(0, count);
    }
    extrapolated_residual<T>(this_thread(), network_.operands.packed_D(), Z, Z, w_.beta.slice(0, count), X, R, {});
    if (network_.selection.selects()) {
      correlate(R, network_.operands.packed_W(), w_.moved.columns(0, count));
      for (std::int64_t i = 0; i < count; ++i) finish(t, w_.dense[i], code(t, w_.dense[i]), w_.moved.column(i));
      return;
    }
    const T step = network_.steps[t], factor = threshold_factor(t);
    for (std::int64_t i = 0; i < count; ++i) {
      const T lambda = lambda_[w_.dense[i]];
      w_.scaled_lambda[i] = factor == step ? lambda : lambda * factor / step;
    }
    const MatrixView<T> next = all ? states(t + 1) : w_.moved.columns(0, count);
    gradient_step<T>(this_thread(), network_.operands.packed_W(), R, {}, Z, next, w_.beta.slice(0, count), step,
                     w_.scaled_lambda.slice(0, count), {}, partials(count));
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t b = w_.dense[i];
      if (!all) std::copy_n(next.column(i), m(), code(t + 1, b));
      std::int64_t found = 0;
      for (std::int64_t tile = 0; tile < w_.partials.support.rows; ++tile) found += w_.partials.support(tile, i);
      this->count(t + 1, b, found);
    }
  }

  /// Adds what layer t has of the gradient. @param moved, signs  <H, z_(t+1) - z_t>, <H, sign(z_(t+1))> (unselected)
  void add_sums(std::int64_t t, std::int64_t b, double moved, double signs, double* sums) const {
    const auto lambda = static_cast<double>(lambda_[b]);
    // <H, u - z_t>, u being what was thresholded to z_(t+1)
    moved += lambda * static_cast<double>(threshold_factor(t)) * signs;
    sums[t] += moved / static_cast<double>(network_.steps[t]);
    if (network_.thresholds.empty() || network_.thresholds[t] >= T(0)) sums[layers() + t] -= lambda * signs;
  }

  /// The problems w_.dense[0 .. count). G stands for its negative, -G, because the products take away.
  void backward_densely(std::int64_t count, double* sums) const {
    const StepNetworkOperands<T>& operands = network_.operands;
    MatrixView<T> G = w_.moved.columns(0, count), H = w_.gathered.columns(0, count);
    const MatrixView<T> R = w_.R.columns(0, count), X = w_.gathered_X.columns(0, count);
    const VectorView<T> beta = w_.beta.slice(0, count), no_lambda = w_.scaled_lambda.slice(0, count);
    for (std::int64_t i = 0; i < count; ++i) {
      std::copy_n(X_.column(w_.dense[i]), n(), X.column(i));
      std::copy_n(code(layers(), w_.dense[i]), m(), H.column(i));
      no_lambda[i] = T(0);
    }
    extrapolated_residual<T>(this_thread(), operands.packed_D(), H, H, beta, X, R, {});
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t b = w_.dense[i];
      const T* const z = code(layers(), b);
      const double norm = penalty_gradient(z, -lambda_[b], H.column(i), m());
      sums[2 * layers()] += 0.5 * dot(R.column(i), R.column(i), n()) + static_cast<double>(lambda_[b]) * norm;
      std::fill_n(X.column(i), n(), T(0));
    }
    // Thresholds of 0: H + D'R, and below H + step D'R.
    gradient_step<T>(this_thread(), operands.packed_D(), R, {}, H, G, beta, T(1), no_lambda, {}, partials(count));

    for (std::int64_t t = layers() - 1; t >= 0; --t) {
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t b = w_.dense[i];
        const T* const next = code(t + 1, b);
        const std::uint8_t* const passes = selected(t, b);
        double found[2];
        keep_support(G.column(i), next, code(t, b), m(), found);
        double signs = found[1];
        for (std::int64_t j = 0; passes != nullptr && j < m(); ++j) {
          if (passes[j] != 0) signs -= static_cast<double>(next[j] > T(0) ? G(j, i) : -G(j, i));
        }
        add_sums(t, b, -found[0], -signs, sums);
      }
      if (t == 0) break;
      extrapolated_residual<T>(this_thread(), operands.packed_W(), G, G, beta, X, R, {});
      gradient_step<T>(this_thread(), operands.packed_D(), R, {}, G, H, beta, network_.steps[t], no_lambda, {},
                       partials(count));
      std::swap(G, H);
    }
  }

  /// One problem, whose entries are listed at all layers.
  void backward_by_entries(std::int64_t b, double* sums) const {
    const auto lambda = static_cast<double>(lambda_[b]);
    const MatrixView<const T> D = network_.operands.D(), W = network_.operands.W();
    T *G = w_.gradient.data, *next_G = w_.other.data;  // only the entries of the layer's code are looked at

    const Entries<T> last = entries(layers(), b);
    std::copy_n(X_.column(b), n(), w_.fit.data);
    subtract_columns(D.data, D.ld, last, w_.fit.data, n());
    column_products(D.data, D.ld, last.atoms, last.count, w_.fit.data, n(), w_.products.data);
    double norm = 0;
    for (std::int64_t k = 0; k < last.count; ++k) {
      norm += std::fabs(static_cast<double>(last.values[k]));
      G[last.atoms[k]] = (last.values[k] > T(0) ? lambda_[b] : -lambda_[b]) - w_.products[k];
    }
    sums[2 * layers()] += 0.5 * dot(w_.fit.data, w_.fit.data, n()) + lambda * norm;

    for (std::int64_t t = layers() - 1; t >= 0; --t) {
      const Entries<T> now = entries(t, b), next = entries(t + 1, b);
      const T* const z = code(t, b);
      const std::uint8_t* const passes = selected(t, b);
      double moved = 0, signs = 0;
      for (std::int64_t k = 0; k < next.count; ++k) {
        const std::int32_t j = next.atoms[k];
        const auto h = static_cast<double>(G[j]);
        moved += h * (static_cast<double>(next.values[k]) - static_cast<double>(z[j]));
        if (passes == nullptr || passes[j] == 0) signs += next.values[k] > T(0) ? h : -h;
        w_.kept[k] = G[j];
      }
      add_sums(t, b, moved, signs, sums);
      if (t == 0) break;

      const Entries<T> H{next.atoms, w_.kept.data, next.count};
      const auto step = static_cast<double>(network_.steps[t]);
      // G_t = H - step (W'D)'H on the entries of z_t; H is 0 where z_(t+1) is.
      for (std::int64_t k = 0; k < now.count; ++k) next_G[now.atoms[k]] = T(0);
      for (std::int64_t k = 0; k < H.count; ++k) next_G[H.atoms[k]] = H.values[k];
      const MatrixView<const T> gram = network_.operands.gram();
      if (!gram.empty() && H.count <= kFewEntries) {
        for (std::int64_t k = 0; k < now.count; ++k) {
          const T* const column = gram.column(now.atoms[k]);
          double sum = 0;
          for (std::int64_t i = 0; i < H.count; ++i)
            sum += static_cast<double>(column[H.atoms[i]]) * static_cast<double>(H.values[i]);
          T& g = next_G[now.atoms[k]];
          g = static_cast<T>(static_cast<double>(g) - step * sum);
        }
      } else {
        std::fill_n(w_.fit.data, n(), T(0));
        subtract_columns(W.data, W.ld, H, w_.fit.data, n());  // -W H
        column_products(D.data, D.ld, now.atoms, now.count, w_.fit.data, n(), w_.products.data);
        for (std::int64_t k = 0; k < now.count; ++k) next_G[now.atoms[k]] += network_.steps[t] * w_.products[k];
      }
      std::swap(G, next_G);
    }
  }

  const StepNetwork<T>& network_;
  MatrixView<const T> X_;
  VectorView<const T> lambda_;
  const StepWorkspace<T>& w_;
  bool keeps_;
  std::int64_t count_;
};

template <class T>
bool has_bad_step(const StepNetwork<T>& network) {
  return !std::all_of(network.steps.data, network.steps.data + network.steps.size,
                      [](T step) { return step > T(0) && std::isfinite(step); });
}

/// Workspaces of all threads, and the sums of all blocks.
template <class T>
struct Scratch {
  std::int64_t block = 0, blocks = 0;
  std::int64_t bytes_a_thread = 0;
  VectorView<std::byte> threads;
  MatrixView<double> sums;  // [sums_of(layers), blocks]

  Scratch(Arena& arena, const Context& context, const StepNetwork<T>& network, std::int64_t problems, bool gradient) {
    block = std::max<std::int64_t>(1, std::min(problems, kBlock));
    blocks = (problems + block - 1) / block;
    Arena counting{context.device()};
    lay_out(counting, context, network, block, gradient);
    bytes_a_thread = counting.used();
    threads = arena.vector<std::byte>(bytes_a_thread * context.threads());
    if (gradient) sums = arena.matrix<double>(sums_of(network.steps.size), blocks);
  }

  StepWorkspace<T> workspace(const Context& context, const StepNetwork<T>& network, int worker, bool gradient) const {
    Arena arena(threads.slice(worker * bytes_a_thread, bytes_a_thread));
    return lay_out(arena, context, network, block, gradient);
  }
};

}  // namespace

template <class T>
std::int64_t step_network_scratch(const Context& context, const StepNetwork<T>& network, std::int64_t problems,
                                  bool gradient) {
  Arena counting{context.device()};
  Scratch<T>(counting, context, network, problems, gradient);
  return counting.used();
}

template <class T>
void step_network_forward(const Context& context, const StepNetwork<T>& network, MatrixView<const T> X,
                          VectorView<const T> lambda, MatrixView<T> Z, VectorView<std::byte> scratch) {
  if (has_bad_step(network)) {
    for (std::int64_t b = 0; b < Z.cols; ++b) std::fill_n(Z.column(b), Z.rows, std::numeric_limits<T>::quiet_NaN());
    return;
  }
  Arena arena(scratch);
  const Scratch<T> s(arena, context, network, X.cols, false);
  context.parallel_for(s.blocks, [&](std::int64_t i, int worker) {
    const std::int64_t first = i * s.block, count = std::min(s.block, X.cols - first);
    const StepWorkspace<T> w = s.workspace(context, network, worker, false);
    const Block<T> block(network, X.columns(first, count), lambda.slice(first, count), w, false);
    block.forward();
    for (std::int64_t b = 0; b < count; ++b)
      std::copy_n(block.code(network.steps.size, b), Z.rows, Z.column(first + b));
  });
}

template <class T>
void step_network_loss(const Context& context, const StepNetwork<T>& network, MatrixView<const T> X,
                       VectorView<const T> lambda, VectorView<double> loss, VectorView<double> steps,
                       VectorView<double> thresholds, VectorView<std::byte> scratch) {
  if (has_bad_step(network)) {
    for (const VectorView<double> written : {loss, steps, thresholds})
      std::fill_n(written.data, written.size, std::numeric_limits<double>::quiet_NaN());
    return;
  }
  Arena arena(scratch);
  const Scratch<T> s(arena, context, network, X.cols, true);
  context.parallel_for(s.blocks, [&](std::int64_t i, int worker) {
    const std::int64_t first = i * s.block, count = std::min(s.block, X.cols - first);
    const StepWorkspace<T> w = s.workspace(context, network, worker, true);
    const Block<T> block(network, X.columns(first, count), lambda.slice(first, count), w, true);
    block.forward();
    block.backward(s.sums.column(i));
  });
  const std::int64_t layers = network.steps.size;
  const auto mean = [&](std::int64_t row) {
    double sum = 0;
    for (std::int64_t i = 0; i < s.blocks; ++i) sum += s.sums(row, i);
    return sum / static_cast<double>(X.cols);
  };
  loss[0] = mean(2 * layers);
  for (std::int64_t t = 0; t < layers; ++t) {
    steps[t] = mean(t);
    if (thresholds.empty())
      steps[t] += mean(layers + t);
    else
      thresholds[t] = mean(layers + t);
  }
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                     \
  template std::int64_t step_network_scratch<T>(const Context&, const StepNetwork<T>&, std::int64_t, bool);           \
  template void step_network_forward<T>(const Context&, const StepNetwork<T>&, MatrixView<const T>,                   \
                                        VectorView<const T>, MatrixView<T>, VectorView<std::byte>);                   \
  template void step_network_loss<T>(const Context&, const StepNetwork<T>&, MatrixView<const T>, VectorView<const T>, \
                                     VectorView<double>, VectorView<double>, VectorView<double>,                      \
                                     VectorView<std::byte>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
