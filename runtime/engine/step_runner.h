// One rank's side of every step: its table of sequences, its executor, the host memory of sequences
// that were preempted, and on the sampling rank the sampler. Leader and followers run the same.
//
// One thread: the one that owns the rank's communicators.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/engine/executor.h"
#include "runtime/engine/sequence_table.h"
#include "runtime/engine/step_sampler.h"
#include "runtime/engine/trace_ring.h"

namespace trireme {

struct StepRunnerOptions {
  BlockCacheOptions cache;
  std::vector<int32_t> eos_token_ids;
  uint32_t trace_events = 0;  // the newest that are kept; 0: no trace
};

class StepRunner final : private CacheMover {
 public:
  // `executor`, `groups`, `compiler` outlive it. `compiler` may be null where no request brings a
  // constraint.
  StepRunner(Executor& executor, const Groups& groups, ConstraintCompiler* compiler,
             const StepRunnerOptions& options);

  // Shard 0 of the last stage.
  static int sampling_rank(const Mesh& mesh) { return mesh.rank({mesh.stages - 1, 0}); }
  bool samples() const { return sampler_ != nullptr; }

  void apply(const SequenceOp& op, uint64_t step);
  // Takes the blocks of the runs: SequenceTable::begin.
  Status begin(std::vector<StepPlan::Run>& runs, bool leads, uint64_t step);
  // Writes the batch down and counts the step as done: from here on the table is that of the step
  // after it, but for the tokens that it samples.
  void commit(uint64_t step);
  // Computes. On the sampling rank `result` is filled. Not ok: this worker can no longer serve.
  // `meanwhile`: Executor::compute.
  Status compute(StepResult& result, const Executor::Meanwhile& meanwhile = {});

  const SequenceTable& table() const { return table_; }
  const BlockCache& cache() const { return cache_; }
  BlockCache& cache() { return cache_; }
  Executor& executor() { return executor_; }
  bool prefix_caching() const { return prefix_caching_; }
  uint64_t digest() const { return table_.digest(); }
  uint64_t saved_bytes() const { return saved_bytes_; }
  TraceRing* trace() const { return trace_.get(); }  // may be null
  // Seconds that this rank has computed, waiting for the stage before left out.
  double busy_seconds() const { return busy_seconds_; }
  // Recounts all blocks, in debug builds.
  void check_in_debug() const;

 private:
  void copy_blocks(std::span<const BlockCopy> copies) override;
  void save(SeqId seq, const SequenceBlocks& blocks) override;
  void restore(SeqId seq, const SequenceBlocks& blocks) override;
  void forget(SeqId seq) override;
  PagedBytes take_saved(SeqId seq);

  Executor& executor_;
  const std::unique_ptr<TraceRing> trace_;
  const bool prefix_caching_;
  BlockCache cache_;
  SequenceTable table_;
  std::unique_ptr<StepSampler> sampler_;
  std::unordered_map<SeqId, PagedBytes> saved_;
  uint64_t saved_bytes_ = 0;
  std::span<const BlockCopy> copies_after_;
  uint64_t step_ = 0;  // that was committed last
  double busy_seconds_ = 0;
};

}  // namespace trireme
