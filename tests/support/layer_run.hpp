// A layer of a residual network with all that its passes need, and what tests ask of every layer: gradients by central
// differences, the same output whether a pass keeps or not, and what the contract of Layer says of its arguments.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/momentum_residual/exact_momentum.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/momentum/momentum_net.hpp>
#include <shrinkwarp/models/resnet/layer.hpp>
#include <shrinkwarp/models/resnet/sequential.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp::testing {

template <class T>
std::vector<T> normals_of(std::int64_t count, std::uint64_t stream, double scale = 1) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 29, stream, 0, VectorView<double>{values.data(), count, {}});
  std::vector<T> result;
  for (const double value : values) result.push_back(static_cast<T>(scale * value));
  return result;
}

/// The same bits, NaN and all.
template <class T>
::testing::AssertionResult same_vectors(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << a.size() << " and " << b.size() << " elements";
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof(T)) != 0)
      return ::testing::AssertionFailure() << "element " << i << ": " << a[i] << " and " << b[i];
  return ::testing::AssertionSuccess();
}

template <class T>
struct LayerRun {
  const Context& context;
  std::int64_t N;
  ParameterList list;
  LayerPointer<T> layer;
  bool training;
  std::vector<T> X, weights;              // weights of Y: what the gradient is of is their product's sum
  std::vector<T> parameters, statistics;  // before a pass
  std::vector<std::vector<T>> sides;      // side inputs; the first has a gradient
  Replicas* replicas = nullptr;           // and which sample is the first: see Pass
  std::int64_t first_sample = 0;

  using Make = std::function<LayerPointer<T>(ParameterList&)>;
  LayerRun(const Context& c, std::int64_t samples, bool trains, const Make& make)
      : context(c),
        N(samples),
        layer(make(list)),
        training(trains),
        X(normals_of<T>(layer->input().size() * N, 1)),
        weights(normals_of<T>(layer->output().size() * N, 2)) {
    const ParameterValues<T> values(context, list, 3);
    parameters = values_of<T>(context, values.parameters());
    statistics = values_of<T>(context, values.statistics());
    // Weights of norms begin as 1, biases as 0: both moved.
    const auto moves = normals_of<T>(list.size() + list.statistics_size(), 4, 0.2);
    std::size_t next = 0;
    for (const auto& entry : list.entries()) {
      const bool gamma = ends_with(entry.name, "gamma"), variance = ends_with(entry.name, "running_var");
      for (std::int64_t i = 0; i < entry.size; ++i, ++next) {
        T& value = (entry.learned ? parameters : statistics)[static_cast<std::size_t>(entry.offset + i)];
        if (!gamma) value += variance ? std::fabs(moves[next]) : moves[next];
      }
    }
  }
  static bool ends_with(const std::string& name, const std::string& end) {
    return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
  }

  /// What a pass reads and writes, but for activations. Gradients begin as `first`.
  struct Passing {
    Tensor<T> theta, state, gradient, side_gradient;
    Tensor<std::int64_t> step;
    Tensor<std::int32_t> status;
    std::vector<Tensor<T>> side_values;
    std::vector<SideInput<T>> side;
    Pass<T> pass;

    explicit Passing(const LayerRun& run, bool keeps = false, T first = T(0))
        : theta(to_device(run.context, run.parameters, run.list.size())),
          state(to_device(run.context, run.statistics, run.list.statistics_size())),
          gradient(filled(run.context, run.list.size(), 1, first)),
          step(to_device(run.context, std::vector<std::int64_t>{3}, 1)),
          status(run.context, 2),
          pass(run.context) {
      clear_status(run.context, status.vector());
      for (const auto& values : run.sides) {
        side_values.push_back(to_device(run.context, values, static_cast<std::int64_t>(values.size()) / run.N, run.N));
        side.push_back({side_values.back().matrix(), {}});
      }
      if (!side.empty()) {
        side_gradient = filled(run.context, side[0].value.rows, run.N, first);
        side[0].gradient = side_gradient.matrix();
      }
      pass.parameters = theta.vector();
      pass.statistics = state.vector();
      pass.gradient = gradient.vector();
      pass.training = run.training;
      pass.keeps = keeps;
      pass.seed = 11;
      pass.step = step.vector();
      pass.side = &side;
      pass.status = status.vector();
      pass.replicas = run.replicas;
      pass.first_sample = run.first_sample;
    }
    Passing(const Passing&) = delete;  // its pass points into it
    Passing& operator=(const Passing&) = delete;
  };
  static Tensor<T> filled(const Context& context, std::int64_t rows, std::int64_t cols, T value) {
    return to_device(context, std::vector<T>(static_cast<std::size_t>(rows * cols), value), rows, cols);
  }

  struct Result {
    std::vector<T> Y, dX, gradient, statistics, side;  // statistics after the pass
  };

