// Arrays borrowed and lent by DLPack. Lenders are written out here, field by field as the specification has them.
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/dlpack.hpp>
#include <shrinkwarp/runtime/dlpack_abi.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp {
namespace {

constexpr DLDataType kFloat32{kDLFloat, 32, 1};
constexpr DLDataType kFloat64{kDLFloat, 64, 1};

/// Another library's array, of any shape and type over 64 floats 0, 1, 2 ...; counts how often it was given back.
struct Lender {
  std::vector<float> values = std::vector<float>(64);
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // empty for null
  DLManagedTensor unversioned{};
  DLManagedTensorVersioned versioned{};
  int given_back = 0;

  Lender(std::vector<std::int64_t> shape_, std::vector<std::int64_t> strides_, DLDataType type = kFloat32)
      : shape(std::move(shape_)), strides(std::move(strides_)) {
    std::iota(values.begin(), values.end(), 0.0f);
    DLTensor tensor{};
    tensor.data = values.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = static_cast<int>(shape.size());
    tensor.dtype = type;
    tensor.shape = shape.data();
    tensor.strides = strides.empty() ? nullptr : strides.data();
    unversioned.dl_tensor = tensor;
    unversioned.manager_ctx = this;
    unversioned.deleter = [](DLManagedTensor* self) { ++static_cast<Lender*>(self->manager_ctx)->given_back; };
    versioned.version = {1, 7};  // a later minor version is no obstacle
    versioned.dl_tensor = tensor;
    versioned.manager_ctx = this;
    versioned.deleter = [](DLManagedTensorVersioned* self) { ++static_cast<Lender*>(self->manager_ctx)->given_back; };
  }
  Lender(const Lender&) = delete;
  Lender& operator=(const Lender&) = delete;

