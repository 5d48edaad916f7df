#include "tests/runtime/engine/fairness_ledger.h"

#include <algorithm>

#include <fmt/format.h>

namespace trireme::test {

bool FairnessLedger::before(SeqId a, SeqId b) const {
  return std::pair(accounts_.at(a).deadline_ms, a) < std::pair(accounts_.at(b).deadline_ms, b);
}

// With those of the choices that it has not been forked into yet.
uint64_t FairnessLedger::rows_left(SeqId seq) const {
  const SequenceTable::Sequence& s = table_.at(seq);
  const Request& r = *book_.request_of(seq);
  const uint64_t whole =
      std::min<uint64_t>(s.prompt + (r.score_only ? 0 : r.params.max_tokens), tokens_max_);
  const uint64_t computed = s.resident || s.saved ? s.computed : 0;
  const uint64_t others = book_.forked(seq) ? 0 : r.choices - 1;
  return whole - std::min(whole, computed) + others * whole;
}

void FairnessLedger::add(SeqId seq) {
  Account mine;
  mine.deadline_ms = static_cast<int64_t>(book_.arrived_ms(seq)) +
                     int64_t{book_.request_of(seq)->priority} * aging_ms_;
  accounts_[seq] = mine;
  for (auto& [other, account] : accounts_) {
    if (other == seq) continue;
    if (before(other, seq) || table_.at(other).resident) accounts_[seq].owed += rows_left(other);
    if (before(seq, other)) account.owed += rows_left(seq);
  }
}

void FairnessLedger::preempted(SeqId seq, bool saved) {
  for (auto& [other, account] : accounts_) {
    account.owed += 1;
    if (!saved && before(seq, other)) account.owed += table_.at(seq).computed;
  }
}

std::string FairnessLedger::step(std::span<const StepPlan::Run> runs, const std::set<SeqId>& busy) {
  std::set<SeqId> running;
  for (const StepPlan::Run& run : runs) running.insert(run.seq);
  const auto could_run = [&](SeqId seq) {
    return !busy.contains(seq) && table_.at(seq).computed < table_.at(seq).tokens.size();
  };
  for (const SeqId newcomer : running) {
    if (table_.at(newcomer).resident) continue;
    for (auto& [seq, account] : accounts_) {
      if (!before(seq, newcomer)) continue;
      if (could_run(seq) && !running.contains(seq))
        return fmt::format("newcomer {} overtakes {}", newcomer, seq);
      account.owed += rows_left(newcomer);
    }
  }
  for (auto& [seq, account] : accounts_) {
    if (!could_run(seq) || running.contains(seq)) continue;
    ++waited_;
    if (++account.waited > account.owed)
      return fmt::format("sequence {} starves: it has waited for {} steps", seq, account.waited);
  }
  return "";
}

}  // namespace trireme::test
