// CPU bodies of the convolution family: matrices of columns (im2col) a piece at a time, small enough for a core's cache, and
// products of them by the BLAS on the thread that has made the piece.
//
// What a task is depends on the shapes alone, never on the threads: forward some rows of positions of an image and some of
// the filters, for dX some channels of an image, for dW some channels and filters of a share of the images, image after
// image. Shares are added in their order at the end, so every sum has one order.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/this_thread.hpp>
#include <shrinkwarp/kernels/convolution/bodies.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/gemm/single_threaded_blas.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kForwardColumns = 262144;    // elements of a task's piece of Col
constexpr std::int64_t kBackwardColumns = 1048576;  // the same backward, where a piece has all positions
constexpr std::int64_t kPositions = 1024;           // of a task without columns
constexpr std::int64_t kTerms = 512;                // of a task backward
constexpr std::int64_t kFilters = 256;              // of a task
constexpr std::int64_t kShares = 8;                 // of the images, for dW
constexpr std::int64_t kSharedSums = 4194304;       // elements of the partial sums of all shares

/// [0, whole) in pieces of `size`, the last one shorter.
struct Pieces {
  std::int64_t whole, size, count;

  /// As few as may be of at most `most`, >= 1, all of nearly the same size.
  static Pieces of(std::int64_t whole, std::int64_t most) {
    const std::int64_t pieces = (whole + most - 1) / most;
    const std::int64_t size = (whole + pieces - 1) / pieces;
    return {whole, size, (whole + size - 1) / size};
  }
  std::int64_t begin(std::int64_t i) const { return i * size; }
  std::int64_t length(std::int64_t i) const { return std::min(size, whole - i * size); }
};

#define SHRINKWARP_CONVOLUTION_LOOPS(T)                                                                 \
  /* col[i] <- x[i stride] */                                                                           \
  SHRINKWARP_CPU_CLONES void take_strided(const T* x, std::int64_t stride, std::int64_t size, T* col) { \
    if (stride == 2) { /* which the compiler makes vectors of */                                        \
      for (std::int64_t i = 0; i < size; ++i) col[i] = x[i * 2];                                        \
    } else {                                                                                            \
      for (std::int64_t i = 0; i < size; ++i) col[i] = x[i * stride];                                   \
    }                                                                                                   \
  }                                                                                                     \
  /* x[i stride] <- x[i stride] + col[i] */                                                             \
  SHRINKWARP_CPU_CLONES void add_strided(const T* col, std::int64_t stride, std::int64_t size, T* x) {  \
    if (stride == 1) {                                                                                  \
      for (std::int64_t i = 0; i < size; ++i) x[i] += col[i];                                           \
    } else {                                                                                            \
      for (std::int64_t i = 0; i < size; ++i) x[i * stride] += col[i];                                  \
    }                                                                                                   \
  }                                                                                                     \
  SHRINKWARP_CPU_CLONES void add_constant(T value, std::int64_t size, T* x) {                           \
    for (std::int64_t i = 0; i < size; ++i) x[i] += value;                                              \
  }                                                                                                     \
  SHRINKWARP_CPU_CLONES void scale(T factor, std::int64_t size, T* x) {                                 \
    for (std::int64_t i = 0; i < size; ++i) x[i] *= factor;                                             \
  }                                                                                                     \
  SHRINKWARP_CPU_CLONES double sum_of(const T* x, std::int64_t size) {                                  \
    double lane[8] = {};                                                                                \
    std::int64_t i = 0;                                                                                 \
    for (; i + 8 <= size; i += 8)                                                                       \
      for (int k = 0; k < 8; ++k) lane[k] += static_cast<double>(x[i + k]);                             \
    for (int k = 0; i < size; ++i, ++k) lane[k] += static_cast<double>(x[i]);                           \
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));   \
  }
SHRINKWARP_CONVOLUTION_LOOPS(float)
SHRINKWARP_CONVOLUTION_LOOPS(double)
#undef SHRINKWARP_CONVOLUTION_LOOPS

/// Positions [begin, end) of a row at which tap `l` lies inside of the image, and the pixel of the first one.
struct Inside {
  std::int64_t begin, end, pixel;

