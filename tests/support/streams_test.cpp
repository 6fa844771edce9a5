// Two streams at work: events between them, and training, whose batches come on a stream of their own. On the host executor
// work on a stream runs as late as it may (Settings::deferred), so a wait that is missing shows.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lista/training.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/event.hpp>
#include <shrinkwarp/runtime/pinned.hpp>

#include "tests/support/network_problems.hpp"

namespace shrinkwarp {
namespace {

class Streams : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() > 0) return;
    if (std::getenv("SHRINKWARP_REQUIRE_GPU") != nullptr) FAIL() << cuda_unavailable_reason();
    GTEST_SKIP() << cuda_unavailable_reason();
  }
};

#ifdef SHRINKWARP_SIMT
constexpr bool kDeferred = true;
struct Late {
  Late() { settings.deferred = true, scope = std::make_unique<simt::ScopedSettings>(settings); }
  simt::Settings settings;
  std::unique_ptr<simt::ScopedSettings> scope;
};
#else
constexpr bool kDeferred = false;
struct Late {
  Late() {}
};
#endif

/// A number on the device, and page-locked ones that go there or come from there.
struct Cell {
  explicit Cell(const Context& context) : number(context, 1), host(context, 1) { host.data()[0] = 0; }
  void write(const Context& context, double value) {
    host.data()[0] = value;
    copy<double>(context, host.vector(), number.vector());
  }
  void read(const Context& context, const PinnedMatrix<double>& to) const {
    copy<double>(context, number.vector(), to.vector());
  }
  Tensor<double> number;
  PinnedMatrix<double> host;
};

TEST_F(Streams, WaitForWhatWasRecorded) {
  const Late late;
  const Context one = Context::cuda(), two = Context::cuda();
  const PinnedMatrix<double> seen(two, 1);
  for (const bool ordered : {true, false}) {
    if (!ordered && !kDeferred) continue;
    Cell cell(one);
    Event written(one);
    written.wait(two);  // nothing is recorded: nothing to wait for
    cell.write(one, 3);
    written.record(one);
    if (ordered) written.wait(two);
    cell.read(two, seen);
    two.synchronize();
    EXPECT_EQ(seen.data()[0] == 3, ordered);  // else the read came before, as it may
  }
}

TEST_F(Streams, WaitForAnEventAsItWas) {
  const Late late;
  const Context one = Context::cuda(), two = Context::cuda();
  const PinnedMatrix<double> first(two, 1), second(two, 1);
  first.data()[0] = second.data()[0] = 0;
  Cell cell(one), later(one);
  Event event(one);
  cell.write(one, 3);
  event.record(one);
  event.wait(two);
  cell.read(two, first);
  later.write(one, 4);
  event.record(one);  // of this two knows nothing
  two.synchronize();
  EXPECT_EQ(first.data()[0], 3);
  event.synchronize();  // of this the host does
  Event moved = std::move(event);
  event = Event(two);
  moved.wait(two);
  later.read(two, second);
  two.synchronize();
  EXPECT_EQ(second.data()[0], 4);
  EXPECT_THROW(moved.record(Context::cpu(1)), DeviceError);
  EXPECT_THROW(moved.wait(Context::cpu(1)), DeviceError);
}

TEST_F(Streams, KeepTheHostFromWaitingForMore) {
  const Late late;
  const Context one = Context::cuda();
  const PinnedMatrix<double> first(one, 1), second(one, 1);
  first.data()[0] = second.data()[0] = 0;
  Cell cell(one);
  Event event(one);
  event.synchronize();
  cell.write(one, 3);
  cell.read(one, first);
  event.record(one);
  cell.read(one, second);
  event.synchronize();
  EXPECT_EQ(first.data()[0], 3);
  if (kDeferred) {
    EXPECT_EQ(second.data()[0], 0);  // comes after the event, and nobody has waited for it
  }
  one.synchronize();
  EXPECT_EQ(second.data()[0], 3);
}

/// A trained network's parameters; 7 steps an epoch, so that both slots begin one.
std::vector<float> trained(const Context& context) {
  const testing::NetworkProblems problems(5, 9, 58, 4);
  MemorySource source(problems.observations());
  const Dictionary dictionary(context, problems.dictionary());
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < problems.N; ++i) rows.push_back(i);
  const Samples<float> samples(context, dictionary, source, rows, 1 << 20);
  NetworkSpec spec;
  spec.kind = NetworkKind::lista;
  spec.layers = 2;
  const std::unique_ptr<Network<float>> network = make_network<float>(context, dictionary, spec);
  TrainingOptions options;
  options.optimizer = Optimizer::adam;
  options.epochs = 2;
  options.batch = 8;
  train<float>(context, dictionary, *network, samples, samples, options, {}, {}, nullptr);
  return network->to_host(context);
}

TEST_F(Streams, BringBatchesInTime) {
  const std::vector<float> wanted = trained(Context::cuda());
  EXPECT_EQ(trained(Context::cuda_on(nullptr)), wanted);  // no graphs
  const Late late;
  EXPECT_EQ(trained(Context::cuda()), wanted);
}

}  // namespace
}  // namespace shrinkwarp
