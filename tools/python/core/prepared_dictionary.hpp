// A dictionary as Python has it.
#pragma once

#include <cstdint>
#include <string>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/tools/python/core/contexts.hpp>

namespace shrinkwarp::python {

/// D [n, m] in Fortran order, or the same array as anything else that NumPy makes such of.
using DictionaryArray = nanobind::ndarray<const double, nanobind::ndim<2>, nanobind::f_contig, nanobind::device::cpu>;

inline MatrixView<const double> view_of(const DictionaryArray& D) {
  const auto n = static_cast<std::int64_t>(D.shape(0));
  return {D.data(), n, static_cast<std::int64_t>(D.shape(1)), n, {}};
}

/// A dictionary on its device, for any number of threads.
class PreparedDictionary {
 public:
  /// @throws as Context::named and Dictionary
  PreparedDictionary(const DictionaryArray& D, const std::string& device, int threads);

  const Dictionary& dictionary() const { return dictionary_; }
  Contexts& contexts() const { return contexts_; }
  /// Of D's values, as networks' files have it.
  std::uint64_t hash() const { return hash_; }

 private:
  mutable Contexts contexts_;
  Dictionary dictionary_;
  std::uint64_t hash_;
};

}  // namespace shrinkwarp::python
