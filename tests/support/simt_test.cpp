// The spellings that kernels share (device.cuh, ptx.cuh) against references, and the host executor's own checks.
// Built for the executor every test runs here, in every order and with both poisons; built by nvcc the first half runs
// on a GPU and shows whether the executor's twins do what the instructions do.
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <shrinkwarp/kernels/common/ptx.cuh>

#ifdef SHRINKWARP_SIMT
#include <thrust/copy.h>
#include <thrust/device_ptr.h>
#include <thrust/execution_policy.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/reduce.h>
#include <thrust/scan.h>
#include <thrust/sequence.h>
#include <thrust/sort.h>
#include <thrust/system/cuda/execution_policy.h>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>
#endif

namespace shrinkwarp {
namespace {

/// Device memory with the host's copies; a guard band of one element would hide an overrun, so there is none.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : size_(size) {
    SHRINKWARP_CUDA_CHECK(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { upload(values); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  void upload(const std::vector<T>& values) {
    SHRINKWARP_CUDA_CHECK(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> download() const {
    std::vector<T> values(size_);
    SHRINKWARP_CUDA_CHECK(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

/// Values that are exact in every type and differ from place to place.
template <class T>
std::vector<T> numbers(std::size_t size, int seed = 0) {
  std::vector<T> values(size);
  std::uint32_t state = 12345u + static_cast<std::uint32_t>(seed);
  for (T& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<T>(static_cast<int>(state >> 20) - 2048);
  }
  return values;
}

/// Runs `body` in every order and with both poisons on the executor, once on a GPU.
template <class Body>
void in_all_orders(Body body) {
#ifdef SHRINKWARP_SIMT
  for (const simt::Settings& settings : simt::all_settings()) {
    SCOPED_TRACE(simt::describe(settings));
    simt::ScopedSettings scope(settings);
    body();
  }
#else
  body();
#endif
}

class Device : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess && count > 0) return;
    static_cast<void>(cudaGetLastError());
    const char* const required = std::getenv("SHRINKWARP_REQUIRE_GPU");
    if (required != nullptr && std::string(required) == "1") FAIL() << "a GPU is required: no CUDA device";
    GTEST_SKIP() << "no CUDA device";
  }
};

// ---- launches ----

__global__ void where_kernel(int* out) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  atomicAdd(&out[block * (blockDim.x * blockDim.y * blockDim.z) + thread], block * 1000 + thread);
}

TEST_F(Device, EveryThreadOfEveryBlockRunsOnce) {
  in_all_orders([] {
    const dim3 grid(3, 2, 2);
    const dim3 block(5, 3, 4);
    DeviceArray<int> out(std::vector<int>(12 * 60, 0));
    launch(where_kernel, grid, block, 0, nullptr, out.data());
    const std::vector<int> values = out.download();
    for (int i = 0; i < 12 * 60; ++i) ASSERT_EQ(values[i], i / 60 * 1000 + i % 60) << i;
  });
}

__global__ void convert_kernel(double* out, std::int64_t a, float b) {
  *out = static_cast<double>(a) + b;
}

TEST_F(Device, LaunchConvertsItsArguments) {
  DeviceArray<double> out(1);
  launch(convert_kernel, 1, 1, 0, nullptr, out.data(), 3, 0.5);
  EXPECT_EQ(out.download()[0], 3.5);
}

TEST_F(Device, AnEmptyGridIsNothingToDo) {
  launch(convert_kernel, 0, 32, 0, nullptr, nullptr, 0, 0.0f);
  launch(convert_kernel, dim3(2, 0), 32, 0, nullptr, nullptr, 0, 0.0f);
  launch(convert_kernel, dim3(2, 2, 0), 32, 0, nullptr, nullptr, 0, 0.0f);
}

TEST_F(Device, ImpossibleLaunchesThrow) {
  EXPECT_THROW(launch(convert_kernel, 1, 0, 0, nullptr, nullptr, 0, 0.0f), CudaError);
  EXPECT_THROW(launch(convert_kernel, 1, 1025, 0, nullptr, nullptr, 0, 0.0f), CudaError);
  EXPECT_THROW(launch(convert_kernel, 1, dim3(33, 32), 0, nullptr, nullptr, 0, 0.0f), CudaError);
  EXPECT_THROW(launch(convert_kernel, 1, dim3(1, 1, 65), 0, nullptr, nullptr, 0, 0.0f), CudaError);
  EXPECT_THROW(launch(convert_kernel, dim3(1, 65536), 32, 0, nullptr, nullptr, 0, 0.0f), CudaError);
  EXPECT_THROW(launch(convert_kernel, 1, 32, 1 << 20, nullptr, nullptr, 0, 0.0f), CudaError);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);  // the error has been taken
  try {
    launch(convert_kernel, 7, 2048, 0, nullptr, nullptr, 0, 0.0f);
    FAIL();
  } catch (const CudaError& error) {
    EXPECT_NE(std::string(error.what()).find("block 2048"), std::string::npos) << error.what();
  }
}

TEST_F(Device, CheckNamesTheExpression) {
  try {
    SHRINKWARP_CUDA_CHECK(cudaSetDevice(12345));
    FAIL();
  } catch (const CudaError& error) {
    EXPECT_NE(std::string(error.what()).find("cudaSetDevice(12345)"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.file()).find("simt_test"), std::string::npos);
    EXPECT_GT(error.line(), 0);
  }
  static_cast<void>(cudaGetLastError());
}

// ---- shared memory ----

template <class T, int kRows>
__device__ void put(T value, T* out) {
  SHRINKWARP_SHARED_ARRAY(T, tile, kRows, 33);
  SHRINKWARP_SHARED_ARRAY(T, flag, 1);
  if (threadIdx.x == 0) flag[0] = value;
  for (int row = 0; row < kRows; ++row) tile[row][threadIdx.x] = static_cast<T>(row * 100 + threadIdx.x);
  __syncthreads();
  for (int row = 0; row < kRows; ++row) {
    out[row * 32 + threadIdx.x] = static_cast<T>(tile[kRows - 1 - row][31 - threadIdx.x] + flag[0]);
  }
  __syncthreads();
}

__global__ void arrays_kernel(float* floats, double* doubles) {
  int* dynamic = dynamic_shared<int>();
  dynamic[threadIdx.x] = static_cast<int>(threadIdx.x);
  put<float, 3>(1000.0f, floats);
  put<float, 2>(2000.0f, floats + 96);
  put<double, 3>(3000.0, doubles);
  if (threadIdx.x == 0) doubles[96] = dynamic[31];
}

TEST_F(Device, EachSharedArrayIsItsOwn) {
  in_all_orders([] {
    DeviceArray<float> floats(160);
    DeviceArray<double> doubles(97);
    launch(arrays_kernel, 1, 32, 32 * sizeof(int), nullptr, floats.data(), doubles.data());
    const std::vector<float> f = floats.download();
    const std::vector<double> d = doubles.download();
    for (int row = 0; row < 3; ++row) {
      for (int i = 0; i < 32; ++i) {
        ASSERT_EQ(f[row * 32 + i], static_cast<float>((2 - row) * 100 + 31 - i + 1000));
        ASSERT_EQ(d[row * 32 + i], (2 - row) * 100 + 31 - i + 3000);
        if (row < 2) {
          ASSERT_EQ(f[96 + row * 32 + i], static_cast<float>((1 - row) * 100 + 31 - i + 2000));
        }
      }
    }
    EXPECT_EQ(d[96], 31);
  });
}

__global__ void large_kernel(int* out, int size) {
  SHRINKWARP_SHARED_ARRAY(int, fixed, 1024);
  int* dynamic = dynamic_shared<int>();
  for (int i = static_cast<int>(threadIdx.x); i < size; i += 128) dynamic[i] = i;
  for (int i = static_cast<int>(threadIdx.x); i < 1024; i += 128) fixed[i] = -i;
  __syncthreads();
  if (threadIdx.x == 0) *out = dynamic[size - 1] + fixed[1023];
}

TEST_F(Device, DynamicSharedMemoryReachesTheDevicesLimit) {
  int limit = 0;
  SHRINKWARP_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  for (const int bytes : {44 * 1024, 48 * 1024, limit - 4096}) {
    DeviceArray<int> out(1);
    launch(large_kernel, 1, 128, static_cast<std::size_t>(bytes), nullptr, out.data(), bytes / 4);
    EXPECT_EQ(out.download()[0], bytes / 4 - 1 - 1023);
  }
}

// ---- warps ----

constexpr int kShuffles = 9;

template <class T>
__global__ void shuffle_kernel(const T* in, T* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const T value = in[threadIdx.x];
  T* mine = out + threadIdx.x * kShuffles;
  mine[0] = __shfl_sync(kFullMask, value, 5);
  mine[1] = __shfl_sync(kFullMask, value, lane + 3);
  mine[2] = __shfl_sync(kFullMask, value, lane * 3 + 1, 8);
  mine[3] = __shfl_up_sync(kFullMask, value, 3u);
  mine[4] = __shfl_up_sync(kFullMask, value, 2u, 8);
  mine[5] = __shfl_down_sync(kFullMask, value, 7u);
  mine[6] = __shfl_down_sync(kFullMask, value, 1u, 4);
  mine[7] = __shfl_xor_sync(kFullMask, value, 21);
  mine[8] = __shfl_xor_sync(kFullMask, value, 12, 8);
}

template <class T>
void check_shuffles() {
  const std::vector<T> in = numbers<T>(96);
  DeviceArray<T> in_device(in);
  DeviceArray<T> out_device(96 * kShuffles);
  launch(shuffle_kernel<T>, 1, 96, 0, nullptr, in_device.data(), out_device.data());
  const std::vector<T> out = out_device.download();
  for (int thread = 0; thread < 96; ++thread) {
    const T* warp = in.data() + thread / 32 * 32;
    const int lane = thread % 32;
    const int source[kShuffles] = {5, (lane + 3) % 32, lane / 8 * 8 + (lane * 3 + 1) % 8, lane >= 3 ? lane - 3 : lane,
                                   lane % 8 >= 2 ? lane - 2 : lane, lane + 7 < 32 ? lane + 7 : lane,
                                   lane % 4 < 3 ? lane + 1 : lane, lane ^ 21,
                                   // Towards a higher group of 8 a lane keeps its own, towards a lower one it reads.
                                   (lane ^ 12) <= lane / 8 * 8 + 7 ? lane ^ 12 : lane};
    for (int i = 0; i < kShuffles; ++i) ASSERT_EQ(out[thread * kShuffles + i], warp[source[i]]) << thread << " " << i;
  }
}

TEST_F(Device, Shuffles) {
  in_all_orders([] {
    check_shuffles<int>();
    check_shuffles<float>();
    check_shuffles<double>();
    check_shuffles<long long>();
  });
}

__global__ void vote_kernel(const int* in, unsigned* out) {
  const int value = in[threadIdx.x];
  unsigned* mine = out + threadIdx.x * 8;
  mine[0] = __ballot_sync(kFullMask, value > 0);
  mine[1] = static_cast<unsigned>(__any_sync(kFullMask, value == 7));
  mine[2] = static_cast<unsigned>(__all_sync(kFullMask, value != 7));
  mine[3] = __match_any_sync(kFullMask, value & 3);
  mine[4] = static_cast<unsigned>(__reduce_max_sync(kFullMask, value));
  mine[5] = static_cast<unsigned>(__reduce_add_sync(kFullMask, value));
  mine[6] = static_cast<unsigned>(__syncthreads_count(value > 0));
  mine[7] = static_cast<unsigned>(__syncthreads_or(value == 7) + 2 * __syncthreads_and(value != 7));
}

TEST_F(Device, Votes) {
  in_all_orders([] {
    for (const bool seven : {false, true}) {
      std::vector<int> in = numbers<int>(64);
      for (int& value : in) value = value == 7 ? 8 : value;
      if (seven) in[40] = 7;
      DeviceArray<int> in_device(in);
      DeviceArray<unsigned> out_device(64 * 8);
      launch(vote_kernel, 1, 64, 0, nullptr, in_device.data(), out_device.data());
      const std::vector<unsigned> out = out_device.download();
      for (int thread = 0; thread < 64; ++thread) {
        const int* warp = in.data() + thread / 32 * 32;
        const bool here = seven && thread >= 32;
        unsigned ballot = 0;
        unsigned match = 0;
        for (int lane = 0; lane < 32; ++lane) {
          if (warp[lane] > 0) ballot |= 1u << lane;
          if (((warp[lane] ^ in[thread]) & 3) == 0) match |= 1u << lane;
        }
        const unsigned* mine = out.data() + thread * 8;
        ASSERT_EQ(mine[0], ballot);
        ASSERT_EQ(mine[1], here ? 1u : 0u);
        ASSERT_EQ(mine[2], here ? 0u : 1u);
        ASSERT_EQ(mine[3], match);
        ASSERT_EQ(static_cast<int>(mine[4]), *std::max_element(warp, warp + 32));
        ASSERT_EQ(static_cast<int>(mine[5]), std::accumulate(warp, warp + 32, 0));
        ASSERT_EQ(mine[6], std::count_if(in.begin(), in.end(), [](int value) { return value > 0; }));
        ASSERT_EQ(mine[7], seven ? 1u : 2u);
      }
    }
  });
}

/// Four groups of a warp, of 16, 8, 4 and 4 lanes, each go their own number of times round their own masks.
__global__ void groups_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  unsigned mask = 0x0000ffffu;
  int rounds = 1;
  if (lane >= 16) mask = 0x00ff0000u, rounds = 7;
  if (lane >= 24) mask = 0x0f000000u, rounds = 2;
  if (lane >= 28) mask = 0xf0000000u, rounds = 5;
  int value = lane;
  for (int i = 0; i < rounds; ++i) {
    value += __shfl_xor_sync(mask, value, 1);
    __syncwarp(mask);
  }
  __syncwarp(kFullMask);
  out[lane] = value + __shfl_sync(kFullMask, rounds, 31 - lane);
}

TEST_F(Device, DisjointMasks) {
  in_all_orders([] {
    DeviceArray<int> out(32);
    launch(groups_kernel, 1, 32, 0, nullptr, out.data());
    const std::vector<int> values = out.download();
    const auto rounds = [](int lane) { return lane < 16 ? 1 : lane < 24 ? 7 : lane < 28 ? 2 : 5; };
    for (int lane = 0; lane < 32; ++lane) {
      int sum = lane;
      int other = lane ^ 1;
      for (int i = 0; i < rounds(lane); ++i) {
        const int next = sum + other;
        other = next;
        sum = next;
      }
      ASSERT_EQ(values[lane], sum + rounds(31 - lane)) << lane;
    }
  });
}

// ---- sums and maxima ----

/// warp_fold's order, on the host.
template <class T, class Fold>
T fold_warp(const T* values, Fold fold) {
  T now[32];
  std::copy(values, values + 32, now);
  for (int offset = 16; offset > 0; offset /= 2) {
    T next[32];
    for (int lane = 0; lane < 32; ++lane) next[lane] = fold(now[lane], now[lane ^ offset]);
    std::copy(next, next + 32, now);
  }
  return now[0];
}

template <int kThreads, class T>
__global__ void fold_kernel(const T* in, T* out) {
  const T value = in[blockIdx.x * kThreads + threadIdx.x];
  T* mine = out + (blockIdx.x * kThreads + threadIdx.x) * 7;
  T by_hand = value;
  for (int offset = 16; offset > 0; offset /= 2) by_hand += __shfl_xor_sync(kFullMask, by_hand, offset);
  mine[0] = by_hand;
  mine[1] = warp_sum(value);
  mine[2] = warp_max(value);
  mine[3] = warp_min(value);
  T sum = T(0);
  for (int i = 0; i < 3; ++i) sum = block_sum<kThreads>(value + sum);  // in a loop: the scratch is used again
  mine[4] = sum;
  mine[5] = block_max<kThreads>(value);
  mine[6] = block_min<kThreads>(value);
}

template <int kThreads, class T>
void check_folds(double scale) {
  std::vector<T> in = numbers<T>(2 * kThreads);
  if (std::is_floating_point_v<T>) {
    for (T& value : in) value = static_cast<T>(static_cast<double>(value) * scale);
  }
  DeviceArray<T> in_device(in);
  DeviceArray<T> out_device(in.size() * 7);
  launch(fold_kernel<kThreads, T>, 2, kThreads, 0, nullptr, in_device.data(), out_device.data());
  const std::vector<T> out = out_device.download();
  const auto add = [](T a, T b) { return static_cast<T>(a + b); };
  for (int block = 0; block < 2; ++block) {
    const T* values = in.data() + block * kThreads;
    T total = T(0);
    for (int i = 0; i < 3; ++i) {
      std::vector<T> terms(values, values + kThreads);
      for (T& term : terms) term = add(term, total);
      total = fold_warp(terms.data(), add);
      for (int warp = 1; warp < kThreads / 32; ++warp) total = add(total, fold_warp(terms.data() + warp * 32, add));
    }
    for (int thread = 0; thread < kThreads; ++thread) {
      const T* warp = values + thread / 32 * 32;
      const T* mine = out.data() + (block * kThreads + thread) * 7;
      const T wanted[7] = {fold_warp(warp, add),
                           fold_warp(warp, add),
                           *std::max_element(warp, warp + 32),
                           *std::min_element(warp, warp + 32),
                           total,
                           *std::max_element(values, values + kThreads),
                           *std::min_element(values, values + kThreads)};
      for (int i = 0; i < 7; ++i)
        ASSERT_EQ(mine[i], wanted[i]) << kThreads << " threads, thread " << thread << " " << i;
    }
  }
}

TEST_F(Device, Folds) {
  in_all_orders([] {
    check_folds<32, float>(0.37);
    check_folds<64, double>(0.37);
    check_folds<96, int>(1);
    check_folds<128, float>(1e-3);
    check_folds<256, std::int64_t>(1);
    check_folds<1024, float>(0.1);
  });
}

__global__ void max_kernel(const float* in, float* out) {
  const float value = in[threadIdx.x];
  out[threadIdx.x * 3] = warp_max(value);
  out[threadIdx.x * 3 + 1] = block_max<64>(value);
  out[threadIdx.x * 3 + 2] = block_min<64>(value);
}

TEST_F(Device, MaximaKeepNaN) {
  in_all_orders([] {
    for (const int place : {0, 31, 32, 50, 63}) {
      std::vector<float> in = numbers<float>(64);
      in[place] = std::numeric_limits<float>::quiet_NaN();
      DeviceArray<float> in_device(in);
      DeviceArray<float> out_device(64 * 3);
      launch(max_kernel, 1, 64, 0, nullptr, in_device.data(), out_device.data());
      const std::vector<float> out = out_device.download();
      for (int thread = 0; thread < 64; ++thread) {
        ASSERT_EQ(std::isnan(out[thread * 3]), thread / 32 == place / 32);
        ASSERT_TRUE(std::isnan(out[thread * 3 + 1]));
        ASSERT_TRUE(std::isnan(out[thread * 3 + 2]));
      }
    }
  });
}

TEST(DeviceScalars, MaxOrNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(max_or_nan(1.0f, 2.0f), 2.0f);
  EXPECT_EQ(max_or_nan(2.0, 1.0), 2.0);
  EXPECT_EQ(min_or_nan(1, 2), 1);
  EXPECT_EQ(max_or_nan(-inf, inf), inf);
  for (const float other : {0.0f, -inf, inf, nan}) {
    EXPECT_TRUE(std::isnan(max_or_nan(nan, other)));
    EXPECT_TRUE(std::isnan(max_or_nan(other, nan)));
    EXPECT_TRUE(std::isnan(min_or_nan(nan, other)));
    EXPECT_TRUE(std::isnan(min_or_nan(other, nan)));
  }
}

// ---- atomics and intrinsics ----

__global__ void atomics_kernel(int* ints, unsigned* unsigneds, unsigned long long* wide, float* floats,
                               double* doubles) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&ints[0], 1);
  atomicMax(&ints[1], i);
  atomicMin(&ints[2], -i);
  atomicSub(&ints[3], 2);
  if (atomicCAS(&ints[4], 0, i + 1) == 0) atomicAdd(&ints[5], 1);
  atomicAdd(&unsigneds[0], 3u);
  atomicOr(&unsigneds[1], 1u << (i % 32));
  atomicExch(&unsigneds[2], 9u);
  atomicAdd(&wide[0], 1ull << 32);
  atomicAdd(&floats[0], 0.5f);
  atomicAdd(&doubles[0], 0.25);
}

