#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/queued.hpp"

extern "C" {
void openblas_set_num_threads(int threads);
int openblas_get_num_threads(void);
}

namespace shrinkwarp {
namespace {

class Gemm : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Gemm);
class GemmOnCuda : public testing::OnContext {};  // the CPU computes fp32 in every mode
SHRINKWARP_ON_CUDA(GemmOnCuda);

template <class T>
std::vector<T> random_values(std::int64_t count, std::uint64_t stream) {
  std::vector<T> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 7, stream, 0, VectorView<T>{values.data(), count, {}});
  return values;
}

/// @param extra  by how much products may be off besides the additions, as a share of the sum of their magnitudes
/// @return how many elements are within
template <class T>
int elements_within(const Context& context, std::int64_t M, std::int64_t N, std::int64_t K, Transpose op_a,
                    Transpose op_b, T alpha, T beta, MathMode mode, double extra) {
  int within = 0;
  const std::int64_t a_rows = op_a == Transpose::no ? M : K;
  const std::int64_t b_rows = op_b == Transpose::no ? K : N;
  const std::int64_t lda = a_rows + 3, ldb = b_rows + 1, ldc = M + 2;
  const std::int64_t a_cols = op_a == Transpose::no ? K : M, b_cols = op_b == Transpose::no ? N : K;
  const auto a = random_values<T>(lda * a_cols, 1), b = random_values<T>(ldb * b_cols, 2);
  auto c = random_values<T>(ldc * N, 3);
  if (beta == T(0)) c.assign(c.size(), std::numeric_limits<T>::quiet_NaN());  // not read when beta is 0
  const Tensor<T> A = testing::to_device(context, a, lda, a_cols);
  const Tensor<T> B = testing::to_device(context, b, ldb, b_cols);
  const Tensor<T> C = testing::to_device(context, c, ldc, N);
  const Device device = context.device();
  const MatrixView<const T> left{A.data(), a_rows, a_cols, lda, device}, right{B.data(), b_rows, b_cols, ldb, device};
  const Tensor<T> scratch(context, gemm_scratch<T>(context, left, right, mode));
  gemm(context, op_a, op_b, alpha, left, right, beta, MatrixView<T>{C.data(), M, N, ldc, device}, mode,
       scratch.vector());
  const auto found = testing::to_host(context, C);
  for (std::int64_t j = 0; j < N; ++j) {
    for (std::int64_t i = 0; i < ldc; ++i) {
      const auto at = static_cast<std::size_t>(i + j * ldc);
      if (i >= M) {  // padding keeps its bits
        if (!std::isnan(c[at])) {
          EXPECT_EQ(found[at], c[at]);
        }
        continue;
      }
      double sum = 0, magnitude = 0;
      for (std::int64_t k = 0; k < K; ++k) {
        const double x = a[static_cast<std::size_t>(op_a == Transpose::no ? i + k * lda : k + i * lda)];
        const double y = b[static_cast<std::size_t>(op_b == Transpose::no ? k + j * ldb : j + k * ldb)];
        sum += x * y;
        magnitude += std::fabs(x * y);
      }
      const double start = beta == T(0) ? 0 : static_cast<double>(beta) * static_cast<double>(c[at]);
      const double wanted = static_cast<double>(alpha) * sum + start;
      // Three products round C three times.
      const double additions = static_cast<double>(mode == MathMode::split_tf32 ? 3 * K + 8 : K + 2);
      const double bound =
          std::numeric_limits<T>::epsilon() *
              (additions * std::fabs(static_cast<double>(alpha)) * magnitude +
               (mode == MathMode::split_tf32 ? 6 : 2) * std::fabs(start) + std::numeric_limits<T>::min()) +
          extra * std::fabs(static_cast<double>(alpha)) * magnitude;
      within += std::fabs(found[at] - wanted) <= bound;
    }
  }
  return within;
}

template <class T>
void check_against_loops(const Context& context, std::int64_t M, std::int64_t N, std::int64_t K, Transpose op_a,
                         Transpose op_b, T alpha, T beta, MathMode mode = MathMode::fp32, double extra = 0) {
  EXPECT_EQ(elements_within(context, M, N, K, op_a, op_b, alpha, beta, mode, extra), M * N)
      << M << " x " << N << " x " << K;
}

