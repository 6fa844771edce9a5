// What each hot kernel of the library reaches on a device, beside what the same device copies and multiplies in the same
// run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>

namespace shrinkwarp::bench {

struct KernelShape {
  std::string name;  ///< small, medium, large or custom
  std::int64_t rows = 0, atoms = 0, problems = 0;
};

/// 64 x 256, 102 x 1000 and 306 x 6138, with fewer problems the larger they are.
std::vector<KernelShape> kernel_shapes();

/// Names of the kernels that can be timed.
std::vector<std::string> kernel_names();

struct KernelsBenchOptions {
  std::vector<std::string> kernels;  ///< of kernel_names(); empty for all
  std::int64_t iterations = 25;      ///< of proximal_iterations
  double density = 0.01;             ///< share of nonzeros in the codes; only the CPU's residuals depend on it
  std::int64_t runs = 21;            ///< the median is over these
  double run_seconds = 2e-3;         ///< a run is as many calls, one after the other, as take this long
};

/// What the device can do: the medians of as many runs.
struct DeviceCeilings {
  double copy = 0;  ///< bytes/s, read and written, of a copy of 256 MiB, 128 by all threads of the CPU
  double fp32 = 0, fp64 = 0, tf32 = 0, split_tf32 = 0;  ///< flop/s of gemm, 4096^3; on the CPU 1024^3, and no tf32
};

struct KernelTiming {
  std::string kernel;
  std::string mode;  ///< of its products: fp32, tf32, split_tf32, fp64, fp16 or int16
  std::int64_t problems = 0;
  std::int64_t iterations = 1;
  std::int64_t calls = 0;      ///< of a run
  double median_seconds = 0;   ///< of a call
  double fastest_seconds = 0;  ///< likewise
  double flops = 0;            ///< what the dense mathematics asks for
  double bytes = 0;            ///< what must move at least once between memory and processor
  double gemm = 0;             ///< the ceiling of its products: tf32 for fp16, fp32 for int16
};

/// Times the ceilings.
DeviceCeilings measure_ceilings(const Context& context, const KernelsBenchOptions& options);

/// Times the kernels that the context's device has at one shape; each is reported when it is done. Random dictionary,
/// observations and codes, made on the context. proximal_iterations is left out where the dictionary does not fit.
void run_kernels_bench(const Context& context, const KernelsBenchOptions& options, const KernelShape& shape,
                       const DeviceCeilings& ceilings, FunctionRef<void(const KernelTiming&)> report);

}  // namespace shrinkwarp::bench