TEST_F(Device, Atomics) {
  in_all_orders([] {
    DeviceArray<int> ints(std::vector<int>(6, 0));
    DeviceArray<unsigned> unsigneds(std::vector<unsigned>(3, 0));
    DeviceArray<unsigned long long> wide(std::vector<unsigned long long>(1, 0));
    DeviceArray<float> floats(std::vector<float>(1, 0));
    DeviceArray<double> doubles(std::vector<double>(1, 0));
    launch(atomics_kernel, 3, 64, 0, nullptr, ints.data(), unsigneds.data(), wide.data(), floats.data(),
           doubles.data());
    const std::vector<int> i = ints.download();
    EXPECT_EQ(i[0], 192);
    EXPECT_EQ(i[1], 191);
    EXPECT_EQ(i[2], -191);
    EXPECT_EQ(i[3], -384);
    EXPECT_GE(i[4], 1);
    EXPECT_EQ(i[5], 1);
    EXPECT_EQ(unsigneds.download(), (std::vector<unsigned>{576, 0xffffffffu, 9}));
    EXPECT_EQ(wide.download()[0], 192ull << 32);
    EXPECT_EQ(floats.download()[0], 96.0f);
    EXPECT_EQ(doubles.download()[0], 48.0);
  });
}

__global__ void intrinsics_kernel(int* ints, float* floats, const float* in) {
  int* i = ints;
  *i++ = __popc(0xf0f0u);
  *i++ = __clz(1);
  *i++ = __clz(0);
  *i++ = __ffs(8);
  *i++ = __ffs(0);
  *i++ = static_cast<int>(__brev(1u) >> 1);
  *i++ = static_cast<int>(__umulhi(1u << 31, 6u));
  *i++ = __float_as_int(1.0f);
  *i++ = min(3, 2) + 10 * max(3, 2);
  *i++ = __float2int_rn(2.5f);
  float* f = floats;
  *f++ = __int_as_float(0x40490fdb);
  *f++ = max(1.0f, __int_as_float(0x7fffffff));
  *f++ = fmaf(3.0f, 4.0f, 0.5f);
  *f++ = fma(3.0f, 4.0f, 0.25f);
  *f++ = __double2float_ru(1.0 + 1e-12);
  *f++ = __double2float_rd(1.0 + 1e-12);
  *f++ = __ldg(in + 1);
  const float4 four = ldg128(in);
  *f++ = four.x + 10 * four.y + 100 * four.z + 1000 * four.w;
  *f++ = copysignf(2.0f, -0.0f);
}

