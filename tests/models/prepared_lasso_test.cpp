#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/prepared_lasso.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp {
namespace {

using testing::to_device;
using testing::to_host;

class Prepared : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Prepared);

constexpr std::int64_t kRows = 20;
constexpr std::int64_t kAtoms = 43;

std::vector<double> normal(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 31, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

// What the prepared solver runs when it may choose; on the CPU solve_lasso chooses otherwise.
LassoOptions fista() {
  LassoOptions options;
  options.solver = Solver::fista;
  return options;
}

Dictionary dictionary(const Context& context) {
  const std::vector<double> D = normal(kRows * kAtoms, 0);
  return Dictionary(context, MatrixView<const double>{D.data(), kRows, kAtoms, kRows, {}});
}

/// Observations that differ in size by powers of ten and are the same in float and double.
std::vector<double> observations(std::int64_t count) {
  std::vector<double> X = normal(kRows * count, 1);
  for (std::size_t i = 0; i < X.size(); ++i)
    X[i] = static_cast<float>(X[i] * std::pow(10.0, static_cast<double>(i / kRows % 5) - 2));
  return X;
}

std::vector<double> dense(const SparseCodes& codes) {
  std::vector<double> Z(static_cast<std::size_t>(kAtoms * codes.size()), 0.0);
  for (std::int64_t b = 0; b < codes.size(); ++b)
    for (auto k = codes.offsets[static_cast<std::size_t>(b)]; k < codes.offsets[static_cast<std::size_t>(b) + 1]; ++k)
      Z[static_cast<std::size_t>(b * kAtoms + codes.indices[static_cast<std::size_t>(k)])] =
          codes.values[static_cast<std::size_t>(k)];
  return Z;
}

template <class T>
std::vector<T> values_of(VectorView<const T> view) {
  return {view.data, view.data + view.size};
}

void expect_same(const PreparedResults& results, const LassoBatch& wanted) {
  EXPECT_EQ(values_of(results.lambda), wanted.lambda);
  EXPECT_EQ(values_of(results.objective), wanted.objective);
  EXPECT_EQ(values_of(results.dual_gap), wanted.dual_gap);
  EXPECT_EQ(values_of(results.iterations), wanted.iterations);
  EXPECT_EQ(values_of(results.converged), wanted.converged);
}

// Gaps that float reaches, and one that takes double for every problem; every kind of lambda.
TEST_P(Prepared, GivesTheBitsOfSolveLasso) {
  constexpr std::int64_t kCount = 13;
  const Dictionary D = dictionary(context());
  const std::vector<double> X = observations(kCount);
  const Tensor<double> on_device = to_device(context(), X, kRows, kCount);
  std::vector<double> lambdas = normal(kCount, 2);
  for (double& lambda : lambdas) lambda = 0.1 + std::fabs(lambda);
  for (const double gap : {1e-4, 1e-10}) {
    for (const Solver solver : {Solver::fista, Solver::ista}) {
      LassoOptions options = fista();
      options.gap = gap;
      options.solver = solver;
      options.max_iterations = 300;  // some end there
      PreparedLasso prepared(context(), D, options, kCount + 3);
      for (const LambdaRule& rule :
           {LambdaRule::sample_fraction(0.3), LambdaRule::value(0.05), LambdaRule::per_problem(lambdas)}) {
        SCOPED_TRACE(::testing::Message() << "gap " << gap << ", rule " << static_cast<int>(rule.kind));
        const LassoBatch wanted =
            solve_lasso(context(), D, MatrixView<const double>{X.data(), kRows, kCount, kRows, {}}, rule, options);
        const Tensor<double> Z(context(), kAtoms, kCount);
        expect_same(prepared.solve(on_device.matrix(), rule, Z.matrix()), wanted);
        EXPECT_EQ(to_host(context(), Z), dense(wanted.codes));
      }
    }
  }
}

TEST_P(Prepared, TakesFloatsAndPaddedColumns) {
  constexpr std::int64_t kCount = 7;
  const Dictionary D = dictionary(context());
  const std::vector<double> X = observations(kCount);
  std::vector<float> padded(static_cast<std::size_t>((kRows + 3) * kCount), std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t b = 0; b < kCount; ++b)
    for (std::int64_t i = 0; i < kRows; ++i)
      padded[static_cast<std::size_t>(b * (kRows + 3) + i)] =
          static_cast<float>(X[static_cast<std::size_t>(b * kRows + i)]);
  const Tensor<float> placed = to_device(context(), padded, kRows + 3, kCount);
  const MatrixView<const float> view{placed.data(), kRows, kCount, kRows + 3, context().device()};
  const std::vector<double> mark(static_cast<std::size_t>((kAtoms + 2) * kCount), 7.0);
  const Tensor<double> Z = to_device(context(), mark, kAtoms + 2, kCount);
  PreparedLasso prepared(context(), D, {}, kCount);
  const LassoBatch wanted = solve_lasso(context(), D, MatrixView<const double>{X.data(), kRows, kCount, kRows, {}},
                                        LambdaRule::sample_fraction(0.4), fista());
  expect_same(prepared.solve(view, LambdaRule::sample_fraction(0.4),
                             MatrixView<double>{Z.data(), kAtoms, kCount, kAtoms + 2, context().device()}),
              wanted);
  const std::vector<double> found = to_host(context(), Z);
  const std::vector<double> codes = dense(wanted.codes);
  for (std::int64_t b = 0; b < kCount; ++b) {
    for (std::int64_t i = 0; i < kAtoms + 2; ++i)
      EXPECT_EQ(found[static_cast<std::size_t>(b * (kAtoms + 2) + i)],
                i < kAtoms ? codes[static_cast<std::size_t>(b * kAtoms + i)] : 7.0)
          << i << ", " << b;
  }
}

TEST_P(Prepared, WorksInTheCallersMemory) {
  const Dictionary D = dictionary(context());
  const std::int64_t bytes = PreparedLasso::workspace(context(), D, 10);
  const Tensor<std::byte> memory(context(), bytes + 512);
  const std::vector<double> X = observations(10);
  const Tensor<double> on_device = to_device(context(), X, kRows, 10);
  const Tensor<double> Z(context(), kAtoms, 10);
  PreparedLasso prepared(context(), D, {}, 10, memory.vector().slice(256, bytes));
  const LambdaRule rule = LambdaRule::sample_fraction(0.3);
  expect_same(prepared.solve(on_device.matrix(), rule, Z.matrix()),
              solve_lasso(context(), D, MatrixView<const double>{X.data(), kRows, 10, kRows, {}}, rule, fista()));
  EXPECT_THROW(PreparedLasso(context(), D, {}, 10, memory.vector().slice(0, bytes - 1)), ShapeError);
  EXPECT_THROW(PreparedLasso(context(), D, {}, 10, memory.vector().slice(8, bytes)), ValueError);
  VectorView<std::byte> elsewhere = memory.vector();
  elsewhere.device = {DeviceType::cuda, 17};
  EXPECT_THROW(PreparedLasso(context(), D, {}, 10, elsewhere), DeviceError);
}

// Fewer problems, other lambdas, a call that was cancelled and one that was refused leave nothing behind.
TEST_P(Prepared, CallsDoNotMeet) {
  const Dictionary D = dictionary(context());
  const std::vector<double> X = observations(12);
  const Tensor<double> on_device = to_device(context(), X, kRows, 12);
  const Tensor<double> Z(context(), kAtoms, 12);
  CancelToken cancel;
  std::int64_t reports = 0;
  LassoOptions options = fista();
  options.gap = 1e-9;
  options.max_iterations = 400;
  options.cancel = &cancel;
  options.progress = [&](const Progress& progress) {
    EXPECT_EQ(progress.total, 12);
    if (++reports == 3) cancel.cancel();
  };
  PreparedLasso interrupted(context(), D, options, 12);
  const LambdaRule rule = LambdaRule::sample_fraction(0.1);
  EXPECT_THROW(interrupted.solve(on_device.matrix(), rule, Z.matrix()), Cancelled);
  // A column is 0 or what the problem ends with.
  LassoOptions whole = options;
  whole.cancel = nullptr;
  whole.progress = nullptr;
  const std::vector<double> ends =
      dense(solve_lasso(context(), D, MatrixView<const double>{X.data(), kRows, 12, kRows, {}}, rule, whole).codes);
  for (const std::int64_t reports_before : {3, 9, 13}) {
    SCOPED_TRACE(reports_before);
    CancelToken again;
    LassoOptions later = whole;
    std::int64_t seen = 0;
    later.cancel = &again;
    later.progress = [&](const Progress&) {
      if (++seen == reports_before) again.cancel();
    };
    PreparedLasso cancelled(context(), D, later, 12);
    EXPECT_THROW(cancelled.solve(on_device.matrix(), rule, Z.matrix()), Cancelled);
    const std::vector<double> left = to_host(context(), Z);
    for (std::int64_t b = 0; b < 12; ++b) {
      const auto from = static_cast<std::ptrdiff_t>(b * kAtoms);
      const std::vector<double> column(left.begin() + from, left.begin() + from + kAtoms);
      if (std::all_of(column.begin(), column.end(), [](double value) { return value == 0; })) continue;
      EXPECT_EQ(column, std::vector<double>(ends.begin() + from, ends.begin() + from + kAtoms)) << b;
    }
  }

  options.cancel = nullptr;
  options.progress = nullptr;
  PreparedLasso prepared(context(), D, options, 12);
  std::vector<double> bad = X;
  bad[static_cast<std::size_t>(4 * kRows + 2)] = std::numeric_limits<double>::quiet_NaN();
  const Tensor<double> bad_on_device = to_device(context(), bad, kRows, 12);
  try {
    prepared.solve(bad_on_device.matrix(), rule, Z.matrix());
    FAIL() << "NaN was taken";
  } catch (const ValueError& error) {
    EXPECT_NE(std::string(error.what()).find("entry 2 of observation 4"), std::string::npos) << error.what();
  }
  for (const std::int64_t count : {12, 1, 0, 7, 12}) {
    SCOPED_TRACE(count);
    const LassoBatch wanted =
        solve_lasso(context(), D, MatrixView<const double>{X.data(), kRows, count, kRows, {}}, rule, options);
    expect_same(prepared.solve(on_device.matrix().columns(0, count), rule, Z.matrix().columns(0, count)), wanted);
  }
}

TEST_P(Prepared, NamesWhatItRefuses) {
  const Context& c = context();
  const Dictionary D = dictionary(c);
  const Tensor<double> X = Tensor<double>::zeros(c, kRows, 5);
  const Tensor<double> Z(c, kAtoms, 5);
  const LambdaRule rule = LambdaRule::value(1);
  EXPECT_THROW(PreparedLasso::workspace(c, D, 0), ValueError);
  EXPECT_THROW(PreparedLasso(c, D, {}, 0), ValueError);
  LassoOptions options = fista();
  options.gap = 0;
  EXPECT_THROW(PreparedLasso(c, D, options, 5), ValueError);
  SparseCodes initial;
  options = {};
  options.solver = Solver::working_set;
  EXPECT_THROW(PreparedLasso(c, D, options, 5), ValueError);
  options = {};
  options.initial = &initial;
  EXPECT_THROW(PreparedLasso(c, D, options, 5), ValueError);
  PreparedLasso prepared(c, D, {}, 4);
  EXPECT_EQ(prepared.problems(), 4);
  EXPECT_THROW(prepared.solve(X.matrix(), rule, Z.matrix()), ShapeError);
  const MatrixView<double> X4 = X.matrix().columns(0, 4);
  const MatrixView<double> Z4 = Z.matrix().columns(0, 4);
  EXPECT_THROW(prepared.solve(X4, rule, Z.matrix()), ShapeError);
  EXPECT_THROW(prepared.solve(Z4, rule, Z4), ShapeError);
  EXPECT_THROW(prepared.solve(X4, LambdaRule::value(0), Z4), ValueError);
  EXPECT_THROW(prepared.solve(X4, LambdaRule::per_problem({1, 2, 3}), Z4), ShapeError);
  EXPECT_THROW(prepared.solve(X4, LambdaRule::recording_fraction(0.5), Z4), ValueError);
  EXPECT_THROW(prepared.solve(X4, LambdaRule::l1_radius(0.5), Z4), ValueError);
  MatrixView<double> elsewhere = Z4;
  elsewhere.device = {DeviceType::cuda, 17};
  EXPECT_THROW(prepared.solve(X4, rule, elsewhere), DeviceError);
  const PreparedResults& results = prepared.solve(X4, rule, Z4);  // zeros have the solution 0
  EXPECT_EQ(values_of(results.dual_gap), std::vector<double>(4, 0.0));
  EXPECT_EQ(results.unconverged, 0);
  if (c.is_cuda()) {
    const Context host = Context::cpu(1);
    EXPECT_THROW(PreparedLasso(host, D, {}, 4), DeviceError);
  }
}

TEST_P(Prepared, RefusesCodesBeyondFloat64) {
  std::vector<double> D = normal(kRows * kAtoms, 0);
  for (double& value : D) value *= 1e-305;
  const Dictionary tiny(context(), MatrixView<const double>{D.data(), kRows, kAtoms, kRows, {}});
  std::vector<double> X = observations(2);
  for (double& value : X) value *= 1e8;
  const Tensor<double> on_device = to_device(context(), X, kRows, 2);
  const Tensor<double> Z(context(), kAtoms, 2);
  PreparedLasso prepared(context(), tiny, {}, 2);
  EXPECT_THROW(prepared.solve(on_device.matrix(), LambdaRule::sample_fraction(0.3), Z.matrix()), ValueError);
}

// A context a thread, one dictionary for all: what a host program with several streams does.
TEST_P(Prepared, ThreadsShareADictionary) {
  constexpr std::int64_t kCount = 3;
  constexpr int kThreads = 3;
  const Dictionary D = dictionary(context());
  const std::vector<double> X = observations(kCount);
  LassoOptions options = fista();
  options.gap = 1e-9;
  options.max_iterations = 400;
  const LambdaRule rule = LambdaRule::sample_fraction(0.2);
  std::vector<std::vector<double>> found(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const Context own = context().is_cuda() ? Context::cuda(context().device().index) : Context::cpu(2);
      const Tensor<double> placed = to_device(own, X, kRows, kCount);
      const Tensor<double> Z(own, kAtoms, kCount);
      PreparedLasso prepared(own, D, options, kCount);
      prepared.solve(placed.matrix(), rule, Z.matrix());
      found[static_cast<std::size_t>(i)] = to_host(own, Z);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<double> wanted = dense(
      solve_lasso(context(), D, MatrixView<const double>{X.data(), kRows, kCount, kRows, {}}, rule, options).codes);
  for (const std::vector<double>& codes : found) EXPECT_EQ(codes, wanted);
}

}  // namespace
}  // namespace shrinkwarp
