// Layouts and block counts against brute force: which blocks a sequence has to hold is found by
// walking all its rows and the positions that each reads.
#include "runtime/cache/layout.h"

#include <algorithm>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

using Growth = StateSpec::Growth;

TEST(Layout, SublayersThatGrowAlikeShareAClass) {
  const StateSpec specs[] = {{Growth::kPerToken, 100, 0}, {},
                             {Growth::kFixed, 1000, 0},   {Growth::kPerToken, 32, 8},
                             {Growth::kPerToken, 64, 0},  {Growth::kFixed, 1, 0},
                             {Growth::kPerToken, 32, 9}};
  const CacheLayout layout = make_layout(specs, 16);
  ASSERT_EQ(layout.classes.size(), 4u);
  // Slots begin on cache lines: 100 * 16 = 1600 = 25 lines; 1000 takes 1024.
  EXPECT_EQ(layout.classes[0], (SlotClass{Growth::kPerToken, 0, 16, 1600 + 1024}));
  EXPECT_EQ(layout.classes[1], (SlotClass{Growth::kFixed, 0, 1, 1024 + 64}));
  EXPECT_EQ(layout.classes[2], (SlotClass{Growth::kPerToken, 8, 16, 512}));
  EXPECT_EQ(layout.classes[3], (SlotClass{Growth::kPerToken, 9, 16, 512}));
  const Slot expected[] = {{0, 0}, {-1, 0}, {1, 0}, {2, 0}, {0, 1600}, {1, 1024}, {3, 0}};
  for (size_t i = 0; i < layout.slots.size(); ++i) EXPECT_EQ(layout.slots[i], expected[i]) << i;
}

TEST(Layout, SlotsNeverOverlap) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::vector<StateSpec> specs(1 + random() % 12);
    for (StateSpec& s : specs) {
      s.growth = static_cast<Growth>(random() % 3);
      s.bytes = random() % 300;
      s.window_tokens = s.growth == Growth::kPerToken ? static_cast<uint32_t>(random() % 3) : 0;
    }
    const auto block_tokens = static_cast<uint32_t>(1 + random() % 20);
    const CacheLayout layout = make_layout(specs, block_tokens);
    ASSERT_EQ(layout.slots.size(), specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      const Slot& a = layout.slots[i];
      if (specs[i].growth == Growth::kNone) {
        ASSERT_EQ(a.slot_class, -1);
        continue;
      }
      const SlotClass& c = layout.classes[a.slot_class];
      const uint64_t end = a.offset + specs[i].bytes * c.block_tokens;
      ASSERT_EQ(a.offset % 64, 0u);
      ASSERT_LE(end, c.block_bytes);
      ASSERT_EQ(c.growth, specs[i].growth);
      ASSERT_EQ(c.window_tokens, specs[i].window_tokens);
      for (size_t j = i + 1; j < specs.size(); ++j) {
        const Slot& b = layout.slots[j];
        if (b.slot_class != a.slot_class) continue;
        ASSERT_LE(end, b.offset) << "round " << round;
      }
    }
  }
}

// Every rank of a worker counts the same blocks, whatever part of the model it holds.
TEST(Layout, ClassesDoNotDependOnARanksOwnBytes) {
  std::vector<StateSpec> specs = {{Growth::kPerToken, 100, 0},
                                  {Growth::kFixed, 1000, 0},
                                  {Growth::kPerToken, 32, 8},
                                  {Growth::kPerToken, 64, 0}};
  const CacheLayout whole = make_layout(specs, 8);
  specs[0].bytes = specs[1].bytes = specs[2].bytes = 0;  // of other stages
  specs[3].bytes = 16;                                   // a shard's
  const CacheLayout part = make_layout(specs, 8);
  ASSERT_EQ(part.classes.size(), whole.classes.size());
  for (size_t c = 0; c < whole.classes.size(); ++c) {
    EXPECT_EQ(part.classes[c].growth, whole.classes[c].growth);
    EXPECT_EQ(part.classes[c].window_tokens, whole.classes[c].window_tokens);
    EXPECT_EQ(part.classes[c].block_tokens, whole.classes[c].block_tokens);
    EXPECT_EQ(blocks_peak(part.classes[c], 100, 10), blocks_peak(whole.classes[c], 100, 10));
  }
  EXPECT_EQ(part.classes[1].block_bytes, 0u);
}

// ---- block counts ----