TEST_P(Gemm, AgreesWithLoops) {
  const Context& context = this->context();
  for (const Transpose op_a : {Transpose::no, Transpose::yes}) {
    for (const Transpose op_b : {Transpose::no, Transpose::yes}) {
      check_against_loops<float>(context, 43, 17, 29, op_a, op_b, 1.5f, 0.0f);
      check_against_loops<double>(context, 43, 17, 29, op_a, op_b, -0.5, 2.0);
      check_against_loops<float>(context, 1, 1, 1, op_a, op_b, 1.0f, 1.0f);
      check_against_loops<double>(context, 5, 3, 97, op_a, op_b, 1.0, 0.0);
    }
  }
}

TEST_P(Gemm, ModesKeepTheirBounds) {
  const Context& context = this->context();
  const double tf32 = context.is_cuda() ? 0x1p-10 * (1 + 0x1p-12) : 0;
  const double split = context.is_cuda() ? 0x1p-21 * (1 + 0x1p-10) : 0;
  for (const Transpose op_a : {Transpose::no, Transpose::yes}) {
    for (const Transpose op_b : {Transpose::no, Transpose::yes}) {
      check_against_loops<float>(context, 43, 17, 29, op_a, op_b, 1.5f, 0.0f, MathMode::tf32, tf32);
      check_against_loops<float>(context, 43, 17, 29, op_a, op_b, 1.5f, 0.0f, MathMode::split_tf32, split);
      check_against_loops<float>(context, 31, 5, 2, op_a, op_b, -0.5f, 2.0f, MathMode::split_tf32, split);
      check_against_loops<float>(context, 1, 1, 1, op_a, op_b, 1.0f, 1.0f, MathMode::split_tf32, split);
      check_against_loops<double>(context, 9, 8, 7, op_a, op_b, 1.0, 0.5, MathMode::split_tf32, 0);
    }
  }
}

// Plain tf32 misses the bound of split_tf32, so the test above can tell the two apart.
TEST_P(GemmOnCuda, Tf32IsNoSubstituteForItsSplit) {
  const int within = elements_within<float>(context(), 128, 128, 5, Transpose::no, Transpose::no, 1.0f, 0.0f,
                                            MathMode::tf32, 0x1p-21 * (1 + 0x1p-10) + 13 * 0x1p-23);
  EXPECT_LT(within, 128 * 128 / 2);
}

TEST_P(Gemm, SplitNeedsItsScratch) {
  const Context& context = this->context();
  const Tensor<float> A = Tensor<float>::zeros(context, 4, 3), B = Tensor<float>::zeros(context, 3, 5),
                      C(context, 4, 5);
  EXPECT_EQ(gemm_scratch<float>(context, A.matrix(), B.matrix(), MathMode::tf32), 0);
  EXPECT_EQ(gemm_scratch<double>(context, {nullptr, 4, 3, 4, {}}, {nullptr, 3, 5, 3, {}}, MathMode::split_tf32), 0);
  EXPECT_EQ(gemm_scratch<float>(context, A.matrix(), B.matrix(), MathMode::split_tf32),
            context.is_cuda() ? 2 * (12 + 15) : 0);
  if (!context.is_cuda()) return;
  const Tensor<float> scratch(context, 53);
  EXPECT_THROW(gemm(context, Transpose::no, Transpose::no, 1.0f, A.matrix(), B.matrix(), 0.0f, C.matrix(),
                    MathMode::split_tf32, scratch.vector()),
               ShapeError);
}

