// What the executor tells the sanitizers, in calls that are nothing without them.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN
#endif
#endif

#ifdef SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef SIMT_TSAN_CORE
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* token);
void __tsan_release(void* token);
}
#endif

namespace shrinkwarp::simt {

#ifdef SIMT_ASAN
inline constexpr bool kAsan = true;
inline void asan_poison(void* memory, std::size_t bytes) {
  __asan_poison_memory_region(memory, bytes);
}
inline void asan_unpoison(void* memory, std::size_t bytes) {
  __asan_unpoison_memory_region(memory, bytes);
}
/// Before a jump to another stack and after the arrival there; `fake_stack` belongs to the stack that is left, then to
/// the one that is entered, and `bottom` and `size` receive the stack that was left.
inline void asan_leave(void** fake_stack, const void* bottom, std::size_t size) {
  __sanitizer_start_switch_fiber(fake_stack, bottom, size);
}
inline void asan_arrive(void* fake_stack, const void** bottom, std::size_t* size) {
  __sanitizer_finish_switch_fiber(fake_stack, bottom, size);
}
#else
inline constexpr bool kAsan = false;
inline void asan_poison(void*, std::size_t) {}
inline void asan_unpoison(void*, std::size_t) {}
inline void asan_leave(void**, const void*, std::size_t) {}
inline void asan_arrive(void*, const void**, std::size_t*) {}
#endif

#ifdef SIMT_TSAN_CORE
inline constexpr bool kTsan = true;
inline void* tsan_current() {
  return __tsan_get_current_fiber();
}
inline void* tsan_create() {
  return __tsan_create_fiber(0);
}
inline void tsan_destroy(void* fiber) {
  __tsan_destroy_fiber(fiber);
}
/// From here on `fiber` runs; it knows what the one before did only if `ordered`.
inline void tsan_switch(void* fiber, bool ordered = false) {
  __tsan_switch_to_fiber(fiber, ordered ? 0 : 1);
}
inline void tsan_acquire(void* token) {
  __tsan_acquire(token);
}
inline void tsan_release(void* token) {
  __tsan_release(token);
}
/// Keeps a loop from becoming a call of memset, which ThreadSanitizer would take for the running thread's.
inline void tsan_no_memset() {
  __asm__ volatile("" ::: "memory");
}
#else
inline constexpr bool kTsan = false;
inline void* tsan_current() {
  return nullptr;
}
inline void* tsan_create() {
  return nullptr;
}
inline void tsan_destroy(void*) {}
inline void tsan_switch(void*, bool = false) {}
inline void tsan_acquire(void*) {}
inline void tsan_release(void*) {}
inline void tsan_no_memset() {}
#endif

}  // namespace shrinkwarp::simt
