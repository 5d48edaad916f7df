#include "runtime/engine/sequence_table.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace trireme {
namespace {

Status come_apart(SeqId id, std::string_view what) {
  return data_loss(
      fmt::format("sequence {}: {}: this rank has come apart from the leader", id, what));
}

}  // namespace

void SequenceTable::apply(const SequenceOp& op, uint64_t step) {
  switch (op.kind) {
    case SequenceOp::Kind::kAdmit: {
      Sequence s(layout_);
      s.tokens = op.admission.prompt;
      s.prompt = static_cast<uint32_t>(s.tokens.size());
      s.scores_prompt = op.admission.prompt_logprobs >= 0;
      s.likeliest_only = wants_likeliest_only(op.admission.params) && op.admission.choices <= 1 &&
                         op.admission.constraint.kind == ConstraintSpec::Kind::kNone;
      s.cache_salt = op.admission.cache_salt;
      CHECK(sequences_.emplace(op.seq, std::move(s)).second) << "sequence " << op.seq;
      return;
    }
    case SequenceOp::Kind::kAccept:
      sequences_.at(op.seq).tokens.push_back(op.token);
      return;
    case SequenceOp::Kind::kFork:
      return fork(op);
    case SequenceOp::Kind::kDrop:
      return drop(op.seq, op.flag, step);
    case SequenceOp::Kind::kPreempt:
      return preempt(op.seq, op.flag);
    case SequenceOp::Kind::kReset:
      return cache_.reset();
  }
}

Match SequenceTable::match(const Sequence& s) const {
  // One row is left to compute logits from; where all rows want logits, all are computed.
  const uint32_t limit = s.scores_prompt ? 0 : static_cast<uint32_t>(s.tokens.size()) - 1;
  return cache_.match(s.tokens, s.cache_salt, limit);
}

// The child is the parent as it stands: all of its prompt computed, none of its output known. Where
// there are too few blocks it computes the prompt again.
void SequenceTable::fork(const SequenceOp& op) {
  const Sequence& parent = sequences_.at(op.seq);
  CHECK(parent.resident && parent.computed == parent.prompt &&
        parent.tokens.size() == parent.prompt);
  Sequence child(layout_);
  child.tokens = parent.tokens;
  child.prompt = parent.prompt;
  child.cache_salt = parent.cache_salt;
  std::vector<BlockCopy> copies;
  if (cache_.fork(parent.blocks, parent.computed, child.blocks, copies)) {
    mover_.copy_blocks(copies);
    child.resident = true;
    child.computed = parent.computed;
  }
  CHECK(sequences_.emplace(op.child, std::move(child)).second) << "sequence " << op.child;
}

void SequenceTable::drop(SeqId id, bool complete, uint64_t step) {
  const auto it = sequences_.find(id);
  CHECK(it != sequences_.end()) << "sequence " << id;
  Sequence& s = it->second;
  if (s.resident) {
    if (complete) {
      std::vector<BlockCopy> copies;
      cache_.publish(s.blocks, s.tokens, s.computed, {.end_of_turn = true}, step, copies);
      mover_.copy_blocks(copies);
    }
    cache_.release(s.blocks);
  }
  if (s.saved) mover_.forget(id);
  sequences_.erase(it);
}

void SequenceTable::preempt(SeqId id, bool save) {
  Sequence& s = sequences_.at(id);
  CHECK(s.resident);
  if (save) mover_.save(id, s.blocks);
  cache_.release(s.blocks);
  s.resident = false;
  s.saved = save;
  if (!save) s.computed = 0;
}

Status SequenceTable::begin(std::vector<StepPlan::Run>& runs, bool leads, uint64_t step) {
  runs_.clear();
  for (StepPlan::Run& run : runs) {
    const auto it = sequences_.find(run.seq);
    if (it == sequences_.end()) return come_apart(run.seq, "nobody knows it");
    if (Status s = begin_run(it->second, run, leads, step); !s.ok()) return s;
  }
  plan_ = runs;
  for (const StepPlan::Run& run : runs) {
    const Sequence& s = sequences_.at(run.seq);
    using Logits = SequenceRun::Logits;
    const Logits logits = s.scores_prompt    ? Logits::kAll
                          : run.wants_logits ? Logits::kLast
                                             : Logits::kNone;
    runs_.push_back({&s.blocks, run.first, std::span(s.tokens).subspan(run.first, run.count),
                     logits, s.likeliest_only});
  }
  return {};
}

Status SequenceTable::begin_run(Sequence& s, StepPlan::Run& run, bool leads, uint64_t step) {
  const SeqId id = run.seq;
  if (run.count == 0 || uint64_t{run.first} + run.count > s.tokens.size())
    return come_apart(id, "it has fewer tokens");
  std::vector<BlockCopy> copies;
  if (s.saved) {
    cache_.attach_to_root(s.blocks, s.cache_salt);
    if (!cache_.advance(s.blocks, s.computed, s.computed))
      return come_apart(id, "there are too few blocks to bring it back");
    mover_.restore(id, s.blocks);
    s.saved = false;
  } else if (!s.resident) {
    const Match found = match(s);
    s.computed = cache_.attach(s.blocks, found, step, copies);
    mover_.copy_blocks(copies);
    s.junction = cache_.needs_snapshots() && found.junction > s.computed ? found.junction : 0;
  }
  s.resident = true;
  if (leads && s.computed < run.first) {
    run.first = s.computed;
    run.wants_logits = run.first + run.count == s.tokens.size();
  }
  if (s.computed != run.first)
    return come_apart(id,
                      fmt::format("it goes on at {} here and at {} there", s.computed, run.first));
  if (!cache_.advance(s.blocks, run.first, run.first + run.count))
    return come_apart(id, "there are too few blocks for its step");
  return {};
}

std::span<const BlockCopy> SequenceTable::commit(uint64_t step) {
  copies_.clear();
  for (const StepPlan::Run& run : plan_) {
    Sequence& s = sequences_.at(run.seq);
    s.computed = run.first + run.count;
    Publish what;
    what.snapshot = cache_.snapshot_due(s.computed);
    what.junction = s.junction > 0 && s.computed == s.junction;
    cache_.publish(s.blocks, s.tokens, s.computed, what, step, copies_);
    // Blocks that left the window go back now, so that the planner's counts are what is held.
    CHECK(cache_.advance(s.blocks, s.computed, s.computed));
  }
  runs_.clear();
  return copies_;
}

void SequenceTable::check() const {
  std::vector<const SequenceBlocks*> held;
  for (const auto& [id, s] : sequences_) {
    CHECK(s.resident || s.blocks.empty()) << "sequence " << id << " holds blocks in secret";
    held.push_back(&s.blocks);
  }
  cache_.check(held);
}

}  // namespace trireme
