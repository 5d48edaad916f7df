// Which blocks of one class are free, live or cached: ids only, no bytes. Every rank of a worker
// applies the same plan to its own pools, so ids never travel.
//
//   free    nobody refers to it
//   live    sequences do
//   cached  only the prefix index does: it gives way when free blocks run out
//
// INVARIANT: free_count() + live_count() + cached_count() == total().
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/base/check.h"

namespace trireme {

using BlockId = int32_t;

// A running hash of what was done, in order (the finalizer of splitmix64: Steele, Lea, Flood, "Fast
// splittable pseudorandom number generators", OOPSLA'14).
inline uint64_t mix_digest(uint64_t digest, uint64_t word) {
  uint64_t z = (digest ^ word) + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

class BlockPool {
 public:
  explicit BlockPool(uint32_t total) : blocks_(total) {
    free_.reserve(total);
    for (uint32_t i = total; i-- > 0;) free_.push_back(static_cast<BlockId>(i));
  }

  uint32_t total() const { return static_cast<uint32_t>(blocks_.size()); }
  uint32_t free_count() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t live_count() const { return live_count_; }
  uint32_t cached_count() const { return total() - free_count() - live_count_; }

  // The block that became free last, now live with one reference, or nothing where none is free.
  // Deterministic: the same calls give the same ids on every rank.
  std::optional<BlockId> take() {
    if (free_.empty()) return std::nullopt;
    const BlockId id = free_.back();
    free_.pop_back();
    blocks_[id].live_refs = 1;
    ++live_count_;
    note(Event::kTake, id);
    return id;
  }

  // One more sequence refers to it. REQUIRES: `id` is live or cached.
  void share(BlockId id) {
    CHECK(known(id) && (blocks_[id].live_refs > 0 || blocks_[id].index_refs > 0))
        << "block " << id << " is free";
    if (blocks_[id].live_refs++ == 0) ++live_count_;
    note(Event::kShare, id);
  }

  // One sequence less refers to it. REQUIRES: `id` is live.
  void release(BlockId id) {
    CHECK(known(id) && blocks_[id].live_refs > 0) << "block " << id << " is not live";
    note(Event::kRelease, id);
    if (--blocks_[id].live_refs > 0) return;
    --live_count_;
    if (blocks_[id].index_refs == 0) make_free(id);
  }

  // The index refers to it once more. REQUIRES: `id` is live or cached.
  void remember(BlockId id) {
    CHECK(known(id) && (blocks_[id].live_refs > 0 || blocks_[id].index_refs > 0))
        << "block " << id << " is free";
    ++blocks_[id].index_refs;
    note(Event::kRemember, id);
  }

  // The index refers to it once less. True: it became free. REQUIRES: remember() was called.
  bool forget(BlockId id) {
    CHECK(known(id) && blocks_[id].index_refs > 0) << "block " << id << " is not remembered";
    note(Event::kForget, id);
    if (--blocks_[id].index_refs > 0 || blocks_[id].live_refs > 0) return false;
    make_free(id);
    return true;
  }

  uint32_t live_references(BlockId id) const { return blocks_[id].live_refs; }
  uint32_t index_references(BlockId id) const { return blocks_[id].index_refs; }

  // Counts how often a block has become free: who noted (id, generation) can tell a block from its
  // next life.
  uint32_t generation(BlockId id) const { return blocks_[id].generation; }

  // Of all calls so far.
  uint64_t digest() const { return digest_; }

 private:
  enum class Event : uint64_t { kTake = 1, kShare, kRelease, kRemember, kForget };
  struct Block {
    uint32_t live_refs = 0;
    uint32_t index_refs = 0;
    uint32_t generation = 0;
  };
  bool known(BlockId id) const { return id >= 0 && static_cast<uint32_t>(id) < total(); }
  void make_free(BlockId id) {
    ++blocks_[id].generation;
    free_.push_back(id);
  }
  void note(Event event, BlockId id) {
    digest_ = mix_digest(digest_, static_cast<uint64_t>(event) << 32 | static_cast<uint32_t>(id));
  }

  std::vector<Block> blocks_;
  std::vector<BlockId> free_;
  uint32_t live_count_ = 0;
  uint64_t digest_ = 0;
};

}  // namespace trireme
