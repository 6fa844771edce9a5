// Points in the work of one context that another one, or the host, waits for.
#pragma once

#include <shrinkwarp/runtime/context.hpp>

struct CUevent_st;

namespace shrinkwarp {

/// The same type as cudaEvent_t, named here so that this header needs no CUDA.
using CudaEvent = CUevent_st*;

/// A point in the work that is queued on a context. On CUDA it orders streams of one device; on the CPU, where work has run
/// when its call returns, everything here does nothing. Move-only.
///
/// Recording and waiting allocate nothing; neither may be part of what is recorded as a graph.
class Event {
 public:
  /// Of contexts on this context's device. Nothing is recorded: what waits for it goes on at once. @throws CudaError
  explicit Event(const Context& context);
  Event(Event&& other) noexcept;
  Event& operator=(Event&& other) noexcept;
  ~Event();

  /// From now on the event is the end of all that is queued on the context so far. Those who wait for what it was before
  /// still wait for that. Synchronises no. @throws DeviceError (a context of another device), CudaError
  void record(const Context& context);
  /// What is queued on the context from now on runs after the event. Synchronises no.
  /// @throws DeviceError (a context of another device), CudaError
  void wait(const Context& context) const;
  /// The host waits for the event. @throws CudaError, also one of the work before it
  void synchronize() const;

 private:
  Device device_;
  CudaEvent handle_ = nullptr;  // null on the CPU and where moved from
};

}  // namespace shrinkwarp
