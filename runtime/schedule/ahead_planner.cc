#include "runtime/schedule/ahead_planner.h"

#include <algorithm>

namespace trireme {
namespace {

bool same(std::span<const uint32_t> a, std::span<const uint32_t> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

bool same(const SeqView& a, const SeqView& b) {
  return a.id == b.id && a.tokens == b.tokens && a.computed == b.computed &&
         a.resident == b.resident && a.prefill_tokens == b.prefill_tokens && a.busy == b.busy &&
         a.all_logits == b.all_logits && a.stop == b.stop && a.logits_from == b.logits_from &&
         same(a.shared, b.shared) && same(a.peak, b.peak);
}

}  // namespace

AheadPlanner::Job::Job(const PlannerView& from, const StepBudget& given)
    : sequences(from.sequences.begin(), from.sequences.end()),
      total(from.blocks_total.begin(), from.blocks_total.end()),
      available(from.blocks_available.begin(), from.blocks_available.end()),
      view{sequences, total, from.layout, available},
      budget(given) {
  size_t size = 0;
  for (const SeqView& s : sequences) size += s.shared.size() + s.peak.size();
  counts.reserve(size);
  const auto keep = [&](std::span<const uint32_t>& span) {
    const size_t first = counts.size();
    counts.insert(counts.end(), span.begin(), span.end());
    span = std::span<const uint32_t>(counts).subspan(first, span.size());
  };
  for (SeqView& s : sequences) {
    keep(s.shared);
    keep(s.peak);
  }
}

bool AheadPlanner::Job::equals(const PlannerView& other, const StepBudget& given) const {
  return budget == given && view.layout == other.layout && same(total, other.blocks_total) &&
         same(available, other.blocks_available) &&
         std::equal(sequences.begin(), sequences.end(), other.sequences.begin(),
                    other.sequences.end(),
                    [](const SeqView& a, const SeqView& b) { return same(a, b); });
}

AheadPlanner::~AheadPlanner() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void AheadPlanner::prepare(const PlannerView& view, const StepBudget& budget) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return state_ != State::kAsked; });
    job_.emplace(view, budget);
    state_ = State::kAsked;
    ++prepared_;
  }
  changed_.notify_all();
}

StepPlan AheadPlanner::take(const PlannerView& view, const StepBudget& budget) {
  {
    std::unique_lock lock(mutex_);
    if (state_ != State::kIdle && job_->equals(view, budget)) {
      changed_.wait(lock, [&] { return state_ == State::kDone; });
      state_ = State::kIdle;
      ++hits_;
      return std::move(plan_);
    }
    if (state_ == State::kDone) state_ = State::kIdle;
  }
  return plan_step(view, budget);
}

void AheadPlanner::drop() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return state_ != State::kAsked; });
  state_ = State::kIdle;
}

void AheadPlanner::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return ends_ || state_ == State::kAsked; });
    if (ends_) return;
    const Job& job = *job_;  // the caller leaves it alone until the plan is done
    lock.unlock();
    StepPlan plan = plan_step(job.view, job.budget);
    lock.lock();
    plan_ = std::move(plan);
    state_ = State::kDone;
    changed_.notify_all();
  }
}

}  // namespace trireme
