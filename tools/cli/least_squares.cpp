#include <shrinkwarp/tools/cli/least_squares.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>

#include <nlohmann/json.hpp>

#include <shrinkwarp/models/lasso/minimum_norm.hpp>
#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/interrupt.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/progress_bar.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

MinimumNorm read_and_decompose(const Context& context, const NpyFile& file, const std::string& name) {
  const Tensor<double> D(context, file.rows(), file.cols());
  file.read_matrix(D.matrix());
  for (std::int64_t j = 0; j < file.cols(); ++j)
    for (std::int64_t i = 0; i < file.rows(); ++i)
      SHRINKWARP_REQUIRE(std::isfinite(D.matrix()(i, j)), ValueError, name, ": entry (", i, ", ", j, ") is ",
                         D.matrix()(i, j), ", wanted a finite number");
  return MinimumNorm(context, D.matrix());
}

}  // namespace

int run_least_squares(const SolveOptions& options, const Context& context, const NpyFile& dictionary,
                      NpyObservations& observations) {
  const auto started = std::chrono::steady_clock::now();
  const std::int64_t n = dictionary.rows(), m = dictionary.cols(), N = observations.size();
  const std::int64_t limit = parse_bytes(options.memory_limit);
  const std::int64_t a_problem = 8 * (2 * n + m);  // with the coordinates in between
  const std::int64_t least = MinimumNorm::bytes(n, m) + a_problem;
  SHRINKWARP_REQUIRE(limit >= least, ValueError, "--memory-limit: found ", limit, " bytes, wanted at least ", least,
                     " for the singular values of a dictionary of ", n, " x ", m);
  NpyWriter output(options.output, ElementType::f8, {N, m});
  const InterruptScope interrupts;
  const MinimumNorm solver = read_and_decompose(context, dictionary, options.dictionary);
  // Blocks of 16 MiB at most: a product of the BLAS is at its rate by then.
  const std::int64_t block =
      std::clamp<std::int64_t>(std::min(limit - MinimumNorm::bytes(n, m), std::int64_t{16} << 20) / a_problem, 1, N);
  const Tensor<double> X(context, n, block), Z(context, m, block);
  {
    ProgressBar bar(options.quiet || options.json);
    for (std::int64_t first = 0; first < N; first += block) {
      if (interrupts.token()->cancelled()) {
        std::cerr << "shrinkwarp: interrupted: nothing is written\n";
        return kSignal + interrupts.number();
      }
      const std::int64_t count = std::min(block, N - first);
      const MatrixView<double> x = X.matrix().columns(0, count), z = Z.matrix().columns(0, count);
      observations.read(first, x);
      for (std::int64_t b = 0; b < count; ++b) require_finite(observations, first + b, {x.column(b), n, {}});
      solver.solve(context, x, z);
      output.append_rows(MatrixView<const double>(z));
      bar.update({first + count, N, 0, 0, 0});
    }
  }
  output.finish();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  if (options.json) {
    const nlohmann::json out = {{"problems", N},
                                {"rows", n},
                                {"atoms", m},
                                {"rank", solver.rank()},
                                {"solver", "least-squares"},
                                {"device", context.description()},
                                {"seconds", seconds},
                                {"output", options.output}};
    std::cout << json_line(out) << '\n';
  } else if (!options.quiet) {
    std::printf("problems     %s, dictionary %lld x %lld of rank %lld\n", with_commas(N).c_str(),
                static_cast<long long>(n), static_cast<long long>(m), static_cast<long long>(solver.rank()));
    std::printf("solver       least-squares, of least norm\n");
    std::printf("time         %s\n", duration_text(seconds).c_str());
    std::printf("output       %s\n", options.output.c_str());
    std::fflush(stdout);
  }
  return kDone;
}

}  // namespace shrinkwarp::cli
