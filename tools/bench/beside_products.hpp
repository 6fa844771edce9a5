// What a call takes, beside the dense products that it is made of on the same context, run by run.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp::bench {

struct CallTime {
  double seconds = 0;
  double cpu_seconds =
      0;  ///< of all threads of the process; tells more than `seconds` where others use the machine too
};

/// One call, waited for.
CallTime time_call(const Context& context, FunctionRef<void()> call);

/// A kind of product, C [M, N] = op(A) op(B) over K, and how often a pass makes it.
struct Product {
  Transpose op_a, op_b;
  std::int64_t M, N, K;
  std::int64_t calls;
};
/// 2 M N K a call.
double flops_of(const std::vector<Product>& products);

/// Times products by `gemm` in T on random numbers.
template <class T>
class ProductTimer {
 public:
  /// @param largest     products none of which is smaller in any of its matrices than those to come
  /// @param most_timed  calls of each kind at most that are made; each counts for more where the pass makes more
  ProductTimer(const Context& context, const std::vector<Product>& largest, std::int64_t most_timed);
  CallTime time(const std::vector<Product>& products) const;

 private:
  const Context& context_;
  std::int64_t most_timed_;
  Tensor<T> left_, right_, result_;
};

/// The runs of one pass, and of its products beside them.
struct TimedRuns {
  std::vector<double> seconds, cpu_seconds, gemm_seconds, gemm_cpu_seconds;

  void add(const CallTime& whole, const CallTime& products);
  void clear();
};

/// @param values  at least one
double median_of(std::vector<double> values);
/// Median over the runs of above / below.
double median_ratio(const std::vector<double>& above, const std::vector<double>& below);

}  // namespace shrinkwarp::bench
