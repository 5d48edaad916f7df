// Products of warp groups and barriers of parts of a block (device/wgmma.cuh, device/barriers.cuh)
// on the emulator: against plain products, and that what a GPU would do silently wrong shows.
#include "kernels/cuda/device/wgmma.cuh"

#include <cmath>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/base/random.h"
#include "kernels/cuda/device/barriers.cuh"
#include "kernels/cuda/emulator/launches.h"

namespace trireme::cuda {
namespace {

constexpr int kRows = 64, kColumns = 128, kDepth = 128;
constexpr size_t kSharedBytes = 96 << 10;

template <class T>
std::vector<T> random_numbers(uint64_t seed, int count) {
  std::vector<T> numbers;
  for (int i = 0; i < count; ++i)
    numbers.push_back(from_float<T>(normal(seed, static_cast<uint64_t>(i))));
  return numbers;
}

void run_block(int threads, uint64_t seed, const std::function<void()>& body) {
  emulator::run_launch({.block = {static_cast<unsigned>(threads)},
                        .shared_bytes = kSharedBytes,
                        .seed = seed,
                        .kernel = body});
}

// All threads of the block put `rows` rows of `cols` numbers where products read them.
template <class T>
void put_panels(const std::vector<T>& from, int rows, int cols, T* to) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * cols; i += static_cast<int>(blockDim.x))
    to[panel_at(i / cols, i % cols, rows)] = from[static_cast<size_t>(i)];
}

// A thread's part of 64 rows of sums.
template <int kN>
void keep_sums(const FragmentC (&c)[kN], std::vector<float>& sums) {
  const int lane = lane_of_warp(), warp = warp_of_block() % 4;
  for (int n = 0; n < kN; ++n) {
    for (int i = 0; i < 4; ++i) {
      const int row = warp * 16 + lane / 4 + i / 2 * 8, column = n * 8 + lane % 4 * 2 + i % 2;
      sums[static_cast<size_t>(row * kN * 8 + column)] = c[n].at[i];
    }
  }
}

template <class T>
class Wgmma : public testing::Test {};
using Formats = testing::Types<Bf16, F16>;
TYPED_TEST_SUITE(Wgmma, Formats);

TYPED_TEST(Wgmma, PanelsHoldEachNumberOnce) {
  std::vector<int> times(static_cast<size_t>(kColumns * kDepth));
  for (int row = 0; row < kColumns; ++row) {
    for (int col = 0; col < kDepth; ++col)
      ++times[static_cast<size_t>(panel_at(row, col, kColumns))];
  }
  EXPECT_EQ(times, std::vector<int>(times.size(), 1));
}

// Scores: both operands in shared memory with their depth along rows.
TYPED_TEST(Wgmma, DepthAlongRows) {
  using T = TypeParam;
  const auto a = random_numbers<T>(1, kRows * kDepth), b = random_numbers<T>(2, kColumns * kDepth);
  for (const uint64_t seed : {0, 7}) {
    std::vector<float> sums(static_cast<size_t>(kRows * kColumns));
    run_block(kGroupThreads, seed, [&] {
      T* left = reinterpret_cast<T*>(panels_from(shared<unsigned char>()));
      T* right = left + kRows * kDepth;
      put_panels(a, kRows, kDepth, left);
      put_panels(b, kColumns, kDepth, right);
      seen_by_products();
      __syncthreads();
      FragmentC c[kColumns / 8];
      group_begin();
      for (int k = 0; k < kDepth; k += 16) {
        const int panel = k / kPanel, col = k % kPanel;
        group_multiply<T, kColumns>(described_along(left + panel * kRows * kPanel + col),
                                    described_along(right + panel * kColumns * kPanel + col), k > 0,
                                    c);
      }
      group_commit();
      EXPECT_TRUE(std::isnan(c[0].at[0])) << "sums are there before they are waited for";
      group_wait<0>();
      keep_sums(c, sums);
    });
    for (int m = 0; m < kRows; ++m) {
      for (int n = 0; n < kColumns; ++n) {
        double want = 0;
        for (int k = 0; k < kDepth; ++k) {
          want += double{to_float(a[static_cast<size_t>(m * kDepth + k)])} *
                  to_float(b[static_cast<size_t>(n * kDepth + k)]);
        }
        ASSERT_NEAR(sums[static_cast<size_t>(m * kColumns + n)], want, 1e-4) << m << ", " << n;
      }
    }
  }
}

