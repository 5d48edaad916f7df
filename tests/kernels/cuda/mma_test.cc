// The tensor core products, loads and copies of device/mma.cuh on the emulator: against plain
// products, and that a forgotten wait or a buffer filled too early shows as NaN.
#include "kernels/cuda/device/mma.cuh"

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/random.h"
#include "kernels/cuda/device/tf32.cuh"
#include "kernels/cuda/emulator/launches.h"

namespace trireme::cuda {
namespace {

constexpr int kStride = 24;  // elements from row to row in shared memory: 16 and a gap

template <class T>
struct Numbers {
  alignas(16) T bits[16 * kStride] = {};
  float at(int row, int col) const { return to_float(bits[row * kStride + col]); }
};

template <class T>
Numbers<T> random_numbers(uint64_t seed) {
  Numbers<T> numbers;
  for (int i = 0; i < 16 * kStride; ++i)
    numbers.bits[i] = from_float<T>(normal(seed, static_cast<uint64_t>(i)));
  return numbers;
}

void run_warp(uint64_t seed, const std::function<void(int lane)>& body) {
  const auto kernel = [&] { body(static_cast<int>(threadIdx.x)); };
  emulator::run_launch({.block = {32}, .shared_bytes = 4096, .seed = seed, .kernel = kernel});
}

template <class T>
class Mma : public testing::Test {};
using Formats = testing::Types<Bf16, F16>;
TYPED_TEST_SUITE(Mma, Formats);

// C = A B, with A loaded as it lies, and B as both of the kernels' operands do: keys lie as rows of
// B^T, values as rows of B.
TYPED_TEST(Mma, ProductsOfLoadedMatrices) {
  using T = TypeParam;
  const Numbers<T> a = random_numbers<T>(1), b = random_numbers<T>(2);
  for (const bool rows_of_b : {false, true}) {
    for (const uint64_t seed : {0, 7}) {
      float c[16][16] = {};
      run_warp(seed, [&](int lane) {
        FragmentA left;
        load_matrices(a.bits + lane % 16 * kStride + lane / 16 * 8, left.at);
        unsigned right[4];
        if (rows_of_b) {
          load_matrices_transposed(b.bits + lane % 16 * kStride + lane / 16 * 8, right);
        } else {
          load_matrices(b.bits + (lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 8, right);
        }
        FragmentC sum[2] = {};
        for (int half = 0; half < 2; ++half) {
          multiply_add<T>(left, {{right[2 * half], right[2 * half + 1]}}, sum[half]);
          for (int i = 0; i < 4; ++i)
            c[lane / 4 + i / 2 * 8][half * 8 + lane % 4 * 2 + i % 2] = sum[half].at[i];
        }
      });
      for (int m = 0; m < 16; ++m) {
        for (int n = 0; n < 16; ++n) {
          double want = 0;
          for (int k = 0; k < 16; ++k)
            want += double{a.at(m, k)} * (rows_of_b ? b.at(k, n) : b.at(n, k));
          EXPECT_NEAR(c[m][n], want, 1e-5) << m << ", " << n << ", seed " << seed;
        }
      }
    }
  }
}

// Numbers of f32 in two of tf32 each: their products are as good as f32's, and a result is the left
// operand of the next product as it is.
TEST(MmaTf32, ProductsAreAsGoodAsOfF32) {
  const auto number = [](int matrix, int row, int col) {
    return normal(5, static_cast<uint64_t>(matrix * 1000 + row * 8 + col));
  };
  float first[16][8] = {}, second[16][8] = {};
  run_warp(3, [&](int lane) {
    const int g = lane / 4, t = lane % 4;
    const auto product = [&](const FragmentC& a, int matrix) {  // a B, of B's rows 2t and 2t + 1
      alignas(16) Pack<float, 4> b = split(number(matrix, 2 * t, g), number(matrix, 2 * t + 1, g));
      SplitSum sum;
      sum.add_product(split(a), load_split(b.at));
      return sum.total();
    };
    const FragmentC a{{number(0, g, 2 * t), number(0, g, 2 * t + 1), number(0, g + 8, 2 * t),
                       number(0, g + 8, 2 * t + 1)}};
    const FragmentC b = product(a, 1), c = product(b, 2);
    for (int i = 0; i < 4; ++i) {
      first[g + i / 2 * 8][2 * t + i % 2] = b.at[i];
      second[g + i / 2 * 8][2 * t + i % 2] = c.at[i];
    }
  });
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 8; ++n) {
      double want_first = 0, want_second = 0;
      for (int k = 0; k < 8; ++k) {
        want_first += double{number(0, m, k)} * number(1, k, n);
        want_second += double{first[m][k]} * number(2, k, n);
      }
      EXPECT_NEAR(first[m][n], want_first, 2e-6) << m << ", " << n;
      EXPECT_NEAR(second[m][n], want_second, 5e-6) << m << ", " << n;
    }
  }
}

// A product's result is the left operand of the next one after pack(): as weights of values.
TYPED_TEST(Mma, ResultsBecomeOperands) {
  using T = TypeParam;
  const Numbers<T> a = random_numbers<T>(3), b = random_numbers<T>(4), v = random_numbers<T>(5);
  float first[16][16] = {}, second[16][8] = {};
  run_warp(0, [&](int lane) {
    FragmentA left, weights;
    unsigned keys[4], values[4];
    load_matrices(a.bits + lane % 16 * kStride + lane / 16 * 8, left.at);
    load_matrices(b.bits + (lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 8, keys);
    load_matrices_transposed(v.bits + lane % 16 * kStride + lane / 16 * 8, values);
    FragmentC result{};
    for (int half = 0; half < 2; ++half) {
      FragmentC sum{};
      multiply_add<T>(left, {{keys[2 * half], keys[2 * half + 1]}}, sum);
      weights.at[2 * half] = pack<T>(sum.at[0], sum.at[1]);
      weights.at[2 * half + 1] = pack<T>(sum.at[2], sum.at[3]);
      for (int i = 0; i < 4; ++i)
        first[lane / 4 + i / 2 * 8][half * 8 + lane % 4 * 2 + i % 2] = sum.at[i];
    }
    multiply_add<T>(weights, {{values[0], values[1]}}, result);
    for (int i = 0; i < 4; ++i) second[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2] = result.at[i];
  });
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 8; ++n) {
      double want = 0;
      for (int k = 0; k < 16; ++k)
        want += double{to_float(from_float<T>(first[m][k]))} * v.at(k, n);
      EXPECT_NEAR(second[m][n], want, 1e-4) << m << ", " << n;
    }
  }
}

