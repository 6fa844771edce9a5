#include <shrinkwarp/tools/bench/beside_products.hpp>

#include <algorithm>
#include <chrono>
#include <ctime>

#include <shrinkwarp/tools/bench/inputs.hpp>

namespace shrinkwarp::bench {

CallTime time_call(const Context& context, FunctionRef<void()> call) {
  context.synchronize();
  const std::clock_t cpu = std::clock();
  const auto start = std::chrono::steady_clock::now();
  call();
  context.synchronize();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {seconds, static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC};
}

double flops_of(const std::vector<Product>& products) {
  double sum = 0;
  for (const Product& product : products) {
    sum += 2 * static_cast<double>(product.M) * static_cast<double>(product.N) * static_cast<double>(product.K) *
           static_cast<double>(product.calls);
  }
  return sum;
}

template <class T>
ProductTimer<T>::ProductTimer(const Context& context, const std::vector<Product>& largest, std::int64_t most_timed)
    : context_(context), most_timed_(most_timed) {
  std::int64_t left = 0, right = 0, result = 0;
  for (const Product& product : largest) {
    left = std::max(left, product.M * product.K);
    right = std::max(right, product.K * product.N);
    result = std::max(result, product.M * product.N);
  }
  left_ = normal_numbers<T>(context, left, 1, 3);
  right_ = normal_numbers<T>(context, right, 1, 4);
  result_ = Tensor<T>(context, result);
}

template <class T>
CallTime ProductTimer<T>::time(const std::vector<Product>& products) const {
  CallTime sum;
  for (const Product& product : products) {
    if (product.calls == 0) continue;
    const auto view = [&](const Tensor<T>& of, std::int64_t rows, std::int64_t cols, Transpose op) {
      if (op == Transpose::yes) std::swap(rows, cols);
      return MatrixView<T>{of.data(), rows, cols, rows, context_.device()};
    };
    const MatrixView<T> A = view(left_, product.M, product.K, product.op_a);
    const MatrixView<T> B = view(right_, product.K, product.N, product.op_b);
    const MatrixView<T> C = view(result_, product.M, product.N, Transpose::no);
    const std::int64_t timed = std::min(most_timed_, product.calls);
    const CallTime its = time_call(context_, [&] {
      for (std::int64_t i = 0; i < timed; ++i) gemm<T>(context_, product.op_a, product.op_b, T(1), A, B, T(0), C);
    });
    const double weight = static_cast<double>(product.calls) / static_cast<double>(timed);
    sum.seconds += weight * its.seconds;
    sum.cpu_seconds += weight * its.cpu_seconds;
  }
  return sum;
}

template class ProductTimer<float>;
template class ProductTimer<double>;

void TimedRuns::add(const CallTime& whole, const CallTime& products) {
  seconds.push_back(whole.seconds);
  cpu_seconds.push_back(whole.cpu_seconds);
  gemm_seconds.push_back(products.seconds);
  gemm_cpu_seconds.push_back(products.cpu_seconds);
}

void TimedRuns::clear() {
  for (std::vector<double>* times : {&seconds, &cpu_seconds, &gemm_seconds, &gemm_cpu_seconds}) times->clear();
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

double median_ratio(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < above.size(); ++i) ratios.push_back(above[i] / below[i]);
  return median_of(ratios);
}

}  // namespace shrinkwarp::bench
