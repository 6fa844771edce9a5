// The fibers, barriers and shared memory of the host executor.
//
// Under ThreadSanitizer this file is compiled WITHOUT -fsanitize=thread but with -DSIMT_TSAN_CORE: it then tells the
// sanitizer which CUDA thread runs and which waits order what. For its sake nothing here allocates, frees or calls
// memcpy or memset while a fiber runs, except to report a failure, and no two CUDA threads share a stack.
#include "executor.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>

#include <boost/context/detail/fcontext.hpp>

#include <shrinkwarp/runtime/error.hpp>

#include "builtins.hpp"

#include "sanitizers.hpp"

__thread uint3 threadIdx;
__thread uint3 blockIdx;
__thread dim3 blockDim;
__thread dim3 gridDim;

namespace shrinkwarp::simt {

static std::ostream& operator<<(std::ostream& out, Site site) {
  const char* name = std::strrchr(site.file, '/');
  return out << (name != nullptr ? name + 1 : site.file) << ":" << site.line;
}

namespace {

Settings settings_from_environment() {
  const char* const wanted = std::getenv("SHRINKWARP_SIMT");
  if (wanted == nullptr) return {};
  std::string names;
  for (const Settings& settings : all_settings()) {
    if (describe(settings) == wanted) return settings;
    names += " " + describe(settings);
  }
  std::fprintf(stderr, "host executor: SHRINKWARP_SIMT is '%s', wanted one of%s\n", wanted, names.c_str());
  std::exit(2);
}

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr int kMaxThreads = 1024;
constexpr int kWarp = 32;
constexpr std::size_t kStaticLimit = 48 * 1024;  // of __shared__ arrays, on every device
constexpr std::size_t kArenaBytes = 1 << 20;
constexpr std::size_t kGap = 64;  // between shared arrays, so that AddressSanitizer sees an overrun
constexpr int kMaxArrays = 256;
constexpr int kMaxAsync = 256;  // copies in flight in one thread
constexpr std::size_t kStackBytes = (kAsan ? 256 : 64) * 1024;
constexpr bool kSharesStacks = !kTsan;  // a thread that ends leaves its stack to the next

Settings current_settings = settings_from_environment();

void* map_memory(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}

struct Thread;

struct Fiber {
  fcontext_t context = nullptr;  // where it stopped
  char* stack = nullptr;         // lowest byte
  std::size_t size = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  Thread* start = nullptr;     // what to run when it is taken from the pool
  bool idle = true;            // in the pool
};

enum class State : unsigned char { runnable, at_barrier, at_collective, returned };

struct Thread {
  uint3 index = {};
  int number = 0;    // linear in the block
  int position = 0;  // in the order of the sweep
  State state = State::runnable;
  Fiber* fiber = nullptr;  // null until it starts
  Site site = {};          // of the last wait
  int async_first = 0;     // ring of copies in flight
  int async_count = 0;
  int async_group = 0;  // the open one
  std::int64_t atomics = 0;
  void* tsan = nullptr;
};

struct Collective {
  unsigned mask = 0;
  unsigned arrived = 0;
  WarpFunction function = nullptr;
  Site site = {};
};

struct Warp {
  unsigned lanes = 0;     // that exist
  unsigned returned = 0;  // of those
  int waiting = 0;        // collectives in `collectives`
  Collective collectives[kWarp];
  const void* in[kWarp];
  void* out[kWarp];
  char token = 0;
};

struct SharedArray {
  const void* key;
  std::size_t bytes;
  void* data;
};

std::ostream& operator<<(std::ostream& out, const Thread& thread) {
  return out << "thread (" << thread.index.x << ", " << thread.index.y << ", " << thread.index.z << ")";
}

struct Mask {
  unsigned lanes;
};
std::ostream& operator<<(std::ostream& out, Mask mask) {
  return out << "mask 0x" << std::hex << mask.lanes << std::dec;
}

bool same(Site a, Site b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

template <class T>
void shuffle(T* values, std::uint64_t count, std::uint64_t& state) {
  for (std::uint64_t i = count; i > 1; --i) std::swap(values[i - 1], values[(state = mix(state)) % i]);
}

class Executor {
 public:
  Executor();
  ~Executor();
  void run(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread);

  /// Stops every thread where it is; the launch throws KernelError. Takes parts, not a finished message: the stacks are
  /// not unwound, so the caller must own nothing.
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) {
    tsan_switch(main_tsan_, true);
    if (exception_ == nullptr) {
      failure_ = concat("block (", blockIdx.x, ", ", blockIdx.y, ", ", blockIdx.z, "), ", *current, ": ", parts...);
    }
    stop();
  }
  int barrier(BarrierOp op, int value, Site site);
  void collective(unsigned mask, const void* in, void* out, WarpFunction function, Site site);
  void* shared_memory(const void* key, std::size_t bytes);
  void* dynamic_shared_memory();
  void fence();
  bool in_arena(const void* pointer) const {
    return pointer >= arena_ && pointer < static_cast<const void*>(arena_ + kArenaBytes);
  }

  Thread* current = nullptr;
  AsyncCopy* ring(const Thread& thread) const { return async_ + std::size_t(thread.number) * kMaxAsync; }
  Counters counters;

 private:
  static void fiber_entry(transfer_t transfer);
  static void arrive(transfer_t transfer, Fiber& self);
  void fiber_loop(Fiber& self);
  void jump(Fiber& from, Fiber& to);
  void enter(Thread& thread);
  void suspend();
  [[noreturn]] void stop();
  void finish(Thread& thread);
  Thread* pick();
  Fiber* take_fiber();
  Fiber* make_fiber();
  void give_back(Fiber& fiber) {
    fiber.idle = true;
    pool_.push_back(&fiber);
  }
  void make_context(Fiber& fiber);
  void begin_grid(dim3 block);
  void begin_block(std::uint64_t block);
  void new_sweep();
  void mark_runnable(Thread& thread) {
    thread.state = State::runnable;
    set(thread.position);
  }
  void set(int position) {
    ready_[position / 64] |= std::uint64_t(1) << (position % 64);
    ++ready_count_;
  }
  void forget_memory();
  void hire_threads(std::uint64_t block);
  void dismiss_threads();
  void reserve_arena(char* data, std::size_t bytes);
  void abandon_fibers();

  Fiber main_;
  char* stacks_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> pool_;
  Fiber* entering_ = nullptr;

  const std::function<void()>* body_ = nullptr;
  std::exception_ptr exception_;
  std::string failure_;
  bool failed_ = false;

  dim3 block_ = dim3(0, 0, 0);
  int count_ = 0;  // threads of a block
  int left_ = 0;   // that have not returned
  int first_returned_ = -1;
  Thread threads_[kMaxThreads];
  Warp warps_[kMaxThreads / kWarp];
  int order_[kMaxThreads];  // thread at each position
  std::uint64_t ready_[kMaxThreads / 64];
  int ready_count_ = 0;
  int cursor_ = 0;
  std::uint64_t random_ = 0;
  std::vector<std::uint32_t> block_order_;

  int barrier_count_ = 0;
  int barrier_first_ = 0;  // the thread that came first
  int barrier_votes_ = 0;
  int barrier_result_ = 0;
  int barrier_phase_ = 0;

  char* arena_;
  AsyncCopy* async_;
  std::size_t dynamic_bytes_ = 0;
  std::size_t static_bytes_ = 0;
  std::size_t arena_used_ = 0;
  int arrays_ = 0;
  SharedArray array_[kMaxArrays];

  void* main_tsan_ = nullptr;
  std::vector<void*> hired_[2];  // ThreadSanitizer's fibers
  char launch_token_ = 0;
  char end_token_ = 0;
  char fence_token_ = 0;
  char barrier_token_[2] = {};
};

thread_local std::unique_ptr<Executor> owned_executor;
__thread Executor* active = nullptr;  // non-null while a kernel runs on this host thread

Executor::Executor()
    : stacks_(static_cast<char*>(map_memory(kMaxThreads * kStackBytes))),
      arena_(static_cast<char*>(map_memory(kArenaBytes))),
      async_(static_cast<AsyncCopy*>(map_memory(sizeof(AsyncCopy) * kMaxThreads * kMaxAsync))) {
  fibers_.reserve(kMaxThreads);
  pool_.reserve(kMaxThreads);
}

Executor::~Executor() {
  asan_unpoison(stacks_, kMaxThreads * kStackBytes);
  asan_unpoison(arena_, kArenaBytes);
  munmap(stacks_, kMaxThreads * kStackBytes);
  munmap(arena_, kArenaBytes);
  munmap(async_, sizeof(AsyncCopy) * kMaxThreads * kMaxAsync);
  for (const auto& set : hired_) {
    for (void* fiber : set) {
      if (fiber != nullptr) tsan_destroy(fiber);
    }
  }
}

// ---- fibers ----

void Executor::make_context(Fiber& fiber) {
  // Stacks a power of two apart would all fall into the same cache sets.
  const std::size_t colour = std::size_t(fiber.stack - stacks_) / kStackBytes % 32 * 192;
  fiber.context = make_fcontext(fiber.stack + fiber.size - colour, fiber.size - colour, &Executor::fiber_entry);
  fiber.fake_stack = nullptr;
}

Fiber* Executor::take_fiber() {
  if (pool_.empty()) pool_.push_back(make_fiber());
  Fiber* fiber = pool_.back();
  pool_.pop_back();
  fiber->idle = false;
  return fiber;
}

Fiber* Executor::make_fiber() {
  const auto guard = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  char* low = stacks_ + fibers_.size() * kStackBytes;
  mprotect(low, guard, PROT_NONE);
  fibers_.push_back(std::make_unique<Fiber>());
  Fiber& fiber = *fibers_.back();
  fiber.stack = low + guard;
  fiber.size = kStackBytes - guard;
  make_context(fiber);
  return &fiber;
}

/// Lets the fibers that a failure has stopped half way start afresh.
void Executor::abandon_fibers() {
  for (const auto& fiber : fibers_) {
    if (fiber->idle) continue;
    asan_unpoison(fiber->stack, fiber->size);
    make_context(*fiber);
    give_back(*fiber);
  }
}

void Executor::jump(Fiber& from, Fiber& to) {
  ++counters.switches;
  entering_ = &to;
  asan_leave(&from.fake_stack, to.stack, to.size);
  arrive(jump_fcontext(to.context, &from), from);
}

void Executor::arrive(transfer_t transfer, Fiber& self) {
  Fiber& from = *static_cast<Fiber*>(transfer.data);
  from.context = transfer.fctx;
  const void* bottom = nullptr;
  std::size_t size = 0;
  asan_arrive(self.fake_stack, &bottom, &size);
  if (&from == &active->main_) {
    from.stack = static_cast<char*>(const_cast<void*>(bottom));
    from.size = size;
  }
}

void Executor::fiber_entry(transfer_t transfer) {
  Fiber& self = *active->entering_;
  arrive(transfer, self);
  active->fiber_loop(self);
  std::abort();
}

void Executor::fiber_loop(Fiber& self) {
  for (;;) {
    Thread* thread = self.start;
    while (thread != nullptr) {
      thread->fiber = &self;
      enter(*thread);
      tsan_acquire(&launch_token_);
      try {
        (*body_)();
      } catch (...) {
        exception_ = std::current_exception();
      }
      if (exception_ != nullptr) refuse("an exception left the kernel");
      finish(*thread);
      if (left_ == 0) {
        give_back(self);
        tsan_switch(main_tsan_);
        jump(self, main_);
        break;
      }
      thread = pick();
      if (thread->fiber == nullptr && kSharesStacks) continue;
      Fiber* next = thread->fiber;
      if (next == nullptr) {
        next = take_fiber();
        next->start = thread;
      }
      if (kSharesStacks) give_back(self);
      tsan_switch(thread->tsan);
      jump(self, *next);
      break;
    }
  }
}

void Executor::enter(Thread& thread) {
  current = &thread;
  threadIdx = thread.index;
  thread.atomics = 0;
  if (kTsan && tsan_current() != thread.tsan) tsan_switch(thread.tsan);
}

/// Lets the others run; returns once this thread has been marked runnable and its turn has come.
void Executor::suspend() {
  Thread& self = *current;
  Thread* next = pick();
  if (next == &self) return;
  Fiber* fiber = next->fiber;
  if (fiber == nullptr) {
    fiber = take_fiber();
    fiber->start = next;
  }
  tsan_switch(next->tsan);
  jump(*self.fiber, *fiber);
  enter(self);
}

/// The next thread of the sweep that may run. Ends the kernel when all wait.
Thread* Executor::pick() {
  if (ready_count_ == 0) {
    const Thread* one = nullptr;
    const Thread* other = nullptr;
    for (int i = 0; i < count_; ++i) {
      const Thread& thread = threads_[i];
      if (thread.state == State::returned) continue;
      if (one == nullptr) one = &thread;
      if (!same(thread.site, one->site) && other == nullptr) other = &thread;
    }
    if (other == nullptr) refuse("deadlock: ", *one, " waits at ", one->site);
    refuse("deadlock: ", *one, " waits at ", one->site, " and ", *other, " at ", other->site);
  }
  for (;;) {
    for (int word = cursor_ / 64; word * 64 < count_; ++word) {
      std::uint64_t bits = ready_[word];
      if (word == cursor_ / 64) bits &= ~std::uint64_t(0) << (cursor_ % 64);
      if (bits == 0) continue;
      const int position = word * 64 + __builtin_ctzll(bits);
      ready_[word] &= ~(std::uint64_t(1) << (position % 64));
      --ready_count_;
      cursor_ = position + 1;
      return &threads_[order_[position]];
    }
    new_sweep();
  }
}

void Executor::new_sweep() {
  cursor_ = 0;
  if (current_settings.order != Order::shuffled) return;
  bool runnable[kMaxThreads];
  for (int i = 0; i < count_; ++i) runnable[order_[i]] = (ready_[i / 64] >> (i % 64) & 1) != 0;
  shuffle(order_, static_cast<std::uint64_t>(count_), random_);
  for (int i = 0; i < (count_ + 63) / 64; ++i) ready_[i] = 0;
  ready_count_ = 0;
  for (int i = 0; i < count_; ++i) {
    threads_[order_[i]].position = i;
    if (runnable[order_[i]]) set(i);
  }
}

void Executor::finish(Thread& thread) {
  thread.state = State::returned;
  --left_;
  if (first_returned_ < 0) first_returned_ = thread.number;
  if (barrier_count_ > 0) {
    const Thread& waiting = threads_[barrier_first_];
    refuse("returned while ", waiting, " waits at the barrier ", waiting.site);
  }
  Warp& warp = warps_[thread.number / kWarp];
  const unsigned bit = 1u << (thread.number % kWarp);
  warp.returned |= bit;
  for (int i = 0; i < warp.waiting; ++i) {
    if ((warp.collectives[i].mask & bit) == 0) continue;
    refuse("returned, but is in the mask of ", warp.collectives[i].site);
  }
  tsan_release(&end_token_);
}

void Executor::stop() {
  failed_ = true;
  jump(*current->fiber, main_);
  std::abort();
}

// ---- waits ----

int Executor::barrier(BarrierOp op, int value, Site site) {
  Thread& self = *current;
  self.site = site;
  if (left_ != count_) {
    refuse("waits at the barrier ", site, ", but ", threads_[first_returned_], " has returned");
  }
  if (barrier_count_ == 0) {
    barrier_first_ = self.number;
    barrier_votes_ = 0;
  } else if (!same(site, threads_[barrier_first_].site)) {
    refuse("waits at the barrier ", site, ", but ", threads_[barrier_first_], " waits at the barrier ",
           threads_[barrier_first_].site);
  }
  char* token = &barrier_token_[barrier_phase_ % 2];
  tsan_release(token);
  barrier_votes_ += value != 0;
  if (++barrier_count_ < count_) {
    self.state = State::at_barrier;
  } else {
    switch (op) {
      case BarrierOp::none:
        break;
      case BarrierOp::any:
        barrier_result_ = barrier_votes_ > 0;
        break;
      case BarrierOp::all:
        barrier_result_ = barrier_votes_ == count_;
        break;
      case BarrierOp::count:
        barrier_result_ = barrier_votes_;
        break;
    }
    barrier_count_ = 0;
    ++barrier_phase_;
    for (int i = 0; i < count_; ++i) mark_runnable(threads_[i]);
  }
  suspend();
  tsan_acquire(token);
  return barrier_result_;
}

void Executor::collective(unsigned mask, const void* in, void* out, WarpFunction function, Site site) {
  Thread& self = *current;
  self.site = site;
  const int lane = self.number % kWarp;
  const unsigned bit = 1u << lane;
  Warp& warp = warps_[self.number / kWarp];
  if ((mask & bit) == 0) {
    refuse("is not in its own mask at ", site);
  }
  if ((mask & ~warp.lanes) != 0) {
    refuse("names lane ", __builtin_ctz(mask & ~warp.lanes), " at ", site, ", which its block does not have");
  }
  if ((mask & warp.returned) != 0) {
    refuse("names lane ", __builtin_ctz(mask & warp.returned), " at ", site, ", which has returned");
  }
  Collective* group = nullptr;
  for (int i = 0; i < warp.waiting; ++i) {
    Collective& other = warp.collectives[i];
    if (other.mask == mask && other.function == function && same(other.site, site)) {
      group = &other;
      break;
    }
    // Groups may overlap as long as nobody waits for one that waits for him.
    if ((other.mask & bit) == 0 || (other.arrived & mask) == 0) continue;
    const Thread& waiting = threads_[self.number - lane + __builtin_ctz(other.arrived & mask)];
    refuse("comes to ", site, " with ", Mask{mask}, ", but ", waiting, " of its warp waits at ", other.site, " with ",
           Mask{other.mask});
  }
  if (group == nullptr) {
    group = &warp.collectives[warp.waiting++];
    *group = {mask, 0, function, site};
  }
  warp.in[lane] = in;
  warp.out[lane] = out;
  group->arrived |= bit;
  tsan_release(&warp.token);
  if (group->arrived != mask) {
    self.state = State::at_collective;
  } else {
    *group = warp.collectives[--warp.waiting];
    tsan_acquire(&warp.token);
    if (function != nullptr) function(warp.in, warp.out, mask);
    tsan_release(&warp.token);
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
      mark_runnable(threads_[self.number - lane + __builtin_ctz(rest)]);
    }
  }
  suspend();
  tsan_acquire(&warp.token);
}

void Executor::fence() {
  tsan_acquire(&fence_token_);
  tsan_release(&fence_token_);
}

// ---- shared memory ----

/// Writes the poison without a call that ThreadSanitizer would see.
void fill(char* target, std::size_t bytes, Poison poison) {
  const float huge = 1e30f;
  std::uint32_t pattern = 0xffffffffu;
  if (poison == Poison::huge) std::memcpy(&pattern, &huge, sizeof(huge));
  std::size_t i = 0;
  for (; i + 4 <= bytes; i += 4) {
    __builtin_memcpy(target + i, &pattern, 4);
    tsan_no_memset();
  }
  for (; i < bytes; ++i) target[i] = static_cast<char>(pattern >> (i % 4 * 8));
}

void Executor::reserve_arena(char* data, std::size_t bytes) {
  arena_used_ = static_cast<std::size_t>(data - arena_) + bytes + kGap;
  arena_used_ = (arena_used_ + 15) / 16 * 16;
  asan_unpoison(data, bytes);
  fill(data, bytes, current_settings.poison);
}

void* Executor::dynamic_shared_memory() {
  // 16 bytes past a multiple of 128: what needs a wider alignment than promised does not get it by luck.
  return arena_ + kGap + 16;
}

void* Executor::shared_memory(const void* key, std::size_t bytes) {
  for (int i = 0; i < arrays_; ++i) {
    if (array_[i].key == key) return array_[i].data;
  }
  static_bytes_ = (static_bytes_ + 15) / 16 * 16 + bytes;
  if (static_bytes_ > kStaticLimit || static_bytes_ + dynamic_bytes_ > current_settings.shared_limit) {
    refuse("needs ", static_bytes_, " bytes of shared arrays and ", dynamic_bytes_,
           " of dynamic shared memory, limits ", kStaticLimit, " and ", current_settings.shared_limit, " in all");
  }
  if (arrays_ == kMaxArrays) refuse("declares too many shared arrays");
  char* data = arena_ + arena_used_;
  reserve_arena(data, bytes);
  array_[arrays_++] = {key, bytes, data};
  return data;
}

// ---- grid and block ----

void Executor::begin_grid(dim3 block) {
  blockDim = block;
  if (block.x == block_.x && block.y == block_.y && block.z == block_.z) return;
  block_ = block;
  count_ = 0;
  for (unsigned z = 0; z < block.z; ++z) {
    for (unsigned y = 0; y < block.y; ++y) {
      for (unsigned x = 0; x < block.x; ++x) {
        threads_[count_].index = {x, y, z};
        threads_[count_].number = count_;
        ++count_;
      }
    }
  }
}

void Executor::begin_block(std::uint64_t block) {
  blockIdx.x = static_cast<unsigned>(block % gridDim.x);
  blockIdx.y = static_cast<unsigned>(block / gridDim.x % gridDim.y);
  blockIdx.z = static_cast<unsigned>(block / gridDim.x / gridDim.y);
  left_ = count_;
  first_returned_ = -1;
  barrier_count_ = 0;
  for (int w = 0; w * kWarp < count_; ++w) {
    const int lanes = std::min(kWarp, count_ - w * kWarp);
    warps_[w].lanes = lanes == kWarp ? ~0u : (1u << lanes) - 1;
    warps_[w].returned = 0;
    warps_[w].waiting = 0;
  }

  random_ = mix(current_settings.seed ^ mix(block));
  for (int i = 0; i < count_; ++i) order_[i] = current_settings.order == Order::reverse ? count_ - 1 - i : i;
  if (current_settings.order == Order::shuffled) shuffle(order_, static_cast<std::uint64_t>(count_), random_);
  for (auto& word : ready_) word = 0;
  ready_count_ = 0;
  cursor_ = 0;
  for (int i = 0; i < count_; ++i) {
    Thread& thread = threads_[order_[i]];
    thread.position = i;
    thread.fiber = nullptr;
    thread.async_count = 0;
    thread.async_group = 0;
    mark_runnable(thread);
  }

  if (kTsan) forget_memory();
  asan_poison(arena_, kArenaBytes);
  static_bytes_ = 0;
  arrays_ = 0;
  reserve_arena(static_cast<char*>(dynamic_shared_memory()), dynamic_bytes_);
  if (kTsan) hire_threads(block);
  tsan_release(&launch_token_);
}

/// For ThreadSanitizer: what the block before did to shared memory and stacks has nothing to do with the next one.
void Executor::forget_memory() {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  mmap(arena_, (arena_used_ + 4095) / 4096 * 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
  while (fibers_.size() < static_cast<std::size_t>(count_)) make_fiber();
  mmap(stacks_, static_cast<std::size_t>(count_) * kStackBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  pool_.clear();
  for (int i = count_ - 1; i >= 0; --i) {
    make_context(*fibers_[i]);
    give_back(*fibers_[i]);
  }
}

/// For ThreadSanitizer: gives the block's threads their fibers. A fiber is dear, so they are kept; but the threads of
/// two blocks that share one are taken for a single thread. So there are two sets: the first two blocks of a launch
/// have one each, the others draw.
void Executor::hire_threads(std::uint64_t block) {
  std::vector<void*>& set = hired_[block < 2 ? block : mix(block) % 2];
  if (set.size() < static_cast<std::size_t>(count_)) set.resize(static_cast<std::size_t>(count_));
  for (int i = 0; i < count_; ++i) {
    if (set[i] == nullptr) set[i] = tsan_create();
    threads_[i].tsan = set[i];
  }
}

/// For ThreadSanitizer: ends the threads that a failure has stopped.
void Executor::dismiss_threads() {
  for (int i = 0; i < count_; ++i) {
    if (threads_[i].state == State::returned) continue;
    tsan_switch(threads_[i].tsan);
    tsan_release(&end_token_);
    tsan_switch(main_tsan_);
    tsan_destroy(threads_[i].tsan);
    for (auto& set : hired_) std::replace(set.begin(), set.end(), threads_[i].tsan, static_cast<void*>(nullptr));
  }
}

void Executor::run(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread) {
  const std::uint64_t blocks = std::uint64_t(grid.x) * grid.y * grid.z;
  if (current_settings.order == Order::shuffled && blocks <= (1u << 24)) {
    block_order_.resize(blocks);
    std::iota(block_order_.begin(), block_order_.end(), 0u);
    std::uint64_t state = current_settings.seed;
    shuffle(block_order_.data(), blocks, state);
  } else {
    block_order_.clear();
  }
  gridDim = grid;
  begin_grid(block);
  dynamic_bytes_ = shared_bytes;
  body_ = &thread;
  failed_ = false;
  exception_ = nullptr;
  active = this;
  main_tsan_ = tsan_current();
  for (std::uint64_t i = 0; i < blocks && !failed_; ++i) {
    const bool reverse = current_settings.order == Order::reverse;
    begin_block(!block_order_.empty() ? block_order_[i] : reverse ? blocks - 1 - i : i);
    Fiber* fiber = take_fiber();
    fiber->start = pick();
    tsan_switch(fiber->start->tsan);
    jump(main_, *fiber);
  }
  if (kTsan && failed_) dismiss_threads();
  tsan_acquire(&end_token_);
  active = nullptr;
  counters.launches += 1;
  counters.blocks += static_cast<std::int64_t>(blocks);
  counters.threads += static_cast<std::int64_t>(blocks) * count_;
  if (!failed_) return;
  abandon_fibers();
  if (exception_ != nullptr) std::rethrow_exception(std::exchange(exception_, nullptr));
  throw KernelError(failure_);
}

Executor& executor_of_this_thread() {
  if (owned_executor == nullptr) owned_executor = std::make_unique<Executor>();
  return *owned_executor;
}

/// The running kernel's executor. @throws KernelError outside a kernel
Executor& running() {
  if (active == nullptr) throw KernelError("a device function was called outside a kernel");
  return *active;
}

}  // namespace

// ---- settings ----

const Settings& settings() {
  return current_settings;
}

ScopedSettings::ScopedSettings(const Settings& settings) : previous_(current_settings) {
  current_settings = settings;
}
ScopedSettings::~ScopedSettings() {
  forget_failure();
  current_settings = previous_;
}

std::vector<Settings> all_settings() {
  std::vector<Settings> all;
  const auto add = [&](Order order, std::uint64_t seed, Poison poison) {
    Settings settings;
    settings.order = order;
    settings.seed = seed;
    settings.poison = poison;
    all.push_back(settings);
  };
  if (kTsan) {  // which sees a race in any order, and is slow
    add(Order::forward, 0, Poison::nan);
    add(Order::shuffled, 1, Poison::huge);
    return all;
  }
  for (const Poison poison : {Poison::nan, Poison::huge}) {
    add(Order::forward, 0, poison);
    add(Order::reverse, 0, poison);
    for (const std::uint64_t seed : {1, 2, 3}) add(Order::shuffled, seed, poison);
  }
  return all;
}

std::string describe(const Settings& settings) {
  const std::string order = settings.order == Order::forward   ? "forward"
                            : settings.order == Order::reverse ? "reverse"
                                                               : concat("shuffled", settings.seed);
  return concat(order, settings.poison == Poison::nan ? ",nan" : ",huge", settings.deferred ? ",deferred" : "");
}

Counters counters() {
  return executor_of_this_thread().counters;
}

void fill_poison(void* target, std::size_t bytes, Poison poison) {
  fill(static_cast<char*>(target), bytes, poison);
}

// ---- launches ----

cudaError_t launch_threads(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                           std::function<void()> thread) {
  if (active != nullptr) throw KernelError("a kernel launched a kernel");
  const std::uint64_t threads = std::uint64_t(block.x) * block.y * block.z;
  const bool good_block = threads >= 1 && threads <= kMaxThreads && block.x <= 1024 && block.y <= 1024 && block.z <= 64;
  const bool good_grid =
      grid.x >= 1 && grid.x <= 0x7fffffffu && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535;
  if (!good_block || !good_grid) return remember(cudaErrorInvalidConfiguration);
  if (shared_bytes > current_settings.shared_limit) return remember(cudaErrorInvalidValue);
  return enqueue(stream, [grid, block, shared_bytes, thread = std::move(thread)] {
    executor_of_this_thread().run(grid, block, shared_bytes, thread);
  });
}

// ---- inside a kernel ----

void fail(const char* message) {
  running().refuse(message);
}

int block_barrier(BarrierOp op, int value, Site site) {
  return running().barrier(op, value, site);
}

void warp_collective(unsigned mask, const void* in, void* out, WarpFunction function, Site site) {
  running().collective(mask, in, out, function, site);
}

namespace {

struct ShuffleIn {
  std::uint64_t value;
  int source;
};

void do_shuffle(const void* const* in, void* const* out, unsigned mask) {
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    const int to = __builtin_ctz(rest);
    const int from = static_cast<const ShuffleIn*>(in[to])->source;
    if ((mask >> from & 1) == 0) {
      active->refuse("completes the shuffle ", active->current->site, " in which lane ", to, " reads lane ", from,
                     ", which is not in the mask");
    }
    *static_cast<std::uint64_t*>(out[to]) = static_cast<const ShuffleIn*>(in[from])->value;
  }
}

void do_ballot(const void* const* in, void* const* out, unsigned mask) {
  unsigned result = 0;
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    if (*static_cast<const bool*>(in[lane])) result |= 1u << lane;
  }
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) *static_cast<unsigned*>(out[__builtin_ctz(rest)]) = result;
}

}  // namespace

