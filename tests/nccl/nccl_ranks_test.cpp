// What adds between GPUs by NCCL, run among threads over a stand-in for it (tests/support/simt/fake_nccl.cpp): the bits
// are those of the host's way, and where NCCL cannot be used all ranks say so alike.
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lista/training.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/tools/ranks/nccl_ranks.hpp>
#include <shrinkwarp/tools/ranks/replicas_of_ranks.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_run.hpp"
#include "tests/support/network_problems.hpp"
#include "tests/support/simt/executor.hpp"
#include "tests/support/thread_replicas.hpp"

namespace shrinkwarp {
namespace {

using testing::run_replicas;
using testing::same_vectors;
using testing::ThreadReplicas;

std::atomic<int> group_ends{0};  // of all threads

const NcclFunctions kFunctions{
    ncclGetVersion,
    ncclGetErrorString,
    ncclGetUniqueId,
    ncclCommInitRank,
    ncclCommDestroy,
    ncclCommGetAsyncError,
    ncclGroupStart,
    [] {
      ++group_ends;
      return ncclGroupEnd();
    },
    ncclSend,
    ncclRecv,
    ncclAllGather,
};

/// Replicas that are threads as ranks of a run, each on a node of its own unless all are on one.
class ThreadRanks : public Ranks {
 public:
  explicit ThreadRanks(ThreadReplicas& replicas, const std::string& node = "")
      : replicas_(replicas), node_(node.empty() ? concat("node", replicas.rank()) : node) {}
  int rank() const override { return replicas_.rank(); }
  int size() const override { return replicas_.size(); }
  std::string node_name() const override { return node_; }
  void largest(std::int64_t* values, std::int64_t count) override {
    for (std::int64_t i = 0; i < count; ++i) values[i] = replicas_.largest(values[i]);
  }
  void add_in_order(double weight, float* values, std::int64_t count) override { replicas_.add(weight, values, count); }
  void add_in_order(double weight, double* values, std::int64_t count) override {
    replicas_.add(weight, values, count);
  }
  std::string text_of(int rank, const std::string& text) override {
    return replicas_.first_text(rank == replicas_.rank() ? text : "");
  }
  std::vector<double> all(double value) override {
    std::vector<double> values(static_cast<std::size_t>(size()));
    values[static_cast<std::size_t>(rank())] = value;
    replicas_.add(1, values.data(), size());
    return values;
  }

  void sum(std::int64_t*, std::int64_t) override { unused(); }
  void largest(double&) override { unused(); }
  VectorView<std::byte> node_memory(std::int64_t) override { unused(); }
  void node_barrier() override { unused(); }
  void reset() override { unused(); }
  std::int64_t add(Counter, std::int64_t) override { unused(); }
  std::int64_t raise(Counter, std::int64_t) override { unused(); }
  void abort(int) override { unused(); }

 private:
  [[noreturn]] static void unused() { SHRINKWARP_THROW(Error, "ThreadRanks: found a call that no training makes"); }

