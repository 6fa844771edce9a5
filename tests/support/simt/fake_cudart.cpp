// The host executor's CUDA runtime: one device whose memory is host memory, streams that are queues, graphs that are
// lists of calls. Allocations keep their exact size, so that AddressSanitizer sees what runs over; under it, device
// memory is also forbidden to the host between the device's calls, as it is with a real device.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "executor.hpp"

#include "sanitizers.hpp"

using shrinkwarp::simt::enqueue;
using shrinkwarp::simt::remember;
using shrinkwarp::simt::settings;

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> work;
  std::int64_t streams = 0;                                  // that are being captured into it
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;  // of the capture that makes it
  std::thread::id thread;                                    // which began that
};

struct CUgraphExec_st {
  std::vector<Work> work;
};

struct CUstream_st {
  bool blocking = true;  // waits for the legacy stream and the other way round
  std::deque<Work> queue;
  std::int64_t queued = 0;  // in all
  std::int64_t done = 0;
  std::shared_ptr<CUgraph_st> capture;  // null unless the stream is being captured
  bool began_capture = false;
};

struct CUevent_st {
  bool timing = true;
  CUstream_st* stream = nullptr;  // null: complete
  std::int64_t at = 0;            // done when the stream has done as many
  std::shared_ptr<CUgraph_st> capture;
  std::chrono::steady_clock::time_point time;
  bool stamped = false;
};

namespace {

constexpr std::size_t kSharedMemory = 48 * 1024;
constexpr int kMultiprocessors = 4;

struct Allocation {
  std::size_t bytes;
  bool device;  // else pinned host memory
};

// One device serves all host threads; what it runs, it runs under this lock.
std::recursive_mutex device_lock;
using Lock = std::lock_guard<std::recursive_mutex>;
std::map<std::uintptr_t, Allocation> allocations;
std::size_t device_bytes = 0;
std::set<CUstream_st*> streams;
std::set<CUevent_st*> events;
int running_depth = 0;
std::string failure;  // of a deferred kernel; the device is lost until it is forgotten
thread_local cudaError_t last_error = cudaSuccess;

const std::map<std::uintptr_t, Allocation>::value_type* find(const void* pointer, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return nullptr;
  --next;
  const std::size_t offset = address - next->first;
  return offset <= next->second.bytes && bytes <= next->second.bytes - offset ? &*next : nullptr;
}

bool is_device(const void* pointer, std::size_t bytes) {
  const auto* allocation = find(pointer, bytes);
  return allocation != nullptr && allocation->second.device;
}

bool is_pinned(const void* pointer, std::size_t bytes) {
  const auto* allocation = find(pointer, bytes);
  return allocation != nullptr && !allocation->second.device;
}

constexpr std::size_t kMaxGuarded = std::size_t(64) << 20;  // larger ones would make every call slow

void guard(std::uintptr_t address, std::size_t bytes, bool forbidden) {
  if (bytes > kMaxGuarded) return;
  void* memory = reinterpret_cast<void*>(address);
  forbidden ? shrinkwarp::simt::asan_poison(memory, bytes) : shrinkwarp::simt::asan_unpoison(memory, bytes);
}

/// Opens or closes all device memory to the host.
void guard_all(bool forbidden) {
  if (!shrinkwarp::simt::kAsan) return;
  for (const auto& [address, allocation] : allocations) {
    if (allocation.device) guard(address, allocation.bytes, forbidden);
  }
}

/// The device's memory is open while one of these lives.
struct DeviceAccess {
  DeviceAccess() {
    if (running_depth++ == 0) guard_all(false);
  }
  ~DeviceAccess() {
    if (--running_depth == 0) guard_all(true);
  }
};

void run(const Work& work) {
  DeviceAccess access;
  work();
}

/// Runs the stream's work until `count` of it is done. @throws KernelError
void advance(CUstream_st& stream, std::int64_t count) {
  while (stream.done < count && !stream.queue.empty()) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    ++stream.done;
    run(work);
  }
}

/// The same for what the host waits for: a kernel's failure becomes the device's.
cudaError_t await(CUstream_st& stream, std::int64_t count) {
  if (!failure.empty()) return remember(cudaErrorLaunchFailure);
  try {
    advance(stream, count);
  } catch (const shrinkwarp::simt::KernelError& error) {
    failure = error.what();
    return remember(cudaErrorLaunchFailure);
  }
  return cudaSuccess;
}

