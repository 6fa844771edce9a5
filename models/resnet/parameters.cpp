#include <shrinkwarp/models/resnet/parameters.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

std::int64_t ParameterList::enter(const std::string& name, std::vector<std::int64_t> shape, Initial initial,
                                  bool learned, std::int64_t& end) {
  constexpr std::int64_t kAligned = 4;  // elements: 16 bytes of float
  SHRINKWARP_REQUIRE(names_.insert(name).second, ValueError, "ParameterList: found the name '", name,
                     "' twice, wanted a name of its own for each tensor");
  Entry entry{name, std::move(shape), end, 1, std::move(initial), learned};
  for (const std::int64_t side : entry.shape) entry.size *= side;
  end += (entry.size + kAligned - 1) / kAligned * kAligned;
  entries_.push_back(std::move(entry));
  return entries_.back().offset;
}

std::int64_t ParameterList::add(const std::string& name, std::vector<std::int64_t> shape, Initial initial) {
  return enter(name, std::move(shape), std::move(initial), true, size_);
}

std::int64_t ParameterList::add_statistics(const std::string& name, std::vector<std::int64_t> shape, Initial initial) {
  return enter(name, std::move(shape), std::move(initial), false, statistics_size_);
}

std::int64_t ParameterList::count() const {
  return std::accumulate(entries_.begin(), entries_.end(), std::int64_t{0},
                         [](std::int64_t sum, const Entry& entry) { return sum + (entry.learned ? entry.size : 0); });
}

template <class T>
ParameterValues<T>::ParameterValues(const Context& context, const ParameterList& list, std::uint64_t seed)
    : parameters_(context, list.size()), statistics_(context, list.statistics_size()) {
  std::vector<T> parameters(static_cast<std::size_t>(list.size())),
      statistics(static_cast<std::size_t>(list.statistics_size()));
  const Context host = Context::cpu(1);
  std::vector<double> drawn;
  std::uint64_t stream = 0;  // one an entry, so that a tensor's numbers do not depend on the sizes of others
  for (const ParameterList::Entry& entry : list.entries()) {
    auto* const first = (entry.learned ? parameters : statistics).data() + entry.offset;
    drawn.assign(static_cast<std::size_t>(entry.size), 0);
    const VectorView<double> view{drawn.data(), entry.size, {}};
    switch (entry.initial.kind) {
      case Initial::Kind::constant:
        std::fill(drawn.begin(), drawn.end(), entry.initial.scale);
        break;
      case Initial::Kind::uniform:
        fill_uniform<double>(host, seed, stream, 0, view);
        for (double& value : drawn) value = (2 * value - 1) * entry.initial.scale;
        break;
      case Initial::Kind::normal:
        fill_normal<double>(host, seed, stream, 0, view);
        for (double& value : drawn) value *= entry.initial.scale;
        break;
      case Initial::Kind::values:
        drawn = entry.initial.values;
        break;
    }
    std::transform(drawn.begin(), drawn.end(), first, [](double value) { return static_cast<T>(value); });
    ++stream;
  }
  to_device(context, parameters, parameters_.vector());
  to_device(context, statistics, statistics_.vector());
}

template <class T>
void ParameterValues<T>::save(const Context& context, const ParameterList& list, Safetensors& file) const {
  const std::vector<T> parameters = on_host(context, parameters_.vector()),
                       statistics = on_host(context, statistics_.vector());
  for (const ParameterList::Entry& entry : list.entries()) {
    const auto first = (entry.learned ? parameters : statistics).begin() + entry.offset;
    file.add(entry.name, entry.shape, std::vector<T>(first, first + entry.size));
  }
}

template <class T>
void ParameterValues<T>::save_parameters(const ParameterList& list, const std::vector<T>& parameters,
                                         Safetensors& file) {
  for (const ParameterList::Entry& entry : list.entries()) {
    if (!entry.learned) continue;
    const auto first = parameters.begin() + entry.offset;
    file.add(entry.name, entry.shape, std::vector<T>(first, first + entry.size));
  }
}

template <class T>
void ParameterValues<T>::read_entry(const Safetensors& file, const ParameterList::Entry& entry,
                                    std::vector<T>& values) {
  const std::vector<T> tensor = file.values<T>(entry.name, entry.shape);
  for (std::size_t i = 0; i < tensor.size(); ++i) {
    SHRINKWARP_REQUIRE(std::isfinite(tensor[i]), ValueError, file.path(), ": element ", i, " of the tensor '",
                       entry.name, "' is ", tensor[i], ", wanted finite numbers");
  }
  std::copy(tensor.begin(), tensor.end(), values.begin() + entry.offset);
}

template class ParameterValues<float>;
template class ParameterValues<double>;

}  // namespace shrinkwarp