// Sums of values: a in registers, b's rows are the depth; added to what is there. kN columns.
template <class T, int kN>
void expect_depth_down_rows() {
  const auto a = random_numbers<T>(3, kRows * kDepth), b = random_numbers<T>(4, kDepth * kN);
  std::vector<float> sums(static_cast<size_t>(kRows * kN));
  run_block(kGroupThreads, 0, [&] {
    T* right = reinterpret_cast<T*>(panels_from(shared<unsigned char>()));
    put_panels(b, kDepth, kN, right);
    seen_by_products();
    __syncthreads();
    FragmentC c[kN / 8];
    for (FragmentC& each : c) {
      for (float& x : each.at) x = 0.5f;
    }
    FragmentA left[kDepth / 16];
    const int lane = lane_of_warp(), g = warp_of_block() * 16 + lane / 4, t = lane % 4;
    for (int k = 0; k < kDepth / 16; ++k) {
      for (int i = 0; i < 4; ++i) {
        const auto at = static_cast<size_t>((g + i % 2 * 8) * kDepth + k * 16 + 2 * t + i / 2 * 8);
        left[k].at[i] = a[at].bits | static_cast<unsigned>(a[at + 1].bits) << 16;
      }
    }
    group_begin();
    for (int k = 0; k < kDepth / 16; ++k) {
      group_multiply_add<T, kN>(left[k],
                                described_down(right + k * 16 * kPanel, kDepth * kPanel * 2), c);
    }
    group_commit();
    group_wait<0>();
    keep_sums(c, sums);
  });
  for (int m = 0; m < kRows; ++m) {
    for (int n = 0; n < kN; ++n) {
      double want = 0.5;
      for (int k = 0; k < kDepth; ++k) {
        want += double{to_float(a[static_cast<size_t>(m * kDepth + k)])} *
                to_float(b[static_cast<size_t>(k * kN + n)]);
      }
      ASSERT_NEAR(sums[static_cast<size_t>(m * kN + n)], want, 1e-4) << m << ", " << n;
    }
  }
}
TYPED_TEST(Wgmma, DepthDownRows) {
  expect_depth_down_rows<TypeParam, 64>();
  expect_depth_down_rows<TypeParam, 128>();
}

TEST(WgmmaDeath, AnOperandThatChangesUnderWay) {
  const auto body = [] {
    Bf16* panels = reinterpret_cast<Bf16*>(panels_from(shared<unsigned char>()));
    put_panels(random_numbers<Bf16>(5, kColumns * kPanel), kColumns, kPanel, panels);
    __syncthreads();
    FragmentC c[kColumns / 8];
    group_multiply<Bf16, kColumns>(described_along(panels), described_along(panels), false, c);
    group_commit();
    if (threadIdx.x == 0) panels[0] = Bf16{0x1234};
    group_wait<0>();
  };
  EXPECT_DEATH(run_block(kGroupThreads, 0, body), "changed before the product was waited for");
}

// One warp hands numbers to another through two buffers; whoever does not wait for copies or for
// an empty buffer sees NaN or other numbers.
TEST(PhaseBarriers, HandBuffersOnAndBack) {
  constexpr int kTurns = 7;
  std::vector<int> numbers;
  for (int i = 0; i < kTurns * kWarpSize * 4; ++i) numbers.push_back(i * 3 + 1);
  for (const uint64_t seed : {0, 1, 2, 3}) {
    std::vector<int> seen;
    run_block(2 * kWarpSize, seed, [&] {
      int* buffers = shared<int>();
      auto* full = reinterpret_cast<PhaseBarrier*>(buffers + 2 * kWarpSize * 4);
      PhaseBarrier* empty = full + 2;
      if (threadIdx.x < 2) {
        make_barrier(full + threadIdx.x, kWarpSize);
        make_barrier(empty + threadIdx.x, 1);
      }
      __syncthreads();
      for (int i = 0; i < kTurns; ++i) {
        int* buffer = buffers + i % 2 * kWarpSize * 4;
        const int lane = lane_of_warp();
        if (warp_of_block() == 0) {
          wait_for_phase(empty + i % 2, (i / 2 & 1) ^ 1);
          copy_16_bytes(buffer + lane * 4, &numbers[static_cast<size_t>(i * kWarpSize + lane) * 4],
                        true);
          arrive_when_copied(full + i % 2);
        } else {
          wait_for_phase(full + i % 2, i / 2 & 1);
          for (int j = 0; lane == 0 && j < kWarpSize * 4; ++j) seen.push_back(buffer[j]);
          __syncwarp();
          if (lane == 0) arrive(empty + i % 2);
        }
      }
    });
    EXPECT_EQ(seen, numbers) << seed;
  }
}

// Two warps take turns, whatever the order in which they run.
TEST(NamedBarriers, WarpsTakeTurns) {
  for (const uint64_t seed : {0, 1, 2, 3}) {
    std::vector<int> turns;
    run_block(2 * kWarpSize, seed, [&] {
      const int warp = warp_of_block();
      if (warp == 1) named_arrive(1, 2 * kWarpSize);
      for (int i = 0; i < 3; ++i) {
        named_wait(1 + warp, 2 * kWarpSize);
        if (lane_of_warp() == 0) turns.push_back(warp);
        if (warp == 0 || i < 2) named_arrive(1 + (warp ^ 1), 2 * kWarpSize);
      }
    });
    EXPECT_EQ(turns, (std::vector<int>{0, 1, 0, 1, 0, 1})) << seed;
  }
}

TEST(BarriersDeath, OneAtWhichNobodyArrives) {
  const auto phases = [] {
    auto* barrier = shared<PhaseBarrier>();
    if (threadIdx.x == 0) make_barrier(barrier, 2);
    __syncthreads();
    if (threadIdx.x == 0) arrive(barrier);
    wait_for_phase(barrier, 0);
  };
  EXPECT_DEATH(run_block(kWarpSize, 0, phases), "nobody else will arrive");
  const auto numbers = [] {
    if (warp_of_block() == 0) named_wait(3, 2 * kWarpSize);
  };
  EXPECT_DEATH(run_block(2 * kWarpSize, 0, numbers), "nobody else will arrive");
}

}  // namespace
}  // namespace trireme::cuda
