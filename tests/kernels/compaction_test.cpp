#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/compaction/compaction.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::Guarded;
using testing::GuardedHost;
using testing::guards_intact;
using testing::same_bits;
using testing::to_device;
using testing::to_host;

class Compaction : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Compaction);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Uniform in (0, 1), the same on every machine.
std::vector<double> uniform(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_uniform(Context::cpu(1), 29, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

template <class T>
void expect_same_memory(const GuardedHost<T>& expected, const GuardedHost<T>& found) {
  ASSERT_EQ(expected.memory.size(), found.memory.size());
  for (std::size_t k = 0; k < expected.memory.size(); ++k)
    ASSERT_TRUE(same_bits(expected.memory[k], found.memory[k]))
        << "element " << static_cast<std::int64_t>(k) - GuardedHost<T>::kGuard;
}

template <class T>
GuardedHost<T> vector_of(const std::vector<T>& values) {
  return GuardedHost<T>::make(static_cast<std::int64_t>(values.size()), 1,
                              [&](std::int64_t i, std::int64_t) { return values[static_cast<std::size_t>(i)]; });
}

// ---- move_columns ----

template <class T>
void check_moves(const Context& context) {
  struct Shape {
    std::int64_t rows, cols, padding, skip;  // with a skipped row and an ld that is a multiple of 4, 16-byte columns
  };
  const Shape shapes[] = {{43, 7, 3, 0}, {597, 33, 2, 1}, {1, 130, 0, 0},
                          {1, 1, 0, 0},  {1030, 5, 1, 1}, {302, 2, 0, 0}};
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(::testing::Message() << shape.rows << " x " << shape.cols);
    const std::int64_t rows = shape.rows + shape.skip;
    const std::vector<double> values = uniform(rows * shape.cols, 1);
    GuardedHost<T> matrix = GuardedHost<T>::make(
        rows, shape.cols,
        [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * rows)]; }, shape.padding);
    matrix(shape.skip, 0) = static_cast<T>(kNaN);
    // The last columns that stay move into the first that go: every third is a hole.
    std::vector<std::int32_t> from, to;
    std::int32_t low = 0;
    std::int32_t high = static_cast<std::int32_t>(shape.cols) - 1;
    for (;;) {
      while (low < high && low % 3 != 1) ++low;
      while (low < high && high % 3 == 1) --high;
      if (low >= high) break;
      to.push_back(low++);
      from.push_back(high--);
    }
    GuardedHost<T> expected = matrix;
    for (std::size_t k = 0; k < from.size(); ++k) {
      for (std::int64_t i = shape.skip; i < rows; ++i) expected(i, to[k]) = matrix(i, from[k]);
    }
    const auto placed = to_device(context, matrix);
    const auto placed_from = to_device(context, vector_of(from)), placed_to = to_device(context, vector_of(to));
    const MatrixView<T> all = placed.matrix();
    move_columns(context, MatrixView<T>{all.data + shape.skip, shape.rows, shape.cols, all.ld, all.device},
                 placed_from.vector(), placed_to.vector());
    expect_same_memory(expected, to_host(context, placed));
  }
}

TEST_P(Compaction, MovesColumnsOfFloat) {
  check_moves<float>(context());
}
TEST_P(Compaction, MovesColumnsOfDouble) {
  check_moves<double>(context());
}

// ---- scale_columns ----

