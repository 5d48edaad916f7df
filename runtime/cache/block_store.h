// The bytes of a rank's cache: one arena per class, cut into blocks, on the rank's device.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "runtime/cache/block_pool.h"
#include "runtime/cache/layout.h"

namespace trireme {

class BlockStore {
 public:
  // blocks[c] blocks of class c.
  static Result<BlockStore> make(Device& device, const CacheLayout& layout,
                                 std::span<const uint32_t> blocks) {
    CHECK(blocks.size() == layout.classes.size());
    BlockStore store;
    for (size_t c = 0; c < blocks.size(); ++c) {
      const uint64_t stride = layout.classes[c].block_bytes;
      Result<Buffer> arena = device.allocate(stride * blocks[c]);
      if (!arena.ok()) return arena.status();
      store.arenas_.push_back({arena.take(), stride});
    }
    return store;
  }

  std::byte* arena(size_t slot_class) const {
    return static_cast<std::byte*>(arenas_[slot_class].buffer.data());
  }
  uint64_t block_stride(size_t slot_class) const { return arenas_[slot_class].stride; }
  std::byte* block(size_t slot_class, BlockId id) const {
    return arena(slot_class) + block_stride(slot_class) * id;
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const Arena& a : arenas_) sum += a.buffer.bytes();
    return sum;
  }

 private:
  struct Arena {
    Buffer buffer;
    uint64_t stride = 0;
  };
  std::vector<Arena> arenas_;
};

}  // namespace trireme
