// Spill or recompute: by cost, and only where there is room.
#include "runtime/schedule/preemption.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

CostRates rates(double rows, double bytes) { return {rows, bytes}; }

TEST(Preemption, TheCheaperWay) {
  // 1000 rows take 1 s. 1 MB out and in takes 2 s at 1 MB/s.
  EXPECT_FALSE(should_spill({1000, 1'000'000, 1 << 30}, rates(1000, 1e6)));
  EXPECT_FALSE(should_spill({1000, 1'000'000, 1 << 30}, rates(1000, 2e6))) << "equal: recompute";
  EXPECT_TRUE(should_spill({1000, 1'000'000, 1 << 30}, rates(1000, 2.1e6)));
  // Of those rows the prefix cache would give all but ten.
  EXPECT_FALSE(should_spill({10, 1'000'000, 1 << 30}, rates(1000, 2.1e6)));
}

TEST(Preemption, OnlyWhereThereIsRoomAndSomethingToCopy) {
  EXPECT_TRUE(should_spill({1000, 100, 100}, rates(1, 1e9)));
  EXPECT_FALSE(should_spill({1000, 101, 100}, rates(1, 1e9)));
  EXPECT_FALSE(should_spill({1000, 0, 100}, rates(1, 1e9)));
  EXPECT_FALSE(should_spill({0, 100, 100}, rates(1, 1e9))) << "nothing to compute again";
}

TEST(Preemption, RatesFollowWhatIsMeasured) {
  CostRates r;
  EXPECT_TRUE(should_spill({1, 100, 100}, r)) << "nothing is known of computing yet";
  r.note_step(31, 1);
  r.note_step(64, 0);
  EXPECT_EQ(r.rows_per_second, 0) << "small steps and steps without time say nothing";
  r.note_step(100, 1);
  EXPECT_EQ(r.rows_per_second, 100) << "the first counts whole";
  for (int i = 0; i < 100; ++i) r.note_step(300, 1);
  EXPECT_NEAR(r.rows_per_second, 300, 1);
  r.note_copy(0, 1);
  r.note_copy(1, 0);
  EXPECT_EQ(r.bytes_per_second, CostRates{}.bytes_per_second);
  for (int i = 0; i < 100; ++i) r.note_copy(5000, 2);
  EXPECT_NEAR(r.bytes_per_second, 2500, 1);
}

}  // namespace
}  // namespace trireme
