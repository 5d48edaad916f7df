// The prefix cache with contents: blocks whose rows say which tokens they were computed from.
// Random lives of sequences over every kind of layout, with tight pools; each step reads all that
// its rows may read and finds what belongs there, whoever computed it; two caches that are called
// alike stay alike.
#include "runtime/cache/block_cache.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/cache/prefix_index.h"

namespace trireme {
namespace {

using Growth = StateSpec::Growth;

uint64_t hash_of(uint64_t before, int32_t token) {
  return mix_digest(before, static_cast<uint64_t>(token) + 1);
}

struct World {
  std::vector<StateSpec> specs;
  uint32_t block_tokens = 4, granule = 4;
  uint32_t sequences = 4;  // of the greatest length that fit
  uint32_t tokens_max = 40;
  int alphabet = 2;
};

// One sequence and what its prefix hashes to at each position.
struct Life {
  std::vector<int32_t> tokens;
  std::vector<uint64_t> hashes;  // [p]: of tokens [0, p]
  uint32_t computed = 0;
  uint32_t junction = 0;
  std::string salt;
  std::unique_ptr<SequenceBlocks> blocks, twin;
  void push(int32_t token) {
    tokens.push_back(token);
    hashes.push_back(hash_of(hashes.empty() ? mix_digest(1, salt.size()) : hashes.back(), token));
  }
};

class Simulation {
 public:
  Simulation(const World& world, uint64_t seed)
      : world_(world), random_(seed), layout_(make_layout(world.specs, world.block_tokens)) {
    for (const SlotClass& c : layout_.classes) {
      const uint32_t peak = blocks_peak(c, world.tokens_max, kChunk);
      totals_.push_back(world.sequences * peak + up_to(2 * peak));
      memory_.emplace_back(totals_.back() * c.block_tokens, 0xDEAD);
    }
    BlockCacheOptions options;
    options.granule = world.granule;
    options.fingerprint = "test";
    options.nodes_max = 200;
    cache_ = std::make_unique<BlockCache>(layout_, totals_, options);
    twin_ = std::make_unique<BlockCache>(layout_, totals_, options);
  }

  void run(int steps) {
    for (time_ = 1; time_ <= static_cast<uint64_t>(steps); ++time_) {
      const uint32_t what = up_to(9);
      if (what < 2 && lives_.size() < 8) {
        begin();
      } else if (what == 2 && !lives_.empty()) {
        end(pick(), up_to(2) > 0);
      } else if (what == 3 && !lives_.empty()) {
        fork(pick());
      } else if (!lives_.empty()) {
        step(pick());
      }
      if (up_to(400) == 0) reset();
      check();
      if (::testing::Test::HasFailure()) return;
    }
    while (!lives_.empty()) end(0, true);
    check();
    for (const ClassUsage& u : cache_->usage()) EXPECT_EQ(u.live, 0u);
  }
  const CacheStats stats() const { return cache_->stats(); }
  uint64_t resumed() const { return resumed_; }

 private:
  static constexpr uint32_t kChunk = 12;
  uint32_t up_to(uint32_t max) { return static_cast<uint32_t>(random_() % (uint64_t{max} + 1)); }
  size_t pick() { return up_to(static_cast<uint32_t>(lives_.size()) - 1); }
  uint64_t& cell(size_t c, BlockId block, uint32_t row) {
    return memory_[c][static_cast<size_t>(block) * layout_.classes[c].block_tokens + row];
  }
  void perform(const std::vector<BlockCopy>& copies, const std::vector<BlockCopy>& twins) {
    EXPECT_EQ(copies, twins);
    for (const BlockCopy& copy : copies) {
      for (uint32_t r = 0; r < layout_.classes[copy.slot_class].block_tokens; ++r)
        cell(copy.slot_class, copy.to, r) = cell(copy.slot_class, copy.from, r);
    }
  }

