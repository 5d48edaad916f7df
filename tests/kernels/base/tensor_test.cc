#include "kernels/base/tensor.h"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace trireme {
namespace {

// Element (r, c) of a [4, 6] matrix is 10 r + c; ranges of ranges point at the right elements.
TEST(TensorView, RangesOfRowsAndColumns) {
  std::vector<float> x(24);
  for (size_t i = 0; i < 24; ++i) x[i] = float(10 * (i / 6) + i % 6);
  const TensorView whole = tensor(x.data(), 4, 6);
  EXPECT_TRUE(whole.contiguous());
  const TensorView part = whole.row_range(1, 2).col_range(2, 3);
  EXPECT_EQ(part.rows, 2);
  EXPECT_EQ(part.cols, 3);
  EXPECT_EQ(part.row_stride, 6);
  EXPECT_FALSE(part.contiguous());
  const ConstTensorView reading = ConstTensorView(whole).row_range(1, 2).col_range(2, 3);
  for (int64_t r = 0; r < 2; ++r) {
    for (int64_t c = 0; c < 3; ++c) {
      EXPECT_EQ(part.f32_row(r)[c], float(10 * (r + 1) + c + 2));
      EXPECT_EQ(reading.f32_row(r)[c], float(10 * (r + 1) + c + 2));
    }
  }
  EXPECT_TRUE(part.row_range(1, 1).contiguous());  // one row always is
  EXPECT_TRUE(part.row_range(2, 0).contiguous());
}

TEST(TensorView, RangesCountInElementsOfTheType) {
  int64_t x[12] = {};
  const TensorView v = tensor(x, 3, 4, DType::kI64).row_range(2, 1).col_range(1, 1);
  EXPECT_EQ(v.data, x + 9);
  uint16_t y[12] = {};
  EXPECT_EQ(tensor(y, 3, 4, DType::kBF16).row_range(1, 2).data, y + 4);
}

TEST(TensorView, ReadingKeepsEverything) {
  float x[8];
  const TensorView v{x, 2, 3, 4, DType::kF16, Place::kCuda};
  const ConstTensorView c = v;
  EXPECT_EQ(c.data, x);
  EXPECT_EQ(c.rows, 2);
  EXPECT_EQ(c.cols, 3);
  EXPECT_EQ(c.row_stride, 4);
  EXPECT_EQ(c.dtype, DType::kF16);
  EXPECT_EQ(c.place, Place::kCuda);
  EXPECT_FALSE(c.empty());
  EXPECT_TRUE(ConstTensorView().empty());
}

TEST(TensorViewDeathTest, RangesOutsideAreBrokenPromises) {
  float x[6];
  const TensorView v = tensor(x, 2, 3);
  EXPECT_DEATH((void)v.row_range(1, 2), "CHECK failed");
  EXPECT_DEATH((void)v.row_range(-1, 1), "CHECK failed");
  EXPECT_DEATH((void)v.col_range(3, 1), "CHECK failed");
  EXPECT_DEATH((void)ConstTensorView(v).col_range(0, 4), "CHECK failed");
  EXPECT_DEATH((void)ConstTensorView(v).row_range(0, -1), "CHECK failed");
}

TEST(Buffer, HostMemoryIsAlignedZeroedAndReleasedOnce) {
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{100'000},
                       size_t{5} << 20, (size_t{8} << 20) + 1}) {
    Buffer buffer = allocate_host(bytes);
    ASSERT_NE(buffer.data(), nullptr);
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    auto* data = static_cast<unsigned char*>(buffer.data());
    for (size_t i = 0; i < bytes; i += i < 4096 ? 1 : 511) ASSERT_EQ(data[i], 0) << i;
    if (bytes > 0) data[bytes - 1] = 1;
  }
}

int releases = 0;
void count_release(void*, size_t) { ++releases; }

TEST(Buffer, MovesAndReleasesOnce) {
  int x = 0;
  releases = 0;
  {
    Buffer a(&x, 4, count_release);
    Buffer b = std::move(a);
    EXPECT_EQ(b.data(), &x);
    EXPECT_EQ(b.bytes(), 4u);
    Buffer c;
    c = std::move(b);
    EXPECT_EQ(c.data(), &x);
    EXPECT_EQ(releases, 0);
    Buffer empty;
  }
  EXPECT_EQ(releases, 1);
}

}  // namespace
}  // namespace trireme
