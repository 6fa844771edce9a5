// How the CPU's dense products are packed, cut into tasks and given scratch; the arithmetic is in
// packed_product_cpu_simd.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::cpu {

constexpr std::int64_t kChunk = 256;             // k of a packed column that lie together: 1 KiB of float
constexpr std::int64_t kChunkStride = 256 + 16;  // elements between columns of a chunk: not a power of two
constexpr std::int64_t kBlockColumns = 128;      // most columns of one task

/// Height of a packed panel: `vectors` vectors of `lanes` elements. The last panel may have fewer vectors.
struct PanelShape {
  std::int64_t lanes = 0;
  std::int64_t vectors = 0;
  std::int64_t columns = 0;  // C of the widest microkernel
};

struct AlignedDelete {
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t(256)); }
};

/// Scratch of the calling thread, grown when a task wants more and kept until the thread ends.
template <class T>
T* thread_scratch(std::int64_t elements) {
  thread_local std::unique_ptr<std::byte[], AlignedDelete> memory;
  thread_local std::int64_t capacity = 0;
  const auto bytes = elements * static_cast<std::int64_t>(sizeof(T));
  if (bytes > capacity) {
    memory.reset();
    capacity = 0;
    auto* fresh =
        static_cast<std::byte*>(::operator new[](static_cast<std::size_t>(bytes), std::align_val_t(256), std::nothrow));
    if (!fresh) throw OutOfMemory(concat("out of memory: ", bytes, " bytes asked"), __FILE__, __LINE__, bytes);
    memory.reset(fresh);
    capacity = bytes;
  }
  return reinterpret_cast<T*>(memory.get());
}

constexpr std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

constexpr std::int64_t divide_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit;
}

/// How a product is cut into tasks: blocks of columns, each over ranges of the rows of its packed operand.
struct Split {
  std::int64_t block_columns = 0, blocks = 0;
  std::int64_t range_units = 0, ranges = 0;
};

/// Tasks worth handing over: with less work than this, some 10 microseconds, one costs more than it saves.
inline std::int64_t affordable_tasks(std::int64_t rows, std::int64_t atoms, std::int64_t columns) {
  constexpr double kTaskFlops = 1e6;
  const double flops = 2 * static_cast<double>(rows) * static_cast<double>(atoms) * static_cast<double>(columns);
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::min(flops / kTaskFlops, 1e9)));
}

/// A multiple of `wanted` blocks of about the same size, as far as there are groups of columns.
inline void split_columns(Split& split, std::int64_t columns, std::int64_t group, std::int64_t wanted) {
  const std::int64_t blocks = round_up(divide_up(columns, kBlockColumns), wanted);
  split.block_columns = std::min(kBlockColumns, round_up(divide_up(columns, blocks), group));
  split.blocks = divide_up(columns, split.block_columns);
}

/// `wanted` ranges, as far as there are units.
inline void split_rows(Split& split, std::int64_t units, std::int64_t wanted) {
  split.range_units = divide_up(units, std::min(units, wanted));
  split.ranges = divide_up(units, split.range_units);
}

/// Copies `rows` x `depth` elements, element(row, k), into panels.
template <class T, class Element>
void pack_panels(const Context& context, PanelShape shape, std::int64_t rows, std::int64_t depth, T* operand,
                 Element element) {
  const std::int64_t height = shape.lanes * shape.vectors;
  context.parallel_for(divide_up(rows, height), [&](std::int64_t panel, int) {
    const std::int64_t first = panel * height;
    const std::int64_t panel_rows = std::min(height, round_up(rows, shape.lanes) - first);
    T* out = operand + first * depth;
    for (std::int64_t k = 0; k < depth; ++k) {
      for (std::int64_t i = 0; i < panel_rows; ++i)
        out[k * panel_rows + i] = first + i < rows ? element(first + i, k) : T(0);
    }
  });
}

}  // namespace shrinkwarp::cpu
