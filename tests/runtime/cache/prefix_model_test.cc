// The prefix index against a model that is slow and obviously right: maps from whole prefixes,
// token by token, to what was remembered of them. Where nothing is evicted both find the same
// resume point, the same junction and count the same blocks. Where blocks are short the index may
// have forgotten, but never finds what the model does not have, and the planner's law holds: what
// is free or cached is enough.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/cache/block_cache.h"

namespace trireme {
namespace {

using Growth = StateSpec::Growth;
using Prefix = std::vector<int32_t>;  // the salt as its first number

struct Setting {
  std::vector<StateSpec> specs;
  uint32_t block_tokens = 1, granule = 4;
  bool ample = true;  // no eviction ever
};

// What was remembered, for ever.
class Model {
 public:
  Model(const CacheLayout& layout, uint32_t granule) : layout_(layout), granule_(granule) {}

  void publish(const Prefix& tokens, uint32_t before, uint32_t computed, bool snapshot,
               bool end_of_turn) {
    for (uint32_t p = before / granule_ * granule_ + granule_; p <= computed; p += granule_)
      remember(tokens, p);
    remember(tokens, 0);
    if (end_of_turn && computed > 0) remember(tokens, computed);
    if ((computed % granule_ == 0 && snapshot) || end_of_turn)
      snapshots_.insert(prefix(tokens, computed));
  }
  uint32_t junction(const Prefix& tokens, uint32_t limit) const {
    uint32_t p = 0;
    while (p + granule_ <= limit && seen_.contains(prefix(tokens, p + granule_))) p += granule_;
    return p;
  }
  bool resumable(const Prefix& tokens, uint32_t p) const {
    if (!seen_.contains(prefix(tokens, p))) return false;
    for (const SlotClass& c : layout_.classes) {
      if (c.growth == Growth::kFixed && !snapshots_.contains(prefix(tokens, p))) return false;
    }
    return true;
  }
  uint32_t match(const Prefix& tokens, uint32_t limit) const {
    for (uint32_t p = limit; p > 0; --p) {
      if (resumable(tokens, p)) return p;
    }
    return 0;
  }

 private:
  static Prefix prefix(const Prefix& tokens, uint32_t p) {
    return {tokens.begin(), tokens.begin() + 1 + p};
  }
  void remember(const Prefix& tokens, uint32_t p) { seen_.insert(prefix(tokens, p)); }

  const CacheLayout& layout_;
  const uint32_t granule_;
  std::set<Prefix> seen_, snapshots_;
};

struct Life {
  explicit Life(const CacheLayout& layout) : blocks(layout) {}
  Prefix tokens;
  uint32_t computed = 0;
  SequenceBlocks blocks;
  std::span<const int32_t> own() const { return std::span(tokens).subspan(1); }
  std::string salt() const { return tokens[0] == 0 ? "" : "tenant"; }
};

class Lives {
 public:
  Lives(const Setting& setting, uint64_t seed)
      : setting_(setting),
        random_(seed),
        layout_(make_layout(setting.specs, setting.block_tokens)),
        model_(layout_, setting.granule) {
    std::vector<uint32_t> totals;
    for (const SlotClass& c : layout_.classes)
      totals.push_back(setting.ample ? 200000 : 2 * blocks_peak(c, kTokensMax, kChunk) + 3);
    cache_ = std::make_unique<BlockCache>(
        layout_, totals, BlockCacheOptions{.granule = setting.granule, .fingerprint = "model"});
  }

  void run(int operations) {
    for (time_ = 1; time_ <= static_cast<uint64_t>(operations); ++time_) {
      if (lives_.size() < 3 && up_to(3) == 0) {
        begin();
      } else if (!lives_.empty()) {
        step(up_to(static_cast<uint32_t>(lives_.size()) - 1));
      }
      if (!setting_.ample || time_ % 64 == 0) check();
      if (::testing::Test::HasFailure()) return;
    }
    if (setting_.ample) {
      EXPECT_EQ(cache_->stats().blocks_evicted, 0u);
    }
  }
  uint64_t found = 0, forgotten = 0;  // resume points; those that the model had further on
  uint64_t evicted() const { return cache_->stats().blocks_evicted; }

