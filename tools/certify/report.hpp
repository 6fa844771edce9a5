// A file of codes against its dictionary and observations: certificates of all rows, and what the file claims about them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/tools/certify/certifier.hpp>

namespace shrinkwarp::certify {

/// Which lambda each problem is certified at.
struct LambdaChoice {
  enum class Kind {
    of_codes_file,       ///< the array `lambda` beside the codes
    value,               ///< `number` for all
    sample_fraction,     ///< `number` times each observation's lambda_max, rounded to float64
    recording_fraction,  ///< `number` times the largest lambda_max of all
    per_problem          ///< the numbers in the file `path`, (N,)
  };
  Kind kind = Kind::of_codes_file;
  double number = 0;
  std::string path;
};

struct Request {
  std::string codes;         ///< see CodesFile
  std::string dictionary;    ///< D.npy (n, m), f4 or f8
  std::string observations;  ///< X.npy (N, n), f4 or f8
  LambdaChoice lambda;
  std::string weights;  ///< W.npy (m / group_size,), or empty for 1
  std::int64_t group_size = 1;
  bool nonnegative = false;   ///< codes are to be >= 0
  double ridge = 0;           ///< mu of an elastic net
  double radius = -1;         ///< C of codes in a radius, or negative
  double gap = 1e-6;          ///< relative
  std::string output;         ///< an .npz with the numbers of each problem; empty: none
  ProgressCallback progress;  ///< after each chunk of rows; may be empty
};

/// What was found of one problem.
struct Row {
  std::int64_t problem = -1;
  double lambda = 0;
  Certificate certificate;
  std::int64_t nonzeros = 0;
  double correlation_excess = 0;
  double kkt_violation = 0;
  std::int64_t sign_errors = 0;
};

/// What became of the numbers of one kind that the file of codes states.
struct ClaimCheck {
  bool stated = false;
  std::int64_t contradicted = 0;  ///< problems whose number is not what was found
  std::int64_t first = -1;        ///< the first of them
  double worst = 0;               ///< the largest difference: of lambdas relative, else in units of 1/2 ||x||^2
};

struct Report {
  static constexpr std::size_t kWorstRows = 5;

  std::int64_t problems = 0, rows = 0, atoms = 0;  // N, n, m
  std::int64_t missed = 0;                         // relative gap > Request::gap
  // Relative gaps: the largest, and the smallest that is not under 50, 90 and 99 percent of them.
  double worst_gap = 0, median_gap = 0, gap_90 = 0, gap_99 = 0;
  double worst_rounding = 0;  // largest rounding bound, relative
  long double objective = 0;  // sum over all problems
  std::int64_t nonzeros = 0, largest_support = 0;
  double worst_excess = 0, worst_kkt = 0;
  std::int64_t sign_errors = 0;
  // What the file states. Objective and gap are held against what is found at the lambda stated with them, and may differ
  // by the rounding bound and by what any evaluation of the same formulas in float64 may lose.
  ClaimCheck lambda_claim;     // another lambda than asked for, by more than 1e-9 of it
  ClaimCheck objective_claim;  // another objective
  ClaimCheck gap_claim;        // a smaller gap; one from a better dual point than the residual's need not be wrong
  ClaimCheck converged_claim;  // said to have converged, but missed Request::gap
  std::vector<Row> worst;      // the kWorstRows problems of the largest relative gaps, largest first
};

/// Certifies a file. Where lambda is 0 every atom counts as one of weight 0, if they are independent; else the gap of such a
/// problem is its objective. Streams: memory for D, 24 bytes a problem, 8 for each claim, and blocks of rows.
///
/// @param context  of the CPU
/// @throws IoError, ShapeError, ValueError, naming the file with what was found and what was wanted
Report certify_codes(const Context& context, const Request& request);

}  // namespace shrinkwarp::certify
