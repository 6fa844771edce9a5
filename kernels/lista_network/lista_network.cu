// CUDA bodies of the networks with weight matrices: a forward pass on the chip in one launch for float where a tile of
// problems fits there (fused_pass.cu), else products by cuBLAS with one elementwise kernel a layer; the way back layer by
// layer, products by cuBLAS in fp32 with one elementwise kernel before them.
//
// Story on paper, free, float, n 64, m 256, T 16, N 8192 on an H100 (67 TFLOP/s fp32, of which cuBLAS takes some 0.7;
// 3.0 TB/s, L2 5.5 TB/s). A layer on the way back:
//   back_kernel   G, z read and H written, 25 MB, from L2 for the most part     6 us
//   H [z; x]'     1.34 GFLOP                                                   29 us
//   W1' H         1.07 GFLOP                                                   23 us
// so 16 layers 0.93 ms; the forward pass that keeps its codes 0.3 to 0.45 ms (134 MB of them), loss and first G 30 us, sums
// of d theta (2 MB of partial sums) 4 us: 1.3 to 1.5 ms a gradient. Products in split_tf32 through gemm would need the parts
// of both operands written first, 17 us of memory for what they save: as long. Not measured yet.
//
// Sums over problems are added in a fixed order: a thread adds an atom's d theta over a chunk of 64 problems, and later one
// thread the chunks; loss and d gamma likewise, by blocks. All in double, no atomics.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/lista_network/bodies.hpp>
#include <shrinkwarp/kernels/lista_network/fused_pass.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp::cuda {
namespace {

// ---- forward, layer by layer -------------------------------------------------------------------------------------

template <class T>
struct LayerArguments {
  MatrixView<const T> product;  // W1 z + W2 x, coupled: W'(x - D z); may be `codes`, or `shrunk` where that has data
  MatrixView<const T> before;   // z_t; not read in layer 0
  const T* theta;               // [m]
  const T* gamma;               // [1], momentum
  const T* lambda;              // [N]
  MatrixView<T> shrunk;         // momentum: st(...), or without data
  MatrixView<T> velocity;       // momentum: v_t, not read in layer 0; then v_(t+1)
  MatrixView<T> codes;          // z_(t+1)
};

/// What follows a layer's product, a warp a piece of a column: memory bound, 2 accesses an element (free) to 6 (momentum).
template <class T, ListaKind kKind>
__global__ void __launch_bounds__(kColumnThreads) layer_kernel(LayerArguments<T> in, bool first_layer) {
  const std::int64_t col = warp_column();
  if (col >= in.codes.cols) return;
  const T lambda = in.lambda[col];
  const T gamma = kKind == ListaKind::momentum ? in.gamma[0] : T(0);
  const auto entry = [&](std::int64_t row) {
    const T factor = in.theta[row];
    const T before = first_layer || kKind == ListaKind::free ? T(0) : in.before.data[row + col * in.before.ld];
    T u = in.product.data[row + col * in.product.ld];
    if constexpr (kKind == ListaKind::coupled) u += before;
    const T s = soft_threshold(u, lambda * (factor < T(0) ? T(0) : factor));
    T code = s;
    if constexpr (kKind == ListaKind::momentum) {
      const T v = first_layer ? T(0) : in.velocity.data[row + col * in.velocity.ld];
      const T moved = std::fma(gamma, v, (T(1) - gamma) * (s - before));
      if (in.shrunk.data != nullptr) in.shrunk.data[row + col * in.shrunk.ld] = s;
      in.velocity.data[row + col * in.velocity.ld] = moved;
      code = before + moved;
    }
    in.codes.data[row + col * in.codes.ld] = code;
  };
  for (std::int64_t first = blockIdx.y * kColumnPiece; first < in.codes.rows; first += gridDim.y * kColumnPiece) {
    const int count = clip(in.codes.rows - first, static_cast<int>(kColumnPiece));
#pragma unroll(kKind == ListaKind::free ? 4 : (kKind == ListaKind::coupled ? 2 : 1))
    for (int i = static_cast<int>(threadIdx.x) % kWarpSize; i < count; i += kWarpSize) entry(first + i);
  }
}

// ---- loss --------------------------------------------------------------------------------------------------------

/// A warp a problem: costs = 1/2 ||r||^2 + lambda ||z||_1, G = lambda sign(z). Reads R and z, writes G: memory bound.
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    cost_kernel(MatrixView<const T> R, MatrixView<const T> codes, const T* lambda, double* costs, MatrixView<T> G) {
  const std::int64_t col = warp_column();
  if (col >= R.cols) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const T* const r = R.data + col * R.ld;
  const T* const z = codes.data + col * codes.ld;
  const T its_lambda = lambda[col];
  double energy = 0, norm = 0;
#pragma unroll 4
  for (std::int64_t i = lane; i < R.rows; i += kWarpSize) {
    const auto value = static_cast<double>(r[i]);
    energy = std::fma(value, value, energy);
  }
#pragma unroll 4
  for (std::int64_t j = lane; j < codes.rows; j += kWarpSize) {
    const T code = z[j];
    norm += std::fabs(static_cast<double>(code));
    G.data[j + col * G.ld] = code > T(0) ? its_lambda : (code < T(0) ? -its_lambda : T(0));
  }
  energy = warp_sum(energy);
  norm = warp_sum(norm);
  if (lane == 0) costs[col] = std::fma(static_cast<double>(its_lambda), norm, 0.5 * energy);
}

constexpr int kSumThreads = 256;

/// loss = the mean of the costs, by one block.
__global__ void __launch_bounds__(kSumThreads) loss_kernel(const double* costs, std::int64_t problems, double* loss) {
  double sum = 0;
#pragma unroll 4
  for (std::int64_t b = threadIdx.x; b < problems; b += kSumThreads) sum += costs[b];
  sum = block_sum<kSumThreads>(sum);
  if (threadIdx.x == 0) loss[0] = sum / static_cast<double>(problems);
}

// ---- back --------------------------------------------------------------------------------------------------------

constexpr int kBackThreads = 64;     // atoms
constexpr std::int64_t kChunk = 64;  // problems

template <class T>
struct BackArguments {
  MatrixView<T> G;              // in: G_(t+1); out: coupled H, momentum G_(t+1) - (1 - gamma) C
  MatrixView<T> V;              // momentum: V_(t+1), then V_t
  MatrixView<const T> next;     // z_(t+1), momentum: st(...)
  MatrixView<const T> before;   // momentum: z_t, or without data where that is 0
  MatrixView<const T> earlier;  // momentum: z_(t-1), likewise
  const T* gamma;               // [1], momentum
  const T* lambda;              // [N]
  MatrixView<T> H;
  double* d_theta;  // [chunks][m]
  double* d_gamma;  // [chunks][blocks of atoms], momentum
};

/// A block takes 64 atoms of a chunk of problems, a thread an atom. Memory bound: G and z read, H written; momentum three
/// more read and two written.
template <class T, ListaKind kKind>
__global__ void __launch_bounds__(kBackThreads) back_kernel(BackArguments<T> in, bool last_layer) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kBackThreads + threadIdx.x;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kChunk;
  const int count = clip(in.H.cols - first, static_cast<int>(kChunk));
  const T gamma = kKind == ListaKind::momentum ? in.gamma[0] : T(0);
  double d_theta = 0, d_gamma = 0;
  if (row < in.H.rows) {
#pragma unroll 4
    for (int b = 0; b < count; ++b) {
      const std::int64_t col = first + b;
      const T next = in.next.data[row + col * in.next.ld];
      T g = in.G.data[row + col * in.G.ld];
      if constexpr (kKind == ListaKind::momentum) {
        const T c = last_layer ? g : g + in.V.data[row + col * in.V.ld];
        const T before = in.before.data == nullptr ? T(0) : in.before.data[row + col * in.before.ld];
        const T v = before - (in.earlier.data == nullptr ? T(0) : in.earlier.data[row + col * in.earlier.ld]);
        d_gamma = std::fma(static_cast<double>(c), static_cast<double>(v - (next - before)), d_gamma);
        in.V.data[row + col * in.V.ld] = gamma * c;
        const T moved = (T(1) - gamma) * c;
        in.G.data[row + col * in.G.ld] = g - moved;
        g = moved;
      }
      const T h = next != T(0) ? g : T(0);
      const T change = in.lambda[col] * h;
      d_theta += static_cast<double>(next > T(0) ? -change : change);
      in.H.data[row + col * in.H.ld] = h;
      if constexpr (kKind == ListaKind::coupled) in.G.data[row + col * in.G.ld] = h;
    }
    in.d_theta[blockIdx.x * in.H.rows + row] = d_theta;
  }
  if constexpr (kKind == ListaKind::momentum) {
    d_gamma = block_sum<kBackThreads>(d_gamma);
    if (threadIdx.x == 0) in.d_gamma[static_cast<std::int64_t>(blockIdx.x) * gridDim.y + blockIdx.y] = d_gamma;
  }
}