 private:
  static constexpr uint32_t kTokensMax = 48, kChunk = 9;
  uint32_t up_to(uint32_t max) { return static_cast<uint32_t>(random_() % (uint64_t{max} + 1)); }

  void begin() {
    Life life(layout_);
    life.tokens = {static_cast<int32_t>(up_to(7) == 0)};
    if (!old_.empty() && up_to(4) > 0) {
      const Prefix& before = old_[up_to(static_cast<uint32_t>(old_.size()) - 1)];
      life.tokens.assign(before.begin(),
                         before.begin() + 1 + up_to(static_cast<uint32_t>(before.size()) - 1));
    }
    for (uint32_t more = 1 + up_to(12); more > 0 && life.tokens.size() <= kTokensMax; --more)
      life.tokens.push_back(static_cast<int32_t>(up_to(1)));
    if (life.own().empty()) return;
    const auto limit = static_cast<uint32_t>(life.own().size()) - 1;
    const Match match = cache_->match(life.own(), life.salt(), limit);
    const uint32_t expected = model_.match(life.tokens, limit);
    if (setting_.ample) {
      ASSERT_EQ(match.position, expected);
      ASSERT_EQ(match.junction, model_.junction(life.tokens, limit));
    } else {
      ASSERT_LE(match.position, expected);
      ASSERT_TRUE(match.position == 0 || model_.resumable(life.tokens, match.position));
      ASSERT_LE(match.junction, model_.junction(life.tokens, limit));
    }
    found += match.position > 0;
    forgotten += match.position < expected;
    attach(life, match);
    if (!::testing::Test::HasFailure()) lives_.push_back(std::move(life));
  }

  // It fits exactly where its counts say so, and changes the counts by what they say.
  void attach(Life& life, const Match& match) {
    const std::vector<ClassUsage> before = cache_->usage();
    bool fits = match.position > 0;
    for (size_t c = 0; c < before.size(); ++c)
      fits &= match.blocks[c].cached + match.blocks[c].fresh <= before[c].free + before[c].cached;
    std::vector<BlockCopy> copies;
    life.computed = cache_->attach(life.blocks, match, time_, copies);
    ASSERT_EQ(life.computed, fits ? match.position : 0);
    for (size_t c = 0; c < before.size(); ++c) {
      const Match::Blocks& blocks = match.blocks[c];
      const uint32_t more = fits ? blocks.cached + blocks.fresh : 0;
      ASSERT_EQ(cache_->usage(c).live, before[c].live + more);
      const size_t held = life.blocks.table(c).ids.size();
      ASSERT_EQ(held, fits ? blocks.live + more : 0);
      if (!fits) continue;
      ASSERT_EQ(held, blocks_needed(layout_.classes[c], life.computed, life.computed));
      ASSERT_EQ(held - cache_->exclusive_blocks(life.blocks, c), blocks.live);
    }
  }

  void step(size_t i) {
    Life& life = lives_[i];
    if (life.computed == life.own().size()) {
      if (life.own().size() >= kTokensMax || up_to(5) == 0) return end(i);
      life.tokens.push_back(static_cast<int32_t>(up_to(1)));
    }
    const auto known = static_cast<uint32_t>(life.own().size());
    const uint32_t to = std::min(known, life.computed + 1 + up_to(kChunk - 1));
    bool enough = true;
    SequenceBlocks& blocks = life.blocks;
    ASSERT_TRUE(life.computed == 0 || cache_->advance(blocks, life.computed, life.computed));
    for (size_t c = 0; c < layout_.classes.size(); ++c) {
      const ClassUsage u = cache_->usage(c);
      enough &= u.live + blocks.missing(c, to) <= u.total;
    }
    ASSERT_EQ(cache_->advance(blocks, life.computed, to), enough) << "live + missing <= total";
    if (!enough) {
      cache_->release(blocks);
      lives_.erase(lives_.begin() + static_cast<std::ptrdiff_t>(i));
      return;
    }
    const bool snapshot = up_to(1) == 0;
    std::vector<BlockCopy> copies;
    cache_->publish(blocks, life.own(), to, {.snapshot = snapshot}, time_, copies);
    model_.publish(life.tokens, life.computed, to, snapshot, false);
    life.computed = to;
  }

