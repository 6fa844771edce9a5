// Arrays of Python in and out, without copies.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp::python {

/// (rows, columns) of float32 or float64, with any strides, on the CPU or a CUDA device.
using AnyMatrix = nanobind::ndarray<nanobind::ro, nanobind::ndim<2>>;

/// The rows of an array as observations, read where they lie: widened a few at a time, never copied as a whole. On CUDA through a
/// copy of those few, ordered on the context's stream; elements of a row are then adjacent.
/// @param array  of NumPy, or of any library, with `__dlpack_device__` and `__dlpack__`, on CUDA asked for once
/// @throws ValueError (another element type, rows with gaps on CUDA), DeviceError (another device than the context's),
///         Python's TypeError (on CUDA, where DLPack cannot lend it)
std::unique_ptr<ObservationSource> observations_of(const Context& context, const nanobind::object& array,
                                                   std::string name);

/// A vector as a NumPy array, which takes it over.
template <class T>
nanobind::ndarray<nanobind::numpy, T, nanobind::ndim<1>> to_numpy(std::vector<T> values) {
  auto held = std::make_unique<std::vector<T>>(std::move(values));
  T* const data = held->data();
  const std::size_t size = held->size();
  nanobind::capsule owner(held.release(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nanobind::ndarray<nanobind::numpy, T, nanobind::ndim<1>>(data, {size}, owner);
}

/// The elements of a 1-D array on the CPU.
template <class T>
std::vector<T> to_vector(
    const nanobind::ndarray<const T, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>& a) {
  return std::vector<T>(a.data(), a.data() + a.size());
}

}  // namespace shrinkwarp::python
