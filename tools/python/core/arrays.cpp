#include <shrinkwarp/tools/python/core/arrays.hpp>

#include <algorithm>

#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::python {
namespace {

template <class T>
class HostRows : public ObservationSource {
 public:
  HostRows(AnyMatrix X, std::string name) : X_(std::move(X)), name_(std::move(name)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(X_.shape(0)); }
  std::int64_t dimension() const override { return static_cast<std::int64_t>(X_.shape(1)); }
  std::string name() const override { return name_; }
  void read(std::int64_t first, MatrixView<double> X) override {
    const std::int64_t between = X_.stride(1);
    for (std::int64_t b = 0; b < X.cols; ++b) {
      const T* from = static_cast<const T*>(X_.data()) + (first + b) * X_.stride(0);
      double* const to = X.column(b);
      if (between == 1) {
        std::copy_n(from, X.rows, to);
      } else {
        for (std::int64_t i = 0; i < X.rows; ++i) to[i] = from[i * between];
      }
    }
  }

 private:
  AnyMatrix X_;
  std::string name_;
};

/// Keeps the array beside the source that reads it.
template <class T>
class DeviceRows : public DeviceSource<T> {
 public:
  DeviceRows(const Context& context, MatrixView<const T> view, AnyMatrix X, std::string name)
      : DeviceSource<T>(context, view), X_(std::move(X)), name_(std::move(name)) {}
  std::string name() const override { return name_; }

 private:
  AnyMatrix X_;
  std::string name_;
};

template <class T>
std::unique_ptr<ObservationSource> typed_source(const Context& context, AnyMatrix X, std::string name) {
  if (X.device_type() == nanobind::device::cpu::value)
    return std::make_unique<HostRows<T>>(std::move(X), std::move(name));
  const auto N = static_cast<std::int64_t>(X.shape(0)), n = static_cast<std::int64_t>(X.shape(1));
  SHRINKWARP_REQUIRE(N * n == 0 || (X.stride(1) == 1 && (N == 1 || X.stride(0) >= n)), ValueError, name,
                     ": found rows with strides (", X.stride(0), ", ", X.stride(1),
                     ") on CUDA, wanted rows of adjacent elements");
  const MatrixView<const T> view{
      static_cast<const T*>(X.data()), n, N, std::max(X.stride(0), n), {DeviceType::cuda, X.device_id()}};
  return std::make_unique<DeviceRows<T>>(context, view, std::move(X), std::move(name));
}

}  // namespace

AnyMatrix array_of(const Context& context, const nanobind::object& X) {
  if (!context.is_cuda() || nanobind::cast<AnyMatrix>(X).device_type() == nanobind::device::cpu::value)
    return nanobind::cast<AnyMatrix>(X);
  const auto stream = reinterpret_cast<std::uintptr_t>(context.stream());
  return nanobind::cast<AnyMatrix>(X.attr("__dlpack__")(nanobind::arg("stream") = stream));
}

std::unique_ptr<ObservationSource> observations_of(const Context& context, AnyMatrix X, std::string name) {
  const int kind = X.device_type();
  SHRINKWARP_REQUIRE(kind == nanobind::device::cpu::value || kind == nanobind::device::cuda::value, DeviceError, name,
                     ": found an array on a device of DLPack's kind ", kind, ", wanted the CPU or CUDA");
  if (X.dtype() == nanobind::dtype<float>()) return typed_source<float>(context, std::move(X), std::move(name));
  SHRINKWARP_REQUIRE(X.dtype() == nanobind::dtype<double>(), ValueError, name,
                     ": found another element type, wanted float32 or float64");
  return typed_source<double>(context, std::move(X), std::move(name));
}

}  // namespace shrinkwarp::python
