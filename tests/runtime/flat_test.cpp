// Objects as one block of bytes.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/flat.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

struct Parts {
  double number = 0;
  bool flag = false;
  std::vector<std::int32_t> values, none;
  Tensor<float> matrix, empty;

  template <class Self, class Flat>
  static void list(Self& self, Flat& flat) {
    flat.value(self.number);
    flat.value(self.flag);
    flat.vector(self.values);
    flat.vector(self.none);
    flat.tensor(self.empty);
    flat.tensor(self.matrix);
  }
};

Parts parts() {
  Parts made;
  made.number = 2.5;
  made.flag = true;
  made.values = {3, 1, 2};
  made.matrix = Tensor<float>(Context::cpu(1), 3, 2);
  for (int i = 0; i < 6; ++i) made.matrix.data()[i] = static_cast<float>(i);
  return made;
}

TEST(Flat, PartsLieInTheBlockAndKeepIt) {
  const Parts whole = parts();
  FlatWriter counted;
  Parts::list(whole, counted);
  const auto block = std::make_shared<Tensor<std::byte>>(Context::cpu(1), counted.used());
  FlatWriter written(block->vector());
  Parts::list(whole, written);
  EXPECT_EQ(written.used(), counted.used());
  {
    FlatReader flat(block->vector(), block);
    Parts read;
    Parts::list(read, flat);
    EXPECT_EQ(flat.used(), counted.used());
    EXPECT_EQ(read.number, 2.5);
    EXPECT_TRUE(read.flag);
    EXPECT_EQ(read.values, (std::vector<std::int32_t>{3, 1, 2}));
    EXPECT_TRUE(read.none.empty());
    EXPECT_EQ(read.empty.size(), 0);
    ASSERT_EQ(read.matrix.rows(), 3);
    ASSERT_EQ(read.matrix.cols(), 2);
    EXPECT_EQ(read.matrix.matrix()(2, 1), 5.0F);
    const auto* const place = reinterpret_cast<const std::byte*>(read.matrix.data());
    EXPECT_TRUE(place >= block->data() && place + read.matrix.bytes() <= block->data() + block->size());
    const Tensor<float> moved = std::move(read.matrix);
    EXPECT_EQ(moved.matrix()(2, 1), 5.0F);
    EXPECT_GT(block.use_count(), 1);
  }
  EXPECT_EQ(block.use_count(), 1);
}

TEST(Flat, ABlockThatIsTooSmallIsNotWrittenPast) {
  const Parts whole = parts();
  FlatWriter counted;
  Parts::list(whole, counted);
  const Tensor<std::byte> block(Context::cpu(1), counted.used() - 256);
  FlatWriter written(block.vector());
  EXPECT_THROW(Parts::list(whole, written), OutOfMemory);
}

}  // namespace
}  // namespace shrinkwarp
