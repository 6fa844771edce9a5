// That a prepared solver, and a set of groups, allocate nothing while they solve. The linker leads every posix_memalign and cudaMalloc of the
// library, in one of which each Context::allocate ends, through the counters here, and operator new is replaced: hence
// a program of its own.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/group_set/group_set.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/prepared_lasso.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/support/contexts.hpp"

namespace {
std::atomic<std::int64_t> from_context{0};
std::atomic<std::int64_t> from_new{0};
}  // namespace

extern "C" {
int __real_posix_memalign(void** pointer, std::size_t alignment, std::size_t bytes);
int __wrap_posix_memalign(void** pointer, std::size_t alignment, std::size_t bytes) {
  ++from_context;
  return __real_posix_memalign(pointer, alignment, bytes);
}
int __real_cudaMalloc(void** pointer, std::size_t bytes) __attribute__((weak));
int __wrap_cudaMalloc(void** pointer, std::size_t bytes) {
  ++from_context;
  return __real_cudaMalloc(pointer, bytes);
}
}

// Out of line, or the compiler takes the pairs apart and warns that they do not match.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++from_new;
  if (void* pointer = std::malloc(bytes > 0 ? bytes : 1)) return pointer;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new[](std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  ++from_new;
  void* pointer = nullptr;
  return __real_posix_memalign(&pointer, static_cast<std::size_t>(alignment), bytes > 0 ? bytes : 1) == 0 ? pointer
                                                                                                          : nullptr;
}
[[gnu::noinline]] void operator delete[](void* pointer, std::align_val_t) noexcept {
  std::free(pointer);
}
[[gnu::noinline]] void operator delete(void* pointer) noexcept {
  std::free(pointer);
}
[[gnu::noinline]] void operator delete(void* pointer, std::size_t) noexcept {
  std::free(pointer);
}

namespace shrinkwarp {
namespace {

class Allocation : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Allocation);

TEST_P(Allocation, NoneAfterPreparation) {
  // On the CPU large enough for tasks that threads share, and more than once: which thread takes which task changes.
  const bool cuda = context().is_cuda();
  const std::int64_t rows = cuda ? 20 : 70, atoms = cuda ? 70 : 300, problems = cuda ? 10 : 50;
  const int rounds = cuda ? 1 : 4;
  const auto normal = [](std::int64_t count, std::uint64_t stream) {
    std::vector<double> values(static_cast<std::size_t>(count));
    fill_normal(Context::cpu(1), 3, stream, 0, VectorView<double>{values.data(), count, {}});
    return values;
  };
  const std::vector<double> D = normal(rows * atoms, 0);
  const Dictionary dictionary(context(), MatrixView<const double>{D.data(), rows, atoms, rows, {}});
  const Tensor<double> X = testing::to_device(context(), normal(rows * problems, 1), rows, problems);
  const Tensor<double> Z(context(), atoms, problems);
  const LambdaRule rule = LambdaRule::sample_fraction(0.2);
  LassoOptions options;
  options.gap = 1e-9;  // takes float and double
  const std::int64_t before_preparation = from_context;
  PreparedLasso prepared(context(), dictionary, options, problems);
  EXPECT_GT(from_context, before_preparation);  // the counter counts
  const std::int64_t device_allocations = from_context;
  const std::int64_t host_allocations = from_new;
  for (int round = 0; round < rounds; ++round) prepared.solve(X.matrix(), rule, Z.matrix());
  const PreparedResults& results = prepared.solve(X.matrix(), rule, Z.matrix());
  EXPECT_EQ(from_context, device_allocations);
  // On CUDA the runtime, here or its stand-in, allocates on the host as it likes.
  if (!cuda) {
    EXPECT_EQ(from_new, host_allocations);
  }
  EXPECT_EQ(results.unconverged, 0);
}

TEST(AllocationOfGroupSets, NoneInASolve) {
  const Context context = Context::cpu(1);
  const std::int64_t rows = 32, groups = 20, s = 3;
  const Tensor<double> D(context, rows, groups * s);
  fill_normal(context, 4, 0, 0, D.vector());
  const Tensor<double> x(context, rows);
  fill_normal(context, 4, 1, 0, x.vector());
  const GroupBasis basis(context, D.matrix(), s);
  GroupSet set(context, s, groups);
  GroupSetScratch scratch;
  scratch.reserve(context, groups * s);
  std::vector<std::int32_t> all(groups), atoms(groups * s);
  std::vector<double> correlations(groups * s), thresholds(groups, 2);
  for (std::int32_t g = 0; g < groups; ++g) all[static_cast<std::size_t>(g)] = g;
  for (std::int32_t j = 0; j < groups * s; ++j) atoms[static_cast<std::size_t>(j)] = j;
  correlate_atoms(D.matrix(), atoms.data(), groups * s, x.data(), correlations.data());
  set.clear(0);
  const std::int64_t by_context = from_context, by_new = from_new;
  set.add(D.matrix(), basis, all.data(), correlations.data(), thresholds.data(), groups);
  EXPECT_EQ(set.solve(scratch, 1e-10, 100), GroupSetOutcome::solved);
  EXPECT_EQ(from_context, by_context);
  EXPECT_EQ(from_new, by_new);
  EXPECT_GT(set.steps(), 2);
}

}  // namespace
}  // namespace shrinkwarp
