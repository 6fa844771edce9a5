// CPU bodies of the step networks. A task takes a block of problems through all layers and back, so that its states stay in
// the core's cache; the products are those of gradient_step, on this thread alone.
//
// Backwards nothing dense is left but the matrices: H is 0 where z_(t+1) is, and of G_t only what z_t has is wanted. For
// blocks of sparse codes those entries are dots with atoms; where codes are full the packed product is quicker (kDotsPay).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/step_network/bodies.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp::cpu {
namespace {

/// Problems of a task: a fixed number, so that sums over problems do not depend on the threads.
constexpr std::int64_t kBlock = 64;

/// Entries of z_t as a share of all, under which dots with single atoms are quicker than the packed product.
constexpr double kDotsPay = 0.2;

/// The products below run inside of tasks, each on its own thread.
const Context& this_thread() {
  thread_local const Context context = Context::cpu(1);
  return context;
}

// Sums run in eight interleaved lanes of double that are added in a fixed order: the same bits whatever the vector width.
constexpr int kLanes = 8;

double add_lanes(const double* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

#define SHRINKWARP_STEP_NETWORK_LOOPS(T)                                                                          \
  SHRINKWARP_CPU_CLONES double dot(const T* a, const T* b, std::int64_t size) {                                   \
    double lane[kLanes] = {};                                                                                     \
    std::int64_t i = 0;                                                                                           \
    for (; i + kLanes <= size; i += kLanes)                                                                       \
      for (int k = 0; k < kLanes; ++k)                                                                            \
        lane[k] = std::fma(static_cast<double>(a[i + k]), static_cast<double>(b[i + k]), lane[k]);                \
    for (int k = 0; i < size; ++i, ++k)                                                                           \
      lane[k] = std::fma(static_cast<double>(a[i]), static_cast<double>(b[i]), lane[k]);                          \
    return add_lanes(lane);                                                                                       \
  }                                                                                                               \
  SHRINKWARP_CPU_CLONES double magnitude(const T* z, std::int64_t size) {                                         \
    double lane[kLanes] = {};                                                                                     \
    std::int64_t i = 0;                                                                                           \
    for (; i + kLanes <= size; i += kLanes)                                                                       \
      for (int k = 0; k < kLanes; ++k) lane[k] += std::fabs(static_cast<double>(z[i + k]));                       \
    for (int k = 0; i < size; ++i, ++k) lane[k] += std::fabs(static_cast<double>(z[i]));                          \
    return add_lanes(lane);                                                                                       \
  }                                                                                                               \
  SHRINKWARP_CPU_CLONES std::int64_t nonzeros(const T* z, std::int64_t size) {                                    \
    std::int64_t count = 0;                                                                                       \
    for (std::int64_t j = 0; j < size; ++j) count += z[j] != T(0);                                                \
    return count;                                                                                                 \
  }                                                                                                               \
  /* G <- H = G where next is not 0, else 0; sums of H (next - now) and of H sign(next). */                       \
  SHRINKWARP_CPU_CLONES void keep_support(T* G, const T* next, const T* now, std::int64_t size, double* moved,    \
                                          double* signs) {                                                        \
    double moves[kLanes] = {}, signed_sums[kLanes] = {};                                                          \
    const auto entry = [&](std::int64_t j, int k) {                                                               \
      const T h = next[j] != T(0) ? G[j] : T(0);                                                                  \
      const double sign = next[j] > T(0) ? 1.0 : -1.0;                                                            \
      moves[k] =                                                                                                  \
          std::fma(static_cast<double>(h), static_cast<double>(next[j]) - static_cast<double>(now[j]), moves[k]); \
      signed_sums[k] = std::fma(static_cast<double>(h), sign, signed_sums[k]);                                    \
      G[j] = h;                                                                                                   \
    };                                                                                                            \
    std::int64_t j = 0;                                                                                           \
    for (; j + kLanes <= size; j += kLanes)                                                                       \
      for (int k = 0; k < kLanes; ++k) entry(j + k, k);                                                           \
    for (int k = 0; j < size; ++j, ++k) entry(j, k);                                                              \
    *moved = add_lanes(moves);                                                                                    \
    *signs = add_lanes(signed_sums);                                                                              \
  }                                                                                                               \
  /* G <- lambda sign(z) where z is not 0. */                                                                     \
  SHRINKWARP_CPU_CLONES void penalty_gradient(const T* z, T lambda, T* G, std::int64_t size) {                    \
    for (std::int64_t j = 0; j < size; ++j) G[j] = z[j] > T(0) ? lambda : (z[j] < T(0) ? -lambda : T(0));         \
  }
SHRINKWARP_STEP_NETWORK_LOOPS(float)
SHRINKWARP_STEP_NETWORK_LOOPS(double)
#undef SHRINKWARP_STEP_NETWORK_LOOPS

/// What one thread needs for a block.
template <class T>
struct Workspace {
  MatrixView<T> states;               // [m, block (layers + 1)], or of two layers where nothing comes back
  MatrixView<std::uint8_t> selected;  // [m, block layers], where the network selects and something comes back
  MatrixView<T> R, negated;           // [n, block]
  MatrixView<T> G, other;             // [m, block], where something comes back
  MatrixView<T> zeros;                // [n, block], likewise
  VectorView<T> beta, scaled_lambda;  // [block]
  VectorView<T> magnitudes;           // [m], where the network selects
  StepPartials<T> partials;
};

template <class T>
Workspace<T> lay_out(Arena& arena, const Context& context, const StepNetwork<T>& network, std::int64_t block,
                     bool gradient) {
  const std::int64_t n = network.operands.rows(), m = network.operands.atoms(), layers = network.steps.size;
  const std::int64_t tiles = shrinkwarp::step_tiles(context, m);
  Workspace<T> w;
  w.states = arena.matrix<T>(m, block * (gradient ? layers + 1 : 2));
  w.R = arena.matrix<T>(n, block);
  w.beta = arena.vector<T>(block);
  w.scaled_lambda = arena.vector<T>(block);
  w.partials.restart = arena.matrix<T>(tiles, block);
  w.partials.support = arena.matrix<std::int32_t>(tiles, block);
  if (network.selection.selects()) w.magnitudes = arena.vector<T>(m);
  if (!gradient) return w;
  if (network.selection.selects()) w.selected = arena.matrix<std::uint8_t>(m, block * layers);
  w.negated = arena.matrix<T>(n, block);
  w.zeros = arena.matrix<T>(n, block);
  w.G = arena.matrix<T>(m, block);
  w.other = arena.matrix<T>(m, block);
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
  Block(const StepNetwork<T>& network, MatrixView<const T> X, VectorView<const T> lambda, const Workspace<T>& w,
        bool keeps)
      : network_(network), X_(X), lambda_(lambda), w_(w), keeps_(keeps), count_(X.cols) {
    std::fill_n(w_.beta.data, count_, T(0));
  }

  /// States of layer t; where nothing comes back, they take turns in two places.
  MatrixView<T> state(std::int64_t t) const { return w_.states.columns((keeps_ ? t : t % 2) * block(), count_); }

  void forward() const {
    const std::int64_t m = network_.operands.atoms();
    for (std::int64_t b = 0; b < count_; ++b) std::fill_n(state(0).column(b), m, T(0));
    for (std::int64_t t = 0; t < layers(); ++t) {
      const MatrixView<T> now = state(t), next = state(t + 1);
      if (t > 0) residual_of(now, R());
      const MatrixView<const T> R_or_X = t > 0 ? MatrixView<const T>(R()) : X_;
      const T step = network_.steps[t];
      for (std::int64_t b = 0; b < count_; ++b) w_.scaled_lambda[b] = scaled_lambda(t, b);
      StepPartials<T> partials{w_.partials.restart.columns(0, count_), w_.partials.support.columns(0, count_)};
      gradient_step<T>(this_thread(), network_.operands.packed_W(), R_or_X, {}, now, next, w_.beta.slice(0, count_),
                       step, w_.scaled_lambda.slice(0, count_), {}, partials);
      if (!network_.selection.selects()) continue;
      const std::int64_t kept = std::min(selected_entries(network_.selection, t, m), m);
      for (std::int64_t b = 0; b < count_; ++b)
        shrink_unselected(next.column(b), m, lambda_[b] * threshold_factor(t), kept, w_.magnitudes.data,
                          keeps_ ? selected(t, b) : nullptr);
    }
  }

  /// After forward(): adds up the gradient. @param sums  [sums_of(layers)]
  void backward(double* sums) const {
    const std::int64_t n = network_.operands.rows(), m = network_.operands.atoms();
    std::fill_n(sums, sums_of(layers()), 0.0);
    double* const d_steps = sums;
    double* const d_thresholds = sums + layers();
    double& cost = sums[2 * layers()];

    MatrixView<T> G = w_.G.columns(0, count_), other = w_.other.columns(0, count_);
    const MatrixView<T> last = state(layers());
    residual_of(last, R());
    for (std::int64_t b = 0; b < count_; ++b) {
      cost +=
          0.5 * dot(R().column(b), R().column(b), n) + static_cast<double>(lambda_[b]) * magnitude(last.column(b), m);
      std::fill_n(w_.zeros.column(b), n, T(0));
      penalty_gradient(last.column(b), lambda_[b], G.column(b), m);
      for (std::int64_t i = 0; i < n; ++i) negated()(i, b) = -R()(i, b);
    }
    // G_T = lambda sign(z_T) - D'R, as far as z_T goes; other = G + step D'negated with a step of 1.
    add_correlation(last, G, other, network_.operands.D(), network_.operands.packed_D(), negated(), T(1));
    std::swap(G, other);

    for (std::int64_t t = layers() - 1; t >= 0; --t) {
      const MatrixView<T> now = state(t), next = state(t + 1);
      const double step = static_cast<double>(network_.steps[t]);
      for (std::int64_t b = 0; b < count_; ++b) {
        double moved = 0, signs = 0;
        keep_support(G.column(b), next.column(b), now.column(b), m, &moved, &signs);
        if (network_.selection.selects()) signs -= selected_signs(G.column(b), next.column(b), selected(t, b), m);
        // <H, u - z_t>, u being what was thresholded to z_(t+1)
        moved += static_cast<double>(lambda_[b]) * static_cast<double>(threshold_factor(t)) * signs;
        d_steps[t] += moved / step;
        if (network_.thresholds.empty() || network_.thresholds[t] >= T(0))
          d_thresholds[t] -= static_cast<double>(lambda_[b]) * signs;
      }
      if (t == 0) break;
      // negated = -W H, so that G_t = H + step D'negated.
      extrapolated_residual<T>(this_thread(), network_.operands.packed_W(), G, G, w_.beta.slice(0, count_),
                               w_.zeros.columns(0, count_), negated(), {});
      add_correlation(now, G, other, network_.operands.D(), network_.operands.packed_D(), negated(), network_.steps[t]);
      std::swap(G, other);
    }
  }

 private:
  std::int64_t layers() const { return network_.steps.size; }
  std::int64_t block() const { return w_.R.cols; }
  MatrixView<T> R() const { return w_.R.columns(0, count_); }
  MatrixView<T> negated() const { return w_.negated.columns(0, count_); }
  std::uint8_t* selected(std::int64_t t, std::int64_t b) const { return w_.selected.column(t * block() + b); }

  T threshold_factor(std::int64_t t) const {
    return network_.thresholds.empty() ? network_.steps[t] : std::max(network_.thresholds[t], T(0));
  }
  /// What gradient_step multiplies with the step to get the threshold; 0 where selection comes between.
  T scaled_lambda(std::int64_t t, std::int64_t b) const {
    if (network_.selection.selects()) return T(0);
    if (network_.thresholds.empty()) return lambda_[b];
    return lambda_[b] * threshold_factor(t) / network_.steps[t];
  }

  void residual_of(MatrixView<const T> Z, MatrixView<T> R) const {
    extrapolated_residual<T>(this_thread(), network_.operands.packed_D(), Z, Z, w_.beta.slice(0, count_), X_, R, {});
  }

  static double selected_signs(const T* H, const T* next, const std::uint8_t* selected, std::int64_t size) {
    double sum = 0;
    for (std::int64_t j = 0; j < size; ++j)
      if (selected[j] != 0 && next[j] != T(0)) sum += next[j] > T(0) ? H[j] : -H[j];
    return sum;
  }

  /// result <- G + step A'V where the code is not 0; elsewhere result is not to be looked at.
  void add_correlation(MatrixView<const T> codes, MatrixView<const T> G, MatrixView<T> result, MatrixView<const T> A,
                       const StepDictionary<T>& packed, MatrixView<const T> V, T step) const {
    std::int64_t entries = 0;
    for (std::int64_t b = 0; b < count_; ++b) entries += nonzeros(codes.column(b), codes.rows);
    if (static_cast<double>(entries) > kDotsPay * static_cast<double>(codes.rows * count_)) {
      for (std::int64_t b = 0; b < count_; ++b) w_.scaled_lambda[b] = T(0);
      StepPartials<T> partials{w_.partials.restart.columns(0, count_), w_.partials.support.columns(0, count_)};
      gradient_step<T>(this_thread(), packed, V, {}, G, result, w_.beta.slice(0, count_), step,
                       w_.scaled_lambda.slice(0, count_), {}, partials);
      return;
    }
    for (std::int64_t b = 0; b < count_; ++b) {
      const T* const code = codes.column(b);
      for (std::int64_t j = 0; j < codes.rows; ++j) {
        if (code[j] == T(0)) continue;
        result(j, b) = static_cast<T>(static_cast<double>(G(j, b)) +
                                      static_cast<double>(step) * dot(A.column(j), V.column(b), A.rows));
      }
    }
  }

  const StepNetwork<T>& network_;
  MatrixView<const T> X_;
  VectorView<const T> lambda_;
  const Workspace<T>& w_;
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

  Workspace<T> workspace(const Context& context, const StepNetwork<T>& network, int worker, bool gradient) const {
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
    const Workspace<T> w = s.workspace(context, network, worker, false);
    const Block<T> block(network, X.columns(first, count), lambda.slice(first, count), w, false);
    block.forward();
    const MatrixView<const T> codes = block.state(network.steps.size);
    for (std::int64_t b = 0; b < count; ++b) std::copy_n(codes.column(b), codes.rows, Z.column(first + b));
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
    const Workspace<T> w = s.workspace(context, network, worker, true);
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
