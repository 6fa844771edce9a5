#include <shrinkwarp/tools/python/core/tensors.hpp>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::python {
namespace {

namespace nb = nanobind;

template <class T>
nb::object to_array(const StoredTensor& tensor) {
  auto values = std::make_unique<T[]>(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.get(), tensor.bytes.data(), tensor.bytes.size());
  const std::vector<std::size_t> shape(tensor.shape.begin(), tensor.shape.end());
  T* const data = values.release();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(data, shape.size(), shape.data(), owner));
}

template <class T>
void add(Safetensors& file, const std::string& name, const nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>& array) {
  const T* const first = static_cast<const T*>(array.data());
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; i < array.ndim(); ++i) shape.push_back(static_cast<std::int64_t>(array.shape(i)));
  file.add(name, std::move(shape), std::vector<T>(first, first + array.size()));
}

}  // namespace

nb::dict to_dict(const Safetensors& file) {
  nb::dict result;
  for (const auto& [name, tensor] : file.tensors()) {
    if (tensor.type == StoredType::f32)
      result[name.c_str()] = to_array<float>(tensor);
    else if (tensor.type == StoredType::f64)
      result[name.c_str()] = to_array<double>(tensor);
  }
  return result;
}

Safetensors from_dict(const nb::dict& values) {
  Safetensors file;
  for (const auto& [key, value] : values) {
    const auto name = nb::cast<std::string>(key);
    const auto array = nb::cast<nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>>(value);
    if (array.dtype() == nb::dtype<float>()) {
      add<float>(file, name, array);
    } else {
      SHRINKWARP_REQUIRE(array.dtype() == nb::dtype<double>(), ValueError, "the tensor '", name,
                         "': found another element type, wanted float32 or float64");
      add<double>(file, name, array);
    }
  }
  return file;
}

}  // namespace shrinkwarp::python
