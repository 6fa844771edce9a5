// CPU bodies of the networks with weight matrices. A task takes a slice of the problems through all layers and back; its
// products are the BLAS's, on this thread alone, with the elementwise part behind each while its columns are in cache.
//
// Slices have a fixed size and their gradients are added in their order, so that bits do not depend on the threads: as many
// slices as there are threads run side by side, then what they have found is added up.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/common/this_thread.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/gemm/single_threaded_blas.hpp>
#include <shrinkwarp/kernels/lista_network/bodies.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp::cpu {
namespace {

/// Problems of a slice: 512, fewer where a layer's codes of them would take over a quarter of a million elements. A BLAS
/// packs the weights once a call, which for 512 columns costs some 3 %.
std::int64_t slice_of(std::int64_t atoms, std::int64_t problems) {
  const std::int64_t room = 262144 / std::max<std::int64_t>(atoms, 1);
  return std::clamp<std::int64_t>(std::min<std::int64_t>(std::max<std::int64_t>(room, 64), 512), 1,
                                  std::max<std::int64_t>(problems, 1));
}

#define SHRINKWARP_LISTA_LOOPS(T)                                                                                    \
  /* u <- st(u, lambda theta+) */                                                                                    \
  SHRINKWARP_CPU_CLONES void shrink(T* u, T lambda, const T* theta, std::int64_t size) {                             \
    for (std::int64_t j = 0; j < size; ++j) u[j] = soft_threshold(u[j], lambda * std::max(theta[j], T(0)));          \
  }                                                                                                                  \
  /* u <- st(z + u, lambda theta+) */                                                                                \
  SHRINKWARP_CPU_CLONES void add_and_shrink(T* u, const T* z, T lambda, const T* theta, std::int64_t size) {         \
    for (std::int64_t j = 0; j < size; ++j) u[j] = soft_threshold(z[j] + u[j], lambda * std::max(theta[j], T(0)));   \
  }                                                                                                                  \
  /* H <- G where next is not 0, else 0; d_theta -= lambda sign(next) H. H may be G. */                              \
  SHRINKWARP_CPU_CLONES void keep_support(const T* G, const T* next, T lambda, T* H, double* d_theta,                \
                                          std::int64_t size) {                                                       \
    for (std::int64_t j = 0; j < size; ++j) {                                                                        \
      const T g = G[j], s = next[j];                                                                                 \
      const T h = s != T(0) ? g : T(0);                                                                              \
      const T sign = s > T(0) ? -lambda : lambda;                                                                    \
      d_theta[j] += static_cast<double>(sign * h);                                                                   \
      H[j] = h;                                                                                                      \
    }                                                                                                                \
  }                                                                                                                  \
  /* v' <- gamma v + (1 - gamma)(s - z);  z' <- z + v' */                                                            \
  SHRINKWARP_CPU_CLONES void move_on(const T* s, const T* z, const T* v, T gamma, T* next_v, T* next_z,              \
                                     std::int64_t size) {                                                            \
    for (std::int64_t j = 0; j < size; ++j) {                                                                        \
      next_v[j] = gamma * v[j] + (T(1) - gamma) * (s[j] - z[j]);                                                     \
      next_z[j] = z[j] + next_v[j];                                                                                  \
    }                                                                                                                \
  }                                                                                                                  \
  /* C <- G + V;  V <- gamma C;  @return <C, v - (s - z)> */                                                         \
  SHRINKWARP_CPU_CLONES double move_back(const T* G, T* V, const T* s, const T* z, const T* v, T gamma, T* C,        \
                                         std::int64_t size) {                                                        \
    double lane[8] = {};                                                                                             \
    const auto entry = [&](std::int64_t j, int k) {                                                                  \
      const T c = G[j] + V[j];                                                                                       \
      lane[k] += static_cast<double>(c) * static_cast<double>(v[j] - (s[j] - z[j]));                                 \
      V[j] = gamma * c;                                                                                              \
      C[j] = (T(1) - gamma) * c;                                                                                     \
    };                                                                                                               \
    std::int64_t j = 0;                                                                                              \
    for (; j + 8 <= size; j += 8)                                                                                    \
      for (int k = 0; k < 8; ++k) entry(j + k, k);                                                                   \
    for (int k = 0; j < size; ++j, ++k) entry(j, k);                                                                 \
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));                \
  }                                                                                                                  \
  /* a <- a - b */                                                                                                   \
  SHRINKWARP_CPU_CLONES void take_away(T* a, const T* b, std::int64_t size) {                                        \
    for (std::int64_t j = 0; j < size; ++j) a[j] -= b[j];                                                            \
  }                                                                                                                  \
  /* total <- total + part */                                                                                        \
  SHRINKWARP_CPU_CLONES void add_to(T* total, const T* part, std::int64_t size) {                                    \
    for (std::int64_t j = 0; j < size; ++j) total[j] += part[j];                                                     \
  }                                                                                                                  \
  SHRINKWARP_CPU_CLONES void scale(T* a, T factor, std::int64_t size) {                                              \
    for (std::int64_t j = 0; j < size; ++j) a[j] *= factor;                                                          \
  }                                                                                                                  \
  /* 1/2 ||r||^2 + lambda ||z||_1 */                                                                                 \
  SHRINKWARP_CPU_CLONES double lasso_cost(const T* r, std::int64_t rows, const T* z, std::int64_t atoms, T lambda) { \
    double squares[8] = {}, magnitudes[8] = {};                                                                      \
    std::int64_t i = 0;                                                                                              \
    for (; i + 8 <= rows; i += 8)                                                                                    \
      for (int k = 0; k < 8; ++k) squares[k] += static_cast<double>(r[i + k]) * static_cast<double>(r[i + k]);       \
    for (int k = 0; i < rows; ++i, ++k) squares[k] += static_cast<double>(r[i]) * static_cast<double>(r[i]);         \
    for (i = 0; i + 8 <= atoms; i += 8)                                                                              \
      for (int k = 0; k < 8; ++k) magnitudes[k] += std::fabs(static_cast<double>(z[i + k]));                         \
    for (int k = 0; i < atoms; ++i, ++k) magnitudes[k] += std::fabs(static_cast<double>(z[i]));                      \
    double energy = 0, norm = 0;                                                                                     \
    for (int k = 0; k < 8; ++k) energy += squares[k], norm += magnitudes[k];                                         \
    return 0.5 * energy + static_cast<double>(lambda) * norm;                                                        \
  }                                                                                                                  \
  /* G <- lambda sign(z) */                                                                                          \
  SHRINKWARP_CPU_CLONES void penalty_gradient(const T* z, T lambda, T* G, std::int64_t size) {                       \
    for (std::int64_t j = 0; j < size; ++j) G[j] = z[j] > T(0) ? lambda : (z[j] < T(0) ? -lambda : T(0));            \
  }
