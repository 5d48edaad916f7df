// The leader of a worker: takes requests from front ends, plans steps, tells the other ranks, runs
// its own part, and hands tokens out as events.
//
//   drain inbox -> plan_step -> blocks -> tell followers -> compute -> [receive] result -> events
//
// With pipeline_depth > 1 as many steps are under way over disjoint sequences, so that every stage
// of the pipeline has work. One thread, that of run(), owns every sequence; EngineClient's
// functions may be called from any other.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "runtime/engine/engine_client.h"
#include "runtime/engine/engine_monitor.h"
#include "runtime/engine/request_book.h"
#include "runtime/engine/request_log.h"
#include "runtime/engine/step_runner.h"
#include "runtime/engine/view_builder.h"
#include "runtime/engine/watchdog.h"
#include "runtime/schedule/ahead_planner.h"
#include "runtime/schedule/preemption.h"

namespace trireme {

struct ServingOptions {
  StepBudget budget;        // runs_max is the engine's own matter
  uint32_t tokens_max = 0;  // of prompt and output together
  uint32_t requests_waiting_max = 1024;
  uint32_t pipeline_depth = 1;  // steps under way at a time, at most
  uint64_t swap_bytes = 0;      // host memory for preempted sequences, on each rank
  PreemptionPolicy preemption = PreemptionPolicy::kAuto;
  bool priorities = true;        // whether Request::priority counts
  uint32_t aging_ms = 10000;     // a request that has waited so long goes up by one priority
  uint32_t choices_max = 128;    // of a request
  uint32_t requests_logged = 0;  // that have ended, for EngineMonitor::timelines
  std::chrono::milliseconds step_timeout{300000};
  std::function<void()> step_missed;  // told, on another thread, that a step took longer
  std::vector<int32_t> eos_token_ids;
};

class Engine final : public EngineClient, public EngineMonitor {
 public:
  // `runner`, `world`, `compiler` outlive the engine. REQUIRES: this is rank 0 of `world`.
  Engine(StepRunner& runner, Communicator& world, const Groups& groups,
         ConstraintCompiler* compiler, ServingOptions options);
  ~Engine() override;

  // Serves until stop(): ok, when every request has its end and the followers have been told. Not
  // ok: the worker can no longer serve; requests that were left have failed.
  Status run();
  // From any thread: what is left fails, run() returns.
  void stop();

  const EngineInfo& info() const override { return info_; }
  Result<RequestId> submit(Request request, std::shared_ptr<EventSink> sink) override;
  void cancel(RequestId id) override;
  void finish_choice(RequestId id, uint32_t choice) override;
  void ping(std::function<void(const Status&)> answer) override;
  void drain(std::function<void()> done) override;
  void reset_prefix_cache() override;
  EngineStats stats() const override;
  std::vector<RequestTimeline> timelines(int64_t since_ns, size_t count) const override;
  void trace(int64_t since_ns, TraceAnswer done) override;

  // How often the plan that was made ahead fitted; for tests and benchmarks.
  const AheadPlanner& ahead_planner() const { return ahead_; }

 private:
  struct InFlight {
    uint64_t step = 0;
    std::vector<StepPlan::Run> runs;
    uint32_t rows = 0;
    std::optional<StepResult> result;  // there already: this rank samples
    std::chrono::steady_clock::time_point start;
  };

  Status serve();
  void take_commands(bool wait);
  void handle(SubmitCommand&& command);
  void handle(CancelCommand&& command) { book_.cancel(command.id); }
  void handle(FinishCommand&& command) { book_.finish_choice(command.id, command.choice); }
  void handle(PingCommand&& command) { pings_.push_back(std::move(command.answer)); }
  void handle(DrainCommand&& command) { drained_.push_back(std::move(command.done)); }
  void handle(ResetCacheCommand&&);
  void handle(TraceCommand&& command) { traces_.push_back(std::move(command)); }
  Status answer_pings();
  void answer_drained();
  Status answer_traces();

  void apply(SequenceOp op);
  StepBudget budget() const;
  // A step over what can run now; false where nothing can.
  Result<bool> launch();
  void preempt(const StepPlan& plan);
  void note_scheduled(std::span<const StepPlan::Run> runs);
  Status run_step(const std::vector<StepPlan::Run>& runs);
  void plan_ahead(std::span<const StepPlan::Run> runs);
  // Waits for the end of the oldest step under way.
  Status collect();
  Status receive_results(InFlight& flight);
  void log_prompt_chunks(const InFlight& flight);
  void trace_counters(uint32_t rows);
  void update_stats();
  Status check(const Request& request) const;
  void end(const Status& why);

  StepRunner& runner_;
  Communicator& world_;
  const Groups& groups_;
  ConstraintCompiler* const compiler_;
  const ServingOptions options_;
  EngineInfo info_;
  RequestLog log_;
  Inbox inbox_;
  RequestBook book_;
  ViewBuilder views_;
  AheadPlanner ahead_;
  Watchdog watchdog_;

  std::vector<SequenceOp> ops_;  // since the last message
  std::deque<InFlight> in_flight_;
  uint64_t step_ = 1;  // the number of the next
  std::vector<std::function<void(const Status&)>> pings_;
  std::vector<std::function<void()>> drained_;
  std::vector<TraceCommand> traces_;
  std::atomic<RequestId> next_request_ = 1;
  CostRates rates_;
  uint64_t preemptions_ = 0, step_rows_ = 0, steps_ = 0;
  double step_seconds_ = 0;
  std::vector<double> stage_busy_, stage_idle_;  // seconds, by stage
  double unreported_idle_seconds_ = 0;           // without work, since the last message

  bool stats_stale_ = true;  // something happened since stats_ was written
  mutable std::mutex stats_mutex_;
  EngineStats stats_;
};

}  // namespace trireme
