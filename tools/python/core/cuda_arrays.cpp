#include <shrinkwarp/tools/python/core/cuda_arrays.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/python/core/interpreter_lock.hpp>

namespace shrinkwarp::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

/// The capsule of an array on the context's device: asked for once, for whoever lends orders its work with each call.
nb::object capsule_of(const Context& context, const nb::object& array) {
  const auto stream = reinterpret_cast<std::uintptr_t>(context.stream());  // one of its own, never DLPack's 1 or 2
  const nb::object lend = array.attr("__dlpack__");
  try {
    return lend("stream"_a = stream);
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_BufferError)) throw;
  }
  // A read-only array, which only DLPack 1 can lend. Libraries that are older do not know the argument.
  return lend("stream"_a = stream, "max_version"_a = nb::make_tuple(1, 0));
}

std::int64_t bytes_of(nb::dlpack::dtype type) {
  return (type.bits * type.lanes + 7) / 8;
}

/// What NumPy has no type for. @throws Python's TypeError
void require_known(nb::dlpack::dtype type, const std::string& name) {
  constexpr auto kBfloat = static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat);
  if (type.code >= kBfloat && type.code != static_cast<std::uint8_t>(nb::dlpack::dtype_code::Complex) &&
      type.code != static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bool))
    nb::raise_type_error("%s: found elements of type %s, wanted a type that NumPy has", name.c_str(),
                         name_of(type).c_str());
}

nb::object copied_to_host(const Context& context, const nb::ndarray<nb::ro>& lent, const std::string& name) {
  const nb::dlpack::dtype type = lent.dtype();
  require_known(type, name);
  std::vector<std::size_t> shape;
  std::vector<std::int64_t> strides;
  std::int64_t first = 0, last = 0;  // elements, from where the array begins
  for (std::size_t i = 0; i < lent.ndim(); ++i) {
    shape.push_back(lent.shape(i));
    strides.push_back(lent.stride(i));
    const std::int64_t way = (static_cast<std::int64_t>(lent.shape(i)) - 1) * lent.stride(i);
    (way < 0 ? first : last) += way;
  }
  const std::int64_t width = bytes_of(type);
  const std::int64_t bytes = lent.size() == 0 ? 0 : (last - first + 1) * width;
  auto values = std::make_unique<std::byte[]>(static_cast<std::size_t>(bytes));
  if (bytes > 0) {
    const std::byte* const begin = static_cast<const std::byte*>(lent.data()) + first * width;
    const nb::gil_scoped_release released;
    copy(context, VectorView<const std::byte>{begin, bytes, context.device()},
         VectorView<std::byte>{values.get(), bytes, {}});
    context.synchronize();
  }
  std::byte* const begin = values.release();
  const nb::capsule owner(begin, [](void* p) noexcept { delete[] static_cast<std::byte*>(p); });
  std::byte* const origin = bytes > 0 ? begin - first * width : begin;
  return nb::cast(nb::ndarray<nb::numpy>(origin, shape.size(), shape.data(), owner, strides.data(), type));
}

/// A stride says nothing where there is one element along its axis, and nothing at all where there is none.
bool is_in_c_order(const nb::ndarray<nb::ro>& array) {
  std::int64_t wanted = 1;
  for (std::size_t i = array.ndim(); i > 0; --i) {
    if (array.shape(i - 1) != 1 && array.size() > 0 && array.stride(i - 1) != wanted) return false;
    wanted *= static_cast<std::int64_t>(array.shape(i - 1));
  }
  return true;
}

/// Gives the array back with the last who holds it, which may be while an exception is on its way: whose array it is may run
/// Python then.
std::shared_ptr<const void> held(nb::ndarray<nb::ro> lent) {
  return {new nb::ndarray<nb::ro>(std::move(lent)), [](const nb::ndarray<nb::ro>* array) {
            const Locked lock;
            PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
            PyErr_Fetch(&type, &value, &trace);
            delete array;
            PyErr_Restore(type, value, trace);
          }};
}

}  // namespace

