#include "comm/tensor_bytes.h"

#include <bit>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

namespace trireme {
namespace {

// A [3, 5] matrix of int8 with a row stride of 8 is the string of its 15 bytes, wherever it is cut.
TEST(TensorBytes, EveryPieceOfAStridedTensorGoesOutAndComesBack) {
  std::vector<int8_t> from(24, -1), to(24, -1);
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 5; ++c) from[size_t(8 * r + c)] = int8_t(5 * r + c);
  const TensorView x{from.data(), 3, 5, 8, DType::kI8, Place::kHost};
  ASSERT_EQ(tensor_bytes(x), 15);
  for (int64_t first = 0; first <= 15; ++first) {
    for (int64_t bytes = 0; first + bytes <= 15; ++bytes) {
      std::byte piece[16];
      std::memset(piece, 0x77, sizeof piece);
      copy_bytes_out(x, first, bytes, piece);
      for (int64_t i = 0; i < bytes; ++i) ASSERT_EQ(int64_t(piece[i]), first + i);
      ASSERT_EQ(piece[bytes], std::byte{0x77});

      std::fill(to.begin(), to.end(), int8_t{-1});
      copy_bytes_in(piece, first, bytes, {to.data(), 3, 5, 8, DType::kI8, Place::kHost});
      for (int i = 0; i < 24; ++i) {
        const int r = i / 8, c = i % 8, at = 5 * r + c;
        const bool inside = c < 5 && at >= first && at < first + bytes;
        ASSERT_EQ(to[size_t(i)], inside ? at : -1) << first << " + " << bytes << " byte " << i;
      }
    }
  }
}

TEST(TensorBytes, CopiesBetweenDifferentStrides) {
  std::vector<float> from(12), to(15, -1.0f);
  for (size_t i = 0; i < from.size(); ++i) from[i] = float(i);
  copy_tensor(TensorView{from.data(), 3, 3, 4, DType::kF32, Place::kHost},
              TensorView{to.data(), 3, 3, 5, DType::kF32, Place::kHost});
  for (size_t r = 0; r < 3; ++r)
    for (size_t c = 0; c < 5; ++c) EXPECT_EQ(to[5 * r + c], c < 3 ? float(4 * r + c) : -1.0f);
}

TEST(TensorBytes, EmptyTensorsAreNothing) {
  copy_bytes_out(tensor(nullptr, 0, 7), 0, 0, nullptr);
  copy_bytes_in(nullptr, 0, 0, tensor(nullptr, 3, 0));
  copy_tensor(tensor(nullptr, 0, 7), tensor(nullptr, 0, 7));
}

// 1 + 2^-24 + 2^-24 is 1 from the left and 1 + 2^-23 from the right: the order shows. The result
// may take the place of any part; counts cross the bounds of the blocks inside.
TEST(SumInRankOrder, AddsFromTheLeftIntoAnyPart) {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    for (int out = 0; out < ranks; ++out) {
      for (int64_t count : {0, 1, 511, 512, 513, 1500}) {
        std::vector<std::vector<float>> parts(static_cast<size_t>(ranks));
        std::vector<const float*> pointers;
        for (int r = 0; r < ranks; ++r) {
          parts[size_t(r)].assign(size_t(count) + 1, r == 0 ? 1.0f : 0x1p-24f);
          pointers.push_back(parts[size_t(r)].data());
        }
        sum_in_rank_order(pointers.data(), ranks, count, parts[size_t(out)].data());
        for (int64_t i = 0; i < count; ++i) ASSERT_EQ(parts[size_t(out)][size_t(i)], 1.0f);
        ASSERT_EQ(parts[size_t(out)][size_t(count)], out == 0 ? 1.0f : 0x1p-24f);
      }
    }
  }
}

TEST(SumInRankOrder, KeepsTheSignOfZero) {
  const float a = -0.0f, b = -0.0f;
  const float* parts[] = {&a, &b};
  float sum = 1;
  sum_in_rank_order(parts, 2, 1, &sum);
  EXPECT_EQ(std::bit_cast<uint32_t>(sum), 0x80000000u);
}

}  // namespace
}  // namespace trireme
