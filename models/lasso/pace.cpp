#include <shrinkwarp/models/lasso/pace.hpp>

#include <algorithm>
#include <cmath>

namespace shrinkwarp {

void Pace::round(double seconds, std::int64_t left) {
  recent_.push_back(seconds);
  recent_seconds_ += seconds;
  while (!recent_.empty() && recent_seconds_ > kYoung) {
    recent_seconds_ -= recent_.front();
    recent_.pop_front();
  }
  const double kept = std::exp(-seconds / kYoung);
  seconds_ = kept * seconds_ + seconds;
  left_ = kept * left_ + static_cast<double>(left);
}

std::int64_t Pace::width(std::int64_t old) const {
  constexpr double kLargest = 1e9;
  if (old >= kSure / 2) return kSure;
  const double quick = left_ / std::max(seconds_, 1e-9) * kYoung / 2;
  const double most = old > 0 ? static_cast<double>(kBesideOld) : kLargest;
  return std::max(kSure, static_cast<std::int64_t>(std::min(quick, most)));
}

}  // namespace shrinkwarp