/// Products against loops, with strides of 0, padding between the operands and, where `beneath`, C as rows of one matrix.
template <class T>
void check_batch(const Context& context, Transpose op_a, Transpose op_b, T alpha, T beta, bool same_a, bool beneath) {
  constexpr std::int64_t M = 7, N = 5, K = 11, count = 4;
  const std::int64_t a_rows = op_a == Transpose::no ? M : K, a_cols = M + K - a_rows;
  const std::int64_t b_rows = op_b == Transpose::no ? K : N, b_cols = K + N - b_rows;
  const std::int64_t lda = a_rows + 2, ldb = b_rows + 1, ldc = beneath ? count * (M + 1) : M + 3;
  const std::int64_t stride_a = same_a ? 0 : lda * a_cols + 5, stride_b = same_a ? ldb * b_cols : 0;
  const std::int64_t stride_c = beneath ? M + 1 : ldc * N + 2;
  const auto a = random_values<T>(lda * a_cols + (count - 1) * stride_a, 1);
  const auto b = random_values<T>(ldb * b_cols + (count - 1) * stride_b, 2);
  const auto c = random_values<T>(ldc * N + (count - 1) * stride_c, 3);
  const auto A = testing::to_device(context, a, static_cast<std::int64_t>(a.size()));
  const auto B = testing::to_device(context, b, static_cast<std::int64_t>(b.size()));
  const auto C = testing::to_device(context, c, static_cast<std::int64_t>(c.size()));
  const Device device = context.device();
  gemm_strided_batched(context, op_a, op_b, alpha, MatrixView<const T>{A.data(), a_rows, a_cols, lda, device}, stride_a,
                       MatrixView<const T>{B.data(), b_rows, b_cols, ldb, device}, stride_b, beta,
                       MatrixView<T>{C.data(), M, N, ldc, device}, stride_c, count);
  auto found = testing::to_host(context, C);
  for (std::int64_t p = 0; p < count; ++p) {
    for (std::int64_t j = 0; j < N; ++j) {
      for (std::int64_t i = 0; i < M; ++i) {
        double sum = 0, magnitude = 0;
        for (std::int64_t k = 0; k < K; ++k) {
          const double x =
              a[static_cast<std::size_t>(p * stride_a + (op_a == Transpose::no ? i + k * lda : k + i * lda))];
          const double y =
              b[static_cast<std::size_t>(p * stride_b + (op_b == Transpose::no ? k + j * ldb : j + k * ldb))];
          sum += x * y;
          magnitude += std::fabs(x * y);
        }
        const auto at = static_cast<std::size_t>(p * stride_c + i + j * ldc);
        const double start = static_cast<double>(beta) * static_cast<double>(c[at]);
        EXPECT_NEAR(found[at], static_cast<double>(alpha) * sum + start,
                    std::numeric_limits<T>::epsilon() *
                        ((K + 2) * std::fabs(static_cast<double>(alpha)) * magnitude + 2 * std::fabs(start)));
        found[at] = c[at];
      }
    }
  }
  EXPECT_EQ(found, c) << "written outside of C";
}

TEST_P(Gemm, BatchesAgreeWithLoops) {
  for (const Transpose op_a : {Transpose::no, Transpose::yes}) {
    for (const Transpose op_b : {Transpose::no, Transpose::yes}) {
      check_batch<float>(context(), op_a, op_b, 1.5f, 0.0f, true, false);
      check_batch<double>(context(), op_a, op_b, -0.5, 2.0, false, true);
    }
  }
}

TEST_P(Gemm, BatchesRefuseWhatDoesNotFit) {
  const Context& context = this->context();
  const Tensor<float> A = Tensor<float>::zeros(context, 4, 8), C = Tensor<float>::zeros(context, 4, 8);
  const auto call = [&](std::int64_t stride_a, std::int64_t stride_c, std::int64_t count, std::int64_t inner = 4) {
    gemm_strided_batched(context, Transpose::no, Transpose::no, 1.0f, A.matrix().columns(0, 4), stride_a,
                         MatrixView<const float>{A.data(), inner, 4, inner, context.device()}, 0, 0.0f,
                         C.matrix().columns(0, 4), stride_c, count);
  };
  call(16, 16, 2);
  call(16, 0, 1);
  call(0, 0, 0);
  EXPECT_THROW(call(-1, 16, 2), ValueError);
  EXPECT_THROW(call(16, 16, -1), ValueError);
  EXPECT_THROW(call(16, 15, 2), ShapeError);
  EXPECT_THROW(call(16, 4, 2), ShapeError);
  EXPECT_THROW(call(16, 16, 2, 3), ShapeError);
}

