// Layers of LISTA, as branches of momentum networks.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/models/resnet/layer.hpp>

namespace shrinkwarp {

/// How a LISTA layer's tensors begin.
struct ListaInitial {
  Initial W1, W2, thresholds;
};

/// st(W1 z + W2 x, lambda theta+) of codes z [m, N], with theta+ = max(theta, 0) (Gregor, LeCun 2010). The observations
/// x [n, N] are the first side input of a pass, lambda [1, N] the second. Tensors NAME.W1 (m, m), NAME.W2 (m, n),
/// NAME.thresholds (m).
///
/// What the layer gives is the next code: as layers of a momentum stage they are whole (MomentumSpec), and the stage is momentum
/// LISTA (kernels/lista_network).
template <class T>
class ListaLayer : public Layer<T> {
 public:
  /// W1 and W2 begin uniform within 1 / sqrt(m + n), thresholds as 0.1.
  ListaLayer(ParameterList& list, const std::string& name, std::int64_t rows, std::int64_t atoms);
  ListaLayer(ParameterList& list, const std::string& name, std::int64_t rows, std::int64_t atoms,
             const ListaInitial& initial);

  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  /// @throws ValueError (fewer than two side inputs), what kernels throw
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  bool reads_output() const override { return true; }
  /// The gradient by the observations is added to that of their side input, where it has one.
  /// @throws ValueError (fewer than two side inputs, a gradient by lambda wanted), what kernels throw
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  struct Work;
  Work work(Arena& arena, const Context& context, std::int64_t samples) const;
  const SideInput<T>& observations(const Pass<T>& pass) const;
  VectorView<const T> lambda(const Pass<T>& pass) const;
  std::int64_t atoms() const { return this->input().channels; }

  std::int64_t rows_;
  std::int64_t W1_, W2_, thresholds_;  // offsets
};

}  // namespace shrinkwarp