  /// A pass forward, and back where `keeps`: from dX and a gradient that are NaN and 0 where `beta` is 0, else `first`.
  Result run(bool keeps, T beta = T(0), bool wants_input = true, T first = T(0)) const {
    const auto features = layer->input().size(), outputs = layer->output().size();
    const auto unread = static_cast<T>(std::nan(""));
    const auto x = to_device(context, X, features, N), w = to_device(context, weights, outputs, N);
    const auto y = filled(context, outputs, N, unread),
               dx = filled(context, features, N, beta == T(0) ? unread : first);
    const Passing passing(*this, keeps, first);
    const Pass<T>& pass = passing.pass;
    const Tensor<std::byte> kept(context, keeps ? layer->kept(context, N) : 0),
        scratch(context, layer->scratch(context, N, keeps));
    layer->forward(pass, x.matrix(), y.matrix(), kept.vector(), scratch.vector());
    Result result;
    result.Y = to_host(context, y);
    if (keeps) {
      layer->backward(pass, x.matrix(), layer->reads_output() ? y.matrix() : MatrixView<T>{}, w.matrix(), beta,
                      wants_input ? dx.matrix() : MatrixView<T>{}, kept.vector(), scratch.vector());
    }
    require_all_well(context, pass.status, "LayerRun");
    result.dX = to_host(context, dx);
    result.gradient = to_host(context, passing.gradient);
    result.statistics = to_host(context, passing.state);
    if (!sides.empty()) result.side = to_host(context, passing.side_gradient);
    // What is read stays.
    EXPECT_TRUE(same_vectors(to_host(context, x), X));
    EXPECT_TRUE(same_vectors(to_host(context, w), weights));
    EXPECT_TRUE(same_vectors(to_host(context, passing.theta), parameters));
    return result;
  }

  double cost() const {
    const std::vector<T> Y = run(false).Y;
    double sum = 0;
    for (std::size_t i = 0; i < Y.size(); ++i) sum += static_cast<double>(weights[i]) * static_cast<double>(Y[i]);
    return sum;
  }

  /// The derivative along a random direction of `size` elements of `place` is that of `found`.
  void expect_derivative(const std::string& what, std::vector<T>& place, std::size_t offset, std::size_t size,
                         const std::vector<T>& found) {
    const std::vector<T> before = place, direction = normals_of<T>(static_cast<std::int64_t>(size), 5);
    double wanted = 0, norm = 0;
    for (std::size_t i = 0; i < size; ++i) {
      wanted += static_cast<double>(direction[i]) * static_cast<double>(found[offset + i]);
      norm = std::hypot(norm, static_cast<double>(direction[i]));
    }
    const auto difference = [&](double step) {
      double costs[2];
      for (const int side : {0, 1}) {
        for (std::size_t i = 0; i < size; ++i) {
          place[offset + i] = before[offset + i] +
                              static_cast<T>((side == 0 ? step : -step) / norm * static_cast<double>(direction[i]));
        }
        costs[side] = cost();
      }
      place = before;
      return norm * (costs[0] - costs[1]) / (2 * step);
    };
    // Errors of differences go with the square of the step: of the larger one's four times as many, so that both together
    // tell. Rounding has some 1e3 units of 2^-52 over the step.
    constexpr double kStep = 1e-5, kRounding = 1e3 * 0x1p-52 / kStep;
    const double at = difference(kStep), twice = difference(2 * kStep);
    const double truncation = std::fabs(at - twice), bound = truncation + kRounding * norm;
    EXPECT_LE(truncation, 1e-6 * norm * (1 + std::fabs(at))) << what << ": a kink lies within the step";
    EXPECT_NEAR(wanted, at, bound) << what;
  }

  void check() {
    const Result kept = run(true);
    // Keeping changes no bits, and neither does a gradient by the input that is not wanted.
    const Result forward = run(false);
    EXPECT_TRUE(same_vectors(forward.Y, kept.Y));
    EXPECT_TRUE(same_vectors(forward.statistics, kept.statistics));
    const Result of_parameters = run(true, T(0), false);
    EXPECT_TRUE(same_vectors(of_parameters.gradient, kept.gradient));
    for (const T value : of_parameters.dX) EXPECT_TRUE(std::isnan(value));
    // Gradients are added to what is there. An element is a sum of at most some 2^10 products.
    constexpr T kFirst = T(0.75);
    const Result added = run(true, T(1), true, kFirst);
    for (const auto& [sum, part] :
         {std::pair(&added.dX, &kept.dX), {&added.gradient, &kept.gradient}, {&added.side, &kept.side}}) {
      double largest = 1;
      for (const T value : *part) largest = std::max(largest, std::fabs(static_cast<double>(value)));
      for (std::size_t i = 0; i < part->size(); ++i)
        ASSERT_NEAR((*sum)[i], (*part)[i] + kFirst, 0x1p-40 * largest) << i;
    }
    expect_derivative("X", X, 0, X.size(), kept.dX);
    for (const auto& entry : list.entries()) {
      if (!entry.learned) continue;
      expect_derivative(entry.name, parameters, static_cast<std::size_t>(entry.offset),
                        static_cast<std::size_t>(entry.size), kept.gradient);
    }
    if (!sides.empty()) expect_derivative("side input", sides[0], 0, sides[0].size(), kept.side);
  }
};

/// All that two passes have found.
template <class T>
void expect_same_results(const typename LayerRun<T>::Result& a, const typename LayerRun<T>::Result& b) {
  EXPECT_TRUE(same_vectors(a.Y, b.Y)) << "Y";
  EXPECT_TRUE(same_vectors(a.dX, b.dX)) << "dX";
  EXPECT_TRUE(same_vectors(a.gradient, b.gradient)) << "gradient";
  EXPECT_TRUE(same_vectors(a.statistics, b.statistics)) << "statistics";
  EXPECT_TRUE(same_vectors(a.side, b.side)) << "side input";
}

}  // namespace shrinkwarp::testing
