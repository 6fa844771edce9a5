// The tiled product's parts at sizes that a reader can follow, and every CUDA operation of the library whole: both in
// every order and with both poisons on the host executor, once on a GPU (built by nvcc). Values are small integers, so
// that sums are exact and compared for equality.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/common/tile_product.cuh>
#include <shrinkwarp/kernels/compaction/compaction.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/kernels/prox/prox.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

using cuda::Contiguous;
using cuda::ProductTile;

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

class OnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() > 0) return;
    if (std::getenv("SHRINKWARP_REQUIRE_GPU") != nullptr) FAIL() << cuda_unavailable_reason();
    GTEST_SKIP() << cuda_unavailable_reason();
  }
};
class TileProduct : public OnDevice {};
class EveryOperation : public OnDevice {};

/// -8 to 8, different from place to place.
template <class T>
std::vector<T> integers(std::int64_t count, unsigned seed) {
  std::vector<T> values(static_cast<std::size_t>(count));
  std::uint32_t state = 977u + 7919u * seed;
  for (T& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<T>(static_cast<int>((state >> 16) % 17u) - 8);
  }
  return values;
}

/// A matrix of integers whose padding is NaN, on the host and on the device.
template <class T>
struct Matrix {
  std::int64_t rows, cols, ld;
  std::vector<T> values;
  Tensor<T> memory;

  Matrix(const Context& context, std::int64_t rows_, std::int64_t cols_, std::int64_t ld_, unsigned seed)
      : rows(rows_), cols(cols_), ld(ld_), values(integers<T>(ld_ * cols_, seed)), memory(context, ld_ * cols_) {
    for (std::int64_t j = 0; j < cols; ++j) {
      for (std::int64_t i = rows; i < ld; ++i) at(i, j) = std::numeric_limits<T>::quiet_NaN();
    }
    upload(context);
  }
  T& at(std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * ld)]; }
  void upload(const Context& context) {
    copy(context, VectorView<const T>{values.data(), ld * cols, {}}, memory.vector());
    context.synchronize();
  }
  MatrixView<T> view() const { return {memory.data(), rows, cols, ld, memory.vector().device}; }
};

template <class T>
std::vector<T> host(const Context& context, const Tensor<T>& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.size()));
  copy(context, tensor.vector(), VectorView<T>{values.data(), tensor.size(), {}});
  context.synchronize();
  return values;
}

// ---- operands, by name for the kernel ----

/// Plain: B as it lies in memory.
template <class Tile, int kBytes>
struct Plain {
  using T = typename Tile::Element;
  using Source = T;
  using Operand = cuda::DepthOperand<Tile, Tile::kCols, kBytes>;
  static constexpr int kRaw = 4;
  static __device__ Operand make(const T* data, std::int64_t ld, const T*, std::int64_t, int extent, const T*, T*) {
    return {data, ld, extent};
  }
  static double formed(double current, double, double) { return current; }
};

/// B from float.
template <class Tile>
struct Widened {
  using T = typename Tile::Element;
  using Source = float;
  using Operand = cuda::WidenedOperand<Tile, Tile::kCols, float>;
  static constexpr int kRaw = Operand::kRaw;
  static __device__ Operand make(const float* data, std::int64_t ld, const float*, std::int64_t, int extent, const T*,
                                 float* raw) {
    return {data, ld, extent, raw};
  }
  static double formed(double current, double, double) { return current; }
};

/// B extrapolated.
template <class Tile, int kBytes>
struct Extrapolated {
  using T = typename Tile::Element;
  using Source = T;
  using Operand = cuda::ExtrapolatedOperand<Tile, kBytes>;
  static constexpr int kRaw = Operand::kRaw;
  static __device__ Operand make(const T* data, std::int64_t ld, const T* before, std::int64_t before_ld, int extent,
                                 const T* betas, T* raw) {
    return {data, ld, before, before_ld, extent, betas, raw};
  }
  static double formed(double current, double before, double beta) {
    return beta == 0 ? current : current + beta * (current - before);
  }
};

