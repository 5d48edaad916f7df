#include "runtime/engine/step_runner.h"

#include <chrono>

namespace trireme {

StepRunner::StepRunner(Executor& executor, const Groups& groups, ConstraintCompiler* compiler,
                       const StepRunnerOptions& options)
    : executor_(executor),
      trace_(options.trace_events > 0 ? std::make_unique<TraceRing>(options.trace_events)
                                      : nullptr),
      prefix_caching_(options.cache.prefix_caching),
      cache_(executor.layout(), executor.blocks_total(), options.cache),
      table_(executor.layout(), cache_, *this) {
  executor_.trace_to(trace_.get());
  if (groups.last_stage() && groups.here.shard == 0) {
    sampler_ = std::make_unique<StepSampler>(executor.model().spec().vocab, options.eos_token_ids,
                                             compiler, executor.sampler());
  }
}

void StepRunner::apply(const SequenceOp& op, uint64_t step) {
  table_.apply(op, step);
  if (sampler_ != nullptr) sampler_->apply(op);
}

Status StepRunner::begin(std::vector<StepPlan::Run>& runs, bool leads, uint64_t step) {
  const TraceSpan span(trace_.get(), TraceEvent::Name::kPrepare, step);
  if (Status s = table_.begin(runs, leads, step); !s.ok()) return s;
  if (!runs.empty()) executor_.prepare(table_.runs());
  if (sampler_ == nullptr) return {};
  std::vector<StepSampler::Run> sampled;
  sampled.reserve(runs.size());
  for (const StepPlan::Run& run : runs) sampled.push_back({run, table_.at(run.seq).tokens});
  sampler_->begin(step, sampled);
  return {};
}

void StepRunner::commit(uint64_t step) {
  step_ = step;
  copies_after_ = table_.commit(step);
}

Status StepRunner::compute(StepResult& result, const Executor::Meanwhile& meanwhile) {
  const TraceSpan span(trace_.get(), TraceEvent::Name::kStep, step_,
                       static_cast<uint32_t>(executor_.rows()));
  const auto start = std::chrono::steady_clock::now();
  const double waited = executor_.stage_wait_seconds();
  const Status computed = executor_.compute(sampler_.get(), meanwhile);
  if (!computed.ok()) return computed;
  copy_blocks(copies_after_);
  copies_after_ = {};
  if (sampler_ != nullptr) result = sampler_->finish();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  busy_seconds_ += took.count() - (executor_.stage_wait_seconds() - waited);
  return {};
}

void StepRunner::check_in_debug() const {
#ifdef TRIREME_CHECKED_OPS
  table_.check();
#endif
}

void StepRunner::copy_blocks(std::span<const BlockCopy> copies) {
  for (const BlockCopy& c : copies) executor_.copy_block(c.slot_class, c.from, c.to);
}

void StepRunner::save(SeqId seq, const SequenceBlocks& blocks) {
  PagedBytes bytes = executor_.traffic().save(blocks);
  saved_bytes_ += bytes.bytes;
  saved_[seq] = std::move(bytes);
}

void StepRunner::restore(SeqId seq, const SequenceBlocks& blocks) {
  executor_.traffic().restore(take_saved(seq), blocks);
}

void StepRunner::forget(SeqId seq) { executor_.traffic().forget(take_saved(seq)); }

PagedBytes StepRunner::take_saved(SeqId seq) {
  const auto it = saved_.find(seq);
  CHECK(it != saved_.end());
  PagedBytes bytes = std::move(it->second);
  saved_bytes_ -= bytes.bytes;
  saved_.erase(it);
  return bytes;
}

}  // namespace trireme