  void end(size_t i) {
    Life& life = lives_[i];
    std::vector<BlockCopy> copies;
    cache_->publish(life.blocks, life.own(), life.computed, {.end_of_turn = true}, time_, copies);
    model_.publish(life.tokens, life.computed, life.computed, true, true);
    old_.push_back(life.tokens);
    cache_->release(life.blocks);
    lives_.erase(lives_.begin() + static_cast<std::ptrdiff_t>(i));
    if (!lives_.empty()) return;
    for (size_t c = 0; c < layout_.classes.size(); ++c) ASSERT_EQ(cache_->usage(c).live, 0u);
  }

  void check() const {
    std::vector<const SequenceBlocks*> held;
    for (const Life& life : lives_) held.push_back(&life.blocks);
    cache_->check(held);
  }

  const Setting setting_;
  std::mt19937_64 random_;
  const CacheLayout layout_;
  Model model_;
  std::unique_ptr<BlockCache> cache_;
  std::vector<Life> lives_;
  std::vector<Prefix> old_;
  uint64_t time_ = 0;
};

const StateSpec kFull{Growth::kPerToken, 8, 0}, kWindow{Growth::kPerToken, 8, 7},
    kLongWindow{Growth::kPerToken, 8, 21}, kFixedState{Growth::kFixed, 8, 0};

const std::map<std::string, std::vector<StateSpec>> kLayouts = {
    {"full", {kFull}},
    {"window", {kWindow}},
    {"fixed", {kFixedState}},
    {"window and full", {kWindow, kFull}},
    {"fixed and full", {kFixedState, kFull}},
    {"fixed and window", {kFixedState, kLongWindow}},
    {"all", {kFull, kWindow, kLongWindow, kFixedState}}};

// Runs every layout, block size and granule; hands each finished run to `told`.
void for_all(bool ample, int operations, const std::function<void(const Lives&)>& told) {
  for (const auto& [name, specs] : kLayouts) {
    for (const uint32_t block_tokens : {1u, 3u, 16u, 32u}) {
      for (const uint32_t granule : {4u, 6u, 64u}) {
        for (uint64_t seed = 1; seed <= 3; ++seed) {
          SCOPED_TRACE(fmt::format("{}, blocks of {}, granules of {}, seed {}", name, block_tokens,
                                   granule, seed));
          Lives lives({specs, block_tokens, granule, ample}, seed);
          lives.run(operations);
          if (::testing::Test::HasFailure()) return;
          told(lives);
        }
      }
    }
  }
}

TEST(PrefixModel, FindsExactlyWhatWasRemembered) {
  uint64_t found = 0;
  for_all(true, 1000, [&](const Lives& lives) {
    found += lives.found;
    EXPECT_EQ(lives.forgotten, 0u);
  });
  EXPECT_GT(found, 10000u);
}

TEST(PrefixModel, ForgetsButNeverInvents) {
  uint64_t found = 0, forgotten = 0, evicted = 0;
  for_all(false, 1200, [&](const Lives& lives) {
    found += lives.found;
    forgotten += lives.forgotten;
    evicted += lives.evicted();
  });
  EXPECT_GT(found, 3000u);
  EXPECT_GT(forgotten, 1000u);
  EXPECT_GT(evicted, 10000u);
}

}  // namespace
}  // namespace trireme
