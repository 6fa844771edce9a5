// How elementwise kernels walk column-major matrices: a warp takes a piece of one column, lanes along the rows, 16
// bytes a lane where every column starts at a multiple of 16 and element by element where not. Each lane has several
// loads on their way before it uses the first; a piece of 512 floats is four 16-byte loads a lane and matrix.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::cuda {

inline constexpr int kColumnWarps = 8;
inline constexpr int kColumnThreads = kColumnWarps * kWarpSize;
inline constexpr std::int64_t kColumnPiece = 512;  // rows

/// Blocks of kColumnThreads for `cols` columns of `rows` rows.
inline dim3 column_grid(std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kMostPieces = 65535;
  return dim3(static_cast<unsigned>((cols + kColumnWarps - 1) / kColumnWarps),
              static_cast<unsigned>(std::min((rows + kColumnPiece - 1) / kColumnPiece, kMostPieces)));
}

/// The column of this thread's warp.
__device__ __forceinline__ std::int64_t warp_column() {
  return static_cast<std::int64_t>(blockIdx.x) * kColumnWarps + threadIdx.x / kWarpSize;
}

/// kCount elements, moved by one instruction.
template <class T, int kCount>
struct alignas(kCount * sizeof(T)) Lanes {
  T value[kCount];
};

template <int kCount, class T>
__device__ __forceinline__ Lanes<T, kCount> load_lanes(const T* source) {
  return *reinterpret_cast<const Lanes<T, kCount>*>(source);
}
template <int kCount, class T>
__device__ __forceinline__ void store_lanes(T* target, const Lanes<T, kCount>& lanes) {
  *reinterpret_cast<Lanes<T, kCount>*>(target) = lanes;
}

/// How many elements a lane takes at once, as an argument whose `value` lambdas can use at compile time.
template <int kCount>
using Width = std::integral_constant<int, kCount>;

/// Walks this warp's pieces of a column of `rows` rows. `load(row, width)` gives what elements [row, row + width) need
/// and `use(row, width, loaded)` does the work; loads run ahead of uses by up to four, so `use` may write only the
/// elements that its own load read.
template <int kCount, class Load, class Use>
__device__ __forceinline__ void walk_column(std::int64_t rows, const Load& load, const Use& use) {
  constexpr int kAhead = 4;
  constexpr int kStride = kWarpSize * kCount;
  const int lane = static_cast<int>(threadIdx.x % kWarpSize);
  for (std::int64_t first = blockIdx.y * kColumnPiece; first < rows; first += gridDim.y * kColumnPiece) {
    const int count = static_cast<int>(rows - first < kColumnPiece ? rows - first : kColumnPiece);
    for (int start = lane * kCount; start + kCount <= count; start += kAhead * kStride) {
      decltype(load(first, Width<kCount>())) loaded[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i)
        if (start + i * kStride + kCount <= count) loaded[i] = load(first + start + i * kStride, Width<kCount>());
#pragma unroll
      for (int i = 0; i < kAhead; ++i)
        if (start + i * kStride + kCount <= count) use(first + start + i * kStride, Width<kCount>(), loaded[i]);
    }
    if (kCount > 1 && lane < count % kCount) {
      const std::int64_t row = first + count - count % kCount + lane;
      use(row, Width<1>(), load(row, Width<1>()));
    }
  }
}

/// Whether every column starts at a multiple of 16 bytes.
template <class T>
bool aligned16(const MatrixView<T>& view) {
  return (reinterpret_cast<std::uintptr_t>(view.data) | static_cast<std::uintptr_t>(view.ld) * sizeof(T)) % 16 == 0;
}

/// Whether a vector does; a null pointer is no obstacle.
template <class T>
bool aligned16(const T* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

}  // namespace shrinkwarp::cuda
