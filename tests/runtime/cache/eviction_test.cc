// What gives way first, case by case, and what a match is worth after the state it was made in.
#include <algorithm>
#include <memory>

#include <gtest/gtest.h>

#include "runtime/cache/block_cache.h"

namespace trireme {
namespace {

using Growth = StateSpec::Growth;

// A cache of granules of 4 tokens in blocks of 4, and sequences that run to their ends at once.
class Eviction : public ::testing::Test {
 protected:
  void make(std::vector<StateSpec> specs, std::vector<uint32_t> totals, size_t nodes_max = 100) {
    layout_ = make_layout(specs, 4);
    cache_ = std::make_unique<BlockCache>(
        layout_, totals,
        BlockCacheOptions{
            .granule = 4, .ruler_keep = 2, .fingerprint = "", .nodes_max = nodes_max});
  }
  // `count` tokens that begin with `first`, which no other text begins with.
  static std::vector<int32_t> text(int32_t first, uint32_t count) {
    std::vector<int32_t> tokens(count, 7);
    tokens[0] = first;
    return tokens;
  }
  uint32_t found(const std::vector<int32_t>& tokens) const {
    return cache_->match(tokens, "", static_cast<uint32_t>(tokens.size())).position;
  }
  // Computes `tokens` from where they can be resumed, `chunk` at a time, with snapshots.
  std::unique_ptr<SequenceBlocks> compute(const std::vector<int32_t>& tokens, uint64_t time,
                                          uint32_t chunk = 4) {
    auto blocks = std::make_unique<SequenceBlocks>(layout_);
    const auto count = static_cast<uint32_t>(tokens.size());
    uint32_t at = cache_->attach(*blocks, cache_->match(tokens, "", count - 1), time, copies_);
    while (at < count) {
      const uint32_t to = std::min(at + chunk, count);
      EXPECT_TRUE(cache_->advance(*blocks, at, to));
      cache_->publish(*blocks, tokens, to, {.snapshot = true}, time, copies_);
      at = to;
    }
    EXPECT_TRUE(cache_->advance(*blocks, at, at));
    return blocks;
  }
  void compute_and_leave(const std::vector<int32_t>& tokens, uint64_t time) {
    cache_->release(*compute(tokens, time));
  }
  // Live blocks of nobody's tokens.
  std::unique_ptr<SequenceBlocks> occupy(uint32_t tokens) {
    auto blocks = std::make_unique<SequenceBlocks>(layout_);
    EXPECT_TRUE(cache_->advance(*blocks, 0, tokens));
    return blocks;
  }

