// The ranks of a run as the replicas of a training.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp {

class ReplicasOfRanks : public Replicas {
 public:
  /// @param ranks  outlive this
  explicit ReplicasOfRanks(Ranks& ranks) : ranks_(ranks) {}

  int rank() const override { return ranks_.rank(); }
  int size() const override { return ranks_.size(); }
  void add(double weight, float* values, std::int64_t count) override { ranks_.add_in_order(weight, values, count); }
  void add(double weight, double* values, std::int64_t count) override { ranks_.add_in_order(weight, values, count); }
  std::int64_t largest(std::int64_t value) override {
    ranks_.largest(&value, 1);
    return value;
  }
  std::string first_text(const std::string& text) override {
    const std::int64_t place = largest(text.empty() ? 0 : size() - rank());
    return place == 0 ? std::string() : ranks_.text_of(size() - static_cast<int>(place), text);
  }

 private:
  Ranks& ranks_;
};

}  // namespace shrinkwarp