SHRINKWARP_LISTA_LOOPS(float)
SHRINKWARP_LISTA_LOOPS(double)
#undef SHRINKWARP_LISTA_LOOPS

/// What one thread needs for a slice.
template <class T>
struct ListaWorkspace {
  // Layer t: [z_t; x] (coupled: z_t), one after another. Without a way back layers take turns in two places.
  MatrixView<T> states;        // [m + n (m), slice (layers + 1)]
  MatrixView<T> residuals;     // [n, slice layers], coupled: x - D z_t; one without a way back
  MatrixView<T> velocities;    // [m, slice (layers + 1)], momentum: v_t
  MatrixView<T> shrunk;        // [m, slice layers], momentum: st(...); one without a way back
  MatrixView<T> G, H, V;       // [m, slice], way back
  MatrixView<T> R;             // [n, slice], way back
  VectorView<T> gradient;      // [layout.size()], way back
  VectorView<double> d_theta;  // [m], way back
};

template <class T>
ListaWorkspace<T> lay_out(Arena& arena, const ListaLayout& layout, std::int64_t slice, bool gradient) {
  const std::int64_t n = layout.rows, m = layout.atoms;
  const std::int64_t layers = gradient ? layout.layers : 1;
  ListaWorkspace<T> w;
  w.states = arena.matrix<T>(layout.kind == ListaKind::coupled ? m : m + n, slice * (layers + 1));
  if (layout.kind == ListaKind::coupled) w.residuals = arena.matrix<T>(n, slice * layers);
  if (layout.kind == ListaKind::momentum) {
    w.velocities = arena.matrix<T>(m, slice * (layers + 1));
    w.shrunk = arena.matrix<T>(m, slice * layers);
  }
  if (!gradient) return w;
  w.G = arena.matrix<T>(m, slice);
  w.H = arena.matrix<T>(m, slice);
  if (layout.kind == ListaKind::momentum) w.V = arena.matrix<T>(m, slice);
  w.R = arena.matrix<T>(n, slice);
  w.gradient = arena.vector<T>(layout.size());
  w.d_theta = arena.vector<double>(m);
  return w;
}

