// A Context says where work runs: the CPU with its threads, or one CUDA device with one stream. One per host thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/view.hpp>

struct CUstream_st;
struct cublasContext;

namespace shrinkwarp {

/// The same type as cudaStream_t, named here so that this header needs no CUDA.
using CudaStream = CUstream_st*;
/// The same type as cublasHandle_t.
using CublasHandle = cublasContext*;

/// Where work runs. Move-only; used by one host thread at a time. Calls leave the device of a CUDA context current. Work
/// on CUDA is queued on `stream()` and returns before it has run.
class Context {
 public:
  /// The CPU with `threads` threads; 0 means every processor this process may run on.
  /// @throws ValueError (threads < 0), Error (the system gives no more threads)
  static Context cpu(int threads = 0);
  /// CUDA device `index` with a stream of its own.
  /// @throws BackendUnavailable (no CUDA in this build, no driver, no such device), CudaError
  static Context cuda(int index = 0);
  /// The current CUDA device with the caller's stream, which must outlive the context. The legacy default stream
  /// (nullptr) works, but nothing is recorded on it as a graph.
  /// @throws BackendUnavailable, CudaError
  static Context cuda_on(CudaStream stream);
  /// The first CUDA device when there is one, else the CPU with every processor.
  static Context best();
  /// By name: "auto" as best(), "cpu", "cuda" or "cuda:1". @param threads  of the CPU
  /// @throws ValueError (another name: says which there are), BackendUnavailable, CudaError
  static Context named(const std::string& device, int threads = 0);
  /// Whether a name is one of those; there may be no such device.
  static bool is_name(const std::string& device) noexcept;

  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;
  ~Context();

  Device device() const noexcept;
  bool is_cuda() const noexcept { return device().type == DeviceType::cuda; }
  /// is_cuda(), and where it is, makes this context's device current for the calling thread: what every entry point asks
  /// before it queues work, so that contexts of several devices can be used in turn and from any thread. @throws CudaError
  bool select_cuda() const;
  /// A human's name of the device, with the number of threads or multiprocessors.
  std::string description() const;

  /// The stream on CUDA; nullptr on the CPU.
  CudaStream stream() const noexcept;
  /// The cuBLAS handle bound to `stream()`, made at the first call. @throws CublasError, BackendUnavailable (CPU)
  CublasHandle cublas() const;
  /// Streaming multiprocessors of a CUDA device; 0 on the CPU.
  int multiprocessors() const noexcept;
  /// Bytes of shared memory that one block of a CUDA device may have; 0 on the CPU.
  std::int64_t block_memory() const noexcept;

  /// Threads that `parallel_for` uses on the CPU (1 on CUDA).
  int threads() const noexcept;
  /// Runs `body(i, worker)` for i in [0, count), worker in [0, threads()); returns when all have run. The order and
  /// the assignment to workers are not fixed, so results must not depend on them. Not reentrant. An exception thrown
  /// by a body is rethrown here after the others have ended.
  void parallel_for(std::int64_t count, FunctionRef<void(std::int64_t, int)> body) const;

  /// Waits until everything queued has run (nothing to wait for on the CPU). @throws CudaError
  void synchronize() const;

  /// Raw memory on this device, aligned to 256 bytes, not cleared. @throws OutOfMemory, ValueError (bytes < 0)
  void* allocate(std::int64_t bytes) const;
  /// Gives back what a context of that device allocated; nullptr is ignored.
  static void deallocate(Device device, void* pointer) noexcept;
  /// Copies bytes between any two of CPU and this device, ordered on the stream. From or to pageable host memory the
  /// call may block; the source must stay unchanged until the copy has run. @throws CudaError
  void copy_bytes(void* target, Device target_device, const void* source, Device source_device,
                  std::int64_t bytes) const;
  /// The same for `count` pieces of `bytes` bytes, `target_pitch` and `source_pitch` bytes apart.
  void copy_bytes_2d(void* target, Device target_device, std::int64_t target_pitch, const void* source,
                     Device source_device, std::int64_t source_pitch, std::int64_t bytes, std::int64_t count) const;
  /// Sets bytes to zero, ordered on the stream.
  void zero_bytes(void* target, std::int64_t bytes) const;

 private:
  struct Impl;
  explicit Context(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// What the system calls the processor, or "CPU".
std::string processor_name();
/// Number of usable CUDA devices: 0 without CUDA in the build, without a driver or without a device.
int cuda_device_count() noexcept;
/// Why `cuda_device_count()` is 0, or "" when it is not: one line for a person.
std::string cuda_unavailable_reason();

/// Puts the calling thread's CUDA device back, which contexts change, for callers who have one of their own. Nothing without CUDA. A
/// device that is put back is initialised: where only another one is wanted, it is best made current before.
class CurrentDevice {
 public:
  CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  ~CurrentDevice();

 private:
  int index_ = -1;
};

}  // namespace shrinkwarp