template <class T>
struct SumArguments {
  const double* d_theta;  // [T][chunks][m]
  const double* d_gamma;  // [T][gammas], momentum, or null
  std::int64_t atoms, chunks, gammas;
  std::int64_t layer_size, theta, gamma;  // of a layer, and where in it thresholds and momentum begin
  double factor;
  const T* parameters;
  T* gradient;
};

/// The partial sums of all layers (blockIdx.y) to the gradient, a thread an atom; a layer's first block d gamma, too.
template <class T>
__global__ void __launch_bounds__(kSumThreads) gradient_kernel(SumArguments<T> in) {
  const std::int64_t layer = blockIdx.x;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kSumThreads + threadIdx.x;
  if (row < in.atoms) {
    double sum = 0;
#pragma unroll 8
    for (std::int64_t c = 0; c < in.chunks; ++c) sum += in.d_theta[(layer * in.chunks + c) * in.atoms + row];
    const std::int64_t at = layer * in.layer_size + in.theta + row;
    in.gradient[at] = in.parameters[at] < T(0) ? T(0) : static_cast<T>(sum * in.factor);
  }
  if (in.d_gamma != nullptr && blockIdx.y == 0) {
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < in.gammas; i += kSumThreads) sum += in.d_gamma[layer * in.gammas + i];
    sum = block_sum<kSumThreads>(sum);
    if (threadIdx.x == 0) in.gradient[layer * in.layer_size + in.gamma] = static_cast<T>(sum * in.factor);
  }
}

