// Ranks by MPI-3. Counters lie in a window of rank 0, in passive target mode, so that nobody has to answer; where the
// network has no such operations rank 0 does them when it calls MPI, which the program has it do between rounds.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <thread>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp {
namespace {

class MpiRanks : public Ranks {
 public:
  MpiRanks() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node_);
    MPI_Comm_rank(node_, &node_rank_);
    MPI_Comm_size(node_, &node_size_);
    share_processors();
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);  // there are networks that no window is made for
    const int status = MPI_Win_allocate(rank_ == 0 ? counters * static_cast<MPI_Aint>(sizeof(std::int64_t)) : 0,
                                        sizeof(std::int64_t), MPI_INFO_NULL, MPI_COMM_WORLD, &values_, &window_);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    if (status != MPI_SUCCESS) end_without_windows();
    MPI_Win_lock_all(MPI_MODE_NOCHECK, window_);
    MpiRanks::reset();
  }
  ~MpiRanks() override {
    wait_for_all();
    for (MPI_Win& memory : memories_) MPI_Win_free(&memory);
    MPI_Win_unlock_all(window_);
    MPI_Win_free(&window_);
    MPI_Comm_free(&node_);
    MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int node_rank() const override { return node_rank_; }
  int node_size() const override { return node_size_; }
  int threads() const override { return threads_; }
  std::string node_name() const override {
    char name[MPI_MAX_PROCESSOR_NAME];
    int length = 0;
    MPI_Get_processor_name(name, &length);
    return std::string(name, static_cast<std::size_t>(length));
  }

  void sum(std::int64_t* values, std::int64_t count) override { reduce(values, count, MPI_INT64_T, MPI_SUM); }
  void largest(std::int64_t* values, std::int64_t count) override { reduce(values, count, MPI_INT64_T, MPI_MAX); }
  void largest(double& value) override { reduce(&value, 1, MPI_DOUBLE, MPI_MAX); }
  void add_in_order(double weight, float* values, std::int64_t count) override { add(weight, values, count); }
  void add_in_order(double weight, double* values, std::int64_t count) override { add(weight, values, count); }

  std::string text_of(int rank, const std::string& text) override {
    std::int64_t bytes = rank == rank_ ? static_cast<std::int64_t>(text.size()) : 0;
    sum(&bytes, 1);
    std::string found(static_cast<std::size_t>(bytes), '\0');
    if (rank == rank_) found = text;
    MPI_Bcast(found.data(), static_cast<int>(bytes), MPI_CHAR, rank, MPI_COMM_WORLD);
    return found;
  }

  std::vector<double> all(double value) override {
    std::vector<double> values(static_cast<std::size_t>(size_));
    MPI_Allgather(&value, 1, MPI_DOUBLE, values.data(), 1, MPI_DOUBLE, MPI_COMM_WORLD);
    return values;
  }

  VectorView<std::byte> node_memory(std::int64_t bytes) override {
    MPI_Win& window = memories_.emplace_back(MPI_WIN_NULL);
    void* mine = nullptr;
    MPI_Comm_set_errhandler(node_, MPI_ERRORS_RETURN);  // a node may be short of memory to share
    const int status =
        MPI_Win_allocate_shared(node_rank_ == 0 ? bytes + kAlignment : 0, 1, MPI_INFO_NULL, node_, &mine, &window);
    MPI_Comm_set_errhandler(node_, MPI_ERRORS_ARE_FATAL);
    SHRINKWARP_REQUIRE(status == MPI_SUCCESS, Error, "found no memory that the ranks of a node share, wanted ", bytes,
                       " bytes of it; where the MPI keeps it in /dev/shm, that may be too small");
    MPI_Aint size = 0;
    int unit = 0;
    void* data = nullptr;
    MPI_Win_shared_query(window, 0, &size, &unit, &data);
    // Ranks map it to other pages, in which it begins at the same place.
    auto* const begin = static_cast<std::byte*>(data);
    const auto after = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(begin) % kAlignment);
    return {begin + (kAlignment - after) % kAlignment, size - kAlignment, {}};
  }
  void node_barrier() override { MPI_Barrier(node_); }

  void reset() override {
    wait_for_all();
    if (rank_ == 0) {
      std::memset(values_, 0, counters * sizeof(std::int64_t));
      MPI_Win_sync(window_);
    }
    wait_for_all();
  }
  std::int64_t add(Counter counter, std::int64_t value) override { return fetch(counter, value, MPI_SUM); }
  std::int64_t raise(Counter counter, std::int64_t value) override { return fetch(counter, value, MPI_MAX); }

  void abort(int status) override { MPI_Abort(MPI_COMM_WORLD, status); }

 private:
  static constexpr std::int64_t kAlignment = 256;

  /// The object is half made, and there is nobody to tell the others but MPI.
  [[noreturn]] void end_without_windows() {
    if (rank_ == 0)
      std::cerr << "shrinkwarp: " << mpi_library()
                << " has no one-sided operations between these nodes, wanted those for the counter that ranks share; "
                   "over TCP Open MPI 4 has them with --mca osc sm,pt2pt\n";
    MPI_Abort(MPI_COMM_WORLD, 1);
    std::abort();
  }

  /// A launcher gives ranks processors of their own, or all of a node the same ones, which they then share.
  void share_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    const std::uint64_t mine = hash_bytes(&set, sizeof set);
    std::vector<std::uint64_t> all(static_cast<std::size_t>(node_size_));
    MPI_Allgather(&mine, 1, MPI_UINT64_T, all.data(), 1, MPI_UINT64_T, node_);
    const auto sharers = static_cast<int>(std::count(all.begin(), all.end(), mine));
    threads_ = std::max(1, CPU_COUNT(&set) / sharers);
  }

  std::int64_t fetch(Counter counter, std::int64_t value, MPI_Op op) {
    std::int64_t before = 0;
    MPI_Fetch_and_op(&value, &before, MPI_INT64_T, 0, counter, op, window_);
    MPI_Win_flush(0, window_);
    return before;
  }

  template <class T>
  void add(double weight, T* values, std::int64_t count) {
    constexpr std::int64_t kFew = 64;  // values that all may have of all: one exchange is what matters
    if (count <= kFew)
      add_few(weight, values, count);
    else
      add_many(weight, values, count);
  }

  template <class T>
  void add_few(double weight, T* values, std::int64_t count) {
    std::vector<double> own(static_cast<std::size_t>(count)), all(own.size() * static_cast<std::size_t>(size_));
    for (std::size_t i = 0; i < own.size(); ++i) own[i] = weight * static_cast<double>(values[i]);
    MPI_Request request;
    MPI_Iallgather(own.data(), static_cast<int>(count), MPI_DOUBLE, all.data(), static_cast<int>(count), MPI_DOUBLE,
                   MPI_COMM_WORLD, &request);
    wait(request);
    for (std::size_t i = 0; i < own.size(); ++i) {
      double sum = 0;
      for (std::size_t at = i; at < all.size(); at += own.size()) sum += all[at];
      values[i] = static_cast<T>(sum);
    }
  }

  template <class T>
  void add_many(double weight, T* values, std::int64_t count) {
    constexpr std::int64_t kBlock = std::int64_t{1} << 20;  // values that others' are held of at once
    std::vector<double> weights(static_cast<std::size_t>(size_));
    MPI_Request request;
    MPI_Iallgather(&weight, 1, MPI_DOUBLE, weights.data(), 1, MPI_DOUBLE, MPI_COMM_WORLD, &request);
    wait(request);
    for (std::int64_t first = 0; first < count; first += kBlock)
      add_block(weights, values + first, static_cast<int>(std::min(kBlock, count - first)));
  }

  /// What MPI adds may come in another order each time. So each rank gets a part of the values from all others, adds them in
  /// order, and all get the sums: 2 (1 - 1 / ranks) values there and as many back, whatever the number of ranks.
  template <class T>
  void add_block(const std::vector<double>& weights, T* values, int count) {
    const MPI_Datatype type = sizeof(T) == sizeof(float) ? MPI_FLOAT : MPI_DOUBLE;
    const auto ranks = static_cast<std::size_t>(size_);
    std::vector<int> sizes(ranks), begins(ranks);
    for (int r = 0; r < size_; ++r) {
      const auto begin = [&](int rank) { return static_cast<int>(std::int64_t{count} * rank / size_); };
      begins[static_cast<std::size_t>(r)] = begin(r);
      sizes[static_cast<std::size_t>(r)] = begin(r + 1) - begin(r);
    }
    const int mine = sizes[static_cast<std::size_t>(rank_)];
    const std::vector<int> same(ranks, mine);
    std::vector<int> places(ranks);
    for (int r = 0; r < size_; ++r) places[static_cast<std::size_t>(r)] = r * mine;
    std::vector<T> parts(ranks * static_cast<std::size_t>(mine)), sums(static_cast<std::size_t>(mine));
    MPI_Request request;
    MPI_Ialltoallv(values, sizes.data(), begins.data(), type, parts.data(), same.data(), places.data(), type,
                   MPI_COMM_WORLD, &request);
    wait(request);
    constexpr int kStrip = 512;  // sums that stay in cache while the ranks' parts come to them
    for (int first = 0; first < mine; first += kStrip) {
      const int strip = std::min(kStrip, mine - first);
      double strip_sums[kStrip] = {};
      for (int r = 0; r < size_; ++r) {
        const double weight = weights[static_cast<std::size_t>(r)];
        const T* const part = parts.data() + places[static_cast<std::size_t>(r)] + first;
        for (int i = 0; i < strip; ++i) strip_sums[i] += weight * static_cast<double>(part[i]);
      }
      for (int i = 0; i < strip; ++i) sums[static_cast<std::size_t>(first + i)] = static_cast<T>(strip_sums[i]);
    }
    MPI_Iallgatherv(sums.data(), mine, type, values, sizes.data(), begins.data(), type, MPI_COMM_WORLD, &request);
    wait(request);
  }

  void reduce(void* values, std::int64_t count, MPI_Datatype type, MPI_Op op) {
    MPI_Request request;
    MPI_Iallreduce(MPI_IN_PLACE, values, static_cast<int>(count), type, op, MPI_COMM_WORLD, &request);
    wait(request);
  }

  void wait_for_all() {
    MPI_Request request;
    MPI_Ibarrier(MPI_COMM_WORLD, &request);
    wait(request);
  }

  /// Waits, and keeps a processor busy with it for a moment only: others may have hours of work left. Steps of a training, whose
  /// ranks wait for one another all the time, are about as long as that moment.
  void wait(MPI_Request& request) {
    constexpr auto kMoment = std::chrono::milliseconds(10);
    const auto begun = std::chrono::steady_clock::now();
    for (std::int64_t tries = 0;; ++tries) {
      int done = 0;
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (done) return;
      if (tries < 200) continue;
      if (std::chrono::steady_clock::now() - begun < kMoment) {
        std::this_thread::yield();
        continue;
      }
      if (while_waiting) while_waiting();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  int rank_ = 0, size_ = 1, node_rank_ = 0, node_size_ = 1, threads_ = 1;
  MPI_Comm node_ = MPI_COMM_NULL;
  MPI_Win window_ = MPI_WIN_NULL;  // of the counters
  std::vector<MPI_Win> memories_;
  std::int64_t* values_ = nullptr;  // on rank 0
};

}  // namespace

std::string mpi_library() {
  char version[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(version, &length);
  const std::string text(version, static_cast<std::size_t>(length));
  return text.substr(0, text.find_first_of(",\n"));
}

std::unique_ptr<Ranks> started_ranks() {
  const Launch launch = launch_of_environment();
  // A step of one process needs no MPI, and in the shell of one, as srun --pty has it, there may be none to join.
  if (launch.size <= 1) return alone();
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  auto ranks = std::make_unique<MpiRanks>();
  SHRINKWARP_REQUIRE(ranks->size() > 1, Error, "found ", launch.size,
                     " processes that do not know of one another, wanted those of the MPI that this program was built "
                     "with: start it with the launcher of ",
                     mpi_library());
  return ranks;
}

}  // namespace shrinkwarp
