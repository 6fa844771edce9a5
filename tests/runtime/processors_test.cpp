#include <shrinkwarp/runtime/processors.hpp>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <pthread.h>

#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp {
namespace {

/// Puts the calling thread's processors back.
class OnProcessors : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(sched_getaffinity(0, sizeof(all_), &all_), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &all_)) processors_.push_back(cpu);
  }
  void TearDown() override { sched_setaffinity(0, sizeof(all_), &all_); }

  static void move_to(int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
  }
  /// Where workers are to be beside a caller: on all other processors, or on the only one.
  cpu_set_t beside(int processor) const {
    cpu_set_t set = all_;
    if (processors_.size() > 1) CPU_CLR(processor, &set);
    return set;
  }

  cpu_set_t all_;
  std::vector<int> processors_;
};

/// Threads that wait for their end.
class Workers {
 public:
  explicit Workers(int count) {
    const std::shared_future<void> end = end_.get_future().share();
    for (int i = 0; i < count; ++i) threads.emplace_back([end] { end.wait(); });
  }
  ~Workers() {
    end_.set_value();
    for (std::thread& thread : threads) thread.join();
  }
  /// Each may run on the processors of a set, and on no other.
  void expect_on(const cpu_set_t& set) {
    for (std::thread& thread : threads) {
      cpu_set_t found;
      ASSERT_EQ(pthread_getaffinity_np(thread.native_handle(), sizeof(found), &found), 0);
      EXPECT_TRUE(CPU_EQUAL(&found, &set));
    }
  }
  std::vector<std::thread> threads;

 private:
  std::promise<void> end_;
};

TEST_F(OnProcessors, UsableAreThoseOfTheCallingThread) {
  EXPECT_EQ(usable_processors(), static_cast<int>(processors_.size()));
  move_to(processors_.back());
  EXPECT_EQ(usable_processors(), 1);
}

TEST_F(OnProcessors, WorkersKeepClearOfTheirCaller) {
  Placement placement;
  Workers workers(1);
  for (const int processor : {processors_.front(), processors_.back(), processors_.front()}) {
    move_to(processor);
    placement.keep_clear(workers.threads);
    workers.expect_on(beside(processor));
  }
}

TEST_F(OnProcessors, WorkersOfACallerFromElsewhereMayRunAnywhereOfTheirs) {
  const cpu_set_t theirs = beside(processors_.front());
  ASSERT_EQ(sched_setaffinity(0, sizeof(theirs), &theirs), 0);
  Placement placement;
  Workers workers(1);
  move_to(processors_.front());
  placement.keep_clear(workers.threads);
  workers.expect_on(theirs);
}

TEST_F(OnProcessors, MoreThreadsThanProcessorsStayWhereTheyMayBe) {
  Placement placement;
  Workers workers(static_cast<int>(processors_.size()));
  placement.keep_clear(workers.threads);
  workers.expect_on(all_);
}

TEST_F(OnProcessors, WorkersThatSomebodyHasMovedStayThere) {
  Placement placement;
  Workers workers(1);
  move_to(processors_.front());
  placement.keep_clear(workers.threads);
  workers.expect_on(beside(processors_.front()));
  ASSERT_EQ(pthread_setaffinity_np(workers.threads[0].native_handle(), sizeof(all_), &all_), 0);
  move_to(processors_.back());
  placement.keep_clear(workers.threads);
  workers.expect_on(all_);
}

TEST_F(OnProcessors, LoopsRunBesideTheirCaller) {
  const Context context = Context::cpu(2);
  for (const int processor : {processors_.front(), processors_.back()}) {
    move_to(processor);
    std::atomic<int> arrived{0};
    cpu_set_t of_worker;
    CPU_ZERO(&of_worker);
    context.parallel_for(2, [&](std::int64_t, int worker) {
      ++arrived;
      while (arrived.load() < 2) std::this_thread::yield();  // so that each thread has one
      if (worker == 1) sched_getaffinity(0, sizeof(of_worker), &of_worker);
    });
    const cpu_set_t wanted = beside(processor);
    EXPECT_TRUE(CPU_EQUAL(&of_worker, &wanted));
  }
}

}  // namespace
}  // namespace shrinkwarp
