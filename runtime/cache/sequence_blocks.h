// The blocks that one sequence holds: per class, the ids of consecutive blocks of positions, of
// which the first has number first_block (earlier ones have left the window). Full blocks may be
// held by other sequences too.
//
// INVARIANT: after advance(begin, end) the table of a per-token class covers every position in
// [first_readable(begin), end), and that of a fixed class is one block. A block that holds a
// position >= begin is held by no other sequence.
#pragma once

#include <span>
#include <vector>

#include "runtime/cache/block_key.h"
#include "runtime/cache/block_pool.h"
#include "runtime/cache/layout.h"

namespace trireme {

// Where a sequence stands in the chain of keys over its tokens. BlockCache writes it.
struct ChainState {
  bool attached = false;  // `root` is known
  bool broken = false;    // its last granule was forgotten while it ran
  uint32_t hashed = 0;    // a multiple of the granule: `key` is of the tokens [0, hashed)
  BlockKey root, key;
};

class SequenceBlocks {
 public:
  explicit SequenceBlocks(const CacheLayout& layout)
      : layout_(&layout), tables_(layout.classes.size()) {}

  struct Table {
    std::vector<BlockId> ids;
    uint32_t first_block = 0;
  };
  const Table& table(size_t slot_class) const { return tables_[slot_class]; }
  bool empty() const {
    for (const Table& t : tables_) {
      if (!t.ids.empty()) return false;
    }
    return true;
  }

  // Makes room for computing tokens [begin, end): gives back blocks that no row from `begin` on
  // reads and takes what is missing. False, with nothing changed but what was given back, where a
  // pool has too few free blocks. REQUIRES: begin never goes back between calls.
  bool advance(std::span<BlockPool> pools, uint32_t begin, uint32_t end) {
    drop_before(pools, begin);
    for (size_t c = 0; c < tables_.size(); ++c) {
      if (missing(c, end) > pools[c].free_count()) return false;
    }
    extend(pools, end);
    return true;
  }

  // The two halves of advance(), and what is missing between them.
  void drop_before(std::span<BlockPool> pools, uint32_t begin) {
    for (size_t c = 0; c < tables_.size(); ++c) drop_before(pools[c], c, begin);
  }
  uint32_t missing(size_t c, uint32_t end) const {
    const SlotClass& shape = layout_->classes[c];
    const Table& t = tables_[c];
    if (shape.growth == StateSpec::Growth::kFixed) return t.ids.empty() ? 1 : 0;
    const uint32_t blocks_end = blocks_before(shape, end);
    const uint32_t held_end = t.first_block + static_cast<uint32_t>(t.ids.size());
    return blocks_end > held_end ? blocks_end - held_end : 0;
  }
  // REQUIRES: missing(c, end) blocks of each class are free.
  void extend(std::span<BlockPool> pools, uint32_t end) {
    for (size_t c = 0; c < tables_.size(); ++c) {
      for (uint32_t n = missing(c, end); n > 0; --n) tables_[c].ids.push_back(*pools[c].take());
    }
  }

  // Begins the table of a class with blocks whose references the caller took for it. REQUIRES: the
  // table is empty.
  void adopt(size_t slot_class, Table table) {
    CHECK(tables_[slot_class].ids.empty());
    tables_[slot_class] = std::move(table);
  }

  // One block more at the end of a table, with a reference that the caller took for it.
  void append(size_t slot_class, BlockId id) { tables_[slot_class].ids.push_back(id); }

  // Gives everything back; the sequence may begin again at position 0.
  void release(std::span<BlockPool> pools) {
    for (size_t c = 0; c < tables_.size(); ++c) {
      for (BlockId id : tables_[c].ids) pools[c].release(id);
      tables_[c] = {};
    }
    chain_ = {};
  }

  const ChainState& chain() const { return chain_; }
  ChainState& chain() { return chain_; }

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

  const CacheLayout* layout_;
  std::vector<Table> tables_;
  ChainState chain_;
};

}  // namespace trireme
