#include <shrinkwarp/runtime/graph.hpp>

#include <cstdint>
#include <utility>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/runtime/cuda_device.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

bool Graph::can_record(const Context& context) {
  // The legacy default stream goes by two names: null, and 1, which the CUDA headers call cudaStreamLegacy.
  const auto stream = reinterpret_cast<std::uintptr_t>(context.stream());
  return context.is_cuda() && stream != 0 && stream != 1;
}

Graph::Graph(const Context& context, [[maybe_unused]] FunctionRef<void()> body) {
  SHRINKWARP_REQUIRE(can_record(context), BackendUnavailable, "Graph: the context is on ", context.device(),
                     context.is_cuda() ? " with the legacy default stream" : "",
                     ", wanted a CUDA device and a stream of one's own");
  if constexpr (kHasCuda) {
    context.select_cuda();
    handle_ = cuda::record_graph(context.stream(), body);
  }
}

Graph::Graph(Graph&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

Graph& Graph::operator=(Graph&& other) noexcept {
  Graph moved(std::move(other));
  std::swap(handle_, moved.handle_);
  return *this;
}

Graph::~Graph() {
  if constexpr (kHasCuda) {
    if (handle_) cuda::destroy_graph(handle_);
  }
}

void Graph::launch([[maybe_unused]] const Context& context) const {
  SHRINKWARP_REQUIRE(!empty(), ValueError, "Graph::launch: the graph is empty, wanted one with recorded work");
  if constexpr (kHasCuda) {
    context.select_cuda();
    cuda::launch_graph(handle_, context.stream());
  }
}

}  // namespace shrinkwarp