template <class T>
class Slice {
 public:
  Slice(const ListaNetwork<T>& network, MatrixView<const T> X, VectorView<const T> lambda, const ListaWorkspace<T>& w,
        std::int64_t slice, bool keeps)
      : network_(network), layout_(network.layout), X_(X), lambda_(lambda), w_(w), slice_(slice), keeps_(keeps) {}

  /// z_t, without the x under it.
  MatrixView<T> code(std::int64_t t) const {
    MatrixView<T> whole = state(t);
    whole.rows = layout_.atoms;
    return whole;
  }

  void forward() const {
    for (std::int64_t t = 0; t <= std::min<std::int64_t>(layers(), keeps_ ? layers() : 1); ++t) {
      if (layout_.kind == ListaKind::coupled) break;
      for (std::int64_t b = 0; b < count(); ++b)
        std::copy_n(X_.column(b), layout_.rows, state(t).column(b) + layout_.atoms);
    }
    for (std::int64_t b = 0; b < count(); ++b) {
      std::fill_n(state(0).column(b), layout_.atoms, T(0));
      if (layout_.kind == ListaKind::momentum) std::fill_n(velocity(0).column(b), layout_.atoms, T(0));
    }
    for (std::int64_t t = 0; t < layers(); ++t) {
      const MatrixView<T> next = code(t + 1);
      const T* const theta = network_.parameters.data + layout_.thresholds(t);
      switch (layout_.kind) {
        case ListaKind::free:
          multiply_weights(t, next);
          for (std::int64_t b = 0; b < count(); ++b) shrink(next.column(b), lambda_[b], theta, layout_.atoms);
          break;
        case ListaKind::coupled: {
          const MatrixView<T> R = residual(t);
          residual_of(t, R);
          gemm<T>(this_thread(), Transpose::yes, Transpose::no, T(1), weights(t), R, T(0), next);
          for (std::int64_t b = 0; b < count(); ++b)
            add_and_shrink(next.column(b), code(t).column(b), lambda_[b], theta, layout_.atoms);
          break;
        }
        case ListaKind::momentum: {
          const MatrixView<T> s = shrunk(t);
          multiply_weights(t, s);
          for (std::int64_t b = 0; b < count(); ++b) {
            shrink(s.column(b), lambda_[b], theta, layout_.atoms);
            move_on(s.column(b), code(t).column(b), velocity(t).column(b), gamma(t), velocity(t + 1).column(b),
                    next.column(b), layout_.atoms);
          }
          break;
        }
      }
    }
  }