  Inside(const ConvolutionShape& s, std::int64_t l) {
    const std::int64_t offset = l * s.dilation - s.padding, last = s.width - 1 - offset;
    begin = std::min(offset < 0 ? (-offset + s.stride - 1) / s.stride : 0, s.out_width());
    end = std::max(begin, last < 0 ? 0 : std::min(last / s.stride + 1, s.out_width()));
    pixel = begin * s.stride + offset;
  }
};

/// Col of some channels and rows of positions, [rows out_width, channels taps], of an image.
template <class T>
void unfold(const ConvolutionShape& s, const T* image, std::int64_t first_channel, std::int64_t channels,
            std::int64_t first_row, std::int64_t rows, T* col) {
  const std::int64_t across = s.out_width();
  for (std::int64_t c = 0; c < channels; ++c) {
    const T* const plane = image + (first_channel + c) * s.pixels();
    for (std::int64_t k = 0; k < s.kernel_height; ++k) {
      for (std::int64_t l = 0; l < s.kernel_width; ++l) {
        const Inside inside(s, l);
        for (std::int64_t i = first_row; i < first_row + rows; ++i, col += across) {
          const std::int64_t h = i * s.stride + k * s.dilation - s.padding;
          if (h < 0 || h >= s.height) {
            std::fill_n(col, across, T(0));
            continue;
          }
          const T* const from = plane + h * s.width + inside.pixel;
          const std::int64_t size = inside.end - inside.begin;
          std::fill_n(col, inside.begin, T(0));
          if (s.stride == 1) {
            std::copy_n(from, size, col + inside.begin);
          } else {
            take_strided(from, s.stride, size, col + inside.begin);
          }
          std::fill_n(col + inside.end, across - inside.end, T(0));
        }
      }
    }
  }
}

/// Some channels of an image <- beta themselves + what `col`, [P, channels taps], adds to each pixel, in the order of the taps.
template <class T>
void fold(const ConvolutionShape& s, const T* col, std::int64_t first_channel, std::int64_t channels, T beta,
          T* image) {
  for (std::int64_t c = 0; c < channels; ++c) {
    T* const plane = image + (first_channel + c) * s.pixels();
    if (beta == T(0)) {
      std::fill_n(plane, s.pixels(), T(0));
    } else if (beta != T(1)) {
      scale(beta, s.pixels(), plane);
    }
    for (std::int64_t k = 0; k < s.kernel_height; ++k) {
      for (std::int64_t l = 0; l < s.kernel_width; ++l) {
        const Inside inside(s, l);
        for (std::int64_t i = 0; i < s.out_height(); ++i, col += s.out_width()) {
          const std::int64_t h = i * s.stride + k * s.dilation - s.padding;
          if (h < 0 || h >= s.height) continue;
          add_strided(col + inside.begin, s.stride, inside.end - inside.begin, plane + h * s.width + inside.pixel);
        }
      }
    }
  }
}

/// How the work is cut, and the scratch for it.
template <class T>
struct Plan {
  Pieces rows, channels, filters, shares;
  MatrixView<T> columns;  // a column a thread
  MatrixView<T> sums;     // backward, a column a share of the images; none where there is one share

  Plan(Arena& arena, const Context& context, const ConvolutionShape& s, std::int64_t images, bool backward) {
    const std::int64_t P = s.positions(), K = s.terms(), taps = s.taps();
    const bool product = is_product(s);
    const std::int64_t most_positions = product ? kPositions : kForwardColumns / K;
    rows = Pieces::of(s.out_height(), std::max<std::int64_t>(most_positions / s.out_width(), 1));
    const std::int64_t room = product ? kTerms : std::min(kTerms, kBackwardColumns / P);
    channels = Pieces::of(s.channels, std::max<std::int64_t>(room / taps, 1));
    filters = Pieces::of(s.filters, kFilters);
    const std::int64_t most_shares = std::clamp<std::int64_t>(kSharedSums / s.weights(), 1, kShares);
    shares = Pieces::of(images, (images + most_shares - 1) / most_shares);
    const std::int64_t piece = backward ? P * channels.size * taps : rows.size * s.out_width() * K;
    if (!product) columns = arena.matrix<T>(piece, context.threads());
    if (backward && shares.count > 1) sums = arena.matrix<T>(s.weights(), shares.count);
  }
};