// ---- host --------------------------------------------------------------------------------------------------------

template <class T>
std::optional<FusedPlan> plan_of(const Context& context, const ListaNetwork<T>& network, std::int64_t problems) {
  if constexpr (sizeof(T) == sizeof(float))
    return fused_plan(network.layout, problems, context.block_memory(), context.multiprocessors(), fused_wide(network));
  else
    return std::nullopt;
}

/// What a call needs, and how it is laid out.
template <class T>
struct Workspace {
  KeptLayers<T> kept;          // with a way back
  MatrixView<T> other;         // [m, N]: without one, layers take turns there and in Z
  MatrixView<T> velocities;    // [m, N], momentum layer by layer
  MatrixView<T> G, H, V;       // [m, N], way back
  MatrixView<T> R;             // [n, N], way back, or coupled layer by layer
  VectorView<double> costs;    // [N]
  VectorView<double> d_theta;  // [T][chunks][m]
  VectorView<double> d_gamma;  // [T][chunks][blocks of atoms]

  Workspace(Arena& arena, const ListaLayout& layout, std::int64_t problems, bool gradient, bool fused) {
    const std::int64_t n = layout.rows, m = layout.atoms, all = problems * layout.layers;
    const bool coupled = layout.kind == ListaKind::coupled, momentum = layout.kind == ListaKind::momentum;
    if (!gradient) {
      if (fused) return;
      other = arena.matrix<T>(m, problems);
      if (momentum) velocities = arena.matrix<T>(m, problems);
      if (coupled) R = arena.matrix<T>(n, problems);
      return;
    }
    kept.codes = arena.matrix<T>(m, all);
    if (momentum && !fused) velocities = arena.matrix<T>(m, problems);
    if (coupled) kept.residuals = arena.matrix<T>(n, all);
    if (momentum) kept.shrunk = arena.matrix<T>(m, all);
    G = arena.matrix<T>(m, problems);
    H = arena.matrix<T>(m, problems);
    if (momentum) V = arena.matrix<T>(m, problems);
    R = arena.matrix<T>(n, problems);
    costs = arena.vector<double>(problems);
    d_theta = arena.vector<double>(layout.layers * chunks(problems) * m);
    if (momentum) d_gamma = arena.vector<double>(layout.layers * gammas(layout, problems));
  }
  static std::int64_t chunks(std::int64_t problems) { return ceil_div(problems, kChunk); }
  static std::int64_t gammas(const ListaLayout& layout, std::int64_t problems) {
    return chunks(problems) * ceil_div(layout.atoms, kBackThreads);
  }
};