  /// After forward(): the gradient of this slice's sum to the workspace. @return the sum of F
  double backward() const {
    const std::int64_t m = layout_.atoms;
    MatrixView<T> G = w_.G.columns(0, count()), H = w_.H.columns(0, count());
    const MatrixView<T> R = w_.R.columns(0, count());
    const MatrixView<T> last = code(layers());
    residual_of(layers(), R);
    double cost = 0;
    for (std::int64_t b = 0; b < count(); ++b) {
      cost += lasso_cost(R.column(b), layout_.rows, last.column(b), m, lambda_[b]);
      penalty_gradient(last.column(b), lambda_[b], G.column(b), m);
      if (layout_.kind == ListaKind::momentum) std::fill_n(w_.V.column(b), m, T(0));
    }
    gemm<T>(this_thread(), Transpose::yes, Transpose::no, T(-1), network_.D, R, T(1), G);

    for (std::int64_t t = layers() - 1; t >= 0; --t) {
      std::fill_n(w_.d_theta.data, m, 0.0);
      double d_gamma = 0;
      MatrixView<const T> next = code(t + 1);
      for (std::int64_t b = 0; b < count(); ++b) {
        const T* branch = G.column(b);
        if (layout_.kind == ListaKind::momentum) {
          next = shrunk(t);
          d_gamma += move_back(G.column(b), w_.V.column(b), next.column(b), code(t).column(b), velocity(t).column(b),
                               gamma(t), H.column(b), m);
          take_away(G.column(b), H.column(b), m);
          branch = H.column(b);
        }
        keep_support(branch, next.column(b), lambda_[b], H.column(b), w_.d_theta.data, m);
      }
      const T* const theta = network_.parameters.data + layout_.thresholds(t);
      T* const d_theta = w_.gradient.data + layout_.thresholds(t);
      for (std::int64_t j = 0; j < m; ++j) d_theta[j] = theta[j] < T(0) ? T(0) : static_cast<T>(w_.d_theta[j]);
      if (layout_.kind == ListaKind::momentum) w_.gradient[layout_.gamma(t)] = static_cast<T>(d_gamma);

      const MatrixView<T> dW{w_.gradient.data + layout_.weights(t),
                             layout_.weight_rows(),
                             layout_.weight_cols(),
                             layout_.weight_rows(),
                             {}};
      if (layout_.kind == ListaKind::coupled) {
        gemm<T>(this_thread(), Transpose::no, Transpose::yes, T(1), residual(t), H, T(0), dW);
        if (t == 0) break;
        gemm<T>(this_thread(), Transpose::no, Transpose::no, T(1), weights(t), H, T(0), R);
        gemm<T>(this_thread(), Transpose::yes, Transpose::no, T(-1), network_.D, R, T(1), H);
        std::swap(G, H);
        continue;
      }
      if (t == 0) {  // z_0 = 0
        std::fill_n(dW.data, m * m, T(0));
        gemm<T>(this_thread(), Transpose::no, Transpose::yes, T(1), H, X_, T(0), dW.columns(m, layout_.rows));
        break;
      }
      gemm<T>(this_thread(), Transpose::no, Transpose::yes, T(1), H, state(t), T(0), dW);
      const bool adds = layout_.kind == ListaKind::momentum;
      gemm<T>(this_thread(), Transpose::yes, Transpose::no, T(1), weights(t).columns(0, m), H, T(adds ? 1 : 0), G);
    }
    return cost;
  }

 private:
  std::int64_t layers() const { return layout_.layers; }
  std::int64_t count() const { return X_.cols; }
  std::int64_t place(std::int64_t t) const { return (keeps_ ? t : t % 2) * slice_; }
  MatrixView<T> state(std::int64_t t) const { return w_.states.columns(place(t), count()); }
  MatrixView<T> velocity(std::int64_t t) const { return w_.velocities.columns(place(t), count()); }
  MatrixView<T> residual(std::int64_t t) const { return w_.residuals.columns(keeps_ ? t * slice_ : 0, count()); }
  MatrixView<T> shrunk(std::int64_t t) const { return w_.shrunk.columns(keeps_ ? t * slice_ : 0, count()); }
  MatrixView<const T> weights(std::int64_t t) const {
    return {network_.parameters.data + layout_.weights(t),
            layout_.weight_rows(),
            layout_.weight_cols(),
            layout_.weight_rows(),
            {}};
  }
  T gamma(std::int64_t t) const { return network_.parameters[layout_.gamma(t)]; }

  /// U <- W1 z_t + W2 x
  void multiply_weights(std::int64_t t, MatrixView<T> U) const {
    if (t > 0)
      gemm<T>(this_thread(), Transpose::no, Transpose::no, T(1), weights(t), state(t), T(0), U);
    else
      gemm<T>(this_thread(), Transpose::no, Transpose::no, T(1), weights(0).columns(layout_.atoms, layout_.rows), X_,
              T(0), U);
  }
  /// R <- X - D z_t
  void residual_of(std::int64_t t, MatrixView<T> R) const {
    for (std::int64_t b = 0; b < count(); ++b) std::copy_n(X_.column(b), layout_.rows, R.column(b));
    if (t > 0) gemm<T>(this_thread(), Transpose::no, Transpose::no, T(-1), network_.D, code(t), T(1), R);
  }

  const ListaNetwork<T>& network_;
  const ListaLayout& layout_;
  MatrixView<const T> X_;
  VectorView<const T> lambda_;
  const ListaWorkspace<T>& w_;
  std::int64_t slice_;
  bool keeps_;
};