std::string name_of(nb::dlpack::dtype type) {
  const std::pair<nb::dlpack::dtype_code, const char*> kNames[] = {
      {nb::dlpack::dtype_code::Int, "int"},         {nb::dlpack::dtype_code::UInt, "uint"},
      {nb::dlpack::dtype_code::Float, "float"},     {nb::dlpack::dtype_code::Bfloat, "bfloat"},
      {nb::dlpack::dtype_code::Complex, "complex"}, {nb::dlpack::dtype_code::Bool, "bool"}};
  for (const auto& [code, name] : kNames)
    if (type.code == static_cast<std::uint8_t>(code))
      return code == nb::dlpack::dtype_code::Bool ? name : concat(name, int{type.bits});
  return concat("DLPack's type ", int{type.code}, " of ", int{type.bits}, " bits");
}

bool is_cuda(int kind) {
  return kind == nb::device::cuda::value || kind == nb::device::cuda_managed::value;
}

std::optional<Device> cuda_device_of(const nb::object& array) {
  const auto [kind, index] = nb::cast<std::pair<int, int>>(array.attr("__dlpack_device__")());
  if (!is_cuda(kind)) return std::nullopt;
  return Device{DeviceType::cuda, index};
}

nb::object capsule_on_cuda(const Context& context, const nb::object& array, const std::string& name,
                           const char* wanted) {
  try {
    return capsule_of(context, array);
  } catch (nb::python_error& error) {
    bool refused = false;
    for (PyObject* const kind : {PyExc_BufferError, PyExc_RuntimeError, PyExc_TypeError, PyExc_ValueError})
      refused |= error.matches(kind);
    if (!refused) throw;
    const nb::str text(error.value()), type(nb::inst_name(array));
    nb::raise_from(error, PyExc_TypeError, "%s: found %s (%s), wanted %s that DLPack can lend", name.c_str(),
                   type.c_str(), text.c_str(), wanted);
  }
}

nb::list taken_from(const Context& context, const nb::list& arrays, const std::string& name) {
  nb::list taken;
  for (const nb::handle array : arrays) {
    auto lent = lent_on_cuda<nb::ndarray<nb::ro>>(context, nb::borrow(array), name, "an array");
    require_known(lent.dtype(), name);
    if (!is_in_c_order(lent)) {
      taken.append(copied_to_host(context, lent, name));
      continue;
    }
    CudaArray::Shape shape;
    for (std::size_t i = 0; i < lent.ndim(); ++i) shape.push_back(lent.shape(i));
    const void* const data = lent.data();
    const nb::dlpack::dtype type = lent.dtype();
    taken.append(CudaArray(held(std::move(lent)), data, context.device(), std::move(shape), type));
  }
  {
    const Unlocked unlocked;  // what writes them may be waiting for the interpreter
    context.synchronize();    // the stream waits for what writes them; whoever reads them may have another
  }
  return taken;
}

nb::object on_host(const nb::object& array, const std::string& name) {
  if (nb::isinstance<CudaArray>(array)) return nb::cast<const CudaArray&>(array).on_host();
  const auto [kind, index] = nb::cast<std::pair<int, int>>(array.attr("__dlpack_device__")());
  const CurrentDevice before;
  const Context context = Context::cuda(index);
  return copied_to_host(context, lent_on_cuda<nb::ndarray<nb::ro>>(context, array, name, "an array"), name);
}

// ---- CudaArray -----------------------------------------------------------------------------------------------------

std::int64_t CudaArray::size() const {
  return static_cast<std::int64_t>(
      std::accumulate(shape_.begin(), shape_.end(), std::size_t{1}, std::multiplies<std::size_t>()));
}

template <class T>
MatrixView<const T> CudaArray::columns(const Context& context) const {
  SHRINKWARP_REQUIRE(type_ == nb::dtype<T>(), ValueError, "found elements of type ", name_of(type_), ", wanted ",
                     name_of(nb::dtype<T>()));
  SHRINKWARP_REQUIRE(device_ == context.device(), DeviceError, "found an array on ", device_, ", wanted one on ",
                     context.device());
  const auto features = static_cast<std::int64_t>(
      std::accumulate(shape_.begin() + std::min<std::ptrdiff_t>(1, static_cast<std::ptrdiff_t>(shape_.size())),
                      shape_.end(), std::size_t{1}, std::multiplies<std::size_t>()));
  const auto samples = static_cast<std::int64_t>(shape_.empty() ? 1 : shape_[0]);
  return {static_cast<const T*>(data_), features, samples, features, device_};
}

