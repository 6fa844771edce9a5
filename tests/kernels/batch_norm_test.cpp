// Batch normalisation against plain sums in double, running statistics by hand, gradients against central differences.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/batch_norm/batch_norm.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_cases.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::central_difference;
using testing::expect_same;
using testing::expect_within;
using testing::GuardedHost;
using testing::kEpsilon;
using testing::normal_matrix;
using testing::Placed;
using testing::to_host;

class BatchNorm : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(BatchNorm);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kEps = 0.125;

template <class T>
struct Norm {
  const Context& context;
  std::int64_t channels, positions, N, skip;
  double count;
  GuardedHost<T> X, weight, bias, dY;
  Placed<T> x, w, b, dy, y, statistics, dx, dw, db;
  Placed<double> sums, gradient_sums;
  Tensor<std::byte> scratch;
  std::vector<double> mean, rstd, variance;  // of the reference

  Norm(const Context& c, std::int64_t channels_, std::int64_t positions_, std::int64_t samples,
       std::int64_t skipped = 0, std::int64_t padding = 3, double middle = 0)
      : context(c),
        channels(channels_),
        positions(positions_),
        N(samples),
        skip(skipped),
        count(static_cast<double>(positions * N)),
        X(normal_matrix<T>(channels * positions + skip, N, 1, padding)),
        weight(normal_matrix<T>(channels, 1, 2, 0)),
        bias(normal_matrix<T>(channels, 1, 3, 0)),
        dY(normal_matrix<T>(channels * positions + skip, N, 4, padding)),
        x(c, shifted(middle), skip),
        w(c, weight),
        b(c, bias),
        dy(c, dY, skip),
        y(c, GuardedHost<T>(channels * positions + skip, N, padding), skip),
        statistics(c, GuardedHost<T>(3, channels)),
        dx(c, normal_matrix<T>(channels * positions + skip, N, 5, padding), skip),
        dw(c, normal_matrix<T>(channels, 1, 6, 0)),
        db(c, normal_matrix<T>(channels, 1, 7, 0)),
        sums(c, GuardedHost<double>(2 * channels, 1)),
        gradient_sums(c, GuardedHost<double>(2 * channels, 1)),
        scratch(c, batch_norm_scratch(c, channels, positions, N)) {
    prepare();
  }
  const GuardedHost<T>& shifted(double middle) {
    for (std::int64_t j = 0; j < N; ++j)
      for (std::int64_t i = 0; i < X.rows; ++i) X(i, j) += static_cast<T>(middle);
    return X;
  }
  double at(const GuardedHost<T>& host, std::int64_t i, std::int64_t j) const {
    return static_cast<double>(host(i + skip, j));
  }
  /// visit(row, column) for the elements of a channel.
  template <class Visit>
  void each(std::int64_t c, const Visit& visit) const {
    for (std::int64_t j = 0; j < N; ++j)
      for (std::int64_t i = c * positions; i < (c + 1) * positions; ++i) visit(i, j);
  }
  void prepare() {
    mean.clear(), rstd.clear(), variance.clear();
    for (std::int64_t c = 0; c < channels; ++c) {
      double sum = 0, square = 0;
      each(c, [&](std::int64_t i, std::int64_t j) { sum += at(X, i, j) / count; });
      each(c, [&](std::int64_t i, std::int64_t j) { square += (at(X, i, j) - sum) * (at(X, i, j) - sum); });
      mean.push_back(sum);
      rstd.push_back(1 / std::sqrt(square / count + kEps));
      variance.push_back(square / (count - 1));
    }
  }
  std::size_t channel(std::int64_t row) const { return static_cast<std::size_t>(row / positions); }
  double xhat(std::int64_t i, std::int64_t j) const { return (at(X, i, j) - mean[channel(i)]) * rstd[channel(i)]; }
  double output(std::int64_t i, std::int64_t j) const {
    return xhat(i, j) * static_cast<double>(weight(i / positions)) + static_cast<double>(bias(i / positions));
  }
  double reach(std::int64_t i, std::int64_t j) const {  // of xhat before the mean is taken away
    return (std::fabs(at(X, i, j)) + std::fabs(mean[channel(i)]) + 1) * rstd[channel(i)];
  }

