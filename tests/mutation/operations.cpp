// Small runs of kernels on the host executor, each compared with the CPU body: what the mutation tests run.
//
//   operations NAME    exit status 0 where the result is right, 1 where it is wrong, 2 for an unknown name
//
// Values are small integers and steps powers of two, so that sums are exact in any order.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/mutation/count.hpp"

namespace shrinkwarp {
namespace {

constexpr std::int64_t n = 20;   // two steps of every product along the sensors
constexpr std::int64_t m = 140;  // two tiles of atoms
constexpr std::int64_t N = 9;

/// rows x cols integers from -4 to 4 on the context's device.
template <class T>
Tensor<T> integers(const Context& context, std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
  std::vector<T> values(static_cast<std::size_t>(rows * cols));
  std::uint32_t state = 7919u * (seed + 1);
  for (T& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<T>(static_cast<int>((state >> 16) % 9u) - 4);
  }
  Tensor<T> tensor(context, rows, cols);
  copy(context, VectorView<const T>{values.data(), rows * cols, {}}, tensor.vector());
  context.synchronize();
  return tensor;
}

template <class T>
Tensor<T> constant(const Context& context, std::int64_t size, T value) {
  const std::vector<T> values(static_cast<std::size_t>(size), value);
  Tensor<T> tensor(context, size);
  copy(context, VectorView<const T>{values.data(), size, {}}, tensor.vector());
  context.synchronize();
  return tensor;
}

template <class T>
std::vector<double> host(const Context& context, const Tensor<T>& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.size()));
  copy(context, tensor.vector(), VectorView<T>{values.data(), tensor.size(), {}});
  context.synchronize();
  return {values.begin(), values.end()};
}

std::vector<double> residual(const Context& context) {
  const StepDictionary<float> D(context, integers<float>(context, n, m, 1).matrix());
  const auto current = integers<float>(context, m, N, 2), previous = integers<float>(context, m, N, 3);
  const auto beta = constant(context, N, 0.5f);
  const auto X = integers<float>(context, n, N, 4);
  const Tensor<float> R(context, n, N), scratch(context, residual_scratch(context, D, N));
  extrapolated_residual(context, D, current.matrix(), previous.matrix(), beta.vector(), X.matrix(), R.matrix(),
                        scratch.vector());
  return host(context, R);
}

std::vector<double> step(const Context& context) {
  const StepDictionary<float> D(context, integers<float>(context, n, m, 1).matrix());
  const auto R = integers<float>(context, n, N, 2), anchor = integers<float>(context, m, N, 3);
  const auto current = integers<float>(context, m, N, 4), previous = integers<float>(context, m, N, 5);
  const auto beta = constant(context, N, 0.5f), lambda = constant(context, N, 4.0f);
  const Tensor<float> restart(context, step_tiles(context, m), N);
  const Tensor<std::int32_t> support(context, step_tiles(context, m), N);
  gradient_step(context, D, R.matrix(), anchor.matrix(), current.matrix(), previous.matrix(), beta.vector(), 0.25f,
                lambda.vector(), {}, StepPartials<float>{restart.matrix(), support.matrix()});
  return host(context, previous);
}

std::vector<double> residual_of_codes(const Context& context) {
  const CertificateDictionary D(context, integers<double>(context, n, m, 1).matrix());
  const auto codes = integers<float>(context, m, N, 2);
  const auto X = integers<double>(context, n, N, 3);
  const Tensor<double> R(context, n, N);
  const Tensor<float> rounded(context, n, N);
  code_residual<float>(context, D, codes.matrix(), X.matrix(), R.matrix(), rounded.matrix());
  return host(context, R);
}

std::vector<double> correlation(const Context& context) {
  const CertificateDictionary D(context, integers<double>(context, n, m, 1).matrix());
  const auto R = integers<double>(context, n, N, 2);
  const Tensor<double> result(context, N), scratch(context, correlation_scratch(context, m, N));
  correlation_max(context, D, R.matrix(), result.vector(), scratch.vector());
  return host(context, result);
}

std::vector<double> gap(const Context& context) {
  const auto X = integers<double>(context, n, N, 1), R = integers<double>(context, n, N, 2);
  const auto codes = integers<float>(context, m, N, 3);
  const auto correlation = constant(context, N, 64.0), lambda = constant(context, N, 8.0);
  const Tensor<double> primal(context, N), gap(context, N);
  dual_gap<float>(context, X.matrix(), R.matrix(), correlation.vector(), codes.matrix(), 1.0, lambda.vector(),
                  primal.vector(), gap.vector());
  return host(context, gap);
}

std::vector<double> count(const Context& context) {
  if (!context.is_cuda()) return {2.0 * n * m};
  const auto values = constant(context, 2 * n * m, 1.0f);
  const auto total = constant(context, 1, 0);
  testing::count_nonzeros(context, values.vector(), total.vector());
  return host(context, total);
}

int run(const std::string& name) {
  const std::map<std::string, std::function<std::vector<double>(const Context&)>> operations = {
      {"residual", residual},       {"step", step}, {"code_residual", residual_of_codes},
      {"correlation", correlation}, {"gap", gap},   {"count", count}};
  const auto operation = operations.find(name);
  if (operation == operations.end()) {
    std::fprintf(stderr, "operations: found the name '%s', wanted another\n", name.c_str());
    return 2;
  }
  const std::vector<double> found = operation->second(Context::cuda());
  const std::vector<double> wanted = operation->second(Context::cpu(1));
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    // The gap alone has divisions, a few roundings of 1e-16 each.
    if (std::fabs(found[i] - wanted[i]) <= 1e-12 * std::fabs(wanted[i])) continue;
    std::printf("wrong result: element %zu is %g, wanted %g\n", i, found[i], wanted[i]);
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace shrinkwarp

int main(int argc, char** argv) {
  return shrinkwarp::run(argc == 2 ? argv[1] : "");
}
