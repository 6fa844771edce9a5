#include <shrinkwarp/kernels/least_squares/least_squares.hpp>

#include <algorithm>
#include <limits>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/index.hpp>

extern "C" {
// LAPACK: least squares of least norm by a complete orthogonal factorisation; a and b are overwritten, b by z.
void dgelsy_(const int* m, const int* n, const int* nrhs, double* a, const int* lda, double* b, const int* ldb,
             int* jpvt, const double* rcond, int* rank, double* work, const int* lwork, int* info);
}

namespace shrinkwarp {
namespace {

// dgelsy's scratch in blocks of 32 columns.
std::int64_t work_elements(std::int64_t rows, std::int64_t columns) {
  const std::int64_t small = std::min(rows, columns);
  return small + std::max({2 * small + 33 * (columns + 1), 2 * small + 32, columns + 1});
}

}  // namespace

std::int64_t LeastSquares::bytes(std::int64_t rows, std::int64_t columns) {
  return 8 * (rows * columns + std::max(rows, columns) + work_elements(rows, columns)) + 4 * columns;
}

MatrixView<double> LeastSquares::columns(std::int64_t rows, std::int64_t count) {
  rows_ = rows;
  count_ = count;
  if (matrix_.size() < index_of(rows * count)) matrix_.resize(index_of(rows * count));
  return {matrix_.data(), rows, count, rows, {}};
}

void LeastSquares::solve(const double* b, double* z) {
  if (count_ == 0) return;
  right_.assign(index_of(std::max(rows_, count_)), 0.0);
  std::copy_n(b, rows_, right_.begin());
  pivots_.assign(index_of(count_), 0);
  work_.resize(std::max(work_.size(), index_of(work_elements(rows_, count_))));
  const auto rows = static_cast<int>(rows_), count = static_cast<int>(count_);
  const int one = 1, ld = std::max(rows, count), work_size = static_cast<int>(work_.size());
  const double condition = std::max(rows, count) * std::numeric_limits<double>::epsilon();
  int rank = 0, info = 0;
  dgelsy_(&rows, &count, &one, matrix_.data(), &rows, right_.data(), &ld, pivots_.data(), &condition, &rank,
          work_.data(), &work_size, &info);
  SHRINKWARP_REQUIRE(info == 0, Error, "LeastSquares: LAPACK's dgelsy gives ", info, " for ", rows, " x ", count);
  std::copy_n(right_.begin(), count_, z);
}

}  // namespace shrinkwarp
