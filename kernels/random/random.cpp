// Argument checks and dispatch of the random family.
#include <shrinkwarp/kernels/random/random.hpp>

#include <limits>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

namespace {

template <class T>
void check(const Context& context, const char* function, std::int64_t offset, const VectorView<T>& out) {
  SHRINKWARP_REQUIRE(out.size >= 0, ShapeError, function, ": out has ", out.size, " elements, wanted >= 0");
  check_vector(context, function, "out", out, out.size);
  SHRINKWARP_REQUIRE(offset >= 0 && offset <= std::numeric_limits<std::int64_t>::max() - out.size, ValueError, function,
                     ": offset is ", offset, ", wanted >= 0 and offset + ", out.size, " within 63 bits");
}

}  // namespace

void fill_bits(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
               VectorView<std::uint32_t> out) {
  check(context, "fill_bits", offset, out);
  if (out.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::fill_bits(context, seed, stream, offset, out);
  }
  cpu::fill_bits(context, seed, stream, offset, out);
}

template <class T>
void fill_uniform(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                  VectorView<T> out) {
  check(context, "fill_uniform", offset, out);
  if (out.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::fill_uniform(context, seed, stream, offset, out);
  }
  cpu::fill_uniform(context, seed, stream, offset, out);
}

template <class T>
void fill_normal(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                 VectorView<T> out) {
  check(context, "fill_normal", offset, out);
  if (out.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::fill_normal(context, seed, stream, offset, out);
  }
  cpu::fill_normal(context, seed, stream, offset, out);
}

template void fill_uniform(const Context&, std::uint64_t, std::uint64_t, std::int64_t, VectorView<float>);
template void fill_uniform(const Context&, std::uint64_t, std::uint64_t, std::int64_t, VectorView<double>);
template void fill_normal(const Context&, std::uint64_t, std::uint64_t, std::int64_t, VectorView<float>);
template void fill_normal(const Context&, std::uint64_t, std::uint64_t, std::int64_t, VectorView<double>);

}  // namespace shrinkwarp
