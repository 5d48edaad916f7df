#include "kernels/base/random.h"

#include <cmath>
#include <set>

#include <gtest/gtest.h>

namespace trireme {
namespace {

using Four = std::array<uint32_t, 4>;

// The known-answer vectors of the authors' Random123 library for philox4x32-10.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0}, {0, 0, 0, 0}),
            (Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}),
            (Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // The digits of pi.
  EXPECT_EQ(philox4x32({0xa4093822, 0x299f31d0}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Uniform, IsInsideTheOpenIntervalAndEven) {
  constexpr int kDraws = 200'000;
  int cells[20] = {};
  double sum = 0;
  for (uint32_t i = 0; i < kDraws; ++i) {
    const double u = uniform(42, 0, i);
    ASSERT_GT(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++cells[int(u * 20)];
    sum += u;
  }
  // Six standard deviations; the seed is fixed, so this cannot fail by chance.
  EXPECT_NEAR(sum / kDraws, 0.5, 6 * std::sqrt(1.0 / 12 / kDraws));
  for (int n : cells) EXPECT_NEAR(n, kDraws / 20, 6 * std::sqrt(kDraws / 20.0));
}

// A draw whose 53 bits are all ones, found by running Philox backwards: the largest of all draws.
TEST(Uniform, TheLargestDrawIsLessThanOne) {
  const double largest = uniform(20261123, 3971350426u, 1781617822u, 4174940027u);
  EXPECT_GT(largest, 1 - 0x1p-52);
  EXPECT_LT(largest, 1.0);
}

// Each of the four coordinates counts, and a draw depends on nothing else.
TEST(Uniform, EveryCoordinateGivesAnotherDraw) {
  std::set<double> seen;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, ~uint64_t{0}})
    for (uint32_t choice : {0u, 1u, 0xffffffffu})
      for (uint32_t position : {0u, 1u, 131071u})
        for (uint32_t draw : {0u, 1u, 2u}) {
          const double u = uniform(seed, choice, position, draw);
          EXPECT_TRUE(seen.insert(u).second);
          EXPECT_EQ(u, uniform(seed, choice, position, draw));
        }
}

// Held against the known answer above: key 0, counter 0 gives the words 6627e8d5 e169c58d, whose
// top 53 bits are 0xccfd1abc2d38b.
TEST(Uniform, IsTheTop53BitsOfThePhiloxWords) {
  const uint64_t words = 0x6627e8d5e169c58d;
  EXPECT_NEAR(uniform(0, 0, 0), double(words) * 0x1p-64, 0x1p-52);
}

TEST(Normal, HasTheMomentsOfTheNormalDistribution) {
  constexpr int kDraws = 200'000;
  double sum = 0, squares = 0, fourth = 0;
  int beyond_two = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double x = normal(7, i);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    beyond_two += std::abs(x) > 2;
  }
  EXPECT_NEAR(sum / kDraws, 0, 6 / std::sqrt(kDraws));
  EXPECT_NEAR(squares / kDraws, 1, 6 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth / kDraws, 3, 6 * std::sqrt(96.0 / kDraws));
  EXPECT_NEAR(double(beyond_two) / kDraws, 0.0455, 6 * std::sqrt(0.0455 / kDraws));
}

TEST(Normal, SeedAndIndexCount) {
  EXPECT_EQ(normal(1, 5), normal(1, 5));
  EXPECT_NE(normal(1, 5), normal(2, 5));
  EXPECT_NE(normal(1, 5), normal(1, 6));
  EXPECT_NE(normal(1, 5), normal(1, 5 + (uint64_t{1} << 32)));
}

}  // namespace
}  // namespace trireme
