// Cache bytes without a model: each row of a block is one cell that says which tokens, under which
// salt, it was computed from; a fixed state is one cell. So whoever reads a row that is not its own
// finds out. A CacheMover for a SequenceTable.
#pragma once

#include <map>
#include <string_view>
#include <vector>

#include "runtime/engine/sequence_table.h"

namespace trireme::test {

class CellMemory final : public CacheMover {
 public:
  CellMemory(const CacheLayout& layout, std::span<const uint32_t> blocks_total);

  // A run as a batch writes it down: it may be computed when its table has moved on.
  struct Run {
    SeqId seq = 0;
    uint32_t first = 0;
    std::vector<SequenceBlocks::Table> tables;  // by class
    std::vector<uint64_t> cells;                // of positions [0, first + count)
  };
  Run write_down(const SequenceTable::Sequence& s, const StepPlan::Run& run) const;
  // Reads all that its rows may read and writes them; "" or what was wrong.
  std::string compute(const Run& run);

  void copy_blocks(std::span<const BlockCopy> copies) override;
  void save(SeqId seq, const SequenceBlocks& blocks) override;
  void restore(SeqId seq, const SequenceBlocks& blocks) override;
  void forget(SeqId seq) override;
  const std::map<SeqId, std::vector<uint64_t>>& saved() const { return saved_; }

 private:
  std::span<uint64_t> block(size_t slot_class, BlockId id);

  const CacheLayout& layout_;
  std::vector<std::vector<uint64_t>> cells_;  // by class, [block * block_tokens + row]
  std::map<SeqId, std::vector<uint64_t>> saved_;
};

}  // namespace trireme::test
