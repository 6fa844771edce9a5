// The ranks of a run as the replicas of a training.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/tools/ranks/gpu_ranks.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp {

class ReplicasOfRanks : public Replicas {
 public:
  /// @param ranks  outlive this  @param gpus  of theirs, where something adds between them
  explicit ReplicasOfRanks(Ranks& ranks, std::unique_ptr<GpuRanks> gpus = nullptr)
      : ranks_(ranks), gpus_(std::move(gpus)) {}

  int rank() const override { return ranks_.rank(); }
  int size() const override { return ranks_.size(); }
  void add(double weight, float* values, std::int64_t count) override { ranks_.add_in_order(weight, values, count); }
  void add(double weight, double* values, std::int64_t count) override { ranks_.add_in_order(weight, values, count); }
  std::unique_ptr<DeviceSum> device_sum(const Context& context, double weight, std::int64_t bytes) override {
    return gpus_ ? gpus_->sum(context, ranks_.all(weight), bytes) : nullptr;
  }
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
  std::unique_ptr<GpuRanks> gpus_;
};

}  // namespace shrinkwarp
