// CUDA body of the step networks. What fits on the chip is one launch (resident_network.cu) and, for the loss, one that makes
// means. Everything else, double, a W of its own, support selection and large dictionaries, takes the path below: matrices in
// device memory, 2,048 problems at a time, a few launches a layer. It is there to be right: every network that this path alone
// can take is one of many launches of products that fill the device, or of few problems.
//
// A layer is extrapolated_residual, a product with the step in its epilogue, and a kernel that thresholds columns. On the way
// back as in resident_network.cu: <H, W'R_t> = <W H, R_t>, so that of a layer the residual is kept and a byte for each code
// that says how it passed: at m 6138, n 306 7.4 KB a problem and layer in place of 25 KB of codes. The codes themselves are
// needed once, for the last layer; from there on H and G take their place.
#include <cmath>
#include <cstdint>
#include <type_traits>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/step_network/bodies.hpp>
#include <shrinkwarp/kernels/step_network/layer.cuh>
#include <shrinkwarp/kernels/step_network/resident_network.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp::cuda {
namespace {

/// Problems that the general path takes through all layers before the next ones.
constexpr std::int64_t kProblems = 2048;

// ---- means -------------------------------------------------------------------------------------------------------

constexpr int kMeanThreads = 256;

template <class T>
struct Means {
  MatrixView<const double> sums;  // [parts, sums_of(layers)]
  std::int64_t problems;
  Layers<T> layers;
  double* loss;        // [1]
  double* steps;       // [layers]
  double* thresholds;  // [layers], or null where they are the steps
};

/// Block t: the derivatives of layer t, and the last block the loss. Parts are added in a fixed order.
template <class T>
__global__ void __launch_bounds__(kMeanThreads) mean_kernel(Means<T> in) {
  const std::int64_t t = blockIdx.x, layers = in.layers.count;
  int bad = 0;
  for (std::int64_t i = threadIdx.x; i < layers; i += kMeanThreads) bad |= is_step(in.layers.steps[i]) ? 0 : 1;
  bad = block_sum<kMeanThreads>(bad);
  const auto mean = [&](std::int64_t k) {
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < in.sums.rows; i += kMeanThreads) sum += in.sums.data[i + k * in.sums.ld];
    sum = block_sum<kMeanThreads>(sum);
    return bad != 0 ? kNaN<double> : sum / static_cast<double>(in.problems);
  };
  if (t == layers) {
    const double loss = mean(2 * layers);
    if (threadIdx.x == 0) in.loss[0] = loss;
  } else {
    const double step = mean(t);
    double threshold = mean(layers + t);
    if (in.thresholds == nullptr) {
      if (threadIdx.x == 0) in.steps[t] = step + threshold;
    } else {
      if (bad == 0 && !(in.layers.thresholds[t] >= T(0))) threshold = 0;
      if (threadIdx.x == 0) in.steps[t] = step;
      if (threadIdx.x == 0) in.thresholds[t] = threshold;
    }
  }
}

// ---- the general path: products ----------------------------------------------------------------------------------

template <class T>
struct Shape;
template <>
struct Shape<float> {
  using Moved = ProductTile<float, 128, 64, 16, 8, 8>;
};
template <>
struct Shape<double> {
  using Moved = ProductTile<double, 128, 32, 8, 8, 4, 2>;
};