  void find_statistics() const {
    batch_norm_statistics<T>(context, positions, x.matrix(), kEps, statistics.matrix(), scratch.vector());
  }
  /// The same, and backward(), by way of sums. @param shift  [channels]
  void find_statistics_by_sums(VectorView<const T> shift) const {
    batch_norm_sums<T>(context, positions, x.matrix(), shift, sums.vector(), scratch.vector());
    batch_norm_set_statistics<T>(context, shift, sums.vector(), positions * N, kEps, statistics.matrix());
  }
  void backward_by_sums(bool through, T beta) const {
    batch_norm_gradient_sums<T>(context, positions, statistics.matrix(), x.matrix(), dy.matrix(),
                                gradient_sums.vector(), dw.vector(), db.vector(), scratch.vector());
    batch_norm_input_gradient<T>(context, positions, statistics.matrix(), w.vector(), x.matrix(), dy.matrix(),
                                 through ? gradient_sums.vector() : VectorView<double>{}, beta, dx.matrix());
  }
  /// The first element of each channel.
  Tensor<T> first_elements() const {
    std::vector<T> values;
    for (std::int64_t c = 0; c < channels; ++c) values.push_back(X(c * positions + skip, 0));
    return testing::to_device(context, values, channels);
  }
  void forward(bool relu = false) const {
    batch_norm_forward<T>(context, positions, statistics.matrix(), w.vector(), b.vector(), relu, x.matrix(),
                          y.matrix());
  }
  void backward(bool through, T beta) const {
    batch_norm_backward<T>(context, positions, statistics.matrix(), w.vector(), x.matrix(), dy.matrix(), through, beta,
                           dx.matrix(), dw.vector(), db.vector(), scratch.vector());
  }

  void check(bool relu, bool through, T beta) {
    find_statistics();
    // Each is rounded once; sums in double are within a unit for each of their terms, here and there.
    const double sums = 2 * kEpsilon<double> * count;
    expect_within(
        context, "statistics", statistics,
        [&](std::int64_t k, std::int64_t c) {
          return (k == 0 ? mean : k == 1 ? rstd : variance)[static_cast<std::size_t>(c)];
        },
        [&](std::int64_t k, std::int64_t c) {
          const auto at_c = static_cast<std::size_t>(c);
          return (kEpsilon<T> + sums) * (k == 0 ? std::fabs(mean[at_c]) + 4 : k == 1 ? rstd[at_c] : variance[at_c]);
        });
    forward(relu);
    expect_within(
        context, "Y", y,
        [&](std::int64_t i, std::int64_t j) { return relu ? std::fmax(output(i, j), 0) : output(i, j); },
        [&](std::int64_t i, std::int64_t j) {
          return (4 * kEpsilon<T> + sums) * (reach(i, j) * std::fabs(static_cast<double>(weight(i / positions))) + 4);
        });

    backward(through, beta);
    std::vector<double> S, P, most_S, most_P;
    for (std::int64_t c = 0; c < channels; ++c) {
      double s = 0, p = 0, magnitude_s = 0, magnitude_p = 0;
      each(c, [&](std::int64_t i, std::int64_t j) {
        s += at(dY, i, j);
        p += at(dY, i, j) * xhat(i, j);
        magnitude_s += std::fabs(at(dY, i, j));
        magnitude_p += std::fabs(at(dY, i, j)) * reach(i, j);
      });
      S.push_back(s), P.push_back(p), most_S.push_back(magnitude_s), most_P.push_back(magnitude_p);
    }
    expect_within(
        context, "dX", dx,
        [&](std::int64_t i, std::int64_t j) {
          const std::size_t c = channel(i);
          const double through_sums = through ? (S[c] + xhat(i, j) * P[c]) / count : 0;
          return (beta == T(0) ? 0 : static_cast<double>(beta) * at(dx.before, i, j)) +
                 static_cast<double>(weight(i / positions)) * rstd[c] * (at(dY, i, j) - through_sums);
        },
        [&](std::int64_t i, std::int64_t j) {
          const std::size_t c = channel(i);
          return (8 * kEpsilon<T> + sums) *
                 (std::fabs(beta == T(0) ? 0 : at(dx.before, i, j)) +
                  std::fabs(static_cast<double>(weight(i / positions))) * rstd[c] *
                      (std::fabs(at(dY, i, j)) + (most_S[c] + (1 + reach(i, j)) * most_P[c]) / count));
        });
    const auto total = [&](const char* what, const Placed<T>& placed, const std::vector<double>& sum,
                           const std::vector<double>& most) {
      expect_within(
          context, what, placed,
          [&](std::int64_t c, std::int64_t) {
            return static_cast<double>(placed.before(c)) + sum[static_cast<std::size_t>(c)];
          },
          [&](std::int64_t c, std::int64_t) {
            return (4 * kEpsilon<T> + sums) *
                   (std::fabs(static_cast<double>(placed.before(c))) + most[static_cast<std::size_t>(c)]);
          });
    };
    total("dweight", dw, P, most_P);
    total("dbias", db, S, most_S);
  }
};

