// What another library of the process, PyTorch or CuPy, does on the host executor's device: its memory, its streams and its
// capsules, for cuda_arrays.py, which calls this by ctypes. Returns of int are 0, or CUDA's error.
#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include <cuda_runtime.h>

#include <shrinkwarp/runtime/dlpack_abi.hpp>

#include "executor.hpp"

#define SHRINKWARP_FOR_CTYPES extern "C" __attribute__((visibility("default")))

namespace {

std::optional<shrinkwarp::simt::ScopedSettings> scoped;

/// Gives back the tensor of a capsule that nobody took. An error of Python's that is on its way stays.
template <class Managed>
void forget(PyObject* capsule, const char* name) {
  auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  managed->deleter(managed);
  PyErr_Restore(type, value, traceback);
}

void forget_if_not_taken(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, "dltensor")) forget<DLManagedTensor>(capsule, "dltensor");
  if (PyCapsule_IsValid(capsule, "dltensor_versioned")) forget<DLManagedTensorVersioned>(capsule, "dltensor_versioned");
}

}  // namespace

/// A capsule of a managed tensor, whose deleter is set. To be called with the interpreter's lock.
SHRINKWARP_FOR_CTYPES PyObject* others_capsule(void* managed, int versioned) {
  return PyCapsule_New(managed, versioned != 0 ? "dltensor_versioned" : "dltensor", forget_if_not_taken);
}

SHRINKWARP_FOR_CTYPES void* others_allocate(std::size_t bytes) {
  void* pointer = nullptr;
  return cudaMalloc(&pointer, bytes) == cudaSuccess ? pointer : nullptr;
}

SHRINKWARP_FOR_CTYPES int others_free(void* pointer) {
  return cudaFree(pointer);
}

/// Queues a copy on a stream, null for the legacy one.
SHRINKWARP_FOR_CTYPES int others_copy(void* target, const void* source, std::size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(target, source, bytes, cudaMemcpyDefault, stream);
}

/// Bytes of device memory that are in use, of anybody.
SHRINKWARP_FOR_CTYPES std::size_t others_used() {
  std::size_t free = 0, total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess ? total - free : 0;
}

SHRINKWARP_FOR_CTYPES cudaStream_t others_make_stream() {
  cudaStream_t stream = nullptr;
  return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess ? stream : nullptr;
}

SHRINKWARP_FOR_CTYPES int others_destroy_stream(cudaStream_t stream) {
  return cudaStreamDestroy(stream);
}

SHRINKWARP_FOR_CTYPES int others_wait(cudaStream_t stream) {
  return cudaStreamSynchronize(stream);
}

/// What is queued on `second` from now on runs after what is queued on `first`; an error where one of them is no stream.
SHRINKWARP_FOR_CTYPES int others_order(cudaStream_t first, cudaStream_t second) {
  cudaEvent_t event = nullptr;
  cudaError_t status = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  if (status == cudaSuccess) status = cudaEventRecord(event, first);
  if (status == cudaSuccess) status = cudaStreamWaitEvent(second, event, 0);
  cudaEventDestroy(event);
  cudaGetLastError();  // clears the error, which was this library's
  return status;
}

/// Whether work on streams runs as late as waits allow from here on, and how many bytes the device has in all, 0 for the
/// usual. To be asked while no work is pending.
SHRINKWARP_FOR_CTYPES void others_set(int late, std::size_t device_memory) {
  scoped.reset();
  if (late == 0 && device_memory == 0) return;
  shrinkwarp::simt::Settings settings = shrinkwarp::simt::settings();
  settings.deferred = late != 0;
  if (device_memory != 0) settings.device_memory = device_memory;
  scoped.emplace(settings);
}
