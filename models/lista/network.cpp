#include <shrinkwarp/models/lista/network.hpp>

#include <cmath>
#include <cstdlib>
#include <limits>

#include <shrinkwarp/models/lista/networks.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr struct {
  NetworkKind kind;
  const char* name;
} kNames[] = {{NetworkKind::lista, "lista"},
              {NetworkKind::coupled, "coupled"},
              {NetworkKind::step, "step"},
              {NetworkKind::alista, "alista"},
              {NetworkKind::momentum_lista, "momentum-lista"}};

void check(const NetworkSpec& spec) {
  SHRINKWARP_REQUIRE(spec.layers >= 1, ValueError, "make_network: layers is ", spec.layers, ", wanted at least 1");
  SHRINKWARP_REQUIRE(spec.gamma >= 0 && spec.gamma < 1, ValueError, "make_network: gamma is ", spec.gamma,
                     ", wanted 0 <= gamma < 1");
}

/// Files hold parameters that are divided by up to the square of the dictionary's scale, which must leave them in T's range.
template <class T>
void check_scale(const Dictionary& dictionary) {
  const int most = std::numeric_limits<T>::max_exponent * 2 / 5, exponent = std::ilogb(dictionary.scale());
  SHRINKWARP_REQUIRE(std::abs(exponent) <= most, ValueError, "make_network: the dictionary's ||D||_F is some ",
                     dictionary.scale(), ", wanted ", std::exp2(-most), " to ", std::exp2(most),
                     ": in other units a network's parameters keep their digits");
}

}  // namespace

const char* name_of(NetworkKind kind) {
  for (const auto& entry : kNames)
    if (entry.kind == kind) return entry.name;
  return "";
}

std::optional<NetworkKind> network_kind(const std::string& name) {
  for (const auto& entry : kNames)
    if (name == entry.name) return entry.kind;
  return std::nullopt;
}

template <class T>
Network<T>::Network(const Context& context, const Dictionary& dictionary, const NetworkSpec& spec,
                    std::int64_t parameters)
    : spec_(spec),
      rows_(dictionary.rows()),
      atoms_(dictionary.atoms()),
      scale_(dictionary.scale()),
      depth_(spec.layers),
      parameters_(context, parameters) {}

template <class T>
void Network<T>::set_depth(std::int64_t depth) {
  SHRINKWARP_REQUIRE(depth >= 1 && depth <= spec_.layers, ValueError, "Network::set_depth: depth is ", depth,
                     ", wanted 1 to ", spec_.layers);
  depth_ = depth;
}

template <class T>
void Network<T>::become_ista(const Context& context, const Dictionary& dictionary) {
  const double lipschitz = dictionary.lipschitz(context), step = lipschitz > 0 ? 1 / lipschitz : 1;
  become_step_network(context, dictionary, std::vector<double>(static_cast<std::size_t>(spec_.layers), step));
}

template <class T>
std::vector<T> Network<T>::to_host(const Context& context) const {
  std::vector<T> values(static_cast<std::size_t>(parameters_.size()));
  copy<T>(context, parameters(), VectorView<T>{values.data(), parameters_.size(), {}});
  context.synchronize();
  return values;
}

template <class T>
void Network<T>::to_device(const Context& context, const std::vector<T>& values) const {
  copy<T>(context, VectorView<const T>{values.data(), parameters_.size(), {}}, parameters());
  context.synchronize();
}

template <class T>
std::unique_ptr<Network<T>> make_network(const Context& context, const Dictionary& dictionary,
                                         const NetworkSpec& spec) {
  check(spec);
  check_scale<T>(dictionary);
  if (has_scalar_layers(spec.kind)) return make_step_network<T>(context, dictionary, spec);
  return make_weight_network<T>(context, dictionary, spec);
}

template class Network<float>;
template class Network<double>;
template std::unique_ptr<Network<float>> make_network<float>(const Context&, const Dictionary&, const NetworkSpec&);
template std::unique_ptr<Network<double>> make_network<double>(const Context&, const Dictionary&, const NetworkSpec&);

}  // namespace shrinkwarp