std::uint64_t warp_shuffle(unsigned mask, std::uint64_t value, Shuffle kind, int operand, int width, Site site) {
  Executor& executor = running();
  if (width < 1 || width > kWarp || (width & (width - 1)) != 0) {
    executor.refuse("shuffles with width ", width, " at ", site, ", wanted a power of two up to 32");
  }
  const int self = executor.current->number % kWarp;
  const int first = self & ~(width - 1);
  const int last = first + width - 1;
  int source = self;
  switch (kind) {
    case Shuffle::index:
      source = first + (operand & (width - 1));
      break;
    case Shuffle::up:
      source = self - operand < first ? self : self - operand;
      break;
    case Shuffle::down:
      source = self + operand > last ? self : self + operand;
      break;
    case Shuffle::exclusive_or:
      source = ((self ^ operand) & (kWarp - 1)) > last ? self : (self ^ operand) & (kWarp - 1);
  }
  const ShuffleIn in = {value, source};
  std::uint64_t out = 0;
  executor.collective(mask, &in, &out, &do_shuffle, site);
  return out;
}

unsigned warp_ballot(unsigned mask, bool predicate, Site site) {
  unsigned out = 0;
  running().collective(mask, &predicate, &out, &do_ballot, site);
  return out;
}

void warp_barrier(unsigned mask, Site site) {
  running().collective(mask, nullptr, nullptr, nullptr, site);
}

