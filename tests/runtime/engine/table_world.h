// A worker's leader and follower without a model or a clock, and requests that come, run, yield and
// end: see table_life_test.cc.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/engine/view_builder.h"
#include "tests/runtime/engine/cell_memory.h"
#include "tests/runtime/engine/fairness_ledger.h"
#include "tests/runtime/schedule/random_work.h"

namespace trireme::test {

inline constexpr uint32_t kWorldTokensMax = 48;

struct WorldCounts {
  uint64_t views = 0, preemptions = 0, spills = 0, forks = 0, cancels = 0, failures = 0, hits = 0,
           evicted = 0, waited = 0, rows = 0, wronged = 0;
};

class EndsOnce final : public EventSink {
 public:
  explicit EndsOnce(uint32_t choices) : ends_(choices, 0) {}
  void on_events(std::span<const Event> events) override {
    for (const Event& e : events) {
      if (e.kind == Event::Kind::kToken) CHECK(ends_.at(e.choice) == 0) << "a token after the end";
      ends_.at(e.choice) += e.kind == Event::Kind::kFinished;
    }
  }
  bool all_ended_once() const {
    return std::all_of(ends_.begin(), ends_.end(), [](uint32_t n) { return n == 1; });
  }

 private:
  std::vector<uint32_t> ends_;
};

struct Tables {
  BlockCache cache;
  CellMemory memory;
  SequenceTable table;
  Tables(const CacheLayout& layout, std::span<const uint32_t> total, const BlockCacheOptions& o)
      : cache(layout, total, o), memory(layout, total), table(layout, cache, memory) {}
};

class TableWorld {
 public:
  // `unfair`: the planner is shown the latest first.
  TableWorld(uint64_t seed, WorldCounts& counts, bool unfair = false);

  void run();

 private:
  // ---- what there is ----

  uint32_t chunk_max() const { return std::min(budget_.tokens_max, budget_.prefill_chunk_max); }
  uint32_t last_id() const { return static_cast<uint32_t>(sinks_.size()); }

  StepBudget random_budget();
  std::vector<uint32_t> random_totals();
  const BlockCacheOptions& cache_options();
  Request random_request();

  // ---- the engine's loop ----

  void submit();
  void apply(SequenceOp op);
  void launch(bool& moved);
  void tell(const std::vector<StepPlan::Run>& runs);
  void compute(Tables& rank, const std::vector<StepPlan::Run>& runs);

  // The follower does what it was told, some time later.
  void follow(size_t messages);
  StepResult make_up_result(const std::vector<StepPlan::Run>& runs);
  void collect();

  // ---- what must hold ----

  void check_budget(const StepPlan& plan, const StepBudget& budget) const;

  // By positions alone: what each sequence holds; by ids: which blocks that makes, each once.
  void check_bytes(const Tables& rank) const;
  void check_rest();

  const bool unfair_;
  Random random_;
  WorldCounts& counts_;
  const CacheLayout layout_;
  const StepBudget budget_;
  const uint32_t aging_ms_;
  const std::vector<uint32_t> total_;
  BlockCacheOptions options_;
  Tables leader_, follower_;
  RequestBook book_;
  ViewBuilder views_;
  FairnessLedger ledger_;
  const uint32_t depth_, arrive_;  // steps in flight; a request comes in one of so many rounds
  std::vector<std::shared_ptr<EndsOnce>> sinks_;  // by request
  std::vector<std::vector<int32_t>> old_;         // prompts
  std::set<SeqId> busy_;
  std::deque<SeqId> in_flight_;  // of each step, with a 0 after its last
  std::deque<StepResult> flights_;
  std::vector<SequenceOp> ops_;
  std::deque<std::vector<std::byte>> messages_;
  uint64_t step_ = 1, now_ms_ = 0;
};

}  // namespace trireme::test