TEST_F(Device, Intrinsics) {
  DeviceArray<int> ints(10);
  DeviceArray<float> floats(9);
  DeviceArray<float> in(std::vector<float>{1, 2, 3, 4});
  launch(intrinsics_kernel, 1, 1, 0, nullptr, ints.data(), floats.data(), in.data());
  EXPECT_EQ(ints.download(), (std::vector<int>{8, 31, 32, 4, 0, 1 << 30, 3, 0x3f800000, 32, 2}));
  EXPECT_EQ(floats.download(),
            (std::vector<float>{3.14159274f, 1.0f, 12.5f, 12.25f, 1.0f + 1.1920929e-7f, 1.0f, 2.0f, 4321.0f, -2.0f}));
}

// ---- cp.async ----

/// 128 threads turn a row of 512 floats round, by copies of kBytes; what is not `valid` arrives as zero.
template <int kBytes, bool kZfill>
__global__ void async_kernel(const float* in, float* out, int valid) {
  SHRINKWARP_SHARED_ARRAY(float, row, 512);
  constexpr int kFloats = kBytes / 4;
  for (int i = static_cast<int>(threadIdx.x) * kFloats; i < 512; i += 128 * kFloats) {
    const bool good = i < valid;
    const float* source = in + (good ? i : 0);
    if constexpr (kZfill) {
      if constexpr (kBytes == 4) cp_async4_zfill(&row[i], source, good);
      if constexpr (kBytes == 8) cp_async8_zfill(&row[i], source, good);
      if constexpr (kBytes == 16) cp_async16_zfill(&row[i], source, good);
    } else {
      if constexpr (kBytes == 4) cp_async4(&row[i], source);
      if constexpr (kBytes == 8) cp_async8(&row[i], source);
      if constexpr (kBytes == 16) cp_async16(&row[i], source);
    }
  }
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 512; i += 128) out[i] = row[511 - i];
}

template <int kBytes, bool kZfill>
void check_async_copy(int valid) {
  const std::vector<float> in = numbers<float>(512);
  DeviceArray<float> in_device(in);
  DeviceArray<float> out_device(512);
  launch(async_kernel<kBytes, kZfill>, 1, 128, 0, nullptr, in_device.data(), out_device.data(), valid);
  const std::vector<float> out = out_device.download();
  for (int i = 0; i < 512; ++i) ASSERT_EQ(out[i], 511 - i < valid ? in[511 - i] : 0.0f) << kBytes << " bytes at " << i;
}

TEST_F(Device, AsyncCopiesArriveWhole) {
  in_all_orders([] {
    check_async_copy<4, false>(512);
    check_async_copy<8, false>(512);
    check_async_copy<16, false>(512);
    for (const int valid : {0, 16, 400, 512}) {
      check_async_copy<4, true>(valid);
      check_async_copy<8, true>(valid);
      check_async_copy<16, true>(valid);
    }
  });
}

/// Sums `tiles` tiles of 128 floats, kStages of them on their way at a time.
template <int kStages>
__global__ void pipeline_kernel(const float* in, float* out, int tiles) {
  SHRINKWARP_SHARED_ARRAY(float, stage, kStages, 128);
  const int thread = static_cast<int>(threadIdx.x);
  for (int tile = 0; tile < kStages - 1; ++tile) {
    if (tile < tiles) cp_async4(&stage[tile][thread], in + tile * 128 + thread);
    cp_async_commit();
  }
  float sum = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    const int next = tile + kStages - 1;
    if (next < tiles) cp_async4(&stage[next % kStages][thread], in + next * 128 + thread);
    cp_async_commit();
    sum += stage[tile % kStages][127 - thread];
  }
  out[thread] = sum;
}

template <int kStages>
void check_pipeline() {
  for (const int tiles : {1, 2, 3, 4, 11}) {
    const std::vector<float> in = numbers<float>(static_cast<std::size_t>(tiles) * 128);
    DeviceArray<float> in_device(in);
    DeviceArray<float> out_device(128);
    launch(pipeline_kernel<kStages>, 1, 128, 0, nullptr, in_device.data(), out_device.data(), tiles);
    const std::vector<float> out = out_device.download();
    for (int thread = 0; thread < 128; ++thread) {
      float sum = 0;
      for (int tile = 0; tile < tiles; ++tile) sum += in[tile * 128 + 127 - thread];
      ASSERT_EQ(out[thread], sum) << kStages << " stages, " << tiles << " tiles";
    }
  }
}

TEST_F(Device, AsyncCopiesOverlapInStages) {
  in_all_orders([] {
    check_pipeline<2>();
    check_pipeline<3>();
    check_pipeline<4>();
  });
}

// ---- half precision ----

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// What the bits of a half stand for (IEEE 754 binary16).
double half_value(unsigned bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31u);
  const double fraction = static_cast<double>(bits & 1023u);
  double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) magnitude = fraction == 0 ? INFINITY : NAN;
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

/// The bits of the half nearest to a float that is no NaN, ties to even: by search among all that are not negative.
unsigned nearest_half(float value) {
  const unsigned sign = std::signbit(value) ? 0x8000u : 0u;
  const double magnitude = std::fabs(static_cast<double>(value));
  if (magnitude >= 65520) return sign | 0x7c00u;
  unsigned low = 0, high = 0x7c00u;  // bits are in the order of their values
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    (half_value(middle) <= magnitude ? low : high) = middle;
  }
  if (low == 0x7bffu) return sign | low;  // under 65520: the largest one
  const double below = magnitude - half_value(low), above = half_value(high) - magnitude;
  return sign | (below < above || (below == above && low % 2 == 0) ? low : high);
}

__global__ void round_kernel(const float* in, unsigned short* bits, float* back, int size) {
  for (int i = static_cast<int>(threadIdx.x); i < size; i += 256) {
    bits[i] = half_from_float(in[i]);
    back[i] = float_from_half(bits[i]);
  }
}

__global__ void widen_kernel(float* out) {
  for (int i = static_cast<int>(threadIdx.x); i < 65536; i += 256)
    out[i] = float_from_half(static_cast<unsigned short>(i));
}

