// Internal to models/lista: the two families of networks behind make_network.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

/// step and alista.
template <class T>
std::unique_ptr<Network<T>> make_step_network(const Context& context, const Dictionary& dictionary,
                                              const NetworkSpec& spec);
/// lista, coupled and momentum_lista.
template <class T>
std::unique_ptr<Network<T>> make_weight_network(const Context& context, const Dictionary& dictionary,
                                                const NetworkSpec& spec);

/// D / scale in T on `context`'s device; the dictionary's own is `its`.
template <class T>
Tensor<T> dictionary_in(const Context& context, const Context& its, const Dictionary& dictionary) {
  const MatrixView<const double> D = dictionary.exact().matrix();
  const Context host = Context::cpu(1);
  const Tensor<double> exact(host, D.rows, D.cols);
  copy<double>(its, D, exact.matrix());
  its.synchronize();
  const std::vector<T> rounded(exact.data(), exact.data() + exact.size());
  Tensor<T> result(context, D.rows, D.cols);
  copy<T>(context, VectorView<const T>{rounded.data(), result.size(), {}}, result.vector());
  context.synchronize();
  return result;
}
template <class T>
Tensor<T> dictionary_in(const Context& context, const Dictionary& dictionary) {
  return dictionary_in<T>(context, context, dictionary);
}

/// A tensor of a network's file, all of it finite. @throws ValueError, ShapeError
template <class T>
std::vector<T> finite_values(const Safetensors& file, const std::string& name, const std::vector<std::int64_t>& shape) {
  std::vector<T> values = file.values<T>(name, shape);
  for (std::size_t i = 0; i < values.size(); ++i) {
    SHRINKWARP_REQUIRE(std::isfinite(values[i]), ValueError, file.path(), ": element ", i, " of the tensor '", name,
                       "' is ", values[i], ", wanted finite numbers");
  }
  return values;
}

}  // namespace shrinkwarp