/// moved <- from + factor step_t A'V, with step_t = 1 where t < 0; `from` may be what is written, or without data for zero.
/// `operand` is A' [m, n].
template <class Tile, class T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kResident)
    moved_kernel(MatrixView<const T> operand, MatrixView<const T> V, MatrixView<const T> from, Layers<T> layers,
                 std::int64_t t, T factor, MatrixView<T> moved) {
  SHRINKWARP_SHARED_ARRAY(T, shared, Tile::kShared);

  const TileSpot<Tile> spot(moved.rows, moved.cols);
  RowsOperand<Tile, 16> a(operand.data + spot.row0, operand.ld, clip(operand.ld - spot.row0, Tile::kRows));
  DepthOperand<Tile, Tile::kCols, sizeof(T)> b(V.data + spot.col0 * V.ld, V.ld, spot.cols);
  T acc[Tile::kThreadRows][Tile::kThreadCols];
  tile_product<Tile>(shared, a, b, 0, V.rows, acc);

  const T step = t < 0 ? factor : factor * layers.step(t);
  for_each_column<Tile>(shared, acc, [&](int c, const T* sums) {
    if (c >= spot.cols) return;
    const std::int64_t col = spot.col0 + c;
#pragma unroll 4
    for (int r = static_cast<int>(threadIdx.x) % 32; r < spot.rows; r += 32) {
      const std::int64_t row = spot.row0 + r;
      const T before = from.data != nullptr ? from.data[row + col * from.ld] : T(0);
      moved.data[row + col * moved.ld] = std::fma(step, sums[r], before);
    }
  });
}

// ---- the general path: a warp a column ---------------------------------------------------------------------------

/// How a code passed its threshold.
enum Passed : std::int8_t { kNot = 0, kPositive = 1, kNegative = -1, kSelected = 2 };

/// |u| as an integer of the same order; 0 for NaN.
__device__ __forceinline__ unsigned magnitude_bits(float u) {
  return u != u ? 0u : __float_as_uint(u) & 0x7fffffffu;
}
__device__ __forceinline__ unsigned long long magnitude_bits(double u) {
  return u != u ? 0ull : static_cast<unsigned long long>(__double_as_longlong(u)) & 0x7fffffffffffffffull;
}
__device__ __forceinline__ float from_bits(unsigned bits) {
  return __uint_as_float(bits);
}
__device__ __forceinline__ double from_bits(unsigned long long bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}

/// The kept-th largest magnitude of a column, found bit by bit. Every lane of the warp calls it; each reads the entries lane,
/// lane + 32, ...
template <class T>
__device__ __forceinline__ T kth_largest(const T* column, std::int64_t rows, std::int64_t kept) {
  using Bits = decltype(magnitude_bits(T()));
  Bits least = 0;
  for (int bit = 8 * static_cast<int>(sizeof(Bits)) - 2; bit >= 0; --bit) {
    const Bits tried = least | static_cast<Bits>(1) << bit;
    int count = 0;
    for (std::int64_t j = threadIdx.x % kWarpSize; j < rows; j += kWarpSize)
      count += magnitude_bits(column[j]) >= tried;
    if (warp_sum(count) >= kept) least = tried;
  }
  return from_bits(least);
}

/// Z holds u_t, and then z_(t+1). @param kept  entries of a column that may pass as they are
/// @param passed  [m, N] with ld = m, or null
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    shrink_kernel(MatrixView<T> Z, const T* lambda, Layers<T> layers, std::int64_t t, std::int64_t kept,
                  std::int8_t* passed) {
  const std::int64_t b = warp_column();
  if (b >= Z.cols) return;
  T* const column = Z.data + b * Z.ld;
  const T threshold = lambda[b] * layers.threshold(t);
  const T least = kept > 0 ? kth_largest(column, Z.rows, kept) : T(0);  // looked at where some may pass
  for (std::int64_t j = threadIdx.x % kWarpSize; j < Z.rows; j += kWarpSize) {
    const T u = column[j], size = std::fabs(u);
    const bool selected = kept > 0 && size >= least && size > threshold;
    const T z = selected ? u : soft_threshold(u, threshold);
    column[j] = z;
    if (passed != nullptr)
      passed[j + b * Z.rows] = z == T(0) ? kNot : selected ? kSelected : z > T(0) ? kPositive : kNegative;
  }
}