  /// Both kinds of tensor, which must give the same.
  template <class Body>
  void each(Body body) {
    {
      const BorrowedArray array(&unversioned, "X");
      body(array);
    }
    {
      const BorrowedArray array(&versioned, "X");
      body(array);
    }
  }
};

template <class Body>
void expect_error(Body body, const std::vector<std::string>& words) {
  try {
    body();
  } catch (const Error& error) {
    for (const std::string& word : words)
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what() << "\nlacks: " << word;
    return;
  }
  ADD_FAILURE() << "no error, wanted one with " << words.front();
}

TEST(BorrowedArray, RowsInCOrderAreColumns) {
  Lender lender({3, 4}, {4, 1});
  lender.each([&](const BorrowedArray& array) {
    EXPECT_TRUE(array.holds<float>());
    EXPECT_TRUE(array.holds<const float>());
    EXPECT_FALSE(array.holds<double>());
    EXPECT_FALSE(array.holds<std::int32_t>());
    const MatrixView<float> X = array.rows_as_columns<float>();
    EXPECT_EQ(X.data, lender.values.data());
    EXPECT_EQ(X.rows, 4);
    EXPECT_EQ(X.cols, 3);
    EXPECT_EQ(X.ld, 4);
    EXPECT_EQ(X.device, Device{});
    EXPECT_EQ(X(1, 2), 9.0f);  // array[2][1]
  });
}

TEST(BorrowedArray, RowsMayHaveGapsAndBeginLater) {
  Lender lender({3, 4}, {10, 1});
  lender.unversioned.dl_tensor.byte_offset = lender.versioned.dl_tensor.byte_offset = 5 * sizeof(float);
  lender.each([&](const BorrowedArray& array) {
    const MatrixView<const float> X = array.rows_as_columns<const float>();
    EXPECT_EQ(X.ld, 10);
    EXPECT_EQ(X(3, 2), 5.0f + 2 * 10 + 3);
  });
}

TEST(BorrowedArray, NullStridesAreCOrder) {
  Lender lender({3, 4}, {});
  lender.each([](const BorrowedArray& array) { EXPECT_EQ(array.rows_as_columns<float>()(1, 2), 9.0f); });
  Lender vector({5}, {});
  vector.each([](const BorrowedArray& array) { EXPECT_EQ(array.vector<float>()[4], 4.0f); });
  // As a Fortran matrix these are columns of one element, or a single column.
  Lender row({1, 4}, {});
  row.each([](const BorrowedArray& array) { EXPECT_EQ(array.matrix<float>()(0, 3), 3.0f); });
  Lender column({4, 1}, {});
  column.each([](const BorrowedArray& array) { EXPECT_EQ(array.matrix<float>()(3, 0), 3.0f); });
}

TEST(BorrowedArray, AFortranMatrixKeepsItsPlace) {
  Lender lender({3, 4}, {1, 6});
  lender.each([&](const BorrowedArray& array) {
    const MatrixView<const float> D = array.matrix<const float>();
    EXPECT_EQ(D.rows, 3);
    EXPECT_EQ(D.cols, 4);
    EXPECT_EQ(D.ld, 6);
    EXPECT_EQ(D(2, 3), 2.0f + 3 * 6);
  });
}

// NumPy and PyTorch give axes of one element any stride.
TEST(BorrowedArray, StridesOfSingleElementsSayNothing) {
  Lender one_row({1, 4}, {-77, 1});
  one_row.each([](const BorrowedArray& array) {
    const MatrixView<float> X = array.rows_as_columns<float>();
    EXPECT_EQ(X.ld, 4);
    EXPECT_EQ(X(3, 0), 3.0f);
  });
  Lender one_value({4, 1}, {3, 999});
  one_value.each([](const BorrowedArray& array) {
    const MatrixView<float> X = array.rows_as_columns<float>();
    EXPECT_EQ(X.ld, 3);
    EXPECT_EQ(X(0, 2), 6.0f);
  });
  Lender one({1}, {0});
  one.each([](const BorrowedArray& array) { EXPECT_EQ(array.vector<float>()[0], 0.0f); });
}

TEST(BorrowedArray, EmptyArraysNeedNoMemory) {
  const std::vector<std::vector<std::int64_t>> shapes = {{0, 4}, {4, 0}, {0, 0}};
  for (const std::vector<std::int64_t>& shape : shapes) {
    Lender lender(shape, {0, -3});
    lender.unversioned.dl_tensor.data = lender.versioned.dl_tensor.data = nullptr;
    lender.each([&](const BorrowedArray& array) {
      const MatrixView<float> X = array.rows_as_columns<float>();
      EXPECT_EQ(X.rows, shape[1]);
      EXPECT_EQ(X.cols, shape[0]);
      EXPECT_GE(X.ld, X.rows);
      EXPECT_EQ(array.matrix<float>().rows, shape[0]);
    });
  }
  Lender vector({0}, {1});
  vector.unversioned.dl_tensor.data = vector.versioned.dl_tensor.data = nullptr;
  vector.each([](const BorrowedArray& array) { EXPECT_TRUE(array.vector<float>().empty()); });
}

TEST(BorrowedArray, IsGivenBackOnce) {
  Lender lender({3, 4}, {4, 1});
  {
    BorrowedArray first(&lender.versioned);
    BorrowedArray second(std::move(first));
    EXPECT_EQ(second.rows_as_columns<float>().cols, 3);
    EXPECT_THROW(first.rows_as_columns<float>(), ValueError);
    EXPECT_FALSE(first.holds<float>());
    EXPECT_EQ(lender.given_back, 0);
  }
  EXPECT_EQ(lender.given_back, 1);
  { const BorrowedArray array(&lender.unversioned); }
  EXPECT_EQ(lender.given_back, 2);

  lender.versioned.deleter = nullptr;  // legal: there is nothing to give back
  { const BorrowedArray array(&lender.versioned); }
  EXPECT_EQ(lender.given_back, 2);
}

TEST(BorrowedArray, WhatIsRefusedAtOnceWasNotTaken) {
  Lender lender({3, 4}, {4, 1});
  lender.versioned.version = {2, 0};
  expect_error([&] { BorrowedArray(&lender.versioned, "X"); }, {"X: ", "2.0", "wanted version 1"});
  EXPECT_EQ(lender.given_back, 0);
  EXPECT_THROW(BorrowedArray(static_cast<DLManagedTensor*>(nullptr)), ValueError);
  EXPECT_THROW(BorrowedArray(static_cast<DLManagedTensorVersioned*>(nullptr)), ValueError);
}

TEST(BorrowedArray, ReadOnlyArraysGiveConstViews) {
  Lender lender({3, 4}, {4, 1});
  lender.versioned.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  const BorrowedArray array(&lender.versioned, "X");
  EXPECT_EQ(array.rows_as_columns<const float>().cols, 3);
  expect_error([&] { array.rows_as_columns<float>(); }, {"X: ", "read-only", "writable"});
}

TEST(BorrowedArray, ErrorsSayWhatWasFoundAndWanted) {
  Lender matrix({3, 4}, {4, 1});
  matrix.each([](const BorrowedArray& array) {
    expect_error([&] { array.rows_as_columns<double>(); }, {"X: ", "float32", "float64"});
    expect_error([&] { array.rows_as_columns<std::int32_t>(); }, {"float32", "int32"});
    expect_error([&] { array.rows_as_columns<std::uint8_t>(); }, {"float32", "uint8"});
    expect_error([&] { array.vector<float>(); }, {"2 dimensions", "wanted 1"});
    expect_error([&] { array.matrix<float>(); }, {"(4, 1)", "(3, 4)", "Fortran order", "ld >= 3"});
  });
  const auto refused = [](std::vector<std::int64_t> shape, std::vector<std::int64_t> strides, DLDataType type,
                          const std::vector<std::string>& words) {
    Lender lender(std::move(shape), std::move(strides), type);
    lender.each([&](const BorrowedArray& array) { expect_error([&] { array.rows_as_columns<float>(); }, words); });
  };
  refused({3, 4}, {1, 3}, kFloat32, {"(1, 3)", "C order", "ld >= 4"});
  refused({3, 4}, {-4, 1}, kFloat32, {"(-4, 1)"});  // rows in reverse
  refused({3, 4}, {0, 1}, kFloat32, {"(0, 1)"});    // one row three times
  refused({3, 4}, {3, 1}, kFloat32, {"(3, 1)"});    // overlapping rows
  refused({3, 4}, {8, 2}, kFloat32, {"(8, 2)"});
  refused({3, -4}, {4, 1}, kFloat32, {"(3, -4)", "sizes >= 0"});
  refused({2, 3, 4}, {12, 4, 1}, kFloat32, {"3 dimensions", "wanted 2"});
  refused({12}, {1}, kFloat32, {"1 dimensions", "wanted 2"});
  refused({3, 4}, {4, 1}, {kDLFloat, 16, 1}, {"float16", "float32"});
  refused({3, 4}, {4, 1}, {kDLBfloat, 16, 1}, {"bfloat16"});
  refused({3, 4}, {4, 1}, {kDLComplex, 64, 1}, {"complex64"});
  refused({3, 4}, {4, 1}, {kDLFloat, 32, 4}, {"float32 x 4"});
  refused({3, 4}, {4, 1}, {10, 8, 1}, {"type code 10 of bits 8"});

  Lender strided({4}, {2});
  strided.each([](const BorrowedArray& array) {
    expect_error([&] { array.vector<float>(); }, {"stride 2", "wanted 1"});
  });
  Lender askew({3, 4}, {4, 1});
  askew.unversioned.dl_tensor.byte_offset = askew.versioned.dl_tensor.byte_offset = 2;
  askew.each([](const BorrowedArray& array) {
    expect_error([&] { array.rows_as_columns<float>(); }, {"2 bytes past", "wanted aligned"});
  });
  Lender missing({3, 4}, {4, 1});
  missing.unversioned.dl_tensor.data = missing.versioned.dl_tensor.data = nullptr;
  missing.each([](const BorrowedArray& array) {
    expect_error([&] { array.rows_as_columns<float>(); }, {"data is null", "(3, 4)"});
  });
  Lender shapeless({3, 4}, {4, 1});
  shapeless.unversioned.dl_tensor.shape = shapeless.versioned.dl_tensor.shape = nullptr;
  shapeless.each(
      [](const BorrowedArray& array) { expect_error([&] { array.rows_as_columns<float>(); }, {"shape is null"}); });
}

TEST(BorrowedArray, KnowsWhereMemoryLies) {
  Lender lender({3, 4}, {4, 1});
  const auto device_of = [&](std::int32_t type, int index) {
    DLDevice& device = lender.versioned.dl_tensor.device;
    std::memcpy(&device.device_type, &type, sizeof(type));  // an older header's enumeration may not hold it
    device.device_id = index;
    return BorrowedArray(&lender.versioned, "X").rows_as_columns<float>().device;
  };
  EXPECT_EQ(device_of(kDLCPU, 0), (Device{DeviceType::cpu, 0}));
  EXPECT_EQ(device_of(kDLCUDAHost, 0), (Device{DeviceType::cpu, 0}));
  EXPECT_EQ(device_of(kDLCUDA, 3), (Device{DeviceType::cuda, 3}));
  EXPECT_EQ(device_of(kDLCUDAManaged, 1), (Device{DeviceType::cuda, 1}));
  EXPECT_THROW(device_of(kDLROCM, 0), DeviceError);
  expect_error([&] { device_of(kDLVulkan, 0); }, {"X: ", "type 7", "CPU (1), CUDA (2)"});
  expect_error([&] { device_of(18, 0); }, {"type 18"});  // Trainium, since DLPack 1.1
}

TEST(Lend, FillsInWhatTheSpecificationSays) {
  std::vector<double> values(5 * 4);
  const auto owner = std::make_shared<int>(0);
  {
    const ManagedTensor lent = lend(MatrixView<double>{values.data(), 3, 4, 5, {}}, owner);
    EXPECT_EQ(owner.use_count(), 2);
    EXPECT_EQ(lent->version.major, 1u);
    EXPECT_EQ(lent->flags, 0u);
    const DLTensor& tensor = lent->dl_tensor;
    EXPECT_EQ(tensor.data, values.data());
    EXPECT_EQ(tensor.byte_offset, 0u);
    EXPECT_EQ(tensor.device.device_type, kDLCPU);
    EXPECT_EQ(tensor.device.device_id, 0);
    EXPECT_EQ(tensor.dtype.code, kFloat64.code);
    EXPECT_EQ(tensor.dtype.bits, kFloat64.bits);
    EXPECT_EQ(tensor.dtype.lanes, 1);
    ASSERT_EQ(tensor.ndim, 2);
    EXPECT_EQ(std::vector<std::int64_t>(tensor.shape, tensor.shape + 2), (std::vector<std::int64_t>{4, 3}));
    EXPECT_EQ(std::vector<std::int64_t>(tensor.strides, tensor.strides + 2), (std::vector<std::int64_t>{5, 1}));
  }
  EXPECT_EQ(owner.use_count(), 1);
  {
    const UnversionedManagedTensor lent = lend_unversioned(VectorView<double>{values.data(), 20, {}}, owner);
    EXPECT_EQ(owner.use_count(), 2);
    ASSERT_EQ(lent->dl_tensor.ndim, 1);
    EXPECT_EQ(lent->dl_tensor.shape[0], 20);
    EXPECT_EQ(lent->dl_tensor.strides[0], 1);
  }
  EXPECT_EQ(owner.use_count(), 1);

  // Handed on to somebody who knows nothing of our types.
  DLManagedTensorVersioned* const handed_on = lend(VectorView<const double>{values.data(), 20, {}}, owner).release();
  EXPECT_EQ(owner.use_count(), 2);
  EXPECT_EQ(handed_on->flags, std::uint64_t{DLPACK_FLAG_BITMASK_READ_ONLY});
  handed_on->deleter(handed_on);
  EXPECT_EQ(owner.use_count(), 1);

  const ManagedTensor on_cuda = lend(VectorView<double>{values.data(), 20, {DeviceType::cuda, 2}}, nullptr);
  EXPECT_EQ(on_cuda->dl_tensor.device.device_type, kDLCUDA);
  EXPECT_EQ(on_cuda->dl_tensor.device.device_id, 2);
}

template <class T>
void expect_type(int code, int bits) {
  T value{};
  const ManagedTensor lent = lend(VectorView<T>{&value, 1, {}}, nullptr);
  EXPECT_EQ(lent->dl_tensor.dtype.code, code);
  EXPECT_EQ(lent->dl_tensor.dtype.bits, bits);
}

TEST(Lend, NamesTheElementType) {
  expect_type<float>(kDLFloat, 32);
  expect_type<double>(kDLFloat, 64);
  expect_type<std::int32_t>(kDLInt, 32);
  expect_type<std::int64_t>(kDLInt, 64);
  expect_type<std::uint8_t>(kDLUInt, 8);
}

TEST(Lend, RefusesWhatIsNoView) {
  std::vector<float> values(12);
  EXPECT_THROW(lend(MatrixView<float>{values.data(), 4, 3, 3, {}}, nullptr), ShapeError);
  EXPECT_THROW(lend(MatrixView<float>{values.data(), 4, -3, 4, {}}, nullptr), ShapeError);
  EXPECT_THROW(lend(VectorView<float>{values.data(), -1, {}}, nullptr), ShapeError);
  EXPECT_THROW(lend(MatrixView<float>{nullptr, 4, 3, 4, {}}, nullptr), ValueError);
  const BorrowedArray empty(lend(MatrixView<float>{nullptr, 4, 0, 4, {}}, nullptr).release());
  EXPECT_EQ(empty.rows_as_columns<float>().rows, 4);
}

class Exchange : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Exchange);

TEST_P(Exchange, ATensorComesBackAsTheSameMemory) {
  std::vector<float> values(7 * 3);
  std::iota(values.begin(), values.end(), 1.0f);
  Tensor<float> tensor = testing::to_device(context(), values, 7, 3);
  const float* const address = tensor.data();
  ManagedTensor lent = lend(std::move(tensor));
  EXPECT_EQ(tensor.data(), nullptr);
  const BorrowedArray array(lent.release());
  const MatrixView<const float> X = array.rows_as_columns<const float>();
  EXPECT_EQ(X.data, address);
  EXPECT_EQ(X.rows, 7);
  EXPECT_EQ(X.cols, 3);
  EXPECT_EQ(X.device, context().device());
  std::vector<float> back(values.size());
  copy(context(), X, MatrixView<float>{back.data(), 7, 3, 7, {}});
  context().synchronize();
  EXPECT_EQ(back, values);
}

}  // namespace
}  // namespace shrinkwarp
