#include <shrinkwarp/models/resnet/lista_layer.hpp>

#include <algorithm>
#include <cmath>

#include <shrinkwarp/kernels/linear/linear.hpp>
#include <shrinkwarp/kernels/shrink_layer/shrink_layer.hpp>

namespace shrinkwarp {
namespace {

ListaInitial untrained(std::int64_t rows, std::int64_t atoms) {
  const Initial weights = Initial::uniform(1 / std::sqrt(static_cast<double>(rows + atoms)));
  return {weights, weights, Initial::constant(0.1)};
}

}  // namespace

/// What a way back needs while it runs.
template <class T>
struct ListaLayer<T>::Work {
  MatrixView<T> H;  // the gradient in front of the soft-thresholding
  Bytes sums, products;
};

template <class T>
ListaLayer<T>::ListaLayer(ParameterList& list, const std::string& name, std::int64_t rows, std::int64_t atoms)
    : ListaLayer(list, name, rows, atoms, untrained(rows, atoms)) {}

template <class T>
ListaLayer<T>::ListaLayer(ParameterList& list, const std::string& name, std::int64_t rows, std::int64_t atoms,
                          const ListaInitial& initial)
    : Layer<T>({atoms}, {atoms}),
      rows_(rows),
      W1_(list.add(name + ".W1", {atoms, atoms}, initial.W1)),
      W2_(list.add(name + ".W2", {atoms, rows}, initial.W2)),
      thresholds_(list.add(name + ".thresholds", {atoms}, initial.thresholds)) {}

template <class T>
typename ListaLayer<T>::Work ListaLayer<T>::work(Arena& arena, const Context& context, std::int64_t samples) const {
  const auto products = [&](std::int64_t in) {
    return linear_backward_scratch<T>(context, in, atoms(), samples, Activation::none);
  };
  Work work;
  work.H = arena.matrix<T>(atoms(), samples);
  work.sums = arena.vector<std::byte>(shrink_layer_scratch(context, atoms(), samples));
  work.products = arena.vector<std::byte>(std::max(products(atoms()), products(rows_)));
  return work;
}

template <class T>
std::int64_t ListaLayer<T>::kept(const Context&, std::int64_t) const {
  return 0;
}

template <class T>
std::int64_t ListaLayer<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  if (!keeps) return 0;
  Arena arena(context.device());
  work(arena, context, samples);
  return arena.used();
}

template <class T>
const SideInput<T>& ListaLayer<T>::observations(const Pass<T>& pass) const {
  const std::size_t found = pass.side == nullptr ? 0 : pass.side->size();
  SHRINKWARP_REQUIRE(found >= 2, ValueError, "ListaLayer: found ", found,
                     " side inputs, wanted two: observations and lambda");
  return pass.side->front();
}

template <class T>
VectorView<const T> ListaLayer<T>::lambda(const Pass<T>& pass) const {
  const MatrixView<const T> value = (*pass.side)[1].value;
  return {value.data, value.rows * value.cols, value.device};
}

template <class T>
void ListaLayer<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes, Bytes) const {
  linear_forward<T>(pass.context, pass.matrix(W2_, rows_, atoms()), {}, Activation::none, observations(pass).value, Y,
                    {});
  linear_blend<T>(pass.context, pass.matrix(W1_, atoms(), atoms()), {}, T(1), X, T(1), Y);
  shrink_layer_forward<T>(pass.context, pass.values(thresholds_, atoms()), lambda(pass), Y, Y);
}

template <class T>
void ListaLayer<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY,
                             T beta, MatrixView<T> dX, Bytes, Bytes scratch) const {
  const SideInput<T>& side = observations(pass);
  SHRINKWARP_REQUIRE((*pass.side)[1].gradient.empty(), ValueError,
                     "ListaLayer: found a gradient by lambda wanted, which it does not give");
  Arena arena(scratch);
  const Work lies = work(arena, pass.context, X.cols);
  shrink_layer_backward<T>(pass.context, pass.values(thresholds_, atoms()), lambda(pass), Y, dY, lies.H,
                           pass.gradients(thresholds_, atoms()), lies.sums);
  const auto product = [&](std::int64_t weights, std::int64_t in, MatrixView<const T> input, T its_beta,
                           MatrixView<T> gradient) {
    linear_backward<T>(pass.context, pass.matrix(weights, in, atoms()), Activation::none, input, {}, {}, lies.H,
                       pass.gradient_matrix(weights, in, atoms()), {}, its_beta, gradient, lies.products);
  };
  product(W1_, atoms(), X, beta, dX);
  product(W2_, rows_, side.value, T(1), side.gradient);
}

template class ListaLayer<float>;
template class ListaLayer<double>;

}  // namespace shrinkwarp
