// CUDA body of the random family. A thread evaluates Philox once and writes the 16 bytes that follow from it: neighbour
// threads write neighbour 16-byte groups, so a warp fills whole lines. The output is the only traffic; at 25 integer
// operations a word the writes and the arithmetic are about even on current devices.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/random/philox.hpp>
#include <shrinkwarp/kernels/random/random.hpp>

namespace shrinkwarp::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kGridsPerMultiprocessor =
    16;  // thread blocks queued a multiprocessor; the stride loop does the rest

/// Blocks [begin, end) of the sequence; see draw_block.
template <class Draw>
__global__ void fill_kernel(std::uint64_t seed, std::uint64_t stream, std::int64_t begin, std::int64_t end,
                            std::int64_t offset, std::int64_t size, typename Draw::Value* out) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t block = begin + static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; block < end;
       block += stride) {
    philox::draw_block<Draw>(seed, stream, block, offset, size, out);
  }
}

template <class Draw>
void fill(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
          VectorView<typename Draw::Value> out) {
  const std::int64_t begin = philox::first_block<Draw>(offset);
  const std::int64_t end = philox::end_block<Draw>(offset + out.size);
  const std::int64_t wanted = (end - begin + kThreads - 1) / kThreads;
  const std::int64_t grid = std::min(wanted, kGridsPerMultiprocessor * context.multiprocessors());
  launch(fill_kernel<Draw>, dim3(static_cast<unsigned>(grid)), dim3(kThreads), 0, context.stream(), seed, stream, begin,
         end, offset, out.size, out.data);
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

}  // namespace shrinkwarp::cuda