TEST_F(Device, EveryHalfIsItsFloat) {
  in_all_orders([] {
    DeviceArray<float> out(65536);
    launch(widen_kernel, 1, 256, 0, nullptr, out.data());
    const std::vector<float> values = out.download();
    for (unsigned bits = 0; bits < 65536; ++bits) {
      const double wanted = half_value(bits);
      ASSERT_TRUE(std::isnan(wanted) ? std::isnan(values[bits]) : static_cast<double>(values[bits]) == wanted) << bits;
      ASSERT_TRUE(std::isnan(wanted) || std::signbit(values[bits]) == (bits >> 15 != 0)) << bits;
    }
  });
}

TEST_F(Device, FloatsGoToTheNearestHalf) {
  // Every half, the middle to the next one, which is a tie, and the floats around both; then what lies far out.
  std::vector<float> in;
  const auto around = [&in](double value) {
    const auto centre = static_cast<float>(value);
    for (const float v : {centre, std::nextafter(centre, 0.0f), std::nextafter(centre, kInfinity)}) {
      in.push_back(v);
      in.push_back(-v);
    }
  };
  for (unsigned bits = 0; bits < 0x7c00u; bits += bits < 40 || bits > 0x7bd0u ? 1 : 5) {
    const double value = half_value(bits), next = bits == 0x7bffu ? 65536.0 : half_value(bits + 1);
    around(value);
    around((value + next) / 2);  // the last one is 65520, the first number that is infinity
  }
  for (const float v : {0.0f, 1e-45f, 1e-39f, 1e-20f, 1e5f, 1e20f, std::numeric_limits<float>::max(), kInfinity}) {
    in.push_back(v);
    in.push_back(-v);
  }
  const auto size = static_cast<int>(in.size());
  for (const float v : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN()})
    in.push_back(v);
  in_all_orders([&] {
    DeviceArray<float> in_device(in);
    DeviceArray<unsigned short> bits_device(in.size());
    DeviceArray<float> back_device(in.size());
    launch(round_kernel, 1, 256, 0, nullptr, in_device.data(), bits_device.data(), back_device.data(), size + 2);
    const std::vector<unsigned short> bits = bits_device.download();
    const std::vector<float> back = back_device.download();
    for (int i = 0; i < size; ++i) {
      ASSERT_EQ(bits[i], nearest_half(in[i])) << in[i];
      ASSERT_EQ(static_cast<double>(back[i]), half_value(bits[i])) << in[i];
    }
    for (int i = size; i < size + 2; ++i) ASSERT_TRUE(std::isnan(half_value(bits[i])) && std::isnan(back[i]));
  });
}

// ---- products of halves ----

/// A 16 x 16, B 16 x 8 and C 16 x 8, all by rows.
struct HalfProduct {
  unsigned short a[16][16], b[16][8];
  float c[16][8];
};

/// Each warp multiplies one, `times` over. Elements a0..a7, b0..b3 and c0..c3 of a lane lie where the figures of
/// mma.m16n8k16 in the PTX manual have them.
__global__ void mma_kernel(const HalfProduct* in, float* out, int times) {
  const int warp = static_cast<int>((blockIdx.x * blockDim.x + threadIdx.x) / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane >> 2, in_group = lane % 4;
  const HalfProduct& mine = in[warp];
  unsigned a[4], b[2];
  float c[4];
  for (int i = 0; i < 8; i += 2) {
    unsigned pair = 0;
    for (int e = i; e < i + 2; ++e) {
      const int row = (0 <= e && e < 2) || (4 <= e && e < 6) ? group : group + 8;
      const int col = e < 4 ? in_group * 2 + (e & 1) : in_group * 2 + (e & 1) + 8;
      pair |= static_cast<unsigned>(mine.a[row][col]) << 16 * (e & 1);
    }
    a[i / 2] = pair;
  }
  for (int i = 0; i < 4; i += 2) {
    unsigned pair = 0;
    for (int e = i; e < i + 2; ++e) {
      const int row = e < 2 ? in_group * 2 + (e & 1) : in_group * 2 + (e & 1) + 8;
      pair |= static_cast<unsigned>(mine.b[row][group]) << 16 * (e & 1);
    }
    b[i / 2] = pair;
  }
  for (int i = 0; i < 4; ++i) c[i] = mine.c[i < 2 ? group : group + 8][in_group * 2 + (i & 1)];
  for (int time = 0; time < times; ++time) mma_f16(c, a, b);
  for (int i = 0; i < 4; ++i) out[warp * 128 + (i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = c[i];
}

std::vector<float> multiply(const std::vector<HalfProduct>& products, int times = 1) {
  const DeviceArray<HalfProduct> in(products);
  const DeviceArray<float> out(products.size() * 128);
  launch(mma_kernel, static_cast<unsigned>(products.size() / 2), 64, 0, nullptr, in.data(), out.data(), times);
  return out.download();
}

/// Numbers from a hash, and halves with exponents from `least` to `most` (15 is that of 1) or subnormal from 0 on.
class Halves {
 public:
  unsigned next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<unsigned>(state_ >> 40);
  }
  unsigned short operator()(unsigned least, unsigned most) {
    const unsigned exponent = least + next() % (most - least + 1), rest = next();
    return static_cast<unsigned short>((rest & 0x8000u) | exponent << 10 | (rest & 1023u));
  }

 private:
  std::uint64_t state_ = 20260101;
};

/// The double that each element of C should be, and the sum of the magnitudes that it is made of.
void expect_product(const HalfProduct& product, const float* found) {
  for (int row = 0; row < 16; ++row) {
    for (int col = 0; col < 8; ++col) {
      long double sum = product.c[row][col], magnitude = std::fabs(sum);
      for (int k = 0; k < 16; ++k) {
        const long double term =
            static_cast<long double>(half_value(product.a[row][k])) * half_value(product.b[k][col]);
        sum += term;
        magnitude += std::fabs(term);
      }
      // 17 terms, each cut off by at most a unit of the largest term or partial sum.
      const long double off = std::fabs(found[row * 8 + col] - sum);
      ASSERT_LE(off, 17 * 0x1p-23L * magnitude) << row << ", " << col << ": " << found[row * 8 + col];
    }
  }
}

TEST_F(Device, ProductsOfSmallIntegersAreExact) {
  Halves halves;
  std::vector<HalfProduct> products(4);
  const auto integer = [&halves] { return static_cast<float>(static_cast<int>(halves.next() % 17) - 8); };
  for (HalfProduct& product : products) {
    for (auto& row : product.a)
      for (unsigned short& value : row) value = static_cast<unsigned short>(nearest_half(integer()));
    for (auto& row : product.b)
      for (unsigned short& value : row) value = static_cast<unsigned short>(nearest_half(integer()));
    for (auto& row : product.c)
      for (float& value : row) value = 100 * integer();
  }
  in_all_orders([&] {
    for (const int times : {1, 3}) {  // C is added to
      const std::vector<float> found = multiply(products, times);
      for (std::size_t p = 0; p < products.size(); ++p) {
        for (int row = 0; row < 16; ++row) {
          for (int col = 0; col < 8; ++col) {
            double sum = 0;
            for (int k = 0; k < 16; ++k) sum += half_value(products[p].a[row][k]) * half_value(products[p].b[k][col]);
            ASSERT_EQ(static_cast<double>(found[p * 128 + static_cast<std::size_t>(row * 8 + col)]),
                      products[p].c[row][col] + times * sum)
                << "product " << p << " at " << row << ", " << col;
          }
        }
      }
    }
  });
}

TEST_F(Device, ProductsOfHalvesKeepTheirBound) {
  Halves halves;
  std::vector<HalfProduct> products;
  const unsigned ranges[][2] = {{15, 15}, {0, 30}, {0, 1}, {28, 30}, {10, 20}, {0, 0}};
  for (const auto& range : ranges) {
    for (const float c : {0.0f, 1.0f, 1e30f, -1e-20f}) {
      HalfProduct product;
      for (auto& row : product.a)
        for (unsigned short& value : row) value = halves(range[0], range[1]);
      for (auto& row : product.b)
        for (unsigned short& value : row) value = halves(range[0], range[1]);
      for (auto& row : product.c)
        for (float& value : row) value = c * static_cast<float>(halves.next() % 1000);
      products.push_back(product);
      // The same with all terms but a few tiny ones cancelling: -a b beside a b, and C against the largest.
      for (int row = 0; row < 16; ++row)
        for (int k = 0; k < 16; k += 2) {
          product.a[row][k] = product.a[row][k + 1];
          if (k == 6) product.a[row][k] = halves(0, 2);
        }
      for (int col = 0; col < 8; ++col)
        for (int k = 0; k < 16; k += 2)
          product.b[k][col] = static_cast<unsigned short>(product.b[k + 1][col] ^ 0x8000u);
      products.push_back(product);
      for (int row = 0; row < 16; ++row)
        for (int col = 0; col < 8; ++col)
          product.c[row][col] = -static_cast<float>(half_value(product.a[row][15]) * half_value(product.b[15][col]));
      products.push_back(product);
    }
  }
  ASSERT_EQ(products.size() % 2, 0U);
  in_all_orders([&] {
    const std::vector<float> found = multiply(products);
    for (std::size_t p = 0; p < products.size(); ++p) {
      SCOPED_TRACE(p);
      expect_product(products[p], found.data() + p * 128);
      if (HasFatalFailure()) return;
    }
  });
}

TEST_F(Device, ProductsKeepNaN) {
  std::vector<HalfProduct> products(2, HalfProduct{});
  products[0].a[11][6] = 0x7e00u;
  products[1].b[13][5] = 0x7e00u;
  products[1].c[2][1] = std::numeric_limits<float>::quiet_NaN();
  in_all_orders([&] {
    const std::vector<float> found = multiply(products);
    for (std::size_t i = 0; i < 128; ++i) {
      ASSERT_EQ(std::isnan(found[i]), i / 8 == 11) << i;
      ASSERT_EQ(std::isnan(found[128 + i]), i % 8 == 5 || i == 2 * 8 + 1) << i;
    }
  });
}

// ---- tf32 ----

unsigned bits_of(float value) {
  unsigned bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

__global__ void split_kernel(const float* in, unsigned* nearest, unsigned* high, unsigned* low, int size) {
  for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x)) {
    nearest[i] = tf32_from_float(in[i]);
    split_tf32(in[i], high[i], low[i]);
  }
}

TEST_F(Device, FloatsGoToTheNearestTf32AndSplit) {
  Halves numbers;
  std::vector<float> in = {0.0f,        -0.0f, 1.0f, 1.0f + 0x1p-11f, 1.0f + 0x1p-11f - 0x1p-23f, -1.0f - 3 * 0x1p-11f,
                           0x1.ffdp127f};
  for (int i = 0; i < 3000; ++i) {
    const float fraction = 1 + static_cast<float>(numbers.next() % (1u << 23)) * 0x1p-23f;
    const float value = std::ldexp(fraction, static_cast<int>(numbers.next() % 200) - 100);
    in.push_back(i % 2 != 0 ? -value : value);
  }
  const std::size_t finite = in.size();
  for (const float v :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity})
    in.push_back(v);
  unsigned payload = 0x7fffffffu;  // the NaN that a GPU makes
  in.emplace_back();
  std::memcpy(&in.back(), &payload, sizeof payload);
  in_all_orders([&] {
    DeviceArray<float> in_device(in);
    DeviceArray<float> nearest_device(in.size()), high_device(in.size()), low_device(in.size());
    launch(split_kernel, 1, 256, 0, nullptr, in_device.data(), reinterpret_cast<unsigned*>(nearest_device.data()),
           reinterpret_cast<unsigned*>(high_device.data()), reinterpret_cast<unsigned*>(low_device.data()),
           static_cast<int>(in.size()));
    const std::vector<float> nearest = nearest_device.download(), high = high_device.download(),
                             low = low_device.download();
    for (std::size_t i = 0; i < in.size(); ++i) {
      for (const float part : {nearest[i], high[i], low[i]}) ASSERT_EQ(bits_of(part) & 0x1fffu, 0u) << in[i];
      if (i >= finite) {
        ASSERT_TRUE(std::isnan(low[i])) << in[i];
        ASSERT_TRUE(std::isnan(in[i]) ? std::isnan(nearest[i]) : nearest[i] == in[i]) << in[i];
        continue;
      }
      const double value = in[i], unit = in[i] == 0 ? 0 : std::exp2(std::ilogb(in[i]));
      ASSERT_EQ(bits_of(nearest[i]), bits_of(high[i]));
      ASSERT_LE(std::fabs(nearest[i] - value), 0x1p-11 * unit) << in[i];
      if (std::fabs(nearest[i] - value) == 0x1p-11 * unit) {
        ASSERT_GE(std::fabs(nearest[i]), std::fabs(value)) << "a tie";
      }
      ASSERT_LE(std::fabs(low[i]), 0x1p-11 * unit);
      ASSERT_LE(std::fabs(value - high[i] - low[i]), 0x1p-23 * unit) << in[i];
    }
  });
}

