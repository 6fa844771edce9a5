// LISTA, coupled LISTA and momentum LISTA: matrices and thresholds a layer.
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/lista_network/lista_network.hpp>
#include <shrinkwarp/models/lista/networks.hpp>

namespace shrinkwarp {
namespace {

ListaKind kind_of(NetworkKind kind) {
  return kind == NetworkKind::coupled ? ListaKind::coupled
         : kind == NetworkKind::lista ? ListaKind::free
                                      : ListaKind::momentum;
}

template <class T>
class WeightLayers : public Network<T> {
 public:
  WeightLayers(const Context& context, const Dictionary& dictionary, const NetworkSpec& spec, const ListaLayout& layout)
      : Network<T>(context, dictionary, spec, layout.size()),
        layout_(layout),
        D_(dictionary_in<T>(context, dictionary)) {
    this->become_ista(context, dictionary);
    set_gamma(context, spec.gamma);
  }

  void become_step_network(const Context& context, const Dictionary& dictionary,
                           const std::vector<double>& steps) override {
    const Context host = Context::cpu(context.is_cuda() ? 0 : context.threads());
    const Tensor<double> D = dictionary_in<double>(host, context, dictionary);
    const std::int64_t n = layout_.rows, m = layout_.atoms;
    const Tensor<double> gram(host, layout_.kind == ListaKind::coupled ? 0 : m, m);
    if (!gram.matrix().empty())
      gemm<double>(host, Transpose::yes, Transpose::no, 1.0, D.matrix(), D.matrix(), 0.0, gram.matrix());
    std::vector<T> values;
    values.reserve(static_cast<std::size_t>(layout_.size()));
    const auto add = [&values](double value) { values.push_back(static_cast<T>(value)); };
    for (const double step : steps) {
      if (layout_.kind == ListaKind::coupled) {
        for (std::int64_t i = 0; i < n * m; ++i) add(step * D.data()[i]);
      } else {
        for (std::int64_t j = 0; j < m; ++j)
          for (std::int64_t i = 0; i < m; ++i) add((i == j ? 1 : 0) - step * gram.matrix()(i, j));
        for (std::int64_t i = 0; i < n; ++i)
          for (std::int64_t j = 0; j < m; ++j) add(step * D.matrix()(i, j));
      }
      for (std::int64_t j = 0; j < m; ++j) add(step);
      if (layout_.kind == ListaKind::momentum) add(0);
    }
    this->to_device(context, values);
  }

  std::vector<std::pair<std::int64_t, std::int64_t>> learning() const override {
    return {{0, this->depth() * layout_.layer_size()}};
  }

  std::int64_t scratch(const Context& context, std::int64_t problems, bool gradient) const override {
    return lista_network_scratch<T>(context, network(), problems, gradient);
  }
  void forward(const Context& context, MatrixView<const T> X, VectorView<const T> lambda, MatrixView<T> Z,
               VectorView<std::byte> scratch) const override {
    lista_network_forward<T>(context, network(), X, lambda, Z, scratch);
  }
  void loss(const Context& context, MatrixView<const T> X, VectorView<const T> lambda, VectorView<double> loss,
            VectorView<T> gradient, VectorView<std::byte> scratch) const override {
    const std::int64_t learning = network().layout.size();
    const VectorView<T> rest = gradient.slice(learning, gradient.size - learning);
    context.zero_bytes(rest.data, rest.size * static_cast<std::int64_t>(sizeof(T)));
    lista_network_loss<T>(context, network(), X, lambda, loss, gradient.slice(0, learning), scratch);
  }

  void save(const Context& context, Safetensors& file) const override {
    const std::vector<T> values = this->to_host(context);
    add_tensors<T>(file, [&](std::size_t i, double unit) { return static_cast<double>(values[i]) / unit; });
  }
  void save_gradient(const std::vector<double>& gradient, double unit, Safetensors& file) const override {
    add_tensors<double>(file, [&](std::size_t i, double its_unit) { return gradient[i] * unit * its_unit; });
  }
  void load(const Context& context, const Safetensors& file) override {
    std::vector<T> values(static_cast<std::size_t>(layout_.size()));
    for (const Piece& piece : pieces()) {
      const std::vector<T> tensor = finite_values<T>(file, piece.name, shape_of(piece));
      each(piece, [&](std::size_t in_file, std::size_t in_memory) {
        values[in_memory] = static_cast<T>(static_cast<double>(tensor[in_file]) * piece.unit);
      });
    }
    this->to_device(context, values);
  }

