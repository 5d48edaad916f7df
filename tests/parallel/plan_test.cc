// Heads onto shards and layers onto stages: every head held where it is read, cuts as cheap as the
// cheapest of all cuts, and sentences that name what would fit.
#include "parallel/plan.h"

#include <algorithm>
#include <functional>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(SplitHeads, EveryQueryHeadFindsItsKeys) {
  for (int64_t kv_heads : {1, 2, 3, 4, 6, 8}) {
    for (int64_t group : {1, 2, 3, 4}) {
      const int64_t heads = kv_heads * group;
      for (int shards = 1; shards <= 16; ++shards) {
        if (!check_heads("attention heads", heads, kv_heads, shards).ok()) continue;
        std::vector<int> query_times(static_cast<size_t>(heads), 0);
        std::vector<int> kv_times(static_cast<size_t>(kv_heads), 0);
        for (int shard = 0; shard < shards; ++shard) {
          const HeadRanges mine = split_heads(heads, kv_heads, shard, shards);
          ASSERT_EQ(mine.query.count % mine.kv.count, 0);
          const int64_t per_kv = mine.query.count / mine.kv.count;
          for (int64_t i = 0; i < mine.query.count; ++i) {
            const int64_t h = mine.query.first + i;
            ++query_times[static_cast<size_t>(h)];
            // The shard's own rule (kernels/ops.h, attend) leads to the head's global key.
            ASSERT_EQ(mine.kv.first + i / per_kv, h / group)
                << fmt::format("{} heads, {} kv, shard {} of {}", heads, kv_heads, shard, shards);
          }
          for (int64_t i = 0; i < mine.kv.count; ++i)
            ++kv_times[static_cast<size_t>(mine.kv.first + i)];
        }
        EXPECT_EQ(query_times, std::vector<int>(static_cast<size_t>(heads), 1));
        const int copies = std::max(1, shards / static_cast<int>(kv_heads));
        EXPECT_EQ(kv_times, std::vector<int>(static_cast<size_t>(kv_heads), copies));
      }
    }
  }
}

TEST(CheckHeads, SaysWhatFits) {
  EXPECT_TRUE(check_heads("attention heads", 8, 2, 4).ok());
  Status s = check_heads("attention heads", 6, 3, 4);
  EXPECT_EQ(s.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(s.message(),
            "tensor_parallel_size 4 does not divide the model's 6 attention heads; it can be 1, 3, "
            "6");
  s = check_heads("attention heads", 6, 3, 2);
  EXPECT_EQ(s.message(),
            "tensor_parallel_size 2 neither divides the model's 3 key/value heads nor is a "
            "multiple of them; it can be 1, 3, 6");
  s = check_heads("retention heads", 3, 3, 2);
  EXPECT_NE(s.message().find("3 retention heads; it can be 1, 3"), std::string::npos);
}

// What it says it can be, it can be; and nothing else.
TEST(CheckHeads, TheListIsExact) {
  for (int64_t heads = 1; heads <= 24; ++heads) {
    for (int64_t kv = 1; kv <= heads; ++kv) {
      if (heads % kv != 0) continue;
      std::string list;
      for (int n = 1; n <= 30; ++n) {
        if (check_heads("x", heads, kv, n).ok()) list += fmt::format("{}{}", n == 1 ? "" : ", ", n);
      }
      const Status bad = check_heads("x", heads, kv, 31);
      EXPECT_TRUE(bad.message().ends_with("it can be " + list)) << bad.message();
    }
  }
}

double dearest(const std::vector<double>& costs, const std::vector<Range>& ranges, double first,
               double last) {
  double worst = 0;
  for (size_t s = 0; s < ranges.size(); ++s) {
    double cost = (s == 0 ? first : 0) + (s + 1 == ranges.size() ? last : 0);
    for (int64_t i = ranges[s].first; i < ranges[s].end(); ++i) cost += costs[i];
    worst = std::max(worst, cost);
  }
  return worst;
}

// All ways to cut, as the sizes of the stages.
void for_all_cuts(int layers, int stages, std::vector<Range>& ranges, int first,
                  const std::function<void()>& f) {
  const int left = stages - static_cast<int>(ranges.size());
  if (left == 1) {
    ranges.push_back({first, layers - first});
    f();
    ranges.pop_back();
    return;
  }
  for (int count = 1; first + count <= layers - (left - 1); ++count) {
    ranges.push_back({first, count});
    for_all_cuts(layers, stages, ranges, first + count, f);
    ranges.pop_back();
  }
}

TEST(SplitLayers, IsAsCheapAsTheCheapest) {
  std::mt19937_64 random(17);
  for (int round = 0; round < 1500; ++round) {
    const int layers = 1 + static_cast<int>(random() % 9);
    const int stages = 1 + static_cast<int>(random() % layers);
    std::vector<double> costs;
    for (int i = 0; i < layers; ++i) costs.push_back(static_cast<double>(random() % 12));
    const auto first = static_cast<double>(random() % 10),
               last = static_cast<double>(random() % 30);
    const auto ranges = split_layers(costs, stages, first, last);
    ASSERT_TRUE(ranges.ok());
    ASSERT_EQ(ranges->size(), static_cast<size_t>(stages));
    int64_t next = 0;
    for (const Range& r : *ranges) {
      ASSERT_EQ(r.first, next);
      ASSERT_GT(r.count, 0);
      next = r.end();
    }
    ASSERT_EQ(next, layers);
    const double cost = dearest(costs, *ranges, first, last);
    std::vector<Range> cut;
    for_all_cuts(layers, stages, cut, 0,
                 [&] { ASSERT_GE(dearest(costs, cut, first, last), cost) << "round " << round; });
  }
}

TEST(SplitLayers, TiesGoToLargerEarlierStages) {
  const std::vector<double> costs(5, 1.0);
  EXPECT_EQ(*split_layers(costs, 2, 0, 0), (std::vector<Range>{{0, 3}, {3, 2}}));
  EXPECT_EQ(*split_layers(costs, 3, 0, 0), (std::vector<Range>{{0, 2}, {2, 2}, {4, 1}}));
  EXPECT_EQ(*split_layers(costs, 2, 0, 3), (std::vector<Range>{{0, 4}, {4, 1}})) << "the head";
}

TEST(SplitLayers, SaysHowManyStagesThereCanBe) {
  const std::vector<double> costs(3, 1.0);
  for (const int stages : {4, 100}) {
    const auto ranges = split_layers(costs, stages, 0, 0);
    ASSERT_FALSE(ranges.ok());
    EXPECT_EQ(ranges.status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(ranges.status().message(),
              fmt::format("pipeline_parallel_size {} is more than the model's 3 layers; it can be "
                          "1 to 3",
                          stages));
  }
}

}  // namespace
}  // namespace trireme
