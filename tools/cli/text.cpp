#include <shrinkwarp/tools/cli/text.hpp>

#include <cmath>
#include <cstdio>

namespace shrinkwarp::cli {
namespace {

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, args...);
  return text;
}

}  // namespace

std::string with_commas(std::int64_t value) {
  std::string text = std::to_string(value);
  for (auto place = static_cast<std::int64_t>(text.size()) - 3; place > (value < 0 ? 1 : 0); place -= 3)
    text.insert(static_cast<std::size_t>(place), ",");
  return text;
}

std::string duration_text(double seconds) {
  if (seconds < 60) return format("%.*f s", seconds < 10 ? 2 : 1, seconds);
  const auto whole = static_cast<long long>(std::llround(seconds));
  if (whole < 3600) return format("%lld min %02lld s", whole / 60, whole % 60);
  return format("%lld h %02lld min", whole / 3600, whole / 60 % 60);
}

std::string short_number(double value) {
  const char* const prefixes[] = {"", "k", "M", "G", "T"};
  int prefix = 0;
  while (std::fabs(value) >= 1000 && prefix < 4) {
    value /= 1000;
    ++prefix;
  }
  return format("%.3g%s", value, prefixes[prefix]);
}

}  // namespace shrinkwarp::cli
