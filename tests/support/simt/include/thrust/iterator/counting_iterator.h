// Stand-in for Thrust's header of this name in the host executor's build.
#pragma once

#include <cstddef>
#include <iterator>

namespace thrust {

/// Stands for the sequence value, value + 1, ...
template <class T>
class counting_iterator {
 public:
  using value_type = T;
  using difference_type = std::ptrdiff_t;
  using pointer = const T*;
  using reference = T;
  using iterator_category = std::random_access_iterator_tag;

  explicit counting_iterator(T value = T()) : value_(value) {}
  T operator*() const { return value_; }
  T operator[](std::ptrdiff_t i) const { return static_cast<T>(value_ + static_cast<T>(i)); }
  counting_iterator operator+(std::ptrdiff_t i) const { return counting_iterator((*this)[i]); }
  std::ptrdiff_t operator-(counting_iterator other) const { return static_cast<std::ptrdiff_t>(value_ - other.value_); }
  counting_iterator& operator++() {
    ++value_;
    return *this;
  }
  bool operator==(counting_iterator other) const { return value_ == other.value_; }
  bool operator!=(counting_iterator other) const { return value_ != other.value_; }

 private:
  T value_;
};

template <class T>
counting_iterator<T> make_counting_iterator(T value) {
  return counting_iterator<T>(value);
}

}  // namespace thrust