/// C[row, col] = sum over k in [begin, end), and spot[col] = how often the column was handed out.
template <class Tile, int kBytesA, class Form, class T = typename Tile::Element, class Source = typename Form::Source>
__global__ void __launch_bounds__(Tile::kThreads)
    product_kernel(MatrixView<const T> A, MatrixView<const Source> B, MatrixView<const Source> before, const T* beta,
                   std::int64_t begin, std::int64_t end, MatrixView<T> C) {
  SHRINKWARP_SHARED_ARRAY(T, shared, Tile::kShared);
  SHRINKWARP_SHARED_ARRAY(Source, raw, Form::kRaw);
  SHRINKWARP_SHARED_ARRAY(T, betas, Tile::kCols);
  const cuda::TileSpot<Tile> spot(C.rows, C.cols);
  for (int col = static_cast<int>(threadIdx.x); col < Tile::kCols; col += Tile::kThreads)
    betas[col] = col < spot.cols ? beta[spot.col0 + col] : T(0);
  __syncthreads();
  auto b = Form::make(B.data + spot.col0 * B.ld, B.ld, before.data + spot.col0 * before.ld, before.ld, spot.cols, betas,
                      raw);
  T acc[Tile::kThreadRows][Tile::kThreadCols];
  if constexpr (Tile::kOrderA == Contiguous::rows) {
    cuda::RowsOperand<Tile, kBytesA> a(A.data + spot.row0, A.ld, cuda::clip(A.rows - spot.row0, Tile::kRows));
    cuda::tile_product<Tile>(shared, a, b, begin, end, acc);
    cuda::for_each_column<Tile>(shared, acc, [&](int c, const T* sums) {
      if (c >= spot.cols) return;
      for (int r = static_cast<int>(threadIdx.x % 32); r < spot.rows; r += 32)
        C.data[spot.row0 + r + (spot.col0 + c) * C.ld] = sums[r];
    });
  } else {
    cuda::DepthOperand<Tile, Tile::kRows, kBytesA> a(A.data + spot.row0 * A.ld, A.ld, spot.rows);
    cuda::tile_product<Tile>(shared, a, b, begin, end, acc);
    const cuda::ThreadPlace<Tile> place;
    for (int i = 0; i < Tile::kThreadRows; ++i)
      for (int j = 0; j < Tile::kThreadCols; ++j)
        if (place.row(i) < spot.rows && place.col(j) < spot.cols)
          C.data[spot.row0 + place.row(i) + (spot.col0 + place.col(j)) * C.ld] = acc[i][j];
  }
}