/// A 16 x 8, B 8 x 8 and C 16 x 8, all by rows.
struct Tf32Product {
  float a[16][8], b[8][8], c[16][8];
};

/// Each warp multiplies one. Elements lie where the figures of mma.m16n8k8 with .tf32 in the PTX manual have them.
__global__ void mma_tf32_kernel(const Tf32Product* in, float* out, int times) {
  const int warp = static_cast<int>((blockIdx.x * blockDim.x + threadIdx.x) / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane >> 2, in_group = lane % 4;
  const Tf32Product& mine = in[warp];
  unsigned a[4], b[2];
  float c[4];
  for (int i = 0; i < 4; ++i) {
    a[i] = __float_as_uint(mine.a[i % 2 == 0 ? group : group + 8][i < 2 ? in_group : in_group + 4]);
    c[i] = mine.c[i < 2 ? group : group + 8][in_group * 2 + (i & 1)];
  }
  for (int i = 0; i < 2; ++i) b[i] = __float_as_uint(mine.b[i == 0 ? in_group : in_group + 4][group]);
  for (int time = 0; time < times; ++time) mma_tf32(c, a, b);
  for (int i = 0; i < 4; ++i) out[warp * 128 + (i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = c[i];
}

TEST_F(Device, ProductsInTf32KeepTheirBound) {
  Halves numbers;
  std::vector<Tf32Product> products;
  for (int p = 0; p < 8; ++p) {
    Tf32Product product;
    const auto number = [&] {
      const float integer = static_cast<float>(static_cast<int>(numbers.next() % 2047) - 1023);  // 11 bits
      return p < 2 ? std::round(integer / 64) : std::ldexp(integer, static_cast<int>(numbers.next() % (5u * p)));
    };
    for (auto& row : product.a)
      for (float& value : row) value = number();
    for (auto& row : product.b)
      for (float& value : row) value = number();
    for (auto& row : product.c)
      for (float& value : row) value = p % 2 != 0 ? number() : 0;
    products.push_back(product);
  }
  in_all_orders([&] {
    const auto multiply = [](const std::vector<Tf32Product>& given, int times) {
      const DeviceArray<Tf32Product> in(given);
      const DeviceArray<float> out(given.size() * 128);
      launch(mma_tf32_kernel, static_cast<unsigned>(given.size() / 2), 64, 0, nullptr, in.data(), out.data(), times);
      return out.download();
    };
    for (const int times : {1, 2}) {  // C is added to
      const std::vector<float> found = multiply(products, times);
      for (std::size_t p = 0; p < products.size(); ++p) {
        for (int row = 0; row < 16; ++row) {
          for (int col = 0; col < 8; ++col) {
            double sum = products[p].c[row][col], magnitude = std::fabs(sum);
            for (int k = 0; k < 8; ++k) {
              const double term = static_cast<double>(products[p].a[row][k]) * products[p].b[k][col];
              sum += times * term;
              magnitude += times * std::fabs(term);
            }
            // Small integers exactly; else 9 terms a time, each cut off by at most a unit of the largest.
            ASSERT_LE(std::fabs(found[p * 128 + static_cast<std::size_t>(row * 8 + col)] - sum),
                      p < 2 ? 0 : times * 9 * 0x1p-23 * magnitude)
                << "product " << p << " at " << row << ", " << col;
          }
        }
      }
    }
    // Bits below a tf32 do not count, and a NaN stays in its row or column.
    std::vector<Tf32Product> ill = {products[0], products[1]};
    for (auto& row : ill[0].a)
      for (float& value : row) {
        const unsigned bits = bits_of(value) | 0x1fffu;
        std::memcpy(&value, &bits, sizeof bits);
      }
    ill[1].a[11][6] = std::numeric_limits<float>::quiet_NaN();
    ill[1].b[3][5] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> good = multiply({products[0], products[1]}, 1), found = multiply(ill, 1);
    for (std::size_t i = 0; i < 128; ++i) {
      ASSERT_EQ(good[i], found[i]) << i;
      ASSERT_EQ(std::isnan(found[128 + i]), i / 8 == 11 || i % 8 == 5) << i;
    }
  });
}

#ifdef SHRINKWARP_SIMT

// ---- what the executor refuses ----

/// Runs `body` in every order; each time it must throw a KernelError that contains all of `parts`.
template <class Body>
void expect_refused(Body body, std::initializer_list<const char*> parts) {
  in_all_orders([&] {
    try {
      body();
      ADD_FAILURE() << "not refused";
    } catch (const simt::KernelError& error) {
      for (const char* part : parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << " is not in: " << error.what();
      }
    }
  });
}

__global__ void early_return_kernel(int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
}

TEST(Executor, RefusesReturnBeforeABarrier) {
  expect_refused([] { launch(early_return_kernel, 2, 64, 0, nullptr, 50); }, {"barrier", "simt_test.cpp:", "returned"});
  launch(early_return_kernel, 2, 64, 0, nullptr, 64);  // and goes on working
}

__global__ void two_arms_kernel() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST(Executor, RefusesBarriersInBothArms) {
  expect_refused([] { launch(two_arms_kernel, 1, 64, 0, nullptr); },
                 {"waits at the barrier simt_test.cpp:", "but thread"});
}

__global__ void one_warp_kernel() {
  if (threadIdx.x < 32) __syncthreads();
}

TEST(Executor, RefusesABarrierForOneWarp) {
  expect_refused([] { launch(one_warp_kernel, 1, 64, 0, nullptr); }, {"barrier", "returned"});
}

__global__ void unequal_rounds_kernel() {
  for (unsigned i = 0; i < 2 + threadIdx.x / 32; ++i) __syncthreads();
}

TEST(Executor, RefusesUnequalNumbersOfBarriers) {
  expect_refused([] { launch(unequal_rounds_kernel, 1, 64, 0, nullptr); }, {"barrier", "returned"});
}

__global__ void full_mask_kernel(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(kFullMask, static_cast<int>(threadIdx.x), 0);
}

__global__ void any_block_kernel(int* out) {
  out[threadIdx.x] = __shfl_sync(kFullMask, static_cast<int>(threadIdx.x), 0);
}

TEST(Executor, RefusesAFullMaskWithHalfAWarp) {
  expect_refused(
      [] {
        DeviceArray<int> out(64);
        launch(full_mask_kernel, 1, 32, 0, nullptr, out.data());
      },
      {"returned", "simt_test.cpp:"});
  expect_refused(
      [] {
        DeviceArray<int> out(64);
        launch(any_block_kernel, 1, 48, 0, nullptr, out.data());
      },
      {"names lane 16", "block does not have"});
}

__global__ void exited_lane_kernel() {
  if (threadIdx.x == 7) return;
  __syncwarp();
}

TEST(Executor, RefusesAMaskWithAnExitedLane) {
  expect_refused([] { launch(exited_lane_kernel, 1, 32, 0, nullptr); }, {"returned", "simt_test.cpp:"});
}

__global__ void outside_mask_kernel(unsigned* out) {
  out[threadIdx.x] = __ballot_sync(0x0000ffffu, 1);
}

TEST(Executor, RefusesACallerOutsideItsMask) {
  expect_refused(
      [] {
        DeviceArray<unsigned> out(32);
        launch(outside_mask_kernel, 1, 32, 0, nullptr, out.data());
      },
      {"not in its own mask"});
}

__global__ void overlapping_kernel() {
  __syncwarp(threadIdx.x < 16 ? kFullMask : 0xffff0000u);
}
__global__ void crossed_kernel() {
  __syncwarp(threadIdx.x % 2 == 0 ? kFullMask : 0x7fffffffu);
}

TEST(Executor, RefusesUnequalMasks) {
  expect_refused([] { launch(overlapping_kernel, 1, 32, 0, nullptr); }, {"in the mask of simt_test.cpp:"});
  expect_refused([] { launch(crossed_kernel, 1, 32, 0, nullptr); }, {"simt_test.cpp:"});
}

__global__ void two_calls_kernel(int* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_sync(kFullMask, 1, 0);
  } else {
    out[threadIdx.x] = __shfl_sync(kFullMask, 2, 0);
  }
}

TEST(Executor, RefusesOneCollectiveFromTwoPlaces) {
  expect_refused(
      [] {
        DeviceArray<int> out(32);
        launch(two_calls_kernel, 1, 32, 0, nullptr, out.data());
      },
      {"of its warp waits at simt_test.cpp:"});
}

__global__ void source_outside_kernel(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, static_cast<int>(threadIdx.x), 16);
}

TEST(Executor, RefusesAShuffleFromOutsideTheMask) {
  expect_refused(
      [] {
        DeviceArray<int> out(32);
        launch(source_outside_kernel, 1, 32, 0, nullptr, out.data());
      },
      {"not in the mask"});
}

__global__ void deadlock_kernel() {
  if (threadIdx.x < 16) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

TEST(Executor, RefusesADeadlock) {
  expect_refused([] { launch(deadlock_kernel, 1, 32, 0, nullptr); }, {"deadlock", "and thread"});
}

__global__ void spin_kernel(int* flag) {
  if (threadIdx.x == 0) {
    while (atomicAdd(flag, 0) == 0) {
    }
  }
  __syncthreads();
  if (threadIdx.x == 1) atomicExch(flag, 1);
}

TEST(Executor, RefusesToSpin) {
  simt::Settings settings;
  settings.spin_limit = 1000;
  simt::ScopedSettings scope(settings);
  DeviceArray<int> flag(std::vector<int>{0});
  EXPECT_THROW(launch(spin_kernel, 1, 32, 0, nullptr, flag.data()), simt::KernelError);
}

__global__ void wrong_block_kernel(float* out) {
  out[threadIdx.x] = block_sum<64>(1.0f);
}

TEST(Executor, RefusesAFoldOfAnotherBlockSize) {
  expect_refused(
      [] {
        DeviceArray<float> out(128);
        launch(wrong_block_kernel, 1, 128, 0, nullptr, out.data());
      },
      {"block_fold"});
}

__global__ void much_static_kernel(int* out) {
  SHRINKWARP_SHARED_ARRAY(int, a, 8 * 1024);
  SHRINKWARP_SHARED_ARRAY(int, b, 4 * 1024 + 1);
  a[0] = b[0] = 1;
  *out = a[0];
}

TEST(Executor, RefusesTooMuchSharedMemory) {
  expect_refused(
      [] {
        DeviceArray<int> out(1);
        launch(much_static_kernel, 1, 1, 0, nullptr, out.data());
      },
      {"shared"});
  expect_refused(
      [] {
        DeviceArray<int> out(1);
        launch(large_kernel, 1, 128, 227 * 1024 - 4092, nullptr, out.data(), 1);
      },
      {"shared"});
  simt::Settings settings;
  settings.shared_limit = 99 * 1024;
  simt::ScopedSettings scope(settings);
  DeviceArray<int> out(1);
  launch(large_kernel, 1, 128, 95 * 1024, nullptr, out.data(), 1);
  EXPECT_THROW(launch(large_kernel, 1, 128, 100 * 1024, nullptr, out.data(), 1), CudaError);
}

struct Odd {};

__global__ void throwing_kernel() {
  if (threadIdx.x == 40) throw Odd();
  __syncthreads();
}

TEST(Executor, PassesExceptionsOn) {
  in_all_orders([] { EXPECT_THROW(launch(throwing_kernel, 2, 64, 0, nullptr), Odd); });
  EXPECT_THROW(__syncthreads(), simt::KernelError);  // no kernel runs
}

__global__ void async_address_kernel(const float* in, float* out, int kind) {
  SHRINKWARP_SHARED_ARRAY(float, row, 8);
  if (kind == 0) cp_async16(&row[1], in);
  if (kind == 1) cp_async16(&row[0], in + 1);
  if (kind == 2) cp_async4(out, in);
  if (kind == 3) cp_async4(&row[0], &row[1]);
}

TEST(Executor, RefusesBadAddressesOfAsyncCopies) {
  const char* wanted[] = {"multiple of its size", "multiple of its size", "outside shared memory", "source in shared"};
  for (int kind = 0; kind < 4; ++kind) {
    expect_refused(
        [kind] {
          DeviceArray<float> in(std::vector<float>(8, 1.0f));
          DeviceArray<float> out(8);
          launch(async_address_kernel, 1, 1, 0, nullptr, in.data(), out.data(), kind);
        },
        {wanted[kind]});
  }
}

// ---- bugs that show in the result ----

/// Whether the results of `run` are not the same bits in every order and with both poisons, or hold NaN.
template <class Run>
bool shows(Run run) {
  std::set<std::vector<std::uint32_t>> results;
  bool nan = false;
  in_all_orders([&] {
    const std::vector<float> values = run();
    std::vector<std::uint32_t> bits(values.size());
    std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
    results.insert(bits);
    nan = nan || std::any_of(values.begin(), values.end(), [](float value) { return std::isnan(value); });
  });
  return results.size() > 1 || nan;
}

#ifdef __SANITIZE_THREAD__
#define SKIP_RACES() GTEST_SKIP() << "a race, which ThreadSanitizer reports"
#else
#define SKIP_RACES() static_cast<void>(0)
#endif

constexpr int kNoBug = 0;
constexpr int kNoBarrierAfterWrite = 1;
constexpr int kNoBarrierAfterRead = 2;
constexpr int kUninitialised = 3;

/// x <- x + shift of x by one, three times, in shared memory.
template <int kBug>
__global__ void shift_kernel(const float* in, float* out) {
  SHRINKWARP_SHARED_ARRAY(float, x, 128);
  const int thread = static_cast<int>(threadIdx.x);
  if (kBug != kUninitialised || thread > 0) x[thread] = in[thread];
  if constexpr (kBug != kNoBarrierAfterWrite) __syncthreads();
  for (int i = 0; i < 3; ++i) {
    const float sum = x[thread] + x[(thread + 1) % 128];
    if constexpr (kBug != kNoBarrierAfterRead) __syncthreads();
    x[thread] = sum;
    __syncthreads();
  }
  out[thread] = x[thread];
}

template <int kBug>
std::vector<float> shift() {
  DeviceArray<float> in(numbers<float>(128));
  DeviceArray<float> out(128);
  launch(shift_kernel<kBug>, 1, 128, 0, nullptr, in.data(), out.data());
  return out.download();
}

TEST(Executor, ShowsAMissingBarrier) {
  SKIP_RACES();
  EXPECT_FALSE(shows(shift<kNoBug>));
  EXPECT_TRUE(shows(shift<kNoBarrierAfterWrite>));
  EXPECT_TRUE(shows(shift<kNoBarrierAfterRead>));
}

TEST(Executor, ShowsUninitialisedSharedMemory) {
  EXPECT_TRUE(shows(shift<kUninitialised>));
}

/// A soft-threshold that swallows NaN: only the second poison shows that `x` was never written.
__global__ void swallow_kernel(float* out) {
  float* x = dynamic_shared<float>();
  const float magnitude = fabsf(x[threadIdx.x]) - 1.0f;
  out[threadIdx.x] = magnitude > 0 ? copysignf(magnitude, x[threadIdx.x]) : 0.0f;
}

TEST(Executor, ShowsSwallowedPoison) {
  EXPECT_TRUE(shows([] {
    DeviceArray<float> out(32);
    launch(swallow_kernel, 1, 32, 32 * sizeof(float), nullptr, out.data());
    return out.download();
  }));
}

TEST(Executor, ShowsUninitialisedDeviceMemory) {
  EXPECT_TRUE(shows([] { return DeviceArray<float>(4).download(); }));
}

template <bool kCommit, bool kWait, bool kBarrier>
__global__ void async_bug_kernel(const float* in, float* out) {
  SHRINKWARP_SHARED_ARRAY(float, row, 128);
  cp_async4(&row[threadIdx.x], in + threadIdx.x);
  if constexpr (kCommit) cp_async_commit();
  if constexpr (kWait) cp_async_wait<0>();
  if constexpr (kBarrier) __syncthreads();
  out[threadIdx.x] = row[127 - threadIdx.x];
}

template <bool kCommit, bool kWait, bool kBarrier>
std::vector<float> async_bug() {
  DeviceArray<float> in(numbers<float>(128));
  DeviceArray<float> out(128);
  launch(async_bug_kernel<kCommit, kWait, kBarrier>, 1, 128, 0, nullptr, in.data(), out.data());
  return out.download();
}

TEST(Executor, ShowsAsyncCopiesThatNobodyAwaits) {
  SKIP_RACES();
  EXPECT_FALSE(shows(async_bug<true, true, true>));
  EXPECT_TRUE(shows(async_bug<false, true, true>));
  EXPECT_TRUE(shows(async_bug<true, false, true>));
  EXPECT_TRUE(shows(async_bug<true, true, false>));
}

__global__ void blocks_kernel(int* counter, float* out) {
  if (threadIdx.x == 0) out[atomicAdd(counter, 1)] = static_cast<float>(blockIdx.x);
}

TEST(Executor, ShowsDependenceOnTheOrderOfBlocks) {
  EXPECT_TRUE(shows([] {
    DeviceArray<int> counter(std::vector<int>{0});
    DeviceArray<float> out(20);
    launch(blocks_kernel, 20, 32, 0, nullptr, counter.data(), out.data());
    return out.download();
  }));
}

__global__ void touch_kernel(float* out) {
  out[blockIdx.x * blockDim.x + threadIdx.x] = 1.0f;
}

TEST(Executor, NeedsNoSwitchWithoutABarrier) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "under ThreadSanitizer each thread has its own stack";
#endif
  DeviceArray<float> out(10 * 256);
  const simt::Counters before = simt::counters();
  launch(touch_kernel, 10, 256, 0, nullptr, out.data());
  const simt::Counters after = simt::counters();
  EXPECT_EQ(after.blocks - before.blocks, 10);
  EXPECT_EQ(after.threads - before.threads, 2560);
  EXPECT_LE(after.switches - before.switches, 20);
}

__global__ void sum_kernel(const float* in, float* out) {
  const float sum = block_sum<128>(in[threadIdx.x]);
  if (threadIdx.x == 0) *out = sum;
}

TEST(Executor, HostThreadsLaunchSideBySide) {
  std::vector<float> sums(4);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&sums, i] {
      cudaStream_t stream;
      SHRINKWARP_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
      DeviceArray<float> in(std::vector<float>(128, static_cast<float>(i)));
      DeviceArray<float> out(1);
      for (int j = 0; j < 20; ++j) launch(sum_kernel, 1, 128, 0, stream, in.data(), out.data());
      SHRINKWARP_CUDA_CHECK(cudaStreamDestroy(stream));
      sums[static_cast<std::size_t>(i)] = out.download()[0];
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sums, (std::vector<float>{0, 128, 256, 384}));
}

