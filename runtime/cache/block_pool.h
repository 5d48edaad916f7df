// Which blocks of one class are free and which are live: ids only, no bytes. Every rank of a worker
// applies the same plan to its own pools, so ids never travel.
//
// INVARIANT: free_count() + live_count() == total(); a block has at most one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/base/check.h"

namespace trireme {

using BlockId = int32_t;

class BlockPool {
 public:
  explicit BlockPool(uint32_t total) : generation_(total, 0), live_(total, false) {
    free_.reserve(total);
    for (uint32_t i = total; i-- > 0;) free_.push_back(static_cast<BlockId>(i));
  }

  uint32_t total() const { return static_cast<uint32_t>(live_.size()); }
  uint32_t free_count() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t live_count() const { return total() - free_count(); }

  // The block released last, or nothing where none is free. Deterministic: the same calls give the
  // same ids on every rank.
  std::optional<BlockId> take() {
    if (free_.empty()) return std::nullopt;
    const BlockId id = free_.back();
    free_.pop_back();
    live_[id] = true;
    return id;
  }

  // REQUIRES: `id` is live.
  void release(BlockId id) {
    CHECK(id >= 0 && static_cast<uint32_t>(id) < total() && live_[id])
        << "block " << id << " is not live";
    live_[id] = false;
    ++generation_[id];
    free_.push_back(id);
  }

  // Counts how often a block has been released: who noted (id, generation) can tell a block from
  // its next life.
  uint32_t generation(BlockId id) const { return generation_[id]; }

 private:
  std::vector<BlockId> free_;
  std::vector<uint32_t> generation_;
  std::vector<bool> live_;
};

}  // namespace trireme