/// A BLAS wants leading dimensions of 1 at least, whatever is empty.
template <class T>
MatrixView<T> for_blas(MatrixView<T> A) {
  A.ld = std::max<std::int64_t>(A.ld, 1);
  return A;
}

template <class T>
class Network {
 public:
  Network(const Context& context, const ListaNetwork<T>& network, MatrixView<const T> X, VectorView<const T> lambda,
          const Workspace<T>& w)
      : context_(context), network_(network), layout_(network.layout), X_(X), lambda_(lambda), w_(w) {}

  /// Codes of layer t + 1 to codes(t): a kept layer, or Z and w.other in turn so that the last is Z.
  void forward(const std::optional<FusedPlan>& plan, MatrixView<T> Z) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (plan) return fused_forward(context_, network_, *plan, X_, lambda_, w_.kept, Z);
    }
    const auto turn = [&](std::int64_t t) {
      return keeps() ? of_layer(w_.kept.codes, t) : (layout_.layers - 1 - t) % 2 == 0 ? Z : w_.other;
    };
    for (std::int64_t t = 0; t < layout_.layers; ++t) {
      const MatrixView<T> codes = turn(t);
      const MatrixView<const T> before = t > 0 ? turn(t - 1) : MatrixView<T>{};
      LayerArguments<T> arguments{codes, before, theta(t), gamma(t), lambda_.data, {}, {}, codes};
      switch (layout_.kind) {
        case ListaKind::free:
          multiply_weights(t, before, codes);
          launch(layer_kernel<T, ListaKind::free>, column_grid(layout_.atoms, X_.cols), dim3(kColumnThreads), 0,
                 context_.stream(), arguments, t == 0);
          break;
        case ListaKind::coupled: {
          const MatrixView<T> R = t == 0 || !keeps() ? w_.R : of_layer(w_.kept.residuals, t);
          if (t > 0) residual_of(before, R);
          multiply(Transpose::yes, Transpose::no, T(1), weights(t), t > 0 ? R : X_, T(0), codes);
          launch(layer_kernel<T, ListaKind::coupled>, column_grid(layout_.atoms, X_.cols), dim3(kColumnThreads), 0,
                 context_.stream(), arguments, t == 0);
          break;
        }
        case ListaKind::momentum:
          arguments.velocity = w_.velocities;
          if (keeps()) {
            arguments.shrunk = of_layer(w_.kept.shrunk, t);
            arguments.product = arguments.shrunk;
          }
          multiply_weights(t, before, keeps() ? arguments.shrunk : codes);
          launch(layer_kernel<T, ListaKind::momentum>, column_grid(layout_.atoms, X_.cols), dim3(kColumnThreads), 0,
                 context_.stream(), arguments, t == 0);
          break;
      }
    }
  }

  /// After forward() into kept layers.
  void backward(VectorView<double> loss, VectorView<T> gradient) const {
    const std::int64_t N = X_.cols, m = layout_.atoms, chunks = Workspace<T>::chunks(N);
    const T factor = T(1) / static_cast<T>(N);
    const MatrixView<const T> last = of_layer(w_.kept.codes, layout_.layers - 1);
    residual_of(last, w_.R);
    launch(cost_kernel<T>, column_grid(1, N), dim3(kColumnThreads), 0, context_.stream(), MatrixView<const T>(w_.R),
           last, lambda_.data, w_.costs.data, w_.G);
    launch(loss_kernel, dim3(1), dim3(kSumThreads), 0, context_.stream(), static_cast<const double*>(w_.costs.data), N,
           loss.data);
    multiply(Transpose::yes, Transpose::no, T(-1), network_.D, w_.R, T(1), w_.G);

    for (std::int64_t t = layout_.layers - 1; t >= 0; --t) {
      back(t);
      const MatrixView<T> dW{gradient.data + layout_.weights(t), layout_.weight_rows(), layout_.weight_cols(),
                             std::max<std::int64_t>(layout_.weight_rows(), 1), gradient.device};
      if (layout_.kind == ListaKind::coupled) {
        multiply(Transpose::no, Transpose::yes, factor, t > 0 ? of_layer(w_.kept.residuals, t) : X_, w_.H, T(0), dW);
        if (t == 0) break;
        multiply(Transpose::no, Transpose::no, T(1), weights(t), w_.H, T(0), w_.R);
        multiply(Transpose::yes, Transpose::no, T(-1), network_.D, w_.R, T(1), w_.G);
        continue;
      }
      multiply(Transpose::no, Transpose::yes, factor, w_.H, X_, T(0), dW.columns(m, layout_.rows));
      if (t == 0) {
        context_.zero_bytes(dW.data, m * m * static_cast<std::int64_t>(sizeof(T)));
        break;
      }
      multiply(Transpose::no, Transpose::yes, factor, w_.H, of_layer(w_.kept.codes, t - 1), T(0), dW.columns(0, m));
      multiply(Transpose::yes, Transpose::no, T(1), weights(t).columns(0, m), w_.H,
               T(layout_.kind == ListaKind::momentum ? 1 : 0), w_.G);
    }
    const SumArguments<T> sums{w_.d_theta.data,
                               w_.d_gamma.data,
                               m,
                               chunks,
                               Workspace<T>::gammas(layout_, N),
                               layout_.layer_size(),
                               layout_.thresholds(0),
                               layout_.gamma(0),
                               1.0 / static_cast<double>(N),
                               network_.parameters.data,
                               gradient.data};
    launch(gradient_kernel<T>,
           dim3(grid_size(layout_.layers, "lista_network_loss"),
                grid_size(std::max<std::int64_t>(ceil_div(m, kSumThreads), 1), "lista_network_loss")),
           dim3(kSumThreads), 0, context_.stream(), sums);
  }

 private:
  bool keeps() const { return w_.kept.codes.data != nullptr; }
  MatrixView<T> of_layer(const MatrixView<T>& all, std::int64_t t) const { return all.columns(t * X_.cols, X_.cols); }
  MatrixView<const T> weights(std::int64_t t) const {
    return {network_.parameters.data + layout_.weights(t), layout_.weight_rows(), layout_.weight_cols(),
            std::max<std::int64_t>(layout_.weight_rows(), 1), network_.parameters.device};
  }
  const T* theta(std::int64_t t) const { return network_.parameters.data + layout_.thresholds(t); }
  const T* gamma(std::int64_t t) const { return network_.parameters.data + layout_.gamma(t); }

  void multiply(Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A, MatrixView<const T> B, T beta,
                MatrixView<T> C) const {
    gemm<T>(context_, op_a, op_b, alpha, for_blas(A), for_blas(B), beta, C);
  }
  /// U <- W1 z_t + W2 x
  void multiply_weights(std::int64_t t, MatrixView<const T> before, MatrixView<T> U) const {
    const std::int64_t m = layout_.atoms;
    multiply(Transpose::no, Transpose::no, T(1), weights(t).columns(m, layout_.rows), X_, T(0), U);
    if (t > 0) multiply(Transpose::no, Transpose::no, T(1), weights(t).columns(0, m), before, T(1), U);
  }
  /// R <- X - D codes
  void residual_of(MatrixView<const T> codes, MatrixView<T> R) const {
    const auto size = static_cast<std::int64_t>(sizeof(T));
    context_.copy_bytes_2d(R.data, R.device, R.ld * size, X_.data, X_.device, X_.ld * size, X_.rows * size, X_.cols);
    multiply(Transpose::no, Transpose::no, T(-1), network_.D, codes, T(1), R);
  }
  /// H, the partial sums of d theta and d gamma, and what becomes of G and V.
  void back(std::int64_t t) const {
    const std::int64_t N = X_.cols, m = layout_.atoms;
    const bool momentum = layout_.kind == ListaKind::momentum;
    BackArguments<T> arguments{
        w_.G,         w_.V, of_layer(momentum ? w_.kept.shrunk : w_.kept.codes, t), {},     {}, gamma(t),
        lambda_.data, w_.H, w_.d_theta.data + t * Workspace<T>::chunks(N) * m,      nullptr};
    if (momentum) arguments.d_gamma = w_.d_gamma.data + t * Workspace<T>::gammas(layout_, N);
    if (momentum && t > 0) arguments.before = of_layer(w_.kept.codes, t - 1);
    if (momentum && t > 1) arguments.earlier = of_layer(w_.kept.codes, t - 2);
    const auto kernel = momentum                             ? back_kernel<T, ListaKind::momentum>
                        : layout_.kind == ListaKind::coupled ? back_kernel<T, ListaKind::coupled>
                                                             : back_kernel<T, ListaKind::free>;
    launch(kernel,
           dim3(grid_size(Workspace<T>::chunks(N), "lista_network_loss"),
                grid_size(ceil_div(m, kBackThreads), "lista_network_loss")),
           dim3(kBackThreads), 0, context_.stream(), arguments, t == layout_.layers - 1);
  }

  const Context& context_;
  const ListaNetwork<T>& network_;
  const ListaLayout& layout_;
  MatrixView<const T> X_;
  VectorView<const T> lambda_;
  const Workspace<T>& w_;
};

}  // namespace

