// Networks that unroll iterations of ISTA and learn what the iterations multiply with, for one dictionary and any lambda:
//
//   step            step-LISTA: a step a layer                                                      steps [T]
//   alista          steps and thresholds of layers with an analytic matrix                          steps [T], thresholds [T]
//   coupled         coupled LISTA: a matrix and thresholds a layer                                  W [T, n, m], thresholds [T, m]
//   lista           LISTA: two matrices and thresholds a layer                         W1 [T, m, m], W2 [T, m, n], thresholds [T, m]
//   momentum_lista  LISTA layers as the branches of a momentum residual network                     the same and gamma [T]
//
// The formulas are in kernels/step_network and kernels/lista_network. Before training step, coupled and lista are ISTA of T
// steps; alista has the step 1 / rho(W'D) and thresholds for the analytic matrix, momentum_lista ISTA's branch with gamma.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <shrinkwarp/kernels/step_network/step_network.hpp>
#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

enum class NetworkKind { lista, coupled, step, alista, momentum_lista };

/// "momentum-lista".
const char* name_of(NetworkKind kind);
/// The kind of a name, or nothing.
std::optional<NetworkKind> network_kind(const std::string& name);
/// Whether all that a layer learns is a step and a threshold. Such networks are trained in double.
constexpr bool has_scalar_layers(NetworkKind kind) {
  return kind == NetworkKind::step || kind == NetworkKind::alista;
}

/// What a network is, but for its parameters.
struct NetworkSpec {
  NetworkKind kind = NetworkKind::step;
  std::int64_t layers = 1;     ///< T >= 1
  SupportSelection selection;  ///< of alista
  double ridge = 0;            ///< of alista's analytic matrix, a share of ||D||_2^2; see analytic_weights
  bool analytic =
      true;  ///< false where alista has D in place of the analytic matrix and selects nothing: ISTA, fallen back
  double gamma = 0.2;  ///< of momentum_lista before training
};

/// A network and its parameters on a device, all of them one vector; T is float or double. Numbers are in units in which the
/// dictionary is D / scale(); files are in the user's units. Move-only in effect: made by make_network.
template <class T>
class Network {
 public:
  virtual ~Network() = default;
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  const NetworkSpec& spec() const { return spec_; }
  std::int64_t rows() const { return rows_; }    ///< n
  std::int64_t atoms() const { return atoms_; }  ///< m
  /// What the user's dictionary has been divided by.
  double scale() const { return scale_; }

  VectorView<T> parameters() const { return parameters_.vector(); }
  /// The parameters from the device, and to it. Synchronise.
  std::vector<T> to_host(const Context& context) const;
  void to_device(const Context& context, const std::vector<T>& values) const;
  /// Layers that run and learn: the first of them, all unless set.
  std::int64_t depth() const { return depth_; }
  /// @throws ValueError (not 1 .. spec().layers)
  void set_depth(std::int64_t depth);

  /// Bytes of scratch, aligned to 256, for batches of N problems.
  virtual std::int64_t scratch(const Context& context, std::int64_t problems, bool gradient) const = 0;
  /// @param X  [n, N]  @param lambda  [N]  @param Z  [m, N], written; all for D / scale(). As step_network_forward
  virtual void forward(const Context& context, MatrixView<const T> X, VectorView<const T> lambda, MatrixView<T> Z,
                       VectorView<std::byte> scratch) const = 0;
  /// Mean Lasso cost of a batch to loss [1], its gradient to gradient [parameters().size], 0 for layers beyond depth().
  virtual void loss(const Context& context, MatrixView<const T> X, VectorView<const T> lambda, VectorView<double> loss,
                    VectorView<T> gradient, VectorView<std::byte> scratch) const = 0;

  /// Begin and end of the stretches of parameters() that layers up to depth() have.
  virtual std::vector<std::pair<std::int64_t, std::int64_t>> learning() const = 0;
  /// Becomes step-LISTA with these steps, whatever it is before training. Synchronises.
  /// @param steps  [T], > 0, for D / scale()
  virtual void become_step_network(const Context& context, const Dictionary& dictionary,
                                   const std::vector<double>& steps) = 0;
  /// The same with steps of 1 / L.
  void become_ista(const Context& context, const Dictionary& dictionary);

  /// The parameters as tensors, in the user's units. Synchronises.
  virtual void save(const Context& context, Safetensors& file) const = 0;
  /// A cost's gradient as tensors of the same names and shapes, in double: by the parameters in the user's units.
  /// @param gradient  [parameters().size], by parameters()  @param unit  what a cost of 1 is in the user's units
  virtual void save_gradient(const std::vector<double>& gradient, double unit, Safetensors& file) const = 0;
  /// Takes them back. @throws ValueError, ShapeError (naming file and tensor; also where one is not finite)
  virtual void load(const Context& context, const Safetensors& file) = 0;

 protected:
  Network(const Context& context, const Dictionary& dictionary, const NetworkSpec& spec, std::int64_t parameters);

  NetworkSpec spec_;

 private:
  std::int64_t rows_, atoms_;
  double scale_;
  std::int64_t depth_;
  Tensor<T> parameters_;
};

/// An untrained network. T = float has a loss only where has_scalar_layers() is false.
/// @throws ValueError (no layers, a ridge or gamma out of its range; ||D||_F not within 2^-51 to 2^51 for float, 2^-409 to 2^409 for
///         double), OutOfMemory
template <class T>
std::unique_ptr<Network<T>> make_network(const Context& context, const Dictionary& dictionary, const NetworkSpec& spec);

}  // namespace shrinkwarp
