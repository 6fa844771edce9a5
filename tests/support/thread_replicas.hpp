// Replicas that are threads of one process, for tests of what data-parallel training computes.
//
//   run_replicas(3, [&](Replicas& replicas) {
//     const Context context = Context::cpu(1);  // each has its own
//     ... replicas.rank() ...
//   });
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::testing {

/// What the threads share. A call that the others do not make, or make otherwise, is an error of all of them, and so is
/// that one of them has left.
class ThreadMeeting {
 public:
  /// What a replica brings to a call.
  struct Brought {
    std::string call;  // its name and size: the same for all
    std::vector<double> values;
    std::int64_t number = 0;
    std::string text;
  };

  explicit ThreadMeeting(int size) : brought_(static_cast<std::size_t>(size)) {}
  int size() const { return static_cast<int>(brought_.size()); }

  /// look(what all have brought, in the order of their ranks), once it is there and before any of it goes.
  template <class Look>
  void exchange(int rank, Brought brought, const Look& look) {
    Brought& its = brought_[static_cast<std::size_t>(rank)];
    its = std::move(brought);
    wait(its.call);
    for (const Brought& other : brought_) {
      SHRINKWARP_REQUIRE(other.call == its.call, Error, "replica ", rank, " calls ", its.call, ", another one ",
                         other.call);
    }
    look(static_cast<const std::vector<Brought>&>(brought_));
    wait(its.call);
  }
  /// Nobody waits for a replica that has left.
  void leave() {
    const std::lock_guard<std::mutex> lock(mutex_);
    left_ = true;
    changed_.notify_all();
  }

 private:
  void wait(const std::string& call) {
    std::unique_lock<std::mutex> lock(mutex_);
    const std::int64_t round = round_;
    if (++waiting_ == size()) {
      waiting_ = 0;
      ++round_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return round_ != round || left_; });
    SHRINKWARP_REQUIRE(round_ != round, Error, "a replica has left while others wait in ", call);
  }

  std::vector<Brought> brought_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  std::int64_t round_ = 0;
  bool left_ = false;
};

class ThreadReplicas : public Replicas {
 public:
  ThreadReplicas(ThreadMeeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return meeting_.size(); }
  void add(double weight, float* values, std::int64_t count) override { sum("add of float", weight, values, count); }
  void add(double weight, double* values, std::int64_t count) override { sum("add of double", weight, values, count); }
  std::int64_t largest(std::int64_t value) override {
    std::int64_t most = value;
    ++calls_;
    meeting_.exchange(rank_, {"largest", {}, value, {}}, [&](const auto& all) {
      for (const auto& its : all) most = std::max(most, its.number);
    });
    return most;
  }
  std::string first_text(const std::string& text) override {
    std::string first;
    ++calls_;
    meeting_.exchange(rank_, {"first_text", {}, 0, text}, [&](const auto& all) {
      for (const auto& its : all)
        if (first.empty()) first = its.text;
    });
    return first;
  }

  /// Calls so far, of any function.
  std::int64_t calls() const { return calls_; }

 private:
  template <class T>
  void sum(const char* call, double weight, T* values, std::int64_t count) {
    ThreadMeeting::Brought brought{concat(call, " of ", count), {}, 0, {}};
    for (std::int64_t i = 0; i < count; ++i) brought.values.push_back(weight * static_cast<double>(values[i]));
    ++calls_;
    meeting_.exchange(rank_, std::move(brought), [&](const auto& all) {
      for (std::int64_t i = 0; i < count; ++i) {
        double total = 0;
        for (const auto& its : all) total += its.values[static_cast<std::size_t>(i)];
        values[i] = static_cast<T>(total);
      }
    });
  }

  ThreadMeeting& meeting_;
  int rank_;
  std::int64_t calls_ = 0;
};

/// body(ThreadReplicas&) on a thread for each of `size` replicas. What one has thrown first is thrown here when all
/// have ended.
template <class Body>
void run_replicas(int size, const Body& body) {
  ThreadMeeting meeting(size);
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        ThreadReplicas replicas(meeting, rank);
        body(replicas);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!first) first = std::current_exception();
      }
      meeting.leave();
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace shrinkwarp::testing
