// CPU twin of the random family: the draws of philox.hpp over ranges of blocks, a range a task.
#include <algorithm>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/random/philox.hpp>
#include <shrinkwarp/kernels/random/random.hpp>

namespace shrinkwarp::cpu {

namespace {

constexpr std::int64_t kBlocksPerTask = 4096;  // 64 KiB of output, 0.03 ms or more

// Blocks [begin, end) of a sequence. Multiversioned functions cannot be templates, so they are overloads told apart by
// the draw; the gain is that std::fma becomes an instruction.
#define SHRINKWARP_DRAW_BLOCKS(Draw)                                                                          \
  SHRINKWARP_CPU_CLONES void draw_blocks(Draw, std::uint64_t seed, std::uint64_t stream, std::int64_t begin,  \
                                         std::int64_t end, std::int64_t first, VectorView<Draw::Value> out) { \
    for (std::int64_t block = begin; block < end; ++block) {                                                  \
      philox::draw_block<Draw>(seed, stream, block, first, out.size, out.data);                               \
    }                                                                                                         \
  }
SHRINKWARP_DRAW_BLOCKS(philox::BitsDraw)
SHRINKWARP_DRAW_BLOCKS(philox::UniformDraw<float>)
SHRINKWARP_DRAW_BLOCKS(philox::UniformDraw<double>)
SHRINKWARP_DRAW_BLOCKS(philox::NormalDraw<float>)
SHRINKWARP_DRAW_BLOCKS(philox::NormalDraw<double>)
#undef SHRINKWARP_DRAW_BLOCKS

template <class Draw>
void fill(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
          VectorView<typename Draw::Value> out) {
  const std::int64_t begin = philox::first_block<Draw>(offset);
  const std::int64_t end = philox::end_block<Draw>(offset + out.size);
  const std::int64_t tasks = (end - begin + kBlocksPerTask - 1) / kBlocksPerTask;
  context.parallel_for(tasks, [&](std::int64_t task, int) {
    const std::int64_t from = begin + task * kBlocksPerTask;
    draw_blocks(Draw{}, seed, stream, from, std::min(end, from + kBlocksPerTask), offset, out);
  });
}

}  // namespace

void fill_bits(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
               VectorView<std::uint32_t> out) {
  fill<philox::BitsDraw>(context, seed, stream, offset, out);
}

template <class T>
void fill_uniform(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                  VectorView<T> out) {
  fill<philox::UniformDraw<T>>(context, seed, stream, offset, out);
}

template <class T>
void fill_normal(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                 VectorView<T> out) {
  fill<philox::NormalDraw<T>>(context, seed, stream, offset, out);
}

template void fill_uniform(const Context&, std::uint64_t, std::uint64_t, std::int64_t, VectorView<float>);
template void fill_uniform(const Context&, std::uint64_t, std::uint64_t, std::int64_t, VectorView<double>);
template void fill_normal(const Context&, std::uint64_t, std::uint64_t, std::int64_t, VectorView<float>);
template void fill_normal(const Context&, std::uint64_t, std::uint64_t, std::int64_t, VectorView<double>);

}  // namespace shrinkwarp::cpu