/// costs[b] = F of problem b, and Z <- lambda sign(Z).
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    cost_kernel(MatrixView<const T> R, const T* lambda, MatrixView<T> Z, double* costs) {
  const std::int64_t b = warp_column();
  if (b >= Z.cols) return;
  const T slope = lambda[b];
  double energy = 0, magnitude = 0;
  for (std::int64_t i = threadIdx.x % kWarpSize; i < R.rows; i += kWarpSize) {
    const auto r = static_cast<double>(R.data[i + b * R.ld]);
    energy = std::fma(r, r, energy);
  }
  for (std::int64_t j = threadIdx.x % kWarpSize; j < Z.rows; j += kWarpSize) {
    const T z = Z.data[j + b * Z.ld];
    magnitude += std::fabs(static_cast<double>(z));
    Z.data[j + b * Z.ld] = z > T(0) ? slope : z < T(0) ? -slope : T(0);
  }
  const double cost = warp_sum(std::fma(static_cast<double>(slope), magnitude, 0.5 * energy));
  if (threadIdx.x % kWarpSize == 0) costs[b] = cost;
}

/// G <- H, and sums[b] = -lambda <H, sign z_(t+1)> of the codes that were thresholded.
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    keep_support_kernel(MatrixView<T> G, const std::int8_t* passed, const T* lambda, double* sums) {
  const std::int64_t b = warp_column();
  if (b >= G.cols) return;
  double signs = 0;
  for (std::int64_t j = threadIdx.x % kWarpSize; j < G.rows; j += kWarpSize) {
    const std::int8_t how = passed[j + b * G.rows];
    const T h = how == kNot ? T(0) : G.data[j + b * G.ld];
    G.data[j + b * G.ld] = h;
    if (how != kSelected) signs += static_cast<double>(how == kNegative ? -h : h);
  }
  signs = warp_sum(signs);
  if (threadIdx.x % kWarpSize == 0) sums[b] = -static_cast<double>(lambda[b]) * signs;
}

/// sums[b] = -<V, R> of column b.
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    moved_sum_kernel(MatrixView<const T> V, MatrixView<const T> R, double* sums) {
  const std::int64_t b = warp_column();
  if (b >= V.cols) return;
  double sum = 0;
  for (std::int64_t i = threadIdx.x % kWarpSize; i < V.rows; i += kWarpSize)
    sum = std::fma(static_cast<double>(V.data[i + b * V.ld]), static_cast<double>(R.data[i + b * R.ld]), sum);
  sum = warp_sum(sum);
  if (threadIdx.x % kWarpSize == 0) sums[b] = -sum;
}

// ---- the general path: layers ------------------------------------------------------------------------------------

/// What the general path needs for `problems` of N problems.
template <class T>
struct Scratch {
  std::int64_t problems;
  VectorView<T> beta;      // [problems], 0
  VectorView<T> residual;  // of extrapolated_residual
  MatrixView<T> R;         // [n, problems], with `loss` [n, problems layers]: R_1, R_2, ...
  // With `loss` alone:
  MatrixView<T> zeros, V;          // [n, problems]
  MatrixView<T> Z;                 // [m, problems]
  MatrixView<std::int8_t> passed;  // [m, problems layers]
  MatrixView<double> sums;         // [N, sums_of(layers)]

  Scratch(Arena& arena, const Context& context, const StepNetwork<T>& network, std::int64_t N, bool loss) {
    const std::int64_t n = network.operands.rows(), m = network.operands.atoms(), layers = network.steps.size;
    problems = N < kProblems ? N : kProblems;
    beta = arena.vector<T>(problems);
    residual = arena.vector<T>(shrinkwarp::residual_scratch(context, n, m, problems));
    R = arena.matrix<T>(n, problems * (loss ? layers : 1));
    if (!loss) return;
    zeros = arena.matrix<T>(n, problems);
    V = arena.matrix<T>(n, problems);
    Z = arena.matrix<T>(m, problems);
    passed = arena.matrix<std::int8_t>(m, problems * layers);
    sums = arena.matrix<double>(N, sums_of(layers));
  }
};

