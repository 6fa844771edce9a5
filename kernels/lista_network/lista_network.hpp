// Networks whose layers have weight matrices of their own, for a batch of Lasso problems: the codes of the last layer, and
// the mean Lasso cost with its gradient in every parameter.
//
//   free      z_(t+1) = st(W1_t z_t + W2_t x, lambda theta_t+)                                   LISTA
//   coupled   z_(t+1) = st(z_t + W_t'(x - D z_t), lambda theta_t+)                               coupled LISTA
//   momentum  v_(t+1) = gamma_t v_t + (1 - gamma_t) (st(W1_t z_t + W2_t x, lambda theta_t+) - z_t),
//             z_(t+1) = z_t + v_(t+1)                                                           momentum LISTA
//
// with z_0 = v_0 = 0 and for each atom a threshold factor theta, of which theta+ = max(theta, 0) counts (Gregor, LeCun 2010; Chen, Liu, Wang, Yin 2018; Sander, Ablin,
// Blondel, Peyre 2021). On CUDA a forward pass in float is one launch where a tile of 16 problems fits into a block's shared
// memory: for up to 512 atoms, 256 with momentum, and few thousand rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

enum class ListaKind { free, coupled, momentum };

/// Where the parameters of a layer begin in the one vector that holds all of them: layer after layer, W [m, m + n] = [W1, W2]
/// (coupled: W [n, m]), theta [m], and with momentum gamma [1].
struct ListaLayout {
  ListaKind kind = ListaKind::free;
  std::int64_t rows = 0, atoms = 0, layers = 0;  ///< n, m, T

  std::int64_t weight_rows() const { return kind == ListaKind::coupled ? rows : atoms; }
  std::int64_t weight_cols() const { return kind == ListaKind::coupled ? atoms : atoms + rows; }
  std::int64_t layer_size() const {
    return weight_rows() * weight_cols() + atoms + (kind == ListaKind::momentum ? 1 : 0);
  }
  std::int64_t size() const { return layers * layer_size(); }
  std::int64_t weights(std::int64_t layer) const { return layer * layer_size(); }
  std::int64_t thresholds(std::int64_t layer) const { return weights(layer) + weight_rows() * weight_cols(); }
  std::int64_t gamma(std::int64_t layer) const { return thresholds(layer) + atoms; }  ///< with momentum
};

template <class T>
struct ListaNetwork {
  ListaLayout layout;
  MatrixView<const T> D;           ///< [n, m]
  VectorView<const T> parameters;  ///< [layout.size()]
};

/// Bytes that lista_network_forward and, where `gradient`, lista_network_loss need as scratch, aligned to 256. On CUDA a way
/// back keeps every layer of every problem: some m N T elements, twice that with momentum, (m + n) N T for coupled.
template <class T>
std::int64_t lista_network_scratch(const Context& context, const ListaNetwork<T>& network, std::int64_t problems,
                                   bool gradient);

/// Codes of the last layer.
///
/// @param X        [n, N], observations
/// @param lambda   [N], >= 0, in the units of the objective
/// @param Z        [m, N], written: z_T
/// @param scratch  lista_network_scratch() bytes on the device; not kept
///
/// Numerics     T throughout; on CUDA in one launch, with sums over |W| |z|, an element of a product of K terms is off by at
///              most 2^-21 (1 + 2^-10) sum, as MathMode::split_tf32 in gemm.hpp has it, and, in adding, some 2^-23 sum for
///              each of its 3 K terms; else as MathMode::fp32. W1 of the first layer meets only zeros and is not read
/// Determinism  same bits run to run, whatever the threads; a column's bits depend on N and its place as the products of the
///              BLAS do, on CUDA in one launch on that column alone
/// Cost         free, momentum: 2 m (n + m) N flops a layer, 2 m n N the first; coupled: 4 n m N a layer. Allocates as the BLAS
///              does, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void lista_network_forward(const Context& context, const ListaNetwork<T>& network, identity_t<MatrixView<const T>> X,
                           identity_t<VectorView<const T>> lambda, MatrixView<T> Z, VectorView<std::byte> scratch);

/// Mean Lasso cost of the codes of the last layer, and its gradient.
///
///   loss = 1/N sum_b F_b,   F = 1/2 ||x - D z_T||^2 + lambda ||z_T||_1,   G_T = D'(D z_T - x) + lambda sign(z_T)
///   free      H = G_(t+1) where z_(t+1) is not 0, else 0;   dW1 = H z_t', dW2 = H x', d theta = -lambda sign(z_(t+1)) H
///             (0 where theta < 0),
///             G_t = W1'H
///   coupled   H as above;   dW = (x - D z_t) H', d theta as above,   G_t = H - D'(W H)
///   momentum  with V the gradient in v, V_T = 0, and f + z_t = st(...):   C = G_(t+1) + V_(t+1),   d gamma = <C, v_t - f>,
///             V_t = gamma C;   H = (1 - gamma) C where f + z_t is not 0, else 0;   dW1, dW2, d theta as for free with
///             f + z_t for z_(t+1),   G_t = G_(t+1) - (1 - gamma) C + W1'H
///
/// @param loss      [1] on the device, written
/// @param gradient  [layout.size()] on the device, written: d loss / d parameters, in their layout
/// @param scratch   lista_network_scratch(..., true) bytes on the device; not kept
///
/// Numerics     products in T, sums over problems of thresholds, gamma and loss in double
/// Determinism  same bits run to run, whatever the threads; not across N
/// Cost         free, momentum: 6 m (n + m) N flops a layer; coupled: 10 n m N. Allocates as the BLAS does, synchronises no,
///              capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void lista_network_loss(const Context& context, const ListaNetwork<T>& network, identity_t<MatrixView<const T>> X,
                        identity_t<VectorView<const T>> lambda, VectorView<double> loss, VectorView<T> gradient,
                        VectorView<std::byte> scratch);

}  // namespace shrinkwarp
