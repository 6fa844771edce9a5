#include <shrinkwarp/kernels/optimizer/optimizer.hpp>

#include <limits>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/optimizer/update.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_OPTIMIZER                                                                             \
  template <class T>                                                                                             \
  void squared_norm(const Context& context, VectorView<const T> grad, VectorView<double> scratch,                \
                    VectorView<double> result);                                                                  \
  void advance_schedule(const Context& context, VectorView<const double> rates, VectorView<const double> square, \
                        double limit, const AdamOptions& adam, VectorView<double> schedule);                     \
  template <class T>                                                                                             \
  void sgd_step(const Context& context, VectorView<const T> grad, const SgdOptions& options,                     \
                VectorView<const double> schedule, VectorView<T> velocity, VectorView<T> parameters);            \
  template <class T>                                                                                             \
  void adam_step(const Context& context, VectorView<const T> grad, const AdamOptions& options,                   \
                 VectorView<const double> schedule, VectorView<T> first, VectorView<T> second,                   \
                 VectorView<T> parameters);
namespace cpu {
SHRINKWARP_DECLARE_OPTIMIZER
}
namespace cuda {
SHRINKWARP_DECLARE_OPTIMIZER
}
#undef SHRINKWARP_DECLARE_OPTIMIZER

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_share(const char* function, const char* name, double value) {
  SHRINKWARP_REQUIRE(value >= 0 && value < 1, ValueError, function, ": ", name, " is ", value,
                     ", wanted at least 0 and less than 1");
}

void check_decay(const char* function, double value) {
  SHRINKWARP_REQUIRE(value >= 0 && value < kInfinity, ValueError, function, ": weight_decay is ", value,
                     ", wanted >= 0 and finite");
}

}  // namespace

std::int64_t norm_scratch(std::int64_t size) {
  SHRINKWARP_REQUIRE(size >= 0, ValueError, "norm_scratch: size is ", size, ", wanted >= 0");
  return (size + kNormPiece - 1) / kNormPiece;
}

template <class T>
void squared_norm(const Context& context, VectorView<const T> grad, VectorView<double> scratch,
                  VectorView<double> result) {
  check_vector(context, "squared_norm", "grad", grad, grad.size);
  const std::int64_t pieces = norm_scratch(grad.size);
  SHRINKWARP_REQUIRE(scratch.size >= pieces, ShapeError, "squared_norm: scratch has ", scratch.size,
                     " elements, wanted at least ", pieces);
  check_vector(context, "squared_norm", "scratch", scratch, scratch.size);
  check_vector(context, "squared_norm", "result", result, 1);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::squared_norm<T>(context, grad, scratch, result);
  }
  cpu::squared_norm<T>(context, grad, scratch, result);
}

void advance_schedule(const Context& context, VectorView<const double> rates, VectorView<const double> squared_norm,
                      double limit, const AdamOptions& adam, VectorView<double> schedule) {
  SHRINKWARP_REQUIRE(limit > 0, ValueError, "advance_schedule: limit is ", limit, ", wanted > 0");
  SHRINKWARP_REQUIRE(limit == kInfinity || !squared_norm.empty(), ValueError, "advance_schedule: limit is ", limit,
                     " and squared_norm is empty, wanted an infinite limit or a norm");
  check_share("advance_schedule", "beta1", adam.beta1);
  check_share("advance_schedule", "beta2", adam.beta2);
  SHRINKWARP_REQUIRE(!rates.empty(), ShapeError, "advance_schedule: rates has 0 elements, wanted at least 1");
  check_vector(context, "advance_schedule", "rates", rates, rates.size);
  if (!squared_norm.empty()) check_vector(context, "advance_schedule", "squared_norm", squared_norm, 1);
  check_vector(context, "advance_schedule", "schedule", schedule, Schedule::kSize);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::advance_schedule(context, rates, squared_norm, limit, adam, schedule);
  }
  cpu::advance_schedule(context, rates, squared_norm, limit, adam, schedule);
}

template <class T>
void sgd_step(const Context& context, identity_t<VectorView<const T>> grad, const SgdOptions& options,
              VectorView<const double> schedule, identity_t<VectorView<T>> velocity, VectorView<T> parameters) {
  check_share("sgd_step", "momentum", options.momentum);
  SHRINKWARP_REQUIRE(!options.nesterov || options.momentum > 0, ValueError,
                     "sgd_step: nesterov is true and momentum 0, wanted > 0");
  check_decay("sgd_step", options.weight_decay);
  check_vector(context, "sgd_step", "parameters", parameters, parameters.size);
  check_vector(context, "sgd_step", "grad", grad, parameters.size);
  check_vector(context, "sgd_step", "schedule", schedule, Schedule::kSize);
  check_vector(context, "sgd_step", "velocity", velocity, options.momentum > 0 ? parameters.size : 0);
  if (parameters.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::sgd_step<T>(context, grad, options, schedule, velocity, parameters);
  }
  cpu::sgd_step<T>(context, grad, options, schedule, velocity, parameters);
}

template <class T>
void adam_step(const Context& context, identity_t<VectorView<const T>> grad, const AdamOptions& options,
               VectorView<const double> schedule, VectorView<T> first, VectorView<T> second, VectorView<T> parameters) {
  check_share("adam_step", "beta1", options.beta1);
  check_share("adam_step", "beta2", options.beta2);
  SHRINKWARP_REQUIRE(static_cast<T>(options.epsilon) > T(0), ValueError, "adam_step: epsilon is ", options.epsilon,
                     ", wanted > 0 in the type of the parameters");
  check_decay("adam_step", options.weight_decay);
  check_vector(context, "adam_step", "parameters", parameters, parameters.size);
  check_vector(context, "adam_step", "grad", grad, parameters.size);
  check_vector(context, "adam_step", "schedule", schedule, Schedule::kSize);
  check_vector(context, "adam_step", "first", first, parameters.size);
  check_vector(context, "adam_step", "second", second, parameters.size);
  if (parameters.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::adam_step<T>(context, grad, options, schedule, first, second, parameters);
  }
  cpu::adam_step<T>(context, grad, options, schedule, first, second, parameters);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                               \
  template void squared_norm<T>(const Context&, VectorView<const T>, VectorView<double>, VectorView<double>);   \
  template void sgd_step<T>(const Context&, VectorView<const T>, const SgdOptions&, VectorView<const double>,   \
                            VectorView<T>, VectorView<T>);                                                      \
  template void adam_step<T>(const Context&, VectorView<const T>, const AdamOptions&, VectorView<const double>, \
                             VectorView<T>, VectorView<T>, VectorView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