/// Up to kProblems problems.
template <class T>
class Chunk {
 public:
  /// @param Z  [m, count], where codes and what comes back live
  Chunk(const Context& context, const StepNetwork<T>& network, MatrixView<const T> X, VectorView<const T> lambda,
        MatrixView<T> Z, const Scratch<T>& scratch, bool loss)
      : context_(context), network_(network), X_(X), lambda_(lambda), Z_(Z), s_(scratch), loss_(loss) {}

  void forward() const {
    const std::int64_t m = Z_.rows;
    for (std::int64_t t = 0; t < layers(); ++t) {
      if (t > 0) make_residual(t);
      add_correlation(network_.operands.packed_W(), residual(t),
                      t > 0 ? MatrixView<const T>(Z_) : MatrixView<const T>{}, t, T(1));
      const std::int64_t kept = network_.selection.selects() ? selected_entries(network_.selection, t, m) : 0;
      on_columns(shrink_kernel<T>, Z_, lambda_.data, layers_of(network_), t, kept < m ? kept : m,
                 loss_ ? passed(t) : nullptr);
    }
  }

  /// After forward(). @param first  row of the sums that is the first problem's
  void backward(std::int64_t first) const {
    const auto sums = [&](std::int64_t k) { return s_.sums.data + first + k * s_.sums.ld; };
    make_residual(layers());
    on_columns(cost_kernel<T>, residual(layers()), lambda_.data, Z_, sums(2 * layers()));
    add_correlation(network_.operands.packed_D(), residual(layers()), Z_, -1, T(-1));
    const MatrixView<T> V = s_.V.columns(0, Z_.cols);
    for (std::int64_t t = layers() - 1; t >= 0; --t) {
      on_columns(keep_support_kernel<T>, Z_, static_cast<const std::int8_t*>(passed(t)), lambda_.data,
                 sums(layers() + t));
      minus_product(network_.operands.packed_W(), s_.zeros.columns(0, Z_.cols), V);
      on_columns(moved_sum_kernel<T>, MatrixView<const T>(V), residual(t), sums(t));
      if (t > 0) add_correlation(network_.operands.packed_D(), V, Z_, t, T(1));
    }
  }

 private:
  std::int64_t layers() const { return network_.steps.size; }
  std::int8_t* passed(std::int64_t t) const { return s_.passed.data + t * s_.problems * Z_.rows; }
  /// R_t; what is not kept has one place.
  MatrixView<T> place(std::int64_t t) const { return s_.R.columns(loss_ ? (t - 1) * s_.problems : 0, Z_.cols); }
  MatrixView<const T> residual(std::int64_t t) const { return t > 0 ? MatrixView<const T>(place(t)) : X_; }
  void make_residual(std::int64_t t) const { minus_product(network_.operands.packed_D(), X_, place(t)); }

  /// R <- X - A Z.
  void minus_product(const StepDictionary<T>& A, MatrixView<const T> X, MatrixView<T> R) const {
    shrinkwarp::extrapolated_residual<T>(context_, A, Z_, Z_, s_.beta.slice(0, Z_.cols), X, R, s_.residual);
  }

  /// Z <- from + factor step_t A'V, with step_t = 1 where t < 0.
  void add_correlation(const StepDictionary<T>& A, MatrixView<const T> V, MatrixView<const T> from, std::int64_t t,
                       T factor) const {
    using Tile = typename Shape<T>::Moved;
    const MatrixView<const T> operand{A.correlation_operand(), A.cols(), A.rows(), A.correlation_ld(), A.device()};
    launch(moved_kernel<Tile>, dim3(tile_grid<Tile>(Z_.rows, Z_.cols, "step_network")), dim3(Tile::kThreads), 0,
           context_.stream(), operand, V, from, layers_of(network_), t, factor, Z_);
  }