TEST_P(BatchNorm, ByHand) {
  // One channel of two positions, two samples: 0 4 4 8, mean 4, biased variance 8, unbiased 32/3.
  const Context& c = context();
  const auto X = testing::to_device<double>(c, {0, 4, 4, 8}, 2, 2), w = testing::to_device<double>(c, {-3}, 1),
             b = testing::to_device<double>(c, {1}, 1), mean = testing::to_device<double>(c, {8}, 1),
             var = testing::to_device<double>(c, {0}, 1);
  const Tensor<double> statistics(c, 3, 1), Y(c, 2, 2);
  const Tensor<std::byte> scratch(c, batch_norm_scratch(c, 1, 2, 2));
  batch_norm_statistics<double>(c, 2, X.matrix(), 8, statistics.matrix(), scratch.vector());
  EXPECT_EQ(testing::to_host(c, statistics), (std::vector<double>{4, 0.25, 32.0 / 3}));
  // The same from the sums of x - 2 and its square; then what -1 2 0 1 is by X.
  const auto two = testing::to_device<double>(c, {2}, 1), dY = testing::to_device<double>(c, {-1, 2, 0, 1}, 2, 2),
             dw = testing::to_device<double>(c, {10}, 1), db = testing::to_device<double>(c, {20}, 1);
  const Tensor<double> sums(c, 2), again(c, 3, 1), dX(c, 2, 2);
  batch_norm_sums<double>(c, 2, X.matrix(), two.vector(), sums.vector(), scratch.vector());
  EXPECT_EQ(testing::to_host(c, sums), (std::vector<double>{8, 48}));
  batch_norm_set_statistics<double>(c, two.vector(), sums.vector(), 4, 8, again.matrix());
  EXPECT_EQ(testing::to_host(c, again), testing::to_host(c, statistics));
  batch_norm_gradient_sums<double>(c, 2, again.matrix(), X.matrix(), dY.matrix(), sums.vector(), dw.vector(),
                                   db.vector(), scratch.vector());
  EXPECT_EQ(testing::to_host(c, sums), (std::vector<double>{2, 2}));  // xhat is -1 0 0 1
  EXPECT_EQ(testing::to_host(c, dw), (std::vector<double>{12}));
  EXPECT_EQ(testing::to_host(c, db), (std::vector<double>{22}));
  batch_norm_input_gradient<double>(c, 2, again.matrix(), {}, X.matrix(), dY.matrix(), sums.vector(), 0.0, dX.matrix());
  EXPECT_EQ(testing::to_host(c, dX), (std::vector<double>{-0.25, 0.375, -0.125, 0}));
  batch_norm_forward<double>(c, 2, statistics.matrix(), w.vector(), b.vector(), false, X.matrix(), Y.matrix());
  EXPECT_EQ(testing::to_host(c, Y), (std::vector<double>{4, 1, 1, -2}));
  batch_norm_forward<double>(c, 2, statistics.matrix(), {}, {}, true, X.matrix(), Y.matrix());
  EXPECT_EQ(testing::to_host(c, Y), (std::vector<double>{0, 0, 0, 1}));
  batch_norm_update_running<double>(c, statistics.matrix(), 0.25, mean.vector(), var.vector());
  EXPECT_EQ(testing::to_host(c, mean), (std::vector<double>{7}));
  EXPECT_DOUBLE_EQ(testing::to_host(c, var)[0], 8.0 / 3);
  const auto nine = testing::to_device<double>(c, {9}, 1);
  batch_norm_running<double>(c, mean.vector(), nine.vector(), 7, statistics.matrix());
  EXPECT_EQ(testing::to_host(c, statistics), (std::vector<double>{7, 0.25, 9}));
}

