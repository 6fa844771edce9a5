// Batches as steps see them, whatever the backend, and what becomes of errors on the way.
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/models/lista/sample_batches.hpp>
#include <shrinkwarp/models/train/shuffle.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/network_problems.hpp"

namespace shrinkwarp {
namespace {

constexpr std::int64_t kRows = 5, kCount = 23, kBatch = 4, kBatches = 5;  // three samples are left over

/// Observations whose reading may fail.
class Recording : public ObservationSource {
 public:
  explicit Recording(MatrixView<const double> X) : X_(X) {}
  std::int64_t dimension() const override { return X_.rows; }
  std::int64_t size() const override { return X_.cols; }
  std::string name() const override { return "recording"; }
  void read(std::int64_t first, MatrixView<double> out) override {
    for (std::int64_t b = 0; b < out.cols; ++b) {
      if (first + b == broken) throw IoError("the row cannot be read", __FILE__, __LINE__, name());
      for (std::int64_t i = 0; i < out.rows; ++i) out(i, b) = X_(i, first + b);
    }
  }
  std::int64_t broken = -1;

 private:
  MatrixView<const double> X_;
};

class BatchPipelines : public testing::OnContext {
 protected:
  void SetUp() override {
    OnContext::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    dictionary_.emplace(context(), problems_.dictionary());
    for (std::int64_t i = 0; i < kCount; ++i) rows_.push_back(i);
  }
  Samples<float> samples(std::int64_t memory) {
    return Samples<float>(context(), *dictionary_, recording_, rows_, memory);
  }

  /// In the user's units, to float's rounding.
  double mean_energy(const std::vector<std::int64_t>& order, std::int64_t batch) const {
    double sum = 0;
    for (std::int64_t b = batch * kBatch; b < (batch + 1) * kBatch; ++b) {
      for (std::int64_t i = 0; i < kRows; ++i) {
        const double x = problems_.x(i, order[static_cast<std::size_t>(b)]);
        sum += x * x / 2 / kBatch;
      }
    }
    return sum;
  }

  testing::NetworkProblems problems_{kRows, 9, kCount, 3};
  Recording recording_{problems_.observations()};
  std::optional<Dictionary> dictionary_;
  std::vector<std::int64_t> rows_;
};
SHRINKWARP_ON_EVERY_CONTEXT(BatchPipelines);

TEST_P(BatchPipelines, BringWhatGatherGives) {
  const LambdaShares shares{0.1, 0.6, 8};
  for (const std::int64_t memory : {std::int64_t{1} << 20, std::int64_t{0}}) {  // held, and read each time
    const Samples<float> samples = this->samples(memory);
    const SampleBatches<float> source(samples, shares);
    BatchPipeline batches(context(), source, kBatch);
    const Tensor<float> X(context(), kRows, kBatch * kBatches), lambda(context(), kBatch * kBatches);
    for (const std::int64_t first : {0, 2, 4}) {
      const std::uint64_t pass = 7 + static_cast<std::uint64_t>(first);
      const std::vector<std::int64_t> order = shuffled(kCount, 5, pass);
      batches.begin(order, pass, first);
      for (std::int64_t i = first; i < kBatches; ++i) {
        batches.next([&](int slot) {
          EXPECT_EQ(slot, i % 2);
          const double energy = mean_energy(order, i);
          EXPECT_NEAR(batches.reference(slot), energy / (samples.unit() * samples.unit()), 1e-6 * energy);
          copy<float>(context(), source.X(batches.batch(slot), kBatch), X.matrix().columns(i * kBatch, kBatch));
          copy<float>(context(), source.lambda(batches.batch(slot), kBatch), lambda.vector().slice(i * kBatch, kBatch));
        });
      }
      const Context host = Context::cpu(1);
      const Tensor<float> wanted_X(host, kRows, kBatch * kBatches), wanted_lambda(host, kBatch * kBatches);
      samples.gather(order.data(), shares, pass, wanted_X.matrix(), wanted_lambda.vector());
      const auto from = [first](const std::vector<float>& values, std::int64_t size) {
        return std::vector<float>(values.begin() + static_cast<std::ptrdiff_t>(first * kBatch * size), values.end());
      };
      EXPECT_EQ(from(testing::to_host(context(), X), kRows), from(testing::to_host(host, wanted_X), kRows));
      EXPECT_EQ(from(testing::to_host(context(), lambda), 1), from(testing::to_host(host, wanted_lambda), 1));
    }
  }
}

TEST_P(BatchPipelines, HandOnWhatFails) {
  const Samples<float> samples = this->samples(0);
  const SampleBatches<float> source(samples, {});
  BatchPipeline batches(context(), source, kBatch);
  batches.begin(rows_, 1, 0);
  int steps = 0;
  EXPECT_THROW(batches.next([](int) { throw std::runtime_error("a step that fails"); }), std::runtime_error);
  recording_.broken = 2 * kBatch + 1;  // in batch 2
  batches.begin(rows_, 1, 0);
  batches.next([&](int) { ++steps; });
  EXPECT_THROW(batches.next([&](int) { ++steps; }), IoError);
  EXPECT_EQ(steps, 2);
  recording_.broken = 0;
  EXPECT_THROW(batches.begin(rows_, 1, 0), IoError);
}

}  // namespace
}  // namespace shrinkwarp
