// Sublayers whose states grow alike share block ids: one block of a class holds the bytes of all of
// them. The cache does not know what it holds.
//
// INVARIANT: the classes and their order follow from the whole model's specs, not from a rank's
// part of it, so that every rank of a worker counts the same blocks of the same classes. Only
// block_bytes and the slots are a rank's own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/cache/state_spec.h"

namespace trireme {

struct SlotClass {
  StateSpec::Growth growth = StateSpec::Growth::kNone;
  uint32_t window_tokens = 0;
  uint32_t block_tokens = 1;  // 1 for kFixed
  uint64_t block_bytes = 0;   // on this rank
  bool operator==(const SlotClass&) const = default;
};

// Where one sublayer's bytes begin in a block of its class. slot_class == -1: it has none.
struct Slot {
  int32_t slot_class = -1;
  uint64_t offset = 0;
  bool operator==(const Slot&) const = default;
};

struct CacheLayout {
  std::vector<SlotClass> classes;
  std::vector<Slot> slots;  // one per sublayer of the whole model
  bool operator==(const CacheLayout&) const = default;
};

// Slots are 64-byte aligned. REQUIRES: block_tokens > 0.
CacheLayout make_layout(std::span<const StateSpec> sublayers, uint32_t block_tokens);

// The first position whose row is still readable when the token at `begin` is computed next.
uint32_t first_readable(const SlotClass& c, uint32_t begin);

// Blocks of class `c` that the positions [0, end) lie in. REQUIRES: `c` is per token.
inline uint32_t blocks_before(const SlotClass& c, uint32_t end) {
  return end / c.block_tokens + (end % c.block_tokens != 0 ? 1 : 0);
}

// Blocks of class `c` that a sequence holds while its tokens [begin, end) are computed.
// begin == end: blocks it keeps to go on later.
uint32_t blocks_needed(const SlotClass& c, uint32_t begin, uint32_t end);

// The most blocks of class `c` that a sequence of at most `tokens_max` tokens holds at a time when
// at most `chunk_max` of them are computed per step.
uint32_t blocks_peak(const SlotClass& c, uint32_t tokens_max, uint32_t chunk_max);
// The bytes of those blocks, of all classes.
uint64_t bytes_peak(const CacheLayout& layout, uint32_t tokens_max, uint32_t chunk_max);

// What a pool holds besides sequences: prefixes that are remembered.
struct PrefixRoom {
  bool prefix_caching = false;
  uint32_t snapshots_per_sequence = 0;  // blocks of a fixed class beside each sequence's own
};

// The snapshots that a ruler of `keep` states per level has for one prompt of `tokens_max` tokens,
// with a few for ends of turns; at most 64.
uint32_t ruler_snapshots(uint32_t tokens_max, uint32_t granule, uint32_t keep);

// Blocks of each class for as many sequences of the greatest length as `bytes` hold. Without prefix
// caching at most `sequences_max` of them; with it, all that `bytes` hold, as one sequence's worth
// of blocks again and again (with its snapshots, as soon as one fits without), and what is left of
// that too. kResourceExhausted with the numbers where not even one fits. The counts stay below
// 2^30.
Result<std::vector<uint32_t>> count_blocks(const CacheLayout& layout, uint64_t bytes,
                                           uint32_t tokens_max, uint32_t chunk_max,
                                           uint32_t sequences_max, PrefixRoom room = {});

}  // namespace trireme
