#include <shrinkwarp/tools/python/core/arrays.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <nanobind/stl/pair.h>

#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

/// Keeps the array beside the source that reads it.
template <class Source>
class Holding : public Source {
 public:
  template <class... Arguments>
  explicit Holding(AnyMatrix X, Arguments&&... arguments)
      : Source(std::forward<Arguments>(arguments)...), X_(std::move(X)) {}

 private:
  AnyMatrix X_;
};

template <class T>
std::unique_ptr<ObservationSource> typed_source(const Context& context, AnyMatrix X, std::string name) {
  const auto N = static_cast<std::int64_t>(X.shape(0)), n = static_cast<std::int64_t>(X.shape(1));
  const std::int64_t row_stride = X.stride(0), stride = X.stride(1);
  const T* const data = static_cast<const T*>(X.data());
  if (X.device_type() == nb::device::cpu::value)
    return std::make_unique<Holding<RowSource<T>>>(std::move(X), data, N, n, row_stride, stride, std::move(name));
  // A stride says nothing where there is one element.
  SHRINKWARP_REQUIRE(N * n == 0 || ((n == 1 || stride == 1) && (N == 1 || row_stride >= n)), ValueError, name,
                     ": found rows with strides (", row_stride, ", ", stride,
                     ") on CUDA, wanted rows of adjacent elements, one after another: (ld, 1), ld >= ", n);
  const MatrixView<const T> view{data, n, N, std::max(row_stride, n), {DeviceType::cuda, X.device_id()}};
  return std::make_unique<Holding<DeviceSource<T>>>(std::move(X), context, view, std::move(name));
}

bool is_cuda(int kind) {
  return kind == nb::device::cuda::value || kind == nb::device::cuda_managed::value;
}

/// The capsule of an array on the context's device: asked for once, for whoever lends orders its work with each call.
nb::object lent_by(const Context& context, const nb::object& array) {
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

/// @tparam Array  what is wanted of it, as `wanted` says it
template <class Array>
Array lent_on_cuda(const Context& context, const nb::object& array, const std::string& name, const char* wanted) {
  const nb::str type(nb::inst_name(array));
  Array lent;
  nb::object capsule;
  try {
    capsule = lent_by(context, array);
  } catch (nb::python_error& error) {
    bool refused = false;
    for (PyObject* const kind : {PyExc_BufferError, PyExc_RuntimeError, PyExc_TypeError, PyExc_ValueError})
      refused |= error.matches(kind);
    if (!refused) throw;
    const nb::str text(error.value());
    nb::raise_from(error, PyExc_TypeError, "%s: found %s (%s), wanted %s that DLPack can lend", name.c_str(),
                   type.c_str(), text.c_str(), wanted);
  }
  if (!nb::try_cast(capsule, lent))
    nb::raise_type_error("%s: found %s whose __dlpack__ gives no such array, wanted %s that DLPack can lend",
                         name.c_str(), type.c_str(), wanted);
  return lent;
}

/// The array, on CUDA asked for in the order of the context's stream.
AnyMatrix array_of(const Context& context, const nb::object& array, const std::string& name) {
  // Before it is asked for: the stream of one device means nothing on another.
  const auto [kind, index] = nb::cast<std::pair<int, int>>(array.attr("__dlpack_device__")());
  if (!is_cuda(kind)) return nb::cast<AnyMatrix>(array);
  const Device device{DeviceType::cuda, index};
  SHRINKWARP_REQUIRE(device == context.device(), DeviceError, name, ": found an array on ", device, ", wanted one on ",
                     context.device());
  return lent_on_cuda<AnyMatrix>(context, array, name, "an array (N, n)");
}

/// As NumPy says it.
std::string name_of(nb::dlpack::dtype type) {
  const std::pair<nb::dlpack::dtype_code, const char*> kNames[] = {
      {nb::dlpack::dtype_code::Int, "int"},         {nb::dlpack::dtype_code::UInt, "uint"},
      {nb::dlpack::dtype_code::Float, "float"},     {nb::dlpack::dtype_code::Bfloat, "bfloat"},
      {nb::dlpack::dtype_code::Complex, "complex"}, {nb::dlpack::dtype_code::Bool, "bool"}};
  for (const auto& [code, name] : kNames)
    if (type.code == static_cast<std::uint8_t>(code)) return concat(name, int{type.bits});
  return concat("DLPack's type ", int{type.code}, " of ", int{type.bits}, " bits");
}

}  // namespace

std::unique_ptr<ObservationSource> observations_of(const Context& context, const nb::object& array, std::string name) {
  AnyMatrix X = array_of(context, array, name);
  SHRINKWARP_REQUIRE(X.device_type() == nb::device::cpu::value || is_cuda(X.device_type()), DeviceError, name,
                     ": found an array on a device of DLPack's kind ", X.device_type(), ", wanted the CPU or CUDA");
  if (X.dtype() == nb::dtype<float>()) return typed_source<float>(context, std::move(X), std::move(name));
  SHRINKWARP_REQUIRE(X.dtype() == nb::dtype<double>(), ValueError, name, ": found elements of type ",
                     name_of(X.dtype()), ", wanted float32 or float64");
  return typed_source<double>(context, std::move(X), std::move(name));
}

nb::object on_host(const nb::object& array, const std::string& name) {
  const auto [kind, index] = nb::cast<std::pair<int, int>>(array.attr("__dlpack_device__")());
  const Context context = Context::cuda(index);
  const auto lent = lent_on_cuda<nb::ndarray<nb::ro>>(context, array, name, "an array");
  const nb::dlpack::dtype type = lent.dtype();
  constexpr auto kBfloat = static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat);
  if (type.code >= kBfloat && type.code != static_cast<std::uint8_t>(nb::dlpack::dtype_code::Complex) &&
      type.code != static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bool))
    nb::raise_type_error("%s: found elements of type %s, wanted a type that NumPy has", name.c_str(),
                         name_of(type).c_str());
  std::vector<std::size_t> shape;
  std::vector<std::int64_t> strides;
  std::int64_t first = 0, last = 0;  // elements, from where the array begins
  for (std::size_t i = 0; i < lent.ndim(); ++i) {
    shape.push_back(lent.shape(i));
    strides.push_back(lent.stride(i));
    const std::int64_t way = (static_cast<std::int64_t>(lent.shape(i)) - 1) * lent.stride(i);
    (way < 0 ? first : last) += way;
  }
  const std::int64_t width = (type.bits * type.lanes + 7) / 8;
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

}  // namespace shrinkwarp::python
