#include <shrinkwarp/runtime/cuda_device.hpp>

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <shrinkwarp/runtime/cuda_check.hpp>

namespace shrinkwarp::cuda {

int device_count(std::string* reason) noexcept {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  cudaGetLastError();  // clears the error, so that later checks do not report it again
  if (reason) {
    *reason = status == cudaSuccess || status == cudaErrorNoDevice
                  ? "the CUDA driver finds no device"
                  : concat("the CUDA driver is missing or too old (", cudaGetErrorString(status), ")");
  }
  return 0;
}

int current_device() {
  int index = 0;
  SHRINKWARP_CUDA_CHECK(cudaGetDevice(&index));
  return index;
}

void set_device(int index) {
  SHRINKWARP_CUDA_CHECK(cudaSetDevice(index));
}

std::string device_name(int index) {
  cudaDeviceProp properties{};
  SHRINKWARP_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
  return properties.name;
}

int multiprocessors(int index) {
  int count = 0;
  SHRINKWARP_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index));
  return count;
}

std::int64_t block_memory(int index) {
  int bytes = 0;
  SHRINKWARP_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index));
  return bytes;
}

CudaStream create_stream() {
  cudaStream_t stream = nullptr;
  SHRINKWARP_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

void destroy_stream(CudaStream stream) noexcept {
  cudaStreamDestroy(stream);
}

void synchronize(CudaStream stream) {
  SHRINKWARP_CUDA_CHECK(cudaStreamSynchronize(stream));
}

CudaEvent create_event() {
  cudaEvent_t event = nullptr;
  SHRINKWARP_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

void destroy_event(CudaEvent event) noexcept {
  cudaEventDestroy(event);
}

void record_event(CudaEvent event, CudaStream stream) {
  SHRINKWARP_CUDA_CHECK(cudaEventRecord(event, stream));
}

void await_event(CudaStream stream, CudaEvent event) {
  SHRINKWARP_CUDA_CHECK(cudaStreamWaitEvent(stream, event, 0));
}

void synchronize(CudaEvent event) {
  SHRINKWARP_CUDA_CHECK(cudaEventSynchronize(event));
}

void* record_graph(CudaStream stream, FunctionRef<void()> body) {
  SHRINKWARP_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  cudaGraph_t graph = nullptr;
  try {
    body();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    cudaGetLastError();
    if (graph) cudaGraphDestroy(graph);
    throw;
  }
  SHRINKWARP_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  SHRINKWARP_CUDA_CHECK(status);
  return executable;
}

void launch_graph(void* graph, CudaStream stream) {
  SHRINKWARP_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream));
}

void destroy_graph(void* graph) noexcept {
  cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

CublasHandle create_cublas(CudaStream stream) {
  cublasHandle_t handle = nullptr;
  const cublasStatus_t created = cublasCreate(&handle);
  SHRINKWARP_REQUIRE(created == CUBLAS_STATUS_SUCCESS, CublasError,
                     "cublasCreate failed: ", cublasGetStatusString(created));
  const cublasStatus_t bound = cublasSetStream(handle, stream);
  if (bound != CUBLAS_STATUS_SUCCESS) {
    cublasDestroy(handle);
    SHRINKWARP_THROW(CublasError, "cublasSetStream failed: ", cublasGetStatusString(bound));
  }
  return handle;
}

void destroy_cublas(CublasHandle handle) noexcept {
  cublasDestroy(handle);
}

void* allocate(std::size_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  SHRINKWARP_CUDA_CHECK(status);
  return pointer;
}

void deallocate(void* pointer) noexcept {
  cudaFree(pointer);
}

void* allocate_host(std::size_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaMallocHost(&pointer, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  SHRINKWARP_CUDA_CHECK(status);
  return pointer;
}

void deallocate_host(void* pointer) noexcept {
  cudaFreeHost(pointer);
}

void copy_2d(void* target, std::size_t target_pitch, const void* source, std::size_t source_pitch, std::size_t bytes,
             std::size_t count, CudaStream stream) {
  // A single piece, or pieces without gaps, is a plain copy: pitches are limited to 2 GiB and plain copies are not.
  if (count == 1 || (target_pitch == bytes && source_pitch == bytes)) {
    SHRINKWARP_CUDA_CHECK(cudaMemcpyAsync(target, source, bytes * count, cudaMemcpyDefault, stream));
  } else {
    SHRINKWARP_CUDA_CHECK(
        cudaMemcpy2DAsync(target, target_pitch, source, source_pitch, bytes, count, cudaMemcpyDefault, stream));
  }
}

void zero(void* target, std::size_t bytes, CudaStream stream) {
  SHRINKWARP_CUDA_CHECK(cudaMemsetAsync(target, 0, bytes, stream));
}

}  // namespace shrinkwarp::cuda