cudaError_t await_all(bool only_blocking) {
  for (CUstream_st* stream : streams) {
    if (only_blocking && !stream->blocking) continue;
    const cudaError_t status = await(*stream, stream->queued);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

bool is_legacy(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy;
}
bool is_stream(cudaStream_t stream) {
  return streams.count(stream) > 0;
}
bool is_event(cudaEvent_t event) {
  return events.count(event) > 0;
}

/// Whether a call that may wait or allocate is refused because a stream is being captured: globally by any thread, or by
/// this one and not relaxed.
bool capture_forbids() {
  return std::any_of(streams.begin(), streams.end(), [](const CUstream_st* stream) {
    if (stream->capture == nullptr) return false;
    if (stream->capture->mode == cudaStreamCaptureModeGlobal) return true;
    return stream->capture->mode == cudaStreamCaptureModeThreadLocal &&
           stream->capture->thread == std::this_thread::get_id();
  });
}

cudaError_t allocate(void** pointer, std::size_t bytes, bool device) {
  Lock lock(device_lock);
  if (pointer == nullptr) return remember(cudaErrorInvalidValue);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (!failure.empty()) return remember(cudaErrorLaunchFailure);
  if (device && (bytes > settings().device_memory || device_bytes > settings().device_memory - bytes)) {
    return remember(cudaErrorMemoryAllocation);
  }
  if (posix_memalign(pointer, 256, bytes) != 0) return remember(cudaErrorMemoryAllocation);
  shrinkwarp::simt::fill_poison(*pointer, bytes, settings().poison);
  const auto address = reinterpret_cast<std::uintptr_t>(*pointer);
  allocations[address] = {bytes, device};
  if (device) {
    device_bytes += bytes;
    if (running_depth == 0) guard(address, bytes, true);
  }
  return cudaSuccess;
}

cudaError_t release(void* pointer, bool device) {
  const auto allocation = allocations.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (allocation == allocations.end() || allocation->second.device != device) return remember(cudaErrorInvalidValue);
  if (device) {
    device_bytes -= allocation->second.bytes;
    guard(allocation->first, allocation->second.bytes, false);
  }
  allocations.erase(allocation);
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t copy(void* target, std::size_t target_pitch, const void* source, std::size_t source_pitch,
                 std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  Lock lock(device_lock);
  if (width == 0 || height == 0) return cudaSuccess;
  if (height > 1 && (target_pitch < width || source_pitch < width)) return remember(cudaErrorInvalidPitchValue);
  const std::size_t target_bytes = (height - 1) * target_pitch + width;
  const std::size_t source_bytes = (height - 1) * source_pitch + width;
  const bool to_device = is_device(target, target_bytes);
  const bool from_device = is_device(source, source_bytes);
  const auto wanted = [&](bool from, bool to) { return from == from_device && to == to_device; };
  const bool right = kind == cudaMemcpyDefault || (kind == cudaMemcpyHostToHost && wanted(false, false)) ||
                     (kind == cudaMemcpyHostToDevice && wanted(false, true)) ||
                     (kind == cudaMemcpyDeviceToHost && wanted(true, false)) ||
                     (kind == cudaMemcpyDeviceToDevice && wanted(true, true));
  // A pointer into device memory whose extent leaves the allocation is not taken for the host's.
  const bool stray = (!to_device && is_device(target, 1)) || (!from_device && is_device(source, 1));
  if (!right || stray) return remember(cudaErrorInvalidValue);

  const bool staged = !from_device && !is_pinned(source, source_bytes);
  const bool waits = !to_device && !is_pinned(target, target_bytes);
  const bool capturing = !is_legacy(stream) && is_stream(stream) && stream->capture != nullptr;
  std::vector<char> stage;
  if (staged && settings().deferred && !capturing) {  // the runtime reads pageable memory before it returns
    stage.resize(width * height);
    for (std::size_t i = 0; i < height; ++i) {
      std::memcpy(stage.data() + i * width, static_cast<const char*>(source) + i * source_pitch, width);
    }
  }
  const bool use_stage = !stage.empty();
  const cudaError_t status = enqueue(stream, [=, stage = std::move(stage)] {
    const char* from = use_stage ? stage.data() : static_cast<const char*>(source);
    const std::size_t from_pitch = use_stage ? width : source_pitch;
    for (std::size_t i = 0; i < height; ++i) {
      std::memmove(static_cast<char*>(target) + i * target_pitch, from + i * from_pitch, width);
    }
  });
  if (status != cudaSuccess || !waits || capturing) return status;
  return shrinkwarp::simt::drain(stream);
}

cudaError_t fill(void* target, std::size_t pitch, int value, std::size_t width, std::size_t height,
                 cudaStream_t stream) {
  Lock lock(device_lock);
  if (width == 0 || height == 0) return cudaSuccess;
  if (!is_device(target, (height - 1) * pitch + width)) return remember(cudaErrorInvalidValue);
  return enqueue(stream, [=] {
    for (std::size_t i = 0; i < height; ++i) std::memset(static_cast<char*>(target) + i * pitch, value, width);
  });
}

}  // namespace

namespace shrinkwarp::simt {

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

void forget_failure() {
  Lock lock(device_lock);
  for (CUstream_st* stream : streams) stream->queue.clear();
  failure.clear();
}

bool is_device_memory(const void* pointer, std::size_t bytes) {
  Lock lock(device_lock);
  return is_device(pointer, bytes);
}

cudaError_t enqueue(cudaStream_t stream, std::function<void()> work) {
  Lock lock(device_lock);
  if (!failure.empty()) return remember(cudaErrorLaunchFailure);
  if (is_legacy(stream)) {
    if (capture_forbids()) return remember(cudaErrorStreamCaptureImplicit);
    const cudaError_t status = await_all(true);
    if (status != cudaSuccess) return status;
    run(work);
    return cudaSuccess;
  }
  if (!is_stream(stream)) return remember(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) {
    stream->capture->work.push_back(std::move(work));
    return cudaSuccess;
  }
  stream->queue.push_back(std::move(work));
  ++stream->queued;
  if (!settings().deferred) advance(*stream, stream->queued);
  return cudaSuccess;
}

cudaError_t drain(cudaStream_t stream) {
  Lock lock(device_lock);
  if (is_legacy(stream)) return capture_forbids() ? remember(cudaErrorStreamCaptureUnsupported) : await_all(true);
  if (!is_stream(stream)) return remember(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  return await(*stream, stream->queued);
}

}  // namespace shrinkwarp::simt

// ---- errors ----

cudaError_t cudaGetLastError() {
  return std::exchange(last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  return last_error;
}

namespace {
struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
const ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorInvalidDevicePointer, "cudaErrorInvalidDevicePointer", "invalid device pointer"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "the capture was not initiated in this stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};
const ErrorText* describe(cudaError_t error) {
  for (const ErrorText& entry : kErrors) {
    if (entry.error == error) return &entry;
  }
  return nullptr;
}
}  // namespace

const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorLaunchFailure && !failure.empty()) return failure.c_str();
  const ErrorText* entry = describe(error);
  return entry != nullptr ? entry->text : "unrecognized error code";
}

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* entry = describe(error);
  return entry != nullptr ? entry->name : "unrecognized error code";
}

// ---- device ----

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : remember(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return remember(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "host executor");
  properties->totalGlobalMem = settings().device_memory;
  properties->sharedMemPerBlock = std::min(kSharedMemory, settings().shared_limit);
  properties->sharedMemPerBlockOptin = settings().shared_limit;
  properties->sharedMemPerMultiprocessor = settings().shared_limit + 1024;
  properties->reservedSharedMemPerBlock = 1024;
  properties->regsPerBlock = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  const int threads[] = {1024, 1024, 64};
  const int grid[] = {0x7fffffff, 65535, 65535};
  std::copy(threads, threads + 3, properties->maxThreadsDim);
  std::copy(grid, grid + 3, properties->maxGridSize);
  properties->major = 9;
  properties->minor = 0;
  properties->multiProcessorCount = kMultiprocessors;
  properties->l2CacheSize = 50 << 20;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->maxBlocksPerMultiProcessor = 32;
  properties->concurrentKernels = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  const std::string id = "0000:00:00.0";
  if (device != 0) return remember(cudaErrorInvalidDevice);
  if (text == nullptr || length <= static_cast<int>(id.size())) return remember(cudaErrorInvalidValue);
  std::strcpy(text, id.c_str());
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  const cudaError_t status = cudaGetDeviceProperties(&properties, device);
  if (status != cudaSuccess) return status;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxBlockDimX:
      *value = properties.maxThreadsDim[0];
      break;
    case cudaDevAttrMaxGridDimX:
      *value = properties.maxGridSize[0];
      break;
    case cudaDevAttrMaxGridDimY:
      *value = properties.maxGridSize[1];
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      break;
    case cudaDevAttrMaxRegistersPerBlock:
      *value = properties.regsPerBlock;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrSingleToDoublePrecisionPerfRatio:
      *value = 2;
      break;
    case cudaDevAttrCooperativeLaunch:
      *value = 0;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = properties.maxBlocksPerMultiProcessor;
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = static_cast<int>(properties.reservedSharedMemPerBlock);
      break;
    default:
      return remember(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Lock lock(device_lock);
  if (capture_forbids()) return remember(cudaErrorStreamCaptureUnsupported);
  return await_all(false);
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  Lock lock(device_lock);
  *total_bytes = settings().device_memory;
  *free_bytes = *total_bytes - std::min(*total_bytes, device_bytes);
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

// ---- streams ----

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  Lock lock(device_lock);
  *stream = new CUstream_st;
  (*stream)->blocking = flags != cudaStreamNonBlocking;
  streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock(device_lock);
  if (!is_stream(stream)) return remember(cudaErrorInvalidResourceHandle);
  if (stream->capture == nullptr) static_cast<void>(await(*stream, stream->queued));
  for (CUevent_st* event : events) {
    if (event->stream == stream) event->stream = nullptr;
  }
  streams.erase(stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return shrinkwarp::simt::drain(stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Lock lock(device_lock);
  if (is_legacy(stream)) return shrinkwarp::simt::drain(stream);
  if (!is_stream(stream)) return remember(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  if (!failure.empty()) return remember(cudaErrorLaunchFailure);
  if (stream->queue.empty()) return cudaSuccess;
  // So that a host that polls gets on.
  const cudaError_t status = await(*stream, stream->done + 1);
  return status != cudaSuccess ? status : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  Lock lock(device_lock);
  if (!is_event(event) || (!is_legacy(stream) && !is_stream(stream))) return remember(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) {  // the stream joins the capture; the order of the calls serves both
    if (is_legacy(stream)) return remember(cudaErrorStreamCaptureImplicit);
    if (stream->capture == nullptr) {
      stream->capture = event->capture;
    }
    return cudaSuccess;
  }
  if (event->stream == nullptr) return cudaSuccess;
  CUstream_st* other = event->stream;
  const std::int64_t at = event->at;
  return enqueue(stream, [other, at] {
    if (is_stream(other)) advance(*other, at);
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return enqueue(stream, [=] { function(data); });
}

// ---- events ----

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  Lock lock(device_lock);
  *event = new CUevent_st;
  (*event)->timing = (flags & cudaEventDisableTiming) == 0;
  events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Lock lock(device_lock);
  if (!is_event(event)) return remember(cudaErrorInvalidResourceHandle);
  events.erase(event);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Lock lock(device_lock);
  if (!is_event(event)) return remember(cudaErrorInvalidResourceHandle);
  event->capture = nullptr;
  event->stream = nullptr;
  event->stamped = false;
  const auto stamp = [event] {
    if (!is_event(event)) return;
    event->time = std::chrono::steady_clock::now();
    event->stamped = true;
  };
  const cudaError_t status = enqueue(stream, stamp);
  if (status != cudaSuccess || is_legacy(stream)) return status;
  if (stream->capture != nullptr) {
    event->capture = stream->capture;
  } else {
    event->stream = stream;
    event->at = stream->queued;
  }
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Lock lock(device_lock);
  if (!is_event(event)) return remember(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  return event->stream == nullptr ? cudaSuccess : await(*event->stream, event->at);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Lock lock(device_lock);
  if (!is_event(event)) return remember(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) return remember(cudaErrorStreamCaptureUnsupported);
  if (event->stream == nullptr || event->stream->done >= event->at) return cudaSuccess;
  const cudaError_t status = await(*event->stream, event->stream->done + 1);
  return status != cudaSuccess ? status : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  Lock lock(device_lock);
  if (!is_event(start) || !is_event(end)) return remember(cudaErrorInvalidResourceHandle);
  if (!start->timing || !end->timing) return remember(cudaErrorInvalidResourceHandle);
  if (!start->stamped || !end->stamped) return remember(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

// ---- graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Lock lock(device_lock);
  if (is_legacy(stream)) return remember(cudaErrorStreamCaptureUnsupported);
  if (!is_stream(stream)) return remember(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return remember(cudaErrorInvalidValue);
  stream->capture = std::make_shared<CUgraph_st>();
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  stream->began_capture = true;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Lock lock(device_lock);
  if (!is_stream(stream)) return remember(cudaErrorInvalidResourceHandle);
  *graph = nullptr;
  if (stream->capture == nullptr) return remember(cudaErrorInvalidValue);
  if (!stream->began_capture) return remember(cudaErrorStreamCaptureUnmatched);
  const std::shared_ptr<CUgraph_st> capture = stream->capture;
  stream->began_capture = false;
  for (CUstream_st* other : streams) {
    if (other->capture == capture) other->capture = nullptr;
  }
  for (CUevent_st* event : events) {
    if (event->capture == capture) event->capture = nullptr;
  }
  *graph = new CUgraph_st(*capture);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Lock lock(device_lock);
  const bool active = !is_legacy(stream) && is_stream(stream) && stream->capture != nullptr;
  *status = active ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (graph == nullptr || nodes != nullptr) return remember(cudaErrorInvalidValue);
  *count = graph->work.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return remember(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t) {
  return exec != nullptr ? cudaSuccess : remember(cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (exec == nullptr) return remember(cudaErrorInvalidValue);
  return enqueue(stream, [work = exec->work] {
    for (const Work& item : work) item();
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

// ---- memory ----

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  Lock lock(device_lock);
  if (capture_forbids()) return remember(cudaErrorStreamCaptureUnsupported);
  return allocate(pointer, bytes, true);
}

cudaError_t cudaFree(void* pointer) {
  Lock lock(device_lock);
  if (pointer == nullptr) return cudaSuccess;
  if (capture_forbids()) return remember(cudaErrorStreamCaptureUnsupported);
  const cudaError_t status = await_all(false);
  const cudaError_t released = release(pointer, true);
  return status != cudaSuccess ? status : released;
}

cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t stream) {
  Lock lock(device_lock);
  if (!is_legacy(stream) && is_stream(stream) && stream->capture != nullptr) return remember(cudaErrorNotSupported);
  return allocate(pointer, bytes, true);
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  Lock lock(device_lock);
  if (pointer == nullptr) return cudaSuccess;
  if (!is_legacy(stream) && is_stream(stream) && stream->capture != nullptr) return remember(cudaErrorNotSupported);
  if (allocations.count(reinterpret_cast<std::uintptr_t>(pointer)) == 0) return remember(cudaErrorInvalidValue);
  return enqueue(stream, [pointer] { static_cast<void>(release(pointer, true)); });
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  return allocate(pointer, bytes, false);
}
cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned int) {
  return allocate(pointer, bytes, false);
}

cudaError_t cudaFreeHost(void* pointer) {
  Lock lock(device_lock);
  if (pointer == nullptr) return cudaSuccess;
  const cudaError_t status = await_all(false);
  const cudaError_t released = release(pointer, false);
  return status != cudaSuccess ? status : released;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  Lock lock(device_lock);
  const auto* allocation = find(pointer, 1);
  void* address = const_cast<void*>(pointer);
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, address};
  if (allocation == nullptr) return cudaSuccess;
  attributes->device = 0;
  attributes->devicePointer = address;
  attributes->type = allocation->second.device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
  if (allocation->second.device) attributes->hostPointer = nullptr;
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind) {
  return copy(target, bytes, source, bytes, bytes, 1, kind, nullptr);
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy(target, bytes, source, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy2D(void* target, std::size_t target_pitch, const void* source, std::size_t source_pitch,
                         std::size_t width, std::size_t height, cudaMemcpyKind kind) {
  return copy(target, target_pitch, source, source_pitch, width, height, kind, nullptr);
}

cudaError_t cudaMemcpy2DAsync(void* target, std::size_t target_pitch, const void* source, std::size_t source_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy(target, target_pitch, source, source_pitch, width, height, kind, stream);
}

cudaError_t cudaMemset(void* target, int value, std::size_t bytes) {
  return fill(target, bytes, value, bytes, 1, nullptr);
}

cudaError_t cudaMemsetAsync(void* target, int value, std::size_t bytes, cudaStream_t stream) {
  return fill(target, bytes, value, bytes, 1, stream);
}

cudaError_t cudaMemset2DAsync(void* target, std::size_t pitch, int value, std::size_t width, std::size_t height,
                              cudaStream_t stream) {
  return fill(target, pitch, value, width, height, stream);
}

// ---- functions ----

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  const bool fits = value >= 0 && static_cast<std::size_t>(value) <= settings().shared_limit;
  return fits ? cudaSuccess : remember(cudaErrorInvalidValue);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(kSharedMemory);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int block_size,
                                                          std::size_t dynamic_shared_bytes) {
  if (block_size < 1 || block_size > 1024) return remember(cudaErrorInvalidValue);
  const auto by_memory = static_cast<int>((settings().shared_limit + 1024) / (dynamic_shared_bytes + 1024));
  *blocks = std::min({32, 2048 / block_size, by_memory});
  return cudaSuccess;
}
