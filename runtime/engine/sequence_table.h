// The sequences of a worker as one of its ranks sees them: their tokens, how far they are computed,
// the blocks they hold. Every rank applies the same ops and steps in the same order to its own
// table and pools, and so holds the same block ids: digest() shows it.
//
// One thread. What moves bytes is told to a CacheMover at once, in order.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/cache/block_cache.h"
#include "runtime/engine/step_batch.h"
#include "runtime/engine/step_message.h"

namespace trireme {

// Moves cache bytes on a rank's device, ordered with its steps.
class CacheMover {
 public:
  virtual ~CacheMover() = default;
  virtual void copy_blocks(std::span<const BlockCopy> copies) = 0;
  // Keeps the bytes of a sequence's blocks, gives them back into other blocks of the same counts,
  // forgets them.
  virtual void save(SeqId seq, const SequenceBlocks& blocks) = 0;
  virtual void restore(SeqId seq, const SequenceBlocks& blocks) = 0;
  virtual void forget(SeqId seq) = 0;
};

class SequenceTable {
 public:
  struct Sequence {
    std::vector<int32_t> tokens;  // prompt and output
    uint32_t prompt = 0;          // tokens of the prompt
    uint32_t computed = 0;        // in the cache, or in the bytes that were saved
    bool resident = false;        // holds blocks
    bool saved = false;           // its bytes lie with the mover
    bool likeliest_only = false;  // of its rows nothing is wanted but the likeliest token
    bool scores_prompt = false;   // every row of the prompt is computed, and wants logits
    uint32_t junction = 0;        // a snapshot is wanted when it has come so far; 0: none
    std::string cache_salt;
    SequenceBlocks blocks;
    explicit Sequence(const CacheLayout& layout) : blocks(layout) {}
  };

  // `cache`, `mover` outlive the table.
  SequenceTable(const CacheLayout& layout, BlockCache& cache, CacheMover& mover)
      : layout_(layout), cache_(cache), mover_(mover) {}

  // `step`: the number of the step that follows.
  void apply(const SequenceOp& op, uint64_t step);

  // Where a waiting sequence would resume, and up to where its prefix has been seen before.
  Match match(const Sequence& s) const;

  // Takes the blocks of a step's runs. Making room for one run may evict part of the prefix at
  // which another was to resume: that one then begins earlier, with as many rows. `leads`: the runs
  // are changed to what has become of them; otherwise they are the leader's, and kDataLoss says
  // that this rank has come apart from it.
  Status begin(std::vector<StepPlan::Run>& runs, bool leads, uint64_t step);
  // The runs as a batch, valid until commit().
  std::span<const SequenceRun> runs() const { return runs_; }
  // The step is on its way: its rows count as computed, what is complete is published, what left
  // its window is given back. The copies that are to be made once the step is computed.
  std::span<const BlockCopy> commit(uint64_t step);

  const Sequence& at(SeqId id) const { return sequences_.at(id); }
  const std::map<SeqId, Sequence>& sequences() const { return sequences_; }
  bool contains(SeqId id) const { return sequences_.contains(id); }
  uint64_t digest() const { return cache_.digest(); }
  // Recounts everything.
  void check() const;

 private:
  Status begin_run(Sequence& s, StepPlan::Run& run, bool leads, uint64_t step);
  void fork(const SequenceOp& op);
  void drop(SeqId id, bool complete, uint64_t step);
  void preempt(SeqId id, bool save);

  const CacheLayout& layout_;
  BlockCache& cache_;
  CacheMover& mover_;
  std::map<SeqId, Sequence> sequences_;
  std::vector<StepPlan::Run> plan_;
  std::vector<SequenceRun> runs_;
  std::vector<BlockCopy> copies_;
};

}  // namespace trireme
