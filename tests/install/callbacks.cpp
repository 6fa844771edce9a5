// A stream of observations that are made as they are asked for, results that are taken as they finish, progress, and a stop
// in the middle.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "expect.hpp"

// Any number of observations; memory does not grow with it.
class Sensors : public shrinkwarp::ObservationSource {
 public:
  Sensors(std::int64_t dimension, std::int64_t size) : dimension_(dimension), size_(size) {}
  std::int64_t size() const override { return size_; }
  std::int64_t dimension() const override { return dimension_; }
  std::string name() const override { return "sensors"; }
  void read(std::int64_t first, shrinkwarp::MatrixView<double> X) override {
    for (std::int64_t i = 0; i < X.cols; ++i)
      for (std::int64_t j = 0; j < X.rows; ++j) X(j, i) = std::sin(0.7 * static_cast<double>(first + i) + 1.3 * j);
  }

 private:
  std::int64_t dimension_;
  std::int64_t size_;
};

// Takes results as they come.
class Totals : public shrinkwarp::CodeSink {
 public:
  void append(const shrinkwarp::LassoBatch& batch) override {
    problems += batch.size();
    nonzeros += static_cast<std::int64_t>(batch.codes.values.size());
    for (const double gap : batch.dual_gap) largest_gap = std::max(largest_gap, gap);
  }
  std::int64_t problems = 0;
  std::int64_t nonzeros = 0;
  double largest_gap = 0;
};

int main() {
  const shrinkwarp::Context context = shrinkwarp::Context::best();
  const std::int64_t n = 4, m = 6, N = 5000;
  std::vector<double> D(static_cast<std::size_t>(n * m));
  for (std::size_t k = 0; k < D.size(); ++k) D[k] = std::cos(1.1 * static_cast<double>(k) * static_cast<double>(k));
  const shrinkwarp::Dictionary dictionary(context, {D.data(), n, m, n, {}});
  const auto rule = shrinkwarp::LambdaRule::sample_fraction(0.5);

  Sensors sensors(n, N);
  Totals totals;
  shrinkwarp::LassoOptions options;
  std::int64_t reported = 0;
  options.progress = [&](const shrinkwarp::Progress& progress) {
    reported = progress.done;  // called on this thread, between blocks of iterations
  };
  const shrinkwarp::LassoSummary summary = shrinkwarp::solve_lasso(context, dictionary, sensors, rule, options, totals);
  std::printf("%lld problems, %lld nonzeros\n", static_cast<long long>(summary.problems),
              static_cast<long long>(summary.nonzeros));

  expect(summary.problems == N && totals.problems == N, "every problem arrives");
  expect(summary.nonzeros == totals.nonzeros, "so does every nonzero");
  expect(summary.unconverged == 0, "every problem reaches its gap");
  // A relative gap of 1e-6 of 1/2 ||x||^2 <= 1/2 n.
  expect(totals.largest_gap <= 1e-6 * n / 2, "no gap is larger than what was asked for");
  expect(reported == N, "the last report tells of every problem");

  // A callback, a signal handler or another thread may ask a solve to stop.
  shrinkwarp::CancelToken cancel;
  options.cancel = &cancel;
  options.progress = [&](const shrinkwarp::Progress& progress) {
    if (progress.done > 0) cancel.cancel();
  };
  Totals first;
  try {
    shrinkwarp::solve_lasso(context, dictionary, sensors, rule, options, first);
    expect(false, "a solve that is asked to stop throws Cancelled");
  } catch (const shrinkwarp::Cancelled& cancelled) {
    std::printf("%s; %lld problems have arrived\n", cancelled.what(), static_cast<long long>(first.problems));
  }
  expect(first.problems > 0 && first.problems < N, "what had finished was delivered");

  // Errors have types and one line of text each.
  try {
    shrinkwarp::solve_lasso(context, dictionary, sensors, shrinkwarp::LambdaRule::value(-1), {}, totals);
    expect(false, "a negative lambda throws ValueError");
  } catch (const shrinkwarp::ValueError& error) {
    std::printf("refused: %s\n", error.what());
  }
}