#ifdef __SANITIZE_THREAD__

__global__ void plain_sum_kernel(float* out) {
  __syncthreads();
  if (threadIdx.x == 0) *out += 1.0f;
}

/// Whether ThreadSanitizer, in a process of its own, reports a race in what `run` launches.
template <class Run>
void expect_race(Run run) {
  EXPECT_EXIT(
      {
        run();
        std::exit(0);
      },
      testing::ExitedWithCode(66), "data race");
}

TEST(ExecutorDeathTest, ThreadSanitizerSeesRaces) {
  expect_race(shift<kNoBarrierAfterWrite>);
  expect_race(shift<kNoBarrierAfterRead>);
  expect_race(async_bug<true, true, false>);
  expect_race([] {  // which the executor's order of blocks hides
    DeviceArray<float> out(std::vector<float>{0.0f});
    for (int i = 0; i < 3; ++i) launch(plain_sum_kernel, 1, 32, 0, nullptr, out.data());  // these are in order
    launch(plain_sum_kernel, 2, 32, 0, nullptr, out.data());
  });
}

#endif

#ifdef __SANITIZE_ADDRESS__

__global__ void overrun_kernel(float* out, int n, int kind) {
  SHRINKWARP_SHARED_ARRAY(float, fixed, 5);
  float* dynamic = dynamic_shared<float>();
  float* target = kind == 0 ? out : kind == 1 ? fixed : dynamic;
  for (int i = 0; i < n; ++i) target[i] = 1.0f;
}