TEST_P(BatchNorm, AgreesWithSumsInDouble) {
  Norm<float>(context(), 5, 1, 9).check(false, true, 0.0f);
  Norm<float>(context(), 140, 1, 5).check(true, true, 1.0f);  // more channels than stand side by side
  Norm<float>(context(), 3, 7, 6).check(true, true, 0.0f);
  Norm<float>(context(), 2, 130, 11, 1, 3).check(false, false, 1.0f);    // 16 bytes at once
  Norm<float>(context(), 4, 3, 5, 0, 3, 4096).check(false, true, 0.0f);  // a large mean
  Norm<double>(context(), 3, 1, testing::kThreadSanitizer ? 70 : 300, 1, 0).check(false, true, 1.0);
  Norm<double>(context(), 2, 600, testing::kThreadSanitizer ? 2 : 17).check(true, true, 0.0);
  Norm<float>(context(), 0, 2, 3).check(true, true, 0.0f);
}

/// What is made by way of sums has the bits of what is made at once, and the sums are those of plain loops.
template <class T>
void check_by_sums(const Context& context, std::int64_t channels, std::int64_t positions, std::int64_t N,
                   std::int64_t skip = 0, double middle = 0) {
  const auto make = [&] { return Norm<T>(context, channels, positions, N, skip, 3, middle); };
  const Norm<T> once = make(), halves = make();
  once.find_statistics();
  halves.find_statistics_by_sums(halves.first_elements().vector());
  expect_same(context, once.statistics, context, halves.statistics);
  for (const bool through : {true, false}) {
    once.backward(through, T(1));
    halves.backward_by_sums(through, T(1));
    expect_same(context, once.dx, context, halves.dx);
    expect_same(context, once.dw, context, halves.dw);
    expect_same(context, once.db, context, halves.db);
  }
  const auto shift = static_cast<T>(0.25);
  halves.find_statistics_by_sums(testing::to_device(context, std::vector<T>(channels, shift), channels).vector());
  const auto check = [&](const char* what, const Placed<double>& sums, auto term, auto slack) {
    std::vector<double> wanted, most;  // the largest error, but for the unit of double
    for (std::int64_t q = 0; q < 2; ++q) {
      for (std::int64_t c = 0; c < channels; ++c) {
        double sum = 0, bound = 0;
        halves.each(c, [&](std::int64_t i, std::int64_t j) {
          sum += term(q, i, j);
          bound += halves.count * std::fabs(term(q, i, j)) + slack(q, i, j);
        });
        wanted.push_back(sum), most.push_back(bound);
      }
    }
    expect_within(
        context, what, sums, [&](std::int64_t i, std::int64_t) { return wanted[static_cast<std::size_t>(i)]; },
        [&](std::int64_t i, std::int64_t) { return 2 * kEpsilon<double> * most[static_cast<std::size_t>(i)]; });
  };
  check(
      "sums", halves.sums,
      [&](std::int64_t q, std::int64_t i, std::int64_t j) {
        const double d = halves.at(halves.X, i, j) - static_cast<double>(shift);
        return q == 0 ? d : d * d;
      },
      [](std::int64_t, std::int64_t, std::int64_t) { return 0; });
  check(
      "gradient sums", halves.gradient_sums,
      [&](std::int64_t q, std::int64_t i, std::int64_t j) {
        return halves.at(halves.dY, i, j) * (q == 0 ? 1 : halves.xhat(i, j));
      },
      [&](std::int64_t q, std::int64_t i, std::int64_t j) {  // xhat is rounded a few times in T
        return q == 0 ? 0
                      : 4 * kEpsilon<T> / kEpsilon<double> * std::fabs(halves.at(halves.dY, i, j)) * halves.reach(i, j);
      });
}

