// Runs steps on one rank: builds the batch, takes the carry from the stage before, runs this stage,
// hands the carry on, or computes logits where the stage is the last.
//
// Every rank of a worker calls step() with the same runs; each applies them to its own blocks.
//
// INVARIANT: a step waits for the device once, on the last stage, before its logits are looked at
// (once for each logit_rows_max of them; again where the device's sampler gives rows back), and on
// no other. Whoever else needs to wait, as a
// communicator that reads host memory, does so itself.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "parallel/groups.h"
#include "runtime/engine/cache_traffic.h"
#include "runtime/engine/logits_user.h"
#include "runtime/engine/recorded_steps.h"
#include "runtime/engine/step_batch.h"
#include "runtime/engine/trace_ring.h"
#include "runtime/model/model.h"

namespace trireme {

struct ExecutorOptions {
  uint64_t cache_bytes = uint64_t{1} << 30;
  uint32_t tokens_max = 2048;   // the longest sequence
  uint32_t chunk_max = 512;     // the most tokens of one sequence in one step
  uint32_t sequences_max = 64;  // of one step, and resident at a time
  PrefixRoom prefixes;          // what the cache holds besides sequences
  uint64_t swap_bytes = 0;      // of host memory for states that have left the device, pinned
  bool record_steps = true;     // where the device can and all between its stages can be recorded
};

class Executor {
 public:
  // Every rank of `world` calls it with the same options: the ranks agree on the least block
  // counts. `device`, `groups`, `model`, `world` outlive it.
  static Result<std::unique_ptr<Executor>> make(Device& device, Communicator& world,
                                                const Groups& groups, Model& model,
                                                const ExecutorOptions& options);

  // A step in two halves. prepare() writes down rows and block tables: afterwards the caller may
  // change what its sequences hold. compute() does the rest. A Status that is not ok, unless the
  // user of the logits gave it, means that this worker can no longer serve. No user: nobody here
  // looks at logits. `meanwhile`, if there is one, is called once, where the host would only
  // wait: a device that computes aside has all of the step by then, another one begins afterwards.
  // A step that is padded to be recorded has `rows_min` rows at least.
  void prepare(std::span<const SequenceRun> runs, int32_t rows_min = 1);
  int32_t rows() const { return builder_->rows(); }
  using Meanwhile = std::function<void()>;
  Status compute(LogitsUser* user, const Meanwhile& meanwhile = {});
  // Whether the host has nothing to do while a step computes.
  bool computes_aside() const { return device_.place() != Place::kHost; }
  Status step(std::span<const SequenceRun> runs, const LogitsSink& sink) {
    prepare(runs);
    LogitsToSink user(sink);
    return compute(&user);
  }

  // For benchmarks: queues the step that was computed last `times` more, without waiting for it;
  // false where it was not replayed (recorded_steps.h).
  bool repeat(int times);

  // Copies a block of a class to another, after what was computed so far and before what comes.
  void copy_block(size_t slot_class, BlockId from, BlockId to);
  // States of sequences to host memory and back, before the step that is computed next.
  CacheTraffic& traffic() { return *traffic_; }

  const CacheLayout& layout() const { return model_.layout(); }
  std::span<const uint32_t> blocks_total() const { return blocks_total_; }
  uint64_t cache_bytes() const { return store_.bytes(); }
  // Of the device's memory, besides cache and model: logits, and what steps bring there.
  uint64_t workspace_bytes() const { return logits_.bytes() + builder_->workspace_bytes(); }
  // The most sequences of a step that is recorded; 0: none is.
  int32_t recorded_max() const {
    return recorded_ == nullptr ? 0 : static_cast<int32_t>(padded_max_);
  }
  const Model& model() const { return model_; }
  DeviceSampler* sampler() const { return device_.sampler(); }
  std::string device_name() const { return std::string(device_.name()); }
  // Null where steps are not recorded.
  const RecordedSteps* recorded_steps() const { return recorded_.get(); }
  // Seconds in receive() of the stage before, so far.
  double stage_wait_seconds() const { return stage_wait_seconds_; }
  // Spans of compute() go there from now on; null: nowhere.
  void trace_to(TraceRing* trace) { trace_ = trace; }

 private:
  Executor(Device& device, const Groups& groups, Model& model)
      : device_(device), groups_(groups), model_(model) {}
  Status allocate_logits();
  // The size that a step of these runs is padded to, to be recorded; 0: it is not.
  int32_t padded_size(std::span<const SequenceRun> runs, int32_t rows_min) const;
  Carry without_padding(const Carry& carry) const;
  Status receive(const Carry& carry);
  Status send(const Carry& carry);
  // Queues this stage, from embedding or carry to carry.
  Status queue_stage(Carry& carry, CacheGate* gate);
  Status compute_stage(LogitsUser* user);
  Status compute_plainly(Carry& carry, LogitsUser* user);
  Status compute_recorded(Carry& carry, LogitsUser* user);
  // Queues what makes the first `count` rows of logits_, whose parts are queued, whole; or what
  // finds their likeliest tokens, if that is all that is wanted.
  Status gather_logits(int64_t count);
  // That, hands them out, and waits for them.
  Status hand_out(int64_t first, int64_t count, LogitsUser* user);
  // What compute() was given, unless it was called already.
  void do_meanwhile();
  // Queues copies of the wanted rows of logits_ to the host.
  void fetch(const std::vector<uint8_t>& wanted);

  Device& device_;
  const Groups& groups_;
  Model& model_;
  BlockStore store_;
  std::vector<uint32_t> blocks_total_;
  std::unique_ptr<CacheTraffic> traffic_;
  std::unique_ptr<BatchBuilder> builder_;
  Status prepared_;
  int64_t padded_max_ = 0;
  int32_t padded_size_ = 0;      // of the step that is prepared
  bool likeliest_only_ = false;  // likewise: of all its runs
  std::vector<int32_t> likeliest_;
  std::unique_ptr<RecordedSteps> recorded_;
  Buffer logits_;          // [logit_rows_max, vocab], last stage
  Buffer logits_on_host_;  // the same, pinned, where logits_ is not on the host
  std::vector<uint8_t> wanted_;
  const Meanwhile* meanwhile_ = nullptr;  // of the step that is being computed
  double stage_wait_seconds_ = 0;
  TraceRing* trace_ = nullptr;
};

}  // namespace trireme