  template <class Kernel, class... Args>
  void on_columns(Kernel kernel, const Args&... arguments) const {
    launch(kernel, dim3(grid_size(ceil_div(Z_.cols, kColumnWarps), "step_network")), dim3(kColumnThreads), 0,
           context_.stream(), arguments...);
  }

  const Context& context_;
  const StepNetwork<T>& network_;
  MatrixView<const T> X_;
  VectorView<const T> lambda_;
  MatrixView<T> Z_;
  const Scratch<T>& s_;
  bool loss_;
};

/// Chunks one after another: body(first, count).
template <class Body>
void for_each_chunk(std::int64_t problems, std::int64_t chunk, const Body& body) {
  for (std::int64_t first = 0; first < problems; first += chunk)
    body(first, first + chunk < problems ? chunk : problems - first);
}

template <class T>
void zero(const Context& context, VectorView<T> vector) {
  context.zero_bytes(vector.data, vector.size * static_cast<std::int64_t>(sizeof(T)));
}

}  // namespace

template <class T>
std::int64_t step_network_scratch(const Context& context, const StepNetwork<T>& network, std::int64_t problems,
                                  bool gradient) {
  Arena counting{context.device()};
  if constexpr (std::is_same_v<T, float>) {
    if (const auto plan = resident_plan(context, network, problems)) {
      if (gradient) lay_out_states(counting, network, *plan);
      return counting.used();
    }
  }
  Scratch<T>(counting, context, network, problems, gradient);
  return counting.used();
}

template <class T>
void step_network_forward(const Context& context, const StepNetwork<T>& network, MatrixView<const T> X,
                          VectorView<const T> lambda, MatrixView<T> Z, VectorView<std::byte> scratch) {
  if constexpr (std::is_same_v<T, float>) {
    if (const auto plan = resident_plan(context, network, X.cols))
      return resident_forward(context, network, *plan, X, lambda, Z);
  }
  Arena arena(scratch);
  const Scratch<T> s(arena, context, network, X.cols, false);
  zero(context, s.beta);
  for_each_chunk(X.cols, s.problems, [&](std::int64_t first, std::int64_t count) {
    Chunk<T>(context, network, X.columns(first, count), lambda.slice(first, count), Z.columns(first, count), s, false)
        .forward();
  });
}

template <class T>
void step_network_loss(const Context& context, const StepNetwork<T>& network, MatrixView<const T> X,
                       VectorView<const T> lambda, VectorView<double> loss, VectorView<double> steps,
                       VectorView<double> thresholds, VectorView<std::byte> scratch) {
  Arena arena(scratch);
  const auto means = [&](MatrixView<const double> sums) {
    const Means<T> in{sums,      X.cols,     layers_of(network),
                      loss.data, steps.data, thresholds.empty() ? nullptr : thresholds.data};
    launch(mean_kernel<T>, dim3(grid_size(network.steps.size + 1, "step_network_loss")), dim3(kMeanThreads), 0,
           context.stream(), in);
  };
  if constexpr (std::is_same_v<T, float>) {
    if (const auto plan = resident_plan(context, network, X.cols)) {
      const ResidentStates states = lay_out_states(arena, network, *plan);
      resident_loss(context, network, *plan, X, lambda, states);
      return means(states.sums);
    }
  }
  const Scratch<T> s(arena, context, network, X.cols, true);
  zero(context, s.beta);
  zero(context, VectorView<T>{s.zeros.data, s.zeros.rows * s.zeros.cols, s.zeros.device});
  for_each_chunk(X.cols, s.problems, [&](std::int64_t first, std::int64_t count) {
    const Chunk<T> chunk(context, network, X.columns(first, count), lambda.slice(first, count), s.Z.columns(0, count),
                         s, true);
    chunk.forward();
    chunk.backward(first);
  });
  means(s.sums);
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

}  // namespace shrinkwarp::cuda