int lane() {
  return running().current->number % kWarp;
}

void* shared_memory(const void* key, std::size_t bytes) {
  return running().shared_memory(key, bytes);
}

void* dynamic_shared_memory() {
  return running().dynamic_shared_memory();
}

void count_atomic() {
  Executor& executor = running();
  if (++executor.current->atomics > current_settings.spin_limit) {
    executor.refuse("spins: it runs atomics without end while the others wait for their turn");
  }
}

void fence() {
  running().fence();
}

// ---- cp.async ----

void check_async(const void* target, const void* source, int words) {
  Executor& executor = running();
  const auto size = static_cast<std::uintptr_t>(words) * 4;
  if (reinterpret_cast<std::uintptr_t>(target) % size != 0 || reinterpret_cast<std::uintptr_t>(source) % size != 0) {
    executor.refuse("calls cp.async with an address that is no multiple of its size");
  }
  if (!executor.in_arena(target)) executor.refuse("calls cp.async with a target outside shared memory");
  if (executor.in_arena(source)) executor.refuse("calls cp.async with a source in shared memory");
}

void push_async(std::uint32_t* target, int words, std::uint32_t w0, std::uint32_t w1, std::uint32_t w2,
                std::uint32_t w3) {
  Executor& executor = running();
  Thread& thread = *executor.current;
  if (thread.async_count == kMaxAsync) executor.refuse("has too many cp.async in flight for the executor");
  AsyncCopy& copy = executor.ring(thread)[(thread.async_first + thread.async_count++) % kMaxAsync];
  copy.target = target;
  copy.words = words;
  copy.group = thread.async_group;
  copy.data[0] = w0;
  copy.data[1] = w1;
  copy.data[2] = w2;
  copy.data[3] = w3;
}

void commit_async() {
  ++running().current->async_group;
}

const AsyncCopy* pop_async(int groups) {
  Executor& executor = running();
  Thread& thread = *executor.current;
  if (thread.async_count == 0) return nullptr;
  const AsyncCopy& copy = executor.ring(thread)[thread.async_first];
  if (copy.group >= thread.async_group - groups) return nullptr;
  thread.async_first = (thread.async_first + 1) % kMaxAsync;
  --thread.async_count;
  return &copy;
}

}  // namespace shrinkwarp::simt
