// What a contract means by "on the context's stream" and "capturable yes": tests of both for the operations of a family.
//
//   struct QueuedProx {
//     explicit QueuedProx(const Context& context);    // makes what is read and written
//     void queue();                                   // the operations
//     std::vector<unsigned char> written() const;     // bits_of(context, ...) all that they write
//   };
//   class ProxQueued : public testing::OnContext {};
//   SHRINKWARP_ON_CUDA(ProxQueued);
//   TEST_P(ProxQueued, RunsOnABorrowedStreamAndInAGraph) { testing::check_queued<QueuedProx>(); }
#pragma once

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/graph.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/support/contexts.hpp"

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

/// Queues the operations twice on a stream of the context's own, on one that the context borrows, and as a graph that was
/// recorded there: the same bits each time. While they are recorded nothing may run.
template <class Operations>
void check_queued() {
  const Context own = Context::cuda();
  Operations expected(own);
  const std::vector<unsigned char> before = expected.written();
  expected.queue();
  expected.queue();
  const std::vector<unsigned char> twice = expected.written();
  ASSERT_NE(twice, before) << "the operations write nothing";

  const Context lender = Context::cuda();
  const Context borrowed = Context::cuda_on(lender.stream());
  Operations direct(borrowed);
  direct.queue();
  direct.queue();
  EXPECT_EQ(direct.written(), twice) << "on a borrowed stream";

  Operations recorded(borrowed);
  borrowed.synchronize();
  const Graph graph(borrowed, [&] { recorded.queue(); });
  EXPECT_EQ(recorded.written(), before) << "something ran while it was recorded";
  graph.launch(borrowed);
  graph.launch(borrowed);
  EXPECT_EQ(recorded.written(), twice) << "as a graph";
}

}  // namespace shrinkwarp::testing