// Blocks that hold a position which a row of [begin, end), or any later row, reads or writes.
std::set<uint32_t> blocks_touched(const SlotClass& c, uint32_t begin, uint32_t end) {
  std::set<uint32_t> blocks;
  const uint32_t rows_end = std::max(end, begin + 1);  // begin == end: the next row, later
  for (uint32_t row = begin; row < rows_end; ++row) {
    for (uint32_t p = 0; p <= row; ++p) {
      const bool reads = c.window_tokens == 0 || p + c.window_tokens > row;
      const bool there = p < end;  // later rows are not stored yet
      if (reads && there) blocks.insert(p / c.block_tokens);
    }
  }
  if (begin % c.block_tokens != 0) blocks.insert(begin / c.block_tokens);  // goes on being filled
  return blocks;
}

TEST(Blocks, NeededIsWhatRowsTouch) {
  for (uint32_t block_tokens : {1u, 2u, 3u, 5u, 8u}) {
    for (uint32_t window : {0u, 1u, 2u, 3u, 5u, 8u, 11u}) {
      const SlotClass c{Growth::kPerToken, window, block_tokens, 64};
      for (uint32_t begin = 0; begin < 30; ++begin) {
        for (uint32_t end = begin; end < 40; ++end) {
          ASSERT_EQ(blocks_needed(c, begin, end), blocks_touched(c, begin, end).size())
              << "block " << block_tokens << " window " << window << " [" << begin << ", " << end
              << ")";
        }
      }
    }
  }
  EXPECT_EQ(blocks_needed({Growth::kFixed, 0, 1, 64}, 5, 9), 1u);
}

// The peak is reached by some way to cut a sequence and exceeded by none.
TEST(Blocks, PeakBoundsEveryChunking) {
  std::mt19937_64 random(11);
  for (uint32_t block_tokens : {1u, 2u, 4u, 7u}) {
    for (uint32_t window : {0u, 1u, 2u, 4u, 6u, 13u}) {
      for (uint32_t chunk : {1u, 2u, 3u, 8u, 40u}) {
        for (uint32_t tokens : {1u, 5u, 17u, 64u}) {
          const SlotClass c{Growth::kPerToken, window, block_tokens, 64};
          const uint32_t peak = blocks_peak(c, tokens, chunk);
          uint32_t most = 0;
          for (uint32_t begin = 0; begin < tokens; ++begin) {
            for (uint32_t n = 1; n <= chunk && begin + n <= tokens; ++n)
              most = std::max(most, blocks_needed(c, begin, begin + n));
          }
          ASSERT_GE(peak, most) << fmt::format("block {} window {} chunk {} tokens {}",
                                               block_tokens, window, chunk, tokens);
          if (tokens >= 64 && chunk < 40) {
            ASSERT_LE(peak, most) << fmt::format("block {} window {} chunk {}: too many",
                                                 block_tokens, window, chunk);
          }
        }
      }
    }
  }
  EXPECT_EQ(blocks_peak({Growth::kFixed, 0, 1, 64}, 1000, 10), 1u);
}

TEST(Blocks, CountFillsTheBytesWithWholeSequences) {
  const StateSpec specs[] = {
      {Growth::kPerToken, 64, 0}, {Growth::kPerToken, 64, 4}, {Growth::kFixed, 128, 0}};
  const CacheLayout layout = make_layout(specs, 4);
  // 20 tokens, chunks of 3: 5 full blocks, 3 of the window (6 positions), 1 state.
  const uint64_t one = 5 * 256 + 3 * 256 + 128;
  for (const uint64_t sequences : {1u, 2u, 7u}) {
    for (const uint64_t spare : {uint64_t{0}, one - 1}) {
      const auto blocks = count_blocks(layout, sequences * one + spare, 20, 3, 100);
      ASSERT_TRUE(blocks.ok());
      EXPECT_EQ(*blocks, (std::vector<uint32_t>{static_cast<uint32_t>(5 * sequences),
                                                static_cast<uint32_t>(3 * sequences),
                                                static_cast<uint32_t>(sequences)}));
    }
  }
  EXPECT_EQ(*count_blocks(layout, uint64_t{1} << 40, 20, 3, 6), (std::vector<uint32_t>{30, 18, 6}))
      << "no more than sequences_max";
}