/// All raggednesses of a tile: M and N around its size, K around a step, sums that start and end inside.
template <class Tile, int kBytesA, class Form>
void check_product(std::int64_t lead) {
  using T = typename Tile::Element;
  using Source = typename Form::Source;
  const Context context = Context::cuda();
  struct Sizes {
    std::int64_t M, N, K, begin, end;
  };
  constexpr std::int64_t R = Tile::kRows, C = Tile::kCols, D = Tile::kDepth;
  for (const Sizes& s :
       {Sizes{R, C, D, 0, D}, Sizes{R, C, 4 * D, 0, 4 * D}, Sizes{R + 1, C + 1, 3 * D + 1, 0, 3 * D + 1},
        Sizes{1, 1, 1, 0, 1}, Sizes{2 * R - 1, 2 * C - 1, 3 * D - 1, D, 3 * D - 1},
        Sizes{R - 1, C - 1, 5 * D, 2 * D, 4 * D + D / 2}, Sizes{3, 2, D, D, D}}) {
    SCOPED_TRACE(::testing::Message() << s.M << " x " << s.N << " x " << s.K << ", [" << s.begin << ", " << s.end
                                      << ")");
    // A's rows are padded with zeros to whole pieces, as packed operands are.
    const bool by_rows = Tile::kOrderA == Contiguous::rows;
    const auto up = [](std::int64_t size, std::int64_t to) { return (size + to - 1) / to * to; };
    const std::int64_t piece = kBytesA / static_cast<int>(sizeof(T));
    const std::int64_t A_rows = by_rows ? up(s.M, piece) : s.K;
    Matrix<T> A(context, A_rows, by_rows ? s.K : s.M, up(A_rows + lead, piece), 1);
    Matrix<Source> B(context, s.K, s.N, up(s.K + lead, 4), 2), before(context, s.K, s.N, up(s.K + lead, 4) + 4, 3);
    std::vector<T> betas(static_cast<std::size_t>(s.N));
    for (std::int64_t b = 0; b < s.N; ++b) {
      betas[static_cast<std::size_t>(b)] = static_cast<T>(b % 3);
      for (std::int64_t k = 0; k < s.K; ++k)
        if (b % 3 == 0) before.at(k, b) = std::numeric_limits<Source>::quiet_NaN();  // beta 0: not to be looked at
    }
    before.upload(context);
    const Tensor<T> beta(context, s.N);
    copy(context, VectorView<const T>{betas.data(), s.N, {}}, beta.vector());
    std::vector<T> wanted(static_cast<std::size_t>(s.M * s.N));
    for (std::int64_t j = 0; j < s.N; ++j) {
      for (std::int64_t i = 0; i < s.M; ++i) {
        double sum = 0;
        for (std::int64_t k = s.begin; k < s.end; ++k)
          sum += static_cast<double>(by_rows ? A.at(i, k) : A.at(k, i)) *
                 Form::formed(B.at(k, j), before.at(k, j), betas[static_cast<std::size_t>(j)]);
        wanted[static_cast<std::size_t>(i + j * s.M)] = static_cast<T>(sum);
      }
    }
    const Tensor<T> result(context, s.M, s.N);
    launch(product_kernel<Tile, kBytesA, Form>, dim3(cuda::tile_grid<Tile>(s.M, s.N, "check_product")),
           dim3(Tile::kThreads), 0, context.stream(), A.view(), B.view(), before.view(), beta.data(), s.begin, s.end,
           result.matrix());
    ASSERT_EQ(host(context, result), wanted);
  }
}

using SmallFloat = ProductTile<float, 16, 8, 4, 4, 1>;
using WideFloat = ProductTile<float, 32, 32, 8, 4, 2>;
using SmallDouble = ProductTile<double, 16, 16, 8, 2, 4>;
using DepthDouble = ProductTile<double, 16, 8, 4, 2, 2, 3, Contiguous::depth>;
using DepthFloat = ProductTile<float, 8, 16, 32, 1, 2, 3, Contiguous::depth>;

TEST_F(TileProduct, MultipliesWhatLiesInMemory) {
  in_all_orders([] {
    check_product<SmallFloat, 16, Plain<SmallFloat, 16>>(0);
    check_product<SmallFloat, 4, Plain<SmallFloat, 4>>(3);
    check_product<WideFloat, 16, Plain<WideFloat, 8>>(2);
    check_product<SmallDouble, 16, Plain<SmallDouble, 16>>(4);
    check_product<SmallDouble, 8, Plain<SmallDouble, 8>>(1);
  });
}

TEST_F(TileProduct, MultipliesAAlongItsDepth) {
  in_all_orders([] {
    check_product<DepthDouble, 8, Plain<DepthDouble, 8>>(1);
    check_product<DepthDouble, 16, Plain<DepthDouble, 16>>(0);
    check_product<DepthFloat, 4, Plain<DepthFloat, 8>>(0);
    check_product<DepthFloat, 16, Plain<DepthFloat, 4>>(5);
  });
}

TEST_F(TileProduct, WidensFloats) {
  in_all_orders([] { check_product<SmallDouble, 8, Widened<SmallDouble>>(1); });
}

TEST_F(TileProduct, Extrapolates) {
  in_all_orders([] {
    check_product<SmallFloat, 16, Extrapolated<SmallFloat, 4>>(3);
    check_product<WideFloat, 16, Extrapolated<WideFloat, 8>>(2);
    check_product<WideFloat, 16, Extrapolated<WideFloat, 16>>(0);
    check_product<SmallDouble, 16, Extrapolated<SmallDouble, 8>>(0);
  });
}

