// CUDA body of cross_entropy: a warp a sample, whose logits it reads three times, from a cache after the first; one block adds
// what the samples have found.
//
// Story: 1000 classes, 256 samples, float, 1 MiB and half a million exponentials in double: on paper, at some 30 instructions each
// and an H100's 34 TFLOP/s of double, under 1 us; launches take longer.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/cross_entropy/bodies.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    sample_kernel(MatrixView<const T> logits, const std::int32_t* labels, Smoothing smoothing, double share,
                  MatrixView<T> dlogits, double* losses, double* found) {
  const std::int64_t j = warp_column(), classes = logits.rows;
  if (j >= logits.cols) return;
  const std::int64_t lane = threadIdx.x % kWarpSize;
  const T* const z = logits.column(j);
  const std::int64_t label = labels[j];
  T largest = z[0];
  for (std::int64_t k = lane; k < classes; k += kWarpSize) largest = max_or_nan(largest, z[k]);
  largest = warp_max(largest);
  const bool known = label >= 0 && label < classes;
  const T at_label = z[known ? label : 0];  // now: dlogits may be logits
  const double most = known ? static_cast<double>(largest) : nan("");
  std::int64_t first = classes;  // of the lane's that are largest; NaN is
  double exponentials = 0, sum = 0;
  for (std::int64_t k = lane; k < classes; k += kWarpSize) {
    if (first == classes && (z[k] == largest || z[k] != z[k])) first = k;
    const double d = static_cast<double>(z[k]) - most;
    exponentials += std::exp(d);
    sum += d;
  }
  first = warp_min(first);
  const double log_sum = std::log(warp_sum(exponentials));
  sum = warp_sum(sum);
  if (lane == 0) {
    losses[j] = smoothing.loss(log_sum, static_cast<double>(at_label) - most, sum, static_cast<double>(classes));
    found[j] = first == label ? 1 : 0;
  }
  if (dlogits.data == nullptr) return;
  T* const g = dlogits.column(j);
  for (std::int64_t k = lane; k < classes; k += kWarpSize) {
    const double p = std::exp(static_cast<double>(z[k]) - most - log_sum);
    g[k] = static_cast<T>(share * (p - smoothing.target(k == label)));
  }
}

/// By one block.
__global__ void __launch_bounds__(kThreads)
    add_samples_kernel(const double* losses, const double* found, std::int64_t N, double* loss, std::int64_t* correct) {
  double total = 0, right = 0;
  for (std::int64_t j = threadIdx.x; j < N; j += kThreads) {
    total += losses[j];
    right += found[j];
  }
  total = block_sum<kThreads>(total);
  right = block_sum<kThreads>(right);
  if (threadIdx.x == 0) {
    *loss = total / static_cast<double>(N);
    *correct = static_cast<std::int64_t>(right);
  }
}

}  // namespace

template <class T>
void cross_entropy(const Context& context, MatrixView<const T> logits, VectorView<const std::int32_t> labels,
                   const Smoothing& smoothing, double scale, VectorView<double> loss, VectorView<std::int64_t> correct,
                   MatrixView<T> dlogits, const CrossEntropyScratch& scratch) {
  const double share = scale / static_cast<double>(logits.cols);
  if (dlogits.empty()) dlogits.data = nullptr;
  launch(sample_kernel<T>, dim3(grid_size(ceil_div(logits.cols, kColumnWarps), "cross_entropy")), dim3(kColumnThreads),
         0, context.stream(), logits, labels.data, smoothing, share, dlogits, scratch.losses.data, scratch.found.data);
  launch(add_samples_kernel, dim3(1), dim3(kThreads), 0, context.stream(), scratch.losses.data, scratch.found.data,
         logits.cols, loss.data, correct.data);
}

template void cross_entropy<float>(const Context&, MatrixView<const float>, VectorView<const std::int32_t>,
                                   const Smoothing&, double, VectorView<double>, VectorView<std::int64_t>,
                                   MatrixView<float>, const CrossEntropyScratch&);
template void cross_entropy<double>(const Context&, MatrixView<const double>, VectorView<const std::int32_t>,
                                    const Smoothing&, double, VectorView<double>, VectorView<std::int64_t>,
                                    MatrixView<double>, const CrossEntropyScratch&);

}  // namespace shrinkwarp::cuda