 private:
  void set_gamma(const Context& context, double gamma) {
    if (layout_.kind != ListaKind::momentum) return;
    std::vector<T> values = this->to_host(context);
    for (std::int64_t t = 0; t < layout_.layers; ++t)
      values[static_cast<std::size_t>(layout_.gamma(t))] = static_cast<T>(gamma);
    this->to_device(context, values);
  }

  /// Part of every layer: rows x cols, column-major from `offset` of the layer on, a tensor [T, rows, cols] of the file.
  struct Piece {
    const char* name;
    std::int64_t offset, rows, cols;
    double unit;         // what a 1 of the user's is here, a power of two
    int dimensions = 2;  // in the file, beside T
  };

  std::vector<Piece> pieces() const {
    const std::int64_t n = layout_.rows, m = layout_.atoms, theta = layout_.thresholds(0);
    const double s = this->scale();
    if (layout_.kind == ListaKind::coupled) return {{"W", 0, n, m, s}, {"thresholds", theta, m, 1, s * s, 1}};
    std::vector<Piece> result{{"W1", 0, m, m, 1}, {"W2", m * m, m, n, s}, {"thresholds", theta, m, 1, s * s, 1}};
    if (layout_.kind == ListaKind::momentum) result.push_back({"gamma", layout_.gamma(0), 1, 1, 1, 0});
    return result;
  }
  std::vector<std::int64_t> shape_of(const Piece& piece) const {
    std::vector<std::int64_t> shape{layout_.layers};
    if (piece.dimensions >= 1) shape.push_back(piece.rows);
    if (piece.dimensions >= 2) shape.push_back(piece.cols);
    return shape;
  }
  /// @param value_of  of the place of a parameter in memory and the unit of its piece
  template <class U, class Value>
  void add_tensors(Safetensors& file, Value value_of) const {
    for (const Piece& piece : pieces()) {
      std::vector<U> tensor(static_cast<std::size_t>(layout_.layers * piece.rows * piece.cols));
      each(piece, [&](std::size_t in_file, std::size_t in_memory) {
        tensor[in_file] = static_cast<U>(value_of(in_memory, piece.unit));
      });
      file.add(piece.name, shape_of(piece), tensor);
    }
  }
  /// Calls with the place of each element in the file and in memory.
  template <class Visit>
  void each(const Piece& piece, Visit visit) const {
    std::size_t in_file = 0;
    for (std::int64_t t = 0; t < layout_.layers; ++t)
      for (std::int64_t i = 0; i < piece.rows; ++i)
        for (std::int64_t j = 0; j < piece.cols; ++j)
          visit(in_file++, static_cast<std::size_t>(layout_.weights(t) + piece.offset + i + j * piece.rows));
  }

  ListaNetwork<T> network() const {
    ListaLayout running = layout_;
    running.layers = this->depth();
    return {running, D_.matrix(), this->parameters().slice(0, running.size())};
  }

  ListaLayout layout_;
  Tensor<T> D_;
};

}  // namespace

template <class T>
std::unique_ptr<Network<T>> make_weight_network(const Context& context, const Dictionary& dictionary,
                                                const NetworkSpec& spec) {
  return std::make_unique<WeightLayers<T>>(
      context, dictionary, spec, ListaLayout{kind_of(spec.kind), dictionary.rows(), dictionary.atoms(), spec.layers});
}

template std::unique_ptr<Network<float>> make_weight_network<float>(const Context&, const Dictionary&,
                                                                    const NetworkSpec&);
template std::unique_ptr<Network<double>> make_weight_network<double>(const Context&, const Dictionary&,
                                                                      const NetworkSpec&);

}  // namespace shrinkwarp