// ---- every operation ----

/// A batch that takes every kernel through full and ragged tiles, and what an iteration and a certificate make of it.
template <class T>
class Batch {
 public:
#ifdef __SANITIZE_THREAD__  // which makes kernels a hundred times slower
  static constexpr std::int64_t n = 9, m = 130, N = 67;
#else
  static constexpr std::int64_t n = 35, m = 530, N = 131;
#endif

  explicit Batch(const Context& context)
      : context_(context),
        D_(context, n, m, n + 1, 1),
        exact_(context, n, m, n, 2),
        X_(context, n, N, n + 3, 3),
        exact_X_(context, n, N, n, 4),
        current_(context, m, N, m, 5),
        previous_(context, m, N, m + 2, 6),
        anchor_(context, m, N, m + 6, 7),
        dictionary_(context, D_.view()),
        certificate_(context, exact_.view()),
        R_(Tensor<T>::zeros(context, n, N)),
        residual_(Tensor<double>::zeros(context, n, N)),
        restart_(Tensor<T>::zeros(context, step_tiles(context, m), N)),
        support_(Tensor<std::int32_t>::zeros(context, step_tiles(context, m), N)),
        t_(Tensor<double>::zeros(context, N)),
        beta_(Tensor<T>::zeros(context, N)),
        lambda_(Tensor<T>::zeros(context, N)),
        gap_lambda_(Tensor<double>::zeros(context, N)),
        flags_(Tensor<std::uint8_t>::zeros(context, N)),
        nonzeros_(Tensor<std::int32_t>::zeros(context, N)),
        correlation_(Tensor<double>::zeros(context, N)),
        primal_(Tensor<double>::zeros(context, N)),
        gap_(Tensor<double>::zeros(context, N)),
        selected_(Tensor<std::int32_t>::zeros(context, N)),
        count_(Tensor<std::int64_t>::zeros(context, 1)),
        offsets_(Tensor<std::int64_t>::zeros(context, N + 1)),
        indices_(Tensor<std::int32_t>::zeros(context, m * N)),
        values_(Tensor<double>::zeros(context, m * N)),
        scratch_(context, residual_scratch(context, dictionary_.rows(), dictionary_.cols(), N)),
        certificate_scratch_(context, correlation_scratch(context, m, N)),
        compaction_scratch_(context, compaction_scratch(context, N)) {
    for (std::int64_t b = 0; b < N; ++b) {
      set(t_, b, 1.0 + static_cast<double>(b % 4));
      set(beta_, b, static_cast<T>(0.25 * static_cast<double>(b % 3)));
      set(lambda_, b, static_cast<T>(100 * (b % 7)));
      set(gap_lambda_, b, static_cast<double>(b % 7 + 1));
      set(flags_, b, static_cast<std::uint8_t>(b % 5 != 2));
    }
    identity_ = Tensor<std::int32_t>(context, N);
    for (std::int64_t b = 0; b < N; ++b) set(identity_, b, static_cast<std::int32_t>(N - 1 - b));
    context_.synchronize();
  }

