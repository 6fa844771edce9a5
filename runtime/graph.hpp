// Work on a CUDA stream that is recorded once and queued again with a single call.
#pragma once

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>

namespace shrinkwarp {

/// A recorded sequence of work on a CUDA stream. Move-only; an empty graph holds nothing. The memory that the work
/// touches must stay where it is as long as the graph is launched.
class Graph {
 public:
  /// Whether work on this context can be recorded: on CUDA, on any stream but the legacy default stream.
  static bool can_record(const Context& context);

  Graph() = default;
  /// Records what `body` queues on the context's stream; nothing of it runs. The body may call everything whose header
  /// says 'capturable yes', and must not wait for the stream.
  /// @throws BackendUnavailable (unless can_record), CudaError, whatever the body throws
  Graph(const Context& context, FunctionRef<void()> body);
  Graph(Graph&& other) noexcept;
  Graph& operator=(Graph&& other) noexcept;
  ~Graph();

  bool empty() const { return handle_ == nullptr; }
  /// Queues the recorded work on the context's stream, which may be another one of the same device.
  /// Allocates no, synchronises no. @throws ValueError (empty), CudaError
  void launch(const Context& context) const;

 private:
  void* handle_ = nullptr;  // cudaGraphExec_t
};

}  // namespace shrinkwarp
