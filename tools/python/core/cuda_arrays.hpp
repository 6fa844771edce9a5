// Arrays on CUDA, other libraries' and this one's, from one to the other without copies.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::python {

/// Whether DLPack's kind of a device is CUDA.
bool is_cuda(int kind);

/// The CUDA device of an array, if it lies on one. @throws Python's TypeError (`__dlpack_device__` gives no device)
std::optional<Device> cuda_device_of(const nanobind::object& array);

/// The capsule of an array of another library's on the context's device, asked for once, in the order of the context's stream.
/// @param wanted  for errors: "an array (N, n)"  @throws Python's TypeError (nothing that DLPack can lend)
nanobind::object capsule_on_cuda(const Context& context, const nanobind::object& array, const std::string& name,
                                 const char* wanted);

/// The same as an array. @tparam Array  what is wanted of it  @throws Python's TypeError (no such array, too)
template <class Array>
Array lent_on_cuda(const Context& context, const nanobind::object& array, const std::string& name, const char* wanted) {
  Array lent;
  if (!nanobind::try_cast(capsule_on_cuda(context, array, name, wanted), lent))
    nanobind::raise_type_error("%s: found %s whose __dlpack__ gives no such array, wanted %s that DLPack can lend",
                               name.c_str(), nanobind::str(nanobind::inst_name(array)).c_str(), wanted);
  return lent;
}

/// Elements on a CUDA device in C order. Of another library's memory, which it holds, or of this one's, which others may take with
/// `from_dlpack`; all that was to write them has run when there is one, but for what such others do.
class CudaArray {
 public:
  using Shape = std::vector<std::size_t>;

  /// @param owner  holds the memory
  template <class T>
  CudaArray(std::shared_ptr<const void> owner, const T* data, Device device, Shape shape)
      : CudaArray(std::move(owner), data, device, std::move(shape), nanobind::dtype<T>()) {}
  /// A tensor's columns as rows.
  template <class T>
  explicit CudaArray(Tensor<T> columns) {
    const Shape shape{static_cast<std::size_t>(columns.cols()), static_cast<std::size_t>(columns.rows())};
    auto held = std::make_shared<const Tensor<T>>(std::move(columns));
    *this = CudaArray(held, held->data(), held->matrix().device, shape);
  }
  CudaArray(std::shared_ptr<const void> owner, const void* data, Device device, Shape shape,
            nanobind::dlpack::dtype type)
      : owner_(std::move(owner)), data_(data), device_(device), shape_(std::move(shape)), type_(type) {}

  const Shape& shape() const { return shape_; }
  nanobind::dlpack::dtype type() const { return type_; }
  Device device() const { return device_; }
  std::int64_t size() const;
  /// The first axis as columns, all others as their rows. @throws ValueError (elements of another type), DeviceError (another
  /// device than the context's)
  template <class T>
  MatrixView<const T> columns(const Context& context) const;
  /// The same memory. @throws ValueError (another number of elements)
  CudaArray reshaped(Shape shape) const;
  /// A copy, as an array of NumPy's.
  nanobind::object on_host() const;
  /// A capsule of DLPack's; `self` is held for as long as somebody has it.
  static nanobind::object lend(nanobind::handle self);

 private:
  std::shared_ptr<const void> owner_;
  const void* data_ = nullptr;
  Device device_;
  Shape shape_;
  nanobind::dlpack::dtype type_{};
};

/// Arrays of other libraries' on the context's device: of each a CudaArray of its memory where it is in C order, else a copy on
/// the host. One wait for all.
/// @throws Python's TypeError (no array that DLPack can lend, elements that NumPy does not know), OutOfMemory
nanobind::list taken_from(const Context& context, const nanobind::list& arrays, const std::string& name);

/// An array on CUDA, of any shape, as one of NumPy's with the same strides: a copy of all between its first element and its last.
/// @param array  of any library, with `__dlpack_device__` and `__dlpack__`; asked for once
/// @throws BackendUnavailable (no such device in this build), Python's TypeError (no array that DLPack can lend, elements that
///         NumPy does not know), OutOfMemory
nanobind::object on_host(const nanobind::object& array, const std::string& name);

/// As NumPy says it.
std::string name_of(nanobind::dlpack::dtype type);

void add_cuda_arrays(nanobind::module_& module);

}  // namespace shrinkwarp::python