// Lane 0 copies 16 bytes for each group; what is looked at too early is NaN.
TEST(AsyncCopies, ArriveWhenTheirGroupIsWaitedFor) {
  alignas(16) const float source[3][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 11, 12}};
  const auto kernel = [&] {
    auto* to = static_cast<float*>(emulator::dynamic_shared());
    for (int i = 0; i < 3; ++i) {
      copy_16_bytes(to + 4 * i, source[i], i != 1);
      copies_commit();
    }
    EXPECT_TRUE(std::isnan(to[0]));
    copies_wait<2>();
    EXPECT_EQ(to[3], 4);
    EXPECT_TRUE(std::isnan(to[4]));
    copies_wait<0>();
    EXPECT_EQ(to[4], 0) << "a copy that reads nothing leaves zeros";
    EXPECT_EQ(to[11], 12);
    copy_16_bytes(to, source[2], true);
    EXPECT_TRUE(std::isnan(to[3])) << "what lay there is gone when the copy is asked for";
    copies_wait<0>();
    EXPECT_TRUE(std::isnan(to[3])) << "nobody has ended the group";
    copies_commit();
    copies_wait<0>();
    EXPECT_EQ(to[3], 12);
  };
  emulator::run_launch({.shared_bytes = 48, .kernel = kernel});
}

// An infinitely small score weighs nothing.
TEST(ExpTwo, OfMinusInfinityIsZero) {
  EXPECT_EQ(exp2_fast(-INFINITY), 0.0f);
  EXPECT_EQ(exp2_fast(-3.0f), 0.125f);
}

}  // namespace
}  // namespace trireme::cuda
