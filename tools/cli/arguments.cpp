#include <shrinkwarp/tools/cli/arguments.hpp>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <map>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::cli {
namespace {

[[noreturn]] void refuse_size(const std::string& text) {
  SHRINKWARP_THROW(ValueError, "found the size '", text, "', wanted a positive number of bytes such as 4GiB or 500MB");
}

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, args...);
  return text;
}

}  // namespace

std::int64_t parse_bytes(const std::string& text) {
  static const std::map<std::string, double> kUnits = {{"", 1.0},
                                                       {"b", 1.0},
                                                       {"k", 1e3},
                                                       {"kb", 1e3},
                                                       {"m", 1e6},
                                                       {"mb", 1e6},
                                                       {"g", 1e9},
                                                       {"gb", 1e9},
                                                       {"t", 1e12},
                                                       {"tb", 1e12},
                                                       {"kib", 1024.},
                                                       {"mib", 1048576.},
                                                       {"gib", 1073741824.},
                                                       {"tib", 1099511627776.}};
  std::size_t digits = 0;
  double number = 0;
  try {
    number = std::stod(text, &digits);
  } catch (const std::exception&) {
    refuse_size(text);
  }
  std::string unit = text.substr(std::min(text.find_first_not_of(' ', digits), text.size()));
  std::transform(unit.begin(), unit.end(), unit.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto found = kUnits.find(unit);
  if (found == kUnits.end()) refuse_size(text);
  const double bytes = number * found->second;
  if (!(bytes >= 1 && bytes < 9e18)) refuse_size(text);
  return static_cast<std::int64_t>(bytes);
}

Context make_context(const std::string& device, int threads) {
  if (device == "auto") return cuda_device_count() > 0 ? Context::cuda(0) : Context::cpu(threads);
  if (device == "cpu") return Context::cpu(threads);
  if (device == "cuda") return Context::cuda(0);
  const std::string prefix = "cuda:";
  const bool numbered = device.compare(0, prefix.size(), prefix) == 0 && device.size() > prefix.size() &&
                        device.size() < prefix.size() + 5 &&
                        std::all_of(device.begin() + static_cast<std::ptrdiff_t>(prefix.size()), device.end(),
                                    [](unsigned char c) { return std::isdigit(c); });
  SHRINKWARP_REQUIRE(numbered, ValueError, "--device: found '", device, "', wanted auto, cpu, cuda or cuda:NUMBER");
  return Context::cuda(std::stoi(device.substr(prefix.size())));
}

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