TEST_P(BatchNorm, IsTheSameByWayOfSums) {
  check_by_sums<float>(context(), 5, 1, 9);
  check_by_sums<float>(context(), 140, 1, 5);
  check_by_sums<float>(context(), 2, 130, 11, 1);
  check_by_sums<float>(context(), 4, 3, 5, 0, 4096);
  check_by_sums<double>(context(), 3, 1, testing::kThreadSanitizer ? 70 : 300, 1);
  check_by_sums<double>(context(), 2, 600, testing::kThreadSanitizer ? 2 : 17);
  check_by_sums<float>(context(), 0, 2, 3);
}

/// Sums over parts of a batch, one with a single element of a channel, give what the whole batch gives.
TEST_P(BatchNorm, SumsOfPartsAreThoseOfTheBatch) {
  const Context& c = context();
  constexpr std::int64_t kParts[] = {1, 0, 4, 2}, kAll = 7, kChannels = 3;
  for (const std::int64_t positions : {1, 5}) {
    const Norm<double> whole(c, kChannels, positions, kAll);
    whole.find_statistics();
    whole.backward(true, 0.0);
    const Norm<double> norm(c, kChannels, positions, kAll);
    const Tensor<double> shift = norm.first_elements(), part_sums(c, 2 * kChannels);
    const auto add_parts = [&](auto part_of, const Placed<double>& all) {
      std::vector<double> sums(2 * kChannels);
      std::int64_t first = 0;
      for (const std::int64_t count : kParts) {
        const double weight = part_of(first, count);
        const std::vector<double> its = testing::to_host(c, part_sums);
        for (std::size_t i = 0; i < sums.size(); ++i) {
          sums[i] += weight * its[i];
          EXPECT_TRUE(count > 0 || its[i] == 0);
        }
        first += count;
      }
      copy<double>(c, VectorView<const double>{sums.data(), 2 * kChannels, {}}, all.vector());
      c.synchronize();
    };
    add_parts(
        [&](std::int64_t first, std::int64_t count) {
          batch_norm_sums<double>(c, positions, norm.x.matrix().columns(first, count), shift.vector(),
                                  part_sums.vector(), norm.scratch.vector());
          return 1.0;
        },
        norm.sums);
    batch_norm_set_statistics<double>(c, shift.vector(), norm.sums.vector(), positions * kAll, kEps,
                                      norm.statistics.matrix());
    // What is summed, a part's dY, is of a mean over its samples: that of the batch's mean times kAll / count.
    const auto scaled = [&](std::int64_t first, std::int64_t count) {
      std::vector<double> values;
      for (std::int64_t j = first; j < first + count; ++j)
        for (std::int64_t i = 0; i < norm.dY.rows; ++i)
          values.push_back(norm.dY(i, j) * kAll / static_cast<double>(count));
      return testing::to_device(c, values, norm.dY.rows, count);
    };
    add_parts(
        [&](std::int64_t first, std::int64_t count) {
          batch_norm_gradient_sums<double>(c, positions, norm.statistics.matrix(),
                                           norm.x.matrix().columns(first, count), scaled(first, count).matrix(),
                                           part_sums.vector(), {}, {}, norm.scratch.vector());
          return static_cast<double>(count) / kAll;
        },
        norm.gradient_sums);
    std::int64_t first = 0;
    for (const std::int64_t count : kParts) {
      batch_norm_input_gradient<double>(c, positions, norm.statistics.matrix(), norm.w.vector(),
                                        norm.x.matrix().columns(first, count), scaled(first, count).matrix(),
                                        norm.gradient_sums.vector(), 0.0, norm.dx.matrix().columns(first, count));
      first += count;
    }
    // Sums of at most 35 terms of some units in another order.
    const auto near = [&](const char* what, const Placed<double>& found, const Placed<double>& wanted, auto factor) {
      const GuardedHost<double> its = to_host(c, wanted.memory);
      expect_within(
          c, what, found, [&](std::int64_t i, std::int64_t j) { return factor(j) * its(i, j); },
          [&](std::int64_t, std::int64_t j) { return factor(j) * 1e-13; });
    };
    near("statistics", norm.statistics, whole.statistics, [](std::int64_t) { return 1.0; });
    near("dX", norm.dx, whole.dx, [&](std::int64_t j) {
      std::int64_t end = 0;
      for (const std::int64_t count : kParts)
        if (j < (end += count)) return kAll / static_cast<double>(count);
      return 0.0;
    });
  }
}

