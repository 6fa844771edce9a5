#include <shrinkwarp/tools/cli/arguments.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <map>

#include <shrinkwarp/models/lasso/solver_name.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/tools/cli/command.hpp>

namespace shrinkwarp::cli {
namespace {

constexpr Solver kSolvers[] = {Solver::automatic, Solver::working_set, Solver::plain_working_set, Solver::fista,
                               Solver::ista};  // as messages list them

/// 0 where the text is no positive size.
std::int64_t bytes_in(const std::string& text) {
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
    return 0;
  }
  std::string unit = text.substr(std::min(text.find_first_not_of(' ', digits), text.size()));
  std::transform(unit.begin(), unit.end(), unit.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto found = kUnits.find(unit);
  if (found == kUnits.end()) return 0;
  const double bytes = number * found->second;
  if (!(bytes >= 1 && bytes < 9e18)) return 0;
  return static_cast<std::int64_t>(bytes);
}

/// A check from a function that gives what was wanted, or nothing when the value will do.
CLI::Validator checked(std::function<std::string(const std::string&)> wanted) {
  return CLI::Validator(
      [wanted = std::move(wanted)](std::string& text) -> std::string {
        const std::string want = wanted(text);
        return want.empty() ? "" : "found '" + text + "', wanted " + want;
      },
      "");
}

/// NaN for what is no finite number.
double finite_number(const std::string& text) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  try {
    std::size_t digits = 0;
    const double number = std::stod(text, &digits);
    return digits == text.size() && std::isfinite(number) ? number : kNone;
  } catch (const std::exception&) {
    return kNone;
  }
}

}  // namespace

CLI::Validator positive_number() {
  return checked([](const std::string& text) { return finite_number(text) > 0 ? "" : "a finite number > 0"; });
}

CLI::Validator number_from_0() {
  return checked([](const std::string& text) { return finite_number(text) >= 0 ? "" : "a finite number >= 0"; });
}

CLI::Validator whole_number(std::int64_t smallest, std::int64_t largest) {
  return checked([smallest, largest](const std::string& text) -> std::string {
    std::int64_t number = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (status == std::errc() && end == text.data() + text.size() && number >= smallest && number <= largest) return "";
    return concat("a whole number from ", smallest, " to ", largest);
  });
}

CLI::Validator one_of(const std::vector<std::string>& names) {
  return checked([names](const std::string& text) -> std::string {
    if (std::find(names.begin(), names.end(), text) != names.end()) return "";
    std::string list = names.front();
    for (std::size_t i = 1; i < names.size(); ++i) list += (i + 1 < names.size() ? ", " : " or ") + names[i];
    return list;
  });
}

CLI::Validator solver_name(const std::vector<std::string>& others) {
  std::vector<std::string> names;
  for (const Solver solver : kSolvers) names.emplace_back(name_of(solver));
  names.insert(names.end(), others.begin(), others.end());
  return one_of(names);
}

Solver solver_named(const std::string& name) {
  return *std::find_if(std::begin(kSolvers), std::end(kSolvers),
                       [&](Solver solver) { return name == name_of(solver); });
}

CLI::Validator device_name() {
  return checked([](const std::string& text) -> std::string {
    return Context::is_name(text) ? "" : "auto, cpu, cuda or cuda:NUMBER";
  });
}

CLI::Validator byte_count() {
  return checked([](const std::string& text) -> std::string {
    return bytes_in(text) > 0 ? "" : "a positive number of bytes such as 4GiB or 500MB";
  });
}

std::int64_t parse_bytes(const std::string& text) {
  const std::int64_t bytes = bytes_in(text);
  SHRINKWARP_REQUIRE(bytes > 0, ValueError, "found the size '", text,
                     "', wanted a positive number of bytes such as 4GiB or 500MB");
  return bytes;
}

void require_writable(const std::string& path) {
  OutputFile::replacing("shrinkwarp", path);
}

void require_different_files(const char* first_option, const std::string& first, const char* second_option,
                             const std::string& second) {
  std::error_code ignored;  // a file that does not exist is equivalent to none
  const bool same = std::filesystem::absolute(first, ignored).lexically_normal() ==
                        std::filesystem::absolute(second, ignored).lexically_normal() ||
                    std::filesystem::equivalent(first, second, ignored);
  SHRINKWARP_REQUIRE(!same, UsageError, first_option, " and ", second_option, " both name '", first,
                     "', wanted two files");
}

}  // namespace shrinkwarp::cli