template <class From, class To>
void check_scaling(const Context& context) {
  struct Shape {
    std::int64_t rows, from_cols, to_cols, padding;
  };
  for (const Shape& shape : {Shape{43, 7, 9, 3}, Shape{597, 33, 40, 0}, Shape{1, 130, 130, 2}, Shape{1030, 5, 3, 1},
                             Shape{302, 2, 2, 0}, Shape{5, 3, 3, 0}}) {
    SCOPED_TRACE(::testing::Message() << shape.rows << " x " << shape.from_cols << " to " << shape.to_cols);
    const std::vector<double> values = uniform(shape.rows * shape.from_cols, 6);
    GuardedHost<From> source = GuardedHost<From>::make(
        shape.rows, shape.from_cols,
        [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * shape.rows)] - 0.5; },
        shape.padding);
    source(0, 0) = static_cast<From>(kNaN);
    // Columns in reverse, every third target left alone.
    std::vector<std::int32_t> from, to;
    std::vector<double> factor;
    for (std::int32_t b = 0; b < std::min(shape.from_cols, shape.to_cols); ++b) {
      if (b % 3 == 2) continue;
      from.push_back(static_cast<std::int32_t>(shape.from_cols) - 1 - b);
      to.push_back(b);
      factor.push_back(b % 2 == 0 ? 0.25 : -1.7);
    }
    const GuardedHost<To> before = GuardedHost<To>::make(
        shape.rows, shape.to_cols, [](std::int64_t i, std::int64_t) { return static_cast<double>(i); }, 1);
    GuardedHost<To> expected = before;
    for (std::size_t k = 0; k < from.size(); ++k)
      for (std::int64_t i = 0; i < shape.rows; ++i)
        expected(i, to[k]) = static_cast<To>(static_cast<double>(source(i, from[k])) * factor[k]);
    const auto placed_source = to_device(context, source);
    const auto placed_target = to_device(context, before);
    const auto placed_from = to_device(context, vector_of(from)), placed_to = to_device(context, vector_of(to));
    const auto placed_factor = to_device(context, vector_of(factor));
    scale_columns<From, To>(context, placed_source.matrix(), placed_from.vector(), placed_factor.vector(),
                            placed_to.vector(), placed_target.matrix());
    expect_same_memory(expected, to_host(context, placed_target));
    expect_same_memory(source, to_host(context, placed_source));
  }
}

TEST_P(Compaction, ScalesColumns) {
  check_scaling<float, float>(context());
  check_scaling<float, double>(context());
  check_scaling<double, float>(context());
  check_scaling<double, double>(context());
}

// ---- select_columns ----

TEST_P(Compaction, SelectsInOrder) {
  for (const std::int64_t N : {0, 1, 2, 7, 33, 130, 1000, 5000}) {
    for (const double density : {0.0, 0.02, 0.5, 1.0}) {
      SCOPED_TRACE(::testing::Message() << N << " columns, density " << density);
      const std::vector<double> coin = uniform(N, 2);
      std::vector<std::uint8_t> flags;
      std::vector<std::int32_t> wanted;
      for (std::int64_t b = 0; b < N; ++b) {
        flags.push_back(coin[static_cast<std::size_t>(b)] < density ? 1 : 0);
        if (flags.back() != 0) wanted.push_back(static_cast<std::int32_t>(b));
      }
      const GuardedHost<std::int32_t> before(N, 1);
      const GuardedHost<std::int64_t> no_count(1, 1);
      const auto placed_flags = to_device(context(), vector_of(flags));
      const auto selected = to_device(context(), before);
      const auto count = to_device(context(), no_count);
      const Tensor<std::uint8_t> scratch(context(), compaction_scratch(context(), N));
      select_columns(context(), placed_flags.vector(), selected.vector(), count.vector(), scratch.vector());
      const auto found = to_host(context(), selected);
      const auto found_count = to_host(context(), count);
      ASSERT_EQ(found_count(0), static_cast<std::int64_t>(wanted.size()));
      for (std::size_t k = 0; k < wanted.size(); ++k) ASSERT_EQ(found(static_cast<std::int64_t>(k)), wanted[k]) << k;
      EXPECT_TRUE(guards_intact(before, found));
      EXPECT_TRUE(guards_intact(no_count, found_count));
    }
  }
}

// ---- sparse_offsets, sparse_fill ----

