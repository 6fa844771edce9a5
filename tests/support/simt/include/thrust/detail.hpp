// What the stand-ins of Thrust's headers share: policies, exceptions and pointers.
#pragma once

#include <cstddef>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <cuda_runtime.h>

#include "../../executor.hpp"

namespace thrust {

namespace system {
class system_error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};
}  // namespace system
using system::system_error;

template <class T>
using plus = std::plus<T>;

template <class T>
class device_ptr {
 public:
  using value_type = std::remove_cv_t<T>;
  using difference_type = std::ptrdiff_t;
  using pointer = T*;
  using reference = T&;
  using iterator_category = std::random_access_iterator_tag;

  device_ptr() = default;
  explicit device_ptr(T* pointer) : pointer_(pointer) {}
  T* get() const { return pointer_; }
  T& operator*() const { return *pointer_; }
  T& operator[](std::ptrdiff_t i) const { return pointer_[i]; }
  device_ptr operator+(std::ptrdiff_t i) const { return device_ptr(pointer_ + i); }
  device_ptr operator-(std::ptrdiff_t i) const { return device_ptr(pointer_ - i); }
  std::ptrdiff_t operator-(device_ptr other) const { return pointer_ - other.pointer_; }
  device_ptr& operator++() {
    ++pointer_;
    return *this;
  }
  bool operator==(device_ptr other) const { return pointer_ == other.pointer_; }
  bool operator!=(device_ptr other) const { return pointer_ != other.pointer_; }
  bool operator<(device_ptr other) const { return pointer_ < other.pointer_; }

 private:
  T* pointer_ = nullptr;
};

template <class T>
device_ptr<T> device_pointer_cast(T* pointer) {
  return device_ptr<T>(pointer);
}
template <class T>
T* raw_pointer_cast(device_ptr<T> pointer) {
  return pointer.get();
}
template <class T>
T* raw_pointer_cast(T* pointer) {
  return pointer;
}

/// cuda::par and cuda::par_nosync, with or without a stream: where an algorithm runs and whether it waits.
struct Policy {
  bool waits = true;
  cudaStream_t stream = nullptr;
  Policy on(cudaStream_t other) const { return {waits, other}; }
};
namespace cuda {
inline constexpr Policy par{true, nullptr};
inline constexpr Policy par_nosync{false, nullptr};
}  // namespace cuda
inline constexpr Policy device{true, nullptr};

namespace simt_detail {

template <class It>
using value_of = std::remove_cv_t<typename std::iterator_traits<It>::value_type>;

inline void check(cudaError_t status) {
  if (status != cudaSuccess) throw system_error(std::string("thrust: ") + cudaGetErrorString(status));
}

/// For algorithms without a result.
template <class Work>
void run(const Policy& policy, Work work) {
  check(shrinkwarp::simt::enqueue(policy.stream, work));
  if (policy.waits) check(shrinkwarp::simt::drain(policy.stream));
}

/// For those with one: they wait under every policy, so they fail while the stream is being captured.
template <class Result, class Work>
Result run_for(const Policy& policy, Work work) {
  check(shrinkwarp::simt::drain(policy.stream));
  Result result{};
  check(shrinkwarp::simt::enqueue(policy.stream, [&] { result = work(); }));
  check(shrinkwarp::simt::drain(policy.stream));
  return result;
}

}  // namespace simt_detail
}  // namespace thrust
