// States that leave the cache and come back: on a device that copies beside its ops, nothing is
// overwritten before it has left and nothing is read before it is back, part by part; whatever the
// blocks, the order and the host's memory.
#include "runtime/engine/cache_traffic.h"

#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "kernels/cuda/cuda_device.h"

namespace trireme {
namespace {

constexpr uint32_t kBlockTokens = 4;
constexpr uint32_t kBlocks = 12;

// Six sublayers of three classes, between them some without a state.
CacheLayout layout_of(uint64_t row_bytes) {
  using Growth = StateSpec::Growth;
  const StateSpec specs[] = {
      {Growth::kPerToken, row_bytes, 0},     {Growth::kNone, 0, 0},
      {Growth::kPerToken, row_bytes / 2, 0}, {Growth::kFixed, 3 * row_bytes, 0},
      {Growth::kPerToken, row_bytes, 8},     {Growth::kNone, 0, 0},
      {Growth::kFixed, row_bytes, 0},        {Growth::kPerToken, 2 * row_bytes, 0},
  };
  return make_layout(specs, kBlockTokens);
}

struct Device_ {
  std::unique_ptr<Device> device;
  bool aside;
};
Device_ device_of(bool emulated) {
  if (!emulated) return {make_ref_device(), false};
  return {make_cuda_device({}).take(), true};
}

class Traffic : public testing::TestWithParam<std::tuple<bool, uint64_t, uint64_t>> {
 protected:
  Traffic() {
    const auto [emulated, row_bytes, pinned] = GetParam();
    Device_ made = device_of(emulated);
    device_ = make_checked_device(std::move(made.device));
    layout_ = layout_of(row_bytes);
    const std::vector<uint32_t> blocks(layout_.classes.size(), kBlocks);
    store_ = BlockStore::make(*device_, layout_, blocks).take();
    traffic_ = CacheTraffic::make(*device_, store_, layout_, pinned).take();
    EXPECT_EQ(traffic_->aside(), made.aside);
    for (size_t c = 0; c < layout_.classes.size(); ++c) pools_.emplace_back(kBlocks);
    host_ = device_->allocate_pinned(uint64_t{1} << 20).take();
  }

  SequenceBlocks sequence(uint32_t tokens) {
    SequenceBlocks blocks(layout_);
    EXPECT_TRUE(blocks.advance(pools_, 0, tokens));
    return blocks;
  }

  // What an op does to a sublayer's share of the blocks: writes a pattern there, or reads it.
  template <class Visit>
  void for_each_share(const SequenceBlocks& blocks, uint32_t sublayer, const Visit& visit) {
    const Slot& slot = layout_.slots[sublayer];
    if (slot.slot_class < 0) return;
    const auto c = static_cast<size_t>(slot.slot_class);
    uint64_t end = layout_.classes[c].block_bytes;
    for (const Slot& other : layout_.slots) {
      if (other.slot_class == slot.slot_class && other.offset > slot.offset)
        end = std::min(end, other.offset);
    }
    for (const BlockId id : blocks.table(c).ids)
      visit(store_.block(c, id) + slot.offset, end - slot.offset);
  }
  void write(const SequenceBlocks& blocks, uint32_t sublayer, uint32_t pattern) {
    for_each_share(blocks, sublayer, [&](std::byte* share, uint64_t bytes) {
      std::vector<std::byte> values(bytes);  // read when the call returns: pageable
      for (uint64_t i = 0; i < bytes; ++i)
        values[i] = static_cast<std::byte>(pattern * 31 + sublayer * 7 + i % 251);
      device_->copy(share, values.data(), bytes);
    });
  }
  void expect_pattern(const SequenceBlocks& blocks, uint32_t sublayer, uint32_t pattern) {
    for_each_share(blocks, sublayer, [&](std::byte* share, uint64_t bytes) {
      auto* seen = static_cast<std::byte*>(host_.data());
      device_->copy(seen, share, bytes);
      ASSERT_TRUE(device_->synchronize().ok());
      for (uint64_t i = 0; i < bytes; ++i) {
        ASSERT_EQ(seen[i], static_cast<std::byte>(pattern * 31 + sublayer * 7 + i % 251))
            << "sublayer " << sublayer << ", byte " << i;
      }
    });
  }
  uint32_t sublayers() const { return static_cast<uint32_t>(layout_.slots.size()); }

