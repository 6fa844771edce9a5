// What a contract means by "on the context's stream" and "capturable yes": tests of both for the operations of a family.
//
//   struct QueuedProx {
//     explicit QueuedProx(const Context& context);    // makes what is read and written
//     void queue();                                   // the operations
//     std::vector<unsigned char> written() const;     // bits_of(context, ...) all that they write
//   };
//   class ProxQueued : public testing::OnContext {};
//   SHRINKWARP_ON_CUDA(ProxQueued);
//   TEST_P(ProxQueued, RunsOnTheCallersStreamAndInAGraph) { testing::check_queued<QueuedProx>(); }
#pragma once

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/support/contexts.hpp"

#ifdef SHRINKWARP_TESTS_WITH_CUDA
#include <cuda_runtime.h>

#include <shrinkwarp/runtime/cuda_check.hpp>
#endif

namespace shrinkwarp::testing {

/// rows x cols numbers in [-1, 1] with 8 bits each, on the context's device; another `seed` gives others.
template <class T>
Tensor<T> numbers(const Context& context, std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
  std::vector<T> values(static_cast<std::size_t>(rows * cols));
  std::uint32_t state = 7919u * (seed + 1);
  for (T& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<T>((static_cast<double>(state >> 24) - 127.5) / 128);
  }
  return to_device(context, values, rows, cols);
}

/// The bits of the tensors, after what is queued has run.
template <class... T>
std::vector<unsigned char> bits_of(const Context& context, const Tensor<T>&... tensors) {
  std::vector<unsigned char> all;
  const auto add = [&](const auto& tensor) {
    const auto values = to_host(context, tensor);
    const auto* first = reinterpret_cast<const unsigned char*>(values.data());
    all.insert(all.end(), first, first + tensor.bytes());
  };
  (add(tensors), ...);
  return all;
}

#ifdef SHRINKWARP_TESTS_WITH_CUDA

/// A stream of the caller's, which waits for no other.
class CallersStream {
 public:
  CallersStream() { SHRINKWARP_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~CallersStream() { static_cast<void>(cudaStreamDestroy(stream_)); }
  CallersStream(const CallersStream&) = delete;
  CallersStream& operator=(const CallersStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Queues the operations twice on a stream of the library's, on one of the caller's, and as a graph that was captured
/// there: the same bits each time. While they are captured nothing may run.
template <class Operations>
void check_queued() {
  const Context own = Context::cuda();
  Operations expected(own);
  const std::vector<unsigned char> before = expected.written();
  expected.queue();
  expected.queue();
  const std::vector<unsigned char> twice = expected.written();
  ASSERT_NE(twice, before) << "the operations write nothing";

  const CallersStream stream;
  const Context borrowed = Context::cuda_on(stream.get());
  Operations direct(borrowed);
  direct.queue();
  direct.queue();
  EXPECT_EQ(direct.written(), twice) << "on the caller's stream";

  Operations captured(borrowed);
  borrowed.synchronize();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  SHRINKWARP_CUDA_CHECK(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  captured.queue();
  SHRINKWARP_CUDA_CHECK(cudaStreamEndCapture(stream.get(), &graph));
  EXPECT_EQ(captured.written(), before) << "something ran while it was captured";
  SHRINKWARP_CUDA_CHECK(cudaGraphInstantiate(&exec, graph, 0));
  SHRINKWARP_CUDA_CHECK(cudaGraphLaunch(exec, stream.get()));
  SHRINKWARP_CUDA_CHECK(cudaGraphLaunch(exec, stream.get()));
  EXPECT_EQ(captured.written(), twice) << "as a graph";
  SHRINKWARP_CUDA_CHECK(cudaGraphExecDestroy(exec));
  SHRINKWARP_CUDA_CHECK(cudaGraphDestroy(graph));
}

#else

template <class Operations>
void check_queued() {
  FAIL() << "these tests are built without CUDA";
}

#endif

}  // namespace shrinkwarp::testing
