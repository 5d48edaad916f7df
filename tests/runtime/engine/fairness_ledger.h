// Nobody starves, in steps: a ledger of how long each sequence has waited, and of how long it may.
//
// A step in which `s` could run and does not is owed to others: to the work that was before `s` in
// the order when it came, or held blocks then; to work that came in since with a better priority;
// to newcomers behind `s` that came in by a step in which `s` ran, too, and by no other; to rows
// that are computed again; and one to each preemption. Each such step does at least one row of that
// work, so a sequence waits for no more steps than there are rows. The bound is in rows of whole
// requests, so it is known before they run.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>

#include "runtime/engine/request_book.h"
#include "runtime/engine/sequence_table.h"

namespace trireme::test {

class FairnessLedger {
 public:
  FairnessLedger(const RequestBook& book, const SequenceTable& table, uint32_t tokens_max,
                 uint32_t aging_ms)
      : book_(book), table_(table), tokens_max_(tokens_max), aging_ms_(aging_ms) {}

  void add(SeqId seq);  // it waits from now on
  void remove(SeqId seq) { accounts_.erase(seq); }
  void preempted(SeqId seq, bool saved);  // before it gives its blocks up
  // A step is about to begin. "" or who was wronged.
  std::string step(std::span<const StepPlan::Run> runs, const std::set<SeqId>& busy);
  // A step in which sequences only yielded.
  std::string step_without_runs(const std::set<SeqId>& busy) { return step({}, busy); }

  uint64_t waited() const { return waited_; }  // of all sequences

 private:
  struct Account {
    int64_t deadline_ms = 0;
    uint64_t waited = 0, owed = 0;
  };
  bool before(SeqId a, SeqId b) const;
  uint64_t rows_left(SeqId seq) const;

  const RequestBook& book_;
  const SequenceTable& table_;
  const uint32_t tokens_max_, aging_ms_;
  std::map<SeqId, Account> accounts_;
  uint64_t waited_ = 0;
};

}  // namespace trireme::test
