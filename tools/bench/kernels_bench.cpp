#include <shrinkwarp/tools/bench/kernels_bench.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>
#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/kernels/panel_bounds/panel_bounds.hpp>
#include <shrinkwarp/kernels/proximal_iterations/proximal_iterations.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/bench/clock.hpp>
#include <shrinkwarp/tools/bench/inputs.hpp>

namespace shrinkwarp::bench {
namespace {

struct CallTimes {
  std::int64_t calls = 0;
  double median = 0, fastest = 0;
};

double seconds_of(const Context& context, std::int64_t calls, FunctionRef<void()> call) {
  const auto start = Clock::now();
  for (std::int64_t i = 0; i < calls; ++i) call();
  context.synchronize();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

CallTimes time_calls(const Context& context, const KernelsBenchOptions& options, FunctionRef<void()> call) {
  seconds_of(context, 1, call);  // what a first call makes and allocates
  CallTimes times;
  for (times.calls = 1; seconds_of(context, times.calls, call) < options.run_seconds;) times.calls *= 2;
  std::vector<double> runs;
  for (std::int64_t run = 0; run < options.runs; ++run)
    runs.push_back(seconds_of(context, times.calls, call) / static_cast<double>(times.calls));
  std::sort(runs.begin(), runs.end());
  times.median = (runs[(runs.size() - 1) / 2] + runs[runs.size() / 2]) / 2;
  times.fastest = runs.front();
  return times;
}

/// C = D'R, or any product of that kind, with what its mode needs.
template <class T>
void multiply(const Context& context, const Tensor<T>& D, const Tensor<T>& R, const Tensor<T>& C, MathMode mode,
              const Tensor<T>& scratch) {
  gemm(context, Transpose::yes, Transpose::no, T(1), D.matrix(), R.matrix(), T(0), C.matrix(), mode, scratch.vector());
}

template <class T>
double gemm_rate(const Context& context, const KernelsBenchOptions& options, MathMode mode) {
  const std::int64_t size = context.is_cuda() ? 4096 : 1024;
  const Tensor<T> A = normal_numbers<T>(context, size, size, 1), B = normal_numbers<T>(context, size, size, 2);
  const Tensor<T> C(context, size, size), scratch(context, gemm_scratch<T>(context, A.matrix(), B.matrix(), mode));
  KernelsBenchOptions few = options;
  few.runs = std::min<std::int64_t>(options.runs, 5);
  return 2 * std::pow(static_cast<double>(size), 3) /
         time_calls(context, few, [&] { multiply(context, A, B, C, mode, scratch); }).median;
}

double copy_rate(const Context& context, const KernelsBenchOptions& options) {
  constexpr std::int64_t kPiece = std::int64_t{4} << 20;
  const std::int64_t bytes = std::int64_t{context.is_cuda() ? 256 : 128} << 20;
  const Tensor<std::uint8_t> source = Tensor<std::uint8_t>::zeros(context, bytes);
  const Tensor<std::uint8_t> target = Tensor<std::uint8_t>::zeros(context, bytes);
  const auto copy_all = [&] {
    if (context.is_cuda()) return copy(context, source.vector(), target.vector());
    context.parallel_for(bytes / kPiece, [&](std::int64_t piece, int) {
      std::memcpy(target.data() + piece * kPiece, source.data() + piece * kPiece, kPiece);
    });
  };
  return 2.0 * static_cast<double>(bytes) / time_calls(context, options, copy_all).median;
}

const char* name_of(MathMode mode) {
  return mode == MathMode::fp32 ? "fp32" : mode == MathMode::tf32 ? "tf32" : "split_tf32";
}

/// Times kernels at one shape, those that are asked for.
class Bench {
 public:
  Bench(const Context& context, const KernelsBenchOptions& options, const KernelShape& shape,
        const DeviceCeilings& ceilings, FunctionRef<void(const KernelTiming&)> report)
      : context_(context),
        options_(options),
        n_(shape.rows),
        m_(shape.atoms),
        N_(shape.problems),
        ceilings_(ceilings),
        report_(report) {}

  void run() {
    if (wants("extrapolated_residual") || wants("gradient_step") || wants("proximal_iterations")) iterations();
    if (wants("code_residual") || wants("correlation_max")) certificates();
    if (wants("bounded_correlation") && !context_.is_cuda()) bounded_correlations();
    if (wants("panel_bounds") && context_.is_cuda()) bounds_of_panels();
    if (wants("gemm")) products();
  }

 private:
  bool wants(const std::string& kernel) const {
    const std::vector<std::string>& names = options_.kernels;
    return names.empty() || std::find(names.begin(), names.end(), kernel) != names.end();
  }
  /// n m, m N and n N as a number.
  double nm() const { return static_cast<double>(n_) * static_cast<double>(m_); }
  double mN() const { return static_cast<double>(m_) * static_cast<double>(N_); }
  double nN() const { return static_cast<double>(n_) * static_cast<double>(N_); }
  double product_flops() const { return 2 * nm() * static_cast<double>(N_); }
  double ceiling(MathMode mode) const {
    return mode == MathMode::fp32 ? ceilings_.fp32 : mode == MathMode::tf32 ? ceilings_.tf32 : ceilings_.split_tf32;
  }
  /// fp32 on the CPU, which has no other mode.
  std::vector<MathMode> modes() const {
    if (context_.is_cuda()) return {MathMode::fp32, MathMode::tf32, MathMode::split_tf32};
    return {MathMode::fp32};
  }

  void time(const std::string& kernel, const std::string& mode, double flops, double bytes, double gemm,
            FunctionRef<void()> call, std::int64_t steps = 1) {
    if (!wants(kernel)) return;
    const CallTimes times = time_calls(context_, options_, call);
    report_({kernel, mode, N_, steps, times.calls, times.median, times.fastest, flops, bytes, gemm});
  }

  void iterations() {
    const Tensor<float> D = normal_numbers<float>(context_, n_, m_, 1), X = normal_numbers<float>(context_, n_, N_, 5);
    const StepDictionary<float> packed(context_, D.matrix());
    const Tensor<float> current = sparse_codes(context_, m_, N_, options_.density, 2);
    const Tensor<float> previous = sparse_codes(context_, m_, N_, options_.density, 3);
    const Tensor<float> anchor = sparse_codes(context_, m_, N_, options_.density, 4);
    const Tensor<float> R(context_, n_, N_), beta = filled(context_, N_, 0.5f), lambda = filled(context_, N_, 1.0f);
    const Tensor<double> t = filled(context_, N_, 1.0);
    const std::int64_t tiles = step_tiles(context_, m_);
    const Tensor<float> restart(context_, tiles, N_);
    const Tensor<std::int32_t> support(context_, tiles, N_);
    const Tensor<float> scratch(context_, residual_scratch(context_, packed.rows(), packed.cols(), N_));
    // Far below 1/L, so that repeated steps leave the codes finite.
    const float step = 1e-3f / static_cast<float>(n_ + m_);
    time("extrapolated_residual", "fp32", product_flops(), 4 * (nm() + 2 * mN() + 2 * nN()), ceilings_.fp32, [&] {
      extrapolated_residual<float>(context_, packed, current.matrix(), previous.matrix(), beta.vector(), X.matrix(),
                                   R.matrix(), scratch.vector());
    });
    context_.copy_bytes(R.data(), context_.device(), X.data(), context_.device(), R.bytes());
    time("gradient_step", "fp32", product_flops(), 4 * (nm() + 4 * mN() + nN()), ceilings_.fp32, [&] {
      gradient_step<float>(context_, packed, R.matrix(), anchor.matrix(), current.matrix(), previous.matrix(),
                           beta.vector(), step, lambda.vector(), {},
                           StepPartials<float>{restart.matrix(), support.matrix()});
    });
    if (!iteration_plan(context_, n_, m_, N_)) return;
    const Tensor<float> own_scratch(context_, iterations_scratch(context_, packed, N_));
    for (const MathMode mode : {MathMode::tf32, MathMode::split_tf32}) {
      const bool on_cuda = context_.is_cuda();
      if (!on_cuda && mode == MathMode::split_tf32) continue;  // the same as tf32
      time(
          "proximal_iterations", on_cuda ? name_of(mode) : "fp32",
          2 * static_cast<double>(options_.iterations) * product_flops(), 4 * (nm() + 5 * mN() + nN()),
          on_cuda ? ceiling(mode) : ceilings_.fp32,
          [&] {
            proximal_iterations(context_, packed, X.matrix(), anchor.matrix(), lambda.vector(), {}, {step, {}},
                                options_.iterations, Momentum::fista_restart, mode, current.matrix(), previous.matrix(),
                                t.vector(), beta.vector(), own_scratch.vector());
          },
          options_.iterations);
    }
  }

  void certificates() {
    const Tensor<double> D = normal_numbers<double>(context_, n_, m_, 1),
                         X = normal_numbers<double>(context_, n_, N_, 5);
    const CertificateDictionary exact(context_, D.matrix());
    const Tensor<float> codes = sparse_codes(context_, m_, N_, options_.density, 2), rounded(context_, n_, N_);
    const Tensor<double> R(context_, n_, N_), result(context_, N_);
    const Tensor<double> scratch(context_, correlation_scratch(context_, m_, N_));
    time("code_residual", "fp64", product_flops(), 8 * nm() + 4 * mN() + 20 * nN(), ceilings_.fp64,
         [&] { code_residual<float>(context_, exact, codes.matrix(), X.matrix(), R.matrix(), rounded.matrix()); });
    time("correlation_max", "fp64", product_flops(), 8 * (nm() + nN()), ceilings_.fp64,
         [&] { correlation_max(context_, exact, X.matrix(), result.vector(), scratch.vector()); });
  }

  /// As pools of the working-set solver call it: 64 residuals at a time, on each thread.
  void bounded_correlations() {
    constexpr std::int64_t kPool = 64;
    const Tensor<double> D = normal_numbers<double>(context_, n_, m_, 1);
    const QuantizedDictionary quantized(context_, D.matrix(), {});
    const std::int64_t padded = (n_ + kAtomPadding - 1) / kAtomPadding * kAtomPadding;
    QuantizedResiduals residuals(context_, quantized, kPool);
    const Tensor<double> r = normal_numbers<double>(context_, padded, kPool, 5);
    std::vector<std::int64_t> places(kPool);
    std::iota(places.begin(), places.end(), 0);
    for (std::int64_t place = 0; place < kPool; ++place) {
      std::fill(r.data() + place * padded + n_, r.data() + (place + 1) * padded, 0.0);
      residuals.set(quantized, place, quantized.levels() - 1, r.data() + place * padded);
    }
    const std::int64_t pools = (N_ + kPool - 1) / kPool, threads = context_.threads();
    const Tensor<float> correlations(context_, quantized.atoms_apart(), kPool * threads);
    MatrixView<float> C = correlations.matrix();
    C.rows = quantized.padded_atoms();
    const Tensor<float> highest(context_, quantized.panels(), kPool * threads);
    const double padded_share = static_cast<double>(pools * kPool) / static_cast<double>(N_);
    time("bounded_correlation", "int16", product_flops() * padded_share,
         2 * nm() + (2 * nN() + 4 * mN()) * padded_share, ceilings_.fp32, [&] {
           context_.parallel_for(pools, [&](std::int64_t, int worker) {
             bounded_correlation(context_, quantized, quantized.bounds(), residuals, places.data(), kPool,
                                 C.columns(worker * kPool, kPool), highest.matrix().columns(worker * kPool, kPool));
           });
         });
  }

  void bounds_of_panels() {
    const Tensor<double> D = normal_numbers<double>(context_, n_, m_, 1),
                         X = normal_numbers<double>(context_, n_, N_, 5);
    const auto half = [&](const Tensor<double>& V) {
      HalfColumns columns(context_, V.rows(), V.cols());
      std::vector<std::int32_t> numbers(static_cast<std::size_t>(V.cols()));
      std::iota(numbers.begin(), numbers.end(), 0);
      const Tensor<std::int32_t> all(context_, V.cols());
      copy(context_, VectorView<const std::int32_t>{numbers.data(), V.cols(), {}}, all.vector());
      columns.set(context_, V.matrix(), all.vector());
      context_.synchronize();  // `numbers` ends here
      return columns;
    };
    const HalfColumns atoms = half(D), residuals = half(X);
    const Tensor<std::uint32_t> keys(context_, (m_ + kPanelAtoms - 1) / kPanelAtoms, N_);
    time("panel_bounds", "fp16", product_flops(), 2 * (nm() + nN()) + 0.5 * mN(), ceilings_.tf32,
         [&] { panel_bounds(context_, atoms, residuals, N_, keys.matrix()); });
  }

  void products() {
    const Tensor<float> D = normal_numbers<float>(context_, n_, m_, 1), X = normal_numbers<float>(context_, n_, N_, 5);
    const Tensor<float> C(context_, m_, N_);
    for (const MathMode mode : modes()) {
      const Tensor<float> scratch(context_, gemm_scratch<float>(context_, D.matrix(), X.matrix(), mode));
      time("gemm", name_of(mode), product_flops(), 4 * (nm() + nN() + mN()), ceiling(mode),
           [&] { multiply(context_, D, X, C, mode, scratch); });
    }
  }

  const Context& context_;
  const KernelsBenchOptions& options_;
  std::int64_t n_, m_, N_;
  const DeviceCeilings& ceilings_;
  FunctionRef<void(const KernelTiming&)> report_;
};

}  // namespace

std::vector<KernelShape> kernel_shapes() {
  return {{"small", 64, 256, 8192}, {"medium", 102, 1000, 4096}, {"large", 306, 6138, 1024}};
}

std::vector<std::string> kernel_names() {
  return {"extrapolated_residual", "gradient_step",       "proximal_iterations", "code_residual",
          "correlation_max",       "bounded_correlation", "panel_bounds",        "gemm"};
}

DeviceCeilings measure_ceilings(const Context& context, const KernelsBenchOptions& options) {
  DeviceCeilings ceilings;
  ceilings.copy = copy_rate(context, options);
  ceilings.fp32 = gemm_rate<float>(context, options, MathMode::fp32);
  ceilings.fp64 = gemm_rate<double>(context, options, MathMode::fp32);
  if (!context.is_cuda()) return ceilings;
  ceilings.tf32 = gemm_rate<float>(context, options, MathMode::tf32);
  ceilings.split_tf32 = gemm_rate<float>(context, options, MathMode::split_tf32);
  return ceilings;
}

void run_kernels_bench(const Context& context, const KernelsBenchOptions& options, const KernelShape& shape,
                       const DeviceCeilings& ceilings, FunctionRef<void(const KernelTiming&)> report) {
  Bench(context, options, shape, ceilings, report).run();
}

}  // namespace shrinkwarp::bench