  /// Queues one of everything.
  void run() {
    const StepPartials<T> partials{restart_.matrix(), support_.matrix()};
    const StepPartials<const T> read{restart_.matrix(), support_.matrix()};
    extrapolated_residual(context_, dictionary_, current_.view(), previous_.view(), beta_.vector(), X_.view(),
                          R_.matrix(), scratch_.vector());
    gradient_step(context_, dictionary_, R_.matrix(), anchor_.view(), current_.view(), previous_.view(), beta_.vector(),
                  static_cast<T>(1.0 / 4096), lambda_.vector(), flags_.vector(), partials);
    update_momentum(context_, Momentum::fista_restart, read, t_.vector(), beta_.vector(), nonzeros_.vector());
    refresh_anchor(context_, anchor_.view(), current_.view(), previous_.view());
    code_residual<T>(context_, certificate_, anchor_.view(), exact_X_.view(), residual_.matrix(), R_.matrix());
    correlation_max(context_, certificate_, residual_.matrix(), correlation_.vector(), certificate_scratch_.vector());
    dual_gap<T>(context_, exact_X_.view(), residual_.matrix(), correlation_.vector(), anchor_.view(), 1.0,
                gap_lambda_.vector(), primal_.vector(), gap_.vector());
    prox_step<T>(context_, previous_.view(), static_cast<T>(0.5), lambda_.vector(), flags_.vector(), anchor_.view());
    soft_threshold_columns<T>(context_, previous_.view(), beta_.vector(), current_.view());
    move_columns(context_, current_.view(), identity_.vector().slice(0, N / 2),
                 identity_.vector().slice(N / 2 + 1, N / 2));
    select_columns(context_, flags_.vector(), selected_.vector(), count_.vector(), compaction_scratch_.vector());
    sparse_offsets<T>(context_, current_.view(), identity_.vector(), offsets_.vector(), compaction_scratch_.vector());
    sparse_fill<T>(context_, current_.view(), identity_.vector(), offsets_.vector(), indices_.vector(),
                   values_.vector());
  }

  /// The bits of all that was written.
  std::vector<unsigned char> bits() const {
    std::vector<unsigned char> all;
    const auto add = [&](const auto& tensor) {
      const auto values = host(context_, tensor);
      const auto* first = reinterpret_cast<const unsigned char*>(values.data());
      all.insert(all.end(), first, first + tensor.bytes());
    };
    add(current_.memory), add(previous_.memory), add(anchor_.memory), add(R_), add(residual_), add(restart_);
    add(support_), add(t_), add(beta_), add(nonzeros_), add(correlation_), add(primal_), add(gap_), add(selected_);
    add(count_), add(offsets_), add(indices_), add(values_);
    return all;
  }

 private:
  template <class U>
  void set(const Tensor<U>& tensor, std::int64_t i, U value) {
    copy(context_, VectorView<const U>{&value, 1, {}}, tensor.vector().slice(i, 1));
    context_.synchronize();
  }

  const Context& context_;
  Matrix<T> D_;
  Matrix<double> exact_;
  Matrix<T> X_;
  Matrix<double> exact_X_;
  Matrix<T> current_, previous_, anchor_;
  StepDictionary<T> dictionary_;
  CertificateDictionary certificate_;
  Tensor<T> R_;
  Tensor<double> residual_;
  Tensor<T> restart_;
  Tensor<std::int32_t> support_;
  Tensor<double> t_;
  Tensor<T> beta_, lambda_;
  Tensor<double> gap_lambda_;
  Tensor<std::uint8_t> flags_;
  Tensor<std::int32_t> nonzeros_;
  Tensor<double> correlation_, primal_, gap_;
  Tensor<std::int32_t> selected_;
  Tensor<std::int64_t> count_, offsets_;
  Tensor<std::int32_t> indices_;
  Tensor<double> values_;
  Tensor<T> scratch_;
  Tensor<double> certificate_scratch_;
  Tensor<std::uint8_t> compaction_scratch_;
  Tensor<std::int32_t> identity_;
};

template <class T>
void check_orders() {
  std::vector<unsigned char> first;
  in_all_orders([&] {
    const Context context = Context::cuda();
    Batch<T> batch(context);
    batch.run();
    const std::vector<unsigned char> bits = batch.bits();
    if (first.empty()) first = bits;
    ASSERT_EQ(bits.size(), first.size());
    ASSERT_EQ(std::memcmp(bits.data(), first.data(), bits.size()), 0);
  });
}

TEST_F(EveryOperation, GivesTheSameBitsInAnyOrderInFloat) {
  check_orders<float>();
}
TEST_F(EveryOperation, GivesTheSameBitsInAnyOrderInDouble) {
  check_orders<double>();
}

}  // namespace
}  // namespace shrinkwarp
