#include <shrinkwarp/models/train/shuffle.hpp>

#include <numeric>
#include <utility>

#include <shrinkwarp/kernels/random/random.hpp>

namespace shrinkwarp {

std::vector<std::int64_t> shuffled(std::int64_t count, std::uint64_t seed, std::uint64_t pass) {
  constexpr std::uint64_t kStream = std::uint64_t{1} << 48;  // and one for each pass
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::vector<double> uniform(order.size());
  fill_uniform<double>(Context::cpu(1), seed, kStream | pass, 0, {uniform.data(), count, {}});
  for (std::size_t i = order.size(); i > 1; --i)  // Fisher and Yates
    std::swap(order[i - 1], order[static_cast<std::size_t>(uniform[i - 1] * static_cast<double>(i))]);
  return order;
}

}  // namespace shrinkwarp