/// Workspaces of all threads, and the costs of all slices.
template <class T>
struct Scratch {
  std::int64_t slice = 0, slices = 0;
  std::int64_t bytes_a_thread = 0;
  VectorView<std::byte> threads;
  VectorView<double> costs;  // [slices]

  Scratch(Arena& arena, const Context& context, const ListaLayout& layout, std::int64_t problems, bool gradient) {
    slice = slice_of(layout.atoms, problems);
    slices = (problems + slice - 1) / slice;
    Arena counting{context.device()};
    lay_out<T>(counting, layout, slice, gradient);
    bytes_a_thread = counting.used();
    threads = arena.vector<std::byte>(bytes_a_thread * context.threads());
    if (gradient) costs = arena.vector<double>(slices);
  }
  ListaWorkspace<T> workspace(const ListaLayout& layout, std::int64_t worker, bool gradient) const {
    Arena arena(threads.slice(worker * bytes_a_thread, bytes_a_thread));
    return lay_out<T>(arena, layout, slice, gradient);
  }
};

}  // namespace

template <class T>
std::int64_t lista_network_scratch(const Context& context, const ListaNetwork<T>& network, std::int64_t problems,
                                   bool gradient) {
  Arena counting{context.device()};
  Scratch<T>(counting, context, network.layout, problems, gradient);
  return counting.used();
}

template <class T>
void lista_network_forward(const Context& context, const ListaNetwork<T>& network, MatrixView<const T> X,
                           VectorView<const T> lambda, MatrixView<T> Z, VectorView<std::byte> scratch) {
  Arena arena(scratch);
  const Scratch<T> s(arena, context, network.layout, X.cols, false);
  const SingleThreadedBlas single;  // once for all products
  context.parallel_for(s.slices, [&](std::int64_t i, int worker) {
    const std::int64_t first = i * s.slice, count = std::min(s.slice, X.cols - first);
    const ListaWorkspace<T> w = s.workspace(network.layout, worker, false);
    const Slice<T> slice(network, X.columns(first, count), lambda.slice(first, count), w, s.slice, false);
    slice.forward();
    const MatrixView<const T> codes = slice.code(network.layout.layers);
    for (std::int64_t b = 0; b < count; ++b) std::copy_n(codes.column(b), codes.rows, Z.column(first + b));
  });
}

template <class T>
void lista_network_loss(const Context& context, const ListaNetwork<T>& network, MatrixView<const T> X,
                        VectorView<const T> lambda, VectorView<double> loss, VectorView<T> gradient,
                        VectorView<std::byte> scratch) {
  Arena arena(scratch);
  const Scratch<T> s(arena, context, network.layout, X.cols, true);
  const SingleThreadedBlas single;  // once for all products
  std::fill_n(gradient.data, gradient.size, T(0));
  constexpr std::int64_t kPiece = 65536;
  for (std::int64_t round = 0; round < s.slices; round += context.threads()) {
    const std::int64_t running = std::min<std::int64_t>(context.threads(), s.slices - round);
    // Which thread runs a slice is open; its workspace is not.
    context.parallel_for(running, [&](std::int64_t i, int) {
      const std::int64_t first = (round + i) * s.slice, count = std::min(s.slice, X.cols - first);
      const ListaWorkspace<T> w = s.workspace(network.layout, i, true);
      const Slice<T> slice(network, X.columns(first, count), lambda.slice(first, count), w, s.slice, true);
      slice.forward();
      s.costs[round + i] = slice.backward();
    });
    context.parallel_for((gradient.size + kPiece - 1) / kPiece, [&](std::int64_t piece, int) {
      const std::int64_t first = piece * kPiece, size = std::min(kPiece, gradient.size - first);
      for (std::int64_t i = 0; i < running; ++i)
        add_to(gradient.data + first, s.workspace(network.layout, i, true).gradient.data + first, size);
    });
  }
  const auto factor = static_cast<T>(1.0 / static_cast<double>(X.cols));
  context.parallel_for((gradient.size + kPiece - 1) / kPiece, [&](std::int64_t piece, int) {
    const std::int64_t first = piece * kPiece;
    scale(gradient.data + first, factor, std::min(kPiece, gradient.size - first));
  });
  double sum = 0;
  for (std::int64_t i = 0; i < s.slices; ++i) sum += s.costs[i];
  loss[0] = sum / static_cast<double>(X.cols);
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

}  // namespace shrinkwarp::cpu
