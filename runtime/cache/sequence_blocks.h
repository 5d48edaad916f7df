// The blocks that one sequence holds: per class, the ids of consecutive blocks of positions, of
// which the first has number first_block (earlier ones have left the window).
//
// INVARIANT: after advance(begin, end) the table of a per-token class covers every position in
// [first_readable(begin), end), and that of a fixed class is one block.
#pragma once

#include <span>
#include <vector>

#include "runtime/cache/block_pool.h"
#include "runtime/cache/layout.h"

namespace trireme {

class SequenceBlocks {
 public:
  explicit SequenceBlocks(const CacheLayout& layout)
      : layout_(&layout), tables_(layout.classes.size()) {}

  struct Table {
    std::vector<BlockId> ids;
    uint32_t first_block = 0;
  };
  const Table& table(size_t slot_class) const { return tables_[slot_class]; }

  // Makes room for computing tokens [begin, end): gives back blocks that no row from `begin` on
  // reads and takes what is missing. False, with nothing changed but what was given back, where a
  // pool has too few blocks. REQUIRES: begin never goes back between calls.
  bool advance(std::span<BlockPool> pools, uint32_t begin, uint32_t end) {
    for (size_t c = 0; c < tables_.size(); ++c) drop_before(pools[c], c, begin);
    for (size_t c = 0; c < tables_.size(); ++c) {
      if (missing(c, end) > pools[c].free_count()) return false;
    }
    for (size_t c = 0; c < tables_.size(); ++c) {
      for (uint32_t n = missing(c, end); n > 0; --n) tables_[c].ids.push_back(*pools[c].take());
    }
    return true;
  }

  // Gives everything back; the sequence may begin again at position 0.
  void release(std::span<BlockPool> pools) {
    for (size_t c = 0; c < tables_.size(); ++c) {
      for (BlockId id : tables_[c].ids) pools[c].release(id);
      tables_[c] = {};
    }
  }

 private:
  void drop_before(BlockPool& pool, size_t c, uint32_t begin) {
    const SlotClass& shape = layout_->classes[c];
    if (shape.growth == StateSpec::Growth::kFixed) return;
    Table& t = tables_[c];
    const uint32_t keep_from = first_readable(shape, begin) / shape.block_tokens;
    size_t dropped = 0;
    while (t.first_block < keep_from && dropped < t.ids.size()) {
      pool.release(t.ids[dropped++]);
      ++t.first_block;
    }
    t.ids.erase(t.ids.begin(), t.ids.begin() + static_cast<std::ptrdiff_t>(dropped));
    if (t.ids.empty() && t.first_block < keep_from) t.first_block = keep_from;
  }

  uint32_t missing(size_t c, uint32_t end) const {
    const SlotClass& shape = layout_->classes[c];
    const Table& t = tables_[c];
    if (shape.growth == StateSpec::Growth::kFixed) return t.ids.empty() ? 1 : 0;
    const uint32_t blocks_end = (end + shape.block_tokens - 1) / shape.block_tokens;
    const uint32_t held_end = t.first_block + static_cast<uint32_t>(t.ids.size());
    return blocks_end > held_end ? blocks_end - held_end : 0;
  }

  const CacheLayout* layout_;
  std::vector<Table> tables_;
};

}  // namespace trireme
