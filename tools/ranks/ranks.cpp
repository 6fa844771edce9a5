#include <shrinkwarp/tools/ranks/ranks.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <deque>
#include <iterator>
#include <utility>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

/// Of an environment variable that is a number; -1 where there is none.
int number_of(const char* variable) {
  const char* text = std::getenv(variable);
  return text != nullptr && *text >= '0' && *text <= '9' ? std::atoi(text) : -1;
}

class Alone : public Ranks {
 public:
  std::string node_name() const override {
    char name[256] = {};
    return gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
  }
  void sum(std::int64_t*, std::int64_t) override {}
  void largest(std::int64_t*, std::int64_t) override {}
  void largest(double&) override {}
  void add_in_order(double weight, float* values, std::int64_t count) override { scale(weight, values, count); }
  void add_in_order(double weight, double* values, std::int64_t count) override { scale(weight, values, count); }
  std::string text_of(int, const std::string& text) override { return text; }
  std::vector<double> all(double value) override { return {value}; }
  VectorView<std::byte> node_memory(std::int64_t bytes) override {
    return memories_.emplace_back(Context::cpu(1), bytes).vector();
  }
  void node_barrier() override {}
  void reset() override { std::fill(std::begin(values_), std::end(values_), 0); }
  std::int64_t add(Counter counter, std::int64_t value) override {
    return std::exchange(values_[counter], values_[counter] + value);
  }
  std::int64_t raise(Counter counter, std::int64_t value) override {
    return std::exchange(values_[counter], std::max(values_[counter], value));
  }
  void abort(int status) override { std::_Exit(status); }

 private:
  template <class T>
  static void scale(double weight, T* values, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<T>(weight * static_cast<double>(values[i]));
  }

  std::int64_t values_[counters] = {};
  std::deque<Tensor<std::byte>> memories_;
};

}  // namespace

Launch launch_of_environment() {
  // Open MPI; MPICH, Intel MPI and srun --mpi=pmi2; srun by itself. Not SLURM_NTASKS, which a batch script has too.
  constexpr const char* kLaunchers[][2] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                                           {"PMI_SIZE", "PMI_RANK"},
                                           {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"},
                                           {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}};
  for (const auto& [size, rank] : kLaunchers)
    if (number_of(size) > 0) return {number_of(size), std::max(0, number_of(rank))};
  return {};
}

std::unique_ptr<Ranks> alone() {
  return std::make_unique<Alone>();
}

}  // namespace shrinkwarp
