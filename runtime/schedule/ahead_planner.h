// Plans the next step on a thread of its own while this one computes. The caller predicts what the
// view will be; where it comes out so, the plan is there already, else it is made on the spot. As
// plan_step is a function, the result is the same either way.
//
// The caller is one thread.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/schedule/planner.h"

namespace trireme {

class AheadPlanner {
 public:
  AheadPlanner() : thread_([this] { work(); }) {}
  ~AheadPlanner();
  AheadPlanner(const AheadPlanner&) = delete;
  AheadPlanner& operator=(const AheadPlanner&) = delete;

  // The view is expected to be `view`, which is copied with all its spans. Drops what was prepared
  // before. REQUIRES: *view.layout does not change, and lives until another view has been prepared,
  // its plan has been taken, drop() has returned, or this has ended.
  void prepare(const PlannerView& view, const StepBudget& budget);

  // plan_step(view, budget): prepared, where view and budget are the predicted ones to the last
  // field (the layout by its address), else planned now.
  StepPlan take(const PlannerView& view, const StepBudget& budget);

  // Forgets what was prepared; nothing of its view is read afterwards.
  void drop();

  uint64_t prepared() const { return prepared_; }
  uint64_t hits() const { return hits_; }

 private:
  // A view that owns what its spans point into.
  struct Job {
    std::vector<SeqView> sequences;
    std::vector<uint32_t> counts, total, available;
    PlannerView view;
    StepBudget budget;
    Job(const PlannerView& view, const StepBudget& budget);
    Job(const Job&) = delete;
    bool equals(const PlannerView& view, const StepBudget& budget) const;
  };
  enum class State : uint8_t { kIdle, kAsked, kDone };
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Job> job_;  // written by the caller only while the state is kIdle or kDone
  StepPlan plan_;
  State state_ = State::kIdle;
  bool ends_ = false;
  uint64_t prepared_ = 0, hits_ = 0;
  std::thread thread_;
};

}  // namespace trireme