  CacheLayout layout_;
  std::unique_ptr<BlockCache> cache_;
  std::vector<BlockCopy> copies_;
};

TEST_F(Eviction, FullRowsGoFromTheEndOfTheChainUsedLeastRecently) {
  make({{Growth::kPerToken, 8, 0}}, {8});
  compute_and_leave(text(1, 16), 1);
  compute_and_leave(text(2, 16), 2);
  EXPECT_EQ(cache_->usage(0), (ClassUsage{8, 0, 0, 8}));
  const auto one = occupy(4);
  EXPECT_EQ(found(text(1, 16)), 12u) << "the deepest of the older";
  EXPECT_EQ(found(text(2, 16)), 16u);
  cache_->release(*one);
  compute_and_leave(text(1, 12), 3);  // used again, up to 8: the last row is computed anew
  const auto three = occupy(12);
  EXPECT_EQ(found(text(1, 16)), 12u);
  EXPECT_EQ(found(text(2, 16)), 8u);
  cache_->release(*three);
}

TEST_F(Eviction, WhatSequencesHoldIsPassedOver) {
  make({{Growth::kPerToken, 8, 0}}, {6});
  const auto running = compute(text(1, 8), 1);
  compute_and_leave(text(2, 16), 9);
  EXPECT_EQ(cache_->usage(0), (ClassUsage{6, 0, 2, 4}));
  const auto all = occupy(16);
  EXPECT_EQ(found(text(1, 8)), 8u) << "though it was used earlier";
  EXPECT_EQ(found(text(2, 16)), 0u);
  auto more = std::make_unique<SequenceBlocks>(layout_);
  EXPECT_FALSE(cache_->advance(*more, 0, 1));
  EXPECT_TRUE(more->empty());
}

TEST_F(Eviction, WindowsGoFromTheBeginning) {
  make({{Growth::kPerToken, 8, 5}}, {6});
  compute_and_leave(text(1, 24), 1);  // each granule's block is the window of its end
  EXPECT_EQ(cache_->usage(0), (ClassUsage{6, 0, 0, 6}));
  const auto some = occupy(16);
  EXPECT_EQ(found(text(1, 24)), 24u);
  EXPECT_EQ(found(text(1, 20)), 20u);
  EXPECT_EQ(found(text(1, 16)), 0u);
}

TEST_F(Eviction, ThinnedSnapshotsGoFirst) {
  make({{Growth::kFixed, 8, 0}}, {9});
  compute_and_leave(text(1, 4), 1);
  // Levels of 4, 8, ... 24: 0 1 0 2 0 1: three of level 0, of which 4 is thinned.
  auto running = compute(text(2, 24), 2);
  EXPECT_EQ(cache_->usage(0), (ClassUsage{9, 1, 1, 7}));
  const auto one = occupy(1), two = occupy(1);
  EXPECT_EQ(found(text(1, 4)), 4u) << "older than the one that was thinned";
  EXPECT_EQ(found(text(2, 7)), 0u);
  EXPECT_EQ(found(text(2, 8)), 8u);
  const auto three = occupy(1);
  EXPECT_EQ(found(text(1, 4)), 0u);
  EXPECT_EQ(found(text(2, 8)), 8u);
  EXPECT_EQ(cache_->match(text(1, 8), "", 8).junction, 4u) << "that it was seen is still known";
}

TEST_F(Eviction, EndsOfTurnsAreNotThinned) {
  make({{Growth::kFixed, 8, 0}}, {40});
  SequenceBlocks blocks(layout_);
  const std::vector<int32_t> tokens = text(1, 64);
  cache_->attach(blocks, cache_->match(tokens, "", 0), 1, copies_);
  for (uint32_t p = 4; p <= 64; p += 4) {
    ASSERT_TRUE(cache_->advance(blocks, p - 4, p));
    cache_->publish(blocks, tokens, p, {.snapshot = true, .end_of_turn = p == 4}, p, copies_);
  }
  // 16 positions: two each of levels 0, 1, 2, one each of 3 and 4, and the end of turn at 4.
  const uint32_t kept = 2 + 2 + 2 + 1 + 1 + 1;
  std::vector<std::unique_ptr<SequenceBlocks>> others;
  while (cache_->usage(0).free + cache_->usage(0).cached > kept) others.push_back(occupy(1));
  EXPECT_EQ(found(text(1, 4)), 4u);
  EXPECT_EQ(found(text(1, 15)), 4u) << "8 and 12 were thinned";
  for (const uint32_t p : {16u, 32u, 40u, 48u, 52u, 56u, 60u, 64u}) EXPECT_EQ(found(text(1, p)), p);
}

// 65,536 tokens on a grid of 256 leave two states per level: 16 of the 256 that were taken.
TEST_F(Eviction, ALongPromptLeavesAHandfulOfStates) {
  layout_ = make_layout(std::vector<StateSpec>{{Growth::kFixed, 8, 0}}, 4);
  const uint32_t totals[] = {300};
  cache_ = std::make_unique<BlockCache>(layout_, totals,
                                        BlockCacheOptions{.granule = 256, .fingerprint = ""});
  const auto running = compute(text(1, 65536), 1, 256);
  EXPECT_EQ(cache_->stats().snapshots, 256u);
  // What the rule keeps: the two newest odd multiples of each power of two.
  std::vector<uint32_t> kept;
  for (uint32_t step = 1; step <= 256; step *= 2) {
    uint32_t of_level = 0;
    for (uint32_t k = 256 / step; k > 0 && of_level < 2; --k) {
      if (k % 2 == 1) kept.push_back(k * step * 256), ++of_level;
    }
  }
  EXPECT_EQ(kept.size(), 16u);  // two each of 7 levels; one each of the positions 32768, 65536
  std::vector<std::unique_ptr<SequenceBlocks>> others;
  while (cache_->usage(0).free + cache_->usage(0).cached > kept.size()) others.push_back(occupy(1));
  const std::vector<int32_t> tokens = text(1, 65536);
  std::vector<uint32_t> there;
  for (uint32_t p = 65536; p > 0;) {
    p = cache_->match(tokens, "", p).position;
    if (p == 0) break;
    there.push_back(p--);
  }
  std::sort(kept.rbegin(), kept.rend());
  EXPECT_EQ(there, kept);
}

// Blocks that were live when the match was made are only cached when it is used: the counts of the
// match promise too much.
TEST_F(Eviction, AnOldMatchIsCountedAnew) {
  make({{Growth::kPerToken, 8, 0}}, {4});
  auto running = compute(text(1, 10), 1);  // blocks of 8 tokens remembered, one more live
  const std::vector<int32_t> tokens = text(1, 9);
  const Match match = cache_->match(tokens, "", 8);
  ASSERT_EQ(match.position, 8u);
  ASSERT_EQ(match.blocks[0], (Match::Blocks{2, 0, 0}));
  cache_->release(*running);
  const auto three = occupy(12);
  SequenceBlocks late(layout_);
  EXPECT_EQ(cache_->attach(late, match, 2, copies_), 0u) << "half of it was evicted";
  EXPECT_TRUE(late.empty());
  const SequenceBlocks* held[] = {three.get()};
  cache_->check(held);
}

TEST_F(Eviction, AnOldMatchOfAPartlyFilledBlockNeedsRoom) {
  make({{Growth::kPerToken, 8, 0}, {Growth::kFixed, 8, 0}}, {3, 4});
  auto running = compute(text(1, 8), 1);
  const std::vector<int32_t> tokens = text(1, 9);
  const Match match = cache_->match(tokens, "", 8);
  ASSERT_EQ(match.blocks[0], (Match::Blocks{2, 0, 0}));
  cache_->release(*running);
  const auto a = occupy(1), b = occupy(0), c = occupy(0);
  SequenceBlocks late(layout_);
  // One fixed block is left, which is the snapshot's own: it gives way to the sequence's state.
  copies_.clear();
  EXPECT_EQ(cache_->attach(late, match, 2, copies_), 8u);
  EXPECT_EQ(cache_->usage(0).live, 3u);
  EXPECT_EQ(cache_->usage(1), (ClassUsage{4, 0, 4, 0}));
  EXPECT_TRUE(copies_.empty()) << "the block is the state already";
  const SequenceBlocks* held[] = {a.get(), b.get(), c.get(), &late};
  cache_->check(held);
}

TEST_F(Eviction, NodesAreBounded) {
  make({{Growth::kFixed, 8, 0}}, {4}, 10);
  for (int32_t i = 0; i < 100; ++i) {
    compute_and_leave(text(i, 12), static_cast<uint64_t>(i));
    ASSERT_LE(cache_->stats().nodes, 10u);
    cache_->check({});
  }
  EXPECT_EQ(found(text(99, 12)), 12u);
  // A chain longer than that is remembered as far as it goes, and costs nothing else.
  compute_and_leave(text(1000, 100), 1000);
  EXPECT_LE(cache_->stats().nodes, 10u);
  cache_->check({});
}

// A chain that was forgotten while its sequence ran is remembered from the start at its end.
TEST_F(Eviction, AForgottenChainBeginsAnewAtTheEndOfATurn) {
  make({{Growth::kPerToken, 8, 0}}, {20});
  auto running = compute(text(1, 10), 1);
  cache_->reset();
  const std::vector<int32_t> tokens = text(1, 15);
  ASSERT_TRUE(cache_->advance(*running, 10, 13));
  cache_->publish(*running, tokens, 13, {}, 2, copies_);
  EXPECT_EQ(found(tokens), 0u);
  ASSERT_TRUE(cache_->advance(*running, 13, 14));
  cache_->publish(*running, tokens, 14, {.end_of_turn = true}, 3, copies_);
  EXPECT_EQ(found(tokens), 14u);
  const SequenceBlocks* held[] = {running.get()};
  cache_->check(held);
  cache_->release(*running);
}

}  // namespace
}  // namespace trireme