template <class T>
void check_sparse(const Context& context) {
  struct Shape {
    std::int64_t m, N;
  };
  for (const Shape& shape : {Shape{597, 7}, Shape{611, 33}, Shape{1, 1}, Shape{1, 130}, Shape{31, 9}, Shape{32, 9},
                             Shape{33, 9}, Shape{256, 2}, Shape{257, 2}, Shape{5000, 4}, Shape{0, 3}, Shape{64, 0}}) {
    SCOPED_TRACE(::testing::Message() << shape.m << " x " << shape.N);
    // Columns from empty to full; what is not kept is a zero of either sign.
    const double densities[] = {0.01, 1, 0, 0.5, 0.1};
    const std::vector<double> coin = uniform(shape.m * shape.N, 3);
    GuardedHost<T> codes = GuardedHost<T>::make(shape.m, shape.N, [&](std::int64_t i, std::int64_t j) {
      const double c = coin[static_cast<std::size_t>(i + j * shape.m)];
      if (c >= densities[j % 5]) return i % 2 == 0 ? 0.0 : -0.0;
      return i % 3 == 0 ? -c : c;
    });
    if (shape.m > 40 && shape.N > 2) codes(40, 2) = static_cast<T>(kNaN);
    // Backwards, every second twice, then not at all.
    std::vector<std::int32_t> columns;
    for (std::int32_t b = static_cast<std::int32_t>(shape.N) - 1; b >= 0; --b) {
      columns.push_back(b);
      if (b % 2 == 1) columns.push_back(b);
    }
    for (int pass = 0; pass < 2; ++pass, columns.clear()) {
      std::vector<std::int64_t> offsets = {0};
      std::vector<std::int32_t> indices;
      std::vector<double> values;
      for (const std::int32_t column : columns) {
        for (std::int64_t i = 0; i < shape.m; ++i) {
          if (codes(i, column) == T(0)) continue;
          indices.push_back(static_cast<std::int32_t>(i));
          values.push_back(static_cast<double>(codes(i, column)));
        }
        offsets.push_back(static_cast<std::int64_t>(indices.size()));
      }
      const auto placed_codes = to_device(context, codes);
      const auto placed_columns = to_device(context, vector_of(columns));
      const auto count = static_cast<std::int64_t>(columns.size());
      const auto nonzeros = static_cast<std::int64_t>(indices.size());
      const auto placed_offsets = to_device(context, GuardedHost<std::int64_t>(count + 1, 1));
      const auto placed_indices = to_device(context, GuardedHost<std::int32_t>(nonzeros, 1));
      const auto placed_values = to_device(context, GuardedHost<double>(nonzeros, 1));
      const Tensor<std::uint8_t> scratch(context, compaction_scratch(context, count));
      sparse_offsets<T>(context, placed_codes.matrix(), placed_columns.vector(), placed_offsets.vector(),
                        scratch.vector());
      expect_same_memory(vector_of(offsets), to_host(context, placed_offsets));
      sparse_fill<T>(context, placed_codes.matrix(), placed_columns.vector(), placed_offsets.vector(),
                     placed_indices.vector(), placed_values.vector());
      expect_same_memory(vector_of(indices), to_host(context, placed_indices));
      expect_same_memory(vector_of(values), to_host(context, placed_values));
      expect_same_memory(codes, to_host(context, placed_codes));
    }
  }
}

TEST_P(Compaction, GathersNonzerosOfFloat) {
  check_sparse<float>(context());
}
TEST_P(Compaction, GathersNonzerosOfDouble) {
  check_sparse<double>(context());
}

TEST_P(Compaction, GivesWhatAReaderGets) {
  const auto codes = to_device<float>(context(), {0, 1.5f, 0, -2, 0, 0, 0, 0, 3, 0, 0, 0.25f}, 4, 3);
  const auto columns = to_device<std::int32_t>(context(), {2, 0, 1}, 3);
  const Tensor<std::int64_t> offsets(context(), 4);
  const Tensor<std::uint8_t> scratch(context(), compaction_scratch(context(), 3));
  sparse_offsets<float>(context(), codes.matrix(), columns.vector(), offsets.vector(), scratch.vector());
  EXPECT_EQ(to_host(context(), offsets), (std::vector<std::int64_t>{0, 2, 4, 4}));
  const Tensor<std::int32_t> indices(context(), 4);
  const Tensor<double> values(context(), 4);
  sparse_fill<float>(context(), codes.matrix(), columns.vector(), offsets.vector(), indices.vector(), values.vector());
  EXPECT_EQ(to_host(context(), indices), (std::vector<std::int32_t>{0, 3, 1, 3}));
  EXPECT_EQ(to_host(context(), values), (std::vector<double>{3, 0.25, 1.5, -2}));
}

TEST_P(Compaction, ScratchOfALargerBatchServesASmallerOne) {
  const std::int64_t largest = compaction_scratch(context(), 5000);
  for (const std::int64_t N : {0, 1, 2, 31, 130, 4999}) EXPECT_LE(compaction_scratch(context(), N), largest) << N;
}