/// Column `b` of features as the matrix [spatial, channels] that it is.
template <class T>
MatrixView<T> image_matrix(const MatrixView<T>& X, std::int64_t b, std::int64_t spatial, std::int64_t channels) {
  return {X.column(b), spatial, channels, spatial, X.device};
}

/// Rows [first, first + count).
template <class T>
MatrixView<T> some_rows(const MatrixView<T>& A, std::int64_t first, std::int64_t count) {
  return {A.data + first, count, A.cols, A.ld, A.device};
}

template <class T>
void weight_gradient(const Context& context, const ConvolutionShape& s, const Plan<T>& plan, MatrixView<const T> X,
                     MatrixView<const T> dY, MatrixView<T> dW) {
  const std::int64_t P = s.positions(), taps = s.taps();
  const bool product = is_product(s);
  // Columns serve all filters at once; where there are none filters can be cut for nothing.
  const Pieces filters = product ? plan.filters : Pieces::of(s.filters, s.filters);
  context.parallel_for(plan.shares.count * plan.channels.count * filters.count, [&](std::int64_t task, int worker) {
    const std::int64_t f = task % filters.count, c = task / filters.count % plan.channels.count;
    const std::int64_t share = task / filters.count / plan.channels.count;
    const std::int64_t first_channel = plan.channels.begin(c), channels = plan.channels.length(c);
    const bool partial = plan.shares.count > 1;
    MatrixView<T> target = dW;
    if (partial) target = {plan.sums.column(share), s.terms(), s.filters, s.terms(), dW.device};
    target = some_rows(target, first_channel * taps, channels * taps).columns(filters.begin(f), filters.length(f));
    for (std::int64_t i = 0; i < plan.shares.length(share); ++i) {
      const std::int64_t b = plan.shares.begin(share) + i;
      MatrixView<const T> columns = image_matrix(X, b, P, s.channels);
      if (product) {
        columns = columns.columns(first_channel, channels);
      } else {
        T* const col = plan.columns.column(worker);
        unfold(s, X.column(b), first_channel, channels, 0, s.out_height(), col);
        columns = {col, P, channels * taps, P, X.device};
      }
      gemm<T>(this_thread(), Transpose::yes, Transpose::no, T(1), columns,
              image_matrix(dY, b, P, s.filters).columns(filters.begin(f), filters.length(f)),
              partial && i == 0 ? T(0) : T(1), target);
    }
  });
  if (plan.shares.count == 1) return;
  context.parallel_for(s.filters, [&](std::int64_t f, int) {
    for (std::int64_t share = 0; share < plan.shares.count; ++share)
      add_strided(plan.sums.column(share) + f * s.terms(), 1, s.terms(), dW.column(f));
  });
}

template <class T>
void input_gradient(const Context& context, const ConvolutionShape& s, const Plan<T>& plan, MatrixView<const T> W,
                    MatrixView<const T> dY, T beta, MatrixView<T> dX) {
  const std::int64_t P = s.positions(), taps = s.taps(), across = s.out_width();
  const bool product = is_product(s);
  const std::int64_t bands = product ? plan.rows.count : 1;
  context.parallel_for(dY.cols * plan.channels.count * bands, [&](std::int64_t task, int worker) {
    const std::int64_t band = task % bands, c = task / bands % plan.channels.count,
                       b = task / bands / plan.channels.count;
    const std::int64_t first_channel = plan.channels.begin(c), channels = plan.channels.length(c);
    const MatrixView<const T> weights = some_rows(W, first_channel * taps, channels * taps);
    const MatrixView<const T> gradient = image_matrix(dY, b, P, s.filters);
    if (product) {
      const std::int64_t first = plan.rows.begin(band) * across, count = plan.rows.length(band) * across;
      gemm<T>(this_thread(), Transpose::no, Transpose::yes, T(1), some_rows(gradient, first, count), weights, beta,
              some_rows(image_matrix(dX, b, P, s.channels).columns(first_channel, channels), first, count));
    } else {
      const MatrixView<T> columns{plan.columns.column(worker), P, channels * taps, P, dX.device};
      gemm<T>(this_thread(), Transpose::no, Transpose::yes, T(1), gradient, weights, T(0), columns);
      fold(s, columns.data, first_channel, channels, beta, dX.column(b));
    }
  });
}

}  // namespace