TEST_P(BatchNorm, KeepsNaNInItsChannelAndWorksInPlace) {
  for (const std::int64_t positions : {1, 5}) {
    Norm<float> norm(context(), 3, positions, 4);
    norm.X(positions * 2 - 1, 2) = static_cast<float>(kNaN);
    norm.x = Placed<float>(context(), norm.X);
    norm.find_statistics();
    norm.forward(true);
    norm.backward(true, 0.0f);
    const GuardedHost<float> Y = to_host(context(), norm.y.memory), dX = to_host(context(), norm.dx.memory);
    batch_norm_backward<float>(context(), positions, norm.statistics.matrix(), norm.w.vector(), norm.x.matrix(),
                               norm.dy.matrix(), true, 0.0f, norm.dy.matrix(), {}, {}, norm.scratch.vector());
    batch_norm_forward<float>(context(), positions, norm.statistics.matrix(), norm.w.vector(), norm.b.vector(), true,
                              norm.x.matrix(), norm.x.matrix());
    const GuardedHost<float> over_X = to_host(context(), norm.x.memory), over_dY = to_host(context(), norm.dy.memory);
    for (std::int64_t j = 0; j < 4; ++j) {
      for (std::int64_t i = 0; i < Y.rows; ++i) {
        const bool spoilt = norm.channel(i) == 1;
        EXPECT_EQ(std::isnan(Y(i, j)), spoilt) << i << " " << j;
        EXPECT_EQ(std::isnan(dX(i, j)), spoilt) << i << " " << j;
        EXPECT_TRUE(spoilt || (Y(i, j) == over_X(i, j) && dX(i, j) == over_dY(i, j))) << i << " " << j;
      }
    }
  }
}

TEST_P(BatchNorm, BitsDoNotDependOnThreads) {
  const Context alone = Context::cpu(1);
  const Context& other = context().is_cuda() ? context() : alone;
  for (const std::int64_t positions : {1, 9}) {
    const std::int64_t N = testing::kThreadSanitizer ? 70 : 600;
    Norm<float> a(context(), 7, positions, N), b(other, 7, positions, N);
    for (const Norm<float>* norm : {&a, &b}) {
      norm->find_statistics_by_sums(norm->w.vector());
      norm->backward_by_sums(true, 1.0f);
    }
    expect_same(context(), a.sums, other, b.sums);
    expect_same(context(), a.gradient_sums, other, b.gradient_sums);
    expect_same(context(), a.dx, other, b.dx);
    for (const Norm<float>* norm : {&a, &b}) {
      norm->find_statistics();
      norm->forward();
      norm->backward(true, 1.0f);
    }
    expect_same(context(), a.statistics, other, b.statistics);
    expect_same(context(), a.y, other, b.y);
    expect_same(context(), a.dx, other, b.dx);
    expect_same(context(), a.dw, other, b.dw);
    expect_same(context(), a.db, other, b.db);
  }
}

TEST_P(BatchNorm, GradientsAreThoseOfCentralDifferences) {
  for (const bool through : {true, false}) {
    Norm<double> norm(context(), 2, 2, 3);
    norm.find_statistics();
    norm.backward(through, 0.0);
    const auto cost = [&] {  // <dY, Y>
      if (through) norm.prepare();
      double sum = 0;
      for (std::int64_t j = 0; j < norm.N; ++j)
        for (std::int64_t i = 0; i < norm.X.rows; ++i) sum += norm.dY(i, j) * norm.output(i, j);
      return sum;
    };
    // Within h^2 of the derivative, some 1e-9 here, and eps / h of rounding.
    const auto bound = [](std::int64_t, std::int64_t) { return 1e-8; };
    expect_within(
        context(), "dX", norm.dx,
        [&](std::int64_t i, std::int64_t j) { return central_difference(norm.X(i, j), cost); }, bound);
    expect_within(
        context(), "dweight", norm.dw,
        [&](std::int64_t c, std::int64_t) { return norm.dw.before(c) + central_difference(norm.weight(c), cost); },
        bound);
    expect_within(
        context(), "dbias", norm.db,
        [&](std::int64_t c, std::int64_t) { return norm.db.before(c) + central_difference(norm.bias(c), cost); },
        bound);
  }
}

