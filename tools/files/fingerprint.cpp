#include <shrinkwarp/tools/files/fingerprint.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <sstream>

#include <shrinkwarp/runtime/io/file.hpp>

namespace shrinkwarp {

void Fingerprint::add(const std::string& name, const std::string& value) {
  fields_.emplace_back(name, value);
}

void Fingerprint::add(const std::string& name, double value) {
  char text[32];
  fields_.emplace_back(name, std::string(text, std::to_chars(text, text + sizeof text, value).ptr));
}

void Fingerprint::add(const std::string& name, std::int64_t value) {
  fields_.emplace_back(name, std::to_string(value));
}

void Fingerprint::add_hash(const std::string& name, std::uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  fields_.emplace_back(name, text);
}

std::string Fingerprint::text() const {
  std::string lines;
  for (const auto& [name, value] : fields_) lines += name + ": " + value + "\n";
  return lines;
}

std::vector<Fingerprint::Difference> Fingerprint::differences(const std::string& found) const {
  std::map<std::string, std::string> others;
  std::istringstream lines(found);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = std::min(line.find(": "), line.size());
    others[line.substr(0, colon)] = line.substr(std::min(colon + 2, line.size()));
  }
  std::vector<Difference> result;
  for (const auto& [name, value] : fields_) {
    const auto other = others.find(name);
    const bool has = other != others.end();
    if (!has || other->second != value) result.push_back({name, has ? other->second : "none", value});
    if (has) others.erase(other);
  }
  for (const auto& [name, value] : others) result.push_back({name, value, "none"});
  return result;
}

std::string Fingerprint::difference(const std::string& found) const {
  constexpr std::size_t kShown = 3;
  std::string text;
  const std::vector<Difference> all = differences(found);
  for (std::size_t i = 0; i < std::min(all.size(), kShown); ++i)
    text += (i == 0 ? "" : "; ") + printable(all[i].name, 40) + ": found " + printable(all[i].found, 60) + ", wanted " +
            printable(all[i].wanted, 60);
  if (all.size() > kShown) text += "; and " + std::to_string(all.size() - kShown) + " more";
  return text;
}

}  // namespace shrinkwarp
