// Pools and the blocks of sequences: random lives with full accounting. At each step free + live is
// the pool, every live block is in exactly one table, and each table holds exactly the blocks that
// the rows to come read.
#include "runtime/cache/sequence_blocks.h"

#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/cache/block_store.h"

namespace trireme {
namespace {

using Growth = StateSpec::Growth;

TEST(BlockPool, GivesEachBlockOnce) {
  BlockPool pool(3);
  std::set<BlockId> taken;
  for (int i = 0; i < 3; ++i) taken.insert(*pool.take());
  EXPECT_EQ(taken, (std::set<BlockId>{0, 1, 2}));
  EXPECT_FALSE(pool.take().has_value());
  EXPECT_EQ(pool.free_count(), 0u);
  EXPECT_EQ(pool.live_count(), 3u);
  pool.release(1);
  EXPECT_EQ(pool.generation(1), 1u);
  EXPECT_EQ(pool.generation(0), 0u);
  EXPECT_EQ(*pool.take(), 1) << "the one released last";
}

// Ids never travel between ranks: the same calls must give the same ids everywhere.
TEST(BlockPool, IsDeterministic) {
  BlockPool a(50), b(50);
  std::mt19937_64 random(5);
  std::vector<BlockId> live;
  for (int i = 0; i < 5000; ++i) {
    if (live.empty() || (random() % 2 == 0 && a.free_count() > 0)) {
      live.push_back(*a.take());
      ASSERT_EQ(*b.take(), live.back());
    } else {
      const size_t at = random() % live.size();
      a.release(live[at]);
      b.release(live[at]);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
    }
    ASSERT_EQ(a.live_count(), live.size());
    ASSERT_EQ(a.free_count() + a.live_count(), a.total());
  }
}

TEST(BlockPoolDeathTest, ABlockIsReleasedOnce) {
  BlockPool pool(2);
  const BlockId id = *pool.take();
  pool.release(id);
  EXPECT_DEATH(pool.release(id), "is not live");
  EXPECT_DEATH(pool.release(7), "block 7 is not live");
  EXPECT_DEATH(pool.release(-1), "is not live");
}

struct Life {
  SequenceBlocks blocks;
  uint32_t computed = 0;
};

void check_accounts(const CacheLayout& layout, const std::vector<BlockPool>& pools,
                    const std::vector<Life>& lives) {
  for (size_t c = 0; c < pools.size(); ++c) {
    std::set<BlockId> owned;
    for (const Life& life : lives) {
      const SequenceBlocks::Table& table = life.blocks.table(c);
      for (const BlockId id : table.ids) ASSERT_TRUE(owned.insert(id).second) << "two owners";
      if (table.ids.empty()) continue;
      // From the first readable block to the last computed position, and nothing else.
      ASSERT_EQ(table.ids.size(), blocks_needed(layout.classes[c], life.computed, life.computed));
      if (layout.classes[c].growth == Growth::kFixed) continue;
      ASSERT_EQ(table.first_block,
                first_readable(layout.classes[c], life.computed) / layout.classes[c].block_tokens);
    }
    ASSERT_EQ(owned.size(), pools[c].live_count());
    ASSERT_EQ(pools[c].free_count() + pools[c].live_count(), pools[c].total());
  }
}

TEST(SequenceBlocks, RandomLivesAddUp) {
  uint64_t refused = 0, advanced = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const auto upto = [&](uint32_t max) { return static_cast<uint32_t>(random() % (max + 1)); };
    const StateSpec specs[] = {
        {Growth::kPerToken, 8, 0}, {Growth::kPerToken, 8, 1 + upto(20)}, {Growth::kFixed, 8, 0}};
    const CacheLayout layout = make_layout(specs, 1 + upto(6));
    std::vector<BlockPool> pools;
    for (size_t c = 0; c < layout.classes.size(); ++c) pools.emplace_back(6 + upto(60));
    std::vector<Life> lives(6, Life{SequenceBlocks(layout), 0});
    for (int step = 0; step < 600; ++step) {
      Life& life = lives[upto(5)];
      if (upto(12) == 0 || life.computed > 120) {
        life.blocks.release(pools);
        life.computed = 0;
      } else {
        const uint32_t end = life.computed + 1 + upto(8);
        const auto before = life.blocks.table(0).ids;
        if (life.blocks.advance(pools, life.computed, end)) {
          // While its rows run it covers all that they read and write.
          for (size_t c = 0; c < layout.classes.size(); ++c) {
            const SlotClass& shape = layout.classes[c];
            const SequenceBlocks::Table& table = life.blocks.table(c);
            if (shape.growth == Growth::kFixed) {
              ASSERT_EQ(table.ids.size(), 1u);
              continue;
            }
            ASSERT_LE(table.first_block * shape.block_tokens, first_readable(shape, life.computed));
            ASSERT_GE((table.first_block + table.ids.size()) * shape.block_tokens, end);
            ASSERT_EQ(table.ids.size(), blocks_needed(shape, life.computed, end));
          }
          life.computed = end;
          ++advanced;
        } else {
          ASSERT_EQ(life.blocks.table(0).ids, before) << "a refusal takes nothing";
          ++refused;
        }
        // A sequence that was refused at its beginning holds nothing, not even its state.
        if (life.computed > 0) {
          ASSERT_TRUE(life.blocks.advance(pools, life.computed, life.computed));
        }
      }
      check_accounts(layout, pools, lives);
      if (HasFatalFailure()) return;
    }
    for (Life& life : lives) life.blocks.release(pools);
    for (const BlockPool& pool : pools) EXPECT_EQ(pool.live_count(), 0u);
  }
  EXPECT_GT(advanced, 10000u);
  EXPECT_GT(refused, 1000u);
}

TEST(SequenceBlocks, BlocksThatLeftTheWindowGoBack) {
  const StateSpec specs[] = {{Growth::kPerToken, 8, 5}};
  const CacheLayout layout = make_layout(specs, 4);
  std::vector<BlockPool> pools = {BlockPool(10)};
  SequenceBlocks blocks(layout);
  ASSERT_TRUE(blocks.advance(pools, 0, 12));
  EXPECT_EQ(pools[0].live_count(), 3u);
  ASSERT_TRUE(blocks.advance(pools, 12, 12));  // 12 reads 8..11
  EXPECT_EQ(pools[0].live_count(), 1u);
  EXPECT_EQ(blocks.table(0).first_block, 2u);
  ASSERT_TRUE(blocks.advance(pools, 12, 13));
  EXPECT_EQ(pools[0].live_count(), 2u);
  blocks.release(pools);
  EXPECT_EQ(pools[0].live_count(), 0u);
  EXPECT_EQ(blocks.table(0).first_block, 0u) << "it may begin again";
}

TEST(BlockStore, BlocksLieSideBySide) {
  const std::unique_ptr<Device> device = make_ref_device();
  const StateSpec specs[] = {
      {Growth::kPerToken, 8, 0}, {Growth::kFixed, 100, 0}, {Growth::kPerToken, 0, 3}};
  const CacheLayout layout = make_layout(specs, 4);
  const uint32_t blocks[] = {3, 2, 5};
  const auto store = BlockStore::make(*device, layout, blocks);
  ASSERT_TRUE(store.ok());
  EXPECT_EQ(store->bytes(), 3u * 64 + 2 * 128);
  EXPECT_EQ(store->block(0, 2) - store->arena(0), 128);
  EXPECT_EQ(store->block(1, 1) - store->arena(1), 128);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(store->arena(1)) % 64, 0u);
  EXPECT_EQ(store->block_stride(2), 0u) << "another stage's";
}

}  // namespace
}  // namespace trireme