  void begin() {
    Life life;
    life.salt = up_to(5) == 0 ? "s" : "";
    // Mostly a prompt that was used before, cut and gone on from.
    if (!old_.empty() && up_to(3) > 0) {
      const std::vector<int32_t>& before = old_[up_to(static_cast<uint32_t>(old_.size()) - 1)];
      for (size_t n = up_to(static_cast<uint32_t>(before.size())), i = 0; i < n; ++i)
        life.push(before[i]);
    }
    while (life.tokens.empty() || up_to(5) > 0) {
      if (life.tokens.size() >= world_.tokens_max) break;
      life.push(static_cast<int32_t>(up_to(static_cast<uint32_t>(world_.alphabet) - 1)));
    }
    life.blocks = std::make_unique<SequenceBlocks>(layout_);
    life.twin = std::make_unique<SequenceBlocks>(layout_);
    const auto limit = static_cast<uint32_t>(life.tokens.size()) - 1;
    const Match match = cache_->match(life.tokens, life.salt, limit);
    EXPECT_LE(match.position, limit);
    EXPECT_EQ(match.position, twin_->match(life.tokens, life.salt, limit).position);
    std::vector<BlockCopy> copies, twins;
    life.computed = cache_->attach(*life.blocks, match, time_, copies);
    EXPECT_EQ(life.computed, twin_->attach(*life.twin, match, time_, twins));
    perform(copies, twins);
    if (life.computed > 0) ++resumed_;
    life.junction =
        cache_->needs_snapshots() && match.junction > life.computed ? match.junction : 0;
    lives_.push_back(std::move(life));
  }

  // Reads what rows from `computed` on may read, then writes them.
  void step(size_t i) {
    Life& life = lives_[i];
    if (life.computed == life.tokens.size()) {
      if (life.tokens.size() >= world_.tokens_max) return end(i, true);
      life.push(static_cast<int32_t>(up_to(static_cast<uint32_t>(world_.alphabet) - 1)));
    }
    const auto known = static_cast<uint32_t>(life.tokens.size());
    uint32_t to = std::min(known, life.computed + 1 + up_to(kChunk - 1));
    if (life.junction > life.computed && to > life.junction) to = life.junction;
    if (up_to(1) == 0 && to / world_.granule * world_.granule > life.computed)
      to = to / world_.granule * world_.granule;
    const bool room = cache_->advance(*life.blocks, life.computed, to);
    EXPECT_EQ(room, twin_->advance(*life.twin, life.computed, to));
    if (!room) return end(i, false);  // as a preemption would
    for (size_t c = 0; c < layout_.classes.size(); ++c) {
      const SlotClass& shape = layout_.classes[c];
      const SequenceBlocks::Table& table = life.blocks->table(c);
      if (shape.growth == Growth::kFixed) {
        if (life.computed > 0) {
          EXPECT_EQ(cell(c, table.ids[0], 0), life.hashes[life.computed - 1])
              << "a state of other tokens";
        }
        cell(c, table.ids[0], 0) = life.hashes[to - 1];
        continue;
      }
      for (uint32_t p = first_readable(shape, life.computed); p < to; ++p) {
        const uint32_t block = p / shape.block_tokens;
        ASSERT_GE(block, table.first_block);
        ASSERT_LT(block - table.first_block, table.ids.size());
        uint64_t& row = cell(c, table.ids[block - table.first_block], p % shape.block_tokens);
        if (p < life.computed) {
          EXPECT_EQ(row, life.hashes[p]) << "class " << c << " row " << p << " of other tokens";
        } else {
          row = life.hashes[p];
        }
      }
    }
    life.computed = to;
    Publish what;
    what.snapshot = cache_->snapshot_due(to);
    what.junction = to == life.junction;
    std::vector<BlockCopy> copies, twins;
    cache_->publish(*life.blocks, life.tokens, to, what, time_, copies);
    twin_->publish(*life.twin, life.tokens, to, what, time_, twins);
    perform(copies, twins);
    EXPECT_TRUE(cache_->advance(*life.blocks, to, to));
    EXPECT_TRUE(twin_->advance(*life.twin, to, to));
  }