// With prefix caching one sequence fits wherever it would without, nothing is spent twice, and less
// than a unit's worth of bytes per class is left.
TEST(Blocks, CountSpendsAllBytesOnPrefixes) {
  const StateSpec specs[] = {
      {Growth::kPerToken, 64, 0}, {Growth::kPerToken, 64, 4}, {Growth::kFixed, 128, 0}};
  const CacheLayout layout = make_layout(specs, 4);
  const uint64_t one = 5 * 256 + 3 * 256 + 128;
  for (const uint32_t snapshots : {0u, 1u, 7u, 64u}) {
    const PrefixRoom room{.prefix_caching = true, .snapshots_per_sequence = snapshots};
    EXPECT_FALSE(count_blocks(layout, one - 1, 20, 3, 8, room).ok());
    EXPECT_EQ(*count_blocks(layout, one, 20, 3, 8, room), (std::vector<uint32_t>{5, 3, 1}));
    for (const uint64_t bytes : {one + 100, 10 * one + 77, uint64_t{1} << 30}) {
      const auto blocks = count_blocks(layout, bytes, 20, 3, 8, room);
      ASSERT_TRUE(blocks.ok());
      uint64_t spent = 0;
      for (size_t c = 0; c < 3; ++c) spent += (*blocks)[c] * layout.classes[c].block_bytes;
      EXPECT_LE(spent, bytes);
      EXPECT_GT(spent + 256 + 256 + 128, bytes) << "what is left is less than a block of each";
      const double sequences = (*blocks)[0] / 5.0;
      EXPECT_NEAR((*blocks)[1] / 3.0, sequences, 1);
      if (bytes > 100 * one) {
        EXPECT_NEAR((*blocks)[2] / (1.0 + snapshots), sequences, 1);
      }
    }
  }
}

TEST(Blocks, CountsStayInTheirBounds) {
  const StateSpec specs[] = {{Growth::kPerToken, 1, 0}};
  const CacheLayout layout = make_layout(specs, 1);
  const auto most = count_blocks(layout, UINT64_MAX, 1000, 3, 8, {.prefix_caching = true});
  ASSERT_TRUE(most.ok());
  EXPECT_EQ(*most, (std::vector<uint32_t>{1000 + (1u << 24)}));
  const auto many = count_blocks(layout, UINT64_MAX, 1000, 3, UINT32_MAX);
  ASSERT_TRUE(many.ok());
  EXPECT_EQ(*many, (std::vector<uint32_t>{1u << 24}));
  const auto long_one = count_blocks(layout, UINT64_MAX, UINT32_MAX, 3, 1);
  ASSERT_FALSE(long_one.ok());
  EXPECT_EQ(
      long_one.status().message(),
      "one sequence of 4294967295 tokens needs 4294967295 blocks of cache, which is more than "
      "can be numbered: lower max_model_len or raise block_size");
}

TEST(Blocks, RulerSnapshotsGrowWithTheLogarithm) {
  EXPECT_EQ(ruler_snapshots(65536, 256, 2), 2 * 9 + 4u);
  EXPECT_EQ(ruler_snapshots(100, 256, 2), 4u);
  EXPECT_EQ(ruler_snapshots(UINT32_MAX, 1, 1000), 64u);
}

TEST(Blocks, CountSaysWhatDoesNotFit) {
  const StateSpec specs[] = {{Growth::kPerToken, 64, 0}};
  const CacheLayout layout = make_layout(specs, 4);
  const auto blocks = count_blocks(layout, 1279, 20, 3, 8);
  ASSERT_FALSE(blocks.ok());
  EXPECT_EQ(blocks.status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(blocks.status().message(),
            "one sequence of 20 tokens needs 1280 bytes of cache on this rank, the cache has 1279: "
            "lower max_model_len or raise cpu_kv_cache_space, on a GPU "
            "gpu_memory_utilization");
}

// A stage without states, or with bytes of other stages only, has room for everybody.
TEST(Blocks, CountWithoutBytes) {
  EXPECT_TRUE(count_blocks({}, 0, 20, 3, 8)->empty());
  const StateSpec specs[] = {{Growth::kPerToken, 0, 0}, {Growth::kFixed, 0, 0}};
  EXPECT_EQ(*count_blocks(make_layout(specs, 4), 0, 20, 3, 8), (std::vector<uint32_t>{40, 8}));
}

TEST(LayoutDeathTest, BlocksHaveTokens) { EXPECT_DEATH((void)make_layout({}, 0), "block_tokens"); }

}  // namespace
}  // namespace trireme
