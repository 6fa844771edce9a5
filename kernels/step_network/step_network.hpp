// Networks whose layers are gradient steps with a step and a threshold of their own, for a batch of Lasso problems: the
// codes of the last layer, and the mean Lasso cost with its gradient in every step and threshold.
//
//   z_0 = 0,   u_t = z_t + steps[t] W'(x - D z_t),   z_(t+1) = st(u_t, lambda max(thresholds[t], 0)),   t = 0 .. T - 1
//
// W = D and thresholds = steps is step-LISTA (Ablin, Moreau, Massias, Gramfort 2019), which with steps of 1/L is ISTA; an
// analytic W is ALISTA (Liu, Chen, Wang, Yin 2019). On CUDA a network of floats is one launch where W = D, nothing is selected
// and D fits the chip (iteration_plan); else a few launches a layer.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// D, W and what the products read of them, made once and shared by all networks on one device.
template <class T>
class StepNetworkOperands {
 public:
  StepNetworkOperands() = default;
  /// W = D.
  /// @param D  [n, m] on the context's device
  /// Cost: three copies of D, and on the CPU D'D for up to 1024 atoms. Allocates yes, synchronises no. @throws DeviceError, OutOfMemory
  StepNetworkOperands(const Context& context, MatrixView<const T> D);
  /// @param D, W  [n, m] on the context's device
  /// Cost: six copies of D. @throws ShapeError (other sizes), and as above
  StepNetworkOperands(const Context& context, MatrixView<const T> D, MatrixView<const T> W);

  std::int64_t rows() const { return D_.rows(); }   ///< n
  std::int64_t atoms() const { return D_.cols(); }  ///< m
  Device device() const { return packed_D_.device(); }
  bool is_tied() const { return packed_W_.cols() == 0; }  ///< W is D
  MatrixView<const T> D() const { return D_.matrix(); }   ///< [n, m], ld = n
  MatrixView<const T> W() const { return (is_tied() ? D_ : W_).matrix(); }
  const StepDictionary<T>& packed_D() const { return packed_D_; }
  const StepDictionary<T>& packed_W() const { return is_tied() ? packed_D_ : packed_W_; }
  /// [m, m] W'D on the CPU where m is small, else empty: products of sparse codes.
  MatrixView<const T> gram() const { return gram_.matrix(); }

 private:
  static constexpr std::int64_t kMostGramAtoms = 1024;
  Tensor<T> D_, W_, gram_;
  StepDictionary<T> packed_D_, packed_W_;
};

/// Support selection of ALISTA (Chen, Liu, Wang, Yin 2018): of the entries of u_t over the threshold those that are among the
/// selected_entries() largest in magnitude of their problem (all that are as large as the last of these) pass as they are.
/// For the gradient the choice is a constant.
struct SupportSelection {
  double percent_a_layer = 0;  ///< p >= 0, of all m atoms, whatever the code has in use; 0 selects nothing
  double most_percent = 0;     ///< p_max, 0 to 100, of the same
  bool selects() const { return percent_a_layer > 0 && most_percent > 0; }
};

/// floor(m min(p (t + 1), p_max) / 100).
std::int64_t selected_entries(const SupportSelection& selection, std::int64_t layer, std::int64_t atoms);

template <class T>
struct StepNetwork {
  const StepNetworkOperands<T>& operands;
  VectorView<const T> steps;       ///< [T], > 0; T >= 1
  VectorView<const T> thresholds;  ///< [T], or empty for the steps
  SupportSelection selection;
};

/// Bytes that step_network_forward and, where `gradient`, step_network_loss need as scratch, aligned to 256.
template <class T>
std::int64_t step_network_scratch(const Context& context, const StepNetwork<T>& network, std::int64_t problems,
                                  bool gradient);

/// Codes of the last layer.
///
/// @param X        [n, N], observations
/// @param lambda   [N], >= 0, in the units of the objective
/// @param Z        [m, N], written: z_T
/// @param scratch  step_network_scratch() bytes on the device; not kept
///
/// Numerics     T throughout; on CUDA as split_tf32 of proximal_iterations for float. On the CPU W'(x - D z) is W'x - (W'D) z
///              where that is less work, a choice that each problem's code makes for itself. Where a step is not > 0 or not finite, all of Z is NaN
/// Determinism  a column's bits depend on that column alone: not on N, on its place or on the threads; no atomics
/// Cost         (4 T - 2) n m N flops, of which the CPU leaves out what zeros of z_t make: with k of m entries in use a layer
///              costs 2 k m N where k is under some half of n; reads D and X once a tile of
///              problems and writes Z once. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (selection)
template <class T>
void step_network_forward(const Context& context, const StepNetwork<T>& network, identity_t<MatrixView<const T>> X,
                          identity_t<VectorView<const T>> lambda, MatrixView<T> Z, VectorView<std::byte> scratch);

/// Mean Lasso cost of the codes of the last layer, and its gradient.
///
///   loss = 1/N sum_b F_b,   F = 1/2 ||x - D z_T||^2 + lambda ||z_T||_1
///   G_T = D'(D z_T - x) + lambda sign(z_T)
///   H = G_(t+1) where z_(t+1) is not 0, else 0
///   d steps[t] = <H, W'(x - D z_t)>,   d thresholds[t] = -lambda <H, sign(z_(t+1))> (0 where thresholds[t] < 0),
///   G_t = H - steps[t] D'(W H)
///
/// @param loss        [1] on the device, written
/// @param steps       [T] on the device, written: d loss / d steps; with thresholds = steps the sum of both
/// @param thresholds  [T], or empty where the network has none of its own
/// @param scratch     step_network_scratch(..., true) bytes on the device; not kept
///
/// Numerics     products in T, the sums over a layer's entries and over problems in double. <H, W'(x - D z_t)> is <H, u_t -
///              z_t> / steps[t] on the CPU and <W H, x - D z_t> on CUDA. Where a step is not > 0 or not finite, all that is
///              written is NaN
/// Determinism  same bits run to run on one kind of device, whatever the threads; not across N
/// Cost         at most 8 T n m N flops; on the CPU what step_network_forward costs and 4 k n N a layer more, or 4 n m N for
///              problems with k over some third of m. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (selection)
template <class T>
void step_network_loss(const Context& context, const StepNetwork<T>& network, identity_t<MatrixView<const T>> X,
                       identity_t<VectorView<const T>> lambda, VectorView<double> loss, VectorView<double> steps,
                       VectorView<double> thresholds, VectorView<std::byte> scratch);

}  // namespace shrinkwarp