  // A step of these sequences: its ops read what the sublayers hold, and write.
  void step(const SequenceBlocks& blocks, uint32_t reads, uint32_t writes) {
    traffic_->start();
    for (uint32_t i = 0; i < sublayers(); ++i) {
      traffic_->before(i);
      if (reads != 0) expect_pattern(blocks, i, reads);
      write(blocks, i, writes);
    }
    traffic_->settle();
  }

  std::unique_ptr<Device> device_;
  CacheLayout layout_;
  BlockStore store_;
  std::unique_ptr<CacheTraffic> traffic_;
  std::vector<BlockPool> pools_;
  Buffer host_;
};

TEST_P(Traffic, OneLeavesAnotherTakesItsBlocksAndTheFirstComesBack) {
  SequenceBlocks first = sequence(18);
  step(first, 0, 1);
  EXPECT_EQ(traffic_->bytes_of(first), [&] {
    uint64_t sum = 0;
    for (size_t c = 0; c < layout_.classes.size(); ++c)
      sum += first.table(c).ids.size() * layout_.classes[c].block_bytes;
    return sum;
  }());
  PagedBytes saved = traffic_->save(first);
  first.release(pools_);
  SequenceBlocks second = sequence(30);  // gets the blocks of the first, and is computed at once
  step(second, 0, 2);
  step(second, 2, 3);
  PagedBytes second_saved = traffic_->save(second);
  second.release(pools_);
  SequenceBlocks again = sequence(18);
  traffic_->restore(std::move(saved), again);  // into blocks that the second leaves in this step
  step(again, 1, 4);
  step(again, 4, 5);
  again.release(pools_);
  SequenceBlocks last = sequence(30);
  traffic_->restore(std::move(second_saved), last);
  step(last, 3, 6);
}

TEST_P(Traffic, AnyOrderOfManySequences) {
  std::mt19937 random(7);
  struct Life {
    SequenceBlocks blocks;
    PagedBytes saved;
    bool resident = true;
    uint32_t pattern = 0;
  };
  std::vector<Life> lives;
  uint32_t pattern = 0;
  for (int turn = 0; turn < 200; ++turn) {
    const auto pick = random() % 4;
    if (pick == 0 && lives.size() < 5) {
      SequenceBlocks blocks(layout_);
      const uint32_t tokens = 1 + random() % 12;
      if (!blocks.advance(pools_, 0, tokens)) continue;
      step(blocks, 0, ++pattern);
      lives.push_back({std::move(blocks), {}, true, pattern});
      continue;
    }
    if (lives.empty()) continue;
    Life& life = lives[random() % lives.size()];
    if (pick == 1 && life.resident) {
      life.saved = traffic_->save(life.blocks);
      life.blocks.release(pools_);
      life.resident = false;
    } else if (pick == 2 && !life.resident) {
      SequenceBlocks blocks(layout_);
      const uint32_t tokens =
          static_cast<uint32_t>(life.saved.bytes);  // found by trying: the bytes say it
      bool fits = false;
      for (uint32_t t = 1; t <= 12 && !fits; ++t) {
        SequenceBlocks tried(layout_);
        if (!tried.advance(pools_, 0, t)) break;
        if (traffic_->bytes_of(tried) == tokens) {
          blocks = std::move(tried);
          fits = true;
        } else {
          tried.release(pools_);
        }
      }
      if (!fits) continue;
      traffic_->restore(std::move(life.saved), blocks);
      life.blocks = std::move(blocks);
      life.resident = true;
      if (random() % 2 == 0) continue;  // some come back together
      step(life.blocks, life.pattern, ++pattern);
      life.pattern = pattern;
    } else if (life.resident) {
      step(life.blocks, life.pattern, ++pattern);
      life.pattern = pattern;
    } else if (pick == 3) {
      traffic_->forget(std::move(life.saved));
      std::swap(life, lives.back());
      lives.pop_back();
    }
  }
  for (Life& life : lives) {
    if (life.resident) step(life.blocks, life.pattern, ++pattern);
  }
  EXPECT_GT(pattern, 50u);
}

// Rows of which a block is one part, and of which it is several and spans pages; host memory that
// is pinned for all, for some, for none.
INSTANTIATE_TEST_SUITE_P(
    Devices, Traffic,
    testing::Combine(testing::Bool(), testing::Values(uint64_t{192}, uint64_t{20000}),
                     testing::Values(uint64_t{64} << 20, uint64_t{1} << 20, uint64_t{0})));

}  // namespace
}  // namespace trireme
