// The parameters of a network: names, shapes and places in the one vector that holds them all.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// How a tensor of parameters begins.
struct Initial {
  enum class Kind { constant, uniform, normal, values };
  Kind kind = Kind::constant;
  double scale = 0;            ///< the constant, the bound, or the standard deviation
  std::vector<double> values;  ///< one an element, or none

  static Initial constant(double value) { return {Kind::constant, value, {}}; }
  /// Within -bound and bound.
  static Initial uniform(double bound) { return {Kind::uniform, bound, {}}; }
  static Initial normal(double deviation) { return {Kind::normal, deviation, {}}; }
  static Initial of(std::vector<double> values) { return {Kind::values, 0, std::move(values)}; }
};

/// What a network's layers enter when they are made. Names are those of a safetensors file.
class ParameterList {
 public:
  struct Entry {
    std::string name;
    std::vector<std::int64_t> shape;  ///< row-major, as in a file
    std::int64_t offset = 0, size = 0;
    Initial initial;
    bool learned =
        true;  ///< of the parameters; else of the statistics, which passes of training change and no optimizer
  };

  /// A tensor of parameters. @return where it begins in the vector of all, at a multiple of 16 bytes
  /// @throws ValueError (a name that is taken)
  std::int64_t add(const std::string& name, std::vector<std::int64_t> shape, Initial initial);
  /// A tensor of statistics. @return where it begins in the vector of all statistics
  std::int64_t add_statistics(const std::string& name, std::vector<std::int64_t> shape, Initial initial);

  const std::vector<Entry>& entries() const { return entries_; }
  std::int64_t size() const { return size_; }  ///< with what lies between tensors
  std::int64_t statistics_size() const { return statistics_size_; }
  /// Elements of parameters alone.
  std::int64_t count() const;

 private:
  std::int64_t enter(const std::string& name, std::vector<std::int64_t> shape, Initial initial, bool learned,
                     std::int64_t& end);
  std::vector<Entry> entries_;
  std::unordered_set<std::string> names_;
  std::int64_t size_ = 0, statistics_size_ = 0;
};

/// The values of a list's entries on a device.
template <class T>
class ParameterValues {
 public:
  /// As their entries say, drawn from `seed`; elements between tensors are 0. Synchronises. @throws OutOfMemory
  ParameterValues(const Context& context, const ParameterList& list, std::uint64_t seed);

  VectorView<T> parameters() const { return parameters_.vector(); }
  VectorView<T> statistics() const { return statistics_.vector(); }

  /// The entries as tensors of a file. Synchronises.
  void save(const Context& context, const ParameterList& list, Safetensors& file) const;
  /// Other values of the parameters, as a gradient is, under their names; of the host.
  static void save_parameters(const ParameterList& list, const std::vector<T>& parameters, Safetensors& file);
  /// Takes them from a file, which may hold more, but for entries that `stay`(entry), which keep their values. Synchronises.
  /// @throws ValueError, ShapeError (naming file and tensor; also where one is not finite)
  template <class Stay>
  void load(const Context& context, const ParameterList& list, const Safetensors& file, const Stay& stay) {
    std::vector<T> parameters = on_host(context, parameters_.vector()),
                   statistics = on_host(context, statistics_.vector());
    for (const ParameterList::Entry& entry : list.entries()) {
      if (!stay(entry)) read_entry(file, entry, entry.learned ? parameters : statistics);
    }
    to_device(context, parameters, parameters_.vector());
    to_device(context, statistics, statistics_.vector());
  }

 private:
  static void read_entry(const Safetensors& file, const ParameterList::Entry& entry, std::vector<T>& values);
  Tensor<T> parameters_, statistics_;
};

}  // namespace shrinkwarp