TEST(ExecutorDeathTest, OverrunsAreSeen) {
  DeviceArray<float> out(5);
  for (int kind = 0; kind < 3; ++kind) {
    launch(overrun_kernel, 1, 1, 5 * sizeof(float), nullptr, out.data(), 5, kind);
    EXPECT_DEATH(launch(overrun_kernel, 1, 1, 5 * sizeof(float), nullptr, out.data(), 6, kind), "overrun_kernel");
  }
}

TEST(ExecutorDeathTest, TheHostCannotTouchDeviceMemory) {
  DeviceArray<float> out(std::vector<float>(5, 1.0f));
  volatile float* data = out.data();
  EXPECT_DEATH(data[2] = 2.0f, "use-after-poison");
  EXPECT_EQ(out.download()[2], 1.0f);
}

#endif

// ---- the stand-in of the CUDA runtime ----

TEST(FakeRuntime, CopiesRoundTrip) {
  const std::vector<int> values = numbers<int>(100);
  DeviceArray<int> first(values);
  DeviceArray<int> second(100);
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(second.data(), first.data(), 400, cudaMemcpyDeviceToDevice, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(second.download(), values);

  std::vector<int> pieces(12, -1);  // 4 rows of 3 out of 4 rows of 25
  ASSERT_EQ(cudaMemcpy2DAsync(pieces.data(), 12, second.data() + 5, 100, 12, 4, cudaMemcpyDeviceToHost, stream),
            cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  for (int row = 0; row < 4; ++row) {
    for (int i = 0; i < 3; ++i) EXPECT_EQ(pieces[row * 3 + i], values[row * 25 + 5 + i]);
  }
  ASSERT_EQ(cudaMemsetAsync(second.data(), 0, 200, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(second.download()[49], 0);
  EXPECT_EQ(second.download()[50], values[50]);
}

TEST(FakeRuntime, RefusesWrongPointers) {
  std::vector<int> host(10);
  DeviceArray<int> device(10);
  EXPECT_EQ(cudaMemcpy(device.data(), host.data(), 40, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host.data(), host.data(), 40, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device.data(), host.data(), 44, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device.data(), host.data(), 44, cudaMemcpyDefault), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(host.data(), 0, 40), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(host.data()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  cudaPointerAttributes attributes;
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, device.data() + 3), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, host.data()), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
}

TEST(FakeRuntime, RunsOutOfMemory) {
  simt::Settings settings;
  settings.device_memory = 1000;
  simt::ScopedSettings scope(settings);
  std::size_t free_before = 0;
  std::size_t free_after = 0;
  std::size_t total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free_before, &total), cudaSuccess);
  EXPECT_EQ(total, 1000u);
  char* some = nullptr;
  char* more = nullptr;
  ASSERT_EQ(cudaMalloc(&some, free_before - 10), cudaSuccess);
  ASSERT_EQ(cudaMemGetInfo(&free_after, &total), cudaSuccess);
  EXPECT_EQ(free_after, 10u);
  EXPECT_EQ(cudaMalloc(&more, 11), cudaErrorMemoryAllocation);
  EXPECT_EQ(more, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaFree(some), cudaSuccess);
}

TEST(FakeRuntime, DescribesItsDevice) {
  int count = 0;
  ASSERT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 1);
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_STREQ(properties.name, "host executor");
  EXPECT_EQ(properties.major, 9);
  EXPECT_EQ(properties.sharedMemPerBlockOptin, 227u * 1024);
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 1), cudaErrorInvalidDevice);
  EXPECT_STREQ(cudaGetErrorName(cudaGetLastError()), "cudaErrorInvalidDevice");
}

__global__ void add_kernel(float* x, float value) {
  x[threadIdx.x] += value;
}
__global__ void scale_kernel(float* x, float value) {
  x[threadIdx.x] *= value;
}

TEST(FakeRuntime, GraphsRepeatWhatWasCaptured) {
  for (const bool deferred : {false, true}) {
    simt::Settings settings;
    settings.deferred = deferred;
    simt::ScopedSettings scope(settings);
    DeviceArray<float> x(std::vector<float>(32, 1.0f));
    cudaStream_t stream;
    cudaStream_t side;
    cudaEvent_t fork;
    cudaEvent_t join;
    ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
    ASSERT_EQ(cudaStreamCreate(&side), cudaSuccess);
    ASSERT_EQ(cudaEventCreate(&fork), cudaSuccess);
    ASSERT_EQ(cudaEventCreate(&join), cudaSuccess);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    launch(add_kernel, 1, 32, 0, stream, x.data(), 1.0f);
    ASSERT_EQ(cudaEventRecord(fork, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(side, fork), cudaSuccess);
    launch(scale_kernel, 1, 32, 0, side, x.data(), 2.0f);
    ASSERT_EQ(cudaEventRecord(join, side), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(stream, join), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
    float* pointer = nullptr;
    EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaMemset(x.data(), 0, 4), cudaErrorStreamCaptureImplicit);
    EXPECT_NE(cudaGetLastError(), cudaSuccess);
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(x.download()[0], 1.0f);  // captured, not run
    std::size_t nodes = 0;
    ASSERT_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
    EXPECT_GE(nodes, 2u);
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
    ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    for (int i = 0; i < 3; ++i) ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_EQ(x.download()[31], 22.0f);  // ((1 + 1) 2 + 1) 2 + 1) 2
    EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(fork), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(join), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(side), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  }
}

TEST(FakeRuntime, DeferredWorkWaitsToBeAwaited) {
  simt::Settings settings;
  settings.deferred = true;
  simt::ScopedSettings scope(settings);
  DeviceArray<float> x(std::vector<float>(32, 1.0f));
  float* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 128), cudaSuccess);
  std::fill(pinned, pinned + 32, -1.0f);
  cudaStream_t stream;
  cudaStream_t other;
  cudaEvent_t event;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  launch(add_kernel, 1, 32, 0, stream, x.data(), 1.0f);
  ASSERT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(pinned, x.data(), 128, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(pinned[0], -1.0f);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  ASSERT_EQ(cudaStreamWaitEvent(other, event), cudaSuccess);
  launch(scale_kernel, 1, 32, 0, other, x.data(), 10.0f);
  ASSERT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  EXPECT_EQ(pinned[0], -1.0f);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
  EXPECT_EQ(pinned[0], 20.0f);  // the copy was not ordered before the other stream's kernel

  std::vector<float> pageable(32, 3.0f);
  ASSERT_EQ(cudaMemcpyAsync(x.data(), pageable.data(), 128, cudaMemcpyHostToDevice, stream), cudaSuccess);
  pageable[0] = 4.0f;  // has been read before the call returned
  ASSERT_EQ(cudaMemcpyAsync(pageable.data(), x.data(), 128, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(pageable[0], 3.0f);  // and is waited for

  launch(early_return_kernel, 1, 64, 0, stream, 50);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_NE(std::string(cudaGetErrorString(cudaErrorLaunchFailure)).find("barrier"), std::string::npos);
  EXPECT_THROW(launch(add_kernel, 1, 32, 0, stream, x.data(), 1.0f), CudaError);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  static_cast<void>(cudaFreeHost(pinned));
  static_cast<void>(cudaGetLastError());
}

TEST(FakeRuntime, EventsMeasure) {
  cudaEvent_t start;
  cudaEvent_t end;
  ASSERT_EQ(cudaEventCreate(&start), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorNotReady);
  ASSERT_EQ(cudaEventRecord(start), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end), cudaSuccess);
  ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess);
  ASSERT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
  EXPECT_GE(milliseconds, 0.0f);
  EXPECT_EQ(cudaEventDestroy(start), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(end), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotReady);
}

