// What Context needs of the CUDA runtime. Implemented in cuda_device.cpp, which is part of CUDA builds only; callers
// stand under `if constexpr (kHasCuda)`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/event.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>

namespace shrinkwarp::cuda {

/// 0 when there is no driver or no device; `reason` then says which.
int device_count(std::string* reason) noexcept;
int current_device();
void set_device(int index);
std::string device_name(int index);
int multiprocessors(int index);
/// Bytes of shared memory that a block may ask for.
std::int64_t block_memory(int index);

CudaStream create_stream();
void destroy_stream(CudaStream stream) noexcept;
void synchronize(CudaStream stream);

/// Without a time stamp.
CudaEvent create_event();
void destroy_event(CudaEvent event) noexcept;
void record_event(CudaEvent event, CudaStream stream);
/// What the stream gets from now on runs after the event; the host goes on.
void await_event(CudaStream stream, CudaEvent event);
/// The host waits.
void synchronize(CudaEvent event);

/// An executable graph of what `body` queues on the stream, which is not run. When the body throws nothing is left over.
void* record_graph(CudaStream stream, FunctionRef<void()> body);
void launch_graph(void* graph, CudaStream stream);
void destroy_graph(void* graph) noexcept;

CublasHandle create_cublas(CudaStream stream);
void destroy_cublas(CublasHandle handle) noexcept;

/// nullptr when the device has not that much memory left.
void* allocate(std::size_t bytes);
void deallocate(void* pointer) noexcept;
/// Page-locked host memory, nullptr when there is none left.
void* allocate_host(std::size_t bytes);
void deallocate_host(void* pointer) noexcept;
void copy_2d(void* target, std::size_t target_pitch, const void* source, std::size_t source_pitch, std::size_t bytes,
             std::size_t count, CudaStream stream);
void zero(void* target, std::size_t bytes, CudaStream stream);

}  // namespace shrinkwarp::cuda
