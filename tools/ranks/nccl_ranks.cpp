#include <shrinkwarp/tools/ranks/nccl_ranks.hpp>

#include <cstddef>
#include <cstring>
#include <exception>
#include <map>
#include <vector>

#include <shrinkwarp/kernels/weighted_sum/weighted_sum.hpp>
#include <shrinkwarp/runtime/cuda_check.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/ranks/replicas_of_ranks.hpp>

namespace shrinkwarp {
namespace {

void check(const NcclFunctions& nccl, ncclResult_t result, const char* call) {
  SHRINKWARP_REQUIRE(result == ncclSuccess, Error, call, ": ", nccl.get_error_string(result),
                     " (NCCL_DEBUG=WARN in the environment says more)");
}

class NcclRanks : public GpuRanks {
 public:
  /// Collective. @param id  the same on all ranks
  NcclRanks(const NcclFunctions& nccl, const Context& context, int rank, int size, const ncclUniqueId& id)
      : nccl_(nccl), rank_(rank), size_(size), exceptions_(std::uncaught_exceptions()) {
    context.select_cuda();
    check(nccl.comm_init_rank(&communicator_, size, id, rank), "ncclCommInitRank");
  }
  NcclRanks(const NcclRanks&) = delete;
  NcclRanks& operator=(const NcclRanks&) = delete;
  /// Waits for the others, which an error may keep from coming: then the end of the process does it.
  ~NcclRanks() override {
    if (std::uncaught_exceptions() == exceptions_) nccl_.comm_destroy(communicator_);
  }

  std::unique_ptr<DeviceSum> sum(const Context& context, const std::vector<double>& weights,
                                 std::int64_t bytes) const override;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const NcclFunctions& functions() const { return nccl_; }
  ncclComm_t communicator() const { return communicator_; }
  void check(ncclResult_t result, const char* call) const { shrinkwarp::check(nccl_, result, call); }

 private:
  const NcclFunctions& nccl_;
  int rank_, size_, exceptions_;
  ncclComm_t communicator_ = nullptr;
};

/// Not ncclAllReduce, whose order is its own. Each rank gets a part of the values from all, adds it in the order of ranks,
/// and all get the sums: a rank sends 2 (1 - 1 / ranks) times the values, whatever the number of ranks. Parts are whole 16
/// bytes, all of one size; of the few values that are left over everybody gets everything.
class NcclSum : public DeviceSum {
 public:
  NcclSum(const NcclRanks& ranks, const Context& context, const std::vector<double>& weights, std::int64_t bytes)
      : ranks_(ranks),
        context_(context),
        bytes_(bytes),
        weights_(context, static_cast<std::int64_t>(weights.size())),
        received_(context, bytes + kAlign * ranks.size() * ranks.size()) {
    to_device(context, weights, weights_.vector());
  }

  void queue(VectorView<float> values) override { add(values, ncclFloat32); }
  void queue(VectorView<double> values) override { add(values, ncclFloat64); }

 private:
  static constexpr std::int64_t kAlign = 16;  // bytes

  template <class T>
  void add(VectorView<T> values, ncclDataType_t type) {
    constexpr std::int64_t kWide = kAlign / static_cast<std::int64_t>(sizeof(T));
    const std::int64_t count = values.size, size = ranks_.size();
    SHRINKWARP_REQUIRE(count * static_cast<std::int64_t>(sizeof(T)) <= bytes_, ShapeError, "DeviceSum: found ", count,
                       " values, wanted at most ", bytes_, " bytes");
    SHRINKWARP_REQUIRE(values.device == context_.device(), DeviceError, "DeviceSum: the values lie on ", values.device,
                       ", wanted ", context_.device());
    const NcclFunctions& nccl = ranks_.functions();
    const ncclComm_t all = ranks_.communicator();
    ncclResult_t state = ncclSuccess;
    ranks_.check(nccl.comm_get_async_error(all, &state), "ncclCommGetAsyncError");
    ranks_.check(state, "an earlier call of NCCL");

    const std::int64_t part = count / (size * kWide) * kWide, shared = size * part, rest = count - shared;
    const auto memory = reinterpret_cast<T*>(received_.data());
    const MatrixView<T> parts{memory, part, size, part, context_.device()};
    const MatrixView<T> rests{memory + shared, rest, size, (rest + kWide - 1) / kWide * kWide, context_.device()};
    const VectorView<T> own = values.slice(ranks_.rank() * part, part), left_over = values.slice(shared, rest);
    context_.select_cuda();
    ranks_.check(nccl.group_start(), "ncclGroupStart");
    for (int rank = 0; rank < ranks_.size(); ++rank) {
      exchange(values.slice(rank * part, part), parts.column(rank), type, rank);
      exchange(left_over, rests.column(rank), type, rank);
    }
    ranks_.check(nccl.group_end(), "ncclGroupEnd");
    weighted_sum<T>(context_, weights_.vector(), parts, own);
    weighted_sum<T>(context_, weights_.vector(), rests, left_over);
    if (part == 0) return;
    ranks_.check(nccl.all_gather(own.data, values.data, static_cast<std::size_t>(part), type, all, context_.stream()),
                 "ncclAllGather");
  }