TEST_P(BatchNorm, NamesWhatIsWrong) {
  const Context& c = context();
  Norm<float> l(c, 3, 2, 4);
  const MatrixView<float> X = l.x.matrix(), Y = l.y.matrix(), S = l.statistics.matrix();
  const VectorView<float> w = l.w.vector(), few = w.slice(0, 2);
  const VectorView<std::byte> scratch = l.scratch.vector(), little = scratch.slice(0, scratch.size - 1);
  EXPECT_THROW(batch_norm_statistics<float>(c, 4, X, 0, S, scratch), ShapeError);
  EXPECT_THROW(batch_norm_statistics<float>(c, 0, X, 0, S, scratch), ShapeError);
  EXPECT_THROW(batch_norm_statistics<float>(c, 2, X, -1, S, scratch), ValueError);
  EXPECT_THROW(batch_norm_statistics<float>(c, 2, X, 0, X, scratch), ShapeError);
  EXPECT_THROW(batch_norm_statistics<float>(c, 2, X, 0, S, little), ShapeError);
  EXPECT_THROW(batch_norm_statistics<float>(c, 1, {X.data, 3, 1, X.ld, X.device}, 0, S, scratch), ShapeError);
  EXPECT_THROW(batch_norm_update_running<float>(c, S, 1.5, w, w), ValueError);
  EXPECT_THROW(batch_norm_update_running<float>(c, S, 0.5, w, few), ShapeError);
  EXPECT_THROW(batch_norm_running<float>(c, few, w, 0, S), ShapeError);
  EXPECT_THROW(batch_norm_running<float>(c, w, w, kNaN, S), ValueError);
  EXPECT_THROW(batch_norm_forward<float>(c, 2, S, few, {}, false, X, Y), ShapeError);
  EXPECT_THROW(batch_norm_forward<float>(c, 2, S, {}, few, false, X, Y), ShapeError);
  EXPECT_THROW(batch_norm_forward<float>(c, 2, S, w, w, false, X, S), ShapeError);
  const auto backward = [&](MatrixView<float> dy, MatrixView<float> dx, VectorView<float> dw, VectorView<std::byte> s) {
    batch_norm_backward<float>(c, 2, S, w, X, dy, true, 0.0f, dx, dw, l.db.vector(), s);
  };
  EXPECT_THROW(backward(S, Y, w, scratch), ShapeError);
  EXPECT_THROW(backward(Y, S, w, scratch), ShapeError);
  EXPECT_THROW(backward(Y, Y, few, scratch), ShapeError);
  EXPECT_THROW(backward(Y, Y, w, little), ShapeError);
  EXPECT_THROW(batch_norm_scratch(c, 3, 0, 2), ShapeError);

  const VectorView<double> sums = l.sums.vector(), few_sums = sums.slice(0, 5);
  EXPECT_THROW(batch_norm_sums<float>(c, 4, X, w, sums, scratch), ShapeError);
  EXPECT_THROW(batch_norm_sums<float>(c, 2, X, few, sums, scratch), ShapeError);
  EXPECT_THROW(batch_norm_sums<float>(c, 2, X, w, few_sums, scratch), ShapeError);
  EXPECT_THROW(batch_norm_sums<float>(c, 2, X, w, sums, little), ShapeError);
  EXPECT_THROW(batch_norm_set_statistics<float>(c, few, sums, 8, 0, S), ShapeError);
  EXPECT_THROW(batch_norm_set_statistics<float>(c, w, few_sums, 8, 0, S), ShapeError);
  EXPECT_THROW(batch_norm_set_statistics<float>(c, w, sums, 1, 0, S), ShapeError);
  EXPECT_THROW(batch_norm_set_statistics<float>(c, w, sums, 8, -1, S), ValueError);
  EXPECT_THROW(batch_norm_set_statistics<float>(c, w, sums, 8, 0, S.columns(0, 2)), ShapeError);
  const auto gradient_sums = [&](MatrixView<float> s, MatrixView<float> dy, VectorView<double> to, VectorView<float> dw,
                                 VectorView<float> db, VectorView<std::byte> bytes) {
    batch_norm_gradient_sums<float>(c, 2, s, X, dy, to, dw, db, bytes);
  };
  EXPECT_THROW(gradient_sums(X, Y, sums, w, w, scratch), ShapeError);
  EXPECT_THROW(gradient_sums(S, S, sums, w, w, scratch), ShapeError);
  EXPECT_THROW(gradient_sums(S, Y, few_sums, w, w, scratch), ShapeError);
  EXPECT_THROW(gradient_sums(S, Y, {}, w, w, scratch), ShapeError);
  EXPECT_THROW(gradient_sums(S, Y, sums, few, w, scratch), ShapeError);
  EXPECT_THROW(gradient_sums(S, Y, sums, w, few, scratch), ShapeError);
  EXPECT_THROW(gradient_sums(S, Y, sums, w, w, little), ShapeError);
  const auto input_gradient = [&](MatrixView<float> s, VectorView<float> weights, MatrixView<float> dy,
                                  VectorView<double> of, MatrixView<float> dx) {
    batch_norm_input_gradient<float>(c, 2, s, weights, X, dy, of, 0.0f, dx);
  };
  EXPECT_THROW(input_gradient(X, w, Y, sums, Y), ShapeError);
  EXPECT_THROW(input_gradient(S, few, Y, sums, Y), ShapeError);
  EXPECT_THROW(input_gradient(S, w, S, sums, Y), ShapeError);
  EXPECT_THROW(input_gradient(S, w, Y, few_sums, Y), ShapeError);
  EXPECT_THROW(input_gradient(S, w, Y, sums, {}), ShapeError);
}