template <class T>
std::int64_t convolution_scratch(const Context& context, const ConvolutionShape& shape, std::int64_t images,
                                 bool backward) {
  Arena counting{context.device()};
  Plan<T>(counting, context, shape, images, backward);
  return counting.used();
}

template <class T>
void convolution_forward(const Context& context, const ConvolutionShape& s, MatrixView<const T> W,
                         VectorView<const T> b, MatrixView<const T> X, MatrixView<T> Y, VectorView<std::byte> scratch) {
  Arena arena(scratch);
  const Plan<T> plan(arena, context, s, X.cols, false);
  const std::int64_t P = s.positions(), across = s.out_width();
  const bool product = is_product(s);
  const SingleThreadedBlas single;  // once for all products
  context.parallel_for(X.cols * plan.rows.count * plan.filters.count, [&](std::int64_t task, int worker) {
    const std::int64_t f = task % plan.filters.count, band = task / plan.filters.count % plan.rows.count;
    const std::int64_t image = task / plan.filters.count / plan.rows.count;
    const std::int64_t first_row = plan.rows.begin(band), rows = plan.rows.length(band);
    const std::int64_t first = first_row * across, count = rows * across;
    const std::int64_t first_filter = plan.filters.begin(f), filters = plan.filters.length(f);
    MatrixView<const T> columns = some_rows(image_matrix(X, image, P, s.channels), first, count);
    if (!product) {
      T* const col = plan.columns.column(worker);
      unfold(s, X.column(image), 0, s.channels, first_row, rows, col);
      columns = {col, count, s.terms(), count, X.device};
    }
    const MatrixView<T> out =
        some_rows(image_matrix(Y, image, P, s.filters).columns(first_filter, filters), first, count);
    gemm<T>(this_thread(), Transpose::no, Transpose::no, T(1), columns, W.columns(first_filter, filters), T(0), out);
    for (std::int64_t j = 0; j < filters && !b.empty(); ++j) add_constant(b[first_filter + j], count, out.column(j));
  });
}

template <class T>
void convolution_backward(const Context& context, const ConvolutionShape& s, MatrixView<const T> W,
                          MatrixView<const T> X, MatrixView<const T> dY, MatrixView<T> dW, VectorView<T> db, T beta,
                          MatrixView<T> dX, VectorView<std::byte> scratch) {
  Arena arena(scratch);
  const Plan<T> plan(arena, context, s, X.cols, true);
  const SingleThreadedBlas single;  // once for all products
  weight_gradient(context, s, plan, X, dY, dW);
  context.parallel_for(db.size, [&](std::int64_t f, int) {
    double sum = 0;
    for (std::int64_t image = 0; image < dY.cols; ++image)
      sum += sum_of(dY.column(image) + f * s.positions(), s.positions());
    db[f] += static_cast<T>(sum);
  });
  if (!dX.empty()) input_gradient(context, s, plan, W, dY, beta, dX);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                  \
  template std::int64_t convolution_scratch<T>(const Context&, const ConvolutionShape&, std::int64_t, bool);       \
  template void convolution_forward<T>(const Context&, const ConvolutionShape&, MatrixView<const T>,               \
                                       VectorView<const T>, MatrixView<const T>, MatrixView<T>,                    \
                                       VectorView<std::byte>);                                                     \
  template void convolution_backward<T>(const Context&, const ConvolutionShape&, MatrixView<const T>,              \
                                        MatrixView<const T>, MatrixView<const T>, MatrixView<T>, VectorView<T>, T, \
                                        MatrixView<T>, VectorView<std::byte>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