TEST_P(Compaction, RefusesWhatDoesNotFit) {
  const Context& c = context();
  const auto matrix = to_device<float>(c, std::vector<float>(12), 4, 3);
  const auto one = to_device<std::int32_t>(c, {0}, 1);
  const auto two = to_device<std::int32_t>(c, {1, 2}, 2);
  EXPECT_THROW(move_columns(c, matrix.matrix(), one.vector(), two.vector()), ShapeError);
  const Tensor<double> factor(c, 2), other(c, 5, 3);
  EXPECT_THROW(
      (scale_columns<float, double>(c, matrix.matrix(), two.vector(), factor.vector(), two.vector(), other.matrix())),
      ShapeError);
  EXPECT_THROW(
      (scale_columns<float, float>(c, matrix.matrix(), one.vector(), factor.vector(), two.vector(), matrix.matrix())),
      ShapeError);

  const auto flags = to_device<std::uint8_t>(c, std::vector<std::uint8_t>(200), 200);
  const Tensor<std::int32_t> selected(c, 200);
  const Tensor<std::int64_t> count(c, 1), counts(c, 2), offsets(c, 3);
  const Tensor<std::uint8_t> scratch(c, compaction_scratch(c, 200));
  EXPECT_THROW(select_columns(c, flags.vector(), two.vector(), count.vector(), scratch.vector()), ShapeError);
  EXPECT_THROW(select_columns(c, flags.vector(), selected.vector(), counts.vector(), scratch.vector()), ShapeError);
  EXPECT_THROW(sparse_offsets<float>(c, matrix.matrix(), two.vector(), counts.vector(), scratch.vector()), ShapeError);
  if (compaction_scratch(c, 200) > 0) {
    const VectorView<std::uint8_t> little = scratch.vector().slice(0, compaction_scratch(c, 200) - 1);
    EXPECT_THROW(select_columns(c, flags.vector(), selected.vector(), count.vector(), little), ShapeError);
    EXPECT_THROW(sparse_offsets<float>(c, matrix.matrix(), two.vector(), offsets.vector(), {}), ShapeError);
  }
  const Tensor<std::int32_t> indices(c, 4);
  const Tensor<double> values(c, 3);
  EXPECT_THROW(
      sparse_fill<float>(c, matrix.matrix(), two.vector(), offsets.vector(), indices.vector(), values.vector()),
      ShapeError);

  MatrixView<float> elsewhere = matrix.matrix();
  elsewhere.device = c.is_cuda() ? Device{} : Device{DeviceType::cuda, 0};
  EXPECT_THROW(move_columns(c, elsewhere, one.vector(), one.vector()), DeviceError);
  EXPECT_THROW(sparse_offsets<float>(c, elsewhere, two.vector(), offsets.vector(), scratch.vector()), DeviceError);
}

struct QueuedCompaction {
  static constexpr std::int64_t m = 70, N = 40;
  const Context& context;
  Tensor<float> codes;
  Tensor<std::uint8_t> flags, scratch;
  Tensor<std::int32_t> columns, from, to, selected, indices;
  Tensor<std::int64_t> count, offsets;
  Tensor<double> values, factor, scaled;

  explicit QueuedCompaction(const Context& c)
      : context(c),
        codes(testing::numbers<float>(c, m, N, 1)),
        flags(testing::to_device<std::uint8_t>(c, std::vector<std::uint8_t>(N, 1), N)),
        scratch(c, compaction_scratch(c, N)),
        columns(testing::to_device<std::int32_t>(c, {3, 0, 39}, 3)),
        from(testing::to_device<std::int32_t>(c, {39, 2}, 2)),
        to(testing::to_device<std::int32_t>(c, {0, 5}, 2)),
        selected(Tensor<std::int32_t>::zeros(c, N)),
        indices(Tensor<std::int32_t>::zeros(c, 3 * m)),
        count(Tensor<std::int64_t>::zeros(c, 1)),
        offsets(Tensor<std::int64_t>::zeros(c, 4)),
        values(Tensor<double>::zeros(c, 3 * m)),
        factor(testing::to_device<double>(c, {0.5, -2}, 2)),
        scaled(Tensor<double>::zeros(c, m, N)) {}
  void queue() {
    select_columns(context, flags.vector(), selected.vector(), count.vector(), scratch.vector());
    sparse_offsets<float>(context, codes.matrix(), columns.vector(), offsets.vector(), scratch.vector());
    sparse_fill<float>(context, codes.matrix(), columns.vector(), offsets.vector(), indices.vector(), values.vector());
    scale_columns<float, double>(context, codes.matrix(), from.vector(), factor.vector(), to.vector(), scaled.matrix());
    move_columns<float>(context, codes.matrix(), from.vector(), to.vector());
  }
  std::vector<unsigned char> written() const {
    return testing::bits_of(context, codes, selected, count, offsets, indices, values, scaled);
  }
};

class CompactionQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(CompactionQueued);

TEST_P(CompactionQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedCompaction>();
}

}  // namespace
}  // namespace shrinkwarp