struct QueuedBatchNorm {
  const Context& context;
  Tensor<float> X, Y, S, dY, dw, mean, var, dX;
  Tensor<double> sums;
  Tensor<std::byte> scratch;
  explicit QueuedBatchNorm(const Context& c)
      : context(c),
        X(testing::numbers<float>(c, 12, 6, 1)),
        Y(testing::numbers<float>(c, 12, 6, 2)),
        S(testing::numbers<float>(c, 3, 4, 3)),
        dY(testing::numbers<float>(c, 12, 6, 4)),
        dw(testing::numbers<float>(c, 4, 1, 5)),
        mean(testing::numbers<float>(c, 4, 1, 6)),
        var(testing::numbers<float>(c, 4, 1, 7)),
        dX(testing::numbers<float>(c, 12, 6, 8)),
        sums(testing::numbers<double>(c, 8, 1, 9)),
        scratch(c, batch_norm_scratch(c, 4, 3, 6)) {}
  void queue() {
    batch_norm_running<float>(context, mean.vector(), mean.vector(), 9, S.matrix());
    batch_norm_statistics<float>(context, 3, X.matrix(), kEps, S.matrix(), scratch.vector());
    batch_norm_update_running<float>(context, S.matrix(), 0.5, mean.vector(), var.vector());
    batch_norm_forward<float>(context, 3, S.matrix(), {}, {}, true, X.matrix(), Y.matrix());
    batch_norm_backward<float>(context, 3, S.matrix(), {}, X.matrix(), Y.matrix(), true, 1.0f, dY.matrix(), dw.vector(),
                               {}, scratch.vector());
    batch_norm_sums<float>(context, 3, X.matrix(), mean.vector(), sums.vector(), scratch.vector());
    batch_norm_set_statistics<float>(context, mean.vector(), sums.vector(), 18, kEps, S.matrix());
    batch_norm_gradient_sums<float>(context, 3, S.matrix(), X.matrix(), Y.matrix(), sums.vector(), dw.vector(),
                                    var.vector(), scratch.vector());
    batch_norm_input_gradient<float>(context, 3, S.matrix(), {}, X.matrix(), Y.matrix(), sums.vector(), 1.0f,
                                     dX.matrix());
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, Y, S, dY, dw, mean, var, dX, sums); }
};
class BatchNormQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(BatchNormQueued);
TEST_P(BatchNormQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedBatchNorm>();
}

}  // namespace
}  // namespace shrinkwarp