TEST_P(Gemm, TakesEmptyBatches) {
  const Context& context = this->context();
  const Tensor<float> A = testing::to_device(context, std::vector<float>(6, 1.0f), 2, 3);
  const Device device = context.device();
  gemm(context, Transpose::no, Transpose::no, 1.0f, A.matrix(), MatrixView<const float>{nullptr, 3, 0, 3, device}, 0.0f,
       MatrixView<float>{nullptr, 2, 0, 2, device});
}

TEST_P(Gemm, RefusesWhatDoesNotFit) {
  const Context& context = this->context();
  const Tensor<float> A(context, 2, 3), B(context, 4, 5), C(context, 2, 5);
  EXPECT_THROW(gemm(context, Transpose::no, Transpose::no, 1.0f, A.matrix(), B.matrix(), 0.0f, C.matrix()), ShapeError);
  const Tensor<float> good(context, 3, 5);
  MatrixView<float> elsewhere = C.matrix();
  elsewhere.device = {DeviceType::cuda, 42};
  EXPECT_THROW(gemm(context, Transpose::no, Transpose::no, 1.0f, A.matrix(), good.matrix(), 0.0f, elsewhere),
               DeviceError);
  MatrixView<float> narrow = C.matrix();
  narrow.ld = 1;
  EXPECT_THROW(gemm(context, Transpose::no, Transpose::no, 1.0f, A.matrix(), good.matrix(), 0.0f, narrow), ShapeError);
}

TEST(CpuBlas, ThreadCountIsLeftAsFound) {
  const int before = openblas_get_num_threads();
  openblas_set_num_threads(2);
  const int set = openblas_get_num_threads();  // a machine with one processor grants one
  const Context context = Context::cpu(3);
  const Tensor<double> A = Tensor<double>::zeros(context, 64, 64), C(context, 64, 64);
  gemm(context, Transpose::no, Transpose::no, 1.0, A.matrix(), A.matrix(), 0.0, C.matrix());
  EXPECT_EQ(openblas_get_num_threads(), set);
  openblas_set_num_threads(before);
}

struct QueuedProducts {
  const Context& context;
  Tensor<float> A, B, C, scratch;
  Tensor<double> E, F;

  explicit QueuedProducts(const Context& c)
      : context(c),
        A(testing::numbers<float>(c, 33, 17, 1)),
        B(testing::numbers<float>(c, 17, 9, 2)),
        C(testing::numbers<float>(c, 33, 9, 3)),
        scratch(c, gemm_scratch<float>(c, A.matrix(), B.matrix(), MathMode::split_tf32)),
        E(testing::numbers<double>(c, 21, 21, 4)),
        F(testing::numbers<double>(c, 21, 21, 5)) {
    const Tensor<float> C0 = Tensor<float>::zeros(c, 33, 9);  // the first calls, which may allocate
    const Tensor<double> F0 = Tensor<double>::zeros(c, 21, 21);
    gemm(context, Transpose::no, Transpose::no, 0.5f, A.matrix(), B.matrix(), 0.5f, C0.matrix());
    gemm(context, Transpose::no, Transpose::no, 0.5f, A.matrix(), B.matrix(), 0.5f, C0.matrix(), MathMode::split_tf32,
         scratch.vector());
    gemm(context, Transpose::yes, Transpose::no, 0.25, E.matrix(), E.matrix(), 0.5, F0.matrix());
    batch(F0);
    context.synchronize();
  }
  void batch(const Tensor<double>& target) {  // three products of 7 columns each
    gemm_strided_batched(context, Transpose::yes, Transpose::no, 0.25, E.matrix(), 0, E.matrix().columns(0, 7), 147,
                         0.5, target.matrix().columns(0, 7), 147, 3);
  }
  void queue() {
    gemm(context, Transpose::no, Transpose::no, 0.5f, A.matrix(), B.matrix(), 0.5f, C.matrix());
    gemm(context, Transpose::no, Transpose::no, 0.5f, A.matrix(), B.matrix(), 0.5f, C.matrix(), MathMode::split_tf32,
         scratch.vector());
    gemm(context, Transpose::yes, Transpose::no, 0.25, E.matrix(), E.matrix(), 0.5, F.matrix());
    batch(F);
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, C, F); }
};

TEST_P(GemmOnCuda, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedProducts>();
}

}  // namespace
}  // namespace shrinkwarp