template <class T>
std::int64_t lista_network_scratch(const Context& context, const ListaNetwork<T>& network, std::int64_t problems,
                                   bool gradient) {
  Arena counting{context.device()};
  Workspace<T>(counting, network.layout, problems, gradient, plan_of<T>(context, network, problems).has_value());
  return counting.used();
}

template <class T>
void lista_network_forward(const Context& context, const ListaNetwork<T>& network, MatrixView<const T> X,
                           VectorView<const T> lambda, MatrixView<T> Z, VectorView<std::byte> scratch) {
  const std::optional<FusedPlan> plan = plan_of<T>(context, network, X.cols);
  Arena arena(scratch);
  const Workspace<T> w(arena, network.layout, X.cols, false, plan.has_value());
  Network<T>(context, network, X, lambda, w).forward(plan, Z);
}

template <class T>
void lista_network_loss(const Context& context, const ListaNetwork<T>& network, MatrixView<const T> X,
                        VectorView<const T> lambda, VectorView<double> loss, VectorView<T> gradient,
                        VectorView<std::byte> scratch) {
  const std::optional<FusedPlan> plan = plan_of<T>(context, network, X.cols);
  Arena arena(scratch);
  const Workspace<T> w(arena, network.layout, X.cols, true, plan.has_value());
  const Network<T> bound(context, network, X, lambda, w);
  if (network.layout.atoms > 0) bound.forward(plan, {});
  bound.backward(loss, gradient);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                             \
  template std::int64_t lista_network_scratch<T>(const Context&, const ListaNetwork<T>&, std::int64_t, bool); \
  template void lista_network_forward<T>(const Context&, const ListaNetwork<T>&, MatrixView<const T>,         \
                                         VectorView<const T>, MatrixView<T>, VectorView<std::byte>);          \
  template void lista_network_loss<T>(const Context&, const ListaNetwork<T>&, MatrixView<const T>,            \
                                      VectorView<const T>, VectorView<double>, VectorView<T>, VectorView<std::byte>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