template MatrixView<const float> CudaArray::columns<float>(const Context&) const;
template MatrixView<const double> CudaArray::columns<double>(const Context&) const;

CudaArray CudaArray::reshaped(Shape shape) const {
  std::uint64_t wanted = 1;
  for (const std::size_t side : shape)
    if (__builtin_mul_overflow(wanted, side, &wanted)) wanted = std::numeric_limits<std::uint64_t>::max();
  SHRINKWARP_REQUIRE(static_cast<std::uint64_t>(size()) == wanted, ValueError, "reshape: found ", size(),
                     " elements, wanted ", wanted);
  CudaArray result = *this;
  result.shape_ = std::move(shape);
  return result;
}

nb::object CudaArray::on_host() const {
  const std::int64_t bytes = size() * bytes_of(type_);
  std::unique_ptr<std::byte[]> values(new std::byte[static_cast<std::size_t>(bytes)]);
  if (bytes > 0) {
    const Unlocked unlocked;
    const CurrentDevice before;
    const Context context = Context::cuda(device_.index);
    copy(context, VectorView<const std::byte>{static_cast<const std::byte*>(data_), bytes, device_},
         VectorView<std::byte>{values.get(), bytes, {}});
    context.synchronize();
  }
  std::byte* const data = values.release();
  const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<std::byte*>(p); });
  return nb::cast(nb::ndarray<nb::numpy>(data, shape_.size(), shape_.data(), owner, nullptr, type_));
}

nb::object CudaArray::lend(nb::handle self) {
  const auto& array = nb::cast<const CudaArray&>(self);
  return nb::cast(nb::ndarray<>(const_cast<void*>(array.data_), array.shape_.size(), array.shape_.data(), self, nullptr,
                                array.type_, nb::device::cuda::value, array.device_.index));
}

void add_cuda_arrays(nb::module_& module) {
  nb::class_<CudaArray>(
      module, "CudaArray",
      "Elements on a CUDA device in C order, which other libraries take with `from_dlpack`, without "
      "a copy: ``torch.from_dlpack(array)``. Who writes to them passes the library its own array from "
      "then on, for this one does not know what is still to come.")
      .def_prop_ro("shape", [](const CudaArray& self) { return nb::tuple(nb::cast(self.shape())); })
      .def_prop_ro("ndim", [](const CudaArray& self) { return self.shape().size(); })
      .def_prop_ro(
          "dtype",
          [](const CudaArray& self) { return nb::module_::import_("numpy").attr("dtype")(name_of(self.type())); })
      .def_prop_ro("device", [](const CudaArray& self) { return concat(self.device()); })
      .def("__len__",
           [](const CudaArray& self) {
             if (self.shape().empty()) throw nb::type_error("len() of an array without axes");
             return self.shape()[0];
           })
      .def("reshape", &CudaArray::reshaped, "shape"_a, "The same elements in another shape.")
      .def("numpy", &CudaArray::on_host, "A copy on the host.")
      .def("__dlpack_device__",
           [](const CudaArray& self) { return nb::make_tuple(int{nb::device::cuda::value}, self.device().index); })
      .def(
          "__dlpack__",
          [](nb::handle self, nb::object, nb::object, const nb::object& device, const nb::object& copies) {
            // Whatever the stream: the elements are there.
            if (!copies.is_none() && nb::cast<bool>(copies))
              throw nb::buffer_error("copy: found True, wanted False or None: the array lends its own memory");
            if (!device.is_none() && !device.equal(self.attr("__dlpack_device__")()))
              throw nb::buffer_error("dl_device: found another device, wanted that of the array");
            return CudaArray::lend(self);
          },
          nb::kw_only(), "stream"_a = nb::none(), "max_version"_a = nb::none(), "dl_device"_a = nb::none(),
          "copy"_a = nb::none())
      .def("__repr__", [](const CudaArray& self) {
        return concat("CudaArray(shape=", nb::str(nb::tuple(nb::cast(self.shape()))).c_str(),
                      ", dtype=", name_of(self.type()), ", device='", self.device(), "')");
      });
  module.def("on_host", &on_host, "array"_a, "name"_a,
             "An array on CUDA as one of NumPy's: a copy. Errors begin with `name`.");
}

}  // namespace shrinkwarp::python