// ---- the stand-ins of cuBLAS, CUB and Thrust ----

template <class T>
void check_gemm(cublasHandle_t handle, int m, int n, int k, bool transpose_a, bool transpose_b) {
  const int lda = (transpose_a ? k : m) + 2;
  const int ldb = (transpose_b ? n : k) + 1;
  const int ldc = m + 3;
  const std::vector<T> a = numbers<T>(static_cast<std::size_t>(lda) * (transpose_a ? m : k), 1);
  const std::vector<T> b = numbers<T>(static_cast<std::size_t>(ldb) * (transpose_b ? k : n), 2);
  const std::vector<T> c = numbers<T>(static_cast<std::size_t>(ldc) * n, 3);
  DeviceArray<T> a_device(a);
  DeviceArray<T> b_device(b);
  for (const T beta : {T(0), T(0.5)}) {
    DeviceArray<T> c_device(beta == T(0) ? std::vector<T>(c.size(), std::numeric_limits<T>::quiet_NaN()) : c);
    const T alpha = T(0.25);
    const auto op_a = transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const auto op_b = transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t status;
    if constexpr (std::is_same_v<T, float>) {
      status = cublasSgemm(handle, op_a, op_b, m, n, k, &alpha, a_device.data(), lda, b_device.data(), ldb, &beta,
                           c_device.data(), ldc);
    } else {
      status = cublasDgemm_64(handle, op_a, op_b, m, n, k, &alpha, a_device.data(), lda, b_device.data(), ldb, &beta,
                              c_device.data(), ldc);
    }
    ASSERT_EQ(status, CUBLAS_STATUS_SUCCESS);
    const std::vector<T> out = c_device.download();
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i < m; ++i) {
        double sum = 0;
        double scale = 0;
        for (int l = 0; l < k; ++l) {
          const double x = transpose_a ? a[l + i * lda] : a[i + l * lda];
          const double y = transpose_b ? b[j + l * ldb] : b[l + j * ldb];
          sum += x * y;
          scale += std::fabs(x * y);
        }
        const double wanted = 0.25 * sum + (beta == T(0) ? 0.0 : 0.5 * c[i + j * ldc]);
        ASSERT_NEAR(out[i + j * ldc], wanted, (k + 2) * std::numeric_limits<T>::epsilon() * (scale + 2048));
      }
      for (int i = m; i < ldc && beta != T(0); ++i) ASSERT_EQ(out[i + j * ldc], c[i + j * ldc]);  // padding is kept
    }
  }
}

TEST(FakeCublas, Products) {
  cublasHandle_t handle;
  ASSERT_EQ(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      check_gemm<float>(handle, 37, 23, 19, transpose_a, transpose_b);
      check_gemm<double>(handle, 16, 8, 5, transpose_a, transpose_b);
      check_gemm<float>(handle, 1, 1, 1, transpose_a, transpose_b);
      check_gemm<double>(handle, 3, 2, 0, transpose_a, transpose_b);
    }
  }
  const float one = 1.0f;
  DeviceArray<float> x(12);
  std::vector<float> host(12);
  EXPECT_EQ(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 3, 2, 2, &one, x.data(), 2, x.data(), 2, &one, x.data(), 3),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 3, 5, 2, &one, x.data(), 3, x.data(), 2, &one, x.data(), 3),
            CUBLAS_STATUS_EXECUTION_FAILED);  // C has 15 elements
  EXPECT_EQ(
      cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, host.data(), 1, x.data(), 1, &one, x.data(), 1),
      CUBLAS_STATUS_EXECUTION_FAILED);
  ASSERT_EQ(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
}

TEST(FakeCublas, MatrixTimesVector) {
  cublasHandle_t handle;
  ASSERT_EQ(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
  DeviceArray<double> a(std::vector<double>{1, 2, 0, 3, 4, 0});  // 2 x 2, ld 3
  DeviceArray<double> x(std::vector<double>{1, -1, 10});
  DeviceArray<double> y(std::vector<double>{100, 7, 200});
  const double alpha = 2;
  const double beta = 1;
  ASSERT_EQ(cublasDgemv(handle, CUBLAS_OP_N, 2, 2, &alpha, a.data(), 3, x.data(), 2, &beta, y.data(), 2),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(y.download(), (std::vector<double>{100 + 2 * 31, 7, 200 + 2 * 42}));
  ASSERT_EQ(cublasDgemv(handle, CUBLAS_OP_T, 2, 2, &alpha, a.data(), 3, x.data(), 2, &beta, y.data(), 1),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(y.download(), (std::vector<double>{162 + 2 * 21, 7 + 2 * 43, 284}));
  ASSERT_EQ(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
}

TEST(FakeCub, ScansAndSelects) {
  const std::vector<int> in = {3, 0, 5, 1, 0, 2};
  DeviceArray<int> in_device(in);
  DeviceArray<int> out(6);
  DeviceArray<int> selected(1);
  std::size_t bytes = 0;
  ASSERT_EQ(cub::DeviceScan::ExclusiveSum(nullptr, bytes, in_device.data(), out.data(), 6), cudaSuccess);
  ASSERT_GT(bytes, 0u);
  DeviceArray<char> temp(bytes);
  std::size_t less = bytes - 1;
  EXPECT_NE(cub::DeviceScan::ExclusiveSum(temp.data(), less, in_device.data(), out.data(), 6), cudaSuccess);
  ASSERT_EQ(cub::DeviceScan::ExclusiveSum(temp.data(), bytes, in_device.data(), out.data(), 6), cudaSuccess);
  EXPECT_EQ(out.download(), (std::vector<int>{0, 3, 3, 8, 9, 9}));
  ASSERT_EQ(cub::DeviceScan::InclusiveSum(temp.data(), bytes, in_device.data(), out.data(), 6, nullptr), cudaSuccess);
  EXPECT_EQ(out.download(), (std::vector<int>{3, 3, 8, 9, 9, 11}));
  ASSERT_EQ(cub::DeviceScan::ExclusiveSum(temp.data(), bytes, out.data(), 6, cudaStream_t(nullptr)), cudaSuccess);
  EXPECT_EQ(out.download(), (std::vector<int>{0, 3, 6, 14, 23, 32}));
  ASSERT_EQ(cub::DeviceSelect::Flagged(temp.data(), bytes, thrust::make_counting_iterator(10), in_device.data(),
                                       out.data(), selected.data(), 6, nullptr),
            cudaSuccess);
  EXPECT_EQ(selected.download()[0], 4);
  EXPECT_EQ(out.download()[3], 15);
  EXPECT_NE(cudaGetLastError(), cudaSuccess);
}

TEST(FakeThrust, AlgorithmsOnAStream) {
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  const auto policy = thrust::cuda::par_nosync.on(stream);
  DeviceArray<int> x(8);
  DeviceArray<int> y(8);
  const auto first = thrust::device_pointer_cast(x.data());
  const auto out = thrust::device_pointer_cast(y.data());
  thrust::sequence(policy, first, first + 8);
  thrust::exclusive_scan(policy, first, first + 8, out);
  EXPECT_EQ(y.download(), (std::vector<int>{0, 0, 1, 3, 6, 10, 15, 21}));
  thrust::inclusive_scan(policy, x.data(), x.data() + 8, y.data());
  EXPECT_EQ(y.download()[7], 28);
  EXPECT_EQ(thrust::reduce(policy, first, first + 8), 28);
  EXPECT_EQ(thrust::reduce(policy, first, first + 8, 100), 128);
  const auto end = thrust::copy_if(policy, first, first + 8, out, [](int value) { return value % 3 == 0; });
  EXPECT_EQ(end - out, 3);
  EXPECT_EQ(y.download()[2], 6);
  x.upload({3, 1, 2, 1, 9, 0, 0, 5});
  y.upload({0, 1, 2, 3, 4, 5, 6, 7});
  thrust::sort_by_key(policy, first, first + 8, out);
  EXPECT_EQ(y.download(), (std::vector<int>{5, 6, 1, 3, 2, 0, 7, 4}));
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

#endif  // SHRINKWARP_SIMT

}  // namespace
}  // namespace shrinkwarp
