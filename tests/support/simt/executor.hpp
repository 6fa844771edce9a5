// The host executor: runs CUDA kernels, compiled by the host compiler, on the CPU and refuses what a device would leave
// undefined. Every CUDA thread that waits gets a fiber of its own; blocks run one after another. This header is plain
// C++: tests include it to choose an order, to bound the device and to catch KernelError; simt.hpp and the stand-in
// headers build on the second half.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

namespace shrinkwarp::simt {

/// A kernel broke a rule of the CUDA programming model (a barrier that not every thread reaches, a mask with an exited
/// lane, ...). Names the threads and the source lines. Thrown by `launch`, or by the call that waits when deferred.
class KernelError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// In which order the threads of a block that may run do run, and the blocks of a grid.
enum class Order { forward, reverse, shuffled };
/// What uninitialised shared and device memory holds: NaN in every floating type, or 1e30 as float.
enum class Poison { nan, huge };

struct Settings {
  Order order = Order::forward;
  std::uint64_t seed = 1;  ///< of Order::shuffled
  Poison poison = Poison::nan;
  std::size_t shared_limit = 227 * 1024;  ///< bytes a block: 227 KiB on sm_90 and sm_100, 163 on sm_80, 99 on sm_120
  std::size_t device_memory = std::size_t(8) << 30;  ///< bytes that cudaMalloc gives out in all
  std::int64_t spin_limit = 50'000'000;  ///< atomics in one thread between two waits before it counts as spinning
  /// Work on a stream runs only when something waits for it, so a missing wait shows. A KernelError then comes out as
  /// cudaErrorLaunchFailure, its text as cudaGetErrorString, until the settings change.
  bool deferred = false;
};

/// The settings in force, one set for the process: the defaults, or those of all_settings() that the environment variable
/// SHRINKWARP_SIMT names, as "reverse,huge" or "shuffled2,nan"; another name ends the process.
const Settings& settings();

/// Puts settings in force until its end. To be made and ended while no work is pending on any other host thread.
class ScopedSettings {
 public:
  explicit ScopedSettings(const Settings& settings);
  ~ScopedSettings();
  ScopedSettings(const ScopedSettings&) = delete;
  ScopedSettings& operator=(const ScopedSettings&) = delete;

 private:
  Settings previous_;
};

/// Forward, reverse and three shuffles, each with both poisons: what a kernel's result must not depend on. Under
/// ThreadSanitizer only two of them.
std::vector<Settings> all_settings();
/// One line that names order, seed, poison and what else is not usual: "shuffled2,nan", for SCOPED_TRACE.
std::string describe(const Settings& settings);

/// What this host thread's kernels cost so far.
struct Counters {
  std::int64_t launches = 0;
  std::int64_t blocks = 0;
  std::int64_t threads = 0;
  std::int64_t switches = 0;  ///< between fibers
};
Counters counters();

// ---- for the stand-ins ----

/// Runs `work` in the order of `stream`: now, at the next wait (Settings::deferred) or at each launch of the graph that
/// the stream is being captured into.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);
/// Runs everything queued on the stream; an error when the stream is being captured.
cudaError_t drain(cudaStream_t stream);
/// Remembers `error` for cudaGetLastError and returns it.
cudaError_t remember(cudaError_t error);
/// Ends the state in which a deferred KernelError has left the device.
void forget_failure();
/// Whether all `bytes` at `pointer` lie in one live allocation of cudaMalloc.
bool is_device_memory(const void* pointer, std::size_t bytes);
/// Fills with a poison's pattern.
void fill_poison(void* target, std::size_t bytes, Poison poison);

/// Checks a launch as the driver does and enqueues it; `thread` is called once for every CUDA thread.
cudaError_t launch_threads(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                           std::function<void()> thread);

template <class... Params, class... Args>
cudaError_t launch_kernel(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
                          cudaStream_t stream, Args&&... args) {
  return launch_threads(grid, block, shared_bytes, stream,
                        [kernel, params = std::tuple<std::decay_t<Params>...>(static_cast<Params>(args)...)] {
                          std::apply(kernel, params);
                        });
}

// ---- inside a kernel ----

/// Where in the kernel a thread waits.
struct Site {
  const char* file;
  int line;
};

/// Ends the running kernel; its launch throws KernelError(message, with the running thread named).
[[noreturn]] void fail(const char* message);

enum class BarrierOp { none, any, all, count };
/// __syncthreads and its voting kin.
int block_barrier(BarrierOp op, int value, Site site);

/// Runs for a whole warp once its last lane has come: lane l's pointers are in[l] and out[l], for the lanes of `mask`.
using WarpFunction = void (*)(const void* const* in, void* const* out, unsigned mask);
/// Waits for the lanes of `mask`, which must all come from `site`; the last one runs `function`.
void warp_collective(unsigned mask, const void* in, void* out, WarpFunction function, Site site);

enum class Shuffle { index, up, down, exclusive_or };
std::uint64_t warp_shuffle(unsigned mask, std::uint64_t value, Shuffle kind, int operand, int width, Site site);
/// The lanes of `mask` whose predicate holds.
unsigned warp_ballot(unsigned mask, bool predicate, Site site);
/// __syncwarp.
void warp_barrier(unsigned mask, Site site);
/// The lane of the running thread in its warp.
int lane();

/// The block's array for the declaration that `key` stands for; poisoned when the first thread of the block asks.
void* shared_memory(const void* key, std::size_t bytes);
/// The block's dynamic shared memory, aligned to 16 bytes (and no better).
void* dynamic_shared_memory();

template <class Array>
Array& shared_array(const void* key) {
  static_assert(std::is_trivially_default_constructible_v<Array>, "shared memory runs no constructors");
  static_assert(alignof(Array) <= 16, "shared arrays are aligned to 16 bytes");
  return *static_cast<Array*>(shared_memory(key, sizeof(Array)));
}

/// Counts an atomic towards Settings::spin_limit.
void count_atomic();
/// __threadfence.
void fence();

/// One cp.async of the running thread whose bytes have not been written yet.
struct AsyncCopy {
  std::uint32_t* target;
  int words;
  std::int32_t group;
  std::uint32_t data[4];
};
/// Checks target and source of a cp.async of `words` 4-byte words.
void check_async(const void* target, const void* source, int words);
void push_async(std::uint32_t* target, int words, std::uint32_t w0, std::uint32_t w1, std::uint32_t w2,
                std::uint32_t w3);
void commit_async();
/// The oldest copy that is due when all but the `groups` youngest committed groups must be complete; then null.
const AsyncCopy* pop_async(int groups);

}  // namespace shrinkwarp::simt
