#pragma once

#include <algorithm>
#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::cpu {

/// body(column) for all columns of a matrix that is not empty, a task about 16384 elements.
template <class T, class Body>
void for_columns(const Context& context, MatrixView<T> matrix, const Body& body) {
  constexpr std::int64_t kElements = 16384;
  const std::int64_t columns = std::max<std::int64_t>(1, kElements / matrix.rows);
  context.parallel_for((matrix.cols + columns - 1) / columns, [&](std::int64_t task, int) {
    for (std::int64_t j = task * columns; j < std::min(matrix.cols, (task + 1) * columns); ++j) body(j);
  });
}

}  // namespace shrinkwarp::cpu
