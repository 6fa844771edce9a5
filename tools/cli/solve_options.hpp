// What `shrinkwarp solve` is asked to do: its options, what they default to, and which do not go together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>

namespace CLI {
class App;
}

namespace shrinkwarp::cli {

struct SolveOptions {
  std::string dictionary, observations, output;

  // Of these up to max_nonzeros exactly one is given, but for least squares.
  std::optional<double> lambda, lambda_fraction;
  std::string lambda_file;
  std::vector<std::string> lambda_fractions;  ///< as they were written, for the names of the outputs
  std::optional<double> l1_radius, residual_norm;
  std::optional<std::int64_t> max_nonzeros;
  std::string lambda_scope;  ///< "sample", "recording", or empty for "sample": whose lambda_max the fraction is of

  std::string weights;     ///< a file, or empty
  std::string warm_start;  ///< a file, or empty
  std::string network;     ///< a file, with --solver learned, or empty

  LassoOptions lasso;  ///< what the library is told; its memory limit, callbacks and token are the command's to set

  std::string device = "auto";
  int threads = 0;                    ///< 0 takes every processor
  std::string memory_limit = "4GiB";  ///< of the whole solve, see parse_bytes

  bool learned = false;        ///< the codes of `network` are the start
  bool least_squares = false;  ///< the minimum-norm solution in place of any Lasso
  bool debias = false;

  bool resume = false;
  bool quiet = false;
  bool json = false;
};

/// Registers the options at `command`; parsing fills `options`, which has to outlive it. What a value may be by itself,
/// and which options need or exclude one another, is refused there.
void add_solve_options(CLI::App& command, SolveOptions& options);

/// Refuses values that are wrong together, or that only the solve knows to be wrong. Opens no file. @throws UsageError
void check(const SolveOptions& options);

/// The solves that are asked for, one after the other: the options themselves, or with --lambda-fractions a copy for each
/// fraction with its own output, Z-0.5.npz beside Z.npz, each but the first starting from the output before it.
std::vector<SolveOptions> solves_of(const SolveOptions& options);

/// The penalty that the options say; reads --weights. @throws IoError, ShapeError
Penalty penalty(const SolveOptions& options);

/// The rule that the lambda options say; reads --lambda-file. @throws IoError, ShapeError
LambdaRule lambda_rule(const SolveOptions& options);

}  // namespace shrinkwarp::cli