  void end(size_t i, bool complete) {
    Life& life = lives_[i];
    std::vector<BlockCopy> copies, twins;
    if (complete && life.computed > 0) {
      cache_->publish(*life.blocks, life.tokens, life.computed, {.end_of_turn = true}, time_,
                      copies);
      twin_->publish(*life.twin, life.tokens, life.computed, {.end_of_turn = true}, time_, twins);
      perform(copies, twins);
      old_.push_back(life.tokens);
      if (old_.size() > 20) old_.erase(old_.begin());
    }
    cache_->release(*life.blocks);
    twin_->release(*life.twin);
    lives_.erase(lives_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  void fork(size_t i) {
    if (lives_.size() >= 8 || lives_[i].computed == 0) return;
    Life child;
    child.salt = lives_[i].salt;
    for (uint32_t p = 0; p < lives_[i].computed; ++p) child.push(lives_[i].tokens[p]);
    child.computed = lives_[i].computed;
    child.blocks = std::make_unique<SequenceBlocks>(layout_);
    child.twin = std::make_unique<SequenceBlocks>(layout_);
    std::vector<BlockCopy> copies, twins;
    const bool forked = cache_->fork(*lives_[i].blocks, child.computed, *child.blocks, copies);
    EXPECT_EQ(forked, twin_->fork(*lives_[i].twin, child.computed, *child.twin, twins));
    perform(copies, twins);
    if (forked) lives_.push_back(std::move(child));
  }

  // Sequences go on; what they publish from now on is new.
  void reset() {
    cache_->reset();
    twin_->reset();
  }

  void check() {
    std::vector<const SequenceBlocks*> held, twins;
    for (const Life& life : lives_) {
      held.push_back(life.blocks.get());
      twins.push_back(life.twin.get());
    }
    cache_->check(held);
    EXPECT_EQ(cache_->digest(), twin_->digest()) << "two caches came apart at " << time_;
    EXPECT_EQ(cache_->usage(), twin_->usage());
  }

  const World world_;
  std::mt19937_64 random_;
  const CacheLayout layout_;
  std::vector<uint32_t> totals_;
  std::vector<std::vector<uint64_t>> memory_;
  std::unique_ptr<BlockCache> cache_, twin_;
  std::vector<Life> lives_;
  std::vector<std::vector<int32_t>> old_;
  uint64_t time_ = 0, resumed_ = 0;
};

const std::map<std::string, std::vector<StateSpec>> kLayouts = {
    {"full", {{Growth::kPerToken, 16, 0}}},
    {"window", {{Growth::kPerToken, 16, 7}}},
    {"window of one", {{Growth::kPerToken, 16, 1}, {Growth::kPerToken, 16, 0}}},
    {"fixed", {{Growth::kFixed, 64, 0}}},
    {"full and window", {{Growth::kPerToken, 16, 0}, {Growth::kPerToken, 16, 9}}},
    {"full and fixed", {{Growth::kPerToken, 16, 0}, {Growth::kFixed, 64, 0}}},
    {"all",
     {{Growth::kPerToken, 16, 0},
      {Growth::kPerToken, 16, 5},
      {Growth::kPerToken, 16, 12},
      {Growth::kFixed, 64, 0}}}};

TEST(BlockCache, SequencesFindWhatBelongsToThem) {
  uint64_t resumed = 0, evicted = 0, snapshots = 0, nodes_dropped = 0;
  for (const auto& [name, specs] : kLayouts) {
    for (const auto& [block_tokens, granule] : std::vector<std::pair<uint32_t, uint32_t>>{
             {1, 4}, {3, 4}, {4, 4}, {16, 6}, {2, 8}, {5, 5}}) {
      for (uint64_t seed = 1; seed <= 6; ++seed) {
        SCOPED_TRACE(
            fmt::format("{} block {} granule {} seed {}", name, block_tokens, granule, seed));
        World world;
        world.specs = specs;
        world.block_tokens = block_tokens;
        world.granule = granule;
        world.sequences = 1 + static_cast<uint32_t>(seed % 4);
        Simulation simulation(world, seed);
        simulation.run(600);
        if (::testing::Test::HasFailure()) return;
        resumed += simulation.resumed();
        const CacheStats stats = simulation.stats();
        evicted += stats.blocks_evicted;
        snapshots += stats.snapshots;
        nodes_dropped += stats.nodes_dropped;
      }
    }
  }
  EXPECT_GT(resumed, 1000u);
  EXPECT_GT(evicted, 2000u);
  EXPECT_GT(snapshots, 2000u);
}

// A sequence that gave up its blocks and gets its bytes back from elsewhere asks for no prefix, so
// none is counted; what it publishes is what it would have published, had it stayed.
TEST(BlockCache, WhatComesBackFromElsewhereIsNoLookup) {
  const CacheLayout layout = make_layout(std::vector<StateSpec>{{Growth::kPerToken, 16, 0}}, 4);
  const uint32_t total[] = {20};
  BlockCache cache(layout, total, {.granule = 4, .fingerprint = "test"});
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<BlockCopy> copies;
  SequenceBlocks blocks(layout);
  ASSERT_EQ(cache.attach(blocks, cache.match(tokens, "salt", 8), 1, copies), 0u);
  ASSERT_TRUE(cache.advance(blocks, 0, 4));
  cache.publish(blocks, tokens, 4, {}, 1, copies);
  cache.release(blocks);
  const CacheStats before = cache.stats();
  EXPECT_EQ(before.lookups, 1u);
  EXPECT_EQ(before.lookup_tokens, 8u);

  cache.attach_to_root(blocks, "salt");
  ASSERT_TRUE(cache.advance(blocks, 4, 8));
  cache.publish(blocks, tokens, 8, {}, 2, copies);
  EXPECT_EQ(cache.stats().lookups, before.lookups);
  EXPECT_EQ(cache.stats().lookup_tokens, before.lookup_tokens);
  EXPECT_EQ(cache.match(tokens, "salt", 8).position, 8u);
  EXPECT_EQ(cache.match(tokens, "other", 8).position, 0u);
  const SequenceBlocks* held[] = {&blocks};
  cache.check(held);
  cache.release(blocks);
  EXPECT_EQ(cache.usage(0).live, 0u);
}

TEST(BlockCache, KeysAreSha256Chains) {
  // hashlib: k0 = sha256(sha256(b"model") + b"tenant"), k1 = sha256(k0 + struct.pack("<3i", 1, -2,
  // 300000))
  const KeyHasher hasher("model");
  const BlockKey root = hasher.root("tenant");
  const int32_t tokens[] = {1, -2, 300000};
  const BlockKey next = hasher.next(root, tokens);
  const auto hex = [](const BlockKey& key) {
    std::string text;
    for (const uint8_t b : key.bytes) text += fmt::format("{:02x}", b);
    return text;
  };
  EXPECT_EQ(hex(root), "1dbb3c0d5a772f3f645980983fe2c748ccc3a029c70e29de067cbd232b4699d2");
  EXPECT_EQ(hex(next), "7cd871787a51770cc9b9cc6409e6716411a47baa035b236db28c92135a7d7b48");
}

// A prompt of 65,536 tokens on a grid of 256: the newest two snapshots of each level of the ruler.
TEST(BlockCache, TheRulerKeepsFewSnapshotsNearTheEnd) {
  const CacheLayout layout = make_layout(std::vector<StateSpec>{{Growth::kFixed, 64, 0}}, 16);
  const uint32_t total[] = {400};
  BlockCacheOptions options;
  options.granule = 256;
  options.ruler_keep = 2;
  BlockCache cache(layout, total, options);
  SequenceBlocks blocks(layout);
  std::vector<int32_t> tokens(65536 + 256);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7 % 1000);
  std::vector<BlockCopy> copies;
  ASSERT_EQ(cache.attach(blocks, cache.match(tokens, "", 65536), 1, copies), 0u);
  for (uint32_t p = 256; p <= 65536; p += 256) {
    ASSERT_TRUE(cache.advance(blocks, p - 256, p));
    cache.publish(blocks, tokens, p, {.snapshot = true}, p, copies);
  }
  // Make the pool so tight that only what the ruler keeps survives.
  std::vector<std::unique_ptr<SequenceBlocks>> others;
  while (cache.usage(0).free + cache.usage(0).cached > 18) {
    others.push_back(std::make_unique<SequenceBlocks>(layout));
    ASSERT_TRUE(cache.advance(*others.back(), 0, 1));
  }
  // A tail that was edited at distance d from the end resumes at the nearest snapshot before it.
  std::mt19937_64 random(5);
  double recomputed = 0;
  constexpr int kEdits = 4000;
  for (int i = 0; i < kEdits; ++i) {
    const double u = (static_cast<double>(random() % 1000000) + 0.5) / 1e6;
    const auto distance = static_cast<uint32_t>(std::min(-2000.0 * std::log(u), 65000.0));
    const uint32_t same = 65536 - distance;
    recomputed += same - cache.match(std::span(tokens).first(same + 1), "", same).position;
  }
  // The reference simulation of this rule: 425 tokens on average with 16 states.
  EXPECT_LT(recomputed / kEdits, 475);
  EXPECT_GT(recomputed / kEdits, 250);
  for (const auto& other : others) cache.release(*other);
  cache.release(blocks);
}

}  // namespace
}  // namespace trireme
