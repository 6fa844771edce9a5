#include <shrinkwarp/tools/cli/shared_solve.hpp>

#include <algorithm>
#include <cstring>

namespace shrinkwarp::cli {
namespace {

constexpr std::int64_t kLargestChunk = 256;  // problems; many enough that a file is read in large pieces
constexpr std::int64_t kSmallestChunk = 8;
constexpr std::int64_t kChunksLeft = 4;  // of what is left, for each rank

std::int64_t bits_of(double value) {
  std::int64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

double value_of(std::int64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

void ChunksOfRanks::begin(std::int64_t problems) {
  ++passes_;
  problems_ = problems;
  chunk_ = -1;
  range_ = {};
}

ProblemShare::Range ChunksOfRanks::next() {
  if (range_.first >= problems_ || ranks_.raise(Ranks::failed, 0) != 0) return {};
  const Ranks::Counter counter = passes_ == 1 ? Ranks::first_chunks : Ranks::second_chunks;
  // All ranks find the same chunk for a number.
  for (const std::int64_t taken = ranks_.add(counter, 1); chunk_ < taken; ++chunk_) {
    range_.first = range_.last;
    const std::int64_t share = (problems_ - range_.first) / (kChunksLeft * ranks_.size());
    range_.last = std::min(problems_, range_.first + std::clamp(share, kSmallestChunk, kLargestChunk));
  }
  return range_;
}

std::int64_t ChunksOfRanks::fair(std::int64_t least) const {
  return std::max(least, (problems_ - range_.last) / (2 * ranks_.size()));
}

void ProgressOfRanks::update(const Progress& progress) {
  if (ranks_.alone()) return bar_.update(progress);
  own_ = progress;
  exchange();
}

bool ProgressOfRanks::exchange(bool now) {
  if (ranks_.alone() || (!now && Clock::now() - last_ < std::chrono::milliseconds(50))) return false;
  last_ = Clock::now();
  if (interrupts_.number() != 0) ranks_.raise(Ranks::stopped_by, interrupts_.number());
  const auto number = static_cast<int>(ranks_.raise(Ranks::stopped_by, 0));
  if (number != 0 && !interrupts_.token()->cancelled()) interrupts_.hear(number);
  // Only what is new is told. Rank 0 wants to know of all in any case, to show it.
  const auto tell = [&](Ranks::Counter counter, std::int64_t own, std::int64_t told) {
    return own != told || ranks_.first() ? ranks_.add(counter, own - told) + own - told : 0;
  };
  Progress all = own_;
  all.done = tell(Ranks::problems_done, own_.done, told_.done);
  all.unconverged = tell(Ranks::problems_unconverged, own_.unconverged, told_.unconverged);
  const std::int64_t gap = bits_of(std::max(own_.worst_gap, 0.0));
  if (own_.worst_gap > told_.worst_gap || ranks_.first())
    all.worst_gap = value_of(std::max(ranks_.raise(Ranks::worst_gap, gap), gap));
  told_ = own_;
  if (ranks_.first() && all.total > 0) bar_.update(all);
  return true;
}

}  // namespace shrinkwarp::cli
