#include <shrinkwarp/tools/bench/inputs.hpp>

#include <cmath>

#include <shrinkwarp/kernels/random/random.hpp>

namespace shrinkwarp::bench {

template <class T>
Tensor<T> normal_numbers(const Context& context, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Tensor<T> numbers(context, rows, cols);
  fill_normal(context, seed, 0, 0, numbers.vector());
  return numbers;
}

template Tensor<float> normal_numbers<float>(const Context&, std::int64_t, std::int64_t, std::uint64_t);
template Tensor<double> normal_numbers<double>(const Context&, std::int64_t, std::int64_t, std::uint64_t);

Tensor<float> sparse_codes(const Context& context, std::int64_t atoms, std::int64_t problems, double density,
                           std::uint64_t seed) {
  const Context host = Context::cpu(1);
  const Tensor<float> draws = normal_numbers<float>(host, atoms, problems, seed);
  const auto period = static_cast<std::int64_t>(std::llround(1 / density));
  for (std::int64_t i = 0; i < draws.size(); ++i)
    if (i % period != 0) draws.data()[i] = 0;
  Tensor<float> codes(context, atoms, problems);
  copy(context, draws.vector(), codes.vector());
  context.synchronize();
  return codes;
}

}  // namespace shrinkwarp::bench