  /// Within a group. @param received  [sent.size]
  template <class T>
  void exchange(VectorView<T> sent, T* received, ncclDataType_t type, int rank) const {
    if (sent.empty()) return;
    const NcclFunctions& nccl = ranks_.functions();
    const ncclComm_t all = ranks_.communicator();
    const auto count = static_cast<std::size_t>(sent.size);
    ranks_.check(nccl.send(sent.data, count, type, rank, all, context_.stream()), "ncclSend");
    ranks_.check(nccl.recv(received, count, type, rank, all, context_.stream()), "ncclRecv");
  }

  const NcclRanks& ranks_;
  const Context& context_;
  std::int64_t bytes_;
  Tensor<double> weights_;
  Tensor<std::byte> received_;  // the parts of all ranks, then what is left over of them
};

std::unique_ptr<DeviceSum> NcclRanks::sum(const Context& context, const std::vector<double>& weights,
                                          std::int64_t bytes) const {
  return std::make_unique<NcclSum>(*this, context, weights, bytes);
}

/// Where a rank's GPU sits: "0000:1B:00.0 of node3".
std::string place_of(const Ranks& ranks, const Context& context) {
  char bus[32] = {};
  SHRINKWARP_CUDA_CHECK(cudaDeviceGetPCIBusId(bus, sizeof bus, context.device().index));
  return concat(bus, " of ", ranks.node_name());
}

/// What keeps ranks from using NCCL, by where each of them is; "" where nothing does.
std::string obstacle(const std::vector<std::string>& versions, const std::vector<std::string>& places) {
  std::map<std::string, std::size_t> seen;
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    if (versions[rank] != versions[0])
      return concat("rank 0 has NCCL ", versions[0], ", rank ", rank, " NCCL ", versions[rank]);
    const auto [other, is_new] = seen.emplace(places[rank], rank);
    if (!is_new) return concat("ranks ", other->second, " and ", rank, " share the GPU ", places[rank]);
  }
  return "";
}

}  // namespace

std::string version_text(const NcclFunctions& nccl) {
  int version = 0;
  check(nccl, nccl.get_version(&version), "ncclGetVersion");
  const int major = version < 10000 ? 1000 : 10000;  // 2.8.4 and before are 2804
  return concat(version / major, '.', version % major / 100, '.', version % 100);
}

std::unique_ptr<GpuRanks> connect_by_nccl(const NcclFunctions* nccl, const std::string& missing, Ranks& ranks,
                                          const Context& context, std::string& why_not) {
  why_not = ReplicasOfRanks(ranks).first_text(
      nccl != nullptr ? "" : concat("rank ", ranks.rank(), " on ", ranks.node_name(), " has no NCCL: ", missing));
  if (!why_not.empty()) return nullptr;
  std::vector<std::string> versions, places;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    versions.push_back(ranks.text_of(rank, version_text(*nccl)));
    places.push_back(ranks.text_of(rank, place_of(ranks, context)));
  }
  why_not = obstacle(versions, places);
  if (!why_not.empty()) return nullptr;
  ncclUniqueId id = {};
  if (ranks.first()) check(*nccl, nccl->get_unique_id(&id), "ncclGetUniqueId");
  const std::string bytes = ranks.text_of(0, std::string(id.internal, sizeof id.internal));
  std::memcpy(id.internal, bytes.data(), sizeof id.internal);
  return std::make_unique<NcclRanks>(*nccl, context, ranks.rank(), ranks.size(), id);
}

}  // namespace shrinkwarp