  ThreadReplicas& replicas_;
  std::string node_;
};

/// body(ThreadReplicas&, const GpuRanks&, const Context&) of connected replicas.
template <class Body>
void run_connected(int size, const Body& body, const NcclFunctions& functions = kFunctions) {
  run_replicas(size, [&](ThreadReplicas& replicas) {
    const Context context = Context::cuda();
    ThreadRanks ranks(replicas);
    std::string why_not = "unset";
    const std::unique_ptr<GpuRanks> gpus = connect_by_nccl(&functions, "", ranks, context, why_not);
    EXPECT_EQ(why_not, "");
    SHRINKWARP_REQUIRE(gpus != nullptr, Error, "not connected");
    body(replicas, *gpus, context);
  });
}

/// A replica's share of a batch of 17: no binary fraction.
double share(int rank) {
  return (3.0 + rank) / 17;
}

template <class T>
std::vector<T> numbers_of(std::int64_t count, int rank) {
  std::vector<T> values = testing::normals_of<T>(count, static_cast<unsigned>(rank + 1));
  values.front() = rank == 1 ? std::numeric_limits<T>::infinity() : values.front();
  values.back() = rank == 0 ? std::numeric_limits<T>::quiet_NaN() : values.back();
  return values;
}

/// The same bits as the host's way, of all sizes up to the largest, with one sum.
template <class T>
void check_sums(ThreadReplicas& replicas, DeviceSum& sum, const Context& context,
                const std::vector<std::int64_t>& counts) {
  for (const std::int64_t count : counts) {
    SCOPED_TRACE(::testing::Message() << replicas.size() << " replicas, " << count << " values of " << sizeof(T));
    std::vector<T> values = numbers_of<T>(count, replicas.rank());
    const Tensor<T> on_device = testing::to_device(context, values, count);
    sum.queue(on_device.vector());
    replicas.add(share(replicas.rank()), values.data(), count);
    EXPECT_TRUE(same_vectors(testing::to_host(context, on_device), values));
  }
}

TEST(NcclRanks, AddWithTheBitsOfTheHost) {
  for (const bool deferred : {false, true}) {
    simt::Settings settings = simt::settings();
    settings.deferred = deferred;
    const simt::ScopedSettings scope(settings);
    for (const int size : {1, 2, 3, 5}) {
      run_connected(size, [](ThreadReplicas& replicas, const GpuRanks& gpus, const Context& context) {
        std::vector<double> weights;
        for (int rank = 0; rank < replicas.size(); ++rank) weights.push_back(share(rank));
        const std::unique_ptr<DeviceSum> sum = gpus.sum(context, weights, 8 * 1003);
        // Fewer than ranks, fewer than 16 bytes for each, whole parts, parts and something left over.
        check_sums<float>(replicas, *sum, context, {1003, 1, 2, 7, 8, 12, 24, 33, 60, 2006});
        check_sums<double>(replicas, *sum, context, {1, 2, 5, 6, 10, 31, 60, 1000, 1003});
      });
    }
  }
}

TEST(NcclRanks, AreNotUsedWhereARankCannot) {
  const auto why_not = [](int size, const std::string& node, auto functions_of) {
    std::vector<std::string> reasons(static_cast<std::size_t>(size));
    run_replicas(size, [&](ThreadReplicas& replicas) {
      const Context context = Context::cuda();
      ThreadRanks ranks(replicas, node);
      const NcclFunctions* const functions = functions_of(replicas.rank());
      std::string& reason = reasons[static_cast<std::size_t>(replicas.rank())];
      EXPECT_EQ(connect_by_nccl(functions, "no such file", ranks, context, reason), nullptr);
    });
    for (const std::string& reason : reasons) EXPECT_EQ(reason, reasons[0]);
    return reasons[0];
  };
  EXPECT_EQ(why_not(2, "here", [](int) { return &kFunctions; }), "ranks 0 and 1 share the GPU 0000:00:00.0 of here");
  EXPECT_EQ(why_not(3, "", [](int rank) { return rank == 1 ? nullptr : &kFunctions; }),
            "rank 1 on node1 has no NCCL: no such file");
  NcclFunctions old = kFunctions;
  old.get_version = [](int* version) {
    *version = 2708;
    return ncclSuccess;
  };
  EXPECT_EQ(version_text(kFunctions), "2.28.9");
  EXPECT_EQ(version_text(old), "2.7.8");
  EXPECT_EQ(why_not(3, "", [&](int rank) { return rank == 2 ? &old : &kFunctions; }),
            "rank 0 has NCCL 2.28.9, rank 2 NCCL 2.7.8");
}

/// The message of what `body` throws on all replicas.
template <class Body>
std::string message_of(const NcclFunctions& functions, const Body& body) {
  try {
    run_connected(2, body, functions);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(NcclRanks, NameWhatHasFailed) {
  const auto add = [](ThreadReplicas&, const GpuRanks& gpus, const Context& context) {
    const Tensor<float> values = testing::to_device<float>(context, {1, 2, 3}, 3);
    gpus.sum(context, {0.5, 0.5}, 12)->queue(values.vector());
  };
  EXPECT_EQ(message_of(kFunctions, add), "");
  NcclFunctions functions = kFunctions;
  functions.send = [](const void*, std::size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t) {
    return ncclSystemError;
  };
  EXPECT_NE(message_of(functions, add).find("ncclSend: unhandled system error"), std::string::npos);
  functions = kFunctions;
  functions.comm_get_async_error = [](ncclComm_t, ncclResult_t* error) {
    *error = ncclRemoteError;
    return ncclSuccess;
  };
  EXPECT_NE(message_of(functions, add).find("an earlier call of NCCL: remote process exited"), std::string::npos);
  functions = kFunctions;
  functions.comm_init_rank = [](ncclComm_t*, int, ncclUniqueId, int) { return ncclInvalidUsage; };
  EXPECT_NE(message_of(functions, add).find("ncclCommInitRank: invalid usage"), std::string::npos);

  const auto add_more = [](ThreadReplicas&, const GpuRanks& gpus, const Context& context) {
    const Tensor<double> values(context, 2);
    EXPECT_THROW(gpus.sum(context, {0.5, 0.5}, 12)->queue(values.vector()), ShapeError);
    VectorView<double> elsewhere = values.vector();
    elsewhere.device = {};
    EXPECT_THROW(gpus.sum(context, {0.5, 0.5}, 16)->queue(elsewhere), DeviceError);
  };
  EXPECT_EQ(message_of(kFunctions, add_more), "");
}

/// What a training comes to, and how often its replicas spoke over the host.
template <class T>
struct Trained {
  std::vector<T> parameters;
  std::vector<double> losses;
  std::int64_t calls = 0;
};

template <class T>
Trained<T> train_by(int replicas_count, bool by_nccl) {
  Trained<T> first;
  run_replicas(replicas_count, [&](ThreadReplicas& replicas) {
    constexpr std::int64_t kSamples = 61;
    const Context context = Context::cuda();
    ThreadRanks ranks(replicas);
    std::string why_not;
    std::unique_ptr<GpuRanks> gpus;
    if (by_nccl) gpus = connect_by_nccl(&kFunctions, "", ranks, context, why_not);
    EXPECT_EQ(gpus != nullptr, by_nccl);
    ReplicasOfRanks its(ranks, std::move(gpus));
    const testing::NetworkProblems problems(6, 11, kSamples, 1), judging(6, 11, 20, 2);
    const Dictionary dictionary(context, problems.dictionary());
    MemorySource source(problems.observations()), judges(judging.observations());
    std::vector<std::int64_t> rows(kSamples), few(20);
    std::iota(rows.begin(), rows.end(), std::int64_t{0});
    std::iota(few.begin(), few.end(), std::int64_t{0});
    const Samples<T> samples(context, dictionary, source, rows, 1 << 20);
    const Samples<T> validation(context, dictionary, judges, few, 1 << 20);
    NetworkSpec spec;
    spec.kind = NetworkKind::lista;
    spec.layers = 2;
    const std::unique_ptr<Network<T>> network = make_network<T>(context, dictionary, spec);
    TrainingOptions options;
    options.optimizer = Optimizer::adam;
    options.epochs = 3;
    options.batch = 17;
    options.lambda = {0.1, 0.5, 4};
    options.replicas = &its;
    Trained<T> found;
    const std::int64_t before = replicas.calls();
    train<T>(
        context, dictionary, *network, samples, validation, options, {},
        [&](const TrainingEvent& event) { found.losses.push_back(event.loss); }, nullptr);
    found.calls = replicas.calls() - before;
    found.parameters = network->to_host(context);
    if (replicas.first()) first = found;
  });
  return first;
}

template <class T>
void check_training() {
  for (const int size : {2, 3}) {
    SCOPED_TRACE(size);
    const Trained<T> over_host = train_by<T>(size, false);
    const int before = group_ends;
    const Trained<T> between_gpus = train_by<T>(size, true);
    // 9 steps, and in each a gradient and a loss.
    EXPECT_GE(group_ends - before, 9 * 2 * size);
    EXPECT_LT(between_gpus.calls, over_host.calls);
    EXPECT_TRUE(same_vectors(between_gpus.parameters, over_host.parameters));
    EXPECT_TRUE(same_vectors(between_gpus.losses, over_host.losses));
    EXPECT_GE(over_host.losses.size(), 3u);
  }
}

TEST(NcclRanks, TrainToTheBitsOfTheHost) {
  check_training<float>();
  check_training<double>();
}

}  // namespace
}  // namespace shrinkwarp
