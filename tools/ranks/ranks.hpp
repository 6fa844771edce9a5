// The processes that run one command together, as mpirun starts them: ranks. What the program knows of MPI is behind
// this interface; a process alone is one rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// The ranks of a run. Calls that are named collective are made by all of them, in the same order; while one waits for
/// others it calls `while_waiting`. Used by the thread that made it. An error of MPI itself ends all ranks.
class Ranks {
 public:
  /// What a run counts for all ranks, on rank 0.
  enum Counter : int {
    first_chunks,   ///< of the first pass that have been taken
    second_chunks,  ///< of the second
    problems_done,
    problems_unconverged,
    worst_gap,   ///< the bits of a double >= 0, which compare as it does
    failed,      ///< a rank has met an error: 1
    stopped_by,  ///< the number of a signal
    counters
  };

  virtual ~Ranks() = default;
  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  bool alone() const { return size() == 1; }
  bool first() const { return rank() == 0; }
  virtual int node_rank() const { return 0; }  ///< among the ranks of this node
  virtual int node_size() const { return 1; }
  /// Threads that take no more than this rank's share of the processors; 0 where it has all to itself.
  virtual int threads() const { return 0; }
  virtual std::string node_name() const = 0;

  /// The sum, or the largest, of all ranks' values, one by one, in place. Collective.
  virtual void sum(std::int64_t* values, std::int64_t count) = 0;
  virtual void largest(std::int64_t* values, std::int64_t count) = 0;
  virtual void largest(double& value) = 0;
  /// values[i] <- the sum of weight values[i] over the ranks in their order, in float64, rounded once: the same bits on each
  /// rank. Of a process alone weight values[i]. Collective.
  virtual void add_in_order(double weight, float* values, std::int64_t count) = 0;
  virtual void add_in_order(double weight, double* values, std::int64_t count) = 0;
  /// The text of one rank. Collective.
  virtual std::string text_of(int rank, const std::string& text) = 0;
  /// A number of each rank, in their order. Collective.
  virtual std::vector<double> all(double value) = 0;
  /// Memory that the ranks of this node see together, aligned to 256 bytes, as long as this object lives: as many bytes as
  /// its first rank asks for. Collective.
  virtual VectorView<std::byte> node_memory(std::int64_t bytes) = 0;
  /// What the ranks of the node have written to such memory can be read after it. Collective.
  virtual void node_barrier() = 0;

  /// Sets all counters to 0. Collective.
  virtual void reset() = 0;
  /// Adds to a counter. @return its value before
  virtual std::int64_t add(Counter counter, std::int64_t value) = 0;
  /// Raises a counter to a value, where it is lower. @return its value before
  virtual std::int64_t raise(Counter counter, std::int64_t value) = 0;

  /// Ends all ranks at once; the last resort.
  virtual void abort(int status) = 0;

  std::function<void()> while_waiting;  ///< may be empty
};

/// How this process was started: what a launcher of ranks has left in the environment.
struct Launch {
  int size = 0;  ///< 0 where there was none
  int rank = 0;
};
Launch launch_of_environment();

/// The MPI that the program was built with, "Open MPI v4.1.4" say, or "" where there is none.
std::string mpi_library();

/// A process alone.
std::unique_ptr<Ranks> alone();

/// The ranks of this run, from the environment: of MPI where a launcher has started several, else a process alone. Once
/// in a process; the object is to live until its end.
/// @throws Error (several were started, and there is no MPI in this build, or it is not the launcher's)
std::unique_ptr<Ranks> started_ranks();

}  // namespace shrinkwarp
